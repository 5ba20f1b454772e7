//! What jobs have in common with those before them.

use std::collections::BTreeMap;

use troika_scheduler::JobSpec;

use crate::log::Arrival;

/// Of each job, its owner's job before it with the same model, and what it shares with that one.
#[derive(Debug)]
pub(super) struct Lineage(Vec<(Option<usize>, u32)>);

impl Lineage {
    pub(super) fn of(specs: &[JobSpec], arrivals: &[Arrival]) -> Self {
        let mut last = BTreeMap::new();
        let mut order: Vec<usize> = (0..arrivals.len()).collect();
        order.sort_by_key(|&at| arrivals[at].at);
        let mut all = vec![(None, 0); arrivals.len()];
        for at in order {
            let before = last.insert((specs[at].owner, specs[at].model), at);
            all[at] = (before, arrivals[at].shared);
        }
        Self(all)
    }

    /// Tokens that two jobs of an owner begin with in common, of the same model: what all from the earlier to the later one
    /// share. A job has all in common with itself.
    pub(super) fn common(&self, one: usize, other: usize) -> u32 {
        let (first, mut at) = (one.min(other), one.max(other));
        let mut tokens = u32::MAX;
        while at != first && tokens > 0 {
            let (before, shared) = self.0[at];
            tokens = tokens.min(shared);
            match before {
                Some(before) => at = before,
                None => return 0,
            }
        }
        tokens
    }
}
