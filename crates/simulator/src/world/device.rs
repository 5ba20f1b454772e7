//! A device as it really is: what is on it, how fast it truly goes.

use std::collections::{BTreeMap, BTreeSet};

use rand_pcg::Pcg64Mcg;
use troika_base::Bytes;
use troika_scheduler::{Form, Heat, JobId, Load, ModelFacts, ModelId, OwnerId, PoolId, SeqId};

use super::pages::{Held, Pages};
use crate::chance::Chance as _;

/// A model on a device.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    /// Whether it can be used, or is still on its way.
    pub(super) is_ready: bool,
    /// What it truly takes of each of the device's pools.
    pub(super) bytes: Vec<Bytes>,
    pub(super) pages: Pages,
    pub(super) caches: BTreeMap<SeqId, Held>,
    /// Jobs that were started here and not dropped.
    pub(super) jobs: BTreeSet<JobId>,
}

impl Resident {
    /// Forgets a job and gives its pages back. `owner` as in [`Self::release`].
    pub(super) fn forget(&mut self, job: JobId, owner: Option<OwnerId>) {
        self.jobs.remove(&job);
        let first = SeqId { job, choice: 0 };
        let last = SeqId {
            job,
            choice: u32::MAX,
        };
        let seqs: Vec<SeqId> = self
            .caches
            .range(first..=last)
            .map(|(seq, _)| *seq)
            .collect();
        for seq in seqs {
            self.release(seq, owner);
        }
    }

    /// Gives a sequence's pages back. What is in them stays for `owner`, if there is one, as long as there is room.
    pub(super) fn release(&mut self, seq: SeqId, owner: Option<OwnerId>) {
        if let Some(held) = self.caches.remove(&seq) {
            match owner.filter(|_| seq.choice == 0) {
                Some(owner) => self.pages.leave(owner, seq.job, held),
                None => self.pages.release(held),
            }
        }
    }
}

/// A step under way.
#[derive(Clone, Debug)]
pub(super) struct Working {
    pub(super) model: ModelId,
    /// The jobs in it.
    pub(super) jobs: BTreeSet<JobId>,
    /// Those of them that were dropped meanwhile.
    pub(super) dropped: BTreeSet<JobId>,
    /// 10⁹ bytes a second that it draws of its pool.
    pub(super) draw_gbs: f64,
}

/// A device.
#[derive(Clone, Debug)]
pub(super) struct Device {
    /// Whether it is there and answers.
    pub(super) is_up: bool,
    /// Counts how often it lost all that was on it: what began before is void.
    pub(super) epoch: u32,
    pub(super) heat: Heat,
    pub(super) residents: BTreeMap<ModelId, Resident>,
    pub(super) working: Option<Working>,
    /// Whether somebody waits for an answer of it.
    pub(super) n_pending: u32,
    pub(super) busy_s: f64,
    pub(super) joules: f64,
    /// True over estimated time.
    hidden: f64,
    /// True over estimated watts.
    hidden_watts: f64,
    /// Whether a meter tells its joules.
    pub(super) is_metered: bool,
}

impl Device {
    pub(super) fn new(hidden: f64, rng: &mut Pcg64Mcg) -> Self {
        Self {
            is_up: true,
            epoch: 0,
            heat: Heat::Normal,
            residents: BTreeMap::new(),
            working: None,
            n_pending: 0,
            busy_s: 0.0,
            joules: 0.0,
            hidden: rng.factor(hidden.max(1.0)),
            hidden_watts: rng.factor(1.0 + (hidden - 1.0).max(0.0) / 2.0),
            is_metered: rng.happens(0.5),
        }
    }

    /// All that was on it is gone, and nobody hears of what was under way.
    pub(super) fn reset(&mut self) {
        self.epoch += 1;
        self.residents.clear();
        self.working = None;
        self.n_pending = 0;
    }

    /// Seconds and watts that a step truly takes; `crowd` is how many times as long it waits for memory that others use too.
    pub(super) fn step(&self, form: &Form, load: Load, crowd: f64) -> (f64, f64) {
        let mut gait = form.gait;
        gait.read_s *= crowd;
        gait.past_s *= crowd;
        let slow = match self.heat {
            Heat::Normal => 1.0,
            Heat::Warm => 1.1,
            Heat::Hot => 2.0,
        };
        let seconds = gait.step_s(load) * self.hidden * slow;
        // A chip that slows down draws as much less.
        let watts = gait.watts(load) * self.hidden_watts / slow.sqrt();
        (seconds.max(1e-6), watts)
    }

    /// Bytes that its models take of a pool.
    pub(super) fn takes(&self, pools: &[PoolId], pool: PoolId) -> u64 {
        let residents = self.residents.values();
        let of_pool = residents.flat_map(|resident| pools.iter().zip(&resident.bytes));
        let of_pool = of_pool.filter(|(of, _)| **of == pool);
        of_pool.map(|(_, bytes)| bytes.0).sum()
    }
}

/// What a model takes of each pool of a device, with a cache of so many tokens; the cache goes with the weights.
pub(crate) fn predicted_bytes(facts: &ModelFacts, form: &Form, kv_tokens: u32) -> Vec<Bytes> {
    let weights: u64 = form.bytes.iter().map(|bytes| bytes.0).sum();
    let cache = u64::from(kv_tokens) * facts.kv_bytes_per_token;
    let of_pool = |bytes: &Bytes| {
        let share = bytes.0 as f64 / weights.max(1) as f64;
        Bytes(bytes.0 + (cache as f64 * share) as u64)
    };
    form.bytes.iter().map(of_pool).collect()
}
