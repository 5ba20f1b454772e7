//! What loads need of chance beyond [`Chance`].

use rand_pcg::Pcg64Mcg;

use crate::chance::Chance;

/// Numbers of turns and of tokens, by chance.
pub(super) trait Spread: Chance {
    /// How often something is done that goes on with the same likelihood each time, at least once, `mean` times on average.
    fn times(&mut self, mean: f64) -> u32 {
        if mean <= 1.0 {
            return 1;
        }
        let goes_on = (1.0 - 1.0 / mean).ln();
        1 + ((1.0 - self.unit()).ln() / goes_on) as u32
    }

    /// What has `median` in its middle and whose logarithm is spread normally by `sigma`.
    fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        // Box and Muller; the second of their pair is not needed.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.unit()).cos();
        median * (sigma * normal).exp()
    }
}

impl Spread for Pcg64Mcg {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::chance;

    #[test]
    fn numbers_are_spread_as_they_should() {
        let mut dice = chance(1, 0);
        let count = 40_000;
        let mean = |draw: &mut dyn FnMut() -> f64| {
            (0..count).map(|_| draw()).sum::<f64>() / f64::from(count)
        };
        let near =
            |value: f64, want: f64| assert!((value / want - 1.0).abs() < 0.03, "{value} {want}");
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
}
