//! `troika plan build`: parts lists for a budget, what each would run, and whether its parts go together.

use std::fmt::Write as _;

use troika_planner::plan::build::{Outlay, Sort};
use troika_planner::plan::verdict::Verdict;
use troika_planner::plan::workload::{Acquire, Form};
use troika_planner::plan::{self, Question};

use super::text::spread;
use super::{Desk, wrong_use};
use crate::exit::WrongUse;
use crate::output::{self, Align, Console, number, table};

/// Budgets where none is given: those of a mini PC, a laptop, and a computer with two GPUs.
const BUDGETS_USD: [f64; 3] = [800.0, 2500.0, 4000.0];

/// Parts lists for a budget, with what each would run and how fast
///
/// `--budget` says how much; without it, lists for 800, 2500 and 4000 USD.
#[derive(Debug, clap::Args)]
pub(super) struct BuildArgs {
    #[command(flatten)]
    pub(super) asked: super::AskedArgs,
    /// Lists of each kind that are shown
    #[arg(long, value_name = "N", default_value_t = 1)]
    each: usize,
}

/// A list with the verdict on what is built from it.
#[derive(serde::Serialize)]
struct Build {
    budget_usd: f64,
    sort: Sort,
    verdict: Verdict,
}

pub(super) fn run(args: &BuildArgs, desk: &Desk, console: &Console) -> anyhow::Result<()> {
    let budgets = match desk.form.budget_usd {
        Some(budget) => vec![budget],
        None => BUDGETS_USD.to_vec(),
    };
    if matches!(desk.form.acquire, Some(Acquire::Own | Acquire::Rent)) {
        return Err(
            WrongUse("a parts list is for buying: leave `--acquire` out".to_owned()).into(),
        );
    }
    let mut builds = Vec::new();
    for &budget in &budgets {
        builds.extend(of_budget(args, desk, budget)?);
    }
    if console.json {
        return output::json(&builds);
    }
    if builds.is_empty() {
        let most = budgets.iter().copied().fold(0.0, f64::max);
        anyhow::bail!(
            "nothing in the price list does this for {most} USD: raise `--budget`, or ask for less (`--tps`, `--model`)"
        );
    }
    output::answer(builds.iter().map(text).collect::<Vec<_>>().join("\n"))
}

/// The best of each kind of machine within a budget.
fn of_budget(args: &BuildArgs, desk: &Desk, budget: f64) -> anyhow::Result<Vec<Build>> {
    let form = Form {
        budget_usd: Some(budget),
        acquire: Some(Acquire::Buy),
        ..desk.form.clone()
    };
    let asked = desk.asked(form)?;
    let question = Question {
        here: None,
        ..desk.question(&asked)
    };
    let plan = plan::plan(&question).map_err(wrong_use)?;
    let mut builds: Vec<Build> = Vec::new();
    // All that meet the wants, in the plan's order: another kind of machine may be wanted for other reasons than the wants.
    let meeting = plan.verdicts.into_iter().filter(|verdict| verdict.meets);
    // Who builds a computer around a card wants the card to hold the model.
    let (spilling, whole): (Vec<_>, Vec<_>) = meeting.partition(Verdict::spills);
    for verdict in whole.into_iter().chain(spilling) {
        let Some(sort) = verdict.outlay.as_ref().map(|outlay| outlay.sort) else {
            continue;
        };
        let same = builds.iter().filter(|build| build.sort == sort).count();
        if sort != Sort::Chip && same < args.each {
            builds.push(Build {
                budget_usd: budget,
                sort,
                verdict,
            });
        }
    }
    Ok(builds)
}

fn text(build: &Build) -> String {
    let verdict = &build.verdict;
    let mut out = format!(
        "{} for {:.0} USD: {}\n",
        build.sort.name(),
        build.budget_usd,
        verdict.name
    );
    if let Some(outlay) = &verdict.outlay {
        out.push_str(&parts(outlay));
        out.push_str(&checks(outlay));
    }
    let speed = verdict.tps().map_or_else(|| "-".to_owned(), spread);
    let wait = verdict.ttft_s().map_or_else(|| "-".to_owned(), spread);
    let _ = writeln!(
        out,
        "  runs {} {} at {speed} tok/s, first token after {wait} s",
        verdict.model, verdict.quantization
    );
    if let (Some(watts), Some(month)) = (verdict.watts(), verdict.usd_month()) {
        let _ = writeln!(
            out,
            "  {} W at work, {} USD a month with its price spread over its life",
            spread(watts),
            spread(month)
        );
    }
    for risk in &verdict.risks {
        out.push_str(&super::text::item(&risk.what));
    }
    out
}

/// The lines of a parts list, with their sum.
fn parts(outlay: &Outlay) -> String {
    let mut rows: Vec<_> = outlay
        .lines
        .iter()
        .map(|line| {
            let condition = format!("{:?}", line.condition).to_lowercase();
            let usd = f64::from(line.count) * line.usd;
            [
                format!("  {}", line.role),
                format!("{} × {}", line.count, output::line(&line.what, 48)),
                format!("{usd:.0} USD"),
                format!("{condition}, {}", line.date),
            ]
        })
        .collect();
    let between = format!("{:.0} to {:.0}", outlay.low_usd, outlay.high_usd);
    rows.push([
        "  together".to_owned(),
        String::new(),
        format!("{:.0} USD", outlay.usd),
        between,
    ]);
    table([Align::Left, Align::Left, Align::Right, Align::Left], &rows)
}

/// What was checked of a parts list.
pub(super) fn checks(outlay: &Outlay) -> String {
    let mut out = String::new();
    for check in &outlay.checks {
        let mark = match check.holds {
            Some(true) => "ok",
            Some(false) => "NOT OK",
            None => "unknown",
        };
        let _ = writeln!(out, "  {}: {mark}: {}", check.what, check.finding);
    }
    if let Some(link) = outlay.link_gbs {
        let _ = writeln!(out, "  between cards: {} GB/s", number(link));
    }
    out
}
