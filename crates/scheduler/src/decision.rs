//! Why a job is where it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::job::{DeviceId, JobId};
use crate::{Class, Policy, Time};

/// A placement, with the candidates that lost and why.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// The job.
    pub job: JobId,
    /// When it was placed.
    pub at: Time,
    /// Its class then.
    pub class: Class,
    /// The policy then.
    pub policy: Policy,
    /// What led to it.
    pub cause: Cause,
    /// Where its prompt is read.
    pub prefill: DeviceId,
    /// Where its answers are written.
    pub decode: DeviceId,
    /// All candidates; those that were possible first, the best before the others.
    pub candidates: Vec<Candidate>,
}

/// What led to a placement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// It is new.
    Arrival,
    /// Its usual device is full.
    Spill,
    /// Its usual device is free again.
    Home,
    /// Its device failed; it goes on from its tokens.
    Replay,
    /// Elsewhere it ends sooner, or costs less, by more than the way there.
    Gain,
    /// Its prompt is read; its answers are written where that goes best.
    Handover,
}

/// A device as a place for a job.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Where the prompt would be read.
    pub prefill: DeviceId,
    /// Where answers would be written.
    pub decode: DeviceId,
    /// What is expected of it; absent where it is impossible.
    pub forecast: Option<JobForecast>,
    /// Why it was not taken; absent for the one that was.
    pub lost: Option<Lost>,
}

/// What a job is expected to take somewhere.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct JobForecast {
    /// Seconds until it can begin.
    pub wait_s: f64,
    /// Seconds until its model is loaded.
    pub load_s: f64,
    /// Seconds to read the prompt.
    pub prefill_s: f64,
    /// Seconds to copy its cache from one device to the other.
    pub copy_s: f64,
    /// Seconds to write the answers.
    pub decode_s: f64,
    /// Joules beyond what its devices draw at rest; absent where nobody knows their watts.
    pub joules: Option<f64>,
    /// Joules by which places are compared where nobody knows the watts: what devices of its kind and class draw at most, times
    /// seconds. Absent where the joules are not, or where those are not known either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules_assumed: Option<f64>,
    /// What it costs in money, in the owner's currency, at an endpoint beyond this machine; absent for devices, and where
    /// nobody knows the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<f64>,
    /// What the policy makes of that; less is better.
    pub score: f64,
    /// How far off the times may be, as a factor.
    pub spread: f64,
}

/// What is known to draw no more than at rest still costs so many watts when places are compared: time matters.
const WATTS_LEAST: f64 = 0.1;
/// What draws nobody knows how many watts, nor how many its like draw, is behind all of which that is known: no chip draws more.
pub(crate) const WATTS_MOST: f64 = 2000.0;

impl JobForecast {
    /// Seconds to the first token.
    pub fn ttft_s(&self) -> f64 {
        self.wait_s + self.load_s + self.prefill_s
    }

    /// Joules as places are compared by: told, or else assumed, or else more than anything of which they are known.
    pub(crate) fn joules_compared(&self) -> f64 {
        let seconds = self.prefill_s + self.decode_s;
        match self.joules {
            Some(joules) => joules.max(WATTS_LEAST * seconds),
            None => self.joules_assumed.unwrap_or(WATTS_MOST * seconds),
        }
    }

    /// Seconds to the end.
    pub fn total_s(&self) -> f64 {
        self.ttft_s() + self.copy_s + self.decode_s
    }
}

/// Why a device was not taken.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Lost {
    /// Another one is required.
    NotRequired,
    /// It is not offered.
    NotOffered {
        /// Why.
        because: String,
    },
    /// The model does not run on it.
    Unsupported {
        /// Why.
        because: String,
    },
    /// Its memory does not hold the model, or the job's context.
    TooSmall {
        /// What is in the way.
        because: String,
    },
    /// It would come after the deadline.
    TooLate,
    /// It is too slow for the class.
    TooSlow,
    /// The owner prefers another sort of device.
    NotPreferred,
    /// Nobody knows what it costs, and there is somewhere else to go.
    Unpriced,
    /// Another one is better by the policy's measure, by this factor.
    Worse {
        /// Its score over the winner's.
        factor: f64,
    },
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRequired => write!(f, "another device is required"),
            Self::NotOffered { because }
            | Self::Unsupported { because }
            | Self::TooSmall { because } => write!(f, "{because}"),
            Self::TooLate => write!(f, "would miss the deadline"),
            Self::TooSlow => write!(f, "too slow for its class"),
            Self::NotPreferred => write!(f, "the policy prefers another sort of device"),
            Self::Unpriced => write!(f, "nobody knows what it costs; give it a price"),
            Self::Worse { factor } => write!(f, "{factor:.2} times the winner's cost"),
        }
    }
}
