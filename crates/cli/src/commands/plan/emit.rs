//! `troika plan --emit`: replicas for many users, as a file that a cluster takes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use troika_planner::emit::{self, Target};
use troika_planner::plan::Requirement;
use troika_planner::plan::replicas::{Crew, Loser, Replicas, replicas};

use super::text::spread;
use super::{Desk, wrong_use};
use crate::output::{self, Console};

/// Losers that are told of where nobody serves.
const NEAREST: usize = 3;

#[derive(PartialEq, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct EmitArgs {
    /// Write what a cluster needs to run as many replicas as the users take
    #[arg(long, value_enum, value_name = "WHOM")]
    emit: Option<For>,
    /// The candidate that each replica is [default: the best]
    #[arg(long, value_name = "NAME", requires = "emit")]
    on: Option<String>,
    /// Folder for the file; without it, to stdout
    #[arg(long, value_name = "DIR", requires = "emit")]
    out: Option<PathBuf>,
}

impl EmitArgs {
    /// Whether a file is asked for.
    pub(super) fn are_given(&self) -> bool {
        self.emit.is_some()
    }
}

/// Whom a file is for. The planner knows nothing of command lines.
#[derive(Clone, Copy, PartialEq, Debug)]
struct For(Target);

impl ValueEnum for For {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Target::ALL[0]), Self(Target::ALL[1])]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

pub(super) fn run(args: &EmitArgs, desk: &Desk, console: &Console) -> anyhow::Result<()> {
    let Some(For(target)) = args.emit else {
        return Ok(());
    };
    let asked = desk.asked(desk.form.clone())?;
    let replicas = replicas(&desk.question(&asked), args.on.as_deref()).map_err(wrong_use)?;
    let Some(crew) = replicas.crews.first() else {
        return Err(nobody(&replicas));
    };
    let text = emit::emit(target, crew, &replicas);
    let simulation = emit::simulation(crew, &replicas);
    let written = args.out.as_deref();
    let written = written
        .map(|folder| write(folder, target, &text))
        .transpose()?;
    if console.json {
        return output::json(&serde_json::json!({
            "target": target,
            "workload": replicas.workload,
            "crew": crew,
            "simulation": simulation,
            "file": written,
            "manifest": text,
        }));
    }
    console.note(summary(crew, &replicas));
    if let Some(command) = simulation {
        console.note(format_args!("Try it first: {command}"));
    }
    match written {
        Some(path) => {
            console.note(format_args!("written: {}", path.display()));
            Ok(())
        }
        None => output::answer(text),
    }
}

fn write(folder: &Path, target: Target, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(target.file());
    let cannot = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    std::fs::write(&path, text).with_context(cannot)?;
    Ok(path)
}

/// `28 × NAME for 500 users, 18 each; by the estimate 18–51 each, so 10–28 replicas; 2241 (2208–2291) USD a month`.
fn summary(crew: &Crew, replicas: &Replicas) -> String {
    let (each, count) = (crew.users_each, crew.replicas);
    let interval = match (each.low, count.low) == (each.high, count.high) {
        true => String::new(),
        false => format!(
            "; by the estimate {}–{} each, so {}–{} replicas",
            each.low, each.high, count.low, count.high
        ),
    };
    let month = crew
        .usd_month
        .map_or_else(String::new, |usd| format!("; {} USD a month", spread(usd)));
    format!(
        "{} × {} for {} users, {} each{interval}{month}",
        count.high, crew.name, replicas.workload.users, each.low
    )
}

/// Nobody does what is wanted: who comes nearest, and what would help.
fn nobody(replicas: &Replicas) -> anyhow::Error {
    let mut message =
        "no machine serves even one of the users as is wanted, so there is nothing to emit"
            .to_owned();
    for Loser { name, lost } in replicas.losers.iter().take(NEAREST) {
        message.push_str(&format!("\n  {name}: {}", lost.reason));
    }
    let helps = replicas
        .losers
        .first()
        .map(|nearest| remedy(nearest.lost.requirement));
    if let Some(helps) = helps {
        message.push_str(&format!("\nwhat would help: {helps}"));
    }
    anyhow!(message)
}

/// What lets somebody through whom this requirement holds up.
fn remedy(requirement: Requirement) -> &'static str {
    match requirement {
        Requirement::Ttft => {
            "more time to the first token (--ttft), shorter prompts (--prompt-tokens) or a smaller model"
        }
        Requirement::Speed => {
            "fewer tokens a second (--tps), a smaller model or fewer bits (--quantization)"
        }
        Requirement::Memory => {
            "a shorter context (--ctx), fewer bits (--quantization, --kv-bits) or a smaller model"
        }
        Requirement::Capacity => {
            "more hours a day (--hours-per-day) or fewer requests (--requests-per-day)"
        }
        Requirement::Budget | Requirement::MonthlyBudget => {
            "a larger budget (--budget, --budget-month)"
        }
        Requirement::Watts => "more watts, which are those of all replicas together (--watts-max)",
        Requirement::Price | Requirement::Facts => {
            "a row with what is missing in the catalogue (`troika catalogue`)"
        }
        Requirement::Place => {
            "another way to come by machines (--acquire, --privacy), or --on with the name of one"
        }
        Requirement::Software
        | Requirement::Usable
        | Requirement::Context
        | Requirement::Supply => "other machines: `troika plan --all` shows what there is",
        Requirement::Undominated => "nothing: another one is better",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_can_be_named() {
        let names: Vec<_> = For::value_variants()
            .iter()
            .map(|target| target.0.name())
            .collect();
        assert_eq!(names, Target::ALL.map(Target::name));
    }
}
