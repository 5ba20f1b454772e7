//! The devices that models are served on, and the memory that they share.

use std::sync::Arc;
use std::time::Duration;

use troika_base::{Bytes, DeviceKind, DeviceProfile};
use troika_device::{Device, Paced, StepShape};
use troika_scheduler::{DeviceFacts, Gait, Load, PoolFacts, PoolId};

/// 10⁹ bytes a second at which a cache is copied where nobody knows it: less than any memory of the last ten years does.
const COPY_GBS: f64 = 10.0;

/// A device that models are served on.
#[derive(Clone)]
pub struct HostDevice {
    /// It.
    pub device: Arc<dyn Device>,
    /// What was measured of it, or read from its data sheet.
    pub profile: DeviceProfile,
    /// What the scheduler is told of it.
    pub facts: DeviceFacts,
    /// It is not there: `device` computes its answers, which come when it would have had them.
    pub is_virtual: bool,
}

impl HostDevice {
    /// A device of its own that has one pool of memory, and as much room in its steps as anybody asks for.
    pub fn new(device: Arc<dyn Device>, profile: DeviceProfile, pool: PoolId) -> Self {
        let bandwidth = profile
            .bandwidth_measured_gbs
            .or(profile.bandwidth_peak_gbs);
        let facts = DeviceFacts {
            name: device.name().to_owned(),
            chip: profile.name.clone(),
            kind: profile.kind,
            pools: vec![pool],
            parts: Vec::new(),
            watts_idle: profile.watts_idle.unwrap_or(0.0),
            link_gbs: bandwidth.unwrap_or(COPY_GBS),
            residents_max: usize::MAX,
            batch_max: usize::MAX,
        };
        Self {
            device,
            profile,
            facts,
            is_virtual: false,
        }
    }

    /// A device that is not there, whose answers `computes` makes.
    pub fn posing(computes: Arc<dyn Device>, profile: DeviceProfile, facts: DeviceFacts) -> Self {
        Self {
            device: computes,
            profile,
            facts,
            is_virtual: true,
        }
    }

    /// The device as it loads a model of this gait there.
    pub(super) fn at_pace(&self, gait: Option<Gait>) -> Arc<dyn Device> {
        let Some(gait) = gait.filter(|_| self.is_virtual) else {
            return Arc::clone(&self.device);
        };
        let step = move |shape: StepShape| {
            let load = Load {
                tokens: shape.tokens as u64,
                past: shape.past as u64,
            };
            Duration::from_secs_f64(gait.step_s(load))
        };
        let (name, chip) = (&self.facts.name, &self.facts.chip);
        Arc::new(Paced::new(Arc::clone(&self.device), name, chip, step))
    }

    /// Whether its memory is the machine's, which other programs use too.
    pub(super) fn is_in_ram(&self) -> bool {
        self.facts.kind == DeviceKind::Cpu && !self.is_virtual
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
