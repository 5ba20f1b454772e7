//! A model against recorded logits of another form of it: how far its predictions are away, and what that costs.

use std::ops::ControlFlow;

use troika_base::TokenId;

use crate::divergence::of_rows;
use crate::perplexity::{Sums, negative_log_likelihood};
use crate::recording::{Extent, Recorder, Recording};
use crate::{Error, Model, Perplexity};

/// A mean and one standard error of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// The mean.
    pub mean: f64,
    /// One standard error.
    pub error: f64,
}

/// How far a model's predictions are from recorded ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Kullback-Leibler divergence, in nats per token.
    pub kl: Share,
    /// The median of it.
    pub kl_median: f64,
    /// What 99 % of the tokens stay below.
    pub kl_99: f64,
    /// That of the worst token.
    pub kl_max: f64,
    /// Share of tokens after which both find the same one likeliest, 0 to 1.
    pub agreement: Share,
    /// The model's perplexity.
    pub perplexity: Perplexity,
    /// That of the recorded logits.
    pub reference: Perplexity,
    /// The model's perplexity over the reference's. Its error is smaller than either's, since both read the same text.
    pub ratio: Share,
}

impl Model {
    /// [`Self::perplexity`], and the logits that it is computed from go to a file. Only if all windows were read the file
    /// gets its name; `None` if `progress` broke it off.
    ///
    /// # Errors
    /// As [`Self::perplexity`], or if the file cannot be written.
    pub fn record(
        &mut self,
        tokens: &[TokenId],
        n_ctx: usize,
        mut recorder: Recorder,
        progress: &mut dyn FnMut(usize, usize, Perplexity) -> ControlFlow<()>,
    ) -> Result<Option<Perplexity>, Error> {
        let windows = self.windows(tokens, n_ctx)?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        recorder.begin(Extent {
            n_vocab: count(self.tokenizer().n_vocab()),
            n_ctx: count(n_ctx),
            windows: count(windows.len()),
        })?;
        let mut sums = Sums::default();
        for (done, window) in (1..).zip(&windows) {
            recorder.window(window)?;
            self.score_window(window, &mut |row, next| {
                sums.add(negative_log_likelihood(row, next));
                Ok(recorder.row(row)?)
            })?;
            if progress(done, windows.len(), sums.perplexity()).is_break() {
                return Ok(None);
            }
        }
        recorder.finish()?;
        Ok(Some(sums.perplexity()))
    }

    /// Reads the text of a recording, and compares what this model predicts with what was recorded. `progress` is told how
    /// many windows of how many are done, and the divergence so far; `None` if it broke it off.
    ///
    /// # Errors
    /// If the recording is damaged or of another vocabulary, scores are no numbers, or the model cannot run.
    pub fn compare(
        &mut self,
        mut recording: Recording,
        progress: &mut dyn FnMut(usize, usize, f64) -> ControlFlow<()>,
    ) -> Result<Option<Comparison>, Error> {
        recording.check_vocabulary(self.tokenizer().n_vocab())?;
        let total = recording.windows();
        let mut tally = Tally::default();
        let mut reference = Vec::new();
        for done in 1..=total {
            let window = recording.window()?;
            self.score_window(&window, &mut |row, next| {
                recording.row(&mut reference)?;
                tally.add(&reference, row, next)
            })?;
            if progress(done, total, mean(&tally.kl).mean).is_break() {
                return Ok(None);
            }
        }
        recording.finish()?;
        Ok(Some(tally.comparison()))
    }
}

#[derive(Default)]
struct Tally {
    kl: Vec<f64>,
    agreeing: usize,
    have: Sums,
    want: Sums,
    /// Of what the model's negative log-likelihood is above the reference's.
    excess: Vec<f64>,
}

impl Tally {
    fn add(&mut self, want: &[f32], have: &[f32], next: TokenId) -> Result<(), Error> {
        let (kl, agrees) = of_rows(want, have)?;
        self.kl.push(kl);
        self.agreeing += usize::from(agrees);
        let (want, have) = (
            negative_log_likelihood(want, next),
            negative_log_likelihood(have, next),
        );
        self.want.add(want);
        self.have.add(have);
        self.excess.push(have - want);
        Ok(())
    }

    fn comparison(mut self) -> Comparison {
        let n = self.kl.len().max(1) as f64;
        let kl = mean(&self.kl);
        self.kl.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (share * n) as usize;
            self.kl.get(index.min(self.kl.len().saturating_sub(1)))
        };
        let agreement = self.agreeing as f64 / n;
        let excess = mean(&self.excess);
        let ratio = excess.mean.exp();
        Comparison {
            kl,
            kl_median: at(0.5).copied().unwrap_or_default(),
            kl_99: at(0.99).copied().unwrap_or_default(),
            kl_max: self.kl.last().copied().unwrap_or_default(),
            agreement: Share {
                mean: agreement,
                error: (agreement * (1.0 - agreement) / (n - 1.0).max(1.0)).sqrt(),
            },
            perplexity: self.have.perplexity(),
            reference: self.want.perplexity(),
            ratio: Share {
                mean: ratio,
                error: ratio * excess.error,
            },
        }
    }
}

fn mean(values: &[f64]) -> Share {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Share {
        mean,
        error: (squares / n / (n - 1.0).max(1.0)).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_comparison() {
        // p = (1/2, 1/4, 1/4) and q = (1/4, 1/4, 1/2); the first and the last token follow.
        let (p, q) = ([2f32.ln(), 0.0, 0.0], [0.0, 0.0, 2f32.ln()]);
        let mut tally = Tally::default();
        tally.add(&p, &q, TokenId(0)).expect("are numbers");
        tally.add(&p, &p, TokenId(0)).expect("are numbers");
        let found = tally.comparison();
        let kl = 0.25 * 2f64.ln();
        assert!((found.kl.mean - kl / 2.0).abs() < 1e-6, "{found:?}");
        assert!((found.kl.error - kl / 2.0).abs() < 1e-6, "{found:?}");
        assert!((found.kl_max - kl).abs() < 1e-6, "{found:?}");
        assert_eq!(found.agreement.mean, 0.5);
        // Twice as surprised at one of two tokens.
        assert!((found.ratio.mean - 2f64.sqrt()).abs() < 1e-6, "{found:?}");
        let ratio = found.perplexity.value / found.reference.value;
        assert!((found.ratio.mean - ratio).abs() < 1e-9, "{found:?}");
    }
}
