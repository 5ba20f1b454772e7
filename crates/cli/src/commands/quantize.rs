//! `troika quantize`: a model's weights in fewer bits.

mod divergence;
mod report;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use regex::Regex;
use troika_base::DType;
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;
use troika_quantize::{Allotment, Budget, Cancelled, Importance, Mix, Plan, Progress, Request};

use self::divergence::Comparison;
use crate::args::ThreadArgs;
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::load;
use crate::model;
use crate::output::Console;
use crate::progress::{Progress as Bar, Unit};

const EXAMPLES: &str = "\
Examples:
  troika quantize model-f16.gguf model.gguf --type Q4_K_M                    the usual mix
  troika quantize model-f16.gguf model.gguf --type Q4_K_M --dry-run          what would become of each tensor
  troika quantize model-f16.gguf model.gguf --type IQ4_XS --imatrix imatrix.gguf
                                                                             with what `troika imatrix` has measured
  troika quantize model-f16.gguf model.gguf --type Q4_K_M --tensor-type ffn_down=Q5_K --output-type Q8_0
  troika quantize model-f16.gguf model.gguf --bpw 4.25 --imatrix imatrix.gguf --text test.txt
                                                                             the best file of 4.25 bits a weight
  troika quantize model-f16.gguf model.gguf --bpw 4.25 --text test.txt --kl-tensors
                                                                             and what each tensor loses of it";

/// Write a model's weights in fewer bits
///
/// The file is written beside OUT and takes its name when it is whole.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QuantizeArgs {
    /// Model to read: a .gguf file, an installed name, or `stories` for the one inside; best in F16, BF16 or F32
    #[arg(value_name = "IN")]
    from: String,
    /// File to write
    #[arg(value_name = "OUT")]
    to: PathBuf,
    /// Format or mix: Q4_K_M, Q8_0, IQ4_XS, ...
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "bpw")]
    mix: Option<Mix>,
    /// Or bits per weight, all in all: each tensor gets the format with which the file loses least
    #[arg(long, value_name = "N", value_parser = bits, conflicts_with_all = ["mix", "tensor_type", "output_type"])]
    bpw: Option<f64>,
    /// Afterwards, read a text with both models, and tell the KL divergence of the new one
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    text: Option<PathBuf>,
    /// Also tell that of each tensor, with all others as they were; one more reading of the text's beginning for each
    #[arg(long, requires = "text")]
    kl_tensors: bool,
    /// What weighs how much, as `troika imatrix` measures it
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Format of the tensors whose names the regular expression finds; may be given several times, the first counts
    #[arg(long, value_name = "PATTERN=TYPE", value_parser = tensor_type)]
    tensor_type: Vec<(Regex, DType)>,
    /// Format of the matrix that makes the logits
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    output_type: Option<DType>,
    /// Round what was rounded already, which loses more than rounding the original
    #[arg(long)]
    allow_requantize: bool,
    /// Show what would become of each tensor, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    threads: ThreadArgs,
}

fn bits(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(bits) if (0.5..=32.0).contains(&bits) => Ok(bits),
        _ => Err("say a number of bits from 0.5 to 32, as in 4.25".to_owned()),
    }
}

fn dtype(name: &str) -> Result<DType, String> {
    DType::from_name(name).ok_or_else(|| format!("`{name}` is no number format"))
}

fn tensor_type(text: &str) -> Result<(Regex, DType), String> {
    let (pattern, name) = text
        .rsplit_once('=')
        .ok_or("say PATTERN=TYPE, as in ffn_down=Q5_K")?;
    let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
    Ok((pattern, dtype(name)?))
}

