//! What somebody wants done, and within which limits.
//!
//! A [`Form`] is what a person said: flags, a file, answers to questions; anything may be missing. A [`Workload`] is complete
//! and free of contradictions: what was left out is filled in by the task and the catalogue's thresholds. Both have
//! the same field names, so a printed workload can be read again.

mod expenses;
#[cfg(test)]
mod tests;

pub use self::expenses::Expenses;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Job, Thresholds};
use crate::cost::{Backend, Work};

/// What the model is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A person talks to it.
    #[default]
    Chat,
    /// It completes and edits programs.
    Code,
    /// It calls tools, with long prompts that grow.
    Agent,
    /// It answers from documents that go along in the prompt.
    Rag,
    /// Texts become vectors.
    Embed,
    /// Speech becomes text, half a minute at a time.
    Transcribe,
    /// It answers about pictures.
    Vision,
    /// It is trained, or tuned: see [`super::train`].
    Train,
}

/// What a task is taken to be where nobody says otherwise.
struct Usual {
    prompt_tokens: u32,
    gen_tokens: u32,
    ttft_s: Option<f64>,
    tps: Option<f64>,
}

impl Task {
    /// Every task, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Chat,
        Self::Code,
        Self::Agent,
        Self::Rag,
        Self::Embed,
        Self::Transcribe,
        Self::Vision,
        Self::Train,
    ];

    /// The word for it in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Code => "code",
            Self::Agent => "agent",
            Self::Rag => "rag",
            Self::Embed => "embed",
            Self::Transcribe => "transcribe",
            Self::Vision => "vision",
            Self::Train => "train",
        }
    }

    /// The job that software has to support for it.
    pub fn job(self) -> Job {
        match self {
            Self::Chat | Self::Code | Self::Agent | Self::Rag => Job::Llm,
            Self::Embed => Job::Embed,
            Self::Transcribe => Job::Asr,
            Self::Vision => Job::Vision,
            Self::Train => Job::Train,
        }
    }

    /// Whether tokens are written, or only read.
    pub fn writes(self) -> bool {
        self != Self::Embed
    }

    fn usual(self, thresholds: &Thresholds) -> Usual {
        let usual = |prompt_tokens, gen_tokens, ttft_s, tps| Usual {
            prompt_tokens,
            gen_tokens,
            ttft_s,
            tps,
        };
        let wait = Some(thresholds.ttft_s);
        match self {
            Self::Chat => usual(512, 300, wait, Some(thresholds.readable_tps)),
            Self::Code => usual(1536, 400, wait, Some(thresholds.comfortable_tps)),
            Self::Agent => usual(8192, 800, None, Some(thresholds.fluent_tps)),
            Self::Rag => usual(4096, 300, wait, Some(thresholds.readable_tps)),
            // One "token" stands for the vector that is read off at the end.
            Self::Embed => usual(512, 1, None, None),
            // Half a minute of sound is 1500 positions of the encoder, and at most 225 tokens of text.
            Self::Transcribe => usual(1500, 225, None, None),
            // A picture is some 1024 tokens, the question 256.
            Self::Vision => usual(1280, 300, wait, Some(thresholds.readable_tps)),
            Self::Train => usual(2048, 1, None, None),
        }
    }
}

/// Where the work may be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privacy {
    /// Nothing leaves the owner's machines.
    LocalOnly,
    /// Anywhere.
    #[default]
    Any,
}

/// Where the power comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Supply {
    /// The wall.
    #[default]
    Mains,
    /// A battery: only machines that have one come into question.
    Battery,
}

/// How hardware may be come by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acquire {
    /// Every way.
    #[default]
    Any,
    /// What this machine has, and no more.
    Own,
    /// This machine, or hardware that is bought.
    Buy,
    /// Rented hardware alone.
    Rent,
}

/// What decides between candidates that do all that is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prefer {
    /// Money, then speed, then watts.
    #[default]
    Cost,
    /// Speed, then money, then watts.
    Speed,
    /// Watts, then money, then speed.
    Watts,
}

/// The model that asks for the best that fits.
pub const BEST: &str = "best";

/// The quantization where none is named: four bits and a half, which most people run.
const QUANTIZATION: &str = "Q4_K_M";

