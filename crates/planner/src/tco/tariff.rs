//! What data out costs, exactly: decimals, by tiers.

use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive as _, ToPrimitive as _};

use crate::catalogue;

/// A price up to a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tier {
    /// Where it ends, in GB a month counted from the first; the last tier has no end.
    pub up_to_gb: Option<Decimal>,
    /// Dollars for each GB in it.
    pub usd_gb: Decimal,
}

/// Prices of a month's data to one destination.
///
/// Tiers count from the first GB of the month. What is free is the beginning of the first tiers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tariff {
    free_gb: Decimal,
    tiers: Vec<Tier>,
}

/// Why a tariff is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TariffError {
    /// No tier at all.
    #[error("a tariff has at least one price")]
    Empty,
    /// A figure below zero.
    #[error("{what} is {value}, and cannot be negative")]
    Negative {
        /// `the price of tier 2`.
        what: String,
        /// What it is.
        value: Decimal,
    },
    /// Bounds that do not rise.
    #[error("tier {index} ends at {up_to_gb} GB, which is not above the end of the tier before it")]
    Order {
        /// From 1.
        index: usize,
        /// Where it ends.
        up_to_gb: Decimal,
    },
    /// Only the last tier has no end.
    #[error("tier {index} has no end, but others follow it")]
    Endless {
        /// From 1.
        index: usize,
    },
    /// The last tier has to have none, or some volumes have no price.
    #[error("the last tier ends at {up_to_gb} GB: what is beyond has no price; leave its end out")]
    Ends {
        /// Where it ends.
        up_to_gb: Decimal,
    },
    /// Neither `PRICE` nor `GB:PRICE`.
    #[error(
        "{text:?} is no tier: write UP_TO_GB:USD, and the last without its end, as in 10240:0.09,0.05"
    )]
    Text {
        /// What was read.
        text: String,
    },
}

impl Tariff {
    /// A tariff of these tiers, with the first `free_gb` of a month free.
    ///
    /// # Errors
    /// If a figure is negative, or the tiers do not rise from zero to no end.
    pub fn new(free_gb: Decimal, tiers: Vec<Tier>) -> Result<Self, TariffError> {
        let negative = |what: String, value: Decimal| match value.is_sign_negative() {
            true => Err(TariffError::Negative { what, value }),
            false => Ok(()),
        };
        negative("what is free".to_owned(), free_gb)?;
        let last = tiers.len().checked_sub(1).ok_or(TariffError::Empty)?;
        let mut from = Decimal::ZERO;
        for (i, tier) in tiers.iter().enumerate() {
            let index = i + 1;
            negative(format!("the price of tier {index}"), tier.usd_gb)?;
            match tier.up_to_gb {
                None if i < last => return Err(TariffError::Endless { index }),
                None => {}
                Some(up_to_gb) if up_to_gb <= from => {
                    return Err(TariffError::Order { index, up_to_gb });
                }
                Some(up_to_gb) if i == last => return Err(TariffError::Ends { up_to_gb }),
                Some(up_to_gb) => from = up_to_gb,
            }
        }
        Ok(Self { free_gb, tiers })
    }

    /// One price for all.
    ///
    /// # Errors
    /// If it is negative.
    pub fn flat(usd_gb: Decimal) -> Result<Self, TariffError> {
        let tier = Tier {
            up_to_gb: None,
            usd_gb,
        };
        Self::new(Decimal::ZERO, vec![tier])
    }

    /// The same with so many GB free.
    ///
    /// # Errors
    /// If that is negative.
    pub fn with_free(self, free_gb: Decimal) -> Result<Self, TariffError> {
        Self::new(free_gb, self.tiers)
    }

    /// GB a month that cost nothing.
    pub fn free_gb(&self) -> Decimal {
        self.free_gb
    }

    /// The parts of a month's volume that have a price: GB, dollars for each. What is free is in none of them.
    pub fn parts(&self, gb: Decimal) -> Vec<(Decimal, Decimal)> {
        let mut from = self.free_gb;
        let mut parts = Vec::new();
        for tier in &self.tiers {
            let to = tier.up_to_gb.map_or(gb, |up_to_gb| up_to_gb.min(gb));
            if to > from {
                parts.push((to - from, tier.usd_gb));
                from = to;
            }
        }
        parts
    }

    /// Dollars for so many GB in a month, exactly; `None` where the product has more digits than a [`Decimal`].
    pub fn usd(&self, gb: Decimal) -> Option<Decimal> {
        self.parts(gb)
            .into_iter()
            .try_fold(Decimal::ZERO, |sum, (gb, usd_gb)| {
                sum.checked_add(gb.checked_mul(usd_gb)?)
            })
    }

    /// The same from and to the nearest `f64`; a volume beyond all decimals costs infinitely much.
    pub fn usd_f64(&self, gb: f64) -> f64 {
        decimal(gb)
            .and_then(|gb| self.usd(gb)?.to_f64())
            .unwrap_or(f64::INFINITY)
    }
}

