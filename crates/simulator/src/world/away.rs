//! Jobs go to endpoints beyond the machine, and what comes of it.

use std::time::Duration;

use troika_scheduler::{DeviceId, Event, JobId, RemoteFacts, Returned, Time};

use super::World;
use super::agenda::Happening;
use super::record::index;
use crate::beyond::VirtualRemote;
use crate::chance::Chance as _;
use crate::log::RemoteLog;

/// An endpoint that does not answer is given up after so long; what it refuses comes back sooner.
const GIVEN_UP: Duration = Duration::from_secs(3);
const REFUSED: Duration = Duration::from_millis(80);
/// Of an endpoint that is slow, everything takes so many times as long.
const SLOW: f64 = 10.0;

/// What is known of endpoints.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    /// Whether they answer.
    pub(super) is_up: Vec<bool>,
    /// Jobs that are there: where, and the number of their sending.
    away: std::collections::BTreeMap<JobId, (DeviceId, u64)>,
    sent: u64,
    pub(super) log: Vec<RemoteLog>,
}

impl Remotes {
    pub(super) fn new(remotes: &[VirtualRemote]) -> Self {
        let log = remotes.iter().map(|remote| RemoteLog {
            name: remote.device_name(),
            ..RemoteLog::default()
        });
        Self {
            is_up: vec![true; remotes.len()],
            log: log.collect(),
            ..Self::default()
        }
    }
}

/// A job on its way back.
#[derive(Clone, Debug)]
pub(super) struct Return {
    job: JobId,
    /// The number of its sending.
    sent: u64,
    left: Time,
    ttft: Duration,
    took: Duration,
    outcome: Fate,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Done,
    Refused,
    Broken,
    NoAnswer,
}

impl World<'_> {
    /// The number of an endpoint.
    pub(super) fn remote_id(&self, at: usize) -> DeviceId {
        DeviceId((self.machine.devices.len() + at) as u16)
    }

    fn remote_at(&self, id: DeviceId) -> usize {
        usize::from(id.0) - self.machine.devices.len()
    }

    /// Whether a number is an endpoint's.
    pub(super) fn is_remote(&self, id: DeviceId) -> bool {
        usize::from(id.0) >= self.machine.devices.len()
    }

    /// What the scheduler is told of an endpoint.
    pub(super) fn remote_facts(&self, at: usize, closed: Option<&str>) -> RemoteFacts {
        let remote = &self.options.beyond.remotes[at];
        RemoteFacts {
            device: self.remote_id(at),
            name: remote.device_name(),
            concurrent: remote.concurrent,
            closed: closed.map(str::to_owned),
        }
    }

    /// An endpoint does not answer from now on, or does again. Half of the time somebody notices before a job does.
    pub(super) fn remote_is(&mut self, at: usize, is_up: bool) {
        self.remotes.is_up[at] = is_up;
        if is_up || self.rng.happens(0.5) {
            let why = (!is_up).then_some("it does not answer");
            let facts = self.remote_facts(at, why);
            self.inbox.push(Event::RemoteIs(facts));
        }
    }

    pub(super) fn send(&mut self, job: JobId, to: DeviceId) {
        let at = self.remote_at(to);
        let remote = &self.options.beyond.remotes[at];
        self.remotes.sent += 1;
        let sent = self.remotes.sent;
        self.remotes.away.insert(job, (to, sent));
        self.remotes.log[at].jobs += 1;
        let (faults, ttft_s, tps) = (remote.faults, remote.ttft_s, remote.tps);
        let slow = if self.wrong(faults.slow) { SLOW } else { 1.0 };
        let ttft = self.noisy(ttft_s * slow);
        let goal = self.jobs[index(job)].goal_longest();
        let writing = self.noisy(f64::from(goal) / tps * slow);
        let is_up = self.remotes.is_up[at];
        let outcome = match is_up {
            false => Fate::NoAnswer,
            true if self.wrong(faults.refuses) => Fate::Refused,
            true if self.wrong(faults.breaks) => Fate::Broken,
            true => Fate::Done,
        };
        let took = match outcome {
            Fate::Done => ttft + writing,
            Fate::Refused => REFUSED,
            Fate::Broken => ttft + writing / 2,
            Fate::NoAnswer => GIVEN_UP,
        };
        let back = Return {
            job,
            sent,
            left: self.now,
            ttft,
            took,
            outcome,
        };
        self.agenda.plan(self.now + took, Happening::Back(back));
    }

    /// A job is called back.
    pub(super) fn call_back(&mut self, job: JobId) {
        self.remotes.away.remove(&job);
    }

    /// A job comes back, if it was not called back before.
    pub(super) fn back(&mut self, back: &Return) {
        let job = back.job;
        let Some(&(from, _)) = self
            .remotes
            .away
            .get(&job)
            .filter(|(_, sent)| *sent == back.sent)
        else {
            return;
        };
        self.remotes.away.remove(&job);
        let at = self.remote_at(from);
        let found = &mut self.jobs[index(job)];
        let prompt = found.prompt;
        let first = back.left + back.ttft;
        let share = match back.outcome {
            Fate::Done => 1.0,
            Fate::Broken => 0.5,
            Fate::Refused | Fate::NoAnswer => 0.0,
        };
        let written = match share > 0.0 {
            true => found.written_away(first, self.now, share),
            false => 0,
        };
        let remote = &self.options.beyond.remotes[at];
        let log = &mut self.remotes.log[at];
        let failed = |why: &str, said, is_down| Returned::Failed {
            why: why.to_owned(),
            said,
            is_down,
        };
        let outcome = match back.outcome {
            Fate::Done => Returned::Done {
                read: u64::from(prompt),
                written: u64::from(written),
                ttft: Some(back.ttft),
                took: back.took,
            },
            Fate::Refused => failed("it refuses", false, false),
            Fate::Broken => failed("the line broke", true, false),
            Fate::NoAnswer => failed("it does not answer", false, true),
        };
        match share > 0.0 {
            true => log.money += remote.money(prompt, written),
            false => log.undone += 1,
        }
        self.inbox.push(Event::Back { job, from, outcome });
    }
}
