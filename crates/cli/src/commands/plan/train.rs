//! `troika plan train`: fine-tuning by memory, hours, joules and money.

use std::fmt::Write as _;

use anyhow::anyhow;
use clap::ValueEnum;
use troika_planner::plan::choose;
use troika_planner::plan::train::{self, Method, Run, TrainPlan, TrainVerdict};
use troika_planner::plan::workload::{BEST, Form, Task};

use super::Desk;
use super::text::{reasons, spread, terms};
use crate::exit::WrongUse;
use crate::output::{self, Align, Console, number, table};

/// Rows that are shown of those that can, and of those that cannot.
const SHOWN: usize = 10;

/// What is trained.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// Adapters beside frozen weights of 16 bits
    Lora,
    /// Adapters beside frozen weights of 4 bits
    Qlora,
    /// Every weight
    Full,
}

/// Fine-tune a model: memory, hours, joules, and whether to rent or to buy for it
#[derive(Debug, clap::Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    pub(super) asked: super::AskedArgs,
    /// What is trained
    #[arg(long, value_enum, value_name = "WAY", default_value = "lora")]
    method: Way,
    /// Tokens that are seen, all epochs together
    #[arg(long, value_name = "N", default_value_t = 10_000_000.0)]
    tokens: f64,
    /// Tokens of a sequence
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    sequence: u32,
    /// Sequences side by side on a device
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Rank of the adapters
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    rank: u32,
}

pub(super) fn run(args: &TrainArgs, desk: &Desk, console: &Console) -> anyhow::Result<()> {
    if !(args.tokens.is_finite() && args.tokens > 0.0) {
        return Err(WrongUse(format!(
            "--tokens is {}: it has to be a number above 0",
            args.tokens
        ))
        .into());
    }
    let form = Form {
        task: Some(Task::Train),
        ..desk.form.clone()
    };
    let asked = desk.asked(form)?;
    let workload = &asked.workload;
    if workload.model == BEST {
        return Err(WrongUse("name the model to be trained with `--model`".to_owned()).into());
    }
    let model = match &asked.file {
        Some((model, _)) => model.clone(),
        None => choose::named(&workload.model, &desk.catalogue)
            .map_err(|unknown| WrongUse(unknown.to_string()))?,
    };
    let run = Run {
        method: match args.method {
            Way::Lora => Method::Lora,
            Way::Qlora => Method::Qlora,
            Way::Full => Method::Full,
        },
        tokens: args.tokens,
        sequence: args.sequence,
        batch: args.batch,
        rank: args.rank,
    };
    let country = desk
        .catalogue
        .country(&workload.country)
        .map_err(|unknown| anyhow!(WrongUse(unknown.to_string())))?;
    let plan = train::plan(&model, &run, &desk.question(&asked), country);
    if console.json {
        return output::json(&plan);
    }
    output::answer(text(&plan))
}

fn text(plan: &TrainPlan) -> String {
    let memory = &plan.memory;
    let gb = |bytes: f64| format!("{} GB", number(bytes / 1e9));
    let mut out = format!(
        "{}: {} parameters trained; weights {}, gradients {}, optimizer {}, activations {} on each device\n",
        plan.model,
        output::count(memory.trained as u64),
        gb(memory.weights),
        gb(memory.gradients),
        gb(memory.optimizer),
        gb(memory.activations),
    );
    let _ = writeln!(
        out,
        "{} on one device, {} on each of two, {} on each of eight; {:.3e} operations\n",
        gb(memory.per_device(1)),
        gb(memory.per_device(2)),
        gb(memory.per_device(8)),
        plan.operations
    );
    let able: Vec<_> = plan
        .verdicts
        .iter()
        .filter(|verdict| verdict.lost.is_none())
        .collect();
    out.push_str(&rows(&able[..able.len().min(SHOWN)]));
    if let Some(first) = able.first() {
        out.push('\n');
        let _ = writeln!(out, "{}:", first.name);
        out.push_str(&terms(&first.terms));
    }
    let lost = plan.verdicts.iter().filter_map(|verdict| {
        Some((
            verdict.name.as_str(),
            verdict.lost.as_ref()?.reason.as_str(),
        ))
    });
    // What no price or memory would change is told first.
    let (by_kind, others): (Vec<_>, Vec<_>) =
        lost.partition(|(_, reason)| *reason == train::NPU_REASON);
    out.push_str(&reasons(by_kind.into_iter().chain(others), SHOWN));
    out
}

fn rows(verdicts: &[&TrainVerdict]) -> String {
    let heading = [
        "candidate",
        "how",
        "hours",
        "kWh",
        "USD now",
        "USD/run",
        "pays after runs",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    let dash = || "-".to_owned();
    for verdict in verdicts {
        rows.push([
            output::ends(&verdict.name, 46),
            verdict.place.name().to_owned(),
            verdict.hours.map_or_else(dash, spread),
            verdict.kwh.map_or_else(dash, |kwh| number(kwh.value)),
            verdict
                .purchase_usd
                .map_or_else(dash, |usd| format!("{usd:.0}")),
            verdict.run_usd.map_or_else(dash, spread),
            verdict
                .break_even_runs
                .map_or_else(dash, |runs| format!("{runs:.0}")),
        ]);
    }
    use Align::{Left, Right};
    table([Left, Left, Right, Right, Right, Right, Right], &rows)
}
