//! Why an NPU, or what drives it, is not to be had; and what goes wrong with it when it is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why an NPU or a library is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Absent {
    /// The machine has no NPU of this maker.
    #[error("no device: this machine has no {maker} NPU")]
    NoDevice {
        /// `Intel`, `Qualcomm`, `AMD`.
        maker: String,
    },
    /// There is one, but this user may not use it.
    #[error("no permission on {node}")]
    NoPermission {
        /// `/dev/accel/accel0`.
        node: PathBuf,
    },
    /// There is one, but no driver serves it.
    #[error("no driver: {why}")]
    NoDriver {
        /// What is the matter.
        why: String,
    },
    /// The driver or the library is of a version that cannot do what is needed.
    #[error("{what} is too old: {have}, and {want} or later is needed")]
    TooOld {
        /// The driver or the library.
        what: String,
        /// Its version.
        have: String,
        /// The first that would do.
        want: String,
    },
    /// A library was not found.
    #[error("library not found: {name}")]
    NoLibrary {
        /// `OpenVINO`, `ONNX Runtime`, `ONNX Runtime's QNN provider`.
        name: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// The library is there, but what compiles for the chip is not.
    #[error("compiler not found: {why}")]
    NoCompiler {
        /// What its library says.
        why: String,
    },
    /// A library is there, and does not work.
    #[error("{name} does not work: {why}")]
    Broken {
        /// The library.
        name: String,
        /// What it says.
        why: String,
    },
}

impl Absent {
    /// What would help; empty where nothing does.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoDevice { .. } => String::new(),
            Self::NoPermission { .. } => {
                "join the group `render` (`sudo usermod -aG render $USER`), and log in again"
                    .to_owned()
            }
            Self::NoDriver { .. } => "install the maker's driver".to_owned(),
            Self::TooOld { what, .. } => format!("update {what}"),
            Self::NoLibrary { .. } => {
                "`troika npu setup` installs it into a folder of Troika's own".to_owned()
            }
            Self::NoCompiler { .. } => {
                "install the compiler package that belongs to the NPU's driver".to_owned()
            }
            Self::Broken { .. } => "`troika npu setup` installs it anew".to_owned(),
        }
    }
}

/// What went wrong between a model file and a step on an NPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such device or library.
    #[error("{0}")]
    Absent(#[from] Absent),
    /// The model cannot be lowered, or not for this device.
    #[error("{model} does not run on an NPU: {reason}")]
    Unsupported {
        /// The file.
        model: String,
        /// Which part of it, and why.
        reason: String,
    },
    /// A model, a tensor or a shape is not what was expected.
    #[error("{what}: {reason}")]
    Invalid {
        /// The file, or the tensor.
        what: String,
        /// Where and why.
        reason: String,
    },
    /// A maker's library refused or failed.
    #[error("{library} failed at {doing}: {message}")]
    Library {
        /// `OpenVINO 2026.4.1`.
        library: String,
        /// `compiling`, `running`.
        doing: String,
        /// What it says.
        message: String,
    },
    /// No device with no library runs a model.
    #[error("nothing here runs {model} as asked; {}", shown(.lost))]
    NoWay {
        /// The file.
        model: String,
        /// Device and library, and why it was not them.
        lost: Vec<(String, String)>,
    },
    /// The process that compiles ended without a result.
    #[error("the compiler's process {how}; its last words: {last}")]
    CompilerDied {
        /// `was killed by signal 9`, `exited with status 3`.
        how: String,
        /// The end of what it wrote to its error output, or `none`.
        last: String,
    },
    /// The weights lose more than the limit by being written as the NPU wants them.
    #[error(
        "as {format} the model loses too much: KL divergence {kl:.4} nats per token, and the limit is {limit}"
    )]
    Loss {
        /// The number format.
        format: String,
        /// Mean over the calibration text.
        kl: f64,
        /// What is still accepted.
        limit: f64,
    },
    /// What the cache holds is damaged; it was removed.
    #[error(
        "the compiled model in the cache is damaged ({reason}); it was removed, and is compiled anew"
    )]
    Corrupted {
        /// What does not hold.
        reason: String,
    },
    /// The caller ended it.
    #[error("it was cancelled")]
    Cancelled,
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The model file itself.
    #[error(transparent)]
    Device(#[from] troika_device::Error),
}

fn shown(lost: &[(String, String)]) -> String {
    match lost {
        [] => "that library has no way to that device".to_owned(),
        lost => {
            let lost = lost.iter().map(|(way, why)| format!("{way}: {why}"));
            lost.collect::<Vec<_>>().join("; ")
        }
    }
}
