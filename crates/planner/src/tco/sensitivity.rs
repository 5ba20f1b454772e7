//! Which input turns the answer round, and at which value.
//!
//! Each input is moved alone, down and up, through the range in which it may plausibly lie. Where the cheaper option of two
//! changes, the place is narrowed down by halving. An input is said to move by the share of the way to the end of its range,
//! on a logarithmic scale for amounts, so that dollars, hours and shares can be put in one order.

use serde::Serialize;
use troika_base::Estimate;

use super::{Costs, Power, Purchase, Rent, Use, monthly};

/// Whose input it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The first option's.
    A,
    /// The second option's.
    B,
    /// The use that both are put to.
    Both,
}

/// A value at which the other option becomes the cheaper one.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Flip {
    /// `price of a kilowatt-hour`.
    pub input: &'static str,
    /// Whose.
    pub side: Side,
    /// What it is now.
    pub now: f64,
    /// Where the answer turns.
    pub at: f64,
    /// `USD/kWh`.
    pub unit: &'static str,
    /// The range that was searched.
    pub range: (f64, f64),
    /// How far it has to move: 0 is not at all, 1 is to the end of its range.
    pub moved: f64,
}

/// Two options and what both are used for, each on its own machine's times.
#[derive(Clone)]
struct Case {
    costs: [Costs; 2],
    usage: [Use; 2],
}

impl Case {
    /// What the first costs more than the second in a month.
    fn difference(&self) -> f64 {
        let total = |i: usize| monthly(&self.costs[i], &self.usage[i]).total.value;
        total(0) - total(1)
    }
}

/// How an input's range follows from its value.
#[derive(Clone, Copy)]
enum Range {
    /// From the value divided by the factor to the value times it.
    Factor(f64),
    /// Between bounds, and on a logarithmic scale.
    Amount(f64, f64),
    /// Between bounds, and on a linear scale.
    Share(f64, f64),
}

/// An input of one option, or of the use.
struct Input {
    name: &'static str,
    unit: &'static str,
    range: Range,
    get: fn(&Costs, &Use) -> Option<f64>,
    set: fn(&mut Costs, &mut Use, f64),
}

/// Inputs that the two options share: moved in both at once.
const SHARED: &[Input] = &[
    Input {
        name: "requests a day",
        unit: "requests/day",
        range: Range::Factor(100.0),
        get: |_, usage| Some(usage.requests_per_day),
        set: |_, usage, value| usage.requests_per_day = value,
    },
    Input {
        name: "hours a day",
        unit: "h/day",
        range: Range::Amount(0.25, 24.0),
        get: |_, usage| Some(usage.hours_per_day),
        set: |_, usage, value| usage.hours_per_day = value,
    },
    Input {
        name: "price of a kilowatt-hour",
        unit: "USD/kWh",
        range: Range::Amount(0.03, 0.80),
        get: |costs, _| costs.power.as_ref().map(|power| power.usd_kwh.value),
        set: |costs, _, value| on_power(costs, |power| rescale(&mut power.usd_kwh, value)),
    },
];

/// Inputs of one option.
const OWN: &[Input] = &[
    Input {
        name: "purchase price",
        unit: "USD",
        range: Range::Factor(3.0),
        get: |costs, _| costs.purchase.as_ref().map(|purchase| purchase.usd.value),
        set: |costs, _, value| on_purchase(costs, |purchase| rescale(&mut purchase.usd, value)),
    },
    Input {
        name: "lifetime",
        unit: "months",
        range: Range::Amount(12.0, 96.0),
        get: |costs, _| {
            costs
                .purchase
                .as_ref()
                .map(|purchase| purchase.lifetime_months)
        },
        set: |costs, _, value| on_purchase(costs, |purchase| purchase.lifetime_months = value),
    },
    Input {
        name: "residual share",
        unit: "of the price",
        range: Range::Share(0.0, 0.8),
        get: |costs, _| costs.purchase.as_ref().map(|purchase| purchase.residual),
        set: |costs, _, value| on_purchase(costs, |purchase| purchase.residual = value),
    },
    Input {
        name: "power at rest",
        unit: "W",
        range: Range::Factor(3.0),
        get: |costs, _| costs.power.as_ref().map(|power| power.idle_w.value),
        set: |costs, _, value| on_power(costs, |power| rescale(&mut power.idle_w, value)),
    },
    Input {
        name: "power while writing",
        unit: "W",
        range: Range::Factor(2.0),
        get: |costs, _| costs.power.as_ref().map(|power| power.decode_w.value),
        set: |costs, _, value| on_power(costs, |power| rescale(&mut power.decode_w, value)),
    },
    Input {
        name: "overhead of the place",
        unit: "of the power",
        range: Range::Share(0.0, 1.0),
        get: |costs, _| costs.power.as_ref().map(|power| power.overhead),
        set: |costs, _, value| on_power(costs, |power| power.overhead = value),
    },
    Input {
        name: "rent of an hour",
        unit: "USD/h",
        range: Range::Factor(4.0),
        get: |costs, _| costs.rent.as_ref().map(|rent| rent.node_usd_hour.value),
        set: |costs, _, value| on_rent(costs, |rent| rescale(&mut rent.node_usd_hour, value)),
    },
    Input {
        name: "data out",
        unit: "GB/month",
        range: Range::Factor(100.0),
        get: |costs, _| costs.egress.first().map(|egress| egress.gb_month.value),
        set: |costs, _, value| {
            if let Some(egress) = costs.egress.first_mut() {
                rescale(&mut egress.gb_month, value);
            }
        },
    },
    Input {
        name: "staff's hours",
        unit: "h/month",
        range: Range::Share(0.0, 40.0),
        get: |costs, _| costs.staff.as_ref().map(|staff| staff.hours_month),
        set: |costs, _, value| {
            if let Some(staff) = &mut costs.staff {
                staff.hours_month = value;
            }
        },
    },
];

