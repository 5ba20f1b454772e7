//! What examples prove of a mean, without a word on how they are distributed.
//!
//! Two tests, both exact for every number of examples:
//!
//! - Where the remote's answers are the measure and the local ones are right or wrong, mistakes are counted, and their number
//!   is binomial (Clopper and Pearson 1934).
//! - Else by betting (Waudby-Smith and Ramdas 2024): money is put on "the cascade is better than promised", on odds that are
//!   fair if it is not. Who has multiplied it by 20 in the end had a chance of 1 in 20 at most to be wrong. Several stakes are
//!   played side by side, and their mean counts, so that none has to be chosen by looking at the examples, and their order
//!   does not matter.

use serde::Serialize;

use super::Pair;

/// Shares of the money that are put on each example: large ones for few mistakes, small ones for graded qualities.
const STAKES: [f64; 6] = [0.05, 0.1, 0.2, 0.4, 0.7, 0.95];

/// An estimate, and where the truth is with the confidence that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The estimate.
    pub value: f64,
    /// The upper end.
    pub high: f64,
}

/// The evidence of examples that the cascade's mean quality is more than `ratio` times the remote's.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    ratio: f64,
    examples: usize,
    mistakes: usize,
    is_counted: bool,
    /// The logarithm of what each stake has become.
    wealth: [f64; STAKES.len()],
}

impl Evidence {
    /// # Panics
    /// If the ratio is not above 0.
    pub(super) fn new(pairs: impl Iterator<Item = Pair>, ratio: f64) -> Self {
        assert!(ratio > 0.0, "a share of nothing is promised by anybody");
        let mut evidence = Self {
            ratio,
            examples: 0,
            mistakes: 0,
            is_counted: true,
            wealth: [0.0; STAKES.len()],
        };
        for pair in pairs {
            evidence.examples += 1;
            evidence.add(pair, 1.0);
        }
        evidence
    }

    /// Takes note of grades that may come: one that is neither right nor wrong rules counting out.
    pub(super) fn note_grades(&mut self, pairs: impl Iterator<Item = Pair>) {
        for pair in pairs {
            self.is_counted &= is_right_or_wrong(pair);
        }
    }

    /// Has the cascade answer an example otherwise.
    pub(super) fn replace(&mut self, old: Pair, new: Pair) {
        self.add(old, -1.0);
        self.add(new, 1.0);
    }

    fn add(&mut self, pair: Pair, sign: f64) {
        self.is_counted &= is_right_or_wrong(pair);
        if pair.cascade < pair.remote {
            self.mistakes = match sign > 0.0 {
                true => self.mistakes + 1,
                false => self.mistakes.saturating_sub(1),
            };
        }
        // Fair at worst if the promise is broken: the mean of `cascade / ratio - remote` is not above 0 then. It is never
        // below -1, so nobody goes bankrupt.
        let gain = pair.cascade / self.ratio - pair.remote;
        for (wealth, stake) in self.wealth.iter_mut().zip(STAKES) {
            *wealth += sign * (stake * gain).ln_1p();
        }
    }

    /// How likely such examples are at most, if the ratio is not reached.
    pub(super) fn p_value(&self) -> f64 {
        if self.is_counted {
            let risk = 1.0 - self.ratio;
            return binomial_cdf(self.mistakes, self.examples, risk);
        }
        1.0 / mean_exp(&self.wealth)
    }
}

fn is_right_or_wrong(pair: Pair) -> bool {
    pair.remote == 1.0 && (pair.cascade == 0.0 || pair.cascade == 1.0)
}

/// The mean of what logarithms stand for; infinite where that is beyond all numbers.
fn mean_exp(logs: &[f64]) -> f64 {
    let max = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|log| (log - max).exp()).sum();
    sum / logs.len() as f64 * max.exp()
}

/// The probability of at most `k` of `n`, each of which happens with probability `p`.
fn binomial_cdf(k: usize, n: usize, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    // From the largest term down, by its logarithm: terms themselves may be too small to be told from 0.
    let odds = (p / (1.0 - p)).ln();
    let mut term = n as f64 * (-p).ln_1p();
    let mut terms = vec![term];
    for i in 0..k {
        term += ((n - i) as f64 / (i + 1) as f64).ln() + odds;
        terms.push(term);
    }
    let sum = mean_exp(&terms) * terms.len() as f64;
    sum.min(1.0)
}

/// The cascade's quality over the remote's, where it is with this confidence.
pub fn interval(pairs: &[Pair], confidence: f64) -> Interval {
    let error = (1.0 - confidence) / 2.0;
    let value = super::ratio(pairs);
    let proves_more = |ratio: f64| Evidence::new(pairs.iter().copied(), ratio).p_value() <= error;
    let counted = pairs.iter().all(|&pair| is_right_or_wrong(pair));
    let proves_less = |ratio: f64| match counted {
        true => {
            let right = pairs.iter().filter(|pair| pair.cascade == 1.0).count();
            binomial_cdf(right, pairs.len(), ratio) <= error
        }
        false => p_of_less(pairs, ratio) <= error,
    };
    Interval {
        low: last(0.0, value, proves_more),
        value,
        high: -last(-most(pairs, counted), -value, |ratio| proves_less(-ratio)),
    }
}

