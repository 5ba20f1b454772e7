//! The log-probabilities of an answer's tokens, added up as they come.

use troika_job::{Delta, Part};

/// What the tokens of one answer add up to so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    sum: f64,
    tokens: usize,
    /// Something was said, rather than thought.
    speaks: bool,
}

impl Tally {
    /// Counts more of the answer. Tokens up to the end of a thought that precedes what is said are left out: a token does
    /// not tell which of the two it belongs to, but its text does.
    pub(super) fn add(&mut self, delta: &Delta) {
        let said = |part: &Part| !matches!(part, Part::Reasoning(_));
        let says = delta.parts.iter().any(said);
        if !self.speaks && !says && !delta.parts.is_empty() {
            *self = Self::default();
            return;
        }
        self.speaks |= says;
        self.tokens += delta.tokens.len();
        let logprobs = delta.tokens.iter().map(|token| f64::from(token.logprob));
        self.sum += logprobs.sum::<f64>();
    }

    /// The geometric mean of the tokens' probabilities; `None` without tokens, or if their log-probabilities are no numbers.
    pub(super) fn mean(&self) -> Option<f64> {
        let mean = (self.sum / self.tokens as f64).exp();
        mean.is_finite().then(|| mean.clamp(0.0, 1.0))
    }

    /// Whether the mean stays below a threshold, whatever comes in the rest of an answer of at most so many tokens: each of
    /// those had to be certain, and even that is not enough.
    pub(super) fn is_lost(&self, threshold: f64, max_tokens: usize) -> bool {
        let most = max_tokens.max(self.tokens).max(1);
        // A thought that is still to come would begin the count anew.
        self.speaks && (self.sum / most as f64).exp() < threshold
    }
}

#[cfg(test)]
mod tests {
    use troika_job::TokenLogprob;

    use super::*;

    fn delta(part: Option<Part>, logprobs: &[f32]) -> Delta {
        let tokens = logprobs.iter().map(|&logprob| TokenLogprob {
            logprob,
            ..TokenLogprob::default()
        });
        Delta {
            choice: 0,
            parts: part.into_iter().collect(),
            tokens: tokens.collect(),
        }
    }

    fn said(logprobs: &[f32]) -> Delta {
        delta(Some(Part::Content("x".to_owned())), logprobs)
    }

    #[test]
    fn thoughts_do_not_count() {
        let mut tally = Tally::default();
        assert_eq!(tally.mean(), None);
        tally.add(&delta(None, &[-9.0]));
        tally.add(&delta(Some(Part::Reasoning("hm".to_owned())), &[-5.0]));
        assert_eq!(tally.mean(), None);
        tally.add(&said(&[-0.5]));
        tally.add(&delta(None, &[-1.5]));
        // Once it speaks, all counts: a call of a tool has no text until it is complete.
        tally.add(&delta(Some(Part::Reasoning("oh".to_owned())), &[-1.0]));
        let mean = tally.mean().expect("three tokens");
        assert!((mean - (-1.0_f64).exp()).abs() < 1e-12, "{mean}");
    }

    #[test]
    fn an_answer_is_lost_when_no_rest_could_save_it() {
        let mut tally = Tally::default();
        tally.add(&said(&[-4.0]));
        // e^(-4/10) = 0.670, e^(-4/20) = 0.819
        assert!(tally.is_lost(0.7, 10) && !tally.is_lost(0.7, 20));
        assert!(!tally.is_lost(0.0, 1));
        // What was certain so far may still become anything.
        let mut tally = Tally::default();
        tally.add(&said(&[0.0; 50]));
        assert!(!tally.is_lost(1.0, 60));
        // Before anything is said, nothing is lost.
        let mut tally = Tally::default();
        tally.add(&delta(None, &[-99.0]));
        assert!(!tally.is_lost(0.9, 2));
    }

    #[test]
    fn what_is_lost_early_is_unsure_in_the_end() {
        let mut state = 7_u64;
        for _ in 0..2000 {
            let mut random = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 40) as f32 / (1 << 24) as f32
            };
            let (n, threshold) = (1 + (random() * 30.0) as usize, f64::from(random()));
            let mut tally = Tally::default();
            let mut lost = false;
            for _ in 0..n {
                tally.add(&said(&[-3.0 * random() * random()]));
                lost |= tally.is_lost(threshold, 30);
            }
            assert!(!lost || tally.mean().expect("tokens") < threshold);
        }
    }
}
