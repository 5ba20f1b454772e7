//! Why a device of OpenVINO's is not to be had, told from what the library and the system say.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use super::ffi::Core;
use super::settings::Target;
use crate::{Absent, Error};

/// Why the library lists no such device. `nodes` is the directory of accelerators' device files.
pub(super) fn why_not_listed(target: Target, nodes: &Path) -> Absent {
    match target {
        Target::Npu => why_no_npu(nodes),
        Target::Gpu => Absent::NoDriver {
            why: "OpenVINO lists no GPU; one of Intel's needs its OpenCL driver".to_owned(),
        },
        Target::Cpu => Absent::Broken {
            name: super::ffi::NAME.to_owned(),
            why: "it lists no CPU: its plugin is missing beside it".to_owned(),
        },
    }
}

fn why_no_npu(nodes: &Path) -> Absent {
    let found = fs::read_dir(nodes).into_iter().flatten().flatten();
    let mut nodes: Vec<_> = found.map(|entry| entry.path()).collect();
    nodes.sort();
    let Some(first) = nodes.into_iter().next() else {
        return Absent::NoDevice {
            maker: "Intel".to_owned(),
        };
    };
    match OpenOptions::new().read(true).write(true).open(&first) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Absent::NoPermission { node: first }
        }
        Err(error) => Absent::NoDriver {
            why: format!("{} does not open: {error}", first.display()),
        },
        Ok(_) => Absent::NoDriver {
            why:
                "there is an accelerator, and OpenVINO does not see it; Intel's user-space driver \
                  (libze_intel_npu, libze_loader) is missing, or the accelerator is another maker's"
                    .to_owned(),
        },
    }
}

/// What the library says when the compiler, the device or its driver is at fault, and not the model.
pub(crate) fn why_not_compiled(error: Error, core: &Core) -> Error {
    let Error::Library { message, .. } = &error else {
        return error;
    };
    let driver = || {
        let version = core.property("NPU", "NPU_DRIVER_VERSION");
        version.unwrap_or_else(|_| "of an unknown version".to_owned())
    };
    match reason(message) {
        Some(Reason::NoCompiler) => Absent::NoCompiler {
            why: message.clone(),
        }
        .into(),
        Some(Reason::NoDevice) => Absent::NoDevice {
            maker: "Intel".to_owned(),
        }
        .into(),
        Some(Reason::OldDriver) => Absent::TooOld {
            what: "the NPU's driver".to_owned(),
            have: driver(),
            want: format!("the one that {} is made for", core.library().name()),
        }
        .into(),
        None => error,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    NoCompiler,
    NoDevice,
    OldDriver,
}

/// Told from words that the NPU's plugin of OpenVINO 2026.4 uses. Other words are no reason: the error passes as it is.
fn reason(message: &str) -> Option<Reason> {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["npu_compiler_loader", "VCL compiler loading failed"]) {
        return Some(Reason::NoCompiler);
    }
    if says(&["Could not find an NPU device"]) {
        return Some(Reason::NoDevice);
    }
    says(&[
        "driver may be missing or too old",
        "Incompatibility between NPU plugin and driver",
        "update the driver",
        "not supported by the current driver",
        "Unsupported NPU driver",
    ])
    .then_some(Reason::OldDriver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_npu_has_a_reason() {
        let nodes = tempfile::tempdir().expect("a directory can be made");
        let none = why_not_listed(Target::Npu, nodes.path());
        assert!(matches!(none, Absent::NoDevice { .. }));
        let none = why_not_listed(Target::Npu, &nodes.path().join("missing"));
        assert!(matches!(none, Absent::NoDevice { .. }));
        fs::write(nodes.path().join("accel0"), "").expect("a file can be written");
        let blind = why_not_listed(Target::Npu, nodes.path());
        assert!(matches!(blind, Absent::NoDriver { .. }), "{blind}");
    }

    /// As OpenVINO 2026.4.1 says it.
    #[test]
    fn what_the_plugin_says_is_understood() {
        let check = |message: &str, want| assert_eq!(reason(message), want, "{message}");
        check(
            "VCL compiler loading failed Cannot load library libopenvino_intel_npu_compiler_loader.so",
            Some(Reason::NoCompiler),
        );
        check(
            "Could not find an NPU device. The driver compiler requires a valid device to be present in the system.",
            Some(Reason::NoDevice),
        );
        check(
            "Graph is unavailable or failed to initialize. The driver may be missing or too old to run inference for \
             this blob.",
            Some(Reason::OldDriver),
        );
        check("Check 'false' failed: unsupported operation", None);
    }
}
