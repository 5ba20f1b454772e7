//! Any device of operations, as a device that loads models.

use std::ops::ControlFlow;

use troika_base::Bytes;
use troika_device::{Cancelled, Device, Error, LoadOptions, LoadProgress, Ops, Resident};
use troika_gguf::ModelFile;

use crate::resident;

/// A device whose models are computed operation by operation: each load has `open` make the [`Ops`] that the model
/// runs on, and say how much memory is free for it if the device tells.
#[derive(Debug)]
pub struct OpsDevice<F> {
    name: String,
    description: String,
    open: F,
}

impl<O, F> OpsDevice<F>
where
    O: Ops + Send + 'static,
    F: Fn(&ModelFile, LoadOptions) -> Result<(O, Option<Bytes>), Error> + Send + Sync,
{
    /// A device of this name and description.
    pub fn new(name: String, description: String, open: F) -> Self {
        Self {
            name,
            description,
            open,
        }
    }
}

impl<O, F> Device for OpsDevice<F>
where
    O: Ops + Send + 'static,
    F: Fn(&ModelFile, LoadOptions) -> Result<(O, Option<Bytes>), Error> + Send + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        let (ops, free) = (self.open)(file, options)?;
        resident::load(ops, file, options, free, progress)
    }
}

/// Loads a model through operations that were made for it: for a device that chooses them by the model. The caller has
/// seen to it that there is room.
///
/// # Errors
/// As [`Device::load`].
pub fn load_on<O: Ops + Send + 'static>(
    ops: O,
    file: &ModelFile,
    options: LoadOptions,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
) -> Result<Box<dyn Resident>, Error> {
    resident::load(ops, file, options, None, progress)
}
