//! `troika plan check`: whether a machine is what a label asks for.

use clap::ValueEnum;
use troika_base::DeviceKind;
use troika_planner::plan::check::{Label, Subject, copilot_plus};

use super::Desk;
use crate::commands::devices;
use crate::exit::WrongUse;
use crate::output::{self, Align, Console, number, table};

/// The labels that are known.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// NPU of 40 dense INT8 TOPS, 16 GB of memory, 256 GB of storage
    CopilotPlus,
}

/// Whether a machine is what a label asks for: stated, normalised and measured side by side
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[arg(value_enum, value_name = "LABEL")]
    label: Name,
    /// A chip from the catalogue [default: this machine]
    #[arg(long, value_name = "NAME")]
    chip: Option<String>,
    /// Its memory, in GB
    #[arg(long, value_name = "GB")]
    memory_gb: Option<f64>,
    /// Its storage, in GB
    #[arg(long, value_name = "GB")]
    storage_gb: Option<f64>,
}

pub(super) fn run(args: &CheckArgs, desk: &Desk, console: &Console) -> anyhow::Result<()> {
    for (flag, value) in [
        ("--memory-gb", args.memory_gb),
        ("--storage-gb", args.storage_gb),
    ] {
        if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
            return Err(
                WrongUse(format!("{flag} is {value}: it has to be a number above 0")).into(),
            );
        }
    }
    let Name::CopilotPlus = args.label;
    let thresholds = desk.catalogue.thresholds();
    let label = match &args.chip {
        Some(name) => {
            let found = desk
                .catalogue
                .chip(name)
                .map_err(|unknown| WrongUse(unknown.to_string()))?;
            let subject = Subject {
                name: found.row.name.clone(),
                chip: Some(found.row),
                npu: None,
                memory_gb: args.memory_gb.or(found.memory_gb),
                storage_gb: args.storage_gb,
            };
            copilot_plus(&subject, thresholds)
        }
        None => this_machine(args, desk, console),
    };
    if console.json {
        return output::json(&serde_json::json!({ "holds": label.holds(), "label": label }));
    }
    output::answer(text(&label))
}

fn this_machine(args: &CheckArgs, desk: &Desk, console: &Console) -> Label {
    let machine = devices::known(&desk.home, console);
    let npu = machine
        .processors
        .iter()
        .find(|device| device.profile.kind == DeviceKind::Npu);
    let chip = machine
        .cpu
        .model
        .as_deref()
        .and_then(|name| Some(desk.catalogue.chip(name).ok()?.row));
    let subject = Subject {
        name: machine
            .product
            .clone()
            .unwrap_or_else(|| "this machine".to_owned()),
        chip: npu.and(chip),
        npu: npu.map(|npu| &npu.profile),
        memory_gb: args.memory_gb.or(Some(machine.memory_gb_sold() as f64)),
        storage_gb: args.storage_gb,
    };
    copilot_plus(&subject, desk.catalogue.thresholds())
}

fn text(label: &Label) -> String {
    let answer = match label.holds() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    };
    let heading = ["", "wanted", "stated", "normalised", "measured", "enough"];
    let mut rows = vec![heading.map(str::to_owned)];
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    for line in &label.lines {
        let enough = match line.holds {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not known",
        };
        let mut stated = line.stated.split("; ");
        rows.push([
            line.what.to_owned(),
            line.wanted.clone(),
            output::line(stated.next().unwrap_or_default(), 60),
            figure(line.normalised),
            figure(line.measured),
            enough.to_owned(),
        ]);
        rows.extend(stated.map(|more| {
            let mut row: [String; 6] = Default::default();
            row[2] = output::line(more, 60);
            row
        }));
    }
    use Align::{Left, Right};
    let mut out = format!(
        "{}: {answer}\n\n{}",
        output::line(&label.name, 100),
        table([Left, Left, Left, Right, Right, Left], &rows)
    );
    for line in label.lines.iter().filter(|line| !line.note.is_empty()) {
        out.push_str(&format!("\n{}: {}", line.what, line.note));
    }
    out.push('\n');
    out
}
