//! Which meter covers which device.

use serde::Serialize;
use troika_base::DeviceKind;

use super::EnergyBasis;
use crate::model::{Found, Machine, Meter, MeterKind, Processor};

/// Which meters tell what a device uses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Coverage {
    /// `gpu0`; `system` for the whole machine.
    pub device: String,
    /// `rapl package-0`, `nvml gpu0`; empty if there is none.
    pub meters: Vec<String>,
    /// How they tell it; `None` if there is none, or it was not opened.
    pub basis: Option<EnergyBasis>,
    /// The other devices that they cover: what they see is divided among those that work.
    pub shared_with: Vec<String>,
    /// Why there is none; empty if there is one.
    pub why: String,
    /// What would help; empty where nothing does.
    pub remedy: String,
}

/// The link of what is part of the processor.
const IN_SOC: &str = "soc";

impl Machine {
    /// Which meters will cover which device, as far as can be told without opening them; see
    /// [`DeviceMeters::coverage`](super::DeviceMeters::coverage) for what came of it.
    pub fn energy_coverage(&self) -> Vec<Coverage> {
        let is_ready = |&number: &usize| self.meters[number].found == Found::Ready;
        let chosen: Vec<Vec<usize>> = self
            .processors
            .iter()
            .map(|device| {
                let sets = candidates(self, device).into_iter();
                let mut ready = sets.filter(|set| set.iter().all(is_ready));
                ready.next().unwrap_or_default()
            })
            .collect();
        let coverage = |(number, device): (usize, &Processor)| {
            let meters = &chosen[number];
            let (why, remedy) = match meters.is_empty() {
                true => blocked(self, device),
                false => Default::default(),
            };
            let others = self.processors.iter().zip(&chosen);
            let shares = |other: &Vec<usize>| other.iter().any(|meter| meters.contains(meter));
            Coverage {
                device: device.id.clone(),
                meters: meters.iter().map(|&i| name(&self.meters[i])).collect(),
                basis: None,
                shared_with: others
                    .filter(|(other, set)| other.id != device.id && shares(set))
                    .map(|(other, _)| other.id.clone())
                    .collect(),
                why,
                remedy,
            }
        };
        self.processors.iter().enumerate().map(coverage).collect()
    }
}

/// Why none of a device's meters can be read.
fn blocked(machine: &Machine, device: &Processor) -> (String, String) {
    let mut meters = candidates(machine, device).into_iter().flatten();
    let first = meters.find_map(|number| match &machine.meters[number].found {
        Found::Blocked { why, remedy } => Some((why.clone(), remedy.clone())),
        Found::Ready => None,
    });
    first.unwrap_or_else(|| reason(machine, device))
}

/// The meters that could cover a device, by their numbers in [`Machine::meters`]: one set after the other, the best first.
/// Of a set, all are needed.
pub(super) fn candidates(machine: &Machine, device: &Processor) -> Vec<Vec<usize>> {
    let numbered = || machine.meters.iter().enumerate();
    let packages: Vec<usize> = numbered()
        .filter(|(_, meter)| is_package(meter))
        .map(|(i, _)| i)
        .collect();
    // What AMD's graphics driver tells of graphics in a processor is the power of all of it. Source: the kernel's
    // Documentation/gpu/amdgpu/thermal.rst.
    let of_soc = numbered().filter(|(_, meter)| {
        let covered = machine.processors.iter().find(|p| p.id == meter.covers);
        covered.is_some_and(|covered| is_in_soc(covered) && is_amdgpu(covered))
    });
    let package = (!packages.is_empty()).then_some(packages);
    let package_power = of_soc.map(|(i, _)| vec![i]);
    let own = numbered().filter(|(_, meter)| meter.covers == device.id);
    let own = own.map(|(i, _)| vec![i]);
    match device.profile.kind {
        DeviceKind::Cpu => package.into_iter().chain(package_power).collect(),
        _ if !is_in_soc(device) => own.collect(),
        _ if is_amdgpu(device) => package.into_iter().chain(own).collect(),
        _ => own.chain(package).chain(package_power).collect(),
    }
}

/// Why no meter covers a device, where the machine has none for it; and what would help.
pub(super) fn reason(machine: &Machine, device: &Processor) -> (String, String) {
    let whole = machine
        .meters
        .iter()
        .any(|meter| meter.kind == MeterKind::Battery);
    let why = match (device.profile.kind, whole) {
        (_, true) => "only the battery has a meter, which does not tell the devices apart",
        (DeviceKind::Cpu, _) => "the processor offers no energy counter",
        (_, _) => "its driver offers no meter",
    };
    let mains = "an external meter tells what the whole machine draws";
    (why.to_owned(), mains.to_owned())
}

