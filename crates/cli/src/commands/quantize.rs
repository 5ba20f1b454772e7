//! `troika quantize`: a model's weights in fewer bits.

mod divergence;
mod report;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use regex::Regex;
use troika_base::DType;
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;
use troika_kernels::{Kernels, Pool};
use troika_quantize::{
    Allotment, Budget, Cancelled, Importance, Losses, Mix, Plan, Progress, Request,
};

use self::divergence::Comparison;
use crate::args::ThreadArgs;
use crate::exit::{Interrupted, WrongUse};
use crate::home::{Home, folder_of};
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
  troika quantize model-f16.gguf model.gguf --bpw 4.25 --imatrix imatrix.gguf --sensitivity text.txt
                                                                             better still, if you have the time
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
    /// Choose by what each tensor's rounding does to the predictions for a text, instead of by its error alone: one more
    /// reading of the text's beginning for each
    #[arg(long, value_name = "FILE", requires = "bpw", conflicts_with = "mix")]
    sensitivity: Option<PathBuf>,
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
    let work = Work {
        file: &file,
        importance: importance.as_ref(),
        device: &device,
        console,
        interrupt: &interrupt,
    };
    let (plan, tensors) = match (args.bpw, args.mix) {
        (Some(bits), _) => {
            let allotment = work.allotted(bits, args);
            let allotment =
                allotment.with_context(|| format!("cannot quantize {}", file.name()))?;
            (allotment.plan, Some(allotment.tensors))
        }
        (None, Some(mix)) => (planned(&file, mix, args, importance.as_ref())?, None),
        (None, None) => unreachable!("the parser asks for one of the two. This is a bug."),
    };
    if args.dry_run {
        return report::planned(&file, &plan, tensors.as_deref(), console);
    }
    report::fallbacks(&plan, console);
    work.write(&plan, &args.to)?;
    let took = started.elapsed();
    let divergence = match &args.text {
        Some(text) => {
            let comparison = work.comparison(&args.to, text)?;
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

/// A file, and what is done to it with.
struct Work<'w> {
    file: &'w ModelFile,
    importance: Option<&'w Importance>,
    device: &'w CpuDevice,
    console: &'w Console,
    interrupt: &'w Interrupt,
}

impl Work<'_> {
    /// The plan for so many bits, chosen with a bar.
    fn allotted(&self, bits_per_weight: f64, args: &QuantizeArgs) -> anyhow::Result<Allotment> {
        let budget = Budget {
            bits_per_weight,
            allow_requantize: args.allow_requantize,
        };
        let losses = {
            let mut bar = Bar::new(self.console, "measuring", Unit::Weights);
            let tell = &mut teller(&mut bar, self.interrupt);
            let measured = Losses::measure(self.file, self.importance, self.with(), tell);
            measured.map_err(told_apart)?
        };
        let allotment = losses.allot(budget)?;
        let Some(text) = &args.sensitivity else {
            return Ok(allotment);
        };
        // What the errors alone would choose is tried: near enough to the choice that counts, so that harms are of its size.
        let trial = tempfile::Builder::new()
            .prefix(".troika-trial-")
            .tempdir_in(folder_of(&args.to))
            .with_context(|| format!("cannot write beside {:?}", args.to.display().to_string()))?;
        let path = trial.path().join("trial.gguf");
        self.write(&allotment.plan, &path)?;
        let harms = self.comparison(&path, text)?.each(&allotment.plan)?;
        Ok(losses.allot_again(budget, &allotment, &harms)?)
    }

    /// Carries a plan out with a bar.
    fn write(&self, plan: &Plan, to: &Path) -> anyhow::Result<()> {
        let mut bar = Bar::new(self.console, "quantizing", Unit::Weights);
        let tell = &mut teller(&mut bar, self.interrupt);
        let written = troika_quantize::run(self.file, plan, self.importance, self.with(), to, tell);
        written
            .map_err(told_apart)
            .context("cannot quantize the model")
    }

    fn comparison(&self, quantized: &Path, text: &Path) -> anyhow::Result<Comparison<'_>> {
        let around = (self.console, self.interrupt);
        Comparison::new(self.file, quantized, text, self.device, around)
    }

    fn with(&self) -> (&Kernels, &Pool) {
        (self.device.kernels(), self.device.pool().as_ref())
    }
}

/// An error, or that somebody interrupted.
fn told_apart(error: troika_quantize::Error) -> anyhow::Error {
    match error {
        troika_quantize::Error::Cancelled => Interrupted.into(),
        error => error.into(),
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