impl TryFrom<&catalogue::Egress> for Tariff {
    type Error = TariffError;

    /// The tariff of a row, its figures as they are written there.
    fn try_from(row: &catalogue::Egress) -> Result<Self, TariffError> {
        let figure = |value: f64| {
            decimal(value).ok_or_else(|| TariffError::Text {
                text: value.to_string(),
            })
        };
        let tiers = row.tiers.iter().map(|tier| {
            Ok(Tier {
                up_to_gb: tier.up_to_gb.map(figure).transpose()?,
                usd_gb: figure(tier.usd_gb)?,
            })
        });
        let tiers = tiers.collect::<Result<_, TariffError>>()?;
        Self::new(figure(row.free_gb_month.unwrap_or(0.0))?, tiers)
    }
}

/// `10240:0.09,51200:0.085,0.05`: ends and prices, the last without an end.
impl FromStr for Tariff {
    type Err = TariffError;

    fn from_str(text: &str) -> Result<Self, TariffError> {
        let tier = |text: &str| {
            let number = |text: &str| Decimal::from_str_exact(text.trim()).ok();
            let (up_to_gb, usd_gb) = match text.split_once(':') {
                Some((end, price)) => (Some(number(end)?), number(price)?),
                None => (None, number(text)?),
            };
            Some(Tier { up_to_gb, usd_gb })
        };
        let tiers: Result<Vec<_>, _> = text
            .split(',')
            .map(|text| {
                let text = text.trim();
                tier(text).ok_or_else(|| TariffError::Text {
                    text: text.to_owned(),
                })
            })
            .collect();
        Self::new(Decimal::ZERO, tiers?)
    }
}

/// The decimal that a number was written as: of `0.09` the ninth part of a hundred, not the nearest fraction of a power of
/// two. `None` if it is not finite or has no place in a [`Decimal`].
pub fn decimal(value: f64) -> Option<Decimal> {
    Decimal::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS to the internet in June 2026 (C121 of the checked claims): 100 GB free, then 0.09, 0.085, 0.07, 0.05.
    const AWS: &str = "10240:0.09,51200:0.085,153600:0.07,0.05";

    fn d(text: &str) -> Decimal {
        text.parse().expect("is a decimal")
    }

    #[test]
    fn tiers_are_billed_to_the_last_digit() {
        let aws: Tariff = AWS.parse().expect("is a tariff");
        let aws = aws.with_free(d("100")).expect("is one still");
        for (gb, usd) in [
            ("0", "0"),
            ("99.999", "0"),
            ("100", "0"),
            ("101", "0.09"),
            ("100.000001", "0.00000009"),
            ("1000", "81"),
            ("10240", "912.6"),
            ("10241", "912.685"),
            // 10,140 · 0.09 + 40,960 · 0.085 + 102,400 · 0.07 + 46,400 · 0.05.
            ("200000", "13882.2"),
        ] {
            assert_eq!(aws.usd(d(gb)), Some(d(usd)), "{gb} GB");
        }
        assert_eq!(aws.usd_f64(1000.0), 81.0);
        assert_eq!(aws.usd_f64(f64::INFINITY), f64::INFINITY);
    }

    #[test]
    fn rows_of_the_catalogue_are_tariffs() {
        for row in catalogue::Catalogue::builtin().egress() {
            let tariff = Tariff::try_from(row).unwrap_or_else(|error| panic!("{row:?}: {error}"));
            let first = row.tiers[0].usd_gb;
            let free = row.free_gb_month.unwrap_or(0.0);
            for (gb, usd) in [(0.0, 0.0), (free, 0.0), (free + 1.0, first)] {
                assert!((tariff.usd_f64(gb) - usd).abs() <= 1e-9, "{row:?} at {gb}");
            }
        }
    }

    #[test]
    fn what_is_free_may_reach_into_the_second_tier() {
        let tariff: Tariff = "10:1,2".parse().expect("is a tariff");
        let tariff = tariff.with_free(d("15")).expect("is one still");
        assert_eq!(tariff.usd(d("15")), Some(d("0")));
        assert_eq!(tariff.parts(d("20")), [(d("5"), d("2"))]);
    }

    #[test]
    fn tariffs_that_are_none_are_refused() {
        for (text, want) in [
            ("", "\"\" is no tier"),
            ("10240:0.09", "the last tier ends at 10240 GB"),
            ("0.09,0.05", "tier 1 has no end"),
            ("50:0.09,40:0.08,0.05", "tier 2 ends at 40 GB"),
            ("0:0.09,0.05", "tier 1 ends at 0 GB"),
            ("10:-0.09,0.05", "the price of tier 1 is -0.09"),
            ("10:x,0.05", "\"10:x\" is no tier"),
            ("1e400", "\"1e400\" is no tier"),
        ] {
            let error = text.parse::<Tariff>().expect_err(text).to_string();
            assert!(error.starts_with(want), "{text}: {error}");
        }
        assert!(Tariff::flat(d("-1")).is_err());
    }
}
