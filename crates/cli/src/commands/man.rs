//! `troika man`: the manual, as `man` reads it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::args::Args;
use crate::output;

/// Write the manual page to stdout, or the pages of all verbs to a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Read it:     troika man | man -l -
Install it:  troika man --dir ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write troika.1, troika-run.1 and the rest into this directory, which is made if need be
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs) -> anyhow::Result<()> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Args::command())
            .render(&mut page)
            .context("cannot write the manual")?;
        return output::answer(String::from_utf8_lossy(&page));
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Args::command().disable_help_subcommand(true), dir))
        .with_context(|| format!("cannot write the manual to {}", dir.display()))
}
