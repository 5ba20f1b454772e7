//! A line of the file of receipts: canonical JSON that ends with a hash over itself and the hash before it.
//!
//! The form is in `docs/formats/receipts.md`. Nothing here reads or writes a file.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use troika_job::Cost;

use super::{End, Intent, Outcome, Redactions};
use crate::config::Api;

/// What stands between a line's contents and its hash.
const SEAL: &str = ",\"hash\":\"";

/// The hash of a line, over its contents and the hash of the line before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first line follows.
    pub(super) fn origin() -> Self {
        Self(Sha256::digest("troika receipts 1").into())
    }

    fn after(self, contents: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.to_string());
        hasher.update(contents);
        Self(hasher.finalize().into())
    }
}

/// 64 small hexadecimal digits.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Hash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let digits = text.as_bytes();
        let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 64 || !digits.iter().all(is_digit) {
            return Err(NoHash);
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => digit - b'0',
            letter => letter - b'a' + 10,
        };
        Ok(Self(std::array::from_fn(|i| {
            value(digits[2 * i]) << 4 | value(digits[2 * i + 1])
        })))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// It is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 digits, of 0 to 9 and a to f")]
pub struct NoHash;

/// A line's contents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) n: u64,
    /// When it was written.
    #[serde(with = "instant")]
    pub(super) at: Timestamp,
    #[serde(flatten)]
    pub(super) entry: Entry,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub(super) enum Entry {
    /// Something is about to leave.
    Intent(IntentLine),
    /// What became of it.
    End(EndLine),
    /// A line was not finished when a process died; its bytes were put aside.
    Torn {
        /// How many.
        bytes: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct IntentLine {
    pub(super) request_id: String,
    pub(super) to: String,
    pub(super) host: String,
    pub(super) api: Api,
    pub(super) rule: String,
    pub(super) model: String,
    pub(super) bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost_at_most: Option<Money>,
    #[serde(default, skip_serializing_if = "Redactions::is_empty")]
    pub(super) redacted: Redactions,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct EndLine {
    /// The number of the intent's line.
    pub(super) of: u64,
    pub(super) outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    pub(super) bytes_out: u64,
    pub(super) bytes_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<Money>,
}

/// Money as text, which no reader rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Money {
    #[serde(with = "decimal")]
    pub(super) amount: Decimal,
    pub(super) currency: String,
}

impl From<Cost> for Money {
    fn from(cost: Cost) -> Self {
        Self {
            amount: cost.amount.normalize(),
            currency: cost.currency,
        }
    }
}

impl From<Intent> for IntentLine {
    fn from(intent: Intent) -> Self {
        Self {
            request_id: intent.request_id,
            to: intent.to,
            host: intent.host,
            api: intent.api,
            rule: intent.rule,
            model: intent.model,
            bytes_out: intent.bytes_out,
            cost_at_most: intent.cost_at_most.map(Money::from),
            redacted: intent.redacted,
        }
    }
}

impl EndLine {
    pub(super) fn new(of: u64, end: End) -> Self {
        Self {
            of,
            outcome: end.outcome,
            status: end.status,
            bytes_out: end.bytes_out,
            bytes_in: end.bytes_in,
            prompt_tokens: end.prompt_tokens,
            completion_tokens: end.completion_tokens,
            cost: end.cost.map(Money::from),
        }
    }
}

/// Why a line is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// It is no receipt at all.
    #[error("it is no receipt")]
    NoReceipt,
    /// Another number belongs here.
    #[error(
        "it has the number {have}, and {want} belongs here: a line was removed, inserted or moved"
    )]
    Number {
        /// Which belongs here.
        want: u64,
        /// Which it has.
        have: u64,
    },
    /// Its hash does not follow from it and the line before.
    #[error("it was changed, or the line before it is another: its hash does not follow from them")]
    Hash,
    /// It ends what never began.
    #[error("it ends line {of}, which began nothing or has ended already")]
    NoIntent {
        /// What it ends.
        of: u64,
    },
    /// The file once had more lines.
    #[error("the file ends before it; {want} lines were there")]
    Cut {
        /// How many.
        want: u64,
    },
    /// The file of the head says that this line was another.
    #[error("it is not the line that the file of the head names")]
    OtherHead,
    /// There is no file of the head.
    #[error(
        "the file of the head is not there or makes no sense, so nobody can tell whether lines were cut off at the end"
    )]
    NoHead,
}

impl Line {
    /// The line as it is written, with its end, and its hash.
    pub(super) fn seal(&self, before: Hash) -> (String, Hash) {
        let mut text = serde_json::to_string(self).expect("a line is plain data. This is a bug.");
        let hash = before.after(&text);
        // The brace that closes it.
        text.pop();
        text.push_str(&format!("{SEAL}{hash}\"}}\n"));
        (text, hash)
    }

    /// The line and its hash; `text` is without its end.
    ///
    /// # Errors
    /// If it is not what [`Line::seal`] made after `before`.
    pub(super) fn unseal(text: &[u8], want: u64, before: Hash) -> Result<(Self, Hash), Why> {
        let text = str::from_utf8(text).map_err(|_| Why::NoReceipt)?;
        let (contents, seal) = text.rsplit_once(SEAL).ok_or(Why::NoReceipt)?;
        let contents = format!("{contents}}}");
        let line: Self = serde_json::from_str(&contents).map_err(|_| Why::NoReceipt)?;
        if line.n != want {
            return Err(Why::Number { want, have: line.n });
        }
        let hash = before.after(&contents);
        if seal.strip_suffix("\"}") != Some(&hash.to_string()) {
            return Err(Why::Hash);
        }
        Ok((line, hash))
    }
}

/// Times as texts: `2026-11-22T01:34:15.123Z`.
mod instant {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{at:.3}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Decimals as texts.
mod decimal {
    use rust_decimal::Decimal;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(amount: &Decimal, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(amount)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Decimal, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}
