//! How long a step takes, learned from the steps that were: `fixed + per_token · tokens`.

use std::time::Duration;

/// A step forgets this much of what was known before it: the last few dozen steps count.
const FORGET: f64 = 0.97;

/// The line through the steps so far, by least squares with forgetting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    weight: f64,
    n: f64,
    t: f64,
    nn: f64,
    nt: f64,
}

impl Pace {
    /// Learns from a step.
    pub(crate) fn observe(&mut self, n_tok: usize, elapsed: Duration) {
        let (n, t) = (n_tok as f64, elapsed.as_secs_f64());
        for (sum, new) in [
            (&mut self.weight, 1.0),
            (&mut self.n, n),
            (&mut self.t, t),
            (&mut self.nn, n * n),
            (&mut self.nt, n * t),
        ] {
            *sum = *sum * FORGET + new;
        }
    }

    /// Tokens that fit into a step that lasts `stretch` times as long as one of `n_tok` tokens. `None` until steps of
    /// different sizes were seen.
    pub(crate) fn stretched(&self, n_tok: usize, stretch: f64) -> Option<usize> {
        let (fixed, per_token) = self.line()?;
        let budget = stretch * (fixed + per_token * n_tok as f64);
        Some(((budget - fixed) / per_token) as usize)
    }

    /// Tokens that fit into a step of so many seconds. `None` until steps of different sizes were seen.
    pub(crate) fn within(&self, seconds: f64) -> Option<usize> {
        let (fixed, per_token) = self.line()?;
        Some(((seconds - fixed) / per_token) as usize)
    }

    /// Seconds of a step of so many tokens. `None` until steps of different sizes were seen.
    pub(crate) fn seconds(&self, n_tok: usize) -> Option<f64> {
        let (fixed, per_token) = self.line()?;
        Some(fixed + per_token * n_tok as f64)
    }

    fn line(&self) -> Option<(f64, f64)> {
        let spread = self.weight * self.nn - self.n * self.n;
        // Steps that are all of one size tell nothing of another.
        if spread <= 1e-3 * self.weight * self.weight {
            return None;
        }
        let per_token = (self.weight * self.nt - self.n * self.t) / spread;
        if per_token <= 0.0 {
            return None;
        }
        let fixed = (self.t - per_token * self.n) / self.weight;
        Some((fixed.max(0.0), per_token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found() {
        let mut pace = Pace::default();
        assert_eq!(pace.stretched(1, 2.0), None);
        for n_tok in [1, 8, 64, 1, 1, 32] {
            pace.observe(n_tok, Duration::from_micros(10_000 + 2_000 * n_tok as u64));
        }
        // A step of 4 tokens takes 18 ms; in 36 ms there is room for 13.
        assert_eq!(pace.stretched(4, 2.0), Some(13));
    }

    #[test]
    fn steps_of_one_size_tell_nothing_of_another() {
        let mut pace = Pace::default();
        for _ in 0..1000 {
            pace.observe(1, Duration::from_millis(20));
        }
        assert_eq!(pace.stretched(1, 2.0), None);
    }

    #[test]
    fn the_machine_may_become_slower() {
        let mut pace = Pace::default();
        for ms in [1, 3] {
            for _ in 0..300 {
                pace.observe(1, Duration::from_millis(ms * 10));
                pace.observe(11, Duration::from_millis(ms * 20));
            }
        }
        // 30 ms for 1, 3 ms for each further one.
        let n_tok = pace.stretched(1, 2.0).expect("two sizes");
        assert!((10..=11).contains(&n_tok), "{n_tok}");
    }
}
