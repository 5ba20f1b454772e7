//! A graph with a state as OpenVINO's intermediate representation: tokens in, logits out, keys and values kept inside.
//!
//! Operations are arranged as OpenVINO's own exporter arranges them: its plugins recognise compressed weights, RMS norms,
//! rotations and attention with a state by these very patterns, and its NPU plugin makes a prefill and a decode graph of
//! a model in this form.

use std::collections::BTreeMap;

use super::xml::{Layer, Net, Port};
use crate::Error;
use crate::lower::LogitRows;
use crate::lower::graph::{Graph, Node, Op, Part};
use crate::lower::weights::{Coding, DataFile, Dialect, Extent, Stored};

/// How weights are written.
pub(in crate::lower) const DIALECT: Dialect = Dialect {
    offset: false,
    wide_scales: false,
    block_max: usize::MAX,
};

/// What a masked score is; the least that an f16 holds.
const MASKED: f32 = -65504.0;

/// The document of a model whose matrices lie in `data`, where its small constants go as well.
pub(in crate::lower) fn model(
    graph: &Graph<'_>,
    stored: &[Stored],
    data: &mut DataFile,
    rows: LogitRows,
) -> Result<String, Error> {
    let mut builder = Builder {
        graph,
        stored: stored
            .iter()
            .map(|matrix| (&*matrix.name, matrix))
            .collect(),
        data,
        net: Net::default(),
        weights: BTreeMap::new(),
        sinks: Vec::new(),
    };
    builder.decoder(rows)?;
    Ok(builder.net.finish(&graph.spec.architecture))
}

struct Builder<'b, 'm> {
    graph: &'b Graph<'m>,
    stored: BTreeMap<&'b str, &'b Stored>,
    data: &'b mut DataFile,
    net: Net,
    /// Matrices in floats, by their names: one that is used twice is there once.
    weights: BTreeMap<&'b str, Port>,
    /// What the state is to become.
    sinks: Vec<(String, Port)>,
}

/// What all layers share.
struct Shared {
    x: Port,
    cos: Port,
    sin: Port,
    mask: Port,
    beam: Port,
    /// Sequences: `[1]`.
    batch: Port,
}

