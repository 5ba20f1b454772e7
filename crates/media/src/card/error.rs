//! What may be wrong with a card, and with a card for a model.

use std::path::PathBuf;

use super::Kind;

/// Why a card cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no TOML, or a key is unknown, missing or of another type.
    #[error("{card}{}{}: {reason}", at_line(.line), at_key(.key))]
    Syntax {
        /// The file.
        card: String,
        /// From 1; `None` if the parser names none.
        line: Option<usize>,
        /// `picture.size`; empty if it is the card as a whole.
        key: String,
        /// What the parser says.
        reason: String,
    },
    /// A value makes no sense beside the others.
    #[error("{card}: `{key}` {reason}")]
    Value {
        /// The file.
        card: String,
        /// `picture.mean`.
        key: String,
        /// What is the matter, and what helps.
        reason: String,
    },
    /// The model has no such port, or one of another shape.
    #[error("{card} does not fit the model: `{key}` {reason}")]
    Ports {
        /// The file.
        card: String,
        /// `picture.input`.
        key: String,
        /// What the model has instead.
        reason: String,
    },
    /// The card is for another job.
    #[error("{card} describes a model that can {have}, and one that can {want} is needed")]
    Kind {
        /// The file.
        card: String,
        /// What the model is for.
        have: Kind,
        /// What was asked for.
        want: Kind,
    },
    /// There is none, and the model is none of those known.
    #[error(
        "{}: nothing says how to use this model; write {} (docs/formats/card.md tells how), or name a card with --card. Inputs: {inputs}. Outputs: {outputs}",
        .model.display(),
        .beside.display()
    )]
    NoCard {
        /// The model's file.
        model: PathBuf,
        /// Where a card would be found.
        beside: PathBuf,
        /// Names and shapes.
        inputs: String,
        /// Names and shapes.
        outputs: String,
    },
    /// A file is larger than any card or list of labels is.
    #[error("{}: too large: more than {bytes_max} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is still read.
        bytes_max: u64,
    },
    /// A file could not be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Error {
    pub(super) fn value(card: &str, key: &str, reason: String) -> Self {
        Self::Value {
            card: card.to_owned(),
            key: key.to_owned(),
            reason,
        }
    }
}

fn at_line(line: &Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}

fn at_key(key: &str) -> String {
    match key {
        "" => String::new(),
        key => format!(", `{key}`"),
    }
}
