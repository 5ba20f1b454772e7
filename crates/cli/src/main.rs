//! The program `troika`: parse, run, exit.
//!
//! One file per verb stands under `commands/`; `args.rs` has the flags that verbs share. Nothing here is for reuse:
//! what another program could want is in the crates below.
#![forbid(unsafe_code)]

mod args;
mod commands;

mod adapters;
mod always_on;
mod seeing;
mod sound;

mod gpu;
mod home;
mod load;
mod logging;
mod measurements;
mod model;
mod npu;
mod serving;
mod settings;
mod weights;

mod exit;
mod interrupt;
mod machine;
mod output;
mod page;
mod progress;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match args::Args::try_parse() {
        Ok(args) => exit::code(commands::run(args)),
        Err(refused) => exit::refused(&refused),
    }
}
