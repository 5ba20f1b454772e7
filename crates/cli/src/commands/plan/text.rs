//! A plan for people: the table, the reasons of the losers, every number of one candidate.

use std::collections::HashMap;
use std::fmt::Write as _;

use troika_base::Estimate;
use troika_planner::cost::Term;
use troika_planner::plan::{BreakEven, Place, Plan, Verdict};
use troika_planner::tco::{Flip, Side};

use crate::output::{self, Align, number, table};

/// Others that the best is compared with.
const COMPARED: usize = 5;
/// Inputs that are named for each other way.
const FLIPS: usize = 3;
/// Width at which names are cut.
const NAME_WIDTH: usize = 34;
/// Losers that are named with one reason.
const NAMES_MAX: usize = 4;
/// Width of a page.
const WIDTH: usize = 100;

/// The answer: who is left, in order, and why the others lost.
pub(super) fn answer(plan: &Plan, shown: usize) -> String {
    let winners: Vec<_> = plan.winners().collect();
    let mut out = String::new();
    match winners.first() {
        Some(best) => {
            out.push_str(&output::wrapped(&sentence(best), 0, WIDTH));
            out.push('\n');
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
        Place::Here => "Stay with",
        Place::Buy => "Buy",
        Place::Rent => "Rent",
        Place::BuyAndRent => "Combine",
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
fn overview(verdicts: &[&Verdict]) -> String {
    let heading = [
        "",
        "",
        "candidate",
        "model",
        "GB",
        "tok/s",
        "TTFT s",
        "W",
        "J/tok",
        "USD now",
        "USD/month",
        "USD/Mtok",
    ];
    // What all of them run stands in the sentence above.
    let runs = |verdict: &Verdict| (verdict.model.clone(), verdict.quantization.clone());
    let alike = verdicts
        .windows(2)
        .all(|pair| runs(pair[0]) == runs(pair[1]));
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(
        (1..)
            .zip(verdicts)
            .map(|(rank, verdict)| row(rank, verdict)),
    );
    if alike {
        for row in &mut rows {
            row[3].clear();
        }
    }
    use Align::{Left, Right};
    table(
        [
            Right, Left, Left, Left, Right, Right, Right, Right, Right, Right, Right, Right,
        ],
        &rows,
    )
}

/// Numbers without their intervals, but for the speed: `--explain` has them all.
fn row(rank: usize, verdict: &Verdict) -> [String; 12] {
    let dash = || "-".to_owned();
    let value =
        |estimate: Option<Estimate>| estimate.map_or_else(dash, |estimate| number(estimate.value));
    let forecast = verdict.forecast.as_ref();
    let memory = forecast.map(|forecast| forecast.memory.total() as f64 / 1e9);
    [
        rank.to_string(),
        verdict.place.name().to_owned(),
        output::ends(&verdict.name, NAME_WIDTH),
        format!(
            "{} {}",
            output::line(&verdict.model, 24),
            verdict.quantization
        ),
        memory.map_or_else(dash, number),
        verdict.tps().map_or_else(dash, spread),
        value(verdict.ttft_s()),
        value(verdict.watts()),
        value(forecast.and_then(|forecast| forecast.joules_per_token)),
        verdict
            .start_usd()
            .map_or_else(dash, |usd| format!("{usd:.0}")),
        value(verdict.usd_month()),
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
        let name = output::ends(&other.name, NAME_WIDTH);
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
            output::ends(&best.name, NAME_WIDTH)
        ),
    }
}

/// What would turn the answer, for each other way to come by hardware.
fn turns(plan: &Plan) -> String {
    let mut out = String::new();
    for turn in &plan.turns {
        let against = output::line(&turn.against, NAME_WIDTH);
        let flips: Vec<_> = turn.flips.iter().take(FLIPS).map(flip).collect();
        let what = match flips.is_empty() {
            true => "nothing in its plausible range".to_owned(),
            false => flips.join(", "),
        };
        out.push_str(&output::wrapped(&format!("{against}: {what}"), 2, WIDTH));
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
        out.push_str(&item(&risk.what));
    }
    out
}

/// `  - text`, in as many lines as it takes.
pub(super) fn item(text: &str) -> String {
    let mut lines = output::wrapped(text, 4, WIDTH);
    lines.replace_range(2..3, "-");
    lines
}

/// Losers with their reasons, this machine's first. Those that lost for the same reason stand together.
fn losers(out: &mut String, plan: &Plan, shown: usize) {
    let (here, others): (Vec<_>, Vec<_>) = plan
        .losers()
        .partition(|(verdict, _)| verdict.place == Place::Here);
    let all = here.iter().chain(&others);
    out.push_str(&reasons(
        all.map(|(verdict, lost)| (verdict.name.as_str(), lost.reason.as_str())),
        shown,
    ));
}

/// Names by reason, in the order in which they come, `shown` reasons at most.
pub(super) fn reasons<'n>(
    losers: impl Iterator<Item = (&'n str, &'n str)>,
    shown: usize,
) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut place = HashMap::new();
    for (name, reason) in losers {
        let at = *place.entry(reason).or_insert(groups.len());
        if at == groups.len() {
            groups.push((reason, Vec::new()));
        }
        groups[at].1.push(name);
    }
    let mut out = String::new();
    if !groups.is_empty() {
        out.push_str("\nLost:\n");
    }
    for (reason, names) in groups.iter().take(shown) {
        let most = if shown == usize::MAX {
            shown
        } else {
            NAMES_MAX
        };
        let mut who = names[..names.len().min(most)].join("; ");
        if names.len() > most {
            let _ = write!(who, "; and {} more", names.len() - most);
        }
        out.push_str(&output::wrapped(&who, 2, WIDTH));
        out.push_str(&output::wrapped(reason, 6, WIDTH));
    }
    let rest: usize = groups
        .iter()
        .skip(shown)
        .map(|(_, names)| names.len())
        .sum();
    if rest > 0 {
        let _ = writeln!(out, "  … and {rest} more");
    }
    out
}

