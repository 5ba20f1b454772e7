//! What the owner can set.

use std::time::Duration;

use crate::job::KeepAlive;
use crate::{Class, Limits, Policy, Worth};

/// What a scheduler may do.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// What the owner wants.
    pub policy: Policy,
    /// What one step may do.
    pub limits: Limits,
    /// Jobs that wait, at most.
    pub queue: usize,
    /// Models in memory, at most, over all devices.
    pub models_max: usize,
    /// How long a model stays after its last job.
    pub keep_alive: KeepAlive,
    /// After so long without a step, a job is treated as interactive for one step; by [`Class`], `Batch` first.
    pub ageing: [Duration; 4],
    /// After so long in the queue, a job is placed wherever there is room rather than where it costs least; by [`Class`],
    /// `Batch` first.
    pub patience: [Duration; 4],
    /// How long a step may take that has none of the most urgent class in it: so long somebody may wait for it.
    pub quantum: Duration,
    /// Energy for a day, in watt-hours. When it is spent, background and batch wait for the next one, and the rest is
    /// placed frugally.
    pub budget_wh: Option<f64>,
    /// Watt-hours of it that were spent today before the scheduler began.
    pub spent_wh: f64,
    /// On how many devices a job is tried before it fails.
    pub tries: u32,
    /// What money is worth, where jobs may go to endpoints that cost some.
    pub worth: Worth,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            policy: Policy::default(),
            limits: Limits::default(),
            queue: 1024,
            models_max: 8,
            keep_alive: KeepAlive::For(seconds(5 * 60)),
            ageing: [
                seconds(5),
                seconds(2),
                Duration::from_millis(500),
                seconds(1),
            ],
            patience: [seconds(1200), seconds(120), seconds(5), seconds(1)],
            quantum: Duration::from_millis(45),
            budget_wh: None,
            spent_wh: 0.0,
            tries: 3,
            worth: Worth::default(),
        }
    }
}

impl Settings {
    pub(crate) fn ageing(&self, class: Class) -> Duration {
        self.ageing[class.index()]
    }

    pub(crate) fn patience(&self, class: Class) -> Duration {
        self.patience[class.index()]
    }
}
