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
    /// Its share of what the devices used while they worked for it; of some of it nobody knows if its source is
    /// [`JoulesSource::Unknown`].
    pub joules: f64,
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
    /// Its share of the energy; 0 where nobody knows it.
    pub joules: f64,
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
    #[default]
    Estimated,
    /// A meter told all of it.
    Measured,
    /// A meter told some of it.
    Mixed,
    /// Of some of it there was neither a meter nor a figure.
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
