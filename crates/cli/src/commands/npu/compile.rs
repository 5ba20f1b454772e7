//! `troika npu compile`: a model for an NPU, and what it loses by it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use troika_base::Bytes;
use troika_device::{Cancelled, Device as _};
use troika_device_npu::compile::{Entry, LOSS_MAX, Loss, Manifest};
use troika_device_npu::{
    Backends, CompileProgress, Error, NpuDevice, NpuOptions, Offer, Phase, WeightFormat,
};
use troika_gguf::ModelFile;

use crate::args::{bounded, context_length};
use crate::commands::devices;
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::{self, Console, line, number};
use crate::progress::{Progress, Unit};
use crate::{model, npu};

/// Compile a model for an NPU, and tell what it loses by that
///
/// The result is kept, and `troika serve` takes it from there. The loss is measured: the Kullback-Leibler divergence of what the
/// compiled model predicts from what the file's model predicts on the CPU, over a short text.
#[derive(Debug, clap::Args)]
pub(crate) struct CompileArgs {
    /// Model: a .gguf file, an installed name, or `stories` for the one inside
    #[arg(value_name = "MODEL")]
    model: String,
    /// How weights are written: int4-g64, int4-g128, int4-channel, int8 or f16 [default: int4-g128, and f16 for models below
    /// 64 MiB]
    #[arg(long, value_name = "FORMAT")]
    weights: Option<WeightFormat>,
    /// Tokens of prompt and answer together, rounded up to a power of two or the model's own length [default: 4096, or the
    /// model's own if that is shorter]
    #[arg(long, value_name = "N", value_parser = context_length)]
    ctx: Option<usize>,
    /// Tokens of a prompt that are read at a time
    #[arg(long, value_name = "N", default_value_t = NpuOptions::default().chunk, value_parser = chunk_length)]
    chunk: usize,
    /// What to compile for: `npu`, `npu0`, `cpu`, `gpu`, or a way that `troika npu` names
    #[arg(long, value_name = "DEVICE", default_value = "npu")]
    device: String,
    /// Refuse a mean loss above this many nats per token; `inf` refuses none
    #[arg(long, value_name = "KL", default_value_t = LOSS_MAX, value_parser = limit)]
    limit: f64,
}

fn chunk_length(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1 << 16)
}

fn limit(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    number
        .filter(|limit: &f64| *limit >= 0.0)
        .ok_or_else(|| "expected a number of 0 or more, or `inf`".to_owned())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'r> {
    device: &'r str,
    backend: String,
    description: String,
    stands_in: bool,
    weights: String,
    n_ctx: usize,
    cached: bool,
    bytes: u64,
    loss: Option<Loss>,
    seconds: f64,
    directory: &'r Path,
}

pub(super) fn run(args: &CompileArgs, home: &Home, console: &Console) -> anyhow::Result<()> {
    let file = model::need(&args.model, home)?.open()?;
    let machine = devices::described(home, console);
    let backends = npu::backends(home, &machine)?;
    let offer = choose(&backends, &args.device)?;
    let device = device(args, offer, home)?;
    let n_ctx = args.ctx.unwrap_or(0);
    let cached = device.is_compiled(&file, n_ctx)?;
    let interrupt = Interrupt::install()?;
    let entry = compile(&device, &file, n_ctx, console, &interrupt).map_err(advise)?;
    let manifest = entry.manifest();
    if !console.json {
        console.detail(entry.directory().display());
        return output::answer(told(manifest, offer, cached));
    }
    output::json(&Report {
        device: device.name(),
        backend: offer.backend.name(),
        description: offer.description(),
        stands_in: offer.stands_in,
        weights: device.compile_options(&file, n_ctx).weights.to_string(),
        n_ctx: device.compile_options(&file, n_ctx).n_ctx,
        cached,
        bytes: manifest.bytes(),
        loss: manifest.loss,
        seconds: manifest.seconds,
        directory: entry.directory(),
    })
}

