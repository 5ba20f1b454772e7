//! The question whose answer is known, before a device is offered.

use troika_device::Device;

/// Asks a device what it must know.
///
/// # Errors
/// What is wrong with its answer.
pub(super) fn probe(_device: &dyn Device) -> Result<(), String> {
    Ok(())
}
