//! The devices that models are served on, and the memory that they share.

use std::sync::Arc;
use std::time::Duration;

use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};
use troika_device::{Device, Paced, StepShape};
use troika_planner::catalogue::Catalogue;
use troika_planner::cost::watts_at_work;
use troika_scheduler::{DeviceFacts, DeviceId, Gait, Load, PoolFacts, PoolId};

/// 10⁹ bytes a second at which a cache is copied where nobody knows it: less than any memory of the last ten years does.
const COPY_GBS: f64 = 10.0;

/// A device that models are served on.
#[derive(Clone)]
pub struct HostDevice {
    /// It.
    pub device: Arc<dyn Device>,
    /// What was measured of it, or read from its data sheet; of a device that is made of several, of each of these in the
    /// order in which they get layers.
    pub profiles: Vec<DeviceProfile>,
    /// What the scheduler is told of it.
    pub facts: DeviceFacts,
    /// Tokens of a sequence, at most, where the device has a limit of its own: what models are compiled for.
    pub n_ctx_max: Option<usize>,
    /// It is not there: `device` computes its answers, which come when it would have had them.
    pub is_virtual: bool,
}

impl HostDevice {
    /// A device of its own that has one pool of memory, and as much room in its steps as anybody asks for.
    pub fn new(device: Arc<dyn Device>, profile: DeviceProfile, pool: PoolId) -> Self {
        let bandwidth = profile
            .bandwidth_measured_gbs
            .or(profile.bandwidth_peak_gbs);
        let busy = watts_at_work(&profile);
        let assumed = match busy {
            Some(_) => None,
            None => Catalogue::builtin().typical_watts(profile.kind, profile.class.as_deref()),
        };
        let facts = DeviceFacts {
            name: device.name().to_owned(),
            chip: profile.name.clone(),
            kind: profile.kind,
            pools: vec![pool],
            parts: Vec::new(),
            watts_idle: profile.watts_idle.unwrap_or(0.0),
            watts_busy: busy.map(|watts| watts.value),
            watts_assumed: assumed.map(|watts| watts.high),
            link_gbs: bandwidth.unwrap_or(COPY_GBS),
            residents_max: usize::MAX,
            batch_max: usize::MAX,
            moves: true,
            embeds: true,
        };
        Self {
            device,
            profiles: vec![profile],
            facts,
            n_ctx_max: None,
            is_virtual: false,
        }
    }

    /// A device that is not there, whose answers `computes` makes.
    pub fn posing(
        computes: Arc<dyn Device>,
        profiles: Vec<DeviceProfile>,
        facts: DeviceFacts,
    ) -> Self {
        Self {
            device: computes,
            profiles,
            facts,
            n_ctx_max: None,
            is_virtual: true,
        }
    }

    /// What computes a model of this gait at the pace of a device that is not there; `None` if it is.
    pub(super) fn at_pace(&self, gait: Option<Gait>) -> Option<Arc<Paced>> {
        let gait = gait.filter(|_| self.is_virtual)?;
        let step = move |shape: StepShape| {
            let load = Load {
                tokens: shape.tokens as u64,
                past: shape.past as u64,
            };
            Duration::from_secs_f64(gait.step_s(load))
        };
        let (name, chip) = (&self.facts.name, &self.facts.chip);
        let link = self.facts.link_gbs * 1e9;
        let paced = Paced::new(Arc::clone(&self.device), name, chip, step);
        Some(Arc::new(match link.is_normal() {
            true => paced.with_copy(move |bytes| Duration::from_secs_f64(bytes.0 as f64 / link)),
            false => paced,
        }))
    }

    /// Several devices that share a model by layers, `whole` being what loads models on them: in the order in which they
    /// get layers, `parts` with their numbers.
    pub fn of_parts(whole: Arc<dyn Device>, parts: &[(DeviceId, &Self)]) -> Self {
        let facts: Vec<_> = parts.iter().map(|&(id, part)| (id, &part.facts)).collect();
        let profiles = parts.iter().flat_map(|(_, part)| part.profiles.clone());
        Self {
            device: whole,
            profiles: profiles.collect(),
            facts: DeviceFacts::of_parts(&facts),
            n_ctx_max: None,
            is_virtual: false,
        }
    }

