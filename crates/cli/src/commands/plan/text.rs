//! A plan for people: the table, the reasons of the losers, every number of one candidate.

use std::fmt::Write as _;

use troika_base::Estimate;
use troika_planner::cost::Term;
use troika_planner::plan::{BreakEven, Plan, Verdict};
use troika_planner::tco::{Flip, Side};

use crate::output::{self, Align, number, table};

/// Others that the best is compared with.
const COMPARED: usize = 5;
/// Inputs that are named for each other way.
const FLIPS: usize = 3;
/// Width at which names are cut.
const NAME_WIDTH: usize = 46;

/// The answer: who is left, in order, and why the others lost.
pub(super) fn answer(plan: &Plan, shown: usize) -> String {
    let winners: Vec<_> = plan.winners().collect();
    let mut out = String::new();
    match winners.first() {
        Some(best) => {
            let _ = writeln!(out, "{}\n", sentence(best));
            out.push_str(&overview(&winners[..winners.len().min(shown)]));
            if winners.len() > shown {
                let _ = writeln!(out, "… and {} more: `--all`", winners.len() - shown);
            }
            out.push_str(&comparison(best, &winners));
            out.push_str(&turns(plan));
            out.push_str(&risks(best));
        }
        None => out.push_str(
            "Nothing does all that is wanted. The nearest, and what each of them lacks:\n",
        ),
    }
    losers(&mut out, plan, shown);
    out
}

/// The answer in one sentence.
fn sentence(best: &Verdict) -> String {
    let way = match best.place {
        troika_planner::plan::Place::Here => "Stay with",
        troika_planner::plan::Place::Buy => "Buy",
        troika_planner::plan::Place::Rent => "Rent",
        troika_planner::plan::Place::BuyAndRent => "Combine",
    };
    let speed = best
        .tps()
        .map_or_else(String::new, |tps| format!(", {} tok/s", spread(tps)));
    let month = best
        .usd_month()
        .map_or_else(String::new, |usd| format!(", {} USD a month", spread(usd)));
    format!(
        "{way} {}: {} {}{speed}{month}.",
        best.name, best.model, best.quantization
    )
}

