//! What the checker knows of jobs and devices.

use std::collections::BTreeMap;

use troika_base::Bytes;
use troika_scheduler::{DeviceId, JobId, JobSpec, ModelId, PoolId, Slice, Time, Work, Wrote};

/// Where a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Where {
    Waiting,
    Starting(DeviceId),
    On(DeviceId),
    Moving { from: DeviceId, to: DeviceId },
    Away(DeviceId),
}

/// An answer of a job.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) known: u32,
    pub(super) held: u32,
    pub(super) has_ended: bool,
    /// Its cache was given up, and it has not been computed since.
    pub(super) is_released: bool,
    /// When it was computed last, or started.
    pub(super) served: Time,
}

/// A job.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) spec: JobSpec,
    pub(super) place: Where,
    pub(super) answers: Vec<Answer>,
    has_parted: bool,
    pub(super) is_over: bool,
    pub(super) has_failed: bool,
    /// Where it was decided that its prompt is read and its answers are written.
    pub(super) decided: Option<(DeviceId, DeviceId)>,
    /// Steps of lower classes that were begun where it is since it was computed last.
    pub(super) passed: u32,
    /// The endpoints that it was sent to.
    pub(super) sent_to: Vec<DeviceId>,
    /// It came back done, or with a part of its answer told.
    pub(super) is_back: bool,
}

impl Job {
    pub(super) fn new(spec: JobSpec) -> Self {
        let answer = Answer {
            known: spec.prompt_tokens,
            held: 0,
            has_ended: false,
            is_released: false,
            served: Time(0),
        };
        Self {
            spec,
            place: Where::Waiting,
            answers: vec![answer],
            has_parted: false,
            is_over: false,
            has_failed: false,
            decided: None,
            passed: 0,
            sent_to: Vec::new(),
            is_back: false,
        }
    }

    /// An answer wrote tokens. With the first one, answers to the same prompt part.
    pub(super) fn wrote(&mut self, wrote: &Wrote) {
        let has_ended = wrote.has_ended;
        let Work::Write { n, .. } = self.spec.work else {
            self.answers[0].has_ended = has_ended;
            return;
        };
        if !self.has_parted {
            self.has_parted = true;
            for _ in 1..n {
                self.answers.push(self.answers[0].clone());
            }
        }
        if let Some(answer) = self.answers.get_mut(wrote.seq.choice as usize) {
            answer.known += wrote.n_tok;
            answer.has_ended |= has_ended;
        }
    }

    /// It waits again, and has nothing in any cache.
    pub(super) fn wait(&mut self) {
        self.place = Where::Waiting;
        for answer in &mut self.answers {
            answer.held = 0;
            answer.is_released = false;
        }
    }
}

/// How far a model on a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Loading,
    Ready,
    Unloading,
}

/// A model on a device.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    pub(super) stage: Stage,
    /// What it takes of each of the device's pools.
    pub(super) bytes: Vec<Bytes>,
    /// What it takes of the first one beyond that, while it is loaded.
    pub(super) peak: Bytes,
}

/// A step under way.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) model: ModelId,
    pub(super) slices: Vec<Slice>,
}

impl Step {
    pub(super) fn has(&self, job: JobId) -> bool {
        self.slices.iter().any(|slice| slice.seq.job == job)
    }
}

/// A device.
#[derive(Clone, Debug, Default)]
pub(super) struct Device {
    pub(super) is_offered: bool,
    pub(super) residents: BTreeMap<ModelId, Resident>,
    pub(super) step: Option<Step>,
}

impl Device {
    /// Bytes that its models take of a pool.
    pub(super) fn takes(&self, pools: &[PoolId], pool: PoolId) -> u64 {
        let of_resident = |resident: &Resident| {
            let bytes = pools.iter().zip(&resident.bytes);
            let bytes = bytes.filter(|(of, _)| **of == pool);
            let held: u64 = bytes.map(|(_, bytes)| bytes.0).sum();
            let is_first = pools.first() == Some(&pool);
            held + if is_first { resident.peak.0 } else { 0 }
        };
        self.residents.values().map(of_resident).sum()
    }
}