    /// Whether its memory is the machine's, which other programs use too.
    pub(super) fn is_in_ram(&self) -> bool {
        let is_shared = |profile: &DeviceProfile| profile.memory_pool == MemoryPool::Shared;
        let is_alone = self.facts.parts.is_empty();
        let in_ram = matches!(self.facts.kind, DeviceKind::Cpu | DeviceKind::Npu)
            || is_alone && self.profiles.iter().all(is_shared);
        in_ram && !self.is_virtual
    }
}

impl std::fmt::Debug for HostDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostDevice({}, {})", self.facts.name, self.facts.chip)
    }
}

/// The machine's memory as a pool, of which models get `budget` at most.
pub fn ram(budget: Option<Bytes>) -> PoolFacts {
    let all = memory().map_or(u64::MAX, |memory| memory.total);
    PoolFacts {
        name: "ram".to_owned(),
        capacity: Bytes(budget.map_or(all, |budget| budget.0.min(all))),
        reserve: Bytes(0),
    }
}

/// Kept for the desktop where nobody says how much: a browser and its like.
const RESERVE_MIN: u64 = 1 << 30;
/// Or one part in so many of the machine's memory, if that is more.
const RESERVE_SHARE: u64 = 16;
/// But of a small machine no more than one part in so many.
const RESERVE_SHARE_MAX: u64 = 4;

/// The machine's memory as a pool, of which models get `budget` at most and `reserve` is kept free; and how much of it other
/// programs may take before the pool has less.
///
/// Memory beyond the budget is free for others anyway: the reserve is in it as far as it goes.
pub fn ram_shared(budget: Option<Bytes>, reserve: Option<Bytes>) -> (PoolFacts, Bytes) {
    match memory() {
        Some(memory) => shared(Bytes(memory.total), budget, reserve),
        None => (ram(budget), Bytes(0)),
    }
}

fn shared(all: Bytes, budget: Option<Bytes>, reserve: Option<Bytes>) -> (PoolFacts, Bytes) {
    let usual = (all.0 / RESERVE_SHARE).max(RESERVE_MIN);
    let reserve = reserve.map_or(usual.min(all.0 / RESERVE_SHARE_MAX), |reserve| reserve.0);
    let capacity = budget.map_or(all.0, |budget| budget.0.min(all.0));
    let beyond = all.0 - capacity;
    let pool = PoolFacts {
        name: "ram".to_owned(),
        capacity: Bytes(capacity),
        reserve: Bytes(reserve.saturating_sub(beyond)),
    };
    (pool, Bytes(beyond.saturating_sub(reserve)))
}

/// The machine's memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) total: u64,
    /// What a program can have without others being swapped out.
    pub(super) available: u64,
}

/// The machine's memory now; `None` where the system does not tell.
pub(super) fn memory() -> Option<Memory> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    (system.total_memory() > 0 && system.available_memory() > 0).then(|| Memory {
        total: system.total_memory(),
        available: system.available_memory(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_desktop_keeps_its_share() {
        const GIB: u64 = 1 << 30;
        let gib = |all: u64, budget: Option<u64>, reserve: Option<u64>| {
            let bytes = |gib: Option<u64>| gib.map(|gib| Bytes(gib * GIB));
            let (pool, spare) = shared(Bytes(all * GIB), bytes(budget), bytes(reserve));
            [pool.capacity.0, pool.reserve.0, spare.0].map(|bytes| bytes as f64 / GIB as f64)
        };
        assert_eq!(gib(2, None, None), [2.0, 0.5, 0.0]);
        assert_eq!(gib(8, None, None), [8.0, 1.0, 0.0]);
        assert_eq!(gib(64, None, None), [64.0, 4.0, 0.0]);
        assert_eq!(gib(8, None, Some(0)), [8.0, 0.0, 0.0]);
        // Beyond the budget is more than the reserve.
        assert_eq!(gib(8, Some(5), None), [5.0, 0.0, 2.0]);
        assert_eq!(gib(8, Some(7), Some(3)), [7.0, 2.0, 0.0]);
        assert_eq!(gib(8, Some(9), Some(3)), [8.0, 3.0, 0.0]);
    }
}
