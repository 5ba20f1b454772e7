//! `cargo xtask seeds`: plays simulated histories, each from a seed, and checks that the scheduler keeps its promises.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use troika_simulator::{SchedulerKind, Seen, SimulationError, Storm};

/// Play simulated histories and check what no scheduler may do.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// How many at once; as many as there are processors if absent
    #[arg(long)]
    jobs: Option<usize>,
    /// Whose promises: troika, static, gpu-only, npu-only, cpu-only
    #[arg(long, default_value_t = SchedulerKind::Troika)]
    scheduler: SchedulerKind,
    /// Print all that the scheduler is told and what it wants
    #[arg(short, long)]
    verbose: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cores = || std::thread::available_parallelism().map_or(1, Into::into);
    let threads = if args.verbose {
        1
    } else {
        args.jobs.unwrap_or_else(cores).max(1)
    };
    let began = Instant::now();
    let next = AtomicU64::new(args.from);
    let jobs = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - args.from >= args.count {
                        break;
                    }
                    let storm = Storm::new(seed);
                    jobs.fetch_add(storm.arrivals.len() as u64, Ordering::Relaxed);
                    if let Err(error) = play(&storm, args) {
                        println!("{error}");
                        if let Ok(mut failures) = failures.lock() {
                            failures.push(seed);
                        }
                    }
                }
            });
        }
    });
    println!(
        "{} seeds with {} jobs in {:.1} s",
        args.count,
        jobs.into_inner(),
        began.elapsed().as_secs_f64()
    );
    let mut failures = failures.into_inner().unwrap_or_default();
    failures.sort_unstable();
    match failures.first() {
        None => Ok(()),
        Some(first) => anyhow::bail!(
            "{} seeds fail; play one again with `cargo xtask seeds --from {first} --count 1 -v`",
            failures.len()
        ),
    }
}

fn play(storm: &Storm, args: &Args) -> Result<(), SimulationError> {
    if args.verbose {
        println!("{}: {} jobs", storm.machine.name, storm.arrivals.len());
        println!("{:?}", storm.settings);
        println!("{:?}", storm.options);
    }
    let played = storm.play(args.scheduler, &mut |now, seen| {
        if args.verbose {
            print(now, &seen);
        }
    });
    played.map(drop)
}

fn print(now: troika_simulator::Time, seen: &Seen<'_>) {
    match seen {
        Seen::Told(events) => {
            for event in *events {
                println!("{now} < {event:?}");
            }
        }
        Seen::Wants(actions) => {
            for action in *actions {
                println!("{now} > {action:?}");
            }
        }
    }
}
