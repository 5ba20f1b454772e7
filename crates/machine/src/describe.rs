//! What a machine is, with what others publish of its parts.

use troika_base::{Bytes, DeviceKind, DeviceProfile};

use crate::model::{Machine, Processor, Unknown};

/// The link of what is part of a processor.
const IN_SOC: &str = "soc";

impl Machine {
    /// The memory in gigabytes as it is sold: 32 where the system tells of 31.1 GiB.
    pub fn memory_gb_sold(&self) -> u64 {
        gib(self.memory.total_bytes)
    }

    /// Fills in what the catalogue knows of the devices. What was read or measured here wins over a data sheet.
    ///
    /// `lookup` answers for a chip's name and the part of it that is meant: of a processor with graphics, the rates and the
    /// bandwidth of its graphics for [`DeviceKind::Gpu`].
    pub fn describe(&mut self, lookup: impl Fn(&str, DeviceKind) -> Option<DeviceProfile>) {
        let central = self
            .processors
            .iter()
            .find(|found| found.profile.kind == DeviceKind::Cpu);
        let soc = central
            .map(|found| found.profile.name.clone())
            .unwrap_or_default();
        let all = Bytes(self.memory.total_bytes);
        let total_gb = self.memory_gb_sold();
        let mut unknown = Vec::new();
        for processor in &mut self.processors {
            let names = names(processor, &soc, total_gb);
            let kind = processor.profile.kind;
            match names.iter().find_map(|name| lookup(name, kind)) {
                Some(sheet) => merge(&mut processor.profile, sheet, all),
                None => unknown.push(Unknown {
                    what: format!("{}.data_sheet", processor.id),
                    why: format!("the catalogue has no {}", processor.profile.name),
                    remedy:
                        "`troika devices --measure` finds out; `troika catalogue add` describes it"
                            .to_owned(),
                }),
            }
        }
        // What a data sheet has told is not unknown any more.
        let tells = |what: &str| {
            let id = what.strip_suffix(".memory")?;
            let found = self.processors.iter().find(|found| found.id == id)?;
            found.profile.memory
        };
        self.unknown
            .retain(|unknown| tells(&unknown.what).is_none());
        self.unknown
            .retain(|older| unknown.iter().all(|newer| newer.what != older.what));
        self.unknown.extend(unknown);
    }
}

/// The names that a device may have in the catalogue, the likeliest first.
fn names(processor: &Processor, soc: &str, total_gb: u64) -> Vec<String> {
    let profile = &processor.profile;
    let with = |name: &str, gb: u64| format!("{name} {gb}GB");
    let own = profile.name.clone();
    if profile.link.as_deref() == Some(IN_SOC) {
        return vec![soc.to_owned(), with(soc, total_gb), own];
    }
    // Cards of one name are sold with different amounts of memory.
    let memory_gb = match profile.kind {
        DeviceKind::Cpu => Some(total_gb),
        _ => profile.memory.map(|memory| gib(memory.0)),
    };
    let sized = memory_gb.map(|gb| with(&own, gb));
    match profile.kind {
        DeviceKind::Cpu => [Some(own), sized].into_iter().flatten().collect(),
        _ => [sized, Some(own)].into_iter().flatten().collect(),
    }
}

/// Memory as it is sold: systems and drivers keep some for themselves.
fn gib(bytes: u64) -> u64 {
    let gib = bytes as f64 / f64::from(1 << 30);
    let step = if gib > 8.0 { 2.0 } else { 1.0 };
    ((gib / step).ceil() * step) as u64
}