/// One row for each.
pub(super) fn overview(verdicts: &[&Verdict]) -> String {
    let heading = [
        "",
        "candidate",
        "model",
        "memory GB",
        "tok/s",
        "TTFT s",
        "W",
        "J/token",
        "USD now",
        "USD/month",
        "USD/M tokens",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(
        (1..)
            .zip(verdicts)
            .map(|(rank, verdict)| row(rank, verdict)),
    );
    use Align::{Left, Right};
    table(
        [
            Right, Left, Left, Right, Right, Right, Right, Right, Right, Right, Right,
        ],
        &rows,
    )
}

fn row(rank: usize, verdict: &Verdict) -> [String; 11] {
    let dash = || "-".to_owned();
    let value =
        |estimate: Option<Estimate>| estimate.map_or_else(dash, |estimate| number(estimate.value));
    let range = |estimate: Option<Estimate>| estimate.map_or_else(dash, spread);
    let memory = verdict
        .forecast
        .as_ref()
        .map(|forecast| forecast.memory.total());
    let of = |bytes: Option<u64>| bytes.map_or_else(dash, |bytes| number(bytes as f64 / 1e9));
    [
        rank.to_string(),
        output::line(&verdict.name, NAME_WIDTH),
        format!(
            "{} {}",
            output::line(&verdict.model, 24),
            verdict.quantization
        ),
        format!("{} of {}", of(memory), of(verdict.memory_bytes)),
        range(verdict.tps()),
        range(verdict.ttft_s()),
        value(verdict.watts()),
        value(
            verdict
                .forecast
                .as_ref()
                .and_then(|forecast| forecast.joules_per_token),
        ),
        verdict
            .start_usd()
            .map_or_else(dash, |usd| format!("{usd:.0}")),
        range(verdict.usd_month()),
        value(verdict.usd_per_million()),
    ]
}

/// When the best has paid for itself against the others, or they against it.
fn comparison(best: &Verdict, winners: &[&Verdict]) -> String {
    let mut out = String::new();
    for (own, other) in best.break_even.iter().zip(&winners[1..]).take(COMPARED) {
        let theirs = other
            .break_even
            .iter()
            .find(|theirs| theirs.against == best.name);
        let name = output::line(&other.name, NAME_WIDTH);
        let catches_up = theirs
            .and_then(|theirs| theirs.time.month)
            .filter(|&month| month > 0.0);
        let line = match (own.time.month, catches_up) {
            (Some(month), _) if month > 0.0 => {
                format!("has cost no more than {name} after {}", months(own))
            }
            (Some(_), Some(_)) => format!(
                "is overtaken by {name} after {}",
                theirs.map_or_else(String::new, months)
            ),
            (Some(_), None) => format!("is never dearer than {name}"),
            (None, _) => format!("never catches up with {name}"),
        };
        let _ = writeln!(out, "  {line}");
    }
    match out.is_empty() {
        true => out,
        false => format!(
            "\nAgainst the others, {}\n{out}",
            output::line(&best.name, NAME_WIDTH)
        ),
    }
}

/// What would turn the answer, for each other way to come by hardware.
fn turns(plan: &Plan) -> String {
    let mut out = String::new();
    for turn in &plan.turns {
        let against = output::line(&turn.against, NAME_WIDTH);
        let flips: Vec<_> = turn.flips.iter().take(FLIPS).map(flip).collect();
        let _ = match flips.is_empty() {
            true => writeln!(out, "  {against}: nothing in its plausible range"),
            false => writeln!(out, "  {against}: {}", flips.join(", ")),
        };
    }
    match out.is_empty() {
        true => out,
        false => format!("\nWhat would turn the answer (each alone)\n{out}"),
    }
}

/// `its rent of an hour 2.00 → 0.61 USD/h`.
fn flip(flip: &Flip) -> String {
    let whose = match flip.side {
        Side::A => "",
        Side::B => "its ",
        Side::Both => "",
    };
    format!(
        "{whose}{} {} → {} {}",
        flip.input,
        number(flip.now),
        number(flip.at),
        flip.unit
    )
}

/// `14.2 (9.9–31.0) months`.
fn months(other: &BreakEven) -> String {
    let middle = other.time.month.map_or_else(|| "-".to_owned(), number);
    match (other.time.earliest, other.time.latest) {
        (Some(earliest), Some(latest)) => {
            format!("{middle} ({}–{}) months", number(earliest), number(latest))
        }
        _ => format!("{middle} months"),
    }
}

fn risks(verdict: &Verdict) -> String {
    let mut out = String::new();
    if !verdict.risks.is_empty() {
        out.push_str("\nKnow before you decide:\n");
    }
    for risk in &verdict.risks {
        let _ = writeln!(out, "  - {}", output::line(&risk.what, 160));
    }
    out
}

fn losers(out: &mut String, plan: &Plan, shown: usize) {
    let count = plan.losers().count();
    if count == 0 {
        return;
    }
    out.push_str("\nLost:\n");
    let rows: Vec<_> = plan
        .losers()
        .take(shown)
        .map(|(verdict, lost)| {
            [
                format!("  {}", output::line(&verdict.name, NAME_WIDTH)),
                output::line(&lost.reason, 160),
            ]
        })
        .collect();
    out.push_str(&table([Align::Left, Align::Left], &rows));
    if count > shown {
        let _ = writeln!(out, "  … and {} more: `--all`", count - shown);
    }
}

/// Every number of a candidate.
pub(super) fn explanation(verdict: &Verdict) -> String {
    let mut out = format!(
        "{}: {} {}\n",
        verdict.name, verdict.model, verdict.quantization
    );
    match &verdict.lost {
        Some(lost) => drop(writeln!(out, "lost: {}", lost.reason)),
        None => out.push_str("does all that is wanted\n"),
    }
    if let Some(source) = &verdict.calibrated {
        let _ = writeln!(out, "calibrated by {}", output::line(source, 120));
    }
    let all = verdict.terms();
    if !all.is_empty() {
        out.push('\n');
        out.push_str(&terms(&all));
    }
    if let Some(outlay) = &verdict.outlay
        && !outlay.checks.is_empty()
    {
        out.push_str("\nChecks:\n");
        out.push_str(&super::build::checks(outlay));
    }
    out.push_str(&risks(verdict));
    for risk in &verdict.risks {
        let _ = writeln!(out, "    {}", output::line(&risk.source, 120));
    }
    out
}

/// Terms in columns.
pub(super) fn terms(terms: &[Term]) -> String {
    let heading = ["number", "value", "unit", "formula", "source"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(terms.iter().map(|term| {
        [
            output::line(&term.name, 36),
            number(term.value),
            term.unit.to_owned(),
            output::line(&term.formula, 100),
            output::line(&term.source, 80),
        ]
    }));
    use Align::{Left, Right};
    table([Left, Right, Left, Left, Left], &rows)
}

/// `12.3 (9.8–15.1)`.
pub(super) fn spread(estimate: Estimate) -> String {
    match estimate.low == estimate.high {
        true => number(estimate.value),
        false => format!(
            "{} ({}–{})",
            number(estimate.value),
            number(estimate.low),
            number(estimate.high)
        ),
    }
}
