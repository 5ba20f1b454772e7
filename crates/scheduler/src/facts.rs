//! What the scheduler is told of devices, memory and models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use troika_base::{Bytes, DeviceKind};

use crate::{DeviceId, Gait, ModelId, PoolId};

/// A device that models can run on.
#[derive(Clone, PartialEq, Debug)]
pub struct DeviceFacts {
    /// `cpu0`, `gpu0`, `npu0`; `gpu0+cpu0` for several that share a model by layers.
    pub name: String,
    /// The chip's name, for people.
    pub chip: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Where its models and caches are. Of a device that is made of several, the pool of each of them.
    pub pools: Vec<PoolId>,
    /// The devices that it is made of; empty for a device of its own. While one of them works, the others do not.
    pub parts: Vec<DeviceId>,
    /// Watts at rest; 0 if nobody knows them.
    pub watts_idle: f64,
    /// Watts at work beside its models, as estimated; absent if nobody knows its power.
    pub watts_busy: Option<f64>,
    /// Watts that devices of its kind and class draw at most, where its own are not known: by them its places are compared, and
    /// nothing is accounted. Absent if those are not known either: then what is known comes first.
    pub watts_assumed: Option<f64>,
    /// 10⁹ bytes a second at which a cache gets there from another device.
    pub link_gbs: f64,
    /// Models that it holds at a time, at most: contexts and sessions of an NPU are scarce.
    pub residents_max: usize,
    /// Sequences that one step computes together, at most: an NPU's graph may have room for one.
    pub batch_max: usize,
    /// Whether what it has cached of a job can leave it, or come from elsewhere. If not, jobs that go are read again from their
    /// tokens where they come to.
    pub moves: bool,
    /// Whether it tells what the network makes of a text, besides what comes next.
    pub embeds: bool,
}

impl DeviceFacts {
    /// Several devices that share models by layers, in the order in which they get layers.
    ///
    /// # Panics
    /// If there are none.
    pub fn of_parts(parts: &[(DeviceId, &Self)]) -> Self {
        let facts = || parts.iter().map(|&(_, facts)| facts);
        let text = |each: fn(&Self) -> &str| facts().map(each).collect::<Vec<_>>().join("+");
        let sum = |watts: fn(&Self) -> Option<f64>| facts().map(watts).sum::<Option<f64>>();
        let any_assumed = facts().any(|facts| facts.watts_assumed.is_some());
        let assumed = sum(|facts| facts.watts_assumed.or(facts.watts_busy));
        let first = facts().next().expect("there is a part");
        Self {
            name: text(|facts| &facts.name),
            chip: text(|facts| &facts.chip),
            kind: first.kind,
            pools: facts().map(|facts| facts.pools[0]).collect(),
            parts: parts.iter().map(|&(id, _)| id).collect(),
            // Its parts rest, and count that themselves.
            watts_idle: 0.0,
            watts_busy: sum(|facts| facts.watts_busy),
            watts_assumed: assumed.filter(|_| any_assumed),
            link_gbs: facts()
                .map(|facts| facts.link_gbs)
                .fold(f64::INFINITY, f64::min),
            residents_max: usize::MAX,
            batch_max: usize::MAX,
            moves: true,
            embeds: true,
        }
    }
}

/// A pool of memory that one or more devices use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolFacts {
    /// `ram`, `gpu0`.
    pub name: String,
    /// All there is.
    pub capacity: Bytes,
    /// Kept free for the desktop and whatever else the owner does.
    pub reserve: Bytes,
}

/// A model.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelFacts {
    /// Which one.
    pub id: ModelId,
    /// Its name.
    pub name: String,
    /// What it is on each device that can run it.
    pub forms: BTreeMap<DeviceId, Form>,
    /// Why the other devices cannot.
    pub impossible: BTreeMap<DeviceId, String>,
    /// Bytes of the cache for one token.
    pub kv_bytes_per_token: u64,
}

/// A model as it is prepared for a device.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Form {
    /// What it takes of each of the device's pools while it is loaded, without the cache; in the order of
    /// [`DeviceFacts::pools`].
    pub bytes: Vec<Bytes>,
    /// What loading or compiling takes beyond that.
    pub load_peak: Bytes,
    /// Tokens of the cache, over all sequences.
    pub kv_tokens: u32,
    /// Tokens of one sequence, at most.
    pub n_ctx: u32,
    /// Seconds until it is loaded.
    pub load_s: f64,
    /// How fast it goes.
    pub gait: Gait,
}

/// How warm a device is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Heat {
    /// It runs as fast as it can.
    #[default]
    Normal,
    /// Near to where it slows down: what has a choice goes elsewhere.
    Warm,
    /// It slows down: only what has nowhere else to go.
    Hot,
}

/// Where the power comes from.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// The mains.
    #[default]
    Mains,
    /// A battery.
    Battery {
        /// What is left of it, from 0 to 100; `None` if it does not tell.
        percent: Option<f64>,
    },
}
