//! What goes wrong between a picture and what is said of it.

use std::path::PathBuf;

use crate::card;

/// Why a picture cannot be worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model's card is wrong, or does not fit.
    #[error(transparent)]
    Card(#[from] card::Error),
    /// The model does not run.
    #[error(transparent)]
    Run(#[from] troika_device_npu::Error),
    /// It is no picture, or none that can be read.
    #[error("{name} cannot be read as a picture (JPEG, PNG and WebP can): {reason}")]
    NoPicture {
        /// The file.
        name: String,
        /// What the decoder says.
        reason: String,
    },
    /// A picture has more pixels than are worked on.
    #[error(
        "{name} is too large: {reason}; at most {side_max} pixels a side and {mib_max} MiB in memory are read"
    )]
    TooLarge {
        /// The file.
        name: String,
        /// What the decoder says.
        reason: String,
        /// Pixels.
        side_max: u32,
        /// In memory.
        mib_max: u64,
    },
    /// A picture cannot be written so.
    #[error("cannot write {}: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is possible.
        reason: String,
    },
    /// A model's output is not what its card says.
    #[error("the model's output `{output}` {reason}")]
    Output {
        /// Its name.
        output: String,
        /// What is the matter.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}
