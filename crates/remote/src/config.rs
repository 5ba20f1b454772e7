//! What the owner says of remotes and rules: `hybrid.toml`, beside `config.toml`.
//!
//! Only the words are here; `rules` gives them their meaning. A file that is not understood stops a start, and is not taken
//! over by a server that runs: what it does not say, it may not mean. `config/check.rs` is what a remote has to be,
//! `config/error.rs` how mistakes are told.

mod check;
mod error;

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use troika_scheduler::Class;

pub(crate) use check::{is_name, model_name};
pub use error::{ConfigError, Fault};
pub(crate) use error::{Faults, nearest};

/// All of `hybrid.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What holds for all of it.
    pub hybrid: Hybrid,
    /// The endpoints.
    pub remote: Vec<Remote>,
    /// The rules; the first that matches a job decides. Without one, everything stays on this machine.
    pub rule: Vec<Rule>,
    /// How answers are judged that a larger model may replace.
    pub cascade: Cascade,
    /// Names and words that [`Redact::Names`] looks for.
    pub redact: RedactLists,
}

/// What holds for all remotes and rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hybrid {
    /// Money that may be spent on a day of UTC, in the currency of the prices.
    pub budget_per_day: Option<Decimal>,
    /// Money that may be spent in a month of UTC.
    pub budget_per_month: Option<Decimal>,
    /// What a second of waiting is worth, in money: by this the scheduler weighs speed against a price.
    pub second_worth: Decimal,
    /// What a kilowatt-hour costs here, in money: by this joules are weighed against a price.
    pub kwh_price: Decimal,
    /// The currency of all prices: `EUR`, `USD`.
    pub currency: String,
    /// API keys whose prompts stay on this machine, by name.
    pub private_keys: Vec<String>,
    /// Models whose prompts stay on this machine, by name; `*` at the end stands for anything.
    pub private_models: Vec<String>,
    /// A prompt in which one of these regular expressions matches stays on this machine.
    pub private_content: Vec<String>,
}

impl Default for Hybrid {
    fn default() -> Self {
        Self {
            budget_per_day: None,
            budget_per_month: None,
            second_worth: Decimal::new(1, 3),
            kwh_price: Decimal::new(30, 2),
            currency: "EUR".to_owned(),
            private_keys: Vec::new(),
            private_models: Vec::new(),
            private_content: Vec::new(),
        }
    }
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// What it is called here: small letters, digits, `-`. Shown as `remote:NAME` where devices are named.
    pub name: String,
    /// Where it is, without the interface's own path: `https://api.example.com/v1` (OpenAI), `https://api.example.com`
    /// (Anthropic, Ollama).
    pub url: String,
    /// What it speaks.
    pub api: Api,
    /// Where its key is: `env:NAME`, `keyring:NAME` or `file:PATH`. None is sent if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The models it serves: as they are called here, and there. The tag `:latest` and upper case make no difference.
    pub models: BTreeMap<String, String>,
    /// What it costs; unknown if absent, which is not nothing: rules that count money do not let jobs go there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// What it takes at most.
    #[serde(default)]
    pub limits: Limits,
    /// Where its computers are, in the owner's words: `eu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What it does with what it gets, in the owner's words: `no-training, 30 days`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Plain HTTP is taken to other machines than this one: whoever stands between reads everything.
    #[serde(default)]
    pub allow_plain_http: bool,
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Api {
    Openai,
    Anthropic,
    Ollama,
}

/// Money for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens of prompts.
    pub input: Decimal,
    /// Tokens of prompts that the endpoint had in its cache; as any others if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<Decimal>,
    /// Tokens of answers.
    pub output: Decimal,
}

