//! `troika devices --measure`: makes the machine work, and keeps what it did in `machine.json`.

use std::path::Path;

use troika_engine::CpuDevice;
use troika_kernels::Kernels;
use troika_machine::measure::{
    self, CpuTest, Findings, Measurable, Measurement, ModelRun, QUICK, Quantity, Stopped, THOROUGH,
};
use troika_machine::meter::MeterSet;
use troika_machine::{Machine, StoreError, Unknown};

use super::gpu::GpuTest;
use crate::commands::bench;

use crate::exit::{Interrupted, WrongUse};
use crate::gpu::Gpus;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::model;
use crate::output::{self, Align, Console, line, number};
use crate::progress::{Progress, Unit};

/// How often a model's tests are repeated.
const ROUNDS: usize = 3;
const ROUNDS_QUICK: usize = 1;

/// What is to be measured.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Measuring")]
pub(crate) struct MeasureArgs {
    /// Make the processors work for half a minute, and keep what they do: bandwidth, matrix rates, launch, watts
    #[arg(long)]
    measure: bool,
    /// Take 5 seconds for it
    #[arg(long, requires = "measure")]
    quick: bool,
    /// Measure a model's speed too, which plans for this machine are then corrected by: a .gguf file or an installed name
    #[arg(long, value_name = "MODEL", requires = "measure")]
    model: Option<String>,
}

impl MeasureArgs {
    /// Whether there is something to do here.
    pub(super) fn is_asked(&self) -> bool {
        self.measure
    }
}

/// Measures a machine that was looked at, keeps the results and shows them.
///
/// # Errors
/// If the model is not there, the results cannot be kept, or [`Interrupted`]; then what was kept before stays.
pub(super) fn run(
    args: &MeasureArgs,
    machine: &mut Machine,
    gpus: &Gpus,
    home: &Home,
    console: &Console,
) -> anyhow::Result<()> {
    // Wrong names and damaged files are told before half a minute has passed.
    let source = match &args.model {
        Some(name) => Some(model::need(name, home)?),
        None => None,
    };
    let path = home.path().join(super::FILE);
    match Machine::load(&path) {
        Ok(Some(earlier)) => machine.keep_measurements(&earlier),
        Ok(None) => {}
        // It is out of the way, and what it held is measured anew.
        Err(error @ StoreError::Damaged { .. }) => console.note(error),
        Err(error) => return Err(error.into()),
    }
    let interrupt = Interrupt::install()?;
    measure_all(args, machine, gpus, console, &interrupt)?;
    let mut kept = machine.save(&path);
    if let Some(source) = source {
        let rounds = if args.quick { ROUNDS_QUICK } else { ROUNDS };
        let rows = bench::usual(&source, rounds, console, &interrupt)?;
        machine.record(Findings {
            measurements: rows
                .iter()
                .filter_map(|row| of_row(row, source.path()))
                .collect(),
            unknown: Vec::new(),
        });
        kept = machine.save(&path);
    }
    // Half a minute's work is shown, even where it cannot be kept.
    if console.json {
        output::json(machine)?;
    } else {
        output::answer(text(machine))?;
    }
    kept?;
    console.note(format_args!("kept in {}", path.display()));
    Ok(())
}

fn measure_all(
    args: &MeasureArgs,
    machine: &mut Machine,
    gpus: &Gpus,
    console: &Console,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let kernels = Kernels::from_env().map_err(|error| WrongUse(error.to_string()))?;
    let seen = machine.clone();
    let cpu = CpuTest::new(&seen, kernels, CpuDevice::default_threads());
    let meters = MeterSet::open(machine);
    let time = if args.quick { QUICK } else { THOROUGH };
    let mut bar = Progress::new(console, "measuring", Unit::Percent);
    let mut doing = String::new();
    let mut watch = |done: f64, what: &str| {
        bar.update((done * 100.0) as u64, 100);
        if doing != what {
            what.clone_into(&mut doing);
            bar.remark(what);
            console.detail(what);
        }
        interrupt.flow(Stopped)
    };
    // GPUs may be done sooner than their part of the time; the processor can use what they leave.
    let gpus: Vec<_> = gpus.reached.iter().map(GpuTest).collect();
    let mut devices: Vec<&dyn Measurable> = gpus.iter().map(|gpu| gpu as _).collect();
    devices.push(&cpu);
    let ended = measure::measure(machine, &devices, &meters, time, &mut watch);
    bar.clear();
    ended.map_err(|Stopped| Interrupted.into())
}

