//! Intel's way: OpenVINO's C library, a stateful graph and its NPU plugin.
//!
//! [`OpenVino`] is the back end. The graph that [`lower`](crate::lower) writes runs on OpenVINO's CPU and graphics as it
//! stands; for the NPU its plugin makes two static graphs of it. Nothing here falls back to another device unless
//! [`Settings`] say so.

mod absent;
mod backend;
mod conversation;
mod reading;
mod resident;
mod settings;

pub(crate) mod ffi;

use std::path::Path;
use std::sync::Arc;

pub(crate) use absent::why_not_compiled;
pub use backend::OpenVino;
use ffi::{Core, Library};
pub use settings::{Precision, Settings, Target};

use crate::Error;

/// Where Linux has the device files of accelerators.
const NODES: &str = "/dev/accel";

/// Starts the library in this file, and sees that it has these devices.
pub(crate) fn start(library: &Path, needs: &[Target]) -> Result<Arc<Core>, Error> {
    let core = Core::new(Library::load(library)?)?;
    let devices = core.devices()?;
    for target in needs {
        // A second one of a kind is `GPU.1`.
        let is_there = |device: &String| device.split('.').next() == Some(target.name());
        if !devices.iter().any(is_there) {
            return Err(absent::why_not_listed(*target, Path::new(NODES)).into());
        }
    }
    Ok(core)
}

/// The library that tests run with: in the folder `TROIKA_OPENVINO_DIR`, or where the package has it below. Says so where
/// there is none.
#[cfg(test)]
pub(crate) fn found_for_tests() -> Option<std::path::PathBuf> {
    let root = std::env::var_os("TROIKA_OPENVINO_DIR").map(std::path::PathBuf::from);
    let is_library = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("libopenvino_c.so"))
    };
    let found = root.and_then(|root| {
        let below = [".", "libs", "openvino/libs"].map(|below| root.join(below));
        let entries = below
            .iter()
            .filter_map(|folder| std::fs::read_dir(folder).ok());
        let mut files = entries.flatten().flatten().map(|entry| entry.path());
        files.find(is_library)
    });
    if found.is_none() {
        eprintln!("skipped: OpenVINO is not in TROIKA_OPENVINO_DIR");
    }
    found
}

#[cfg(test)]
mod tests;
