//! What a device does beside its steps: runs of always-on models, which come when they come and are not placed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::JobId;
use crate::{Class, Time};

/// What one run more counts for how long they take.
const LEARN: f64 = 0.1;

/// A run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) since: Time,
    pub(crate) class: Class,
    /// Whether a meter will tell what it used.
    pub(crate) is_metered: bool,
}

/// What a device does beside its steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    runs: BTreeMap<JobId, Run>,
    /// Seconds that a run takes, as those before did.
    typical_s: Option<f64>,
}

impl Beside {
    /// Runs under way.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    /// When the oldest run began that is under way.
    pub(crate) fn since(&self) -> Option<Time> {
        self.runs.values().map(|run| run.since).min()
    }

    /// The most urgent class under way.
    pub(crate) fn class(&self) -> Option<Class> {
        self.runs.values().map(|run| run.class).max()
    }

    /// Whether meters will tell what all of it uses.
    pub(crate) fn is_metered(&self) -> bool {
        self.runs.values().all(|run| run.is_metered)
    }

    pub(crate) fn began(&mut self, id: JobId, run: Run) {
        self.runs.insert(id, run);
    }

    /// A run is over. Returns `false` if none such was under way.
    pub(crate) fn ended(&mut self, id: JobId, now: Time) -> bool {
        let Some(run) = self.runs.remove(&id) else {
            return false;
        };
        let took = (now - run.since).as_secs_f64();
        let before = self.typical_s.unwrap_or(took);
        self.typical_s = Some(before + LEARN * (took - before));
        true
    }

    /// Seconds until what is under way is done, as such runs usually are.
    pub(crate) fn left_s(&self, now: Time) -> f64 {
        let typical = Duration::from_secs_f64(self.typical_s.unwrap_or(0.0));
        let left = self.runs.values().map(|run| {
            let passed = now - run.since;
            typical.saturating_sub(passed).as_secs_f64()
        });
        left.fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_expected_to_take_what_they_took() {
        let at = Time::from_seconds;
        let run = |since, class| Run {
            since: at(since),
            class,
            is_metered: false,
        };
        let mut beside = Beside::default();
        beside.began(JobId(1), run(0.0, Class::Background));
        assert_eq!(beside.left_s(at(0.0)), 0.0, "nothing is known yet");
        assert!(beside.ended(JobId(1), at(2.0)));
        assert!(!beside.ended(JobId(1), at(3.0)), "it is over already");
        beside.began(JobId(2), run(10.0, Class::Background));
        beside.began(JobId(3), run(11.0, Class::Interactive));
        assert_eq!((beside.len(), beside.since()), (2, Some(at(10.0))));
        assert_eq!(beside.class(), Some(Class::Interactive));
        assert!((beside.left_s(at(11.5)) - 1.5).abs() < 1e-6);
        assert_eq!(beside.left_s(at(60.0)), 0.0);
    }
}