/// Every number of a candidate.
pub(super) fn explanation(verdict: &Verdict) -> String {
    let mut out = format!(
        "{}: {} {}\n",
        verdict.name, verdict.model, verdict.quantization
    );
    match &verdict.lost {
        Some(lost) => out.push_str(&output::wrapped(
            &format!("lost: {}", lost.reason),
            0,
            WIDTH,
        )),
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
    if !verdict.risks.is_empty() {
        out.push_str("\nKnow before you decide:\n");
    }
    for risk in &verdict.risks {
        out.push_str(&item(&format!("{} ({})", risk.what, risk.source)));
    }
    out
}

/// Terms, each with its formula below it; sources by number, since many come from one.
pub(super) fn terms(terms: &[Term]) -> String {
    let mut sources: Vec<&str> = Vec::new();
    let mut rows = vec![["number", "value", "unit", "source"].map(str::to_owned)];
    for term in terms {
        let known = sources.iter().position(|source| *source == term.source);
        let at = known.unwrap_or_else(|| {
            sources.push(&term.source);
            sources.len() - 1
        });
        rows.push([
            output::line(&term.name, 60),
            number(term.value),
            term.unit.to_owned(),
            format!("[{}]", at + 1),
        ]);
    }
    use Align::{Left, Right};
    let heads = table([Left, Right, Left, Left], &rows);
    let mut heads = heads.lines();
    let mut out = format!("{}\n", heads.next().unwrap_or_default());
    for (head, term) in heads.zip(terms) {
        let _ = writeln!(out, "{head}");
        out.push_str(&output::wrapped(&format!("= {}", term.formula), 4, WIDTH));
    }
    out.push('\n');
    for (at, source) in (1..).zip(sources) {
        let _ = writeln!(out, "[{at}] {}", output::line(source, 160));
    }
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losers_of_one_reason_stand_together() {
        let names: Vec<_> = (0..6).map(|n| format!("n{n}")).collect();
        let mut losers: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), "is rented"))
            .collect();
        losers.insert(1, ("late", "is slow"));
        losers.push(("last", "is dear"));
        assert_eq!(
            reasons(losers.iter().copied(), 2),
            "\nLost:\n  n0; n1; n2; n3; and 2 more\n      is rented\n  late\n      is slow\n  … and 1 more\n"
        );
        assert_eq!(reasons(std::iter::empty(), 2), "");
    }

    #[test]
    fn a_source_is_told_once() {
        let term = |name: &str, source: &str| Term {
            name: name.to_owned(),
            value: 1.5,
            unit: "GB",
            formula: "3 / 2".to_owned(),
            source: source.to_owned(),
        };
        let text = terms(&[term("a", "x"), term("b", "y"), term("c", "x")]);
        assert!(
            text.contains("c        1.50  GB    [1]\n    = 3 / 2\n"),
            "{text}"
        );
        assert!(text.ends_with("\n[1] x\n[2] y\n"), "{text}");
    }
}
