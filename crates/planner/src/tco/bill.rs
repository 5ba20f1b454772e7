//! The bill of a month, line by line.

use serde::Serialize;
use troika_base::Estimate;

use super::{Costs, HOURS_PER_MONTH, Power, Rent, Use};
use crate::cost::Term;

/// What a month costs, in US dollars, for all machines of the option together.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Bill {
    /// Purchases less what they are sold for, and what is paid once, spread over the months that they serve.
    pub capital: Estimate,
    /// Electricity.
    pub electricity: Estimate,
    /// Rent.
    pub rent: Estimate,
    /// Data out.
    pub egress: Estimate,
    /// People's time.
    pub staff: Estimate,
    /// All of it.
    pub total: Estimate,
    /// Kilowatt-hours a month, overhead included.
    pub kwh: Estimate,
    /// Dollars per million tokens, prompts and answers together; absent where there are none.
    pub per_million_tokens: Option<Estimate>,
    /// Dollars per million tokens of answers, which bear the whole cost; absent where there are none.
    pub per_million_answer_tokens: Option<Estimate>,
    /// How it was added up.
    pub lines: Vec<Term>,
}

impl Bill {
    /// What is paid month by month: all but the capital.
    pub fn running(&self) -> Estimate {
        self.electricity
            .plus(self.rent)
            .plus(self.egress)
            .plus(self.staff)
    }
}

const USD_MONTH: &str = "USD/month";
const ZERO: Estimate = Estimate {
    value: 0.0,
    low: 0.0,
    high: 0.0,
};

/// The bill of a month.
///
/// Inputs are taken as they are; [`Costs::check`] and [`Use::check`] say whether they make sense.
pub fn monthly(costs: &Costs, usage: &Use) -> Bill {
    let mut lines = Vec::new();
    let capital = capital(costs, &mut lines);
    let (kwh, electricity) = match &costs.power {
        Some(power) => electricity(costs, power, usage, &mut lines),
        None => (ZERO, ZERO),
    };
    let rent = match &costs.rent {
        Some(rent) => rented(costs, rent, usage, &mut lines),
        None => ZERO,
    };
    let egress = egress(costs, &mut lines);
    let staff = staff(costs, &mut lines);
    let total = capital
        .plus(electricity)
        .plus(rent)
        .plus(egress)
        .plus(staff);
    let machines = f64::from(costs.count);
    let per_million = |tokens: f64| {
        let millions = tokens * machines / 1e6;
        (millions > 0.0).then(|| total.map(|usd| usd / millions))
    };
    let answers = usage.answer_tokens * usage.requests_per_day * usage.days_per_month;
    Bill {
        capital,
        electricity,
        rent,
        egress,
        staff,
        total,
        kwh,
        per_million_tokens: per_million(usage.tokens_per_month()),
        per_million_answer_tokens: per_million(answers),
        lines,
    }
}

fn capital(costs: &Costs, lines: &mut Vec<Term>) -> Estimate {
    let mut sum = ZERO;
    if let Some(purchase) = &costs.purchase {
        let machines = f64::from(costs.count);
        let lost = 1.0 - purchase.residual;
        let month = purchase
            .usd
            .map(|usd| usd * lost * machines / purchase.lifetime_months);
        let formula = format!(
            "{} × {} USD × (1 - {} sold for at the end) / {} months",
            costs.count,
            amount(purchase.usd.value),
            amount(purchase.residual),
            amount(purchase.lifetime_months)
        );
        lines.push(line("purchase", formula, month, &purchase.source));
        sum = sum.plus(month);
    }
    for once in &costs.once {
        let month = once.usd.map(|usd| usd / once.serves_months);
        let formula = match once.serves_months.is_finite() {
            true => format!(
                "{} USD / {} months",
                amount(once.usd.value),
                amount(once.serves_months)
            ),
            false => format!("{} USD once, for ever", amount(once.usd.value)),
        };
        lines.push(line(&once.name, formula, month, "given"));
        sum = sum.plus(month);
    }
    sum
}

