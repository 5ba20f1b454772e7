//! A graph with static shapes as ONNX, opset 21, with `com.microsoft`'s `MatMulNBits`.
//!
//! What the host knows comes in as inputs: embedded tokens, tables of the rotation, the mask, keys and values of what came
//! before. What is new of those comes out. See [`StaticShape`](crate::lower::StaticShape) for names and shapes.

pub(in crate::lower) mod bert;

mod document;

use std::collections::BTreeMap;

use document::{Attribute, Axis, Document, Element, MICROSOFT};

use crate::lower::graph::{Graph, Node, Op, Part};
use crate::lower::weights::{Coding, Dialect, Extent, Stored};
use crate::lower::{Activations, StaticShape};

/// How weights are written for `MatMulNBits`. 128 is the largest block that all executors take.
pub(in crate::lower) const fn dialect(activations: Activations) -> Dialect {
    Dialect {
        offset: true,
        wide_scales: matches!(activations, Activations::F32),
        block_max: 128,
    }
}

/// The bytes of a model whose matrices lie in the file `data`.
pub(in crate::lower) fn model(
    graph: &Graph<'_>,
    shape: StaticShape,
    activations: Activations,
    stored: &[Stored],
    data: &str,
) -> Vec<u8> {
    let float = match activations {
        Activations::F32 => Element::F32,
        Activations::F16 => Element::F16,
    };
    let mut builder = Builder {
        graph,
        shape,
        stored: stored
            .iter()
            .map(|matrix| (&*matrix.name, matrix))
            .collect(),
        out: Document::new(float, data),
    };
    builder.decoder();
    builder.out.finish(&graph.spec.architecture)
}

struct Builder<'b, 'm> {
    graph: &'b Graph<'m>,
    shape: StaticShape,
    stored: BTreeMap<&'b str, &'b Stored>,
    out: Document<'b>,
}

/// What all layers share.
struct Shared {
    x: String,
    cos: String,
    sin: String,
    mask: String,
}