pub(crate) fn run(args: &QuantizeArgs, console: &Console) -> anyhow::Result<()> {
    let source = model::need(&args.from, &Home::from_env()?)?;
    if source.path().is_some_and(|path| is_same(path, &args.to)) {
        return Err(WrongUse("OUT is IN; write to another file".to_owned()).into());
    }
    let file = source.open()?;
    if file.adapter().is_some() {
        return Err(WrongUse(format!(
            "{:?} has adapters, which are not merged; quantize what it is made of, and make a model of that and the adapters",
            args.from
        ))
        .into());
    }
    let importance = match &args.imatrix {
        Some(path) => Some(Importance::open(path).context("cannot read the importance")?),
        None => None,
    };
    let device = load::cpu(args.threads.threads)?;
    let interrupt = Interrupt::install()?;
    let started = Instant::now();
    let (plan, tensors) = match (args.bpw, args.mix) {
        (Some(bits), _) => {
            let allotted = allotted(
                &file,
                bits,
                args,
                importance.as_ref(),
                &device,
                (console, &interrupt),
            );
            let allotment = allotted.with_context(|| format!("cannot quantize {}", file.name()))?;
            (allotment.plan, Some(allotment.tensors))
        }
        (None, Some(mix)) => (planned(&file, mix, args, importance.as_ref())?, None),
        (None, None) => unreachable!("the parser asks for one of the two. This is a bug."),
    };
    if args.dry_run {
        return report::planned(&file, &plan, tensors.as_deref(), console);
    }
    report::fallbacks(&plan, console);
    write(
        &file,
        &plan,
        importance.as_ref(),
        &device,
        &args.to,
        (console, &interrupt),
    )?;
    let took = started.elapsed();
    let divergence = match &args.text {
        Some(text) => {
            let around = (console, &interrupt);
            let comparison = Comparison::new(&file, &args.to, text, &device, around)?;
            Some(comparison.run(args.kl_tensors.then_some(&plan))?)
        }
        None => None,
    };
    report::written(
        &args.to,
        &file,
        (&plan, tensors.as_deref()),
        divergence.as_ref(),
        (took, &device),
        console,
    )
}

/// The plan of a mix.
fn planned(
    file: &ModelFile,
    mix: Mix,
    args: &QuantizeArgs,
    importance: Option<&Importance>,
) -> anyhow::Result<Plan> {
    let request = Request {
        mix,
        tensors: args.tensor_type.clone(),
        output: args.output_type,
        allow_requantize: args.allow_requantize,
    };
    let plan = Plan::new(file, &request, importance);
    plan.with_context(|| format!("cannot quantize {}", file.name()))
}

/// The plan for so many bits, chosen with a bar.
fn allotted(
    file: &ModelFile,
    bits_per_weight: f64,
    args: &QuantizeArgs,
    importance: Option<&Importance>,
    device: &CpuDevice,
    (console, interrupt): (&Console, &Interrupt),
) -> anyhow::Result<Allotment> {
    let mut bar = Bar::new(console, "measuring", Unit::Weights);
    let budget = Budget {
        bits_per_weight,
        allow_requantize: args.allow_requantize,
    };
    let with = (device.kernels(), device.pool().as_ref());
    let tell = &mut teller(&mut bar, interrupt);
    match troika_quantize::allot(file, budget, importance, with, tell) {
        Err(troika_quantize::Error::Cancelled) => Err(Interrupted.into()),
        other => Ok(other?),
    }
}

/// Tells a bar how far the work is; who interrupts cancels it.
fn teller(
    bar: &mut Bar,
    interrupt: &Interrupt,
) -> impl FnMut(Progress<'_>) -> ControlFlow<Cancelled> {
    move |progress| {
        bar.update(progress.done, progress.total);
        bar.remark(progress.tensor);
        interrupt.flow(Cancelled)
    }
}

/// Whether two paths lead to one file.
fn is_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(a).is_some_and(|a| real(b) == Some(a))
}

/// Carries a plan out with a bar.
fn write(
    file: &ModelFile,
    plan: &Plan,
    importance: Option<&Importance>,
    device: &CpuDevice,
    to: &Path,
    (console, interrupt): (&Console, &Interrupt),
) -> anyhow::Result<()> {
    let mut bar = Bar::new(console, "quantizing", Unit::Weights);
    let with = (device.kernels(), device.pool().as_ref());
    let written = {
        let tell = &mut teller(&mut bar, interrupt);
        troika_quantize::run(file, plan, importance, with, to, tell)
    };
    bar.clear();
    match written {
        Err(troika_quantize::Error::Cancelled) => Err(Interrupted.into()),
        Err(error) => Err(anyhow!(error)).context("cannot quantize the model"),
        Ok(()) => Ok(()),
    }
}
