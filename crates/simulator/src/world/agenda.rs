//! What is going to happen, in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use troika_scheduler::{DeviceId, JobId, ModelId, Slice, Time};

use super::away::Return;
use crate::faults::Fault;

/// Something that is going to happen.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A job comes, by its place among the arrivals.
    Comes(usize),
    /// Its client leaves.
    Leaves(usize),
    /// A day is over.
    Midnight,
    /// A fault that was planned.
    Fault(Fault),
    /// What was done on a device is done, if the device is still what it was when it began.
    Done {
        device: DeviceId,
        epoch: u32,
        what: Done,
    },
    /// A cache has arrived.
    Moved {
        job: JobId,
        model: ModelId,
        from: (DeviceId, u32),
        to: (DeviceId, u32),
        began: Time,
    },
    /// A job comes back from an endpoint.
    Back(Return),
    /// Nobody believes any more that a step ends.
    GivenUp { device: DeviceId, epoch: u32 },
}

/// What was done on a device.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Step {
        model: ModelId,
        slices: Vec<Slice>,
        took: Duration,
        joules: f64,
        /// Tokens that it drafted for each sequence.
        n_draft: u32,
    },
    Load {
        model: ModelId,
        took: Duration,
    },
    Unload(ModelId),
    Probe,
}

#[derive(Debug)]
struct Entry {
    at: Time,
    sequence: u64,
    what: Happening,
}

impl Entry {
    fn key(&self) -> Reverse<(Time, u64)> {
        Reverse((self.at, self.sequence))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What is going to happen; what is due at once comes in the order in which it was planned.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Entry>,
    planned: u64,
}

impl Agenda {
    pub(super) fn plan(&mut self, at: Time, what: Happening) {
        self.planned += 1;
        self.heap.push(Entry {
            at,
            sequence: self.planned,
            what,
        });
    }

    /// When the next thing is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// The next thing that is due by now.
    pub(super) fn due(&mut self, now: Time) -> Option<Happening> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.what)
    }
}
