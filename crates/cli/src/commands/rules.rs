//! `troika rules`: what may leave this machine, and why.

mod list;
mod test;

use clap::Subcommand;
use troika_remote::Loaded;
use troika_remote::redact::Redactor;
use troika_remote::rules::HybridFile;
use troika_server::Settings;

use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::{self, Console};
use crate::settings::HybridArgs;

const EXAMPLES: &str = "\
Examples:
  troika rules check                           whether hybrid.toml makes sense
  troika rules list                            what keeps a job here, and the rules in their order
  troika rules test request.json               what would become of a request, and why
  troika rules test request.json --key laptop --header X-Troika-Privacy:local-only
  troika rules test request.json --api anthropic --prompt-tokens 9000 --ttft 12 --battery 15

Without hybrid.toml, nothing leaves this machine.";

/// See by which rules requests may leave this machine, and try them
///
/// Nothing is sent, whatever a rule says.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RulesArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    hybrid: HybridArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Test(Box<test::TestArgs>),
    /// List what keeps a job here, and the rules in their order
    List,
    /// Check the file, and tell what is odd about it
    Check,
}

pub(crate) fn run(args: &RulesArgs, console: &Console) -> anyhow::Result<()> {
    let settings = args.hybrid.settings(&Home::from_env()?, [])?;
    let loaded = load(&settings, args.hybrid.hybrid_file.is_some())?;
    if settings.offline {
        console.note(
            "The setting `offline` is on: `troika serve` reads no rules, and nothing leaves.",
        );
    }
    match &args.verb {
        Verb::Test(args) => test::run(args, &loaded, &settings, console),
        Verb::List => list::run(&loaded, console),
        Verb::Check => check(&loaded, &settings, console),
    }
}

/// The file as it is now. One that is named has to be there.
fn load(settings: &Settings, is_named: bool) -> anyhow::Result<std::sync::Arc<Loaded>> {
    let path = &settings.hybrid_file;
    if is_named && !path.exists() {
        return Err(WrongUse(format!("there is no file {}", path.display())).into());
    }
    Ok(HybridFile::open(path)?.current())
}

fn check(loaded: &Loaded, settings: &Settings, console: &Console) -> anyhow::Result<()> {
    // Lists of names are files of their own.
    Redactor::new(&loaded.config.redact).map_err(|error| error.in_file(&settings.hybrid_file))?;
    let remarks = loaded.remarks();
    let path = &settings.hybrid_file;
    let config = &loaded.config;
    if console.json {
        return output::json(&serde_json::json!({
            "file": path,
            "exists": path.exists(),
            "remotes": config.remote.len(),
            "rules": config.rule.len(),
            "remarks": remarks,
        }));
    }
    if !path.exists() {
        let path = path.display();
        return output::answer(format_args!(
            "There is no {path}: nothing leaves this machine.\n"
        ));
    }
    let count = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let (remotes, rules) = (config.remote.len(), config.rule.len());
    let mut page = format!(
        "{} makes sense: {}, {}.\n",
        path.display(),
        count(remotes, "remote"),
        count(rules, "rule")
    );
    for remark in &remarks {
        page.push('\n');
        page.push_str(&output::wrapped(remark, 2, 100));
    }
    output::answer(page)
}
