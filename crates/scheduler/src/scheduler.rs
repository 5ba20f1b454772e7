//! The state machine: events in, actions out.

use crate::event::{Action, Event};
use crate::facts::{DeviceFacts, PoolFacts};
use crate::snapshot::Snapshot;
use crate::{Settings, Time};

/// Decides which job runs where and when. The one in earnest is [`Scheduler`]; a simulation has others to compare it with.
pub trait Schedule {
    /// Takes in what has happened, and says what is to be done now. `now` never goes back.
    fn step(&mut self, now: Time, events: Vec<Event>) -> Vec<Action>;

    /// When to call [`Schedule::step`] again though nothing happens.
    fn wake_at(&self) -> Option<Time>;

    /// The state of everything.
    fn snapshot(&self) -> Snapshot;
}

/// Places every job: one scheduler over all devices and models.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    devices: Vec<DeviceFacts>,
    pools: Vec<PoolFacts>,
}

impl Scheduler {
    /// Over these devices and pools, none of which is offered before it has answered a probe.
    pub fn new(settings: Settings, devices: Vec<DeviceFacts>, pools: Vec<PoolFacts>) -> Self {
        Self {
            settings,
            devices,
            pools,
        }
    }
}

impl Schedule for Scheduler {
    fn step(&mut self, _now: Time, _events: Vec<Event>) -> Vec<Action> {
        Vec::new()
    }

    fn wake_at(&self) -> Option<Time> {
        None
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: Time::default(),
            policy: self.settings.policy,
            power: crate::Power::default(),
            devices: Vec::new(),
            pools: Vec::new(),
            queues: Vec::new(),
            jobs: Vec::new(),
            budget: None,
        }
    }
}
