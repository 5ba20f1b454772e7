//! What a GPU's driver tells of its memory.

#[cfg(any(target_os = "linux", target_os = "windows"))]
mod vulkan;

use troika_base::Bytes;

use crate::Found;

/// The memory that a GPU computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All there is.
    pub total: Bytes,
    /// What this program may still take without others being pushed out; `None` where the driver does not tell.
    pub free: Option<Bytes>,
}

impl Found {
    /// Its memory as things are now; `None` where the interface does not tell.
    pub fn memory(&self) -> Option<Memory> {
        of(&self.adapter)
    }
}

#[cfg(any(target_os = "linux", target_os = "windows"))]
use vulkan::of;

/// Metal tells a limit for its working set, and no driver is at hand that says whether it holds: the machine's memory
/// is asked instead, which is the same.
#[cfg(not(any(target_os = "linux", target_os = "windows")))]
fn of(_: &wgpu::Adapter) -> Option<Memory> {
    None
}
