//! `troika import`: a checkpoint as its makers publish it becomes a GGUF file.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;
use troika_base::Bytes;
use troika_import::{Checkpoint, Error};

use crate::exit::{Interrupted, WrongUse};
use crate::interrupt::Interrupt;
use crate::output::{self, Console};
use crate::progress::{Progress, Unit};

const EXAMPLES: &str = "\
Examples:
  troika import ./Qwen3-0.6B qwen3-0.6b.gguf    a directory with config.json and safetensors becomes one file
  troika import ./Qwen3-0.6B out.gguf --force   in place of what stands there

The numbers keep their format (F32, F16, BF16). Pickle files (.bin, .pt) are refused: opening one runs the program in it.";

/// Make a GGUF file of a checkpoint in safetensors
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArgs {
    /// Directory with config.json, the weights and the tokenizer
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Replace OUT if it exists
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(args: &ImportArgs, console: &Console) -> anyhow::Result<()> {
    if args.out.exists() && !args.force {
        let message = format!("{} exists; --force replaces it", args.out.display());
        return Err(WrongUse(message).into());
    }
    let failed = || format!("cannot import {}", args.directory.display());
    let checkpoint = Checkpoint::open(&args.directory).with_context(failed)?;
    let interrupt = Interrupt::install()?;
    let mut bar = Progress::new(console, "importing", Unit::Bytes);
    let written = checkpoint.write(&args.out, |now| {
        bar.update(now.done_bytes, now.bytes);
        interrupt.flow(())
    });
    bar.clear();
    match written {
        Err(Error::Stopped) => return Err(Interrupted.into()),
        written => written.with_context(failed)?,
    }
    let (architecture, n_tensors) = (checkpoint.architecture(), checkpoint.n_tensors());
    if console.json {
        return output::json(&json!({
            "file": args.out,
            "architecture": architecture,
            "tensors": n_tensors,
            "bytes": checkpoint.bytes(),
        }));
    }
    output::answer(format_args!(
        "{}: {architecture}, {n_tensors} tensors, {}\n",
        args.out.display(),
        Bytes(checkpoint.bytes())
    ))
}
