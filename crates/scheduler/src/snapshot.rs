//! The state of everything, for people: the page, `troika top`, the report of a simulation.

use serde::Serialize;
use troika_base::{Bytes, DeviceKind};

use crate::account::{JoulesSource, Phase};
use crate::facts::{Heat, Power};
use crate::job::{DeviceId, JobId, ModelId, PoolId};
use crate::{Class, Policy, Time};

/// The state of everything.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Snapshot {
    /// Now.
    pub at: Time,
    /// What the owner wants.
    pub policy: Policy,
    /// Where the power comes from.
    pub power: Power,
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// The pools of memory.
    pub pools: Vec<PoolView>,
    /// Jobs that wait, by class, the most urgent first.
    pub queues: Vec<QueueView>,
    /// Jobs that are on a device or at an endpoint, by device and age.
    pub jobs: Vec<JobView>,
    /// The endpoints beyond this machine; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<AwayView>,
    /// The budget of energy, where one is set.
    pub budget: Option<BudgetView>,
}

/// A device.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DeviceView {
    /// Which.
    pub id: DeviceId,
    /// `gpu0`.
    pub name: String,
    /// The chip's name.
    pub chip: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Whether it is offered: `probing`, `ready`, `draining`, `lost`, with the reason.
    pub state: String,
    /// How warm it is.
    pub heat: Heat,
    /// Share of the last ten seconds in which it worked.
    pub busy: f64,
    /// Runs of always-on models under way, which are not among its jobs; absent if there are none.
    #[serde(skip_serializing_if = "is_none")]
    pub beside: usize,
    /// Watts, as drawn or estimated, over the last ten seconds; of no meaning if their source is unknown.
    pub watts: f64,
    /// Whether a meter told them.
    pub watts_source: JoulesSource,
    /// Joules while it worked, since the beginning.
    pub joules_busy: f64,
    /// Joules while it rested, since the beginning.
    pub joules_idle: f64,
    /// Tokens read since the beginning.
    pub prefill_tokens: u64,
    /// Tokens written since the beginning.
    pub decode_tokens: u64,
    /// The models on it.
    pub models: Vec<ResidentView>,
}

/// An endpoint beyond this machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AwayView {
    /// Which.
    pub device: DeviceId,
    /// `remote:NAME`.
    pub name: String,
    /// Jobs that are there.
    pub jobs: usize,
    /// Why it takes none now; absent if it takes some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
}

/// A model on a device.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ResidentView {
    /// Which.
    pub model: ModelId,
    /// Its name.
    pub name: String,
    /// `loading`, `ready`, `leaving`.
    pub state: &'static str,
    /// What it takes, its cache included.
    pub bytes: Bytes,
    /// What it was predicted to take.
    pub bytes_predicted: Bytes,
    /// Jobs on it, and on their way to it.
    pub jobs: usize,
    /// Pages of its cache in use.
    pub pages_used: u32,
    /// Pages of its cache.
    pub pages: u32,
    /// True over estimated time of its steps: `[waiting for memory, for arithmetic]`.
    pub correction: [f64; 2],
}

/// A pool of memory.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PoolView {
    /// Which.
    pub id: PoolId,
    /// `ram`.
    pub name: String,
    /// All there is.
    pub capacity: Bytes,
    /// Kept free.
    pub reserve: Bytes,
    /// What other programs take.
    pub others: Bytes,
    /// Weights and buffers of models.
    pub models: Bytes,
    /// Taken only while something is loaded.
    pub loading: Bytes,
}

/// Jobs of a class that wait.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct QueueView {
    /// The class.
    pub class: Class,
    /// How many wait.
    pub waiting: usize,
    /// How many are on a device.
    pub running: usize,
    /// How long the oldest has waited, in seconds.
    pub oldest_s: f64,
}

/// A job on a device.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct JobView {
    /// Which.
    pub job: JobId,
    /// Its model.
    pub model: ModelId,
    /// Its class.
    pub class: Class,
    /// Where it is; of endpoints, nobody knows what they do with it, and how far they are.
    pub device: DeviceId,
    /// What it does.
    pub phase: Phase,
    /// Tokens that were read or written of it so far, and how many there are to be.
    pub tokens: [u32; 2],
    /// Seconds since it came.
    pub age_s: f64,
    /// Why it is there, in a line.
    pub why: String,
}

/// The budget of energy.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct BudgetView {
    /// Watt-hours a day.
    pub watt_hours: f64,
    /// Watt-hours spent today.
    pub spent: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(count: &usize) -> bool {
    *count == 0
}
