//! What is paid beside hardware, rent and electricity: data out, people's time, cooling, and a training that serves for long.
//!
//! What is not said is not paid. `crate::tco` adds it up.

use serde::{Deserialize, Serialize};

use super::WorkloadError;
use crate::catalogue::Destination;

/// Expenses that a person names; the same in a form and in a workload.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expenses {
    /// GB a month that leave a cloud, where one is rented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_gb_month: Option<f64>,
    /// Where to; the internet where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_to: Option<Destination>,
    /// Hours a month that people spend on hardware of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staff_hours_month: Option<f64>,
    /// US dollars that such an hour costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staff_usd_hour: Option<f64>,
    /// What the place of one's own hardware draws for each watt of it: 1 at home, 1.3 to 1.5 in many data centres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pue: Option<f64>,
    /// US dollars of a training that comes before the first day, wherever the model runs then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_usd: Option<f64>,
    /// Months until it is done again; never where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_months: Option<f64>,
}

impl Expenses {
    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, with what they leave out taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            egress_gb_month: self.egress_gb_month.or(other.egress_gb_month),
            egress_to: self.egress_to.or(other.egress_to),
            staff_hours_month: self.staff_hours_month.or(other.staff_hours_month),
            staff_usd_hour: self.staff_usd_hour.or(other.staff_usd_hour),
            pue: self.pue.or(other.pue),
            training_usd: self.training_usd.or(other.training_usd),
            training_months: self.training_months.or(other.training_months),
        }
    }

    /// Whether they make sense.
    ///
    /// # Errors
    /// If a number is out of its range, or one is given without the other that it needs.
    pub(super) fn check(&self) -> Result<(), WorkloadError> {
        const NOT_NEGATIVE: &str = "it has to be a number from 0 up";
        const POSITIVE: &str = "it has to be a number above 0";
        type Holds = fn(f64) -> bool;
        let from_zero = |value: f64| value.is_finite() && value >= 0.0;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let ranges: [(_, _, Holds, _); 6] = [
            (
                "egress_gb_month",
                self.egress_gb_month,
                from_zero,
                NOT_NEGATIVE,
            ),
            (
                "staff_hours_month",
                self.staff_hours_month,
                from_zero,
                NOT_NEGATIVE,
            ),
            (
                "staff_usd_hour",
                self.staff_usd_hour,
                from_zero,
                NOT_NEGATIVE,
            ),
            (
                "pue",
                self.pue,
                |pue| (1.0..=3.0).contains(&pue),
                "it has to be from 1 to 3",
            ),
            ("training_usd", self.training_usd, from_zero, NOT_NEGATIVE),
            ("training_months", self.training_months, positive, POSITIVE),
        ];
        for (field, value, holds, want) in ranges {
            if let Some(value) = value.filter(|&value| !holds(value)) {
                return Err(WorkloadError::OutOfRange { field, value, want });
            }
        }
        let egress_to = self.egress_to.map(|_| 0.0);
        let pairs = [
            (
                "staff_hours_month",
                self.staff_hours_month,
                "staff_usd_hour",
                self.staff_usd_hour,
            ),
            (
                "staff_usd_hour",
                self.staff_usd_hour,
                "staff_hours_month",
                self.staff_hours_month,
            ),
            (
                "training_months",
                self.training_months,
                "training_usd",
                self.training_usd,
            ),
            (
                "egress_to",
                egress_to,
                "egress_gb_month",
                self.egress_gb_month,
            ),
        ];
        for (field, value, needs, other) in pairs {
            if value.is_some() && other.is_none() {
                return Err(WorkloadError::Incomplete { field, needs });
            }
        }
        Ok(())
    }
}
