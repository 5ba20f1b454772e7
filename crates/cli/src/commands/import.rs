//! `troika import`: a checkpoint as its makers publish it becomes a GGUF file.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;
use troika_base::Bytes;
use troika_gguf::ModelFile;
use troika_import::{Checkpoint, Error};

use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::model;
use crate::output::{self, Console};
use crate::progress::{Progress, Unit};

const EXAMPLES: &str = "\
Examples:
  troika import ./Qwen3-0.6B qwen3-0.6b.gguf    a directory with config.json and safetensors becomes one file
  troika import ./Qwen3-0.6B out.gguf --force   in place of what stands there
  troika import ./my-lora style.gguf --base qwen3-0.6b
                                                a LoRA adapter of PEFT's, for a model that is installed

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
    /// The model that DIR is a LoRA adapter for: the directory that PEFT has saved becomes an adapter's file
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
}

pub(crate) fn run(args: &ImportArgs, console: &Console) -> anyhow::Result<()> {
    if args.out.exists() && !args.force {
        let message = format!("{} exists; --force replaces it", args.out.display());
        return Err(WrongUse(message).into());
    }
    if let Some(base) = &args.base {
        return adapter(args, base, console);
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

/// An adapter's file of what PEFT has saved, which the model's architecture gives names and order of rows.
fn adapter(args: &ImportArgs, base: &str, console: &Console) -> anyhow::Result<()> {
    let model = model::need(base, &Home::from_env()?)?.open()?;
    let failed = || format!("cannot import the adapter {}", args.directory.display());
    troika_import::write_adapter(&args.directory, &model, &args.out).with_context(failed)?;
    let file = ModelFile::open(&args.out)?;
    let architecture = file.metadata().str("general.architecture")?;
    let n_tensors = file.tensors().len();
    if console.json {
        return output::json(&json!({
            "file": args.out,
            "architecture": architecture,
            "tensors": n_tensors,
            "bytes": file.bytes(),
        }));
    }
    output::answer(format_args!(
        "{}: adapter for {architecture}, {n_tensors} tensors, {}\n",
        args.out.display(),
        Bytes(file.bytes())
    ))
}