/// What a person said of a workload; what was not said is absent.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of `Workload`")]
pub struct Form {
    pub task: Option<Task>,
    pub model: Option<String>,
    pub quantization: Option<String>,
    pub context: Option<u32>,
    pub kv_bits: Option<f64>,
    pub users: Option<u32>,
    pub requests_per_day: Option<f64>,
    pub prompt_tokens: Option<u32>,
    pub gen_tokens: Option<u32>,
    pub ttft_s: Option<f64>,
    pub tps: Option<f64>,
    pub privacy: Option<Privacy>,
    pub supply: Option<Supply>,
    pub watts_max: Option<f64>,
    pub acquire: Option<Acquire>,
    pub budget_usd: Option<f64>,
    pub budget_usd_month: Option<f64>,
    pub lifetime_months: Option<f64>,
    pub residual: Option<f64>,
    pub hours_per_day: Option<f64>,
    pub peak_hours: Option<f64>,
    pub country: Option<String>,
    pub ecosystem: Option<Backend>,
    pub prefer: Option<Prefer>,
    /// A table of its own, so it stands last.
    #[serde(default)]
    pub expenses: Expenses,
}

/// Work to be done, complete and without contradiction.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Workload {
    /// What the model is for.
    pub task: Task,
    /// A model's name, the path of a GGUF file, or [`BEST`].
    pub model: String,
    /// How its weights are stored, or [`BEST`]: the most precise that fits and is fast enough.
    pub quantization: String,
    /// Tokens of context that memory is kept for, per user.
    pub context: u32,
    /// Bits of a value in the KV cache.
    pub kv_bits: f64,
    /// Requests that run side by side.
    pub users: u32,
    /// Requests of all users in a day.
    pub requests_per_day: f64,
    /// Tokens of a prompt.
    pub prompt_tokens: u32,
    /// Tokens of an answer.
    pub gen_tokens: u32,
    /// Seconds to the first token, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_s: Option<f64>,
    /// Answer tokens a second for each user, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tps: Option<f64>,
    /// Where the work may be done.
    pub privacy: Privacy,
    /// Where the power comes from.
    pub supply: Supply,
    /// Watts at work, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watts_max: Option<f64>,
    /// How hardware may be come by.
    pub acquire: Acquire,
    /// US dollars to spend at once, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
    /// US dollars a month, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_usd_month: Option<f64>,
    /// Months until what is bought is replaced.
    pub lifetime_months: f64,
    /// Share of its price that it is sold for then.
    pub residual: f64,
    /// Hours a day in which it is to be at hand.
    pub hours_per_day: f64,
    /// Hours a day in which all users come at once; in the others, half of them.
    pub peak_hours: f64,
    /// Code of the country whose electricity is used.
    pub country: String,
    /// Software that it has to run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecosystem: Option<Backend>,
    /// What decides between those that do all that is wanted.
    pub prefer: Prefer,
    /// What is paid beside hardware, rent and electricity.
    #[serde(skip_serializing_if = "Expenses::is_empty")]
    pub expenses: Expenses,
}

/// Why a workload makes no sense.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A number that cannot be.
    #[error("`{field}` is {value}: {want}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// What it was.
        value: f64,
        /// What it has to be.
        want: &'static str,
    },
    /// A number that says nothing without another.
    #[error("`{field}` is given without `{needs}`, which it needs")]
    Incomplete {
        /// The field's name.
        field: &'static str,
        /// The other's.
        needs: &'static str,
    },
    /// Two wishes that exclude each other.
    #[error("`{first}` and `{second}` contradict each other: {why}")]
    Contradiction {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// Why not both.
        why: &'static str,
    },
}

