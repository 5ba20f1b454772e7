//! `troika npu`: which NPUs and libraries there are, how to get them, and models compiled for them.

mod cache;
mod compile;
mod setup;
pub(crate) mod status;
mod worker;

use clap::Subcommand;

use crate::home::Home;
use crate::output::Console;

const EXAMPLES: &str = "\
Examples:
  troika npu                                      what is here, what is missing, and how to get it
  troika npu setup                                install what this computer's NPU needs, into TROIKA_HOME
  troika npu compile model.gguf                   compile a model, and tell what it loses by it
  troika npu compile model.gguf --weights int8 --ctx 8192
  troika npu cache                                what was compiled

TROIKA_OPENVINO_DIR, TROIKA_ORT_DIR, TROIKA_QNN_DIR and TROIKA_VITISAI_DIR name folders of libraries of your own.
TROIKA_NPU=cpu lets OpenVINO's NPU plugin stand in for an NPU on the CPU, or plain Rust where there is no OpenVINO.
TROIKA_NPU_CACHE_GB limits what is kept of compiled models [default: 32].";

/// Show NPUs and what drives them, install what is missing, compile models for them
///
/// Nothing here is needed to run models on other devices. Libraries of chips' makers are loaded when they are wanted and are no
/// part of this program.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NpuArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show NPUs, drivers and libraries, what is missing, and how to get it; the default
    Status,
    Setup(setup::SetupArgs),
    Compile(compile::CompileArgs),
    Cache(cache::CacheArgs),
    /// What compiles, in a process of its own
    #[command(hide = true)]
    Worker,
}

pub(crate) fn run(args: &NpuArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    match &args.verb {
        None | Some(Verb::Status) => status::run(&home, console),
        Some(Verb::Setup(args)) => setup::run(args, &home, console),
        Some(Verb::Compile(args)) => compile::run(args, &home, console),
        Some(Verb::Cache(args)) => cache::run(args, &home, console),
        Some(Verb::Worker) => worker::run(&home),
    }
}
