//! `troika remote add`: an endpoint more, and its key put where it is kept.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use rust_decimal::Decimal;
use troika_remote::config::{Api, Limits, Price, Remote};
use troika_remote::secrets::{KeySource, Secret};

use super::edit;
use crate::exit::WrongUse;
use crate::output::Console;

/// Nobody's key is longer.
const KEY_BYTES_MAX: u64 = 16 << 10;

/// Add an endpoint to hybrid.toml, whose comments and order stay
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// What it is called here: small letters, digits and `-`
    name: String,
    /// Where it is: `https://api.example.com/v1` (OpenAI), `https://api.example.com` (Anthropic, Ollama)
    #[arg(long)]
    url: String,
    /// What it speaks
    #[arg(long, value_name = "API", default_value = "openai")]
    api: ApiArg,
    /// A model that it serves: as it is called here, `=`, and there; may be given several times
    #[arg(long = "model", value_name = "HERE=THERE", required = true)]
    models: Vec<String>,
    /// Where its key is: env:NAME, keyring:NAME or file:PATH; never the key itself
    #[arg(long, value_name = "PLACE")]
    key: Option<String>,
    /// Read the key from stdin and put it there: into the system's keyring, or into a file for you alone
    #[arg(long)]
    store_key: bool,
    /// Money for a million tokens of prompts
    #[arg(long, value_name = "MONEY", requires = "price_out")]
    price_in: Option<Decimal>,
    /// Money for a million tokens of answers
    #[arg(long, value_name = "MONEY", requires = "price_in")]
    price_out: Option<Decimal>,
    /// Money for a million tokens of prompts that it has in its cache [default: as any others]
    #[arg(long, value_name = "MONEY", requires = "price_in")]
    price_cached: Option<Decimal>,
    /// Requests that it answers at the same time, at most
    #[arg(long, value_name = "N")]
    concurrent: Option<usize>,
    /// Requests in a minute, at most
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u32>,
    /// Tokens of a prompt, at most
    #[arg(long, value_name = "N")]
    prompt_tokens: Option<usize>,
    /// Tokens of an answer, at most
    #[arg(long, value_name = "N")]
    answer_tokens: Option<usize>,
    /// Seconds until the first byte of an answer [default: 60]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Where its computers are, in your words
    #[arg(long)]
    region: Option<String>,
    /// What it does with what it gets, in your words
    #[arg(long)]
    data: Option<String>,
    /// Take plain HTTP to another machine: whoever stands between reads everything
    #[arg(long)]
    allow_plain_http: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ApiArg {
    Openai,
    Anthropic,
    Ollama,
}

pub(super) fn run(args: &AddArgs, path: &Path, console: &Console) -> anyhow::Result<()> {
    let remote = args.remote()?;
    // What would not be taken is refused before a key is asked for.
    let text = edit::added(path, &remote)?;
    if args.store_key {
        let place = args.place().expect("asked for, or made of the name");
        let place: KeySource = place
            .parse()
            .map_err(|error| WrongUse(format!("{error}")))?;
        if let KeySource::Env(_) = place {
            let message =
                "--store-key: the environment keeps nothing; give --key keyring:NAME or file:PATH";
            return Err(WrongUse(message.to_owned()).into());
        }
        let key = key_from_stdin(console)?;
        place.store(&key)?;
        console.note(format_args!("The key is in {place}."));
    }
    edit::write(path, &text)?;
    console.note(format_args!(
        "{} is in {}. Try it with `troika remote test {}`; a rule has to let requests go there.",
        remote.name,
        path.display(),
        remote.name
    ));
    Ok(())
}

fn key_from_stdin(console: &Console) -> anyhow::Result<Secret> {
    let stdin = std::io::stdin();
    let mut text = String::new();
    if stdin.is_terminal() {
        console.note("The key, and Enter (it is shown as you type; `< FILE` does not show it):");
        stdin.read_line(&mut text)
    } else {
        stdin.take(KEY_BYTES_MAX + 1).read_to_string(&mut text)
    }
    .context("cannot read the key from stdin")?;
    Ok(Secret::new(&text).map_err(|error| WrongUse(format!("{error}")))?)
}

impl AddArgs {
    /// Where the key is to be: in the keyring by the remote's name, where it is only said that it is kept.
    fn place(&self) -> Option<String> {
        let of_name = || self.store_key.then(|| format!("keyring:{}", self.name));
        self.key.clone().or_else(of_name)
    }

    fn remote(&self) -> Result<Remote, WrongUse> {
        let price = self.price_in.zip(self.price_out);
        Ok(Remote {
            name: self.name.clone(),
            url: self.url.clone(),
            api: match self.api {
                ApiArg::Openai => Api::Openai,
                ApiArg::Anthropic => Api::Anthropic,
                ApiArg::Ollama => Api::Ollama,
            },
            key: self.place(),
            models: models(&self.models)?,
            price: price.map(|(input, output)| Price {
                input,
                cached: self.price_cached,
                output,
            }),
            limits: Limits {
                concurrent: self.concurrent,
                requests_per_minute: self.requests_per_minute,
                prompt_tokens: self.prompt_tokens,
                answer_tokens: self.answer_tokens,
                timeout_s: self.timeout,
            },
            region: self.region.clone(),
            data: self.data.clone(),
            allow_plain_http: self.allow_plain_http,
        })
    }
}

/// `here=there`, or one name for both.
fn models(args: &[String]) -> Result<BTreeMap<String, String>, WrongUse> {
    let mut models = BTreeMap::new();
    for arg in args {
        let (here, there) = arg.split_once('=').unwrap_or((arg, arg));
        if models.insert(here.to_owned(), there.to_owned()).is_some() {
            return Err(WrongUse(format!("--model names `{here}` twice")));
        }
    }
    Ok(models)
}
