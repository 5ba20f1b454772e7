//! What a server tells of its machine, as `top` reads it.
//!
//! The server's own types are [`troika_server::State`] and what is in it. Here is only what is shown of them, so that
//! another version of the server is understood as long as these fields stay; words that may come to be are text.

use std::collections::BTreeMap;

use serde::Deserialize;
use troika_base::Bytes;
use troika_scheduler::{
    Account, Class, Decision, DeviceId, Heat, JobId, JoulesSource, Phase, Power, Time,
};

/// The state of everything.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct State {
    pub(super) at: Time,
    pub(super) policy: String,
    pub(super) power: Power,
    pub(super) devices: Vec<Device>,
    pub(super) pools: Vec<Pool>,
    pub(super) queues: Vec<Queue>,
    pub(super) jobs: Vec<Job>,
    pub(super) budget: Option<Budget>,
    #[serde(default)]
    pub(super) models: BTreeMap<u32, String>,
    /// The machine that it poses as.
    #[serde(default, rename = "virtual")]
    pub(super) posing: Option<String>,
    /// Of the whole machine, where a plug or its battery tells.
    #[serde(default)]
    pub(super) machine_watts: Option<f64>,
    /// The endpoints to which jobs were offered.
    #[serde(default)]
    pub(super) away: Vec<Away>,
    /// Models on their way to a device that runs compiled models alone.
    #[serde(default)]
    pub(super) compiling: Vec<Compiling>,
    /// The requests that jobs belong to.
    #[serde(default)]
    pub(super) requests: BTreeMap<u64, String>,
}

/// An endpoint beyond the machine.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Away {
    /// `remote:NAME`.
    pub(super) name: String,
    /// Jobs that are there.
    pub(super) jobs: usize,
    /// Why it takes none now.
    #[serde(default)]
    pub(super) closed: Option<String>,
}

/// A device.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    pub(super) name: String,
    pub(super) chip: String,
    pub(super) kind: String,
    /// `ready`, `probing`, ...; a reason may follow.
    pub(super) state: String,
    pub(super) heat: Heat,
    pub(super) busy: f64,
    /// Runs of always-on models.
    #[serde(default)]
    pub(super) beside: usize,
    pub(super) watts: f64,
    #[serde(default)]
    pub(super) watts_source: Option<JoulesSource>,
    pub(super) prefill_tokens: u64,
    pub(super) decode_tokens: u64,
    pub(super) models: Vec<Resident>,
}

/// A model on a device.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Resident {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) bytes: Bytes,
    pub(super) pages_used: u32,
    pub(super) pages: u32,
}

/// A model on its way to a device.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Compiling {
    pub(super) model: u32,
    pub(super) device: String,
    /// `waiting`, `compiling`, `failed`.
    pub(super) stage: String,
    pub(super) done: Bytes,
    pub(super) total: Bytes,
}

/// A pool of memory.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) capacity: Bytes,
    pub(super) reserve: Bytes,
    pub(super) others: Bytes,
    pub(super) models: Bytes,
    pub(super) loading: Bytes,
}

/// Jobs of a class.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Queue {
    pub(super) class: Class,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) oldest_s: f64,
}

/// A job on a device.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Job {
    pub(super) job: JobId,
    pub(super) model: u32,
    pub(super) class: Class,
    pub(super) device: DeviceId,
    pub(super) phase: Phase,
    /// How many so far, and how many there are to be.
    pub(super) tokens: [u32; 2],
    pub(super) age_s: f64,
    pub(super) why: String,
}

/// The budget of energy, in watt-hours.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Budget {
    pub(super) watt_hours: f64,
    pub(super) spent: f64,
}

/// How a job was placed.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Placement {
    /// The names of all devices by number.
    pub(super) devices: Vec<String>,
    /// The first one first.
    pub(super) decisions: Vec<Decision>,
    /// The model's name.
    #[serde(default)]
    pub(super) model: String,
    /// What it took, once it is done.
    #[serde(default)]
    pub(super) account: Option<Account>,
}

impl Pool {
    /// What nobody has, and what is not kept free either.
    pub(super) fn free(&self) -> Bytes {
        let taken = [self.models, self.loading, self.others, self.reserve];
        let taken = taken.iter().fold(0_u64, |sum, it| sum.saturating_add(it.0));
        Bytes(self.capacity.0.saturating_sub(taken))
    }
}

impl Device {
    /// The word of its state, and the reason if there is one.
    pub(super) fn state(&self) -> (&str, &str) {
        let end = self.state.find(|c: char| !c.is_alphanumeric());
        let (word, rest) = self.state.split_at(end.unwrap_or(self.state.len()));
        (word, rest.trim_start_matches([':', ',', ' ']))
    }
}

#[cfg(test)]
pub(super) mod fixtures {
    use super::{Placement, State};

    pub(in super::super) fn busy() -> State {
        read(include_str!(
            "../../../../server/src/web/fixtures/busy.json"
        ))
    }

    pub(in super::super) fn empty() -> State {
        read(include_str!(
            "../../../../server/src/web/fixtures/empty.json"
        ))
    }

    pub(in super::super) fn odd() -> State {
        read(include_str!("../../../../server/src/web/fixtures/odd.json"))
    }

    pub(in super::super) fn placements() -> Vec<Placement> {
        read(include_str!(
            "../../../../server/src/web/fixtures/placements.json"
        ))
    }

    pub(in super::super) fn done() -> Vec<Placement> {
        read(include_str!(
            "../../../../server/src/web/fixtures/done.json"
        ))
    }

    fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
        serde_json::from_str(text).expect("the server's fixtures are understood")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_never_less_than_nothing() {
        let pool = fixtures::odd().pools.remove(0);
        assert_eq!(pool.free(), Bytes(0));
        let pool = fixtures::busy().pools.remove(0);
        let parts = [
            pool.models,
            pool.loading,
            pool.others,
            pool.reserve,
            pool.free(),
        ];
        assert_eq!(
            parts.iter().map(|part| part.0).sum::<u64>(),
            pool.capacity.0
        );
    }

    #[test]
    fn a_state_is_a_word_and_a_reason() {
        let mut device = fixtures::busy().devices.remove(0);
        for (state, want) in [
            ("ready", ("ready", "")),
            ("lost: no answer", ("lost", "no answer")),
            ("lost, no answer", ("lost", "no answer")),
            ("", ("", "")),
        ] {
            device.state = state.to_owned();
            assert_eq!(device.state(), want, "{state}");
        }
    }
}