/// Kilowatt-hours and dollars: watts of each phase times the hours spent in it, at rest for the remainder.
fn electricity(
    costs: &Costs,
    power: &Power,
    usage: &Use,
    lines: &mut Vec<Term>,
) -> (Estimate, Estimate) {
    let machines = f64::from(costs.count);
    let requests = usage.requests_per_day * usage.days_per_month;
    let hours_on = usage.hours_per_day * usage.days_per_month;
    let [prefill_h, decode_h] =
        [usage.prefill_s, usage.decode_s].map(|s| s.map(|s| s * requests / 3600.0));
    let idle_h = |prefill_h: f64, decode_h: f64| (hours_on - prefill_h - decode_h).max(0.0);
    // The more it works the less it rests, so that an end of the interval is an end of all of its parts.
    let kwh = |pick: fn(Estimate) -> f64| {
        let (prefill_h, decode_h) = (pick(prefill_h), pick(decode_h));
        let watt_hours = pick(power.prefill_w) * prefill_h
            + pick(power.decode_w) * decode_h
            + pick(power.idle_w) * idle_h(prefill_h, decode_h);
        watt_hours / 1e3 * (1.0 + power.overhead) * machines
    };
    let ends = [kwh(|e| e.value), kwh(|e| e.low), kwh(|e| e.high)];
    let kwh = Estimate {
        value: ends[0],
        // A machine that draws less at work than at rest turns them round.
        low: ends.into_iter().fold(f64::INFINITY, f64::min),
        high: ends.into_iter().fold(0.0, f64::max),
    };
    let usd = times(kwh, power.usd_kwh);
    let formula = format!(
        "{} × ({} W reading × {} h + {} W writing × {} h + {} W at rest × {} h) × {} overhead",
        costs.count,
        amount(power.prefill_w.value),
        amount(prefill_h.value),
        amount(power.decode_w.value),
        amount(decode_h.value),
        amount(power.idle_w.value),
        amount(idle_h(prefill_h.value, decode_h.value)),
        amount(1.0 + power.overhead)
    );
    lines.push(Term {
        name: "energy".to_owned(),
        formula,
        value: kwh.value,
        unit: "kWh/month",
        source: power.source.clone(),
    });
    let formula = format!(
        "{} kWh × {} USD",
        amount(kwh.value),
        amount(power.usd_kwh.value)
    );
    lines.push(line("electricity", formula, usd, &power.source));
    (kwh, usd)
}

/// Hours of one node that are billed in a month: each start rounded up to the unit, and to no less than the minimum.
pub(super) fn billed_hours(rent: &Rent, usage: &Use) -> f64 {
    if usage.hours_per_day <= 0.0 {
        return 0.0;
    }
    let unit_s = rent.unit.seconds();
    if rent.unit == super::BillingUnit::Month {
        return HOURS_PER_MONTH;
    }
    let twice = 1.0 + rent.redone;
    // On round the clock is one start, however long the month.
    let (starts, start_s) = if usage.hours_per_day >= 24.0 {
        (1.0, usage.days_per_month * 86_400.0)
    } else {
        let starts = usage.starts_per_day.max(1.0) * usage.days_per_month;
        (
            starts,
            usage.hours_per_day * 3600.0 / usage.starts_per_day.max(1.0),
        )
    };
    // A hair's breadth of rounding is not another hour.
    let units = (start_s * twice / unit_s - 1e-9).ceil().max(0.0);
    starts * (units * unit_s).max(rent.minimum_s) / 3600.0
}

fn rented(costs: &Costs, rent: &Rent, usage: &Use, lines: &mut Vec<Term>) -> Estimate {
    let hours = billed_hours(rent, usage);
    let month = rent
        .node_usd_hour
        .map(|usd| usd * hours * f64::from(costs.count));
    let formula = format!(
        "{} nodes × {} h billed × {} USD/h",
        costs.count,
        amount(hours),
        amount(rent.node_usd_hour.value)
    );
    lines.push(line("rent", formula, month, &rent.source));
    month
}

fn egress(costs: &Costs, lines: &mut Vec<Term>) -> Estimate {
    let mut sum = ZERO;
    for egress in &costs.egress {
        // The account's volume, not the machine's, climbs the tiers.
        let gb = egress.gb_month.map(|gb| gb * f64::from(costs.count));
        let month = gb.map(|gb| egress.tariff.usd_f64(gb));
        let formula = format!(
            "{} GB to {}, {} GB of them free, by tiers",
            amount(gb.value),
            egress.destination,
            egress.tariff.free_gb()
        );
        lines.push(line("data out", formula, month, &egress.source));
        sum = sum.plus(month);
    }
    sum
}

fn staff(costs: &Costs, lines: &mut Vec<Term>) -> Estimate {
    let Some(staff) = &costs.staff else {
        return ZERO;
    };
    let hours = staff.hours_month + staff.hours_month_each * f64::from(costs.count);
    let month = Estimate::exact(hours * staff.usd_hour);
    let formula = format!("{} h × {} USD", amount(hours), amount(staff.usd_hour));
    lines.push(line("staff", formula, month, "given"));
    month
}

fn line(name: &str, formula: String, month: Estimate, source: &str) -> Term {
    Term {
        name: name.to_owned(),
        formula,
        value: month.value,
        unit: USD_MONTH,
        source: source.to_owned(),
    }
}

/// The product of two that are not negative, and may both be off to the same side.
fn times(a: Estimate, b: Estimate) -> Estimate {
    Estimate {
        value: a.value * b.value,
        low: a.low * b.low,
        high: a.high * b.high,
    }
}

/// A figure in a formula: up to four decimals, and no more than it has.
fn amount(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
