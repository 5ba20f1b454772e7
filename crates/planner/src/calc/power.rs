//! Watts over time: kilowatt-hours, money, hours on a battery.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;

/// Something that draws power for some hours of some days.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PowerUse {
    /// What it draws.
    pub watts: Decimal,
    /// For how long a day.
    pub hours_per_day: Decimal,
    /// On how many days a month; absent for a twelfth of a year.
    pub days_per_month: Option<Decimal>,
    /// What a kilowatt-hour costs.
    pub usd_kwh: Option<Decimal>,
    /// What a battery holds.
    pub battery_wh: Option<Decimal>,
}

/// What that comes to. Figures are exact where they end, and to six decimals where they do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct PowerCost {
    /// Kilowatt-hours a day.
    #[serde(with = "rust_decimal::serde::float")]
    pub kwh_day: Decimal,
    /// Kilowatt-hours a month.
    #[serde(with = "rust_decimal::serde::float")]
    pub kwh_month: Decimal,
    /// Kilowatt-hours a year.
    #[serde(with = "rust_decimal::serde::float")]
    pub kwh_year: Decimal,
    /// Dollars a month, where a price is given.
    #[serde(with = "rust_decimal::serde::float_option")]
    pub usd_month: Option<Decimal>,
    /// Dollars a year.
    #[serde(with = "rust_decimal::serde::float_option")]
    pub usd_year: Option<Decimal>,
    /// Hours until the battery is empty, of which nothing is left in reserve.
    #[serde(with = "rust_decimal::serde::float_option")]
    pub battery_hours: Option<Decimal>,
}

/// Figures whose product has more digits than can be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the result has more than 28 digits")]
pub struct TooLarge;

impl PowerUse {
    /// What that comes to.
    ///
    /// # Errors
    /// If the result has too many digits.
    pub fn cost(&self) -> Result<PowerCost, TooLarge> {
        self.checked().ok_or(TooLarge)
    }

    fn checked(&self) -> Option<PowerCost> {
        let twelve = Decimal::from(12);
        let kwh_day = self
            .watts
            .checked_mul(self.hours_per_day)?
            .checked_div(Decimal::from(1000))?;
        let (kwh_month, kwh_year) = match self.days_per_month {
            Some(days) => {
                let month = kwh_day.checked_mul(days)?;
                (month, month.checked_mul(twelve)?)
            }
            None => {
                let year = kwh_day.checked_mul(Decimal::from(365))?;
                (year.checked_div(twelve)?, year)
            }
        };
        let price = |kwh: Decimal| match self.usd_kwh {
            Some(usd_kwh) => kwh.checked_mul(usd_kwh).map(Some),
            None => Some(None),
        };
        let battery_hours = match self.battery_wh {
            // What draws nothing lasts for ever, which is no number of hours.
            Some(_) if self.watts.is_zero() => None,
            Some(wh) => Some(wh.checked_div(self.watts)?),
            None => None,
        };
        Some(PowerCost {
            kwh_day: short(kwh_day),
            kwh_month: short(kwh_month),
            kwh_year: short(kwh_year),
            usd_month: price(kwh_month)?.map(short),
            usd_year: price(kwh_year)?.map(short),
            battery_hours: battery_hours.map(short),
        })
    }
}

fn short(value: Decimal) -> Decimal {
    value
        .round_dp_with_strategy(6, RoundingStrategy::MidpointAwayFromZero)
        .normalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        text.parse().expect("is a decimal")
    }

    fn usage(watts: &str, hours: &str) -> PowerUse {
        PowerUse {
            watts: d(watts),
            hours_per_day: d(hours),
            days_per_month: None,
            usd_kwh: None,
            battery_wh: None,
        }
    }

    /// C103, C104: 700 W for 720 h are 504 kWh, 50.40 to 151.20 dollars at 10 to 30 cents.
    #[test]
    fn a_month_at_full_load() {
        for (price, usd) in [("0.10", "50.4"), ("0.15", "75.6"), ("0.30", "151.2")] {
            let cost = PowerUse {
                days_per_month: Some(d("30")),
                usd_kwh: Some(d(price)),
                ..usage("700", "24")
            };
            let cost = cost.cost().expect("is short");
            assert_eq!(cost.kwh_month, d("504"));
            assert_eq!(cost.usd_month, Some(d(usd)));
            assert_eq!(cost.kwh_year, d("6048"));
        }
    }

    #[test]
    fn a_month_is_a_twelfth_of_a_year() {
        let cost = usage("100", "10").cost().expect("is short");
        assert_eq!(cost.kwh_day, d("1"));
        assert_eq!(cost.kwh_month, d("30.416667"));
        assert_eq!(cost.kwh_year, d("365"));
        assert_eq!((cost.usd_month, cost.battery_hours), (None, None));
    }

    /// C147: 34.1 W on a battery of 60 to 80 Wh is about two hours, not minutes.
    #[test]
    fn batteries_last() {
        for (wh, hours) in [("60", "1.759531"), ("80", "2.346041")] {
            let usage = PowerUse {
                battery_wh: Some(d(wh)),
                ..usage("34.1", "1")
            };
            assert_eq!(
                usage.cost().expect("is short").battery_hours,
                Some(d(hours))
            );
        }
        let idle = PowerUse {
            battery_wh: Some(d("60")),
            ..usage("0", "1")
        };
        assert_eq!(idle.cost().expect("is short").battery_hours, None);
    }

    #[test]
    fn too_many_digits_are_told() {
        let huge = usage("79228162514264337593543950335", "24");
        assert_eq!(huge.cost(), Err(TooLarge));
    }
}
