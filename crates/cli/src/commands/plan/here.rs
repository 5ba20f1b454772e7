//! This machine as a candidate: from what `troika devices` stored, or reads now.

use anyhow::Context as _;
use troika_base::{Bytes, DeviceKind, MemoryPool};
use troika_machine::{Found, Machine};
use troika_planner::catalogue::Catalogue;
use troika_planner::plan::{Here, HereDevice};

use crate::home::Home;

/// This machine; `None` where nothing is known of it.
pub(super) fn find(home: &Home, catalogue: &Catalogue) -> anyhow::Result<Option<Here>> {
    Ok(machine(home, catalogue)?.as_ref().map(of))
}

/// What `troika devices` stored.
pub(super) fn machine(home: &Home, _catalogue: &Catalogue) -> anyhow::Result<Option<Machine>> {
    let path = home.path().join("machine.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let machine = serde_json::from_str(&text)
        .with_context(|| format!("{} is no description of a machine; `troika devices` makes a new one", path.display()))?;
    Ok(Some(machine))
}

/// A machine as the planner sees it.
fn of(machine: &Machine) -> Here {
    let device = |processor: &troika_machine::Processor| {
        let profile = &processor.profile;
        // What other programs hold now is not there; on a card, only its driver knows.
        let shares = profile.kind == DeviceKind::Cpu || profile.memory_pool == MemoryPool::Shared;
        let free = machine.memory.available_bytes.filter(|_| shares).map(Bytes);
        HereDevice {
            id: processor.id.clone(),
            profile: profile.clone(),
            memory_free: match (free, profile.memory) {
                (Some(free), Some(all)) => Some(free.min(all)),
                (free, _) => free,
            },
            calibration: None,
            blocked: match &processor.found {
                Found::Ready => None,
                Found::Blocked { why, remedy } => Some(format!("{why}; {remedy}")),
            },
        }
    };
    Here {
        name: machine.product.clone().unwrap_or_else(|| "this machine".to_owned()),
        devices: machine.processors.iter().map(device).collect(),
        has_battery: !machine.batteries.is_empty(),
    }
}
