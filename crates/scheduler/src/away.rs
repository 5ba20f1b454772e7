//! Places beyond this machine: endpoints to which jobs may go whose owner lets them.
//!
//! A job brings along where it may go ([`JobSpec::elsewhere`](crate::JobSpec::elsewhere)); one that brings nothing is never
//! sent. What an endpoint is, what it costs and how fast it answers, whoever submits the job knows; here they are numbers to
//! be weighed against those of the devices.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::job::DeviceId;

/// An endpoint as a place for one job.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Elsewhere {
    /// Its number: those of endpoints follow those of the devices.
    pub device: DeviceId,
    /// Seconds until its first token, the way there included.
    pub ttft_s: f64,
    /// Tokens a second of each answer.
    pub tps: f64,
    /// How far off these may be, as a factor.
    pub spread: f64,
    /// What the job is expected to cost there, in the owner's currency; absent where nobody knows the price. Then it goes
    /// there only if it has nowhere else to go.
    pub money: Option<f64>,
}

/// What is told of an endpoint, whichever job goes there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteFacts {
    /// Its number: those of endpoints follow those of the devices.
    pub device: DeviceId,
    /// `remote:NAME`.
    pub name: String,
    /// Jobs that it takes at the same time; any number if absent.
    pub concurrent: Option<usize>,
    /// Why it takes none now, for people. Believed for ten seconds unless it is told again: then a job may try.
    pub closed: Option<String>,
}

/// What money is worth to the owner.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Worth {
    /// A second of waiting, in money.
    pub second: f64,
    /// A kilowatt-hour, in money.
    pub kwh: f64,
}

impl Default for Worth {
    /// A tenth of a cent for a second, 30 cents for a kilowatt-hour.
    fn default() -> Self {
        Self {
            second: 0.001,
            kwh: 0.3,
        }
    }
}

/// What is worth nothing is taken for this much, so that all costs are finite.
const WORTH_LEAST: f64 = 1e-9;
const JOULES_PER_KWH: f64 = 3.6e6;

impl Worth {
    /// The seconds of waiting that so much money is worth.
    pub(crate) fn seconds(&self, money: f64) -> f64 {
        money.max(0.0) / self.second.max(WORTH_LEAST)
    }

    /// The joules that so much money buys.
    pub(crate) fn joules(&self, money: f64) -> f64 {
        money.max(0.0) / self.kwh.max(WORTH_LEAST) * JOULES_PER_KWH
    }
}

/// What became of a job that was sent away.
#[derive(Clone, PartialEq, Debug)]
pub enum Returned {
    /// It is done.
    Done {
        /// Tokens of its prompt that were read there.
        read: u64,
        /// Tokens that were written, over all answers.
        written: u64,
        /// From its being sent to its first token; absent if there was none.
        ttft: Option<Duration>,
        /// From its being sent to its end.
        took: Duration,
    },
    /// It is not done.
    Failed {
        /// Why, for people.
        why: String,
        /// Whether a part of an answer was told already: then it ends here. Else it is done elsewhere.
        said: bool,
        /// Whether other jobs would fare no better there just now.
        is_down: bool,
    },
}

/// What is told of an endpoint that takes no jobs is believed for so long.
const BELIEVED: Duration = Duration::from_secs(10);
/// An endpoint that failed a job gets no other for so long, and for twice as long each time that it fails again.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(120);

/// An endpoint, as the scheduler keeps it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remote {
    pub(crate) name: String,
    pub(crate) concurrent: Option<usize>,
    /// Jobs that are there.
    pub(crate) jobs: usize,
    /// Why it takes none, as it was told, and until when that is believed.
    told: Option<(Time, String)>,
    /// Why it failed the last job, and until when it gets no other.
    failed: Option<(Time, String)>,
    /// Failures in a row.
    failures: u32,
}

impl Remote {
    /// Takes in what is told of it.
    pub(crate) fn told(&mut self, facts: RemoteFacts, now: Time) {
        self.name = facts.name;
        self.concurrent = facts.concurrent;
        self.told = facts.closed.map(|why| (now + BELIEVED, why));
    }

    /// It has done a job.
    pub(crate) fn has_done(&mut self) {
        self.failed = None;
        self.failures = 0;
    }

    /// It could not do a job, and could do no other.
    pub(crate) fn has_failed(&mut self, why: &str, now: Time) {
        let backoff = RETRY.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.failed = Some((now + backoff.min(RETRY_MAX), why.to_owned()));
    }

    /// Why it takes no job now.
    pub(crate) fn closed(&self, now: Time) -> Option<&str> {
        let holds = |closed: &&(Time, String)| closed.0 > now;
        let told = self.told.as_ref().filter(holds);
        let closed = told.or_else(|| self.failed.as_ref().filter(holds));
        closed.map(|(_, why)| &**why)
    }

    /// Whether it takes no more jobs until one of those comes back.
    pub(crate) fn is_full(&self) -> bool {
        self.concurrent.is_some_and(|most| self.jobs >= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(closed: Option<&str>) -> RemoteFacts {
        RemoteFacts {
            device: DeviceId(9),
            name: "remote:far".to_owned(),
            concurrent: Some(2),
            closed: closed.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_closed_is_tried_again() {
        let mut remote = Remote::default();
        let at = |seconds: f64| Time::from_seconds(seconds);
        remote.told(told(Some("the budget is spent")), at(0.0));
        assert_eq!(remote.closed(at(9.0)), Some("the budget is spent"));
        assert_eq!(remote.closed(at(10.0)), None);
        remote.told(told(None), at(11.0));
        for (failed, closed_s) in [(20.0, 2.0), (30.0, 4.0), (40.0, 8.0)] {
            remote.has_failed("503", at(failed));
            // What is told does not undo what was seen.
            remote.told(told(None), at(failed));
            assert_eq!(remote.closed(at(failed + closed_s - 0.1)), Some("503"));
            assert_eq!(remote.closed(at(failed + closed_s)), None);
        }
        remote.has_done();
        remote.has_failed("503", at(60.0));
        assert_eq!(remote.closed(at(62.0)), None, "it begins anew");
    }

    #[test]
    fn money_has_its_worth_and_costs_are_finite() {
        let worth = Worth::default();
        assert_eq!(worth.seconds(0.002), 2.0);
        assert_eq!(worth.joules(0.3), 3.6e6);
        let nothing = Worth {
            second: 0.0,
            kwh: 0.0,
        };
        assert!(nothing.seconds(1.0).is_finite() && nothing.joules(1.0).is_finite());
        assert_eq!(nothing.seconds(0.0), 0.0);
    }
}