/// Takes over from a data sheet what is not known better.
///
/// `all` is the machine's memory.
fn merge(profile: &mut DeviceProfile, sheet: DeviceProfile, all: Bytes) {
    let read = std::mem::replace(profile, sheet);
    let is_in_soc = read.link.as_deref() == Some(IN_SOC);
    // A processor and its parts keep the names that they tell; a card's may lack its memory.
    if is_in_soc || read.kind == DeviceKind::Cpu {
        profile.name = read.name;
    }
    profile.kind = read.kind;
    profile.memory_pool = read.memory_pool;
    profile.memory = match (read.memory, profile.memory) {
        // No driver told it: all of the machine's, of which the part may take less.
        (Some(read), Some(sheet)) if is_in_soc && read == all => Some(read.min(sheet)),
        (read, sheet) => read.or(sheet),
    };
    profile.bandwidth_peak_gbs = match is_in_soc || read.kind == DeviceKind::Cpu {
        // The modules that are in it may be slower than the processor allows, and a block may draw less than they give.
        true => least(read.bandwidth_peak_gbs, profile.bandwidth_peak_gbs),
        false => read.bandwidth_peak_gbs.or(profile.bandwidth_peak_gbs),
    };
    profile.bandwidth_measured_gbs = read.bandwidth_measured_gbs;
    profile.rates_measured = read.rates_measured;
    profile.launch_us = read.launch_us.or(profile.launch_us);
    profile.cores = match read.kind {
        DeviceKind::Cpu => read.cores.or(profile.cores),
        _ => profile.cores.or(read.cores),
    };
    profile.watts_idle = read.watts_idle.or(profile.watts_idle);
    profile.watts_limit = read.watts_limit.or(profile.watts_limit);
    profile.watts_busy = read.watts_busy.or(profile.watts_busy);
    profile.link = read.link.or_else(|| profile.link.take());
    if !read.vendor.is_empty() {
        profile.vendor = read.vendor;
    }
}

fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use troika_base::Basis;

    use super::*;
    use crate::model::Found;
    use crate::probe::{self, Root};

    fn sheet(name: &str, kind: DeviceKind) -> DeviceProfile {
        DeviceProfile {
            memory: Some(Bytes(24 << 30)),
            bandwidth_peak_gbs: Some(936.0),
            watts_limit: Some(350.0),
            family: Some("ampere".to_owned()),
            basis: Basis::Datasheet {
                source: "a test".to_owned(),
            },
            ..DeviceProfile::unknown(name, kind)
        }
    }

    fn machine(profile: DeviceProfile) -> Machine {
        let mut machine = probe::read(&Root::recorded("== /proc/meminfo\nMemTotal: 32594420 kB\n"));
        machine.processors[0].profile.name = "Intel Core Ultra 7 155H".to_owned();
        machine.processors.push(Processor {
            id: "gpu0".to_owned(),
            profile,
            driver: None,
            pci_id: None,
            bus_address: None,
            found: Found::Ready,
        });
        machine
    }

    #[test]
    fn what_is_read_here_wins() {
        let mut machine = machine(DeviceProfile {
            watts_limit: Some(280.0),
            link: Some("pcie4x8".to_owned()),
            ..DeviceProfile::unknown("GeForce RTX 3090", DeviceKind::Gpu)
        });
        machine.unknown.push(Unknown {
            what: "gpu0.memory".to_owned(),
            why: String::new(),
            remedy: String::new(),
        });
        machine.describe(|name, kind| {
            (name == "GeForce RTX 3090").then(|| sheet("NVIDIA GeForce RTX 3090", kind))
        });
        let gpu = &machine.processors[1].profile;
        assert_eq!(gpu.name, "NVIDIA GeForce RTX 3090");
        assert_eq!(gpu.watts_limit, Some(280.0));
        assert_eq!(gpu.link.as_deref(), Some("pcie4x8"));
        assert_eq!(gpu.bandwidth_peak_gbs, Some(936.0));
        let unknown: Vec<_> = machine
            .unknown
            .iter()
            .map(|unknown| &*unknown.what)
            .collect();
        assert!(!unknown.contains(&"gpu0.memory"), "the data sheet told it");
        assert!(unknown.contains(&"cpu0.data_sheet"));
        // Once more changes nothing.
        let before = machine.clone();
        machine.describe(|name, kind| name.ends_with("3090").then(|| sheet(name, kind)));
        assert_eq!(machine.unknown, before.unknown);
    }

    #[test]
    fn parts_of_a_processor_go_by_its_name() {
        let mut machine = machine(DeviceProfile {
            link: Some(IN_SOC.to_owned()),
            ..DeviceProfile::unknown("Intel Arc Graphics", DeviceKind::Gpu)
        });
        machine
            .describe(|name, kind| (name == "Intel Core Ultra 7 155H").then(|| sheet(name, kind)));
        let gpu = &machine.processors[1].profile;
        assert_eq!(gpu.name, "Intel Arc Graphics");
        assert_eq!(gpu.family.as_deref(), Some("ampere"));
    }

    #[test]
    fn memory_is_as_sold() {
        for (bytes, want) in [
            (32_594_420 << 10, 32),
            (8_245_088 << 10, 8),
            (16_277_788 << 10, 16),
            (0, 0),
            (17_163_091_968, 16),
        ] {
            assert_eq!(gib(bytes), want, "{bytes}");
        }
    }
}
