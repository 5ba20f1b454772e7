//! `troika perplexity`: how well a model predicts a text, and how far that is from what another form of it predicts.

mod divergence;

use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use troika_device::Device as _;
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{Model, Perplexity, Recorder};

use crate::adapters::AdapterArgs;
use crate::args::{KvArgs, ThreadArgs, bounded};
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::load;
use crate::model;
use crate::output::{self, Console, number};
use crate::progress::{Progress, Unit};

const EXAMPLES: &str = "\
Examples:
  troika perplexity model.gguf text.txt
  troika perplexity model-f16.gguf text.txt --kl-base logits     the original's predictions, kept
  troika perplexity model-q4.gguf --kl logits                    what four bits make of them";

/// Measure how well a model predicts a text: the lower, the better
///
/// The text is read in windows of tokens, and the second half of each is predicted from what stands before it in the
/// window, as llama.cpp does: the figures of the two can be compared.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PerplexityArgs {
    /// Model: a .gguf file, an installed name, or `stories` for the one inside
    #[arg(value_name = "MODEL")]
    model: String,
    /// The text, in UTF-8; `-` reads stdin
    #[arg(value_name = "TEXTFILE", required_unless_present = "kl")]
    text: Option<PathBuf>,
    /// Write the model's logits of the text to FILE, for other forms of the model to be compared with
    #[arg(long, value_name = "FILE")]
    kl_base: Option<PathBuf>,
    /// Compare with the logits in FILE, of the text that they are of: how far the predictions are away from those
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "kl_base", "ctx"])]
    kl: Option<PathBuf>,
    /// Tokens of a window [default: 512, or the model's context if that is shorter]
    #[arg(long, value_name = "N", value_parser = window_length)]
    ctx: Option<usize>,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    kv: KvArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Tokens of a window when nothing is said: what published figures are mostly measured with.
const WINDOW_DEFAULT: usize = 512;

/// Half a window is read and the last token has nothing after it, so fewer than four predict next to nothing.
pub(super) fn window_length(text: &str) -> Result<usize, String> {
    bounded(text, 4, 1 << 24)
}

pub(crate) fn run(args: &PerplexityArgs, console: &Console) -> anyhow::Result<()> {
    let source = model::need(&args.model, &Home::from_env()?)?;
    let file = args.adapters.apply(source.open()?)?;
    let spec = troika_engine::model_spec(&file).context("cannot load the model")?;
    if let Some(recorded) = &args.kl {
        return divergence::run(&file, &spec, recorded, args, console);
    }
    let n_ctx = window(args.ctx, spec.n_ctx)?;
    let text = read(args.text.as_deref().unwrap_or(Path::new("-")))?;
    let recorder = match &args.kl_base {
        Some(path) => Some(Recorder::create(path)?),
        None => None,
    };

    let interrupt = Interrupt::install()?;
    let device = load::cpu(args.threads.threads)?;
    let (mut model, _) = load::model(&file, &device, args.kv.options(n_ctx), console, &interrupt)?;
    let started = Instant::now();
    let measured = measure(&mut model, &text, n_ctx, recorder, (console, &interrupt))?;
    let read_tps = (measured.windows * n_ctx) as f64 / started.elapsed().as_secs_f64();
    if console.json {
        output::json_line(&Report {
            model: model.name(),
            device: device.name(),
            kernels: device.kernels().name,
            threads: device.threads(),
            n_ctx,
            windows: measured.windows,
            windows_total: measured.total,
            tokens: measured.perplexity.tokens,
            perplexity: measured.perplexity.value,
            error: measured.perplexity.error,
            read_tps,
        })?;
    } else {
        output::answer(format_args!("{}\n", measured.line(n_ctx)))?;
    }
    console.note(format_args!(
        "{} · {} · {} tokens/s",
        device.name(),
        device.description(),
        number(read_tps)
    ));
    // What was measured before Ctrl-C was worth having.
    match interrupt.is_set() {
        true => Err(Interrupted.into()),
        false => Ok(()),
    }
}

/// Tokens of a window.
///
/// # Errors
/// [`WrongUse`] if the model has no such context.
pub(super) fn window(asked: Option<usize>, n_ctx: usize) -> Result<usize, WrongUse> {
    let window = asked.unwrap_or(WINDOW_DEFAULT.min(n_ctx));
    match window <= n_ctx {
        true => Ok(window),
        false => Err(WrongUse(format!(
            "--ctx {window}: the model was made for {n_ctx} tokens of context, and predicts nothing well beyond them"
        ))),
    }
}

pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    read.with_context(|| format!("cannot read the text {}", path.display()))?;
    Ok(text)
}

/// A text's perplexity, and how much of the text went into it.
struct Measured {
    perplexity: Perplexity,
    windows: usize,
    total: usize,
}

fn measure(
    model: &mut Model,
    text: &str,
    n_ctx: usize,
    recorder: Option<Recorder>,
    (console, interrupt): (&Console, &Interrupt),
) -> anyhow::Result<Measured> {
    let options = EncodeOptions {
        add_special: true,
        parse_special: false,
    };
    let tokens = model.tokenizer().encode(text, options);
    let mut bar = Progress::new(console, "perplexity", Unit::Windows);
    let (mut windows, mut total) = (0, 0);
    let mut last = None;
    let mut on_window = |done, of, so_far: Perplexity| {
        (windows, total) = (done, of);
        last = Some(so_far);
        bar.update(done as u64, of as u64);
        bar.remark(&format!("{:.4}", so_far.value));
        match interrupt.flow(()) {
            // After the last one there is nothing to break off.
            ControlFlow::Break(()) if done < of => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let perplexity = match recorder {
        None => model.perplexity(&tokens, n_ctx, &mut on_window),
        // Broken off, nothing is kept of the logits, and yet the figure was measured.
        Some(recorder) => model
            .record(&tokens, n_ctx, recorder, &mut on_window)
            .and_then(|perplexity| perplexity.or(last).ok_or(troika_engine::Error::NoNumbers)),
    };
    bar.clear();
    let perplexity = perplexity.context("cannot measure perplexity")?;
    ensure!(
        perplexity.value.is_finite(),
        "the model's scores are no numbers; its file is damaged"
    );
    Ok(Measured {
        perplexity,
        windows,
        total,
    })
}

impl Measured {
    /// The answer for people.
    fn line(&self, n_ctx: usize) -> String {
        let Perplexity {
            value,
            error,
            tokens,
        } = self.perplexity;
        let windows = match (self.windows, self.total) {
            (1, 1) => "1 window".to_owned(),
            (done, total) if done == total => format!("{done} windows"),
            (done, total) => format!("the first {done} of {total} windows"),
        };
        format!(
            "perplexity {value:.4} ± {error:.4}: {tokens} tokens predicted in {windows} of {n_ctx}"
        )
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    device: &'a str,
    kernels: &'static str,
    threads: usize,
    n_ctx: usize,
    windows: usize,
    windows_total: usize,
    tokens: usize,
    perplexity: f64,
    error: f64,
    read_tps: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_one_line() {
        let mut measured = Measured {
            perplexity: Perplexity {
                value: 12.345_67,
                error: 0.5,
                tokens: 510,
            },
            windows: 2,
            total: 2,
        };
        let want = "perplexity 12.3457 ± 0.5000: 510 tokens predicted in 2 windows of 512";
        assert_eq!(measured.line(512), want);
        measured.total = 9;
        assert!(
            measured
                .line(512)
                .contains("in the first 2 of 9 windows of 512")
        );
    }
}
