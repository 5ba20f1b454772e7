//! Cash over time: what has been paid by a month, and when one option has cost no more than another.
//!
//! What is bought is paid at month 0, sold for its residual value at the end of its life, and then bought again; what runs is
//! paid evenly. At the very end of a life the sale has happened and the next purchase has not.

use serde::Serialize;
use troika_base::Estimate;

use super::{Bill, Costs, Use, monthly};

/// How far [`break_even_month`] looks: fifty years. What takes longer never pays.
pub const HORIZON_MONTHS: f64 = 600.0;

/// Times closer than this, in months, are one: two lives of 36 months end together.
const SAME_TIME: f64 = 1e-9;

/// Which end of every interval counts.
type Pick = fn(Estimate) -> f64;

/// Money that changes hands at once.
#[derive(Clone, Copy, Debug)]
struct Event {
    month: f64,
    /// Received.
    sold: f64,
    /// Paid, after that.
    paid: f64,
}

/// An option's payments: at first, per month, and now and then.
struct Course {
    start: f64,
    running: f64,
    /// In order of time, up to the horizon.
    events: Vec<Event>,
}

impl Course {
    fn new(costs: &Costs, bill: &Bill, pick: Pick, horizon: f64) -> Self {
        let mut start = 0.0;
        let mut events = Vec::new();
        let mut repeat = |every: f64, sold: f64, paid: f64| {
            start += paid;
            // A life of no length would never let time pass; `Costs::check` refuses it.
            let every = every.max(1.0);
            let times = (1..).map(|n| f64::from(n) * every);
            events.extend(
                times
                    .take_while(|&month| month <= horizon)
                    .map(|month| Event { month, sold, paid }),
            );
        };
        if let Some(purchase) = &costs.purchase {
            let price = pick(purchase.usd) * f64::from(costs.count);
            repeat(purchase.lifetime_months, price * purchase.residual, price);
        }
        for once in &costs.once {
            repeat(once.serves_months, 0.0, pick(once.usd));
        }
        events.sort_by(|a, b| a.month.total_cmp(&b.month));
        Self {
            start,
            running: pick(bill.running()),
            events,
        }
    }

    /// Paid by a month, less what was received.
    fn paid_by(&self, month: f64) -> f64 {
        let now_and_then: f64 = self
            .events
            .iter()
            .take_while(|event| event.month <= month)
            .map(|event| {
                let is_end = month - event.month < SAME_TIME;
                if is_end {
                    -event.sold
                } else {
                    event.paid - event.sold
                }
            })
            .sum();
        self.start + self.running * month + now_and_then
    }
}

/// Dollars paid by the start (index 0) and by the end of each of so many months, for plots.
pub fn cumulative(costs: &Costs, usage: &Use, months: u32) -> Vec<f64> {
    let bill = monthly(costs, usage);
    let course = Course::new(costs, &bill, |e| e.value, f64::from(months));
    (0..=months)
        .map(|month| course.paid_by(f64::from(month)))
        .collect()
}

/// When one option has paid for itself against another.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct BreakEven {
    /// With all inputs in their middle; `None`: not within [`HORIZON_MONTHS`].
    pub month: Option<f64>,
    /// With every input at the end that is good for the option.
    pub earliest: Option<f64>,
    /// With every input at the end that is bad for it.
    pub latest: Option<f64>,
}

/// The first month by which `a` has cost no more than `b`, both with the same use: `Some(0.0)` if it never was dearer,
/// `None` if that takes more than [`HORIZON_MONTHS`]. Exact: cash is a line between payments, and lines are intersected.
pub fn break_even_month(a: &Costs, b: &Costs, usage: &Use) -> Option<f64> {
    break_even(a, usage, b, usage).month
}

/// The same with the interval, and with a use for each: a faster machine is busy for less of the day.
pub fn break_even(a: &Costs, usage_a: &Use, b: &Costs, usage_b: &Use) -> BreakEven {
    let (bill_a, bill_b) = (monthly(a, usage_a), monthly(b, usage_b));
    let cross = |pick_a: Pick, pick_b: Pick| {
        let a = Course::new(a, &bill_a, pick_a, HORIZON_MONTHS);
        let b = Course::new(b, &bill_b, pick_b, HORIZON_MONTHS);
        crossing(&a, &b)
    };
    BreakEven {
        month: cross(|e| e.value, |e| e.value),
        earliest: cross(|e| e.low, |e| e.high),
        latest: cross(|e| e.high, |e| e.low),
    }
}

/// The first month at which `a` has cost no more than `b`.
fn crossing(a: &Course, b: &Course) -> Option<f64> {
    let slope = a.running - b.running;
    let against = b.events.iter().map(|event| Event {
        sold: -event.sold,
        paid: -event.paid,
        ..*event
    });
    let mut events: Vec<Event> = a.events.iter().copied().chain(against).collect();
    events.sort_by(|a, b| a.month.total_cmp(&b.month));

    let mut month = 0.0;
    let mut ahead = a.start - b.start;
    if ahead < 0.0 || (ahead == 0.0 && slope <= 0.0) {
        return Some(0.0);
    }
    let mut rest = &events[..];
    loop {
        let next = rest.first().map_or(HORIZON_MONTHS, |event| event.month);
        let at_next = ahead + slope * (next - month);
        if slope < 0.0 && at_next <= 0.0 {
            return Some(month - ahead / slope);
        }
        if rest.is_empty() {
            return None;
        }
        let together = rest.partition_point(|event| event.month - next < SAME_TIME);
        let (now, later) = rest.split_at(together);
        ahead = at_next - now.iter().map(|event| event.sold).sum::<f64>();
        if ahead <= 0.0 {
            return Some(next);
        }
        ahead += now.iter().map(|event| event.paid).sum::<f64>();
        if ahead <= 0.0 {
            return Some(next);
        }
        month = next;
        rest = later;
    }
}
