//! Loads as files: one line of JSON for each job, lengths and times and no word of what was asked or answered.
//!
//! [`TraceReader`] reads them one line at a time, and says which line is wrong and why; [`TraceWriter`] records them while
//! jobs come and go. What the fields mean is in `docs/formats/trace.md`.

mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::{TraceError, TraceFault, TraceReader};
pub use write::{Ticket, TraceWriter, write_trace};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use troika_scheduler::{Class, Time, Work};

use crate::Arrival;

/// The version of the format that is written, and the newest that is read.
pub const TRACE_VERSION: u64 = 1;

/// Tokens of a prompt or an answer, at most: more than any context has.
pub const TOKENS_MAX: u32 = 1 << 24;
/// Answers of one job, at most.
pub const ANSWERS_MAX: u32 = 128;
/// Bytes of a line, at most. Names are the only part of it that could be long.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// Characters of a name, at most.
const NAME_CHARS_MAX: usize = 256;
/// Ten years: a load does not last longer.
const SECONDS_MAX: f64 = 10.0 * 365.25 * 86_400.0;

/// The first line of a trace.
#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Header {
    /// The version.
    troika_trace: u64,
}

/// What a job does, as a trace spells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Generate,
    Embed,
    Load,
}

/// A line of a trace. Numbers are read wide, so that one that is out of range is told as it was written.
#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Row {
    at_s: f64,
    kind: Kind,
    model: String,
    #[serde(deserialize_with = "class")]
    class: Class,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    owner: String,
    prompt_tokens: i64,
    #[serde(default, skip_serializing_if = "is_none")]
    shared: i64,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    n: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_tokens: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaves_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

fn one() -> i64 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_none(shared: &i64) -> bool {
    *shared == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_one(n: &i64) -> bool {
    *n == 1
}

/// A class by the name that it has everywhere, with an error that names all of them.
fn class<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Class, D::Error> {
    let name = String::deserialize(from)?;
    name.parse().map_err(serde::de::Error::custom)
}

impl Row {
    /// The line of an arrival. `max_tokens` is what its client allowed each answer, where that is known.
    fn of(arrival: &Arrival, owner: String, max_tokens: Option<u32>) -> Self {
        let (kind, n, tokens) = match arrival.work {
            Work::Write { n, max_tokens } => (Kind::Generate, n, Some(max_tokens.into())),
            Work::Embed => (Kind::Embed, 1, None),
            Work::Load => (Kind::Load, 1, None),
        };
        Self {
            at_s: arrival.at.seconds(),
            kind,
            model: arrival.model.clone(),
            class: arrival.class,
            owner,
            prompt_tokens: arrival.prompt_tokens.into(),
            shared: arrival.shared.into(),
            n: n.into(),
            tokens,
            max_tokens: max_tokens.map(Into::into),
            deadline_s: arrival.deadline.map(|span| span.as_secs_f64()),
            leaves_s: arrival.leaves.map(|span| span.as_secs_f64()),
            device: arrival.device.clone(),
        }
    }

    /// The arrival of a line, if what it says can be.
    fn arrival(self) -> Result<Arrival, TraceFault> {
        let at_s = bounded("at_s", self.at_s, true)?;
        let work = match (self.kind, self.tokens) {
            (Kind::Generate, None) => return Err(TraceFault::NoTokens),
            (Kind::Generate, Some(tokens)) => {
                let tokens = count("tokens", tokens, TOKENS_MAX)?;
                if let Some(most) = self.max_tokens {
                    let most = count("max_tokens", most, TOKENS_MAX)?;
                    if most < tokens {
                        return Err(TraceFault::MoreThanAllowed { tokens, most });
                    }
                }
                Work::Write {
                    n: count("n", self.n, ANSWERS_MAX)?,
                    max_tokens: tokens,
                }
            }
            (_, Some(_)) => return Err(TraceFault::NoText),
            _ if self.n != 1 || self.max_tokens.is_some() => return Err(TraceFault::NoText),
            (Kind::Embed, None) => Work::Embed,
            (Kind::Load, None) => Work::Load,
        };
        let span = |field, seconds: Option<f64>| {
            seconds
                .map(|seconds| bounded(field, seconds, false))
                .transpose()
                .map(|seconds| seconds.map(Duration::from_secs_f64))
        };
        let prompt_tokens = count("prompt_tokens", self.prompt_tokens, TOKENS_MAX)?;
        let shared = u32::try_from(self.shared).ok();
        let shared = shared.filter(|shared| *shared <= prompt_tokens);
        let arrival = Arrival {
            at: Time::from_seconds(at_s),
            prompt_tokens,
            shared: shared.ok_or(TraceFault::Shared {
                shared: self.shared,
                prompt_tokens,
            })?,
            work,
            class: self.class,
            deadline: span("deadline_s", self.deadline_s)?,
            leaves: span("leaves_s", self.leaves_s)?,
            model: name("model", self.model)?,
            owner: self.owner,
            device: self
                .device
                .map(|device| name("device", device))
                .transpose()?,
        };
        if arrival.owner.chars().count() > NAME_CHARS_MAX {
            return Err(TraceFault::Name { field: "owner" });
        }
        Ok(arrival)
    }
}

/// A count from 1 to `most`.
fn count(field: &'static str, value: i64, most: u32) -> Result<u32, TraceFault> {
    u32::try_from(value)
        .ok()
        .filter(|value| (1..=most).contains(value))
        .ok_or(TraceFault::Count { field, value, most })
}

/// Seconds up to [`SECONDS_MAX`]; whether zero is among them depends.
fn bounded(field: &'static str, value: f64, with_zero: bool) -> Result<f64, TraceFault> {
    let (is_enough, from) = match with_zero {
        true => (value >= 0.0, "from 0"),
        false => (value > 0.0, "above 0"),
    };
    match is_enough && value <= SECONDS_MAX {
        true => Ok(value),
        false => Err(TraceFault::Seconds { field, value, from }),
    }
}

fn name(field: &'static str, value: String) -> Result<String, TraceFault> {
    match value.trim().is_empty() || value.chars().count() > NAME_CHARS_MAX {
        true => Err(TraceFault::Name { field }),
        false => Ok(value),
    }
}
