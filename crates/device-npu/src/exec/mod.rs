//! Runs any ONNX model: named tensors in, named tensors out.

use crate::Error;

/// Numbers of a tensor, row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `float`.
    F32(Vec<f32>),
    /// `int64`.
    I64(Vec<i64>),
    /// `int32`.
    I32(Vec<i32>),
    /// `uint8`.
    U8(Vec<u8>),
    /// `bool`.
    Bool(Vec<bool>),
}

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Lengths of its axes; none for a number.
    pub shape: Vec<usize>,
    /// As many numbers as the shape says.
    pub data: Data,
}

/// What a model asks for or gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// Lengths of its axes; `None` where the model takes any.
    pub shape: Vec<Option<usize>>,
}

/// An ONNX model that is ready to run.
pub trait Executor: Send {
    /// What it asks for.
    fn inputs(&self) -> &[Port];

    /// What it gives.
    fn outputs(&self) -> &[Port];

    /// Runs it on all of its inputs, in any order. Returns all of its outputs, in their order.
    ///
    /// # Errors
    /// If an input is lacking, unknown or of another shape, or the library fails.
    fn run(&mut self, inputs: Vec<(&str, Tensor)>) -> Result<Vec<Tensor>, Error>;

    /// Which device runs it: `npu0`, `gpu0`, `cpu0`.
    fn device(&self) -> &str;

    /// By what: `rten 0.27`, `ONNX Runtime 1.31.1`, `OpenVINO 2026.4.1`.
    fn library(&self) -> &str;
}
