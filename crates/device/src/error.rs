//! What can go wrong between a model file and a step.

use troika_base::{Bytes, DType};

/// Why a model did not load or a step did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is damaged or could not be read.
    #[error(transparent)]
    File(#[from] troika_gguf::Error),
    /// A tensor that the architecture needs is not in the file.
    #[error(
        "{model}: tensor `{tensor}` is missing; the file is incomplete or not of architecture `{architecture}`"
    )]
    MissingTensor {
        /// The file.
        model: String,
        /// The tensor.
        tensor: String,
        /// The architecture that needs it.
        architecture: String,
    },
    /// A tensor's shape is not what the hyperparameters say.
    #[error(
        "{model}: tensor `{tensor}` has shape {have:?}, and the model's hyperparameters ask for {want:?}"
    )]
    TensorShape {
        /// The file.
        model: String,
        /// The tensor.
        tensor: String,
        /// Shape in GGUF's order: row length first.
        want: Vec<usize>,
        /// As in the file.
        have: Vec<u64>,
    },
    /// The file has a tensor that the architecture does not know.
    #[error(
        "{model}: tensor `{tensor}` is not part of architecture `{architecture}` as it is computed here; the model would write nonsense without it"
    )]
    UnusedTensor {
        /// The file.
        model: String,
        /// The tensor.
        tensor: String,
        /// The architecture that does not use it.
        architecture: String,
    },
    /// A number format that is known, but not computed.
    #[error(
        "{model}: tensor `{tensor}` is in format {dtype}, which is not computed there; formats that are: {computed}"
    )]
    UnsupportedFormat {
        /// The file.
        model: String,
        /// The tensor.
        tensor: String,
        /// Its format.
        dtype: DType,
        /// Those that would do.
        computed: String,
    },
    /// An architecture that nobody has written yet.
    #[error("{model}: architecture `{architecture}` is not supported; supported: {known}")]
    UnsupportedArchitecture {
        /// The file.
        model: String,
        /// What it asks for.
        architecture: String,
        /// What there is.
        known: String,
    },
    /// A sound model that this device does not run.
    #[error("{model} does not run on {device}: {reason}")]
    Unsupported {
        /// The file.
        model: String,
        /// The device's name.
        device: String,
        /// Which part of it, and why.
        reason: String,
    },
    /// A hyperparameter is out of range or contradicts another.
    #[error("{model}: `{key}` is {value}: {expected}")]
    Hyperparameter {
        /// The file.
        model: String,
        /// The metadata key.
        key: String,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A batch is not one that this model can run.
    #[error("the batch cannot run: {reason}")]
    Batch {
        /// Which part, and why.
        reason: String,
    },
    /// A part of the KV cache is not one that can be read or written.
    #[error("the KV cache cannot be read or written there: {reason}")]
    Cache {
        /// What is wrong with it.
        reason: String,
    },
    /// The device did not do what it should: its driver failed, or it is gone.
    #[error("{device} failed: {reason}")]
    Failed {
        /// The device's name.
        device: String,
        /// What it says.
        reason: String,
    },
    /// Not enough memory for what was asked.
    #[error("needs {need} for {purpose}, {free} is free; {advice}")]
    OutOfMemory {
        /// Bytes asked for.
        need: Bytes,
        /// Bytes there are.
        free: Bytes,
        /// What for.
        purpose: String,
        /// What to do.
        advice: String,
    },
    /// The caller broke off the step.
    #[error("the step was broken off")]
    Interrupted,
    /// The caller stopped the load.
    #[error("loading was cancelled")]
    Cancelled,
}

impl From<crate::Cancelled> for Error {
    fn from(_: crate::Cancelled) -> Self {
        Self::Cancelled
    }
}
