//! Guesses at how an answer goes on: computed in the step that writes its next token, and right or wrong.
//!
//! Nothing but time depends on them. Whatever was guessed, an answer's [`Voice`](super::voice::Voice) chooses each token from
//! the model's logits after those before it; a guess counts as far as it is what was chosen.

use serde::{Deserialize, Serialize};
use troika_base::TokenId;
use troika_engine::{DRAFT_MAX, PromptLookup, Reach};

/// Where guesses come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Draft {
    /// There are none.
    #[default]
    Off,
    /// What followed the last few tokens where they stood before.
    Ngram,
}

/// The guesses of one answer.
#[derive(Debug)]
pub(super) struct Guesses {
    lookup: PromptLookup,
    reach: Reach,
}

impl Guesses {
    /// `None` where there are to be none.
    pub(super) fn new(draft: Draft) -> Option<Self> {
        (draft == Draft::Ngram).then(|| Self {
            lookup: PromptLookup::default(),
            reach: Reach::new(DRAFT_MAX),
        })
    }

    /// Up to `most` tokens that may follow `text`, for the next step.
    pub(super) fn guess(&mut self, text: &[TokenId], most: usize) -> Vec<TokenId> {
        let most = self.reach.tokens().min(most);
        match most {
            0 => Vec::new(),
            _ => self.lookup.look_up(text, most).collect(),
        }
    }

    /// Of so many tokens that were guessed, so many were right.
    pub(super) fn learn(&mut self, guessed: usize, right: usize) {
        self.reach.learn(guessed, right);
    }
}
