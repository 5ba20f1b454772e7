//! What verbs and the server share of GPUs: which there are, and which layers of a model go where.

mod device;
mod layers;
mod reached;

use std::sync::Arc;

use troika_base::{DeviceKind, MemoryPool};
use troika_device_gpu::Offered;
use troika_machine::{Found, Machine};

use crate::exit::WrongUse;

pub(crate) use device::GpuDevice;
pub(crate) use layers::Layers;
pub(crate) use reached::{Gpus, Reached};

/// The GPUs that models can be loaded on. Asks the drivers, as [`Gpus::find`].
///
/// # Errors
/// [`WrongUse`] if the variable about GPUs has a word that means nothing.
pub(crate) fn offered(machine: &mut Machine) -> Result<Vec<Arc<Offered>>, WrongUse> {
    let reached = Gpus::find(machine)?.reached.into_iter();
    Ok(reached.map(|gpu| Arc::new(gpu.offered())).collect())
}

/// Whether this machine has a card that its driver has ready: then it is worth to ask the drivers.
pub(crate) fn has_card(machine: &Machine) -> bool {
    let mut processors = machine.processors.iter();
    processors.any(|processor| {
        processor.profile.kind == DeviceKind::Gpu
            && processor.profile.memory_pool == MemoryPool::Own
            && processor.found == Found::Ready
    })
}
