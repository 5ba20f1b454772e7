//! `troika imatrix`: which columns of a model's matrices matter, measured on a text.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;
use troika_device::LoadOptions;
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{ColumnSums, Observer};
use troika_quantize::{Columns, Importance, Origin};

use super::perplexity::{read, window_length};
use crate::args::ThreadArgs;
use crate::exit::Interrupted;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::load;
use crate::model;
use crate::output::{self, Console, count};
use crate::progress::{Progress, Unit};

const EXAMPLES: &str = "\
Examples:
  troika imatrix model-f16.gguf --text text.txt -o imatrix.gguf
  troika quantize model-f16.gguf model.gguf --type IQ4_XS --imatrix imatrix.gguf";

/// Measure which columns of a model's matrices matter, for `troika quantize`
///
/// The model reads a text, and the squares of what goes into each matrix are summed column by column. The file is the one
/// that llama.cpp's tools read and write.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImatrixArgs {
    /// Model: a .gguf file, an installed name, or `stories` for the one inside
    #[arg(value_name = "MODEL")]
    model: String,
    /// Text of the kind that the model is for, in UTF-8; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Tokens of a window [default: 512, or the model's context if that is shorter]
    #[arg(long, value_name = "N", value_parser = window_length)]
    ctx: Option<usize>,
    #[command(flatten)]
    threads: ThreadArgs,
}

pub(crate) fn run(args: &ImatrixArgs, console: &Console) -> anyhow::Result<()> {
    let source = model::need(&args.model, &Home::from_env()?)?;
    let file = source.open()?;
    let spec = troika_engine::model_spec(&file).context("cannot load the model")?;
    let n_ctx = super::perplexity::window(args.ctx, spec.n_ctx)?;
    let text = read(&args.text)?;

    let interrupt = Interrupt::install()?;
    let observer = Observer::default();
    let device = observer.device(&load::cpu(args.threads.threads)?);
    let (mut model, _) = load::model(&file, &device, LoadOptions::new(n_ctx), console, &interrupt)?;
    let options = EncodeOptions {
        add_special: true,
        parse_special: false,
    };
    let tokens = model.tokenizer().encode(&text, options);
    let mut bar = Progress::new(console, "measuring", Unit::Windows);
    let windows = model.read_windows(&tokens, n_ctx, &mut |done, of| {
        bar.update(done as u64, of as u64);
        interrupt.flow(())
    });
    bar.clear();
    let windows = windows.context("cannot read the text")?;
    if interrupt.is_set() {
        return Err(Interrupted.into());
    }
    let importance = importance(observer.seen(), args, windows, n_ctx);
    importance
        .write(&args.output)
        .context("cannot write the importance")?;
    let to = args.output.display().to_string();
    let read = (windows * n_ctx) as u64;
    if console.json {
        return output::json_line(&json!({
            "to": to,
            "matrices": importance.columns.len(),
            "windows": windows,
            "n_ctx": n_ctx,
        }));
    }
    output::answer(format_args!(
        "{}: {} matrices over {} tokens in {windows} windows of {n_ctx}\n",
        output::printable(&to),
        importance.columns.len(),
        count(read),
    ))
}

fn importance(
    seen: BTreeMap<String, ColumnSums>,
    args: &ImatrixArgs,
    windows: usize,
    n_ctx: usize,
) -> Importance {
    let columns = seen.into_iter().map(|(name, sums)| {
        let columns = Columns {
            sums: sums.squares.iter().map(|&sum| sum as f32).collect(),
            counts: sums.rows.iter().map(|&rows| rows as f32).collect(),
        };
        (name, columns)
    });
    Importance {
        columns: columns.collect(),
        origin: Origin {
            file: None,
            datasets: vec![args.text.display().to_string()],
            chunk_count: windows as u32,
            chunk_size: n_ctx as u32,
        },
    }
}
