//! `troika simulate`: a load replayed in virtual time on machines that nobody has to own, by Troika's scheduler and by
//! those that it is compared with.

mod cell;
mod known;
mod page;
mod sources;
mod text;

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::Context as _;
use troika_planner::catalogue::Catalogue;
use troika_scheduler::{Class, Policy, Settings, Time, UnknownName, Worth};
use troika_simulator::load::JOBS_MAX;
use troika_simulator::{Beyond, Faults, Options, SchedulerKind, VirtualRemote, write_trace};

use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::{self, Console};
use crate::progress::{Progress, Unit};

use self::cell::Cell;
use self::sources::{Renamed, Sources};

const EXAMPLES: &str = "\
Examples:
  troika simulate --list                                what is known by name
  troika simulate --machine core-ultra-258v --load office-day
  troika simulate --machine dual-3090 --load burst-50 --html day.html
  troika simulate --machine dual-3090 --load office-day:busy=1 --policy frugal
  troika simulate --machine core-ultra-258v,dual-3090 --load office-day --load coding-agent
  troika simulate --machine here --load trace.jsonl --models mine=llama-3.1-8b:Q8_0
  troika simulate --machine dual-3090 --load 'poisson:rate=2,prompt=800;poisson:rate=1,class=batch'
  troika simulate --machine core-ultra-258v --load office-day --remote far:ttft=0.4,tps=80,input=0.5,output=1.5";

/// Replay a load in virtual time on machines that nobody has to own, against what other schedulers make of it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SimulateArgs {
    /// Machines: chips' names joined by `+`, `here`, or a file of `troika devices --json`
    #[arg(long = "machine", value_name = "NAME|FILE", value_delimiter = ',')]
    machines: Vec<String>,
    /// What comes: a published shape, `poisson:rate=…`, several with `;` between them, or a recorded trace
    #[arg(long = "load", value_name = "LOAD|FILE")]
    loads: Vec<String>,
    /// What a placement is to be good at: fastest, frugal, balanced, cool, battery, ... [default: balanced]
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    policy: Option<Policy>,
    /// Schedulers to compare with, or `none` [default: static,gpu-only,npu-only,cpu-only, as the machine has devices]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = baseline)]
    against: Vec<Baseline>,
    /// What a trace's model is: NAME=CATALOGUE-NAME, with :QUANTIZATION if it is not Q4_K_M
    #[arg(long = "models", value_name = "NAME=MODEL", value_delimiter = ',', value_parser = sources::renamed)]
    renamed: Vec<Renamed>,
    /// An endpoint beyond the machine: NAME:ttft=0.4,tps=80,input=0.5,output=1.5 (prices of a million tokens), and share=0.5,
    /// concurrent=8 if wanted
    #[arg(long = "remote", value_name = "ENDPOINT")]
    remotes: Vec<VirtualRemote>,
    /// Classes whose jobs may leave the machine [default: background,batch]
    #[arg(
        long,
        value_name = "CLASS",
        value_delimiter = ',',
        requires = "remotes"
    )]
    may_leave: Vec<Class>,
    /// What a second of waiting is worth, in the money of the prices [default: 0.001]
    #[arg(long, value_name = "MONEY", value_parser = money, requires = "remotes")]
    second_worth: Option<f64>,
    /// What a kilowatt-hour costs, in the money of the prices [default: 0.3]
    #[arg(long, value_name = "MONEY", value_parser = money, requires = "remotes")]
    kwh_price: Option<f64>,
    /// Same seed, same load, same simulation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Leave out what comes later than this
    #[arg(long, value_name = "H", value_parser = hours)]
    hours: Option<f64>,
    /// Leave out all but the first N jobs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Lose devices now and then, heat them, let loads, moves and probes fail
    #[arg(long)]
    faults: bool,
    /// Write one page with plots, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the load as a trace, and simulate nothing
    #[arg(long, value_name = "FILE")]
    save_load: Option<PathBuf>,
    /// Show the shapes of load, machines and schedulers that are known
    #[arg(long)]
    list: bool,
}

/// A scheduler to compare with; `None` is none.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Baseline(Option<SchedulerKind>);

fn baseline(name: &str) -> Result<Baseline, UnknownName> {
    match name {
        "none" => Ok(Baseline(None)),
        _ => name.parse().map(Some).map(Baseline),
    }
}

fn policy(name: &str) -> Result<Policy, UnknownName> {
    name.parse()
}

fn hours(text: &str) -> Result<f64, String> {
    let hours = text
        .parse()
        .ok()
        .filter(|hours| *hours > 0.0 && *hours <= 168.0);
    hours.ok_or_else(|| "expected a number above 0, at most 168".to_owned())
}

fn money(text: &str) -> Result<f64, String> {
    let money = text.parse().ok();
    let money = money.filter(|money: &f64| money.is_finite() && *money >= 0.0);
    money.ok_or_else(|| "expected an amount of money, 0 or more".to_owned())
}

