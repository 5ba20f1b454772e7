//! A graph with static shapes as ONNX, opset 21, with `com.microsoft`'s `MatMulNBits`.
//!
//! What the host knows comes in as inputs: embedded tokens, tables of the rotation, the mask, keys and values of what came
//! before. What is new of those comes out. See [`StaticShape`](crate::lower::StaticShape) for names and shapes.
//!
//! Numbers of fields are those of onnx.proto3, <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>.

use std::collections::BTreeMap;

use half::f16;

use super::protobuf::Message;
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

const OPSET: i64 = 21;
/// The version of the file format that opset 21 came with.
const IR_VERSION: i64 = 10;
const MICROSOFT: &str = "com.microsoft";

/// `TensorProto.DataType`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I64 = 7,
    F16 = 10,
}

enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
}

/// The bytes of a model whose matrices lie in the file `data`.
pub(in crate::lower) fn model(
    graph: &Graph<'_>,
    shape: StaticShape,
    activations: Activations,
    stored: &[Stored],
    data: &str,
) -> Vec<u8> {
    let mut builder = Builder {
        graph,
        shape,
        float: match activations {
            Activations::F32 => Element::F32,
            Activations::F16 => Element::F16,
        },
        stored: stored
            .iter()
            .map(|matrix| (&*matrix.name, matrix))
            .collect(),
        data,
        scope: String::new(),
        count: 0,
        nodes: Vec::new(),
        initializers: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    builder.decoder();
    builder.finish()
}

struct Builder<'b, 'm> {
    graph: &'b Graph<'m>,
    shape: StaticShape,
    /// Of activations.
    float: Element,
    stored: BTreeMap<&'b str, &'b Stored>,
    /// Name of the file with the matrices.
    data: &'b str,
    /// The graph's node that is being spelt; what it takes is named after it.
    scope: String,
    count: usize,
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
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
            x: self.input("x", &[1, n, n_embd]),
            cos: self.input("cos", &[1, 1, n, head_dim]),
            sin: self.input("sin", &[1, 1, n, head_dim]),
            mask: self.input("mask", &[1, 1, n, all]),
        };
        let mut values: Vec<String> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            self.scope.clone_from(&node.name);
            let inputs: Vec<String> = node
                .inputs
                .iter()
                .map(|input| values[input.index()].clone())
                .collect();
            let value = self.node(node, &inputs, &shared);
            values.push(value);
        }
        "ends".clone_into(&mut self.scope);
        let hidden = values[graph.hidden.index()].clone();
        self.output(&hidden, "hidden", &[1, n, n_embd]);
        let row = match n {
            1 => hidden,
            _ => {
                self.inputs.push(value_info("row", Element::I64, &[1]));
                self.op("Gather", &[&hidden, "row"], &[Attribute::Int("axis", 1)])
            }
        };
        let head = graph.head.as_ref().unwrap_or(&graph.table);
        let logits = self.linear(&row, &head.name, None);
        self.output(&logits, "logits", &[1, 1, graph.spec.n_vocab]);
    }

    /// Spells a node, and gives the name of its value.
    fn node(&mut self, node: &Node<'_>, inputs: &[String], shared: &Shared) -> String {
        match (&node.op, inputs) {
            (Op::Embed, []) => shared.x.clone(),
            (Op::RmsNorm { weight, eps }, [x]) => self.rms_norm(x, weight, *eps),
            (Op::Linear { weight, bias }, [x]) => self.linear(x, &weight.name, bias.as_deref()),
            (Op::Heads { count }, [x]) => {
                let (n, head_dim) = (self.shape.new, self.graph.spec.head_dim);
                let x = self.reshape(x, &[1, n, *count, head_dim]);
                self.transpose(&x, &[0, 2, 1, 3])
            }
            (Op::Rotate, [x]) => self.rotate(x, shared),
            (Op::Remember { layer, part }, [x]) => self.remember(x, *layer, *part),
            (Op::Attend, [q, k, v]) => self.attend([q, k, v], &shared.mask),
            (Op::Add, [a, b]) => self.op("Add", &[a, b], &[]),
            (Op::SwiGlu, [gate, up]) => {
                let sigmoid = self.op("Sigmoid", &[gate], &[]);
                let silu = self.op("Mul", &[gate, &sigmoid], &[]);
                self.op("Mul", &[&silu, up], &[])
            }
            (op, inputs) => unreachable!("{op:?} of {} inputs. This is a bug.", inputs.len()),
        }
    }

    /// Squares do not fit an f16: they are summed in f32 whatever the activations are.
    fn rms_norm(&mut self, x: &str, weight: &[f32], eps: f32) -> String {
        let wide = self.cast(x, self.float, Element::F32);
        let square = self.op("Mul", &[&wide, &wide], &[]);
        let axis = self.ints(&[-1]);
        let mean = self.op(
            "ReduceMean",
            &[&square, &axis],
            &[Attribute::Int("keepdims", 1)],
        );
        let eps = self.wide_floats(&[eps]);
        let mean = self.op("Add", &[&mean, &eps], &[]);
        let root = self.op("Sqrt", &[&mean], &[]);
        let normed = self.op("Div", &[&wide, &root], &[]);
        let normed = self.cast(&normed, Element::F32, self.float);
        let weight = self.floats(weight);
        self.op("Mul", &[&normed, &weight], &[])
    }

    fn linear(&mut self, x: &str, weight: &str, bias: Option<&[f32]>) -> String {
        let stored = self.stored[weight];
        let product = match (stored.coding, stored.scales) {
            (Coding::Int4 { .. }, Some(scales)) => self.product_int4(x, stored, scales),
            (Coding::Int8, Some(scales)) => self.product_int8(x, stored, scales),
            _ => {
                let shape = [stored.n_out, stored.n_in];
                let weight = self.external(&stored.name, Element::F16, &shape, stored.codes);
                let weight = self.cast(&weight, Element::F16, self.float);
                self.product(x, &weight)
            }
        };
        match bias {
            None => product,
            Some(bias) => {
                let bias = self.floats(bias);
                self.op("Add", &[&product, &bias], &[])
            }
        }
    }

    fn product_int4(&mut self, x: &str, stored: &Stored, scales: Extent) -> String {
        let (n_out, n_in, block) = (stored.n_out, stored.n_in, stored.block);
        let n_block = n_in / block;
        let name = |part: &str| format!("{}.{part}", stored.name);
        let shape = [n_out, n_block, block / 2];
        let codes = self.external(&name("codes"), Element::U8, &shape, stored.codes);
        let scales = self.external(&name("scales"), self.float, &[n_out * n_block], scales);
        let attributes = [
            Attribute::Int("K", n_in as i64),
            Attribute::Int("N", n_out as i64),
            Attribute::Int("bits", 4),
            Attribute::Int("block_size", block as i64),
            // Activations stay floats.
            Attribute::Int("accuracy_level", 1),
        ];
        self.emit(MICROSOFT, "MatMulNBits", &[x, &codes, &scales], &attributes)
    }

    fn product_int8(&mut self, x: &str, stored: &Stored, scales: Extent) -> String {
        let shape = [stored.n_out, stored.n_in];
        let name = |part: &str| format!("{}.{part}", stored.name);
        let codes = self.external(&name("codes"), Element::I8, &shape, stored.codes);
        let scales = self.external(&name("scales"), self.float, &shape[..1], scales);
        let axis = [Attribute::Int("axis", 0)];
        let weight = self.op("DequantizeLinear", &[&codes, &scales], &axis);
        self.product(x, &weight)
    }

    /// `x · Wᵀ` of a `W` in floats.
    fn product(&mut self, x: &str, weight: &str) -> String {
        let weight = self.transpose(weight, &[1, 0]);
        self.op("MatMul", &[x, &weight], &[])
    }

    fn rotate(&mut self, x: &str, shared: &Shared) -> String {
        let head_dim = self.graph.spec.head_dim as i64;
        let mut half = |from: i64, to: i64| {
            let [from, to, axis] = [[from], [to], [3]].map(|bound| self.ints(&bound));
            self.op("Slice", &[x, &from, &to, &axis], &[])
        };
        let (low, high) = (half(0, head_dim / 2), half(head_dim / 2, head_dim));
        let high = self.op("Neg", &[&high], &[]);
        let crossed = self.op("Concat", &[&high, &low], &[Attribute::Int("axis", 3)]);
        let straight = self.op("Mul", &[x, &shared.cos], &[]);
        let crossed = self.op("Mul", &[&crossed, &shared.sin], &[]);
        self.op("Add", &[&straight, &crossed], &[])
    }

    fn remember(&mut self, x: &str, layer: usize, part: Part) -> String {
        let (new, past) = match part {
            Part::Key => (format!("new_k.{layer}"), format!("past_k.{layer}")),
            Part::Value => (format!("new_v.{layer}"), format!("past_v.{layer}")),
        };
        let (n_head_kv, head_dim) = (self.graph.spec.n_head_kv, self.graph.spec.head_dim);
        self.output(x, &new, &[1, n_head_kv, self.shape.new, head_dim]);
        if self.shape.past == 0 {
            return x.to_owned();
        }
        let past = self.input(&past, &[1, n_head_kv, self.shape.past, head_dim]);
        self.op("Concat", &[&past, x], &[Attribute::Int("axis", 2)])
    }

    /// Queries of heads that share keys are rows of one product, so that keys and values need not be repeated.
    fn attend(&mut self, [q, k, v]: [&str; 3], mask: &str) -> String {
        let spec = &self.graph.spec;
        let (n, all) = (self.shape.new, self.shape.new + self.shape.past);
        let (n_head, n_head_kv, head_dim) = (spec.n_head, spec.n_head_kv, spec.head_dim);
        let rows = n_head / n_head_kv * n;
        // Before the product: scores of large heads may not fit an f16.
        let scale = self.floats(&[(head_dim as f32).sqrt().recip()]);
        let q = self.op("Mul", &[q, &scale], &[]);
        let q = self.reshape(&q, &[1, n_head_kv, rows, head_dim]);
        let k = self.transpose(k, &[0, 1, 3, 2]);
        let scores = self.op("MatMul", &[&q, &k], &[]);
        let scores = self.reshape(&scores, &[1, n_head, n, all]);
        let scores = self.op("Add", &[&scores, mask], &[]);
        let shares = self.op("Softmax", &[&scores], &[Attribute::Int("axis", -1)]);
        let shares = self.reshape(&shares, &[1, n_head_kv, rows, all]);
        let read = self.op("MatMul", &[&shares, v], &[]);
        let read = self.reshape(&read, &[1, n_head, n, head_dim]);
        let read = self.transpose(&read, &[0, 2, 1, 3]);
        self.reshape(&read, &[1, n, n_head * head_dim])
    }

    fn reshape(&mut self, x: &str, shape: &[usize]) -> String {
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let shape = self.ints(&shape);
        self.op("Reshape", &[x, &shape], &[])
    }

    fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.op("Transpose", &[x], &[Attribute::Ints("perm", order)])
    }

    fn cast(&mut self, x: &str, from: Element, to: Element) -> String {
        match from == to {
            true => x.to_owned(),
            false => self.op("Cast", &[x], &[Attribute::Int("to", to as i64)]),
        }
    }

    /// An input of the model, f32 there.
    fn input(&mut self, name: &str, shape: &[usize]) -> String {
        self.inputs.push(value_info(name, Element::F32, shape));
        self.cast(name, Element::F32, self.float)
    }

    /// An output of the model, f32 there.
    fn output(&mut self, value: &str, name: &str, shape: &[usize]) {
        let attributes = [Attribute::Int("to", Element::F32 as i64)];
        match self.float {
            Element::F16 => self.push("", "Cast", &[value], name, &attributes),
            _ => self.push("", "Identity", &[value], name, &[]),
        }
        self.outputs.push(value_info(name, Element::F32, shape));
    }

    fn op(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> String {
        self.emit("", op, inputs, attributes)
    }

    fn emit(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        attributes: &[Attribute<'_>],
    ) -> String {
        let output = self.name(op);
        self.push(domain, op, inputs, &output, attributes);
        output
    }

    /// A name that nothing else has.
    fn name(&mut self, of: &str) -> String {
        self.count += 1;
        format!("{}/{of}.{}", self.scope, self.count)
    }

    fn push(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[Attribute<'_>],
    ) {
        let attributes: Vec<Message> = attributes.iter().map(Attribute::message).collect();
        let node = Message::default()
            .texts(1, inputs.iter().copied())
            .text(2, output)
            .text(3, output)
            .text(4, op)
            .messages(5, &attributes);
        self.nodes.push(match domain {
            "" => node,
            domain => node.text(7, domain),
        });
    }

    fn ints(&mut self, values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(Element::I64, values.len(), &bytes)
    }

    /// Of the activations' type.
    fn floats(&mut self, values: &[f32]) -> String {
        if self.float == Element::F32 {
            return self.wide_floats(values);
        }
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect();
        self.constant(Element::F16, values.len(), &bytes)
    }

    fn wide_floats(&mut self, values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(Element::F32, values.len(), &bytes)
    }

    fn constant(&mut self, element: Element, len: usize, bytes: &[u8]) -> String {
        let name = self.name("constant");
        let tensor = tensor(&name, element, &[len]).bytes(9, bytes);
        self.initializers.push(tensor);
        name
    }

    /// A tensor in the file beside the model. One that is asked for twice is the same.
    fn external(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        extent: Extent,
    ) -> String {
        let entry = |key: &str, value: &str| Message::default().text(1, key).text(2, value);
        let entries = [
            entry("location", self.data),
            entry("offset", &extent.offset.to_string()),
            entry("length", &extent.len.to_string()),
        ];
        /// `TensorProto.DataLocation`
        const EXTERNAL: i64 = 1;
        let tensor = tensor(name, element, shape)
            .messages(13, &entries)
            .int(14, EXTERNAL);
        self.initializers.push(tensor);
        name.to_owned()
    }

    fn finish(self) -> Vec<u8> {
        let graph = Message::default()
            .messages(1, &self.nodes)
            .text(2, &self.graph.spec.architecture)
            .messages(5, &self.initializers)
            .messages(11, &self.inputs)
            .messages(12, &self.outputs);
        let opset = |domain: &str, version: i64| Message::default().text(1, domain).int(2, version);
        Message::default()
            .int(1, IR_VERSION)
            .text(2, "troika")
            .message(7, &graph)
            .messages(8, &[opset("", OPSET), opset(MICROSOFT, 1)])
            .into_bytes()
    }
}

impl Attribute<'_> {
    fn message(&self) -> Message {
        /// `AttributeProto.AttributeType`
        const INT: i64 = 2;
        const INTS: i64 = 7;
        match self {
            Self::Int(name, value) => Message::default().text(1, name).int(3, *value).int(20, INT),
            Self::Ints(name, values) => Message::default()
                .text(1, name)
                .ints(8, values.iter().copied())
                .int(20, INTS),
        }
    }
}

/// A `TensorProto` without its values.
fn tensor(name: &str, element: Element, shape: &[usize]) -> Message {
    Message::default()
        .ints(1, shape.iter().map(|&n| n as i64))
        .int(2, element as i64)
        .text(8, name)
}

/// A `ValueInfoProto`: a name, a type and a shape.
fn value_info(name: &str, element: Element, shape: &[usize]) -> Message {
    let axes: Vec<Message> = shape
        .iter()
        .map(|&n| Message::default().int(1, n as i64))
        .collect();
    let shape = Message::default().messages(1, &axes);
    let tensor = Message::default().int(1, element as i64).message(2, &shape);
    let kind = Message::default().message(1, &tensor);
    Message::default().text(1, name).message(2, &kind)
}