/// What the ratio can be at most. Where the remote may be wrong, so may be any number that we would name.
fn most(pairs: &[Pair], counted: bool) -> f64 {
    let always_right = counted || pairs.iter().all(|pair| pair.remote == 1.0);
    if always_right { 1.0 } else { 1e3 }
}

/// How likely such examples are at most, if the cascade's mean quality is `ratio` times the remote's or more.
fn p_of_less(pairs: &[Pair], ratio: f64) -> f64 {
    let wealth = STAKES.map(|stake| {
        let gains = pairs.iter().map(|pair| ratio * pair.remote - pair.cascade);
        // Never below -1: no quality is above 1.
        gains.map(|gain| (stake * gain).ln_1p()).sum()
    });
    1.0 / mean_exp(&wealth)
}

/// The share of some of all, where it is with this confidence.
pub fn share_interval(some: usize, all: usize, confidence: f64) -> Interval {
    let pairs: Vec<Pair> = (0..all)
        .map(|i| Pair {
            cascade: f64::from(u8::from(i < some)),
            remote: 1.0,
        })
        .collect();
    interval(&pairs, confidence)
}

/// The last number from `from` to `to` for which something holds that holds up to some number and no further; `from` if it
/// holds for none.
fn last(from: f64, to: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut yes, mut no) = (from, to);
    for _ in 0..60 {
        let middle = f64::midpoint(yes, no);
        // A ratio of 0 is promised by anybody, and none is below it.
        if middle == 0.0 || holds(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    yes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binomials_are_as_in_tables() {
        for (k, n, p, want) in [
            (0, 10, 0.1, 0.348_678),
            (2, 10, 0.1, 0.929_809),
            (5, 20, 0.5, 0.020_695),
            (10, 10, 0.3, 1.0),
            (3, 10, 0.0, 1.0),
            (3, 10, 1.0, 0.0),
        ] {
            let got = binomial_cdf(k, n, p);
            assert!((got - want).abs() < 1e-6, "{k} of {n} at {p}: {got}");
        }
        assert!(binomial_cdf(900, 100_000, 0.01) < 1e-3);
        assert!(binomial_cdf(0, 1_000_000, 0.5).abs() < 1e-300);
    }

    #[test]
    fn clopper_and_pearson() {
        // Known: 0 of 20 is [0, 0.1684], 8 of 10 is [0.4439, 0.9748].
        for (some, all, low, high) in [
            (0, 20, 0.0, 0.168_43),
            (8, 10, 0.443_90, 0.974_79),
            (20, 20, 0.831_57, 1.0),
        ] {
            let found = share_interval(some, all, 0.95);
            assert!((found.low - low).abs() < 1e-4, "{found:?}");
            assert!((found.high - high).abs() < 1e-4, "{found:?}");
        }
    }

    /// A repeatable stream of numbers in [0, 1).
    fn random(state: &mut u64) -> f64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[test]
    fn intervals_of_graded_qualities_hold_the_truth() {
        let mut state = 3;
        let mut missed = 0;
        for _ in 0..300 {
            let pairs: Vec<Pair> = (0..150)
                .map(|_| {
                    let remote = f64::from(u8::from(random(&mut state) < 0.8));
                    let cascade = random(&mut state).sqrt();
                    Pair { cascade, remote }
                })
                .collect();
            let found = interval(&pairs, 0.9);
            assert!(
                found.low <= found.value && found.value <= found.high,
                "{found:?}"
            );
            assert!(found.high - found.low < 0.5, "{found:?}");
            let truth = (2.0 / 3.0) / 0.8;
            missed += usize::from(!(found.low..=found.high).contains(&truth));
        }
        assert!(missed <= 30, "{missed} of 300 missed at 90 %");
    }

    #[test]
    fn evidence_can_be_replaced() {
        let pair = |cascade, remote| Pair { cascade, remote };
        let mut evidence = Evidence::new([pair(1.0, 1.0); 50].into_iter(), 0.9);
        evidence.replace(pair(1.0, 1.0), pair(0.5, 1.0));
        let mut pairs = vec![pair(1.0, 1.0); 49];
        pairs.push(pair(0.5, 1.0));
        let fresh = Evidence::new(pairs.into_iter(), 0.9);
        assert!((evidence.p_value() / fresh.p_value() - 1.0).abs() < 1e-9);
        assert!(!evidence.is_counted);
    }
}