pub(crate) fn run(args: &SimulateArgs, console: &Console) -> anyhow::Result<()> {
    if args.list {
        return known::run(console);
    }
    let home = Home::from_env()?;
    let catalogue = Catalogue::with_user_rows(&home.path().join("catalogue"))?;
    let sources = Sources {
        catalogue: &catalogue,
        home: &home,
        renamed: &args.renamed,
        seed: args.seed,
        hours: args.hours,
        limit: args.limit,
    };
    if let Some(path) = &args.save_load {
        return save(args, &sources, path, console);
    }
    if args.machines.is_empty() {
        return Err(missing("--machine", known::machines()).into());
    }
    let cells = cells(args, &sources, console)?;
    let cells = simulate(cells, args, console)?;
    if let Some(path) = &args.html {
        crate::page::write(path, &page::html(&cells)?)?;
        console.note(format_args!("written: {}", path.display()));
    }
    if console.json {
        return output::json(&text::json(&cells, console.verbose > 0));
    }
    output::answer(text::answer(&cells, console.verbose > 0))
}

/// Every machine with every load.
fn cells(
    args: &SimulateArgs,
    sources: &Sources<'_>,
    console: &Console,
) -> anyhow::Result<Vec<Cell>> {
    let machines = args
        .machines
        .iter()
        .map(|name| sources.machine(name, console));
    let machines: Vec<_> = machines.collect::<anyhow::Result<_>>()?;
    let loads = loads(args, sources)?;
    let settings = Settings {
        policy: args.policy.unwrap_or_default(),
        // A client that is sent away comes again, and a trace's does not: here it waits in the queue instead.
        queue: JOBS_MAX,
        worth: worth(args),
        ..Settings::default()
    };
    let options = Options {
        seed: args.seed,
        ..Options::default()
    };
    let mut cells = Vec::new();
    for machine in &machines {
        for load in &loads {
            let load = sources.jobs(load, Some(machine))?;
            let mut options = options.clone();
            options.beyond = beyond(args, &load);
            if args.faults {
                options.faults = faults(&load);
            }
            cells.push(Cell::new(machine, load, sources, &settings, options)?);
        }
    }
    Ok(cells)
}

/// What money is worth.
fn worth(args: &SimulateArgs) -> Worth {
    let usual = Worth::default();
    Worth {
        second: args.second_worth.unwrap_or(usual.second),
        kwh: args.kwh_price.unwrap_or(usual.kwh),
    }
}

/// The endpoints, and the jobs that may go there.
fn beyond(args: &SimulateArgs, load: &sources::Jobs) -> Beyond {
    let classes = match &args.may_leave[..] {
        [] => &[Class::Background, Class::Batch],
        asked => asked,
    };
    Beyond::of_classes(args.remotes.clone(), &load.arrivals, classes, args.seed)
}

/// A bad day: some device is lost every five minutes and comes back, and one in twenty of what can fail does.
fn faults(load: &sources::Jobs) -> Faults {
    Faults {
        loss_every_s: 300.0,
        gone_s: 30.0,
        heat_every_s: 120.0,
        others_every_s: 120.0,
        load_fails: 0.05,
        probe_wrong: 0.05,
        move_fails: 0.05,
        until: load.arrivals.last().map_or(Time::default(), |last| last.at),
        ..Faults::default()
    }
}

fn loads(args: &SimulateArgs, sources: &Sources<'_>) -> anyhow::Result<Vec<sources::Coming>> {
    if args.loads.is_empty() {
        return Err(missing("--load", known::loads()).into());
    }
    args.loads.iter().map(|load| sources.load(load)).collect()
}

fn missing(flag: &str, known: String) -> WrongUse {
    WrongUse(format!(
        "{flag} is missing; there are {known}, and `troika simulate --list` says more"
    ))
}

/// Plays all cells, in turn.
fn simulate(
    mut cells: Vec<Cell>,
    args: &SimulateArgs,
    console: &Console,
) -> anyhow::Result<Vec<Cell>> {
    let asked: Vec<_> = args.against.iter().map(|baseline| baseline.0).collect();
    let plans: Vec<_> = cells.iter().map(|cell| cell.schedulers(&asked)).collect();
    let total = plans.iter().map(Vec::len).sum::<usize>() as u64;
    let mut progress = Progress::new(console, "simulating", Unit::Runs);
    let mut done = 0;
    for (cell, plan) in cells.iter_mut().zip(plans) {
        for kind in plan {
            progress.update(done, total);
            progress.remark(&format!(
                "{} {} {}",
                cell.machine.name,
                cell.load.name,
                kind.name()
            ));
            cell.play(kind)?;
            if kind == SchedulerKind::Troika && !args.remotes.is_empty() {
                cell.play_here()?;
            }
            done += 1;
        }
    }
    Ok(cells)
}

/// Writes the load as a trace.
fn save(
    args: &SimulateArgs,
    sources: &Sources<'_>,
    path: &std::path::Path,
    console: &Console,
) -> anyhow::Result<()> {
    let loads = loads(args, sources)?;
    let [load] = &loads[..] else {
        return Err(WrongUse("a trace holds one load; join several with `;`".to_owned()).into());
    };
    let load = sources.jobs(load, None)?;
    let cannot = || format!("cannot write {}", path.display());
    let file = File::create(path).with_context(cannot)?;
    write_trace(BufWriter::new(file), &load.arrivals).with_context(cannot)?;
    console.note(format_args!(
        "written: {}, {} jobs",
        path.display(),
        load.arrivals.len()
    ));
    Ok(())
}