impl<'b> Builder<'b, '_> {
    fn decoder(&mut self, rows: LogitRows) -> Result<(), Error> {
        let graph = self.graph;
        let shared = self.shared()?;
        let mut values: Vec<Port> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let inputs: Vec<Port> = node
                .inputs
                .iter()
                .map(|input| values[input.index()])
                .collect();
            let value = self.node(node, &inputs, &shared)?;
            values.push(value);
        }
        let mut hidden = values[graph.hidden.index()];
        if rows == LogitRows::Last {
            let [from, to, step, axis] = [-1, i64::MAX, 1, 1].map(|bound| self.ints(&[bound]));
            hidden = self.op("Slice", 8, "", &[hidden, from?, to?, step?, axis?]);
        }
        let head = graph.head.as_ref().unwrap_or(&graph.table);
        let logits = self.linear(hidden, &head.name, None)?;
        for (state, value) in std::mem::take(&mut self.sinks) {
            self.op("Assign", 6, &format!("variable_id=\"{state}\""), &[value]);
        }
        let result = Layer {
            kind: "Result",
            opset: 1,
            name: "logits",
            data: "",
            tensor: Some("logits"),
        };
        self.net.push(result, &[logits]);
        Ok(())
    }

    /// Inputs, and what is computed of them once.
    fn shared(&mut self) -> Result<Shared, Error> {
        let ids = self.parameter("input_ids", "i64", "?,?");
        let attention = self.parameter("attention_mask", "i64", "?,?");
        let positions = self.parameter("position_ids", "i64", "?,?");
        let beam = self.parameter("beam_idx", "i32", "?");
        let table = self.weight(&self.graph.table.name)?;
        let indices = self.convert(ids, "i32");
        let axis = self.int(0)?;
        let x = self.op("Gather", 8, "batch_dims=\"0\"", &[table, indices, axis]);
        let shape = self.op("ShapeOf", 3, "output_type=\"i64\"", &[ids]);
        let (batch, n) = (self.pick(shape, 0)?, self.pick(shape, 1)?);
        let [cos, sin] = self.rotation(positions)?;
        Ok(Shared {
            x,
            cos,
            sin,
            mask: self.mask(attention, n)?,
            beam,
            batch,
        })
    }

    /// Cosines and sines, `[b, 1, n, head_dim]`.
    fn rotation(&mut self, positions: Port) -> Result<[Port; 2], Error> {
        let rotation = &self.graph.rotation;
        let half = self.graph.spec.head_dim / 2;
        let positions = self.convert(positions, "f32");
        let positions = self.unsqueeze(positions, 2)?;
        let frequencies: Vec<f32> = rotation.frequencies().map(|f| f as f32).collect();
        let frequencies = self.floats(&[1, 1, half], &frequencies)?;
        let product = "transpose_a=\"false\" transpose_b=\"false\"";
        let angles = self.op("MatMul", 1, product, &[positions, frequencies]);
        let angles = self.op("Concat", 1, "axis=\"-1\"", &[angles, angles]);
        let magnitudes: Vec<f32> = rotation.magnitudes().map(|m| m as f32).collect();
        let mut tables = [angles; 2];
        for (table, kind) in tables.iter_mut().zip(["Cos", "Sin"]) {
            *table = self.op(kind, 1, "", &[angles]);
            if magnitudes.iter().any(|&magnitude| magnitude != 1.0) {
                let both = [&magnitudes[..], &magnitudes].concat();
                let both = self.floats(&[1, 1, 2 * half], &both)?;
                *table = self.binary("Multiply", *table, both);
            }
            *table = self.unsqueeze(*table, 1)?;
        }
        Ok(tables)
    }

    /// What is added to scores, `[b, 1, n, past + n]`: every token sees those up to itself that are not padding.
    fn mask(&mut self, attention: Port, n: Port) -> Result<Port, Error> {
        let shape = self.op("ShapeOf", 3, "output_type=\"i64\"", &[attention]);
        let all = self.pick(shape, 1)?;
        let past = self.binary("Subtract", all, n);
        let rows = self.range(n)?;
        let rows = self.binary("Add", rows, past);
        let rows = self.unsqueeze(rows, 1)?;
        let columns = self.range(all)?;
        let columns = self.unsqueeze(columns, 0)?;
        let mut causal = self.binary("LessEqual", columns, rows);
        for _ in 0..2 {
            causal = self.unsqueeze(causal, 0)?;
        }
        let mut present = self.convert(attention, "boolean");
        for _ in 0..2 {
            present = self.unsqueeze(present, 1)?;
        }
        let seen = self.binary("LogicalAnd", causal, present);
        let (open, masked) = (self.float(0.0)?, self.float(MASKED)?);
        Ok(self.op("Select", 1, NUMPY, &[seen, open, masked]))
    }

    fn node(&mut self, node: &Node<'_>, inputs: &[Port], shared: &Shared) -> Result<Port, Error>
    where
        Self: 'b,
    {
        match (&node.op, inputs) {
            (Op::Embed, []) => Ok(shared.x),
            (Op::RmsNorm { weight, eps }, &[x]) => self.rms_norm(x, weight, *eps),
            (Op::Linear { weight, bias }, &[x]) => self.linear(x, &weight.name, bias.as_deref()),
            (Op::Heads { count }, &[x]) => {
                let shape = [0, 0, *count as i64, self.graph.spec.head_dim as i64];
                let x = self.reshape(x, &shape)?;
                self.transpose(x, &[0, 2, 1, 3])
            }
            (Op::Rotate, &[x]) => self.rotate(x, shared),
            (Op::Remember { layer, part }, &[x]) => self.remember(x, *layer, *part, shared),
            (Op::Attend, &[q, k, v]) => self.attend(q, [k, v], shared),
            (Op::Add, &[a, b]) => Ok(self.binary("Add", a, b)),
            (Op::SwiGlu, &[gate, up]) => {
                let silu = self.op("Swish", 4, "", &[gate]);
                Ok(self.binary("Multiply", silu, up))
            }
            (op, inputs) => unreachable!("{op:?} of {} inputs. This is a bug.", inputs.len()),
        }
    }

    fn rms_norm(&mut self, x: Port, weight: &[f32], eps: f32) -> Result<Port, Error> {
        let two = self.float(2.0)?;
        let square = self.binary("Power", x, two);
        let axis = self.ints(&[-1])?;
        let mean = self.op("ReduceMean", 1, "keep_dims=\"true\"", &[square, axis]);
        let eps = self.float(eps)?;
        let mean = self.binary("Add", mean, eps);
        let root = self.op("Sqrt", 1, "", &[mean]);
        let one = self.float(1.0)?;
        let data = "auto_broadcast=\"numpy\" m_pythondiv=\"true\"";
        let inverse = self.op("Divide", 1, data, &[one, root]);
        let normed = self.binary("Multiply", x, inverse);
        let weight = self.floats(&[1, 1, weight.len()], weight)?;
        Ok(self.binary("Multiply", normed, weight))
    }

    fn linear(&mut self, x: Port, weight: &str, bias: Option<&[f32]>) -> Result<Port, Error> {
        let weight = self.weight(weight)?;
        let product = "transpose_a=\"false\" transpose_b=\"true\"";
        let product = self.op("MatMul", 1, product, &[x, weight]);
        match bias {
            None => Ok(product),
            Some(bias) => {
                let bias = self.floats(&[1, 1, bias.len()], bias)?;
                Ok(self.binary("Add", product, bias))
            }
        }
    }

    /// A matrix in floats, `[n_out, n_in]`.
    fn weight(&mut self, name: &str) -> Result<Port, Error> {
        let stored = self.stored[name];
        if let Some(&weight) = self.weights.get(name) {
            return Ok(weight);
        }
        let (n_out, n_in) = (stored.n_out, stored.n_in);
        let grouped = stored.block < n_in;
        let shape: &[usize] = match grouped {
            true => &[n_out, n_in / stored.block, stored.block],
            false => &[n_out, n_in],
        };
        let element = match stored.coding {
            Coding::Int4 { .. } => "i4",
            Coding::Int8 => "i8",
            Coding::F16 => "f16",
        };
        let name = format!("{name}.weight");
        let mut weight = self.constant(&name, element, shape, stored.codes);
        if let Some(scales) = stored.scales {
            let shape: &[usize] = match grouped {
                true => &[n_out, n_in / stored.block, 1],
                false => &[n_out, 1],
            };
            weight = self.convert(weight, "f16");
            let scales = self.constant(&format!("{name}.scale"), "f16", shape, scales);
            weight = self.binary("Multiply", weight, scales);
        }
        if grouped {
            let shape = self.ints(&[n_out as i64, n_in as i64])?;
            weight = self.op("Reshape", 1, "special_zero=\"false\"", &[weight, shape]);
        }
        let weight = self.convert(weight, "f32");
        self.weights.insert(&stored.name, weight);
        Ok(weight)
    }

    fn rotate(&mut self, x: Port, shared: &Shared) -> Result<Port, Error> {
        let head_dim = self.graph.spec.head_dim as i64;
        let mut half = |from: i64, to: i64| {
            let [from, to, step, axis] = [from, to, 1, 3].map(|bound| self.ints(&[bound]));
            Ok::<_, Error>(self.op("Slice", 8, "", &[x, from?, to?, step?, axis?]))
        };
        let (low, high) = (half(0, head_dim / 2)?, half(head_dim / 2, head_dim)?);
        let minus = self.float(-1.0)?;
        let high = self.binary("Multiply", high, minus);
        let crossed = self.op("Concat", 1, "axis=\"-1\"", &[high, low]);
        let straight = self.binary("Multiply", x, shared.cos);
        let crossed = self.binary("Multiply", crossed, shared.sin);
        Ok(self.binary("Add", straight, crossed))
    }

    /// The state's names are those by which OpenVINO tells keys from values.
    fn remember(
        &mut self,
        x: Port,
        layer: usize,
        part: Part,
        shared: &Shared,
    ) -> Result<Port, Error> {
        let kind = match part {
            Part::Key => "key",
            Part::Value => "value",
        };
        let state = format!("past_key_values.{layer}.{kind}present.{layer}.{kind}");
        let (n_head_kv, head_dim) = (self.graph.spec.n_head_kv, self.graph.spec.head_dim);
        // Nothing, at first.
        let heads = self.ints(&[n_head_kv as i64])?;
        let (none, width) = (self.ints(&[0])?, self.ints(&[head_dim as i64])?);
        let shape = [shared.batch, heads, none, width];
        let shape = self.op("Concat", 1, "axis=\"0\"", &shape);
        let zero = self.float(0.0)?;
        let empty = self.op("Broadcast", 3, "mode=\"numpy\"", &[zero, shape]);
        let data = format!(
            "variable_id=\"{state}\" variable_type=\"f32\" variable_shape=\"?,{n_head_kv},?,{head_dim}\""
        );
        let past = self.op("ReadValue", 6, &data, &[empty]);
        let axis = self.int(0)?;
        let past = self.op("Gather", 8, "batch_dims=\"0\"", &[past, shared.beam, axis]);
        let all = self.op("Concat", 1, "axis=\"2\"", &[past, x]);
        self.sinks.push((state, all));
        Ok(all)
    }

    fn attend(&mut self, q: Port, kv: [Port; 2], shared: &Shared) -> Result<Port, Error> {
        let (n_head, head_dim) = (self.graph.spec.n_head, self.graph.spec.head_dim);
        let [k, v] = kv.map(|x| self.repeat(x, shared));
        let scale = self.float((head_dim as f32).sqrt().recip())?;
        let inputs = [q, k?, v?, shared.mask, scale];
        let read = self.op("ScaledDotProductAttention", 13, "causal=\"false\"", &inputs);
        let read = self.transpose(read, &[0, 2, 1, 3])?;
        self.reshape(read, &[0, 0, (n_head * head_dim) as i64])
    }

    /// Keys or values for every head of the queries.
    fn repeat(&mut self, x: Port, shared: &Shared) -> Result<Port, Error> {
        let spec = &self.graph.spec;
        let (n_head, n_head_kv, head_dim) = (spec.n_head, spec.n_head_kv, spec.head_dim);
        if n_head == n_head_kv {
            return Ok(x);
        }
        let apart = self.unsqueeze(x, 2)?;
        let shape = self.op("ShapeOf", 3, "output_type=\"i64\"", &[x]);
        let len = self.pick(shape, 2)?;
        let heads = self.ints(&[n_head_kv as i64, (n_head / n_head_kv) as i64])?;
        let width = self.ints(&[head_dim as i64])?;
        let shape = [shared.batch, heads, len, width];
        let shape = self.op("Concat", 1, "axis=\"0\"", &shape);
        let repeated = self.op("Broadcast", 3, "mode=\"bidirectional\"", &[apart, shape]);
        self.reshape(repeated, &[0, n_head as i64, -1, head_dim as i64])
    }
}

