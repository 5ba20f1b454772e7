//! Every machine with every load, policy, seed and scheduler that is asked for: one line of JSON for each simulation.
//!
//! `bench/simulate` makes tables of them. It is an example rather than a part of `troika simulate` since it is light to
//! build, which whoever tunes the scheduler does often:
//!
//! ```sh
//! cargo run --release -p troika-simulator --example cells -- machines=core-ultra-258v loads=office-day seeds=1,2,3
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use troika_planner::catalogue::Catalogue;
use troika_scheduler::{ModelFacts, ModelId, Policy, Settings};
use troika_simulator::load::{JOBS_MAX, alone_s};
use troika_simulator::{Figures, Load, Options, SchedulerKind, VirtualMachine, simulate};

const USAGE: &str = "\
cells machines=NAME,... loads=LOAD|... [policies=balanced,...] [seeds=1,...] [schedulers=troika,...] [slots=4]
Loads may have commas in them, so they are set apart by |.";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is asked for.
struct Args {
    machines: Vec<String>,
    loads: Vec<String>,
    policies: Vec<Policy>,
    seeds: Vec<u64>,
    schedulers: Vec<SchedulerKind>,
    slots: usize,
}

/// A simulation that is to be done.
struct Task<'a> {
    machine: &'a str,
    load: &'a str,
    policy: Policy,
    seed: u64,
    scheduler: SchedulerKind,
}

fn main() -> ExitCode {
    let done = args(std::env::args().skip(1)).and_then(|args| run(&args));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn args(words: impl Iterator<Item = String>) -> Result<Args, Failure> {
    let mut args = Args {
        machines: Vec::new(),
        loads: Vec::new(),
        policies: vec![Policy::default()],
        seeds: vec![1],
        schedulers: SchedulerKind::ALL.to_vec(),
        slots: Options::default().slots,
    };
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| format!("{word:?} is no key=value"))?;
        let names = |mark| value.split(mark).map(str::to_owned).collect();
        match key {
            "machines" => args.machines = names(','),
            "loads" => args.loads = names('|'),
            "policies" => args.policies = all(value)?,
            "seeds" => args.seeds = all(value)?,
            "schedulers" => args.schedulers = all(value)?,
            "slots" => args.slots = value.parse()?,
            _ => return Err(format!("{key:?} is not known").into()),
        }
    }
    match args.machines.is_empty() || args.loads.is_empty() {
        true => Err("machines and loads are needed".into()),
        false => Ok(args),
    }
}

/// All values of a list.
fn all<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    list: &str,
) -> Result<Vec<T>, Failure> {
    list.split(',').map(|word| Ok(word.parse()?)).collect()
}

/// Does all simulations, on all processors; lines come as they are done.
fn run(args: &Args) -> Result<(), Failure> {
    let tasks = tasks(args)?;
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match play(task, args.slots) {
                        Ok(line) => println!("{line}"),
                        Err(error) => {
                            let mut first = failure.lock().expect("nobody panics with it");
                            first.get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    let failure = failure.into_inner().expect("nobody panics with it");
    failure.map_or(Ok(()), Err)
}

/// What is to be done. The policy is nothing to those that know of none: they are played once.
fn tasks(args: &Args) -> Result<Vec<Task<'_>>, Failure> {
    let mut tasks = Vec::new();
    for machine in &args.machines {
        let facts = VirtualMachine::named(machine, Catalogue::builtin())?;
        for load in &args.loads {
            for &seed in &args.seeds {
                for &scheduler in args.schedulers.iter().filter(|s| s.is_possible(&facts)) {
                    let policies = match scheduler {
                        SchedulerKind::Troika => &args.policies[..],
                        _ => &args.policies[..1],
                    };
                    tasks.extend(policies.iter().map(|&policy| Task {
                        machine,
                        load,
                        policy,
                        seed,
                        scheduler,
                    }));
                }
            }
        }
    }
    Ok(tasks)
}

fn play(task: &Task<'_>, slots: usize) -> Result<serde_json::Value, Failure> {
    let catalogue = Catalogue::builtin();
    let machine = VirtualMachine::named(task.machine, catalogue)?;
    let load = Load::parse(task.load)?;
    let models = (0..).map(ModelId).zip(load.models());
    let models = models.map(|(id, name)| machine.model_facts(id, name, catalogue));
    let models: Vec<ModelFacts> = models.collect::<Result<_, _>>()?;
    let load = load.fitted(task.seed, |arrival| alone_s(arrival, &models));
    let arrivals = load.arrivals(task.seed);
    let settings = Settings {
        policy: task.policy,
        // A client that is sent away comes again, and a load's does not: here it waits in the queue instead.
        queue: JOBS_MAX,
        ..Settings::default()
    };
    let minutes = arrivals.last().map_or(0.0, |last| last.at.seconds() / 60.0);
    let options = Options {
        seed: task.seed,
        slots,
        // What takes twice as long as jobs come is told as not done.
        patience: Duration::from_secs_f64(minutes * 60.0),
        ..Options::default()
    };
    let log = simulate(
        &machine,
        &models,
        task.scheduler,
        &settings,
        &arrivals,
        &options,
    )?;
    Ok(json!({
        "machine": task.machine,
        "load": task.load,
        "policy": task.policy,
        "seed": task.seed,
        "scale": load.scale(),
        "minutes": minutes,
        "alone_s": arrivals.iter().map(|arrival| alone_s(arrival, &models)).sum::<f64>(),
        "figures": Figures::of(&log, &arrivals),
    }))
}
