//! `troika plan`: what was measured elsewhere.

mod import;
mod measurements;

use clap::Subcommand;

use crate::output::Console;

/// Measurements of other programs, for the planner
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(subcommand)]
    command: PlanCommand,
}

#[derive(Debug, Subcommand)]
enum PlanCommand {
    Import(import::ImportArgs),
    Measurements(measurements::MeasurementsArgs),
}

pub(crate) fn run(args: &PlanArgs, console: &Console) -> anyhow::Result<()> {
    match &args.command {
        PlanCommand::Import(args) => import::run(args, console),
        PlanCommand::Measurements(args) => measurements::run(args, console),
    }
}
