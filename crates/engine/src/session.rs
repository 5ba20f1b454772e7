//! One text over a model: reading a prompt, writing token by token, taking back.

use std::ops::ControlFlow;

use troika_base::TokenId;
use troika_device::{Logits, Output};

use crate::{Error, Model, Sequence, Step};

/// Tokens that are read in one step. Large enough for matrix units to be busy, small enough that a caller hears of
/// progress, and can break off, several times a second.
const PREFILL_TOKENS: usize = 512;

/// One sequence over a model.
#[derive(Debug)]
pub struct Session<'m> {
    model: &'m mut Model,
    sequence: Sequence,
    logits: Logits,
    /// The row of `logits` that follows the last token.
    row: usize,
    /// Tokens at the end of the sequence that were drafted, and not asked for yet. There is a row of `logits` for each.
    drafted: usize,
}

impl<'m> Session<'m> {
    /// An empty session.
    pub fn new(model: &'m mut Model) -> Self {
        Self {
            model,
            sequence: Sequence::default(),
            logits: Logits::default(),
            row: 0,
            drafted: 0,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.model
    }

    /// The tokens that the session holds.
    pub fn tokens(&self) -> &[TokenId] {
        let tokens = self.sequence.tokens();
        &tokens[..tokens.len() - self.drafted]
    }

    /// Tokens that can still be added.
    pub fn room(&self) -> usize {
        self.model.n_ctx() - self.tokens().len()
    }

    /// Forgets all but the first `n_tok` tokens.
    pub fn truncate(&mut self, n_tok: usize) {
        self.drop_draft();
        self.sequence.truncate(n_tok);
    }

    fn drop_draft(&mut self) {
        let n_tok = self.tokens().len();
        self.drafted = 0;
        self.sequence.truncate(n_tok);
    }

    /// Reads tokens, a few hundred a step; `progress` is told how many are done, and may break it off. Returns the
    /// logits that follow the last token, `None` if it was broken off or there are no tokens.
    ///
    /// # Errors
    /// If the context is too short for the tokens (nothing was read then) or a token is not in the vocabulary.
    pub fn prefill(
        &mut self,
        tokens: &[TokenId],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<&[f32]>, Error> {
        if tokens.len() > self.room() {
            return Err(Error::PromptTooLong {
                prompt: self.tokens().len() + tokens.len(),
                context: self.model.n_ctx(),
            });
        }
        self.drop_draft();
        self.hold(Logits::default());
        let mut done = 0;
        for tokens_of_step in tokens.chunks(PREFILL_TOKENS) {
            done += tokens_of_step.len();
            let output = match done == tokens.len() {
                true => Output::LastLogits,
                false => Output::Nothing,
            };
            let logits = self.step(tokens_of_step, output)?;
            self.hold(logits);
            if progress(done).is_break() {
                return Ok(None);
            }
        }
        Ok(self.last_logits())
    }

    /// Adds one token and returns the logits that follow it.
    ///
    /// # Errors
    /// If the context is full or the token is not in the vocabulary.
    pub fn decode(&mut self, token: TokenId) -> Result<&[f32], Error> {
        if !self.decode_drafted(token) {
            let logits = self.step(&[token], Output::LastLogits)?;
            self.hold(logits);
        }
        Ok(self
            .last_logits()
            .expect("asked for the last token's logits"))
    }

    /// Adds a token that is drafted next, which takes no time. `false` if it is not; the draft is dropped then.
    pub(crate) fn decode_drafted(&mut self, token: TokenId) -> bool {
        let next = self.tokens().len();
        let is_next = self.sequence.tokens().get(next) == Some(&token);
        if is_next {
            self.drafted -= 1;
            self.row += 1;
        } else {
            self.drop_draft();
        }
        is_next
    }

    /// Adds one token, and reads in the same step what may follow it: [`Self::decode`] of these takes no time.
    ///
    /// # Errors
    /// As [`Self::decode`]. The draft needs room, too.
    pub(crate) fn decode_with_draft(
        &mut self,
        token: TokenId,
        draft: &[TokenId],
    ) -> Result<(), Error> {
        self.drop_draft();
        let logits = self.step(&[&[token], draft].concat(), Output::AllLogits)?;
        self.hold(logits);
        (self.row, self.drafted) = (0, draft.len());
        Ok(())
    }

    /// Adds one token that another one follows, probably the likeliest: see [`Model::step_ahead`].
    pub(crate) fn decode_ahead(&mut self, token: TokenId) -> Result<(), Error> {
        self.drop_draft();
        let outputs = self.model.step_ahead(&mut [Step {
            sequence: &mut self.sequence,
            tokens: &[token],
            output: Output::LastLogits,
        }])?;
        self.hold(outputs.logits);
        Ok(())
    }

    /// Adds tokens in one step and returns the logits that follow each: how likely is a given text?
    ///
    /// # Errors
    /// As [`Session::decode`].
    pub fn score(&mut self, tokens: &[TokenId]) -> Result<Logits, Error> {
        self.drop_draft();
        self.step(tokens, Output::AllLogits)
    }

    /// The logits that follow the last token, if that was asked for.
    pub(crate) fn last_logits(&self) -> Option<&[f32]> {
        self.logits.rows().nth(self.row)
    }

    fn hold(&mut self, logits: Logits) {
        self.row = logits.rows().len().saturating_sub(1);
        self.logits = logits;
    }

    fn step(&mut self, tokens: &[TokenId], output: Output) -> Result<Logits, Error> {
        let outputs = self.model.step(&mut [Step {
            sequence: &mut self.sequence,
            tokens,
            output,
        }])?;
        Ok(outputs.logits)
    }
}