impl Builder<'_, '_> {
    fn decoder(&mut self) {
        let graph = self.graph;
        let (n, all) = (self.shape.new, self.shape.new + self.shape.past);
        let (n_embd, head_dim) = (graph.spec.n_embd, graph.spec.head_dim);
        let shared = Shared {
            x: self.out.input("x", &[1, n, n_embd]),
            cos: self.out.input("cos", &[1, 1, n, head_dim]),
            sin: self.out.input("sin", &[1, 1, n, head_dim]),
            mask: self.out.input("mask", &[1, 1, n, all]),
        };
        let mut values: Vec<String> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            self.out.scope.clone_from(&node.name);
            let inputs: Vec<String> = node
                .inputs
                .iter()
                .map(|input| values[input.index()].clone())
                .collect();
            let value = self.node(node, &inputs, &shared);
            values.push(value);
        }
        "ends".clone_into(&mut self.out.scope);
        let hidden = values[graph.hidden.index()].clone();
        self.out.output(&hidden, "hidden", &[1, n, n_embd]);
        let row = match n {
            1 => hidden,
            _ => {
                self.out.declare("row", Element::I64, &[Axis::Of(1)]);
                self.out
                    .op("Gather", &[&hidden, "row"], &[Attribute::Int("axis", 1)])
            }
        };
        let head = graph.head.as_ref().unwrap_or(&graph.table);
        let logits = self.linear(&row, &head.name, None);
        self.out
            .output(&logits, "logits", &[1, 1, graph.spec.n_vocab]);
    }

    /// Spells a node, and gives the name of its value.
    fn node(&mut self, node: &Node<'_>, inputs: &[String], shared: &Shared) -> String {
        match (&node.op, inputs) {
            (Op::Embed, []) => shared.x.clone(),
            (Op::RmsNorm { weight, eps }, [x]) => self.rms_norm(x, weight, *eps),
            (Op::Linear { weight, bias }, [x]) => self.linear(x, &weight.name, bias.as_deref()),
            (Op::Heads { count }, [x]) => {
                let (n, head_dim) = (self.shape.new, self.graph.spec.head_dim);
                let x = self.out.reshape(x, &[1, n, *count, head_dim]);
                self.out.transpose(&x, &[0, 2, 1, 3])
            }
            (Op::Rotate, [x]) => self.rotate(x, shared),
            (Op::Remember { layer, part }, [x]) => self.remember(x, *layer, *part),
            (Op::Attend, [q, k, v]) => self.attend([q, k, v], &shared.mask),
            (Op::Add, [a, b]) => self.out.op("Add", &[a, b], &[]),
            (Op::SwiGlu, [gate, up]) => {
                let sigmoid = self.out.op("Sigmoid", &[gate], &[]);
                let silu = self.out.op("Mul", &[gate, &sigmoid], &[]);
                self.out.op("Mul", &[&silu, up], &[])
            }
            (op, inputs) => unreachable!("{op:?} of {} inputs. This is a bug.", inputs.len()),
        }
    }

    /// Squares do not fit an f16: they are summed in f32 whatever the activations are.
    fn rms_norm(&mut self, x: &str, weight: &[f32], eps: f32) -> String {
        let wide = self.out.cast(x, self.out.float, Element::F32);
        let square = self.out.op("Mul", &[&wide, &wide], &[]);
        let axis = self.out.ints(&[-1]);
        let mean = self.out.op(
            "ReduceMean",
            &[&square, &axis],
            &[Attribute::Int("keepdims", 1)],
        );
        let eps = self.out.wide_floats(&[eps]);
        let mean = self.out.op("Add", &[&mean, &eps], &[]);
        let root = self.out.op("Sqrt", &[&mean], &[]);
        let normed = self.out.op("Div", &[&wide, &root], &[]);
        let normed = self.out.cast(&normed, Element::F32, self.out.float);
        let weight = self.out.floats(weight);
        self.out.op("Mul", &[&normed, &weight], &[])
    }

    fn linear(&mut self, x: &str, weight: &str, bias: Option<&[f32]>) -> String {
        let stored = self.stored[weight];
        let product = match (stored.coding, stored.scales) {
            (Coding::Int4 { .. }, Some(scales)) => self.product_int4(x, stored, scales),
            (Coding::Int8, Some(scales)) => self.product_int8(x, stored, scales),
            _ => {
                let shape = [stored.n_out, stored.n_in];
                let weight = self
                    .out
                    .external(&stored.name, Element::F16, &shape, stored.codes);
                let weight = self.out.cast(&weight, Element::F16, self.out.float);
                self.out.product(x, &weight)
            }
        };
        match bias {
            None => product,
            Some(bias) => {
                let bias = self.out.floats(bias);
                self.out.op("Add", &[&product, &bias], &[])
            }
        }
    }

    fn product_int4(&mut self, x: &str, stored: &Stored, scales: Extent) -> String {
        let (n_out, n_in, block) = (stored.n_out, stored.n_in, stored.block);
        let n_block = n_in / block;
        let name = |part: &str| format!("{}.{part}", stored.name);
        let shape = [n_out, n_block, block / 2];
        let codes = self
            .out
            .external(&name("codes"), Element::U8, &shape, stored.codes);
        let scales = self
            .out
            .external(&name("scales"), self.out.float, &[n_out * n_block], scales);
        let attributes = [
            Attribute::Int("K", n_in as i64),
            Attribute::Int("N", n_out as i64),
            Attribute::Int("bits", 4),
            Attribute::Int("block_size", block as i64),
            // Activations stay floats.
            Attribute::Int("accuracy_level", 1),
        ];
        self.out
            .emit(MICROSOFT, "MatMulNBits", &[x, &codes, &scales], &attributes)
    }

    fn product_int8(&mut self, x: &str, stored: &Stored, scales: Extent) -> String {
        let shape = [stored.n_out, stored.n_in];
        let name = |part: &str| format!("{}.{part}", stored.name);
        let codes = self
            .out
            .external(&name("codes"), Element::I8, &shape, stored.codes);
        let scales = self
            .out
            .external(&name("scales"), self.out.float, &shape[..1], scales);
        let axis = [Attribute::Int("axis", 0)];
        let weight = self.out.op("DequantizeLinear", &[&codes, &scales], &axis);
        self.out.product(x, &weight)
    }

    fn rotate(&mut self, x: &str, shared: &Shared) -> String {
        let head_dim = self.graph.spec.head_dim as i64;
        let mut half = |from: i64, to: i64| {
            let [from, to, axis] = [[from], [to], [3]].map(|bound| self.out.ints(&bound));
            self.out.op("Slice", &[x, &from, &to, &axis], &[])
        };
        let (low, high) = (half(0, head_dim / 2), half(head_dim / 2, head_dim));
        let high = self.out.op("Neg", &[&high], &[]);
        let crossed = self
            .out
            .op("Concat", &[&high, &low], &[Attribute::Int("axis", 3)]);
        let straight = self.out.op("Mul", &[x, &shared.cos], &[]);
        let crossed = self.out.op("Mul", &[&crossed, &shared.sin], &[]);
        self.out.op("Add", &[&straight, &crossed], &[])
    }

    fn remember(&mut self, x: &str, layer: usize, part: Part) -> String {
        let (new, past) = match part {
            Part::Key => (format!("new_k.{layer}"), format!("past_k.{layer}")),
            Part::Value => (format!("new_v.{layer}"), format!("past_v.{layer}")),
        };
        let (n_head_kv, head_dim) = (self.graph.spec.n_head_kv, self.graph.spec.head_dim);
        self.out
            .output(x, &new, &[1, n_head_kv, self.shape.new, head_dim]);
        if self.shape.past == 0 {
            return x.to_owned();
        }
        let past = self
            .out
            .input(&past, &[1, n_head_kv, self.shape.past, head_dim]);
        self.out
            .op("Concat", &[&past, x], &[Attribute::Int("axis", 2)])
    }

    /// Queries of heads that share keys are rows of one product, so that keys and values need not be repeated.
    fn attend(&mut self, [q, k, v]: [&str; 3], mask: &str) -> String {
        let spec = &self.graph.spec;
        let (n, all) = (self.shape.new, self.shape.new + self.shape.past);
        let (n_head, n_head_kv, head_dim) = (spec.n_head, spec.n_head_kv, spec.head_dim);
        let rows = n_head / n_head_kv * n;
        // Before the product: scores of large heads may not fit an f16.
        let scale = self.out.floats(&[(head_dim as f32).sqrt().recip()]);
        let q = self.out.op("Mul", &[q, &scale], &[]);
        let q = self.out.reshape(&q, &[1, n_head_kv, rows, head_dim]);
        let k = self.out.transpose(k, &[0, 1, 3, 2]);
        let scores = self.out.op("MatMul", &[&q, &k], &[]);
        let scores = self.out.reshape(&scores, &[1, n_head, n, all]);
        let scores = self.out.op("Add", &[&scores, mask], &[]);
        let shares = self
            .out
            .op("Softmax", &[&scores], &[Attribute::Int("axis", -1)]);
        let shares = self.out.reshape(&shares, &[1, n_head_kv, rows, all]);
        let read = self.out.op("MatMul", &[&shares, v], &[]);
        let read = self.out.reshape(&read, &[1, n_head, n, head_dim]);
        let read = self.out.transpose(&read, &[0, 2, 1, 3]);
        self.out.reshape(&read, &[1, n, n_head * head_dim])
    }
}
