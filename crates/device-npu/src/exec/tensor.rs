//! A tensor in memory: what goes into a model and comes out of it.

use crate::Error;
use crate::exec::invalid;

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

impl Data {
    /// How many numbers.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::U8(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As ONNX calls the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::F32(_) => "float",
            Self::I64(_) => "int64",
            Self::I32(_) => "int32",
            Self::U8(_) => "uint8",
            Self::Bool(_) => "bool",
        }
    }
}

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Lengths of its axes; none for a number.
    pub shape: Vec<usize>,
    /// As many numbers as the shape says.
    pub data: Data,
}

impl Tensor {
    /// A tensor of `float`.
    pub fn f32(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self {
            shape: shape.into(),
            data: Data::F32(values),
        }
    }

    /// A tensor of `int64`.
    pub fn i64(shape: impl Into<Vec<usize>>, values: Vec<i64>) -> Self {
        Self {
            shape: shape.into(),
            data: Data::I64(values),
        }
    }

    /// A tensor of `float` zeros: a state before the first run.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let values = vec![0.0; shape.iter().product()];
        Self::f32(shape, values)
    }

    /// Its `float` values, without a copy.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is of another type.
    pub fn into_f32(self) -> Result<Vec<f32>, Error> {
        match self.data {
            Data::F32(values) => Ok(values),
            other => Err(not("float", &other)),
        }
    }

    /// Its `float` values.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is of another type.
    pub fn as_f32(&self) -> Result<&[f32], Error> {
        match &self.data {
            Data::F32(values) => Ok(values),
            other => Err(not("float", other)),
        }
    }

    /// Its values as integers, of whatever width: libraries differ in whether they keep `int64` and `bool`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they are not integers.
    pub fn to_integers(&self) -> Result<Vec<i64>, Error> {
        match &self.data {
            Data::I64(values) => Ok(values.clone()),
            Data::I32(values) => Ok(values.iter().copied().map(i64::from).collect()),
            Data::U8(values) => Ok(values.iter().copied().map(i64::from).collect()),
            Data::Bool(values) => Ok(values.iter().copied().map(i64::from).collect()),
            other @ Data::F32(_) => Err(not("an integer", other)),
        }
    }
}

fn not(wanted: &str, data: &Data) -> Error {
    let reason = format!(
        "it is a tensor of {}, and not of {wanted}",
        data.type_name()
    );
    invalid("a model's output", reason)
}