/// Every input that turns the answer round within its plausible range, the one that has to move least first.
///
/// The answer is which of the two has the lower bill of a month. `usage` is for each option with the times of its machine;
/// what both share is moved in both. An input that is absent or zero, and whose range hangs on it, is not moved.
pub fn sensitivity(a: &Costs, usage_a: &Use, b: &Costs, usage_b: &Use) -> Vec<Flip> {
    let case = Case {
        costs: [a.clone(), b.clone()],
        usage: [usage_a.clone(), usage_b.clone()],
    };
    let shared = SHARED.iter().map(|input| (input, Side::Both));
    let own = OWN
        .iter()
        .flat_map(|input| [(input, Side::A), (input, Side::B)]);
    let mut flips: Vec<Flip> = shared
        .chain(own)
        .filter_map(|(input, side)| flip(&case, input, side))
        .collect();
    flips.sort_by(|a, b| a.moved.total_cmp(&b.moved));
    flips
}

fn flip(case: &Case, input: &Input, side: Side) -> Option<Flip> {
    let sides: &[usize] = match side {
        Side::A => &[0],
        Side::B => &[1],
        Side::Both => &[0, 1],
    };
    let now = sides
        .iter()
        .find_map(|&i| (input.get)(&case.costs[i], &case.usage[i]))?;
    let scale = Scale::of(input.range, now)?;
    let difference = |value: f64| {
        let mut moved = case.clone();
        for &i in sides {
            (input.set)(&mut moved.costs[i], &mut moved.usage[i], value);
        }
        let keeps_up = moved
            .usage
            .iter()
            .all(|usage| usage.busy_share().value <= 1.0);
        // A load that a machine cannot bear is no answer to what is cheaper.
        keeps_up.then(|| moved.difference())
    };
    let nearest = [scale.low, scale.high]
        .into_iter()
        .filter_map(|end| scale.search(now, end, difference))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    let (moved, at) = nearest?;
    Some(Flip {
        input: input.name,
        side,
        now,
        at,
        unit: input.unit,
        range: (scale.low, scale.high),
        moved,
    })
}

/// A range, and how steps in it are spaced.
struct Scale {
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Scale {
    /// The scale around a value; none where the value itself gives none.
    fn of(range: Range, now: f64) -> Option<Self> {
        let (low, high, is_logarithmic) = match range {
            Range::Factor(factor) => (now / factor, now * factor, true),
            Range::Amount(low, high) => (low.min(now), high.max(now), true),
            Range::Share(low, high) => (low.min(now), high.max(now), false),
        };
        let is_usable = now.is_finite() && (!is_logarithmic || now > 0.0);
        is_usable.then_some(Self {
            low,
            high,
            is_logarithmic,
        })
    }

    /// The value a share of the way from one to another.
    fn between(&self, from: f64, to: f64, share: f64) -> f64 {
        match self.is_logarithmic {
            true => from * (to / from).powf(share),
            false => from + (to - from) * share,
        }
    }

    /// The nearest value on the way from `now` to `end` at which the sign changes, and the share of the way to it.
    fn search(
        &self,
        now: f64,
        end: f64,
        difference: impl Fn(f64) -> Option<f64>,
    ) -> Option<(f64, f64)> {
        /// Fine enough to see a tariff's tiers and the steps of a billing unit.
        const STEPS: u32 = 64;
        const HALVINGS: u32 = 60;
        if now == end {
            return None;
        }
        let at = |share: f64| difference(self.between(now, end, share)).map(|d| d > 0.0);
        let is_dearer = at(0.0)?;
        let mut same = 0.0;
        for step in 1..=STEPS {
            let share = f64::from(step) / f64::from(STEPS);
            if at(share)? == is_dearer {
                same = share;
                continue;
            }
            let mut other = share;
            for _ in 0..HALVINGS {
                let middle = f64::midpoint(same, other);
                if at(middle)? == is_dearer {
                    same = middle;
                } else {
                    other = middle;
                }
            }
            return Some((other, self.between(now, end, other)));
        }
        None
    }
}

/// Moves an estimate to another value; its interval keeps its relative width.
fn rescale(estimate: &mut Estimate, value: f64) {
    let factor = value / estimate.value;
    *estimate = match factor.is_finite() {
        true => estimate.map(|end| end * factor),
        false => Estimate::exact(value),
    };
}

fn on_purchase(costs: &mut Costs, change: impl FnOnce(&mut Purchase)) {
    if let Some(purchase) = &mut costs.purchase {
        change(purchase);
    }
}

fn on_power(costs: &mut Costs, change: impl FnOnce(&mut Power)) {
    if let Some(power) = &mut costs.power {
        change(power);
    }
}

fn on_rent(costs: &mut Costs, change: impl FnOnce(&mut Rent)) {
    if let Some(rent) = &mut costs.rent {
        change(rent);
    }
}
