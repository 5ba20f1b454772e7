//! `troika rules test`: what would become of a request, without sending it anywhere.

mod show;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use rust_decimal::Decimal;
use serde_json::Value;
use troika_remote::config::Api;
use troika_remote::receipts::Redactions;
use troika_remote::redact::{Redactor, Unredactable};
use troika_remote::rules::{Explanation, Facts, Leave};
use troika_remote::{Judged, Loaded};
use troika_scheduler::Class;
use troika_server::job::Job;
use troika_server::keys::{Key, KeyFile};
use troika_server::{Settings, parse_job};

use crate::args::token_count;
use crate::exit::WrongUse;
use crate::output::Console;

/// A request is some kilobytes, and a long conversation some megabytes.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// Tell what would become of a request, and why; nothing is sent
///
/// What flags do not tell of the moment (--ttft, --queue, ...) is not known, and conditions on it do not hold.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// The request's body, as a client would send it; `-` reads it from stdin
    #[arg(value_name = "FILE")]
    request: PathBuf,
    /// Whose interface it is for
    #[arg(long, value_enum, default_value_t = ApiArg::Openai)]
    api: ApiArg,
    /// A header of the request; may be given several times
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// The name of the API key that it comes with
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// How urgent it is: interactive, agent, background or batch [default: as headers, body and key say]
    #[arg(long, value_name = "CLASS")]
    class: Option<Class>,
    /// Tokens of its prompt
    #[arg(long, value_name = "N", value_parser = token_count)]
    prompt_tokens: Option<usize>,
    /// Seconds until its first token on this machine
    #[arg(long, value_name = "SECONDS", value_parser = amount)]
    ttft: Option<f64>,
    /// Seconds until it is worth nothing any more [default: as its headers say]
    #[arg(long, value_name = "SECONDS", value_parser = amount)]
    deadline: Option<f64>,
    /// Jobs that wait on this machine
    #[arg(long, value_name = "N")]
    queue: Option<usize>,
    /// Per cent of the battery that are left, which the machine then runs on
    #[arg(long, value_name = "PERCENT", value_parser = amount)]
    battery: Option<f64>,
    /// Money that may still be spent [default: the budget]
    #[arg(long, value_name = "AMOUNT")]
    money_left: Option<Decimal>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ApiArg {
    Openai,
    Anthropic,
    Ollama,
}

impl From<ApiArg> for Api {
    fn from(api: ApiArg) -> Self {
        match api {
            ApiArg::Openai => Self::Openai,
            ApiArg::Anthropic => Self::Anthropic,
            ApiArg::Ollama => Self::Ollama,
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .filter(|(name, _)| !name.trim().is_empty())
        .ok_or("expected NAME:VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn amount(text: &str) -> Result<f64, String> {
    let amount = text.parse::<f64>().ok();
    amount
        .filter(|amount| *amount >= 0.0 && amount.is_finite())
        .ok_or_else(|| "expected a number, not less than 0".to_owned())
}

/// What was found out.
struct Verdict {
    explanation: Explanation,
    /// Where it may go, and how many values of each kind would be taken out before.
    leave: Option<(Leave, Redactions)>,
    /// What cannot be taken out, for which it stays in spite of its rule.
    fixed: Option<Unredactable>,
}

pub(super) fn run(
    args: &TestArgs,
    loaded: &Loaded,
    settings: &Settings,
    console: &Console,
) -> anyhow::Result<()> {
    let body = read(&args.request)?;
    let job = parse_job(args.api.into(), &body).map_err(|error| {
        let shown = args.request.display();
        WrongUse(match &error.param {
            Some(param) => format!("{shown} is no request, at {param}: {error}"),
            None => format!("{shown} is no request: {error}"),
        })
    })?;
    let facts = args.facts(&job, loaded, settings, console)?;
    let verdict = Verdict::of(job, &facts, loaded)?;
    match console.json {
        true => show::json(&verdict, loaded),
        false => show::page(&verdict, loaded),
    }
}

impl Verdict {
    fn of(job: Job, facts: &Facts, loaded: &Loaded) -> anyhow::Result<Self> {
        let (public, leave, explanation) = match loaded.rules.judge(job, facts) {
            Judged::Stays(_, explanation) => {
                return Ok(Self {
                    explanation,
                    leave: None,
                    fixed: None,
                });
            }
            Judged::MayLeave(public, leave, explanation) => (public, leave, explanation),
        };
        let redactor = Redactor::new(&loaded.config.redact)?;
        let (leave, fixed) = match redactor.apply(&public, &leave.redact) {
            Ok(redacted) => (Some((leave, redacted.counts)), None),
            Err(fixed) => (None, Some(fixed)),
        };
        Ok(Self {
            explanation,
            leave,
            fixed,
        })
    }

    fn stays(&self) -> bool {
        self.leave.is_none()
    }

    /// In one sentence.
    fn why(&self) -> String {
        match &self.fixed {
            Some(fixed) => fixed.to_string(),
            None => self.explanation.to_string(),
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin()
            .lock()
            .take(REQUEST_BYTES_MAX + 1)
            .read_to_end(&mut bytes),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(REQUEST_BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > REQUEST_BYTES_MAX {
        return Err(WrongUse(format!("{} is too long to be a request", path.display())).into());
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| WrongUse(format!("{} is not JSON: {error}", path.display())).into())
}

impl TestArgs {
    /// What would be known of the request: flags go before headers, these before the body, and that before the key.
    fn facts(
        &self,
        job: &Job,
        loaded: &Loaded,
        settings: &Settings,
        console: &Console,
    ) -> anyhow::Result<Facts> {
        let key = self.key(settings, console)?;
        let class = self.told::<Class>("X-Troika-Class")?;
        let class = self.class.or(class).or(job.wishes.class);
        let deadline = self.told::<f64>("X-Troika-Deadline-Ms")?;
        let hybrid = &loaded.config.hybrid;
        let budgets = hybrid
            .budget_per_day
            .into_iter()
            .chain(hybrid.budget_per_month);
        Ok(Facts {
            class: class
                .or(key.and_then(|key| key.default_class))
                .unwrap_or_default(),
            key: self.key.clone(),
            headers: self.header.clone(),
            prompt_tokens: self.prompt_tokens,
            ttft_s: self.ttft,
            deadline_s: self.deadline.or(deadline.map(|millis| millis / 1e3)),
            queue: self.queue,
            on_battery: self.battery.map(|_| true),
            battery: self.battery,
            money_left: self.money_left.or(budgets.min()),
        })
    }

    /// The value of a header, if it came.
    fn told<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, WrongUse> {
        let mut values = self.header.iter();
        let found = values.find(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = found.map(|(_, value)| value.parse::<T>());
        value
            .transpose()
            .map_err(|error| WrongUse(format!("{name}: {error}")))
    }

    /// What the file of keys says of the one that is named.
    fn key(&self, settings: &Settings, console: &Console) -> anyhow::Result<Option<Key>> {
        let Some(name) = &self.key else {
            return Ok(None);
        };
        let keys = KeyFile::at(&settings.keys_file).load()?.unwrap_or_default();
        let found = keys.into_iter().find(|key| key.name == *name);
        if found.is_none() {
            console.note(format_args!(
                "There is no key `{name}`; `troika keys list` shows those that there are."
            ));
        }
        Ok(found)
    }
}