/// What a meter is called: `rapl package-0`.
pub(super) fn name(meter: &Meter) -> String {
    let kind = match meter.kind {
        MeterKind::Rapl => "rapl",
        MeterKind::Nvml => "nvml",
        MeterKind::Hwmon => "hwmon",
        MeterKind::Battery => "battery",
    };
    format!("{kind} {}", meter.covers)
}

/// Zones within a package (`core`, `uncore`, `dram`) would count twice, and `psys` is not the same on any two machines.
fn is_package(meter: &Meter) -> bool {
    meter.kind == MeterKind::Rapl && meter.covers.starts_with("package")
}

fn is_in_soc(device: &Processor) -> bool {
    device.profile.link.as_deref() == Some(IN_SOC)
}

fn is_amdgpu(device: &Processor) -> bool {
    device.driver.as_deref() == Some("amdgpu")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{self, Root};

    fn covers(tree: &str) -> Vec<(String, Vec<Vec<String>>)> {
        let machine = probe::read(&Root::recorded(tree));
        let names = |set: Vec<usize>| set.iter().map(|&i| name(&machine.meters[i])).collect();
        let device = |device: &Processor| {
            let sets = candidates(&machine, device);
            (device.id.clone(), sets.into_iter().map(names).collect())
        };
        machine.processors.iter().map(device).collect()
    }

    fn check(tree: &str, want: &[(&str, &[&str])]) {
        let found = covers(tree);
        let flat: Vec<(&str, Vec<&str>)> = found
            .iter()
            .map(|(id, sets)| (&**id, sets.iter().flatten().map(|name| &**name).collect()))
            .collect();
        let want: Vec<(&str, Vec<&str>)> =
            want.iter().map(|(id, sets)| (*id, sets.to_vec())).collect();
        assert_eq!(flat, want);
    }

    #[test]
    fn packages_cover_their_parts_and_cards_themselves() {
        check(
            include_str!("../../fixtures/core-ultra-155h.tree"),
            &[
                ("cpu0", &["rapl package-0"]),
                ("gpu0", &["rapl package-0"]),
                ("npu0", &["rapl package-0"]),
            ],
        );
        check(
            include_str!("../../fixtures/desktop-2x-rtx-3090.tree"),
            &[
                ("cpu0", &["rapl package-0"]),
                ("gpu0", &["nvml gpu0"]),
                ("gpu1", &["nvml gpu1"]),
            ],
        );
    }

    #[test]
    fn graphics_of_amd_s_processors_tell_the_power_of_all() {
        check(
            include_str!("../../fixtures/ryzen-ai-hx-370.tree"),
            &[
                ("cpu0", &["rapl package-0", "hwmon gpu0"]),
                ("gpu0", &["rapl package-0", "hwmon gpu0"]),
                ("npu0", &["rapl package-0", "hwmon gpu0"]),
            ],
        );
        check(
            include_str!("../../fixtures/desktop-rx-7900-xtx.tree"),
            &[
                ("cpu0", &["rapl package-0", "hwmon gpu1"]),
                ("gpu0", &["hwmon gpu0"]),
                ("gpu1", &["rapl package-0", "hwmon gpu1"]),
            ],
        );
    }

    #[test]
    fn what_to_expect_is_told_without_opening() {
        let expected = |tree: &str| probe::read(&Root::recorded(tree)).energy_coverage();
        let found = expected(include_str!("../../fixtures/core-ultra-155h.tree"));
        assert_eq!(found[0].meters, ["rapl package-0"]);
        assert_eq!(found[0].shared_with, ["gpu0", "npu0"]);
        // Only root may read the counter.
        let found = expected(include_str!("../../fixtures/core-ultra-258v.tree"));
        assert!(found[0].meters.is_empty());
        assert!(found[0].why.contains("root"), "{found:?}");
        assert!(found[0].remedy.contains("chmod"), "{found:?}");
    }

    #[test]
    fn what_has_no_meter_says_why() {
        let tree = include_str!("../../fixtures/snapdragon-x-elite.tree");
        let machine = probe::read(&Root::recorded(tree));
        let device = &machine.processors[0];
        assert!(candidates(&machine, device).is_empty());
        let (why, remedy) = reason(&machine, device);
        assert!(why.contains("battery") && remedy.contains("external meter"));
    }
}
