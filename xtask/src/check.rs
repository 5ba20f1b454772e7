//! `cargo xtask check`: the steps of CI, from any directory of the workspace.
//!
//! The list of steps stands once, in `.ci/run`; this only finds it and runs it.

use std::process::Command;

use anyhow::{Context as _, ensure};

/// Run all that CI runs, or only the steps named
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Steps to run; all when none is named. `.ci/run --list` names them.
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = crate::workspace_root()?;
    let status = Command::new("bash")
        .arg(".ci/run")
        .args(&args.steps)
        .current_dir(root)
        .status()
        .context("cannot run bash, which `.ci/run` is written for")?;
    ensure!(status.success(), "a step failed; its output is above");
    Ok(())
}
