//! Guesses at how an answer goes on: computed in the step that writes its next token, and right or wrong.
//!
//! Nothing but time depends on them. Whatever was guessed, an answer's [`Voice`](super::voice::Voice) chooses each token from
//! the model's logits after those before it; a guess counts as far as it is what was chosen. What makes them is in `drafting.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};
use troika_base::TokenId;
use troika_engine::{DRAFT_MAX, PromptLookup, Reach};

/// Where guesses come from. As text: `off`, `ngram`, `NAME` or `ONLY=NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Draft {
    /// There are none.
    #[default]
    Off,
    /// What followed the last few tokens where they stood before.
    Ngram,
    /// What a smaller model says.
    Model {
        /// Its name.
        name: String,
        /// The one model that it guesses for; all those of its vocabulary if absent.
        only: Option<String>,
    },
}

impl TryFrom<String> for Draft {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (only, name) = match text.split_once('=') {
            Some((only, name)) => (Some(only.to_owned()), name),
            None => (None, &*text),
        };
        if name.is_empty() || only.as_ref().is_some_and(String::is_empty) {
            return Err(
                "say `off`, `ngram`, the name of a smaller model, or MODEL=SMALLER for one model alone",
            );
        }
        Ok(match (name, only) {
            ("off", None) => Self::Off,
            ("ngram", None) => Self::Ngram,
            (name, only) => Self::Model {
                name: name.to_owned(),
                only,
            },
        })
    }
}

impl From<Draft> for String {
    fn from(draft: Draft) -> Self {
        draft.to_string()
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Ngram => f.write_str("ngram"),
            Self::Model { name, only: None } => f.write_str(name),
            Self::Model {
                name,
                only: Some(only),
            } => write!(f, "{only}={name}"),
        }
    }
}

/// How the answers of one model are guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guessing {
    /// Not at all.
    Off,
    /// From the text.
    Ngram,
    /// By a smaller model.
    Model,
}

/// The guesses of one answer.
#[derive(Debug)]
pub(super) struct Guesses {
    /// `None` where a smaller model makes them.
    lookup: Option<PromptLookup>,
    reach: Reach,
}

impl Guesses {
    /// `None` where there are to be none.
    pub(super) fn new(guessing: Guessing) -> Option<Self> {
        let lookup = match guessing {
            Guessing::Off => return None,
            Guessing::Ngram => Some(PromptLookup::default()),
            Guessing::Model => None,
        };
        Some(Self {
            lookup,
            reach: Reach::new(DRAFT_MAX),
        })
    }

    /// Tokens that are worth guessing for the next step, `most` at most.
    pub(super) fn reach(&mut self, most: usize) -> usize {
        self.reach.tokens().min(most)
    }

    /// So many tokens that may follow `text`, as far as the text itself tells.
    pub(super) fn look_up(&self, text: &[TokenId], n_tok: usize) -> Vec<TokenId> {
        match &self.lookup {
            Some(lookup) if n_tok > 0 => lookup.look_up(text, n_tok).collect(),
            _ => Vec::new(),
        }
    }

    /// Of so many tokens that were guessed, so many were right.
    pub(super) fn learn(&mut self, guessed: usize, right: usize) {
        self.reach.learn(guessed, right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_said_in_a_word() {
        let model = |name: &str, only: Option<&str>| Draft::Model {
            name: name.to_owned(),
            only: only.map(str::to_owned),
        };
        for (text, want) in [
            ("off", Draft::Off),
            ("ngram", Draft::Ngram),
            ("small:1b", model("small:1b", None)),
            ("acme/big:8b=small", model("small", Some("acme/big:8b"))),
        ] {
            assert_eq!(Draft::try_from(text.to_owned()), Ok(want.clone()));
            assert_eq!(want.to_string(), text);
        }
        for text in ["", "=", "big=", "=small"] {
            assert!(Draft::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