const NUMPY: &str = "auto_broadcast=\"numpy\"";

/// Operations and constants.
impl Builder<'_, '_> {
    fn op(&mut self, kind: &str, opset: u32, data: &str, inputs: &[Port]) -> Port {
        let layer = Layer {
            kind,
            opset,
            name: "",
            data,
            tensor: None,
        };
        self.net.push(layer, inputs)
    }

    fn binary(&mut self, kind: &str, a: Port, b: Port) -> Port {
        self.op(kind, 1, NUMPY, &[a, b])
    }

    fn convert(&mut self, x: Port, to: &str) -> Port {
        self.op("Convert", 1, &format!("destination_type=\"{to}\""), &[x])
    }

    fn reshape(&mut self, x: Port, shape: &[i64]) -> Result<Port, Error> {
        let shape = self.ints(shape)?;
        Ok(self.op("Reshape", 1, "special_zero=\"true\"", &[x, shape]))
    }

    fn transpose(&mut self, x: Port, order: &[i64]) -> Result<Port, Error> {
        let order = self.ints(order)?;
        Ok(self.op("Transpose", 1, "", &[x, order]))
    }

    fn unsqueeze(&mut self, x: Port, axis: i64) -> Result<Port, Error> {
        let axis = self.ints(&[axis])?;
        Ok(self.op("Unsqueeze", 1, "", &[x, axis]))
    }

