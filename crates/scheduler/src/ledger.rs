//! The one account of memory: who takes what of which pool.
//!
//! Devices that share memory share a pool, so that a model on the NPU and one on the GPU are not both promised the same
//! bytes. What a load takes is reserved when it is ordered, by prediction; when it is done, the truth takes its place, and
//! the ratio of both corrects the next prediction.

use std::collections::BTreeMap;

use troika_base::Bytes;

use crate::facts::PoolFacts;
use crate::job::{DeviceId, ModelId, PoolId};

/// Who takes memory: a model on a device.
pub(crate) type Holder = (DeviceId, ModelId);

/// What a holder takes of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// For as long as it is there.
    held: u64,
    /// Only while it is loaded.
    peak: u64,
}

#[derive(Clone, Debug)]
struct Pool {
    facts: PoolFacts,
    others: u64,
    entries: BTreeMap<Holder, Entry>,
}

impl Pool {
    fn taken(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| entry.held + entry.peak)
            .sum()
    }

    fn free(&self) -> u64 {
        let kept = self.facts.reserve.0 + self.others + self.taken();
        self.facts.capacity.0.saturating_sub(kept)
    }
}

/// The account of all pools.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pools: Vec<Pool>,
    /// True over predicted bytes, by model and device; what was learned outlives the model's stay.
    learned: BTreeMap<Holder, f64>,
}

/// No prediction is corrected by more: a device that tells nonsense is not believed.
const CORRECTION_MAX: f64 = 2.0;

impl Ledger {
    pub(crate) fn new(pools: Vec<PoolFacts>) -> Self {
        let pools = pools.into_iter().map(|facts| Pool {
            facts,
            others: 0,
            entries: BTreeMap::new(),
        });
        Self {
            pools: pools.collect(),
            learned: BTreeMap::new(),
        }
    }

    /// Bytes that are free in a pool.
    pub(crate) fn free(&self, pool: PoolId) -> u64 {
        self.pools.get(usize::from(pool.0)).map_or(0, Pool::free)
    }

    /// Bytes that there would be in a pool if nothing was loaded.
    pub(crate) fn room(&self, pool: PoolId) -> u64 {
        let pool = self.pools.get(usize::from(pool.0));
        pool.map_or(0, |pool| {
            let kept = pool.facts.reserve.0 + pool.others;
            pool.facts.capacity.0.saturating_sub(kept)
        })
    }

    /// What a holder takes of a pool.
    pub(crate) fn held(&self, holder: Holder, pool: PoolId) -> u64 {
        let entry = self
            .pools
            .get(usize::from(pool.0))
            .and_then(|pool| pool.entries.get(&holder));
        entry.map_or(0, |entry| entry.held + entry.peak)
    }

    /// How the true bytes of a holder stand to the predicted ones.
    pub(crate) fn correction(&self, holder: Holder) -> f64 {
        self.learned.get(&holder).copied().unwrap_or(1.0)
    }

    /// Reserves memory for a load: in each pool what stays, and the peak in the first one.
    pub(crate) fn reserve(&mut self, holder: Holder, pools: &[PoolId], held: &[u64], peak: u64) {
        for (at, (pool, &held)) in pools.iter().zip(held).enumerate() {
            if let Some(pool) = self.pools.get_mut(usize::from(pool.0)) {
                let peak = if at == 0 { peak } else { 0 };
                pool.entries.insert(holder, Entry { held, peak });
            }
        }
    }

    /// A load is done: the truth takes the prediction's place.
    pub(crate) fn settle(&mut self, holder: Holder, pools: &[PoolId], truth: &[Bytes]) {
        let mut predicted = 0;
        for (pool, truth) in pools.iter().zip(truth) {
            if let Some(pool) = self.pools.get_mut(usize::from(pool.0)) {
                let entry = pool.entries.entry(holder).or_default();
                predicted += entry.held;
                *entry = Entry {
                    held: truth.0,
                    peak: 0,
                };
            }
        }
        let truth: u64 = truth.iter().map(|bytes| bytes.0).sum();
        if predicted > 0 && truth > 0 {
            let ratio = self.correction(holder) * truth as f64 / predicted as f64;
            let ratio = ratio.clamp(1.0 / CORRECTION_MAX, CORRECTION_MAX);
            self.learned.insert(holder, ratio);
        }
    }

    /// A holder's memory is free.
    pub(crate) fn release(&mut self, holder: Holder) {
        for pool in &mut self.pools {
            pool.entries.remove(&holder);
        }
    }

    /// What other programs take now.
    pub(crate) fn others_use(&mut self, pool: PoolId, bytes: Bytes) {
        if let Some(pool) = self.pools.get_mut(usize::from(pool.0)) {
            pool.others = bytes.0;
        }
    }

    /// The pools for people: facts, others', models', loads'.
    pub(crate) fn view(&self) -> impl Iterator<Item = (PoolId, &PoolFacts, [Bytes; 3])> {
        self.pools.iter().enumerate().map(|(id, pool)| {
            let sum = |part: fn(&Entry) -> u64| Bytes(pool.entries.values().map(part).sum());
            let parts = [Bytes(pool.others), sum(|e| e.held), sum(|e| e.peak)];
            (PoolId(id as u16), &pool.facts, parts)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: PoolId = PoolId(0);
    const NPU: Holder = (DeviceId(2), ModelId(1));
    const CPU: Holder = (DeviceId(0), ModelId(1));

    fn ledger() -> Ledger {
        Ledger::new(vec![PoolFacts {
            name: "ram".to_owned(),
            capacity: Bytes(100),
            reserve: Bytes(10),
        }])
    }

    #[test]
    fn devices_that_share_memory_share_the_account() {
        let mut ledger = ledger();
        ledger.reserve(NPU, &[RAM], &[40], 20);
        assert_eq!(ledger.free(RAM), 30);
        ledger.settle(NPU, &[RAM], &[Bytes(44)]);
        assert_eq!(ledger.free(RAM), 46);
        ledger.reserve(CPU, &[RAM], &[30], 0);
        ledger.others_use(RAM, Bytes(20));
        assert_eq!((ledger.free(RAM), ledger.room(RAM)), (0, 70));
        ledger.release(NPU);
        assert_eq!(ledger.free(RAM), 40);
    }

    #[test]
    fn the_truth_corrects_the_next_prediction() {
        let mut ledger = ledger();
        for _ in 0..3 {
            let predicted = (40.0 * ledger.correction(CPU)).round() as u64;
            ledger.reserve(CPU, &[RAM], &[predicted], 0);
            ledger.settle(CPU, &[RAM], &[Bytes(50)]);
            ledger.release(CPU);
        }
        assert!((ledger.correction(CPU) - 1.25).abs() < 0.01);
        ledger.reserve(CPU, &[RAM], &[1], 0);
        ledger.settle(CPU, &[RAM], &[Bytes(90)]);
        assert_eq!(ledger.correction(CPU), CORRECTION_MAX);
        assert_eq!(ledger.correction(NPU), 1.0);
    }
}
