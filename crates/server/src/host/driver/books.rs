//! The driver's books: which jobs there are, and where which model is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use troika_base::Bytes;
use troika_scheduler::{
    DeviceId, Event, JobId, KeepAlive, ModelId, OwnerId, PoolId, RemoteFacts, Schedule, Time,
};

use super::Lane;
use crate::host::devices::HostDevice;
use crate::host::lane::Address;
use crate::host::models::Handle;
use crate::host::records::Records;
use crate::host::request::Request;
use crate::metrics;

/// What stands under the lock.
pub(super) struct Books {
    pub(super) schedule: Box<dyn Schedule + Send>,
    pub(super) lanes: Vec<Lane>,
    pub(super) jobs: BTreeMap<JobId, Arc<Request>>,
    pub(super) models: BTreeMap<ModelId, Standing>,
    pub(super) owners: BTreeMap<String, OwnerId>,
    pub(super) records: Records,
    /// The endpoints that jobs may go to, as the scheduler was told last. Their numbers follow those of the devices.
    pub(super) remotes: Vec<RemoteFacts>,
    /// What the scheduler is to hear of what it wanted last.
    pub(super) news: Vec<Event>,
    /// What other programs take of each pool, as the scheduler was told.
    pub(super) others: BTreeMap<PoolId, u64>,
    /// Whether somebody else watches the machine's memory.
    pub(super) is_ram_watched: bool,
    /// How often things were looked at.
    pub(super) looks: u64,
}

/// What the books say of a model.
pub(super) struct Standing {
    pub(super) handle: Arc<Handle>,
    /// What it takes of each pool, by the devices that hold it.
    pub(super) loaded: BTreeMap<DeviceId, Vec<Bytes>>,
    pub(super) waiting: usize,
    pub(super) running: usize,
    /// When its last job ended, or it was loaded.
    pub(super) idle_since: Time,
    pub(super) keep_alive: KeepAlive,
}

impl Books {
    pub(super) fn epoch(&self, device: DeviceId) -> u64 {
        let lane = self.lanes.get(usize::from(device.0));
        lane.map_or(0, |lane| lane.epoch)
    }

    /// Where a device's orders go.
    pub(super) fn address(&self, device: DeviceId) -> Option<Address> {
        let lane = self.lanes.get(usize::from(device.0))?;
        Some(Address {
            orders: lane.orders.clone(),
            epoch: lane.epoch,
        })
    }

    /// Breaks off the step that a device is at.
    pub(super) fn interrupt(&self, device: DeviceId) {
        if let Some(lane) = self.lanes.get(usize::from(device.0)) {
            lane.at_work.interrupt();
        }
    }

    /// A job of a model has begun.
    pub(super) fn began(&mut self, model: ModelId) {
        if let Some(standing) = self.models.get_mut(&model) {
            standing.waiting = standing.waiting.saturating_sub(1);
            standing.running += 1;
            standing.report();
        }
    }

    /// A model is loaded: those who waited for that hear of it.
    pub(super) fn loaded(
        &mut self,
        device: DeviceId,
        model: ModelId,
        bytes: Vec<Bytes>,
        (now, usual): (Time, KeepAlive),
    ) {
        if let Some(standing) = self.models.get_mut(&model) {
            standing.loaded.insert(device, bytes);
            standing.idle_since = now;
            standing.keep_alive = usual;
        }
        let at = Instant::now();
        for request in self
            .jobs
            .values()
            .filter(|request| request.handle.id == model)
        {
            request.waited_for_load(at);
        }
    }

    /// Bytes of a pool that our models hold.
    pub(super) fn held(&self, pool: PoolId, devices: &[HostDevice]) -> u64 {
        let loaded = self.models.values().flat_map(|standing| &standing.loaded);
        let of_pool = loaded.flat_map(|(device, bytes)| {
            let pools = devices.get(usize::from(device.0));
            let pools = pools.map_or(&[][..], |device| &device.facts.pools);
            pools.iter().zip(bytes).filter(move |(of, _)| **of == pool)
        });
        of_pool.map(|(_, bytes)| bytes.0).sum()
    }
}

impl Standing {
    pub(super) fn report(&self) {
        metrics::jobs(&self.handle.info.name, self.running, self.waiting);
    }
}