    /// One of several numbers: `[1]`.
    fn pick(&mut self, x: Port, index: i64) -> Result<Port, Error> {
        let (index, axis) = (self.ints(&[index])?, self.int(0)?);
        Ok(self.op("Gather", 8, "batch_dims=\"0\"", &[x, index, axis]))
    }

    /// From 0 up to `n`, a `[1]`.
    fn range(&mut self, n: Port) -> Result<Port, Error> {
        let axis = self.ints(&[0])?;
        let n = self.op("Squeeze", 1, "", &[n, axis]);
        let (from, step) = (self.int(0)?, self.int(1)?);
        Ok(self.op("Range", 4, "output_type=\"i64\"", &[from, n, step]))
    }

    fn parameter(&mut self, name: &str, element: &str, shape: &str) -> Port {
        let layer = Layer {
            kind: "Parameter",
            opset: 1,
            name,
            data: &format!("shape=\"{shape}\" element_type=\"{element}\""),
            tensor: Some(name),
        };
        self.net.push(layer, &[])
    }

    fn ints(&mut self, values: &[i64]) -> Result<Port, Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let extent = self.data.append(&bytes)?;
        Ok(self.constant("", "i64", &[values.len()], extent))
    }

    /// A number without axes.
    fn int(&mut self, value: i64) -> Result<Port, Error> {
        let extent = self.data.append(&value.to_le_bytes())?;
        Ok(self.constant("", "i64", &[], extent))
    }

    /// A number without axes.
    fn float(&mut self, value: f32) -> Result<Port, Error> {
        self.floats(&[], &[value])
    }

    fn floats(&mut self, shape: &[usize], values: &[f32]) -> Result<Port, Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let extent = self.data.append(&bytes)?;
        Ok(self.constant("", "f32", shape, extent))
    }

    fn constant(&mut self, name: &str, element: &str, shape: &[usize], extent: Extent) -> Port {
        let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let Extent { offset, len } = extent;
        let data = format!(
            "element_type=\"{element}\" shape=\"{}\" offset=\"{offset}\" size=\"{len}\"",
            shape.join(",")
        );
        let layer = Layer {
            kind: "Const",
            opset: 1,
            name,
            data: &data,
            tensor: None,
        };
        self.net.push(layer, &[])
    }
}
