//! Any ONNX or IR file on a device of OpenVINO's.

use std::path::Path;
use std::sync::Arc;

use half::f16;

use super::{Data, Executor, Port, Tensor};
use crate::openvino::ffi::{
    self, CompiledModel, Core, Element, ElementType, InferRequest, Library, Output, Truth,
};
use crate::openvino::{Settings, Target, why_not_compiled, why_not_listed};
use crate::{Absent, CompileOptions, Error};

/// A model that OpenVINO has compiled.
#[derive(Debug)]
pub struct OpenVinoExecutor {
    request: InferRequest,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// What each input takes, in their order.
    elements: Vec<ElementType>,
    device: String,
    library: String,
}

impl OpenVinoExecutor {
    /// Opens a model on a device, by the library in a file. `shapes` are those of inputs whose lengths the model leaves
    /// open; the NPU needs all of them. `device` is what Troika calls it: `npu0`.
    ///
    /// # Errors
    /// [`Error::Absent`] if the library or the device is not to be had; or the file is damaged, not supported, or not
    /// for these shapes.
    pub fn open(
        library: &Path,
        target: Target,
        device: &str,
        model: &Path,
        shapes: &[(&str, Vec<usize>)],
    ) -> Result<Self, Error> {
        let core = Core::new(Library::load(library)?)?;
        if !core.devices()?.iter().any(|name| target.is_called(name)) {
            return Err(why_not_listed(target).into());
        }
        let mut read = core.read(model, None)?;
        if !shapes.is_empty() {
            read.reshape(shapes)?;
        }
        let open = read.inputs()?.into_iter().find(|port| !is_closed(port));
        if let (Target::Npu, Some(open)) = (target, open) {
            return Err(Error::Invalid {
                what: format!("input {}", open.name),
                reason: "an NPU needs its shape beforehand, and the model leaves it open".to_owned(),
            });
        }
        let properties = vec![("PERFORMANCE_HINT".to_owned(), "LATENCY".to_owned())];
        let compiled = read.compile(target.name(), &properties);
        let compiled = compiled.map_err(|error| why_not_compiled(error, &core))?;
        Self::new(Arc::new(compiled), device)
    }
}
