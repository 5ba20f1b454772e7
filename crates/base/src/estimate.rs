//! A number that is predicted, with the interval in which it is meant to fall.

use serde::{Deserialize, Serialize};

/// A predicted value: of ten such predictions, eight measurements are meant to lie between `low` and `high`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Estimate {
    /// The middle: as many measurements are meant to lie above as below.
    pub value: f64,
    /// One in ten lies below.
    pub low: f64,
    /// One in ten lies above.
    pub high: f64,
}

impl Estimate {
    /// A value known exactly.
    pub fn exact(value: f64) -> Self {
        Self {
            value,
            low: value,
            high: value,
        }
    }

    /// A value with a relative spread: between `value / spread` and `value * spread`.
    ///
    /// # Panics
    /// If `spread` is below 1.
    pub fn within(value: f64, spread: f64) -> Self {
        assert!(
            spread >= 1.0,
            "a spread of {spread} is an empty interval. This is a bug."
        );
        Self {
            value,
            low: value / spread,
            high: value * spread,
        }
    }

    /// The estimate of a quantity that grows with this one: each end mapped.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            value: f(self.value),
            low: f(self.low),
            high: f(self.high),
        }
    }

    /// The estimate of a quantity that falls as this one grows: time from speed, cost from tokens.
    pub fn map_inverse(self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            value: f(self.value),
            low: f(self.high),
            high: f(self.low),
        }
    }

    /// The sum of two that may both be off to the same side.
    pub fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            low: self.low + other.low,
            high: self.high + other.high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_change_places_when_the_quantity_falls() {
        let speed = Estimate::within(100.0, 1.25);
        let time = speed.map_inverse(|tps| 1.0 / tps);
        assert!(time.low < time.value && time.value < time.high);
        assert_eq!(time.low, 1.0 / 125.0);
    }
}
