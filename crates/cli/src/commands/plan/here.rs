//! This machine as a candidate: what `troika devices` reads, with what it once measured.

use troika_base::{Bytes, DeviceKind, MemoryPool};
use troika_machine::{Found, Machine};
use troika_planner::plan::{Here, HereDevice};

/// A machine as a candidate; a bandwidth that is given stands for one that was not measured.
pub(in crate::commands) fn find(machine: &Machine, bandwidth_gbs: Option<f64>) -> Here {
    let mut here = of(machine);
    for device in &mut here.devices {
        let profile = &mut device.profile;
        if profile.kind == DeviceKind::Cpu && profile.bandwidth_measured_gbs.is_none() {
            profile.bandwidth_peak_gbs = bandwidth_gbs.or(profile.bandwidth_peak_gbs);
        }
    }
    here
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
            blocked: match &processor.found {
                Found::Ready => None,
                Found::Blocked { why, remedy } => Some(format!("{why}; {remedy}")),
            },
        }
    };
    Here {
        name: machine
            .product
            .clone()
            .unwrap_or_else(|| "this machine".to_owned()),
        devices: machine.processors.iter().map(device).collect(),
        has_battery: !machine.batteries.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use troika_device_npu::NpuOptions;
    use troika_planner::catalogue::Catalogue;

    #[test]
    fn the_catalogue_knows_for_which_contexts_models_are_compiled_here() {
        let rows = Catalogue::builtin().support().iter();
        let own = rows.filter(|row| row.runtime == "troika");
        let limits: Vec<u32> = own.filter_map(|row| row.context_max).collect();
        assert!(!limits.is_empty());
        let compiled = NpuOptions::default().n_ctx;
        assert!(
            limits.iter().all(|&limit| limit as usize == compiled),
            "{limits:?}"
        );
    }
}
