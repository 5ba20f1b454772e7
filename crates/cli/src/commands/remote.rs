//! `troika remote`: endpoints beyond this machine, as `hybrid.toml` has them.
//!
//! Which requests go there is the rules' to say (`troika rules`). Of the verbs, `test` alone sends something: a sentence of
//! ours.

mod add;
mod edit;
mod list;
mod test;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use troika_remote::receipts::{Beginning, End, Intent, Ledger, LedgerError, ReceiptId, Spent};
use troika_remote::{HybridFile, Loaded, Remotes};
use troika_server::Settings;

use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::Console;
use crate::settings::HybridArgs;

const EXAMPLES: &str = "\
Examples:
  troika remote add house --url http://192.168.1.20:8000/v1 --allow-plain-http --model qwen3:32b=Qwen/Qwen3-32B
  troika remote add big --url https://api.example.com/v1 --model large --key keyring:big --store-key < key.txt
  troika remote add claude --api anthropic --url https://api.anthropic.com --key env:ANTHROPIC_API_KEY \\
      --model claude=claude-sonnet-4-5 --price-in 3 --price-out 15
  troika remote test big                           how fast it answers, with a sentence of ours
  troika remote list --json

A remote alone changes nothing: without a rule that lets a request go, everything stays (`troika rules`).";

/// Manage endpoints beyond this machine
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RemoteArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    hybrid: HybridArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Box<add::AddArgs>),
    Test(test::TestArgs),
    /// List the endpoints, and what was measured of them
    List,
    /// Remove an endpoint from the file; its key stays where it is kept
    Remove {
        /// Its name
        name: String,
    },
}

pub(crate) fn run(args: &RemoteArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let settings = args.hybrid.settings(&home, [])?;
    let path = &settings.hybrid_file;
    match &args.verb {
        Verb::Add(args) => add::run(args, path, console),
        Verb::Remove { name } => edit::remove(path, name),
        Verb::List => list::run(&*load(&settings)?, &home, console),
        Verb::Test(args) => test::run(args, &settings, &home, console),
    }
}

fn load(settings: &Settings) -> anyhow::Result<Arc<Loaded>> {
    Ok(HybridFile::open(&settings.hybrid_file)?.current())
}

/// The endpoints, with what was measured of them, for somebody who sends nothing or has receipts for it.
fn open(loaded: &Loaded, home: &Home, ledger: Arc<dyn Ledger>) -> anyhow::Result<Remotes> {
    Remotes::open(&loaded.config, home.path(), ledger).context("the endpoints cannot be used")
}

/// The place of a remote in the configuration.
fn find(loaded: &Loaded, name: &str, path: &Path) -> Result<usize, WrongUse> {
    let remotes = &loaded.config.remote;
    remotes
        .iter()
        .position(|it| it.name == name)
        .ok_or_else(|| {
            let known: Vec<_> = remotes.iter().map(|it| it.name.as_str()).collect();
            let path = path.display();
            WrongUse(match known.is_empty() {
                true => format!(
                    "there is no remote `{name}`: {path} has none; see `troika remote add --help`"
                ),
                false => format!(
                    "there is no remote `{name}` in {path}; there are {}",
                    known.join(", ")
                ),
            })
        })
}

/// Receipts of those who only look: nothing can leave with them.
#[derive(Debug)]
struct NoReceipts;

impl Ledger for NoReceipts {
    fn begin(&self, _: Intent) -> Beginning<'_> {
        let error = LedgerError::Unwritable("this command sends nothing".to_owned());
        Box::pin(std::future::ready(Err(error)))
    }

    fn end(&self, _: ReceiptId, _: End) {}

    fn spent(&self, _: &str) -> Spent {
        Spent::default()
    }
}
