//! `troika keys`: who may use the server.

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use troika_scheduler::Class;
use troika_server::keys::{Key, KeyFile, NewKey, Scope};

use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::{self, Align, Console};
use crate::settings::ConfigArgs;

/// Manage the API keys of `troika serve`
///
/// As soon as there is a key, every request needs one. A running server follows changes within a second.
#[derive(Debug, clap::Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
    #[command(flatten)]
    config: ConfigArgs,
    /// Where API keys are [default: as the configuration says]
    #[arg(long, value_name = "FILE", global = true)]
    keys_file: Option<String>,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key and show it, this once
    Add {
        /// Whose it is, or what for
        name: String,
        /// What it may do; may be given several times
        #[arg(long, value_name = "SCOPE", default_value = "inference")]
        scope: Vec<ScopeArg>,
        /// Requests a minute at most [default: no limit]
        #[arg(long, value_name = "N", value_parser = share())]
        rate: Option<u32>,
        /// Tokens a minute at most, read and written [default: no limit]
        #[arg(long, value_name = "N", value_parser = share())]
        tokens: Option<u32>,
        /// How urgent its jobs are that do not say so themselves: interactive, agent, background or batch
        /// [default: as the route has it]
        #[arg(long, value_name = "CLASS")]
        class: Option<Class>,
    },
    /// List the keys; their secrets are not kept
    List,
    /// Remove a key
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScopeArg {
    /// Ask models, and see which there are
    Inference,
    /// Create, copy and delete models
    Models,
    /// See metrics and status
    Admin,
}

fn share() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

pub(crate) fn run(args: &KeysArgs, console: &Console) -> anyhow::Result<()> {
    let flags = [("keys_file", args.keys_file.clone())];
    let settings = args.config.settings(&Home::from_env()?, flags)?;
    let file = KeyFile::at(settings.keys_file);
    match &args.command {
        KeysCommand::Add {
            name,
            scope,
            rate,
            tokens,
            class,
        } => {
            let mut scopes: Vec<Scope> = Vec::new();
            for scope in scope.iter().copied().map(Scope::from) {
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
            let new = NewKey {
                name: name.clone(),
                scopes,
                requests_per_minute: *rate,
                tokens_per_minute: *tokens,
                default_class: *class,
            };
            add(&file, new, console)
        }
        KeysCommand::List => list(&file.load()?.unwrap_or_default(), console),
        KeysCommand::Remove { name } => {
            if file.remove(name).map_err(wrong_use)? == 0 {
                console.note(format_args!(
                    "No key is left, so every request will be refused; delete {} to serve without keys.",
                    file.path().display()
                ));
            }
            Ok(())
        }
    }
}

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Inference => Self::Inference,
            ScopeArg::Models => Self::Models,
            ScopeArg::Admin => Self::Admin,
        }
    }
}

fn add(file: &KeyFile, new: NewKey, console: &Console) -> anyhow::Result<()> {
    let name = new.name.clone();
    let text = file.add(new).map_err(wrong_use)?;
    console.note("This key is shown once and kept nowhere; send it as `Authorization: Bearer`.");
    match console.json {
        true => output::json(&json!({"name": name, "key": text})),
        false => output::answer(format_args!("{text}\n")),
    }
}

fn list(keys: &[Key], console: &Console) -> anyhow::Result<()> {
    if console.json {
        let rows = keys.iter().map(|key| {
            json!({
                "name": key.name,
                "id": key.id,
                "scopes": key.scopes,
                "requests_per_minute": key.requests_per_minute,
                "tokens_per_minute": key.tokens_per_minute,
                "default_class": key.default_class,
                "created": key.created,
            })
        });
        return output::json(&rows.collect::<Vec<_>>());
    }
    if keys.is_empty() {
        console.note("There are no keys; `troika keys add NAME` makes one.");
        return Ok(());
    }
    let heading = [
        "NAME",
        "KEY",
        "SCOPES",
        "REQUESTS/MIN",
        "TOKENS/MIN",
        "CLASS",
        "CREATED",
    ];
    let share = |share: Option<u32>| share.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let rows = keys.iter().map(|key| {
        let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
        [
            output::printable(&key.name).into_owned(),
            format!("tk-{}-…", output::printable(&key.id)),
            scopes.join(","),
            share(key.requests_per_minute),
            share(key.tokens_per_minute),
            key.default_class.map_or("-", Class::name).to_owned(),
            output::printable(&key.created).into_owned(),
        ]
    });
    let heading = heading.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let (left, right) = (Align::Left, Align::Right);
    output::answer(output::table(
        [left, left, left, right, right, left, left],
        &rows,
    ))
}

/// A name that is none is the user's mistake; a file that cannot be used is not.
fn wrong_use(error: troika_server::keys::KeysError) -> anyhow::Error {
    use troika_server::keys::KeysError;
    match error {
        KeysError::BadName(_) | KeysError::Taken(_) | KeysError::Unknown(_) => {
            WrongUse(error.to_string()).into()
        }
        error => error.into(),
    }
}