impl Form {
    /// This one, with what it leaves out taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            task: self.task.or(other.task),
            model: self.model.or(other.model),
            quantization: self.quantization.or(other.quantization),
            context: self.context.or(other.context),
            kv_bits: self.kv_bits.or(other.kv_bits),
            users: self.users.or(other.users),
            requests_per_day: self.requests_per_day.or(other.requests_per_day),
            prompt_tokens: self.prompt_tokens.or(other.prompt_tokens),
            gen_tokens: self.gen_tokens.or(other.gen_tokens),
            ttft_s: self.ttft_s.or(other.ttft_s),
            tps: self.tps.or(other.tps),
            privacy: self.privacy.or(other.privacy),
            supply: self.supply.or(other.supply),
            watts_max: self.watts_max.or(other.watts_max),
            acquire: self.acquire.or(other.acquire),
            budget_usd: self.budget_usd.or(other.budget_usd),
            budget_usd_month: self.budget_usd_month.or(other.budget_usd_month),
            lifetime_months: self.lifetime_months.or(other.lifetime_months),
            residual: self.residual.or(other.residual),
            hours_per_day: self.hours_per_day.or(other.hours_per_day),
            peak_hours: self.peak_hours.or(other.peak_hours),
            country: self.country.or(other.country),
            ecosystem: self.ecosystem.or(other.ecosystem),
            prefer: self.prefer.or(other.prefer),
            expenses: self.expenses.or(other.expenses),
        }
    }

    /// The complete workload.
    ///
    /// # Errors
    /// If a number is out of its range, or two wishes exclude each other.
    pub fn complete(self, thresholds: &Thresholds) -> Result<Workload, WorkloadError> {
        let task = self.task.unwrap_or_default();
        let usual = task.usual(thresholds);
        let prompt_tokens = self.prompt_tokens.unwrap_or(usual.prompt_tokens);
        let gen_tokens = self.gen_tokens.unwrap_or(usual.gen_tokens);
        let users = self.users.unwrap_or(1);
        let hours_per_day = self.hours_per_day.unwrap_or(8.0);
        let both = prompt_tokens.saturating_add(gen_tokens);
        let workload = Workload {
            task,
            model: self.model.unwrap_or_else(|| BEST.to_owned()),
            quantization: self.quantization.unwrap_or_else(|| QUANTIZATION.to_owned()),
            context: self
                .context
                .unwrap_or_else(|| both.checked_next_power_of_two().unwrap_or(both).max(4096)),
            kv_bits: self.kv_bits.unwrap_or(16.0),
            users,
            requests_per_day: self.requests_per_day.unwrap_or(100.0 * f64::from(users)),
            prompt_tokens,
            gen_tokens,
            ttft_s: self.ttft_s.or(usual.ttft_s),
            tps: self.tps.or(usual.tps),
            privacy: self.privacy.unwrap_or_default(),
            supply: self.supply.unwrap_or_default(),
            watts_max: self.watts_max,
            acquire: self.acquire.unwrap_or_default(),
            budget_usd: self.budget_usd,
            budget_usd_month: self.budget_usd_month,
            lifetime_months: self.lifetime_months.unwrap_or(48.0),
            residual: self.residual.unwrap_or(0.0),
            hours_per_day,
            peak_hours: self.peak_hours.unwrap_or(hours_per_day / 4.0),
            country: self.country.unwrap_or_else(|| "US".to_owned()),
            ecosystem: self.ecosystem,
            prefer: self.prefer.unwrap_or_default(),
            expenses: self.expenses,
        };
        workload.check_ranges()?;
        workload.expenses.check()?;
        workload.check_pairs()?;
        Ok(workload)
    }
}

impl Workload {
    /// What a setup has to do, with so many users at once.
    pub fn work(&self, users: u32) -> Work {
        Work {
            prompt_tokens: self.prompt_tokens,
            gen_tokens: self.gen_tokens,
            depth: 0,
            batch: users,
            kv_bits: self.kv_bits,
            context: self.context,
            tokens_per_step: 1.0,
        }
    }

    /// Tokens that are paid for in a day: written ones, or read ones where nothing is written.
    pub fn tokens_per_day(&self) -> f64 {
        let each = match self.task.writes() {
            true => self.gen_tokens,
            false => self.prompt_tokens,
        };
        self.requests_per_day * f64::from(each)
    }

