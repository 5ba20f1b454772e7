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
}

impl<'m> Session<'m> {
    /// An empty session.
    pub fn new(model: &'m mut Model) -> Self {
        Self {
            model,
            sequence: Sequence::default(),
            logits: Logits::default(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.model
    }

    /// The tokens that the session holds.
    pub fn tokens(&self) -> &[TokenId] {
        self.sequence.tokens()
    }

    /// Tokens that can still be added.
    pub fn room(&self) -> usize {
        self.model.n_ctx() - self.tokens().len()
    }

    /// Forgets all but the first `n_tok` tokens.
    pub fn truncate(&mut self, n_tok: usize) {
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
        self.logits = Logits::default();
        let mut done = 0;
        for tokens_of_step in tokens.chunks(PREFILL_TOKENS) {
            done += tokens_of_step.len();
            let output = match done == tokens.len() {
                true => Output::LastLogits,
                false => Output::Nothing,
            };
            self.logits = self.step(tokens_of_step, output)?;
            if progress(done).is_break() {
                return Ok(None);
            }
        }
        Ok(self.logits.last())
    }

    /// Adds one token and returns the logits that follow it.
    ///
    /// # Errors
    /// If the context is full or the token is not in the vocabulary.
    pub fn decode(&mut self, token: TokenId) -> Result<&[f32], Error> {
        self.logits = self.step(&[token], Output::LastLogits)?;
        Ok(self
            .logits
            .last()
            .expect("asked for the last token's logits"))
    }

    /// Adds one token that another one follows, probably the likeliest: see [`Model::step_ahead`].
    pub(crate) fn decode_ahead(&mut self, token: TokenId) -> Result<(), Error> {
        let outputs = self.model.step_ahead(&mut [Step {
            sequence: &mut self.sequence,
            tokens: &[token],
            output: Output::LastLogits,
        }])?;
        self.logits = outputs.logits;
        Ok(())
    }

    /// Adds tokens in one step and returns the logits that follow each: how likely is a given text?
    ///
    /// # Errors
    /// As [`Session::decode`].
    pub fn score(&mut self, tokens: &[TokenId]) -> Result<Logits, Error> {
        self.step(tokens, Output::AllLogits)
    }

    /// The logits that follow the last token, if that was asked for.
    pub(crate) fn last_logits(&self) -> Option<&[f32]> {
        self.logits.last()
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
