//! ONNX models by Microsoft's ONNX Runtime: on the CPU, or on an NPU by its maker's provider.

mod runtime;

#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;

use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{
    DynValue, PrimitiveTensorElementType, Tensor as Owned, TensorElementType, TensorRef, ValueType,
};

pub use runtime::{Plugin, Provider, Runtime, Setup};

use crate::Error;
use crate::exec::{Data, Executor, Port, Tensor, invalid, taken};

/// An ONNX model that ONNX Runtime runs.
pub struct OnnxRuntime {
    runtime: Runtime,
    session: Session,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    device: &'static str,
    library: String,
}

impl OnnxRuntime {
    /// Loads a model's file, and the files of weights that it names.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Absent`] if the provider or its device is not to be had;
    /// [`Error::Library`] if the model is none, or one that the provider does not run as a whole.
    pub fn from_file(runtime: &Runtime, path: &Path, setup: &Setup) -> Result<Self, Error> {
        std::fs::File::open(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        let session = runtime.session(path, setup)?;
        let (device, library) = match &setup.provider {
            Provider::Cpu => ("cpu0", runtime.library().to_owned()),
            Provider::Plugin(plugin) => {
                let device = if plugin.simulator { "cpu0" } else { "npu0" };
                (
                    device,
                    format!("{} with {}", runtime.library(), plugin.name),
                )
            }
        };
        Ok(Self {
            inputs: ports(
                session
                    .inputs()
                    .iter()
                    .map(|port| (port.name(), port.dtype())),
            ),
            outputs: ports(
                session
                    .outputs()
                    .iter()
                    .map(|port| (port.name(), port.dtype())),
            ),
            runtime: runtime.clone(),
            session,
            device,
            library,
        })
    }
}

impl Executor for OnnxRuntime {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: Vec<(&str, Tensor)>) -> Result<Vec<Tensor>, Error> {
        self.run_with(&[], inputs)
    }

    fn run_with(
        &mut self,
        lent: &[(&str, &Tensor)],
        given: Vec<(&str, Tensor)>,
    ) -> Result<Vec<Tensor>, Error> {
        let failed = |error| self.runtime.failed("taking an input", &error);
        let inputs = taken(
            &self.inputs,
            lent,
            given,
            |name, tensor| Ok((name, lend(tensor).map_err(failed)?)),
            |name, tensor| Ok((name, give(tensor).map_err(failed)?)),
        )?;
        let ran = self.session.run(inputs);
        let values = ran.map_err(|error| self.runtime.failed("running", &error))?;
        tensors(&self.outputs, &values)
    }

    fn device(&self) -> &str {
        self.device
    }

    fn library(&self) -> &str {
        &self.library
    }
}

fn ports<'p>(ports: impl Iterator<Item = (&'p str, &'p ValueType)>) -> Vec<Port> {
    let port = |(name, kind): (&str, &ValueType)| {
        let axes = match kind {
            ValueType::Tensor { shape, .. } => &**shape,
            _ => &[],
        };
        Port {
            name: name.to_owned(),
            shape: axes
                .iter()
                .map(|&axis| usize::try_from(axis).ok())
                .collect(),
        }
    };
    ports.map(port).collect()
}

/// The tensor as ONNX Runtime takes it; its values stay where they are.
fn give(tensor: Tensor) -> ort::Result<SessionInputValue<'static>> {
    let shape = tensor.shape;
    Ok(match tensor.data {
        Data::F32(values) => Owned::from_array((shape, values))?.into(),
        Data::I64(values) => Owned::from_array((shape, values))?.into(),
        Data::I32(values) => Owned::from_array((shape, values))?.into(),
        Data::U8(values) => Owned::from_array((shape, values))?.into(),
        Data::Bool(values) => Owned::from_array((shape, values))?.into(),
    })
}

/// As [`give`], of a tensor that the caller keeps.
fn lend(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape = tensor.shape.as_slice();
    Ok(match &tensor.data {
        Data::F32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Data::I64(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Data::I32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Data::U8(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Data::Bool(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
    })
}

fn tensors(ports: &[Port], values: &SessionOutputs<'_>) -> Result<Vec<Tensor>, Error> {
    std::iter::zip(ports, values.values())
        .map(|(port, value)| tensor(&port.name, &value))
        .collect()
}

/// Of `double` and of eight bits, as [`Rten`](crate::exec::Rten) gives them: whoever reads an output need not ask by
/// what it was computed.
fn tensor(name: &str, value: &DynValue) -> Result<Tensor, Error> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(invalid(
            name,
            format!("it is {}, and not a tensor", value.dtype()),
        ));
    };
    let (shape, data) = match ty {
        TensorElementType::Float32 => {
            values(name, value, |values: &[f32]| Data::F32(values.to_vec()))
        }
        TensorElementType::Float64 => values(name, value, |values: &[f64]| {
            Data::F32(values.iter().map(|&value| value as f32).collect())
        }),
        TensorElementType::Int64 => {
            values(name, value, |values: &[i64]| Data::I64(values.to_vec()))
        }
        TensorElementType::Int32 => {
            values(name, value, |values: &[i32]| Data::I32(values.to_vec()))
        }
        TensorElementType::Int8 => values(name, value, |values: &[i8]| {
            Data::I32(values.iter().copied().map(i32::from).collect())
        }),
        TensorElementType::Uint8 => values(name, value, |values: &[u8]| Data::U8(values.to_vec())),
        TensorElementType::Bool => {
            values(name, value, |values: &[bool]| Data::Bool(values.to_vec()))
        }
        other => Err(invalid(
            name,
            format!("it is a tensor of {other}, which nothing here reads"),
        )),
    }?;
    Ok(Tensor { shape, data })
}

fn values<T: PrimitiveTensorElementType>(
    name: &str,
    value: &DynValue,
    data: impl FnOnce(&[T]) -> Data,
) -> Result<(Vec<usize>, Data), Error> {
    let (shape, values) = value
        .try_extract_tensor::<T>()
        .map_err(|error| invalid(name, error.message()))?;
    let shape = shape.iter().map(|&axis| usize::try_from(axis).unwrap_or(0));
    Ok((shape.collect(), data(values)))
}
