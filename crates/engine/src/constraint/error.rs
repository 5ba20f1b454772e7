//! Why a grammar is refused, or an answer cannot follow it.

use std::fmt::Display;

use troika_base::TokenId;

/// Why a grammar is refused, or an answer cannot follow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// There is too much of it.
    #[error("the {what} has more than {max} bytes; make it shorter")]
    TooLarge {
        /// Which kind of grammar.
        what: &'static str,
        /// Bytes that it may have.
        max: usize,
    },
    /// It is nested too deeply.
    #[error("the {what} is nested more than {max} levels deep; make it flatter")]
    TooDeep {
        /// Which kind of grammar.
        what: &'static str,
        /// Levels that it may have.
        max: usize,
    },
    /// It is malformed, or asks for what is not supported.
    #[error("the {what} cannot be used{}: {reason}", place(at))]
    Invalid {
        /// Which kind of grammar.
        what: &'static str,
        /// Where in a schema, as `#/properties/name`.
        at: Option<String>,
        /// What is wrong.
        reason: String,
    },
    /// It takes more work than a grammar may.
    #[error("the {what} is too complex: {reason}")]
    TooComplex {
        /// Which kind of grammar.
        what: &'static str,
        /// Which bound it passed.
        reason: String,
    },
    /// Other grammars that take long are being compiled.
    #[error("{running} grammars are being compiled already; try again in a second")]
    Busy {
        /// So many.
        running: usize,
    },
    /// The vocabulary is beyond what the parser's tables hold.
    #[error("answers of this model cannot be constrained: {reason}")]
    Vocabulary {
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system gives no thread to compile on.
    #[error("no thread to compile the grammar on: {reason}")]
    NoThread {
        /// In the system's words.
        reason: String,
    },
    /// A token that the grammar does not allow where it came.
    #[error("token {token} is not what the grammar allows here")]
    Refused {
        /// The token.
        token: TokenId,
    },
    /// No token leads on from here, or finding it out takes more work than one step may.
    #[error("the answer cannot go on by its grammar: {reason}")]
    Stuck {
        /// Why.
        reason: String,
    },
}

impl ConstraintError {
    /// Whether the grammar is at fault, and so whoever sent it, rather than the machine or the answer.
    pub fn is_bad_grammar(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::TooDeep { .. }
                | Self::Invalid { .. }
                | Self::TooComplex { .. }
        )
    }

    pub(super) fn stuck(error: &impl Display) -> Self {
        Self::Stuck {
            reason: first_lines(&error.to_string()),
        }
    }
}

fn place(at: &Option<String>) -> String {
    at.as_ref()
        .map_or_else(String::new, |at| format!(", at `{at}`"))
}

/// Characters of somebody else's message that are passed on.
const MESSAGE_CHARS_MAX: usize = 400;

/// The parser's own message, without the backtraces and dumps that it appends.
pub(super) fn first_lines(message: &str) -> String {
    let end = ["\n<backtrace>", "\n<non-verbose/>", "\n<state>"]
        .into_iter()
        .filter_map(|dump| message.find(dump))
        .min();
    let message = message[..end.unwrap_or(message.len())].trim();
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &message[..cut]),
        None => message.to_owned(),
    }
}