/// A model's test as a measurement of the processor.
fn of_row(row: &bench::Row, path: Option<&Path>) -> Option<Measurement> {
    let quantity = match row.numbers.n_prompt {
        0 => Quantity::DecodeTps,
        _ => Quantity::PrefillTps,
    };
    let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let measured = Measurement::of_samples("cpu0", quantity, row.tps.clone())?;
    Some(Measurement {
        model: Some(ModelRun {
            name: row.setting.model.clone(),
            // Whoever plans may stand in another directory.
            path: path.and_then(|path| path.canonicalize().ok()),
            quantization: row.setting.quantization.to_owned(),
            parameters: row.setting.parameters,
            bytes: row.setting.model_bytes,
            n_prompt: count(row.numbers.n_prompt),
            n_gen: count(row.numbers.n_gen),
            depth: count(row.numbers.depth),
            batch: count(row.numbers.batch),
        }),
        threads: Some(count(row.setting.threads)),
        isa: Some(row.setting.kernels.to_owned()),
        ..measured
    })
}

/// What was measured, in lines, and why the rest was not.
fn text(machine: &Machine) -> String {
    let heading = [
        "device",
        "measured",
        "threads",
        "result",
        "median",
        "from – to",
        "in theory",
        "noisy, spread",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(machine.measurements.iter().map(cells));
    use Align::{Left, Right};
    let align = [Left, Left, Right, Right, Right, Right, Right, Left];
    let mut text = output::table(align, &rows);
    for theory in machine.measurements.iter().filter_map(theory_of_int8) {
        text.push_str(&format!("\nin theory, int8 here: {theory}\n"));
    }
    for unknown in machine
        .unknown
        .iter()
        .filter(|unknown| is_of_measuring(unknown))
    {
        text.push_str(&format!(
            "\nunknown: {}, since {}",
            unknown.what, unknown.why
        ));
        if !unknown.remedy.is_empty() {
            text.push_str(&format!("; {}", unknown.remedy));
        }
        text.push('\n');
    }
    text
}

/// Whether it says why something was not measured; `troika devices` tells the rest.
fn is_of_measuring(unknown: &Unknown) -> bool {
    const ENDS: [&str; 4] = ["watts", "meters", "bandwidth_measured_gbs", "cache_gbs"];
    ENDS.iter().any(|end| unknown.what.ends_with(end))
}

/// How the theory of the widest measurement is computed, as an example for the others.
fn theory_of_int8(measured: &Measurement) -> Option<&str> {
    let is_shown = measured.of.as_deref() == Some("Q8_0") && measured.threads != Some(1);
    let theory = measured.theory.as_ref().filter(|_| is_shown)?;
    Some(&theory.formula)
}

fn cells(measured: &Measurement) -> [String; 8] {
    let (what, unit) = words(measured.quantity);
    let mut name = what.to_owned();
    if let Some(of) = &measured.of {
        name.push_str(&format!(", {of}"));
    }
    if let Some(streams) = measured.streams.filter(|&streams| streams > 1) {
        name.push_str(&format!(", {streams} streams"));
    }
    if let Some(model) = &measured.model {
        name.push_str(&format!(
            ", {} {}",
            line(&model.name, 40),
            model.quantization
        ));
        if model.depth > 0 {
            name.push_str(&format!(" at depth {}", model.depth));
        }
    }
    let theory = measured.theory.as_ref();
    [
        measured.device.clone(),
        name,
        measured
            .threads
            .map_or_else(String::new, |threads| threads.to_string()),
        format!("{} {unit}", number(measured.value)),
        number(measured.median),
        format!("{} – {}", number(measured.min), number(measured.max)),
        theory.map_or_else(String::new, |theory| number(theory.value)),
        if measured.noisy {
            format!("yes, {:.0} %", measured.spread * 100.0)
        } else {
            String::new()
        },
    ]
}

/// What people call it, and its unit.
fn words(quantity: Quantity) -> (&'static str, &'static str) {
    match quantity {
        Quantity::ClockMhz => ("clock", "MHz"),
        Quantity::ReadGbs => ("reading memory", "GB/s"),
        Quantity::CacheGbs => ("reading cache", "GB/s"),
        Quantity::CopyGbs => ("copying in its memory", "GB/s"),
        Quantity::GatherGbs => ("reading 64 bytes here and there", "GB/s"),
        Quantity::UploadGbs => ("bytes to it", "GB/s"),
        Quantity::DownloadGbs => ("bytes from it", "GB/s"),
        Quantity::MatrixTops => ("matrix rate", "TOPS"),
        Quantity::LaunchUs => ("launch", "µs"),
        Quantity::DispatchUs => ("dispatch after dispatch", "µs"),
        Quantity::RecordUs => ("recording a dispatch", "µs"),
        Quantity::WakeUs => ("launch after a rest", "µs"),
        Quantity::IdleW => ("power at rest", "W"),
        Quantity::BusyW => ("power at work", "W"),
        Quantity::PrefillTps => ("prefill", "tokens/s"),
        Quantity::DecodeTps => ("decode", "tokens/s"),
    }
}
