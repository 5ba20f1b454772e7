//! Money: what it costs to own a machine, to rent one, and to run either for a given use.
//!
//! [`Costs`] say what an option is paid for with, [`Use`] what it has to do, [`monthly`] adds up the [`Bill`]. [`cumulative`]
//! and [`break_even`] follow the cash over time, [`sensitivity`] asks which input would turn the answer round.
//!
//! The formula is the known one: capital / lifetime + kWh · overhead · price + data out · tariff + hours · rent + staff.
//! Amounts are US dollars in `f64`, since most inputs are estimates and carry their intervals through; [`Tariff`] alone counts
//! in decimals, as a bill does. All costs and the use are those of *one* machine, and [`Costs::count`] multiplies them; what a
//! provider adds up over a whole account, which is data out, is tiered on the sum.

mod bill;
mod cash;
mod check;
mod sensitivity;
mod tariff;

use serde::Serialize;
use troika_base::Estimate;

pub use self::bill::{Bill, monthly};
pub use self::cash::{BreakEven, HORIZON_MONTHS, break_even, break_even_month, cumulative};
pub use self::check::Nonsense;
pub use self::sensitivity::{Flip, Side, sensitivity};
pub use self::tariff::{Tariff, TariffError, Tier, decimal};

#[cfg(test)]
mod tests;

/// Days in a month, on average: 24 of their hours make the 730 that clouds bill as a month.
pub const DAYS_PER_MONTH: f64 = 365.0 / 12.0;

/// Hours that a provider bills as a month.
pub const HOURS_PER_MONTH: f64 = 730.0;

/// What an option costs. What does not apply is absent.
#[derive(Clone, PartialEq, Debug)]
pub struct Costs {
    /// `dual RTX 3090, bought`.
    pub name: String,
    /// Machines of this kind; at least 1.
    pub count: u32,
    /// What is bought.
    pub purchase: Option<Purchase>,
    /// Electricity that is paid for; rent includes it.
    pub power: Option<Power>,
    /// What is rented.
    pub rent: Option<Rent>,
    /// Data that leaves a cloud, by destination.
    pub egress: Vec<Egress>,
    /// People's time.
    pub staff: Option<Staff>,
    /// What is paid once and serves for long: training, setting up.
    pub once: Vec<Once>,
}

impl Costs {
    /// One machine that costs nothing yet.
    pub fn free(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            count: 1,
            purchase: None,
            power: None,
            rent: None,
            egress: Vec::new(),
            staff: None,
            once: Vec::new(),
        }
    }
}

/// A machine that is bought.
#[derive(Clone, PartialEq, Debug)]
pub struct Purchase {
    /// Price of one.
    pub usd: Estimate,
    /// Months until it is sold and replaced; at least 1.
    pub lifetime_months: f64,
    /// Share of the price that it is sold for then: 0 to 1.
    pub residual: f64,
    /// `price of 2026-11-21`, `given`.
    pub source: String,
}

/// The power of one machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Power {
    /// Watts at rest.
    pub idle_w: Estimate,
    /// Watts while reading prompts.
    pub prefill_w: Estimate,
    /// Watts while writing answers.
    pub decode_w: Estimate,
    /// What cooling and losses add, as a share: 0 at home, 0.3 to 0.5 in many data centres. PUE less 1.
    pub overhead: f64,
    /// Price of a kilowatt-hour.
    pub usd_kwh: Estimate,
    /// `measured here`, `TDP and fit of 2026-11-21`.
    pub source: String,
}

/// What a provider bills whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum BillingUnit {
    Second,
    Minute,
    Hour,
    Month,
}

impl BillingUnit {
    /// Its length; a month has [`HOURS_PER_MONTH`].
    pub fn seconds(self) -> f64 {
        match self {
            Self::Second => 1.0,
            Self::Minute => 60.0,
            Self::Hour => 3600.0,
            Self::Month => HOURS_PER_MONTH * 3600.0,
        }
    }
}

/// A node that is rented.
#[derive(Clone, PartialEq, Debug)]
pub struct Rent {
    /// Price of the whole node for an hour, not of one of its chips.
    pub node_usd_hour: Estimate,
    /// What is billed whole.
    pub unit: BillingUnit,
    /// The least that is billed each time it is switched on, in seconds.
    pub minimum_s: f64,
    /// Share of the hours that is paid twice: 0, or on a spot node the work that is lost when it is taken back.
    pub redone: f64,
    /// `nebius, 2026-11-21`.
    pub source: String,
}

/// Data that leaves a cloud for one destination.
#[derive(Clone, PartialEq, Debug)]
pub struct Egress {
    /// `internet`, `region`, `zone`.
    pub destination: String,
    /// Price by volume.
    pub tariff: Tariff,
    /// GB a month of one machine.
    pub gb_month: Estimate,
    /// `aws, 2026-11-21`.
    pub source: String,
}

/// People who look after the machines.
#[derive(Clone, PartialEq, Debug)]
pub struct Staff {
    /// Hours a month, however many machines there are.
    pub hours_month: f64,
    /// Hours a month for each machine.
    pub hours_month_each: f64,
    /// What an hour costs.
    pub usd_hour: f64,
}

/// A sum that is paid once for the whole option, however many machines there are, and serves for a time.
#[derive(Clone, PartialEq, Debug)]
pub struct Once {
    /// `training`, `installation`.
    pub name: String,
    /// The sum.
    pub usd: Estimate,
    /// Months until it is paid again; infinite for what is done once and for ever.
    pub serves_months: f64,
}

/// What one machine has to do.
#[derive(Clone, PartialEq, Debug)]
pub struct Use {
    /// Requests a day.
    pub requests_per_day: f64,
    /// Tokens of a prompt.
    pub prompt_tokens: f64,
    /// Tokens of an answer.
    pub answer_tokens: f64,
    /// Seconds that a request keeps the machine reading; of requests side by side, each has its share.
    pub prefill_s: Estimate,
    /// Seconds that a request keeps the machine writing.
    pub decode_s: Estimate,
    /// Hours a day that the machine is switched on: it rests when it is not busy.
    pub hours_per_day: f64,
    /// How often a day it is switched on; a provider rounds each time up. 1 also stands for always on.
    pub starts_per_day: f64,
    /// Days of use a month: [`DAYS_PER_MONTH`], 30, or 21 working days.
    pub days_per_month: f64,
}

impl Use {
    /// On round the clock and never asked anything.
    pub fn idle() -> Self {
        Self {
            requests_per_day: 0.0,
            prompt_tokens: 0.0,
            answer_tokens: 0.0,
            prefill_s: Estimate::exact(0.0),
            decode_s: Estimate::exact(0.0),
            hours_per_day: 24.0,
            starts_per_day: 1.0,
            days_per_month: DAYS_PER_MONTH,
        }
    }

    /// Share of its hours that the machine is busy; above 1 it does not keep up.
    pub fn busy_share(&self) -> Estimate {
        let seconds_on = self.hours_per_day * 3600.0;
        self.prefill_s
            .plus(self.decode_s)
            .map(|seconds| self.requests_per_day * seconds / seconds_on)
    }

    /// Tokens a month, of prompts and answers.
    pub fn tokens_per_month(&self) -> f64 {
        (self.prompt_tokens + self.answer_tokens) * self.requests_per_day * self.days_per_month
    }
}