/// What an endpoint takes at most; what is absent is not limited here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests that it answers at the same time.
    pub concurrent: Option<usize>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens of a prompt.
    pub prompt_tokens: Option<usize>,
    /// Tokens of an answer: what is asked of it where a job sets no limit, or a higher one. Without it, the cost of a job
    /// that sets no limit has no bound, and where there is a budget it stays.
    pub answer_tokens: Option<usize>,
    /// Seconds until the first byte of an answer; 60 if absent.
    pub timeout_s: Option<u64>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called in receipts and explanations.
    pub name: String,
    /// What has to hold of a job, all of it; an empty one always holds.
    #[serde(default)]
    pub when: When,
    /// What becomes of the job.
    pub action: Action,
    /// The endpoints that it may go to, in this order where one is to be chosen; all that serve its model if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
    /// What is taken out of its prompt before it goes, and put back into the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<Redact>,
    /// Another model than is asked for; one that the endpoints serve, as it is called here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It stays on this machine, whatever happens.
    LocalOnly,
    /// It goes to the first endpoint that takes it; it is done here if none does.
    Remote,
    /// It goes where the scheduler finds it best off, remote endpoints among the devices.
    Compete,
    /// It is done here, and goes if it cannot be: no room, no time, no model, an error.
    Fallback,
    /// It is done here, and asked again of a remote endpoint if the answer is not sure.
    Cascade,
}

impl Action {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::LocalOnly => "local-only",
            Self::Remote => "remote",
            Self::Compete => "compete",
            Self::Fallback => "fallback",
            Self::Cascade => "cascade",
        }
    }
}

/// What has to hold of a job. Numbers are bounds: `">8000"`, `"<0.2"`, `">=10"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// It is of one of these classes.
    pub class: Option<Vec<Class>>,
    /// It came with one of these API keys, by name.
    pub key: Option<Vec<String>>,
    /// Its request has these headers, with these values.
    pub header: BTreeMap<String, String>,
    /// It asks for one of these models; `*` at the end stands for anything.
    pub model: Option<Vec<String>>,
    /// Tokens of its prompt.
    pub prompt_tokens: Option<String>,
    /// Seconds until its first token on this machine, as foretold; also `">deadline"`.
    pub ttft_s: Option<String>,
    /// Jobs that wait on this machine.
    pub queue: Option<String>,
    /// Whether the machine runs on its battery.
    pub on_battery: Option<bool>,
    /// Per cent of the battery that are left.
    pub battery: Option<String>,
    /// Money that may still be spent today.
    pub money_left: Option<String>,
    /// Whether it has tools.
    pub tools: Option<bool>,
}

/// What is taken out of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Redact {
    Emails,
    Phones,
    /// Keys, tokens and passwords of programs.
    Secrets,
    Ibans,
    Cards,
    /// The owner's lists.
    Names,
}

impl Redact {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emails => "emails",
            Self::Phones => "phones",
            Self::Secrets => "secrets",
            Self::Ibans => "ibans",
            Self::Cards => "cards",
            Self::Names => "names",
        }
    }
}

/// The owner's lists of what is taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedactLists {
    /// Names and words, whole, in any case.
    pub names: Vec<String>,
    /// Files with one name on each line; beside `hybrid.toml`, if they are not elsewhere.
    pub files: Vec<std::path::PathBuf>,
}

/// How answers are judged that a larger model may replace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cascade {
    /// What makes an answer unsure.
    pub judge: Judge,
    /// The answer is unsure below this; what `troika calibrate` found, for each model. A model without one is not sure.
    pub thresholds: BTreeMap<String, f64>,
    /// Answers that are compared, for [`Judge::Samples`].
    pub samples: usize,
}

impl Default for Cascade {
    fn default() -> Self {
        Self {
            judge: Judge::Logprob,
            thresholds: BTreeMap::new(),
            samples: 3,
        }
    }
}

/// What makes an answer unsure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The mean of its tokens' log-probabilities is low.
    Logprob,
    /// Several answers do not agree.
    Samples,
    /// The model itself, asked whether the answer is right, is not sure.
    Verifier,
}