    fn check_ranges(&self) -> Result<(), WorkloadError> {
        const POSITIVE: &str = "it has to be a number above 0";
        const NOT_NEGATIVE: &str = "it has to be a number from 0 up";
        const TOKENS: &str = "it has to be from 1 to 16777216 tokens";
        let tokens = |value: u32| (1..=1 << 24).contains(&value);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let money = |value: f64| value.is_finite() && value >= 0.0;
        let day = |value: f64| positive(value) && value <= 24.0;
        let want = |value: Option<f64>, holds: fn(f64) -> bool| value.is_none_or(holds);
        let of = f64::from;
        let checks = [
            ("context", of(self.context), tokens(self.context), TOKENS),
            (
                "prompt_tokens",
                of(self.prompt_tokens),
                tokens(self.prompt_tokens),
                TOKENS,
            ),
            (
                "gen_tokens",
                of(self.gen_tokens),
                tokens(self.gen_tokens),
                TOKENS,
            ),
            (
                "users",
                of(self.users),
                (1..=65_536).contains(&self.users),
                "it has to be from 1 to 65536",
            ),
            (
                "kv_bits",
                self.kv_bits,
                (1.0..=32.0).contains(&self.kv_bits),
                "it has to be from 1 to 32",
            ),
            (
                "requests_per_day",
                self.requests_per_day,
                positive(self.requests_per_day),
                POSITIVE,
            ),
            (
                "lifetime_months",
                self.lifetime_months,
                positive(self.lifetime_months),
                POSITIVE,
            ),
            (
                "residual",
                self.residual,
                (0.0..=1.0).contains(&self.residual),
                "it has to be from 0 to 1",
            ),
            (
                "hours_per_day",
                self.hours_per_day,
                day(self.hours_per_day),
                "it has to be above 0 and at most 24",
            ),
            (
                "peak_hours",
                self.peak_hours,
                day(self.peak_hours),
                "it has to be above 0 and at most 24",
            ),
            (
                "ttft_s",
                self.ttft_s.unwrap_or(0.0),
                want(self.ttft_s, positive),
                POSITIVE,
            ),
            (
                "tps",
                self.tps.unwrap_or(0.0),
                want(self.tps, positive),
                POSITIVE,
            ),
            (
                "watts_max",
                self.watts_max.unwrap_or(0.0),
                want(self.watts_max, positive),
                POSITIVE,
            ),
            (
                "budget_usd",
                self.budget_usd.unwrap_or(0.0),
                want(self.budget_usd, money),
                NOT_NEGATIVE,
            ),
            (
                "budget_usd_month",
                self.budget_usd_month.unwrap_or(0.0),
                want(self.budget_usd_month, money),
                NOT_NEGATIVE,
            ),
        ];
        match checks.into_iter().find(|&(_, _, holds, _)| !holds) {
            Some((field, value, _, want)) => Err(WorkloadError::OutOfRange { field, value, want }),
            None => Ok(()),
        }
    }

    fn check_pairs(&self) -> Result<(), WorkloadError> {
        let pair = |first: String, second: String, why| {
            Err(WorkloadError::Contradiction { first, second, why })
        };
        if self.acquire == Acquire::Rent && self.privacy == Privacy::LocalOnly {
            let why = "what is rented stands elsewhere";
            return pair("acquire = rent".into(), "privacy = local-only".into(), why);
        }
        if self.acquire == Acquire::Buy && self.budget_usd == Some(0.0) {
            let why = "nothing is sold for nothing; `acquire = own` plans with what is there";
            return pair("acquire = buy".into(), "budget_usd = 0".into(), why);
        }
        if self.acquire == Acquire::Rent && self.budget_usd_month == Some(0.0) {
            let why = "nothing is rented for nothing";
            return pair("acquire = rent".into(), "budget_usd_month = 0".into(), why);
        }
        let both = u64::from(self.prompt_tokens) + u64::from(self.gen_tokens);
        if u64::from(self.context) < both {
            let tokens = format!("prompt_tokens + gen_tokens = {both}");
            let why = "a prompt and its answer have to fit in the context";
            return pair(format!("context = {}", self.context), tokens, why);
        }
        if self.requests_per_day < f64::from(self.users) {
            let requests = format!("requests_per_day = {}", self.requests_per_day);
            let why = "there are fewer requests in a day than run at once";
            return pair(requests, format!("users = {}", self.users), why);
        }
        if self.peak_hours > self.hours_per_day {
            let peak = format!("peak_hours = {}", self.peak_hours);
            let hours = format!("hours_per_day = {}", self.hours_per_day);
            return pair(peak, hours, "the peak is a part of the day");
        }
        Ok(())
    }
}
