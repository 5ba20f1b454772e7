//! Fits the constants of the cost model to measurements, and writes them as Rust.
//!
//! `fit/rows.csv` has the measurements; the devices' facts are the catalogue's. What is fitted, how, and how well it predicts
//! devices that it has not seen, is printed and stands at the head of the generated file.

mod prior;
mod report;
mod rows;
mod search;
mod write;

use anyhow::Context as _;

use self::rows::Row;
use self::search::Problem;

/// Options of `cargo xtask fit`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare the file that is there with a new fit instead of writing it
    #[arg(long)]
    check: bool,
    /// Only fit: do not leave out the devices one by one, which takes minutes, and write nothing
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = crate::workspace_root()?;
    let rows = rows::read(&root.join("fit/rows.csv")).context("the measurements cannot be read")?;
    println!(
        "{} rows of {} devices are used",
        rows.used.len(),
        rows.devices()
    );
    for (why, count) in &rows.dropped {
        println!("  {count:4} left out: {why}");
    }
    let problem = Problem::new(&rows.used);
    let all = problem.fit(None, &problem.start(), search::PASSES);
    report::constants(&all);
    report::within(&rows.used, &problem, &all);
    report::structure(&rows.used, &problem, &all);
    if args.quick {
        return Ok(());
    }
    let unseen = leave_one_out(&problem, &rows.used, &all);
    report::unseen(&rows.used, &unseen);
    report::calibrated(&rows.used, &problem, &all);
    let text = write::constants(&all, &rows.used, &unseen);
    let path = root.join("crates/planner/src/cost/constants.rs");
    if args.check {
        let there = std::fs::read_to_string(&path)?;
        anyhow::ensure!(
            there == text,
            "constants.rs is not what the rows give; run `cargo xtask fit`"
        );
        return Ok(());
    }
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Logarithms of predicted over measured time of each row, by constants that were fitted without its device.
struct Unseen {
    decode: Vec<f64>,
    prefill: Vec<Option<f64>>,
}

fn leave_one_out(problem: &Problem<'_>, rows: &[Row], start: &search::Constants) -> Unseen {
    let mut unseen = Unseen {
        decode: vec![0.0; rows.len()],
        prefill: vec![None; rows.len()],
    };
    let mut devices: Vec<&str> = rows.iter().map(|row| row.device.name.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    for device in devices {
        let fitted = problem.fit(Some(device), start, search::PASSES_AGAIN);
        for (index, row) in rows.iter().enumerate() {
            if row.device.name == device {
                unseen.decode[index] = problem.decode_residual(&fitted, index);
                unseen.prefill[index] = problem.prefill_residual(&fitted, index);
            }
        }
    }
    unseen
}
