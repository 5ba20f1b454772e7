//! `troika plan fleet`: many machines alike, beside one place that serves them all.

use troika_planner::plan::fleet::{Fleet, Size, fleet};

use super::text::spread;
use super::{Desk, wrong_use};
use crate::exit::WrongUse;
use crate::output::{self, Align, Console, table};

/// What N devices cost, each with its own model, beside one place that serves them all
#[derive(Debug, clap::Args)]
pub(super) struct FleetArgs {
    #[command(flatten)]
    pub(super) asked: super::AskedArgs,
    /// Devices
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    devices: u32,
    /// Share of them that ask at the same time, at most
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    at_once: f64,
}

pub(super) fn run(args: &FleetArgs, desk: &Desk, console: &Console) -> anyhow::Result<()> {
    if !(args.at_once > 0.0 && args.at_once <= 1.0) {
        return Err(WrongUse(format!(
            "--at-once is {}: it has to be above 0 and at most 1",
            args.at_once
        ))
        .into());
    }
    let asked = desk.asked(desk.form.clone())?;
    let size = Size {
        devices: args.devices,
        at_once: args.at_once,
    };
    let fleet = fleet(&desk.question(&asked), size).map_err(wrong_use)?;
    if console.json {
        return output::json(&fleet);
    }
    output::answer(text(&fleet))?;
    for note in &fleet.notes {
        console.note(note);
    }
    Ok(())
}

fn text(fleet: &Fleet) -> String {
    let heading = [
        "",
        "candidate",
        "model",
        "tok/s",
        "USD now",
        "USD/month",
        "kWh/month",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    let dash = || "-".to_owned();
    for option in &fleet.options {
        let whose = match option.is_central {
            true => "one place".to_owned(),
            false => format!("{} devices", option.count),
        };
        rows.push([
            whose,
            output::ends(&option.name, 46),
            option.model.clone(),
            option.tps.map_or_else(dash, spread),
            option
                .purchase_usd
                .map_or_else(dash, |usd| format!("{usd:.0}")),
            option.usd_month.map_or_else(dash, spread),
            option.kwh_month.map_or_else(dash, spread),
        ]);
    }
    use Align::{Left, Right};
    table([Left, Left, Left, Right, Right, Right, Right], &rows)
}
