//! An ONNX document as it is put together: nodes, constants, inputs and outputs, whatever the network.
//!
//! Numbers of fields are those of onnx.proto3, <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>.

use half::f16;

use super::super::protobuf::Message;
use crate::lower::weights::Extent;

const OPSET: i64 = 21;
/// The version of the file format that opset 21 came with.
const IR_VERSION: i64 = 10;
/// The domain of ONNX Runtime's own operations.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// `TensorProto.DataType`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I64 = 7,
    F16 = 10,
}

pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Float(&'a str, f32),
}

/// An axis of an input or an output.
#[derive(Clone, Copy, Debug)]
pub(super) enum Axis {
    Of(usize),
    /// Of any length; axes of the same name have the same.
    Any(&'static str),
}

/// A document. Operations give the names of their values.
pub(super) struct Document<'d> {
    /// Of activations.
    pub(super) float: Element,
    /// Name of the file with the matrices.
    data: &'d str,
    /// The part of the network that is being spelt; what it takes is named after it.
    pub(super) scope: String,
    count: usize,
    uses_microsoft: bool,
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
}

impl<'d> Document<'d> {
    /// An empty one, with large tensors in the file `data` beside it.
    pub(super) fn new(float: Element, data: &'d str) -> Self {
        Self {
            float,
            data,
            scope: String::new(),
            count: 0,
            uses_microsoft: false,
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// `x · Wᵀ` of a `W` in floats.
    pub(super) fn product(&mut self, x: &str, weight: &str) -> String {
        let weight = self.transpose(weight, &[1, 0]);
        self.op("MatMul", &[x, &weight], &[])
    }

    pub(super) fn reshape(&mut self, x: &str, shape: &[usize]) -> String {
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let shape = self.ints(&shape);
        self.op("Reshape", &[x, &shape], &[])
    }

    pub(super) fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.op("Transpose", &[x], &[Attribute::Ints("perm", order)])
    }

    pub(super) fn cast(&mut self, x: &str, from: Element, to: Element) -> String {
        match from == to {
            true => x.to_owned(),
            false => self.op("Cast", &[x], &[Attribute::Int("to", to as i64)]),
        }
    }

    /// An input of the model, f32 there.
    pub(super) fn input(&mut self, name: &str, shape: &[usize]) -> String {
        self.declare(name, Element::F32, &fixed(shape));
        self.cast(name, Element::F32, self.float)
    }

    /// An output of the model, f32 there.
    pub(super) fn output(&mut self, value: &str, name: &str, shape: &[usize]) {
        let attributes = [Attribute::Int("to", Element::F32 as i64)];
        match self.float {
            Element::F16 => self.push("", "Cast", &[value], name, &attributes),
            _ => self.push("", "Identity", &[value], name, &[]),
        }
        self.give(name, Element::F32, &fixed(shape));
    }

    /// An input of the model, as it is.
    pub(super) fn declare(&mut self, name: &str, element: Element, shape: &[Axis]) {
        self.inputs.push(value_info(name, element, shape));
    }

    /// An output of the model: what has this name.
    pub(super) fn give(&mut self, name: &str, element: Element, shape: &[Axis]) {
        self.outputs.push(value_info(name, element, shape));
    }

    pub(super) fn op(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> String {
        self.emit("", op, inputs, attributes)
    }

    pub(super) fn emit(
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

    pub(super) fn push(
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
            domain => {
                self.uses_microsoft = true;
                node.text(7, domain)
            }
        });
    }

    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(Element::I64, &[values.len()], &bytes)
    }

    /// A number without axes.
    pub(super) fn number(&mut self, value: i64) -> String {
        self.constant(Element::I64, &[], &value.to_le_bytes())
    }

    /// Of the activations' type.
    pub(super) fn floats(&mut self, values: &[f32]) -> String {
        if self.float == Element::F32 {
            return self.wide_floats(values);
        }
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect();
        self.constant(Element::F16, &[values.len()], &bytes)
    }

    pub(super) fn wide_floats(&mut self, values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(Element::F32, &[values.len()], &bytes)
    }

    fn constant(&mut self, element: Element, shape: &[usize], bytes: &[u8]) -> String {
        let name = self.name("constant");
        let tensor = tensor(&name, element, shape).bytes(9, bytes);
        self.initializers.push(tensor);
        name
    }

    /// A tensor in the file beside the model. One that is asked for twice is the same.
    pub(super) fn external(
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

    /// The document's bytes. Opsets other than ONNX's own are declared if they are used.
    pub(super) fn finish(self, name: &str) -> Vec<u8> {
        let graph = Message::default()
            .messages(1, &self.nodes)
            .text(2, name)
            .messages(5, &self.initializers)
            .messages(11, &self.inputs)
            .messages(12, &self.outputs);
        let opset = |domain: &str, version: i64| Message::default().text(1, domain).int(2, version);
        let mut opsets = vec![opset("", OPSET)];
        if self.uses_microsoft {
            opsets.push(opset(MICROSOFT, 1));
        }
        Message::default()
            .int(1, IR_VERSION)
            .text(2, "troika")
            .message(7, &graph)
            .messages(8, &opsets)
            .into_bytes()
    }
}

impl Attribute<'_> {
    fn message(&self) -> Message {
        /// `AttributeProto.AttributeType`
        const INT: i64 = 2;
        const INTS: i64 = 7;
        const FLOAT: i64 = 1;
        match self {
            Self::Int(name, value) => Message::default().text(1, name).int(3, *value).int(20, INT),
            Self::Ints(name, values) => Message::default()
                .text(1, name)
                .ints(8, values.iter().copied())
                .int(20, INTS),
            Self::Float(name, value) => Message::default()
                .text(1, name)
                .float(2, *value)
                .int(20, FLOAT),
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
fn value_info(name: &str, element: Element, shape: &[Axis]) -> Message {
    let axes: Vec<Message> = shape
        .iter()
        .map(|axis| match axis {
            Axis::Of(n) => Message::default().int(1, *n as i64),
            Axis::Any(what) => Message::default().text(2, what),
        })
        .collect();
    let shape = Message::default().messages(1, &axes);
    let tensor = Message::default().int(1, element as i64).message(2, &shape);
    let kind = Message::default().message(1, &tensor);
    Message::default().text(1, name).message(2, &kind)
}

fn fixed(shape: &[usize]) -> Vec<Axis> {
    shape.iter().map(|&n| Axis::Of(n)).collect()
}
