//! What can go wrong between a directory and a GGUF file.

use std::path::PathBuf;

/// Why a checkpoint was not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the directory cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There are weights, but as pickle.
    #[error(
        "{}: weights in pickle files are not read, since opening one runs the program in it; take a copy of the model with .safetensors files, or have its makers' tools save one",
        path.display()
    )]
    Pickle {
        /// The first such file.
        path: PathBuf,
    },
    /// The directory lacks something.
    #[error("{}: there is no {what}; a checkpoint has config.json, *.safetensors, and tokenizer.json or tokenizer.model", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
        /// What is lacking.
        what: String,
    },
    /// A directory is no adapter.
    #[error("{}: there is no adapter_config.json; an adapter has that and adapter_model.safetensors", path.display())]
    NoAdapter {
        /// The directory.
        path: PathBuf,
    },
    /// An architecture that nobody has written yet.
    #[error("architecture `{architecture}` is not imported; those that are: {known}")]
    UnknownArchitecture {
        /// As config.json names it.
        architecture: String,
        /// What there is.
        known: String,
    },
    /// Something of an architecture that is known otherwise.
    #[error("config.json: `{key}` is {value}: {expected}")]
    Config {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A tensor is not there, or is not of the shape that config.json says.
    #[error("tensor `{tensor}`: {problem}")]
    Tensor {
        /// Its name in the checkpoint.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tokenizer of a kind that is not known.
    #[error("{}: {problem}", path.display())]
    Tokenizer {
        /// Its file.
        path: PathBuf,
        /// What is not known, or wrong.
        problem: String,
    },
    /// The GGUF file cannot be written.
    #[error(transparent)]
    Write(#[from] troika_gguf::Error),
    /// The caller stopped it.
    #[error("the import was stopped")]
    Stopped,
}
