//! What goes wrong between a text and its vector.

use std::path::PathBuf;

use troika_engine::tokenizer::TokenizerError;

/// Why a text has no vector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model does not run.
    #[error(transparent)]
    Run(#[from] troika_device_npu::Error),
    /// It is not the folder of a model for this.
    #[error("{} {reason}", .path.display())]
    NoModel {
        /// The folder or file.
        path: PathBuf,
        /// What is lacking.
        reason: String,
    },
    /// The vocabulary is not what it should be.
    #[error("{}: {source}", .path.display())]
    Vocabulary {
        /// Its file.
        path: PathBuf,
        /// What is the matter.
        source: Box<TokenizerError>,
    },
    /// A text has more tokens than the model reads.
    #[error("it has {tokens} tokens and the model reads {max}; shorten it")]
    TooLong {
        /// Its tokens, with those that the model wants around it.
        tokens: usize,
        /// As many as there may be.
        max: usize,
    },
    /// The model's outputs are none that a vector can be made of.
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
