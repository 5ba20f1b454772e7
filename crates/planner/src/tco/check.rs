//! Whether costs and a use make sense: what is out of range, and which pair contradicts.

use troika_base::Estimate;

use super::{Costs, Use};

/// An input that makes no sense.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Nonsense {
    /// A figure out of its range.
    #[error("{what} is {value}; it must be {range}")]
    OutOfRange {
        /// `the purchase price`.
        what: &'static str,
        /// What it is.
        value: f64,
        /// `zero or more`.
        range: &'static str,
    },
    /// An interval that is turned round, or does not hold its own middle.
    #[error("{what} is {value}, which is not between its low {low} and its high {high}")]
    Interval {
        /// `the price of a kilowatt-hour`.
        what: &'static str,
        /// The middle.
        value: f64,
        /// The low end.
        low: f64,
        /// The high end.
        high: f64,
    },
    /// An option that is paid with nothing.
    #[error("{name} is neither bought nor rented, and costs nothing to run: give a price")]
    CostsNothing {
        /// The option's name.
        name: String,
    },
    /// More work than hours.
    #[error(
        "{requests_per_day} requests a day keep the machine busy for {busy_h:.1} h, but it is on for {on_h} h a day"
    )]
    DoesNotKeepUp {
        /// As given.
        requests_per_day: f64,
        /// Hours of work a day.
        busy_h: f64,
        /// As given.
        on_h: f64,
    },
}

const NOT_NEGATIVE: &str = "zero or more";
const SHARE: &str = "from 0 to 1";

impl Costs {
    /// Whether they make sense.
    ///
    /// # Errors
    /// The first figure that does not.
    pub fn check(&self) -> Result<(), Nonsense> {
        within(
            "the number of machines",
            f64::from(self.count),
            1.0,
            f64::MAX,
            "1 or more",
        )?;
        if let Some(purchase) = &self.purchase {
            amount("the purchase price", purchase.usd)?;
            let months = purchase.lifetime_months;
            within("the lifetime in months", months, 1.0, f64::MAX, "1 or more")?;
            within("the residual share", purchase.residual, 0.0, 1.0, SHARE)?;
        }
        if let Some(power) = &self.power {
            amount("the power at rest", power.idle_w)?;
            amount("the power while reading", power.prefill_w)?;
            amount("the power while writing", power.decode_w)?;
            amount("the price of a kilowatt-hour", power.usd_kwh)?;
            let range = "from 0 to 4, such as 0.3 for a PUE of 1.3";
            within("the overhead", power.overhead, 0.0, 4.0, range)?;
        }
        if let Some(rent) = &self.rent {
            amount("the rent of an hour", rent.node_usd_hour)?;
            within(
                "the least that is billed",
                rent.minimum_s,
                0.0,
                f64::MAX,
                NOT_NEGATIVE,
            )?;
            within(
                "the share of work that is redone",
                rent.redone,
                0.0,
                1.0,
                SHARE,
            )?;
        }
        for egress in &self.egress {
            amount("the data out", egress.gb_month)?;
        }
        if let Some(staff) = &self.staff {
            for hours in [staff.hours_month, staff.hours_month_each] {
                within("the staff's hours", hours, 0.0, f64::MAX, NOT_NEGATIVE)?;
            }
            within(
                "the staff's rate",
                staff.usd_hour,
                0.0,
                f64::MAX,
                NOT_NEGATIVE,
            )?;
        }
        for once in &self.once {
            amount("what is paid once", once.usd)?;
            let months = once.serves_months;
            within(
                "the months that it serves",
                months,
                1.0,
                f64::INFINITY,
                "1 or more",
            )?;
        }
        self.costs_something()
    }

    fn costs_something(&self) -> Result<(), Nonsense> {
        let nothing = self.purchase.is_none()
            && self.rent.is_none()
            && self.power.is_none()
            && self.once.is_empty();
        match nothing {
            true => Err(Nonsense::CostsNothing {
                name: self.name.clone(),
            }),
            false => Ok(()),
        }
    }
}

impl Use {
    /// Whether it makes sense, and fits into the hours of a day.
    ///
    /// # Errors
    /// The first figure that does not, or the pair that contradicts.
    pub fn check(&self) -> Result<(), Nonsense> {
        for (what, value) in [
            ("the number of requests a day", self.requests_per_day),
            ("the prompt's length", self.prompt_tokens),
            ("the answer's length", self.answer_tokens),
        ] {
            within(what, value, 0.0, f64::MAX, NOT_NEGATIVE)?;
        }
        amount("the time of reading", self.prefill_s)?;
        amount("the time of writing", self.decode_s)?;
        let range = "above 0, up to 24";
        within(
            "the hours a day",
            self.hours_per_day,
            f64::MIN_POSITIVE,
            24.0,
            range,
        )?;
        within(
            "the starts a day",
            self.starts_per_day,
            1.0,
            86_400.0,
            "from 1 to 86400",
        )?;
        within(
            "the days a month",
            self.days_per_month,
            1.0,
            31.0,
            "from 1 to 31",
        )?;
        let busy = self.busy_share();
        match busy.value > 1.0 {
            true => Err(Nonsense::DoesNotKeepUp {
                requests_per_day: self.requests_per_day,
                busy_h: busy.value * self.hours_per_day,
                on_h: self.hours_per_day,
            }),
            false => Ok(()),
        }
    }
}

/// An amount that is not negative, with an interval around it.
fn amount(what: &'static str, estimate: Estimate) -> Result<(), Nonsense> {
    let Estimate { value, low, high } = estimate;
    for value in [value, low, high] {
        within(what, value, 0.0, f64::MAX, NOT_NEGATIVE)?;
    }
    match low <= value && value <= high {
        true => Ok(()),
        false => Err(Nonsense::Interval {
            what,
            value,
            low,
            high,
        }),
    }
}

fn within(
    what: &'static str,
    value: f64,
    min: f64,
    max: f64,
    range: &'static str,
) -> Result<(), Nonsense> {
    // NaN is within nothing.
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(Nonsense::OutOfRange { what, value, range }),
    }
}
