//! How well a model predicts a text: the measure by which number formats and kernels are compared.

use std::ops::ControlFlow;

use troika_base::TokenId;

use crate::{Error, Model, Session};

/// A text's perplexity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// `e` to the mean negative log-likelihood of the tokens that were predicted.
    pub value: f64,
    /// One standard error of it.
    pub error: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
}

/// The text is too short to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the text has {tokens} tokens, and {needed} are needed; take a longer text or a smaller window (`--ctx`)"
)]
pub struct TextTooShort {
    /// Tokens of the text.
    pub tokens: usize,
    /// Tokens of a window.
    pub needed: usize,
}

/// Takes the scores of a token, and the token that followed.
pub(crate) type RowSink<'s> = dyn FnMut(&[f32], TokenId) -> Result<(), Error> + 's;

impl Model {
    /// The perplexity of `tokens`, measured as llama.cpp does, so that figures can be compared: in windows of `n_ctx`
    /// tokens that do not overlap, each with the first token replaced by the one that begins a text, and in each only
    /// the tokens of the second half, which have enough before them. `progress` is told how many windows of how many
    /// are done, and may break it off; what was measured by then is returned.
    ///
    /// # Errors
    /// If there is not one whole window, or the model cannot run.
    pub fn perplexity(
        &mut self,
        tokens: &[TokenId],
        n_ctx: usize,
        progress: &mut dyn FnMut(usize, usize, Perplexity) -> ControlFlow<()>,
    ) -> Result<Perplexity, Error> {
        let windows = self.windows(tokens, n_ctx)?;
        let mut sums = Sums::default();
        for (done, window) in (1..).zip(&windows) {
            self.score_window(window, &mut |row, next| {
                sums.add(negative_log_likelihood(row, next));
                Ok(())
            })?;
            if progress(done, windows.len(), sums.perplexity()).is_break() {
                break;
            }
        }
        Ok(sums.perplexity())
    }

    /// The whole windows of a text, each with the first token replaced by the one that begins a text.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn windows(
        &self,
        tokens: &[TokenId],
        n_ctx: usize,
    ) -> Result<Vec<Vec<TokenId>>, TextTooShort> {
        let begin = self
            .tokenizer()
            .bos()
            .filter(|_| self.tokenizer().adds_bos());
        let windows = tokens.chunks_exact(n_ctx.max(2)).map(|window| {
            let mut window = window.to_vec();
            if let Some(begin) = begin {
                window[0] = begin;
            }
            window
        });
        let windows: Vec<_> = windows.collect();
        match windows.is_empty() {
            true => Err(TextTooShort {
                tokens: tokens.len(),
                needed: n_ctx,
            }),
            false => Ok(windows),
        }
    }

    /// Hands on the scores of each token of a window's second half, with the token that followed.
    pub(crate) fn score_window(
        &mut self,
        window: &[TokenId],
        sink: &mut RowSink<'_>,
    ) -> Result<(), Error> {
        let n_vocab = self.tokenizer().n_vocab();
        let first = window.len() / 2;
        let mut session = Session::new(self);
        session.prefill(&window[..first], &mut |_| ControlFlow::Continue(()))?;
        // A step's logits are kept small: 128 rows of a large vocabulary are 64 MiB.
        let predicting = &window[first..window.len() - 1];
        for (tokens, next) in predicting.chunks(128).zip(window[first + 1..].chunks(128)) {
            let logits = session.score(tokens)?;
            for (row, next) in logits.rows().zip(next) {
                sink(&row[..n_vocab], *next)?;
            }
        }
        Ok(())
    }
}

/// Of negative log-likelihoods.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    n: usize,
    sum: f64,
    squares: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, nll: f64) {
        self.n += 1;
        self.sum += nll;
        self.squares += nll * nll;
    }

    pub(crate) fn perplexity(&self) -> Perplexity {
        let n = self.n as f64;
        let mean = self.sum / n;
        let variance = (self.squares / n - mean * mean).max(0.0);
        let value = mean.exp();
        Perplexity {
            value,
            error: value * (variance / (n - 1.0).max(1.0)).sqrt(),
            tokens: self.n,
        }
    }
}

pub(crate) fn negative_log_likelihood(logits: &[f32], token: TokenId) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    max + sum.ln() - f64::from(logits[token.index()])
}
