//! Numbers by chance, from a seed.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// A sequence of numbers by chance that is always the same.
pub(super) struct Dice(Pcg64);

impl Dice {
    /// The sequence of a seed; each `number` has one of its own.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        // An odd factor with well mixed bits, so that neighbours do not begin alike.
        Self(Pcg64::seed_from_u64(
            seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ))
    }

    /// From 0, included, to 1, excluded; every value equally likely.
    pub(super) fn share(&mut self) -> f64 {
        // 53 bits are what an f64 holds.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to `count`, excluded.
    pub(super) fn below(&mut self, count: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(count)) >> 32) as u32
    }

    /// Waiting for what happens at any moment alike, `mean` apart.
    pub(super) fn wait(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// How often something is done that goes on with the same likelihood each time, at least once, `mean` times on average.
    pub(super) fn times(&mut self, mean: f64) -> u32 {
        if mean <= 1.0 {
            return 1;
        }
        let goes_on = (1.0 - 1.0 / mean).ln();
        1 + ((1.0 - self.share()).ln() / goes_on) as u32
    }

    /// What has `median` in its middle and whose logarithm is spread normally by `sigma`.
    pub(super) fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        // Box and Muller; the second of their pair is not needed.
        let radius = (-2.0 * (1.0 - self.share()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.share()).cos();
        median * (sigma * normal).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_as_they_should() {
        let mut dice = Dice::new(1, 0);
        let count = 40_000;
        let mean = |draw: &mut dyn FnMut() -> f64| {
            (0..count).map(|_| draw()).sum::<f64>() / f64::from(count)
        };
        let near =
            |value: f64, want: f64| assert!((value / want - 1.0).abs() < 0.03, "{value} {want}");
        near(mean(&mut || dice.share()), 0.5);
        near(mean(&mut || f64::from(dice.below(5))), 2.0);
        near(mean(&mut || dice.wait(3.0)), 3.0);
        near(mean(&mut || f64::from(dice.times(4.0))), 4.0);
        assert_eq!(dice.times(1.0), 1);
        // The mean of a lognormal lies above its median, by the exponential of half its variance.
        near(
            mean(&mut || dice.lognormal(100.0, 0.5)),
            100.0 * 0.125_f64.exp(),
        );
        let mut lengths: Vec<_> = (0..count).map(|_| dice.lognormal(100.0, 0.8)).collect();
        lengths.sort_by(f64::total_cmp);
        near(lengths[count as usize / 2], 100.0);
    }

    #[test]
    fn each_number_has_a_sequence_of_its_own() {
        let first = |seed, number| Dice::new(seed, number).share();
        assert_eq!(first(7, 0), first(7, 0));
        assert!(first(7, 0) != first(7, 1) && first(7, 0) != first(8, 0));
    }
}