fn device(args: &CompileArgs, offer: &Offer, home: &Home) -> anyhow::Result<NpuDevice> {
    let options = NpuOptions {
        weights: args.weights,
        n_ctx: args.ctx.unwrap_or(NpuOptions::default().n_ctx),
        chunk: args.chunk,
        loss_max: Some(args.limit),
    };
    let name = offer.npu.clone().unwrap_or_else(|| offer.backend.name());
    let backend = Arc::clone(&offer.backend);
    Ok(NpuDevice::new(
        name,
        backend,
        npu::store(home)?,
        npu::worker()?,
        options,
    ))
}

/// The way that a word names.
fn choose<'b>(backends: &'b Backends, word: &str) -> anyhow::Result<&'b Offer> {
    if let Some(offer) = backends.named(word) {
        return Ok(offer);
    }
    let refused = backends.refused.iter().find(|refused| match word {
        "npu" => refused.npu.is_some(),
        word => refused.npu.as_deref() == Some(word),
    });
    if let Some(refused) = refused {
        let remedy = match &*refused.remedy {
            "" => String::new(),
            remedy => format!("; {remedy}"),
        };
        return Err(anyhow!("{}: {}{remedy}", refused.way, refused.why));
    }
    let offers = backends.offers.iter();
    let known: Vec<_> = offers.map(|offer| offer.backend.name()).collect();
    let known = known.join(", ");
    match word {
        "npu" | "npu0" => Err(anyhow!(
            "this computer has no NPU; other ways that are open: {known}. Choose one by `--device`"
        )),
        word => Err(WrongUse(format!(
            "--device {word}: nothing here is called that; there is {known}"
        ))
        .into()),
    }
}

fn compile(
    device: &NpuDevice,
    file: &ModelFile,
    n_ctx: usize,
    console: &Console,
    interrupt: &Interrupt,
) -> anyhow::Result<Entry> {
    let mut bar: Option<(Phase, Progress)> = None;
    let compiled = device.compile(file, n_ctx, &mut |progress| -> ControlFlow<Cancelled> {
        show(&mut bar, progress, console);
        interrupt.flow(Cancelled)
    });
    drop(bar);
    match compiled {
        Err(Error::Cancelled) if interrupt.is_set() => Err(Interrupted.into()),
        other => other.context("cannot compile the model"),
    }
}

/// A bar for each phase.
fn show(bar: &mut Option<(Phase, Progress)>, progress: CompileProgress, console: &Console) {
    let CompileProgress { phase, done, total } = progress;
    if bar.as_ref().is_none_or(|(shown, _)| *shown != phase) {
        let (label, unit) = match phase {
            Phase::Lower => ("writing weights", Unit::Bytes),
            Phase::Compile => (
                "the compiler works, and does not tell how far it is",
                Unit::Time,
            ),
            Phase::Write => ("writing the result", Unit::Time),
            Phase::Compare => ("comparing", Unit::Tokens),
        };
        *bar = Some((phase, Progress::new(console, label, unit)));
    }
    if let Some((_, shown)) = bar {
        shown.update(done, total);
    }
}

/// What to do about a loss that is too large.
fn advise(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Error>() {
        Some(Error::Loss { .. }) => error.context(
            "the model was compiled and is kept, but not used like this: take finer weights (`--weights int4-g64`, `int8`), or \
             allow more by `--limit`",
        ),
        _ => error,
    }
}

/// The answer for people.
fn told(manifest: &Manifest, offer: &Offer, cached: bool) -> String {
    let word = |name| manifest.key_line(name).unwrap_or("unknown");
    let when = match cached {
        true => "was compiled before",
        false => "is compiled",
    };
    let loss = match manifest.loss {
        None => "what it loses is unknown: nobody compared".to_owned(),
        Some(loss) => format!(
            "it loses {:.4} nats per token in the mean and {:.3} at worst; of {} likeliest tokens, {} % are the file's",
            loss.kl_mean,
            loss.kl_max,
            loss.tokens,
            number(loss.agreement * 100.0),
        ),
    };
    format!(
        "{} {when}, in {} s: {}\n{} weights, {} tokens of context, {}\n{loss}\n",
        line(&manifest.model, 100),
        number(manifest.seconds),
        line(&offer.description(), 160),
        word("weights"),
        word("n_ctx"),
        Bytes(manifest.bytes()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers() {
        assert_eq!(limit("0.5"), Ok(0.5));
        assert_eq!(limit("inf"), Ok(f64::INFINITY));
        for text in ["-1", "NaN", "much", ""] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
