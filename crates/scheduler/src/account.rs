//! What a job took, in the end.

use serde::{Deserialize, Serialize};

use crate::decision::JobForecast;
use crate::job::DeviceId;

/// What a job took. Times are seconds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    /// The devices that did it, in order, each with what it did there.
    pub spans: Vec<Span>,
    /// From its arrival until its first step.
    pub queue_s: f64,
    /// From its arrival to its first token; absent if there was none.
    pub ttft_s: Option<f64>,
    /// Tokens that were read, those from a cache left out.
    pub prefill_tokens: u64,
    /// From its first step to its first token.
    pub prefill_s: f64,
    /// Tokens that were written, over all answers.
    pub decode_tokens: u64,
    /// From its first token to its last.
    pub decode_s: f64,
    /// Its share of what the devices used while they worked for it; absent where of some of it nobody knows, and its
    /// source is [`JoulesSource::Unknown`].
    pub joules: Option<f64>,
    /// How that was found.
    pub joules_source: JoulesSource,
    /// What was expected when it was placed first.
    pub expected: Option<JobForecast>,
    /// How often it moved, gave way or was replayed.
    pub moves: u32,
    /// How often it lost its cache and was read again.
    pub replays: u32,
}

/// What a job did on one device.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// The device.
    pub device: DeviceId,
    /// What it did.
    pub phase: Phase,
    /// Tokens of it.
    pub tokens: u64,
    /// Its share of the device's time, in seconds.
    pub device_s: f64,
    /// Its share of the energy; absent where of some of it nobody knows.
    pub joules: Option<f64>,
}

impl Span {
    /// Counts more of the same in.
    pub fn add(&mut self, more: &Self) {
        self.tokens += more.tokens;
        self.device_s += more.device_s;
        self.joules = self.joules.zip(more.joules).map(|(a, b)| a + b);
    }
}

/// A part of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A prompt is read.
    Prefill,
    /// Answers are written.
    Decode,
}

/// How joules were found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoulesSource {
    /// Watts of a data sheet, times seconds.
    Estimated,
    /// A meter told all of it.
    Measured,
    /// A meter told some of it.
    Mixed,
    /// Of some of it there was neither a meter nor a figure.
    #[default]
    Unknown,
}

impl JoulesSource {
    /// The source of two amounts together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (a, b) if a == b => a,
            _ => Self::Mixed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(joules: Option<f64>) -> Span {
        Span {
            device: DeviceId(0),
            phase: Phase::Decode,
            tokens: 2,
            device_s: 0.5,
            joules,
        }
    }

    #[test]
    fn what_is_known_in_part_is_not_known() {
        for (a, b, both) in [
            (Some(1.0), Some(2.0), Some(3.0)),
            (Some(1.0), None, None),
            (None, Some(2.0), None),
        ] {
            let mut sum = span(a);
            sum.add(&span(b));
            assert_eq!((sum.tokens, sum.joules), (4, both));
        }
    }

    #[test]
    fn unknown_joules_are_null_and_are_read_again() {
        let account = Account {
            spans: vec![span(None), span(Some(1.5))],
            ..Account::default()
        };
        let json = serde_json::to_value(&account).unwrap();
        assert_eq!(json["joules"], serde_json::Value::Null);
        assert_eq!(json["joules_source"], "unknown");
        assert_eq!(json["spans"][0]["joules"], serde_json::Value::Null);
        assert_eq!(json["spans"][1]["joules"], 1.5);
        assert_eq!(serde_json::from_value::<Account>(json).unwrap(), account);
    }
}
