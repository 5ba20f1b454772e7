//! `troika quantize`: a model's weights in fewer bits.

mod report;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use regex::Regex;
use troika_base::DType;
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;
use troika_quantize::{Cancelled, Importance, Mix, Plan, Progress, Request};

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
  troika quantize model-f16.gguf model.gguf --type Q4_K_M --tensor-type ffn_down=Q5_K --output-type Q8_0";

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
    #[arg(long = "type", value_name = "TYPE")]
    mix: Mix,
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
    let importance = match &args.imatrix {
        Some(path) => Some(Importance::open(path).context("cannot read the importance")?),
        None => None,
    };
    let request = Request {
        mix: args.mix,
        tensors: args.tensor_type.clone(),
        output: args.output_type,
        allow_requantize: args.allow_requantize,
    };
    let plan = Plan::new(&file, &request, importance.as_ref())
        .with_context(|| format!("cannot quantize {}", file.name()))?;
    if args.dry_run {
        return report::planned(&file, &plan, console);
    }
    report::fallbacks(&plan, console);
    let device = load::cpu(args.threads.threads)?;
    let interrupt = Interrupt::install()?;
    let started = Instant::now();
    write(
        &file,
        &plan,
        importance.as_ref(),
        &device,
        &args.to,
        (console, &interrupt),
    )?;
    report::written(&args.to, &file, &plan, started.elapsed(), &device, console)
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
    let mut tell = |progress: Progress<'_>| -> ControlFlow<Cancelled> {
        bar.update(progress.done, progress.total);
        bar.remark(progress.tensor);
        interrupt.flow(Cancelled)
    };
    let with = (device.kernels(), device.pool().as_ref());
    let written = troika_quantize::run(file, plan, importance, with, to, &mut tell);
    bar.clear();
    match written {
        Err(troika_quantize::Error::Cancelled) => Err(Interrupted.into()),
        Err(error) => Err(anyhow!(error)).context("cannot quantize the model"),
        Ok(()) => Ok(()),
    }
}
