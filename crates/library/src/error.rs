//! What can go wrong with a library.

use std::io;

/// Why the library cannot do it. Messages name models and never paths, so that they may be shown to clients; the one
/// with a path is [`Error::Model`], whose source names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be the name of a model.
    #[error(
        "{name:?} is no name for a model: {reason}; names look like `name`, `name:tag` or `namespace/name:tag`"
    )]
    BadName {
        /// What was given, shortened.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It is no digest.
    #[error("a digest is written as `sha256:` and 64 hexadecimal digits")]
    BadDigest,
    /// There is no model of this name.
    #[error("there is no model {name:?}; there is {known}")]
    NotFound {
        /// What was asked for, shortened.
        name: String,
        /// What there is: some names with commas.
        known: String,
    },
    /// The file with this digest was not uploaded.
    #[error("no file with the digest {digest} was uploaded")]
    NoBlob {
        /// As text.
        digest: String,
    },
    /// The model was created and cannot be used any more.
    #[error("model {name:?} is damaged: {reason}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// What is there does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// A setting makes no sense.
    #[error("{field}: {reason}")]
    BadSetting {
        /// Which.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// What was uploaded has another digest than was said.
    #[error("what was uploaded has the digest {have}, and {want} was announced; upload it again")]
    WrongDigest {
        /// As announced.
        want: String,
        /// As computed.
        have: String,
    },
    /// An upload is too long.
    #[error("an upload has {bytes_max} bytes at most")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// The model's file cannot be read.
    #[error("cannot open the model {name:?}")]
    Model {
        /// The model.
        name: String,
        /// Why.
        #[source]
        source: Box<troika_gguf::Error>,
    },
    /// An adapter's file cannot be read.
    #[error(
        "cannot open the adapter {digest}: it is no GGUF file, or is damaged or gone; upload it again as one"
    )]
    Adapter {
        /// Its digest, as text.
        digest: String,
        /// Why.
        #[source]
        source: Box<troika_gguf::Error>,
    },
    /// The system's doing.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// What came from outside, short enough for a message.
pub(crate) fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
