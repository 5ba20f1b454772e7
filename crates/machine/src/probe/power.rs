//! Where the power comes from, and what tells how much of it goes where.

use crate::model::{Battery, Found, Meter, MeterKind, PowerSource, Processor};

use super::notes::Notes;
use super::root::Root;

const SUPPLIES: &str = "/sys/class/power_supply";

/// Mains and batteries.
#[derive(Debug, Default)]
pub(super) struct Supplies {
    pub(super) source: Option<PowerSource>,
    pub(super) batteries: Vec<Battery>,
}

/// Reads the supplies.
pub(super) fn supplies(root: &Root) -> Supplies {
    let mut supplies = Supplies::default();
    let mut mains = Vec::new();
    for name in root.list(SUPPLIES) {
        let file = |file: &str| format!("{SUPPLIES}/{name}/{file}");
        // Slots may be empty, and mice and headsets have batteries too.
        let is_slot = root.line(&file("present")).as_deref() == Some("0");
        if is_slot || root.line(&file("scope")).as_deref() == Some("Device") {
            continue;
        }
        match root.line(&file("type")).as_deref() {
            Some("Battery" | "UPS") => supplies.batteries.push(battery(root, &name)),
            Some(_) => mains.extend(root.number::<u32>(&file("online"))),
            None => {}
        }
    }
    let discharges = supplies
        .batteries
        .iter()
        .any(|battery| battery.status == "discharging");
    supplies.source = if mains.iter().any(|&online| online > 0) {
        Some(PowerSource::Mains)
    } else if discharges || (!supplies.batteries.is_empty() && !mains.is_empty()) {
        Some(PowerSource::Battery)
    } else if !supplies.batteries.is_empty() {
        // Full or charging, without a supply that says so.
        Some(PowerSource::Mains)
    } else {
        None
    };
    supplies
}

fn battery(root: &Root, name: &str) -> Battery {
    let micro = |file: &str| {
        let value: f64 = root.number::<i64>(&format!("{SUPPLIES}/{name}/{file}"))? as f64;
        Some(value.abs() / 1e6)
    };
    let volts = micro("voltage_min_design").or_else(|| micro("voltage_now"));
    // Some tell energy, some charge.
    let capacity_wh = micro("energy_full").or_else(|| Some(micro("charge_full")? * volts?));
    let watts = micro("power_now").or_else(|| Some(micro("current_now")? * micro("voltage_now")?));
    let told = |file: &str| root.line(&format!("{SUPPLIES}/{name}/{file}"));
    Battery {
        name: name.to_owned(),
        status: told("status")
            .unwrap_or_else(|| "unknown".to_owned())
            .to_lowercase(),
        charge_percent: told("capacity")
            .and_then(|text| text.parse().ok())
            .filter(|percent| (0.0..=100.0).contains(percent)),
        capacity_wh,
        watts,
    }
}

/// Everything that tells watts or joules.
pub(super) fn meters(
    root: &Root,
    processors: &[Processor],
    batteries: &[Battery],
    notes: &mut Notes,
) -> Vec<Meter> {
    let mut meters = rapl(root);
    meters.extend(nvml(root, processors));
    meters.extend(hwmon(root, processors));
    meters.extend(
        batteries
            .iter()
            .filter(|battery| battery.watts.is_some())
            .map(|battery| Meter {
                kind: MeterKind::Battery,
                covers: "system".to_owned(),
                place: format!("{SUPPLIES}/{}", battery.name),
                found: Found::Ready,
            }),
    );
    if meters.is_empty() {
        notes.add(
            "meters",
            "the system offers none",
            "a wall meter's readings can be given",
        );
    }
    meters
}

/// Energy counters of processors.
fn rapl(root: &Root) -> Vec<Meter> {
    const ZONES: &str = "/sys/class/powercap";
    let zones = root.list(ZONES).into_iter();
    // The same counters by another way, `intel-rapl-mmio`, would count twice.
    let zones = zones.filter(|zone| zone.starts_with("intel-rapl:"));
    let meters = zones.filter_map(|zone| {
        let place = format!("{ZONES}/{zone}/energy_uj");
        root.exists(&place).then(|| Meter {
            kind: MeterKind::Rapl,
            covers: root
                .line(&format!("{ZONES}/{zone}/name"))
                .unwrap_or_else(|| zone.clone()),
            found: readable(root, &place),
            place,
        })
    });
    meters.collect()
}

fn readable(root: &Root, place: &str) -> Found {
    if root.is_readable(place) {
        return Found::Ready;
    }
    // The counters of all zones go by one pattern, which need not be told once for each.
    let (directory, file) = place.rsplit_once('/').unwrap_or_default();
    let class = directory
        .rsplit_once('/')
        .map_or(directory, |(class, _)| class);
    Found::Blocked {
        why: "only root may read it".to_owned(),
        remedy: format!("`sudo chmod a+r {class}/*/{file}` lets everyone, until the next start"),
    }
}

/// NVIDIA's library, one meter for each card of its driver.
fn nvml(root: &Root, processors: &[Processor]) -> Vec<Meter> {
    const DIRECTORIES: [&str; 5] = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/lib/wsl/lib",
    ];
    let has_library = !root.is_real()
        || DIRECTORIES
            .iter()
            .any(|directory| root.exists(&format!("{directory}/libnvidia-ml.so.1")));
    let cards = processors
        .iter()
        .filter(|found| found.driver.as_deref() == Some("nvidia"));
    let meters = cards.filter_map(|card| {
        Some(Meter {
            kind: MeterKind::Nvml,
            covers: card.id.clone(),
            place: card.bus_address.clone()?,
            found: match has_library {
                true => Found::Ready,
                false => Found::Blocked {
                    why: "libnvidia-ml.so.1 is not installed".to_owned(),
                    remedy: "install the package of NVIDIA's driver that has it (libnvidia-compute, nvidia-utils)"
                        .to_owned(),
                },
            },
        })
    });
    meters.collect()
}

/// Sensors of the kernel's that tell energy or power.
fn hwmon(root: &Root, processors: &[Processor]) -> Vec<Meter> {
    const SENSORS: &str = "/sys/class/hwmon";
    const FILES: [&str; 3] = ["energy1_input", "power1_average", "power1_input"];
    let mut meters = Vec::new();
    for sensor in root.list(SENSORS) {
        let directory = format!("{SENSORS}/{sensor}");
        let Some(file) = FILES
            .iter()
            .find(|file| root.exists(&format!("{directory}/{file}")))
        else {
            continue;
        };
        let name = root
            .line(&format!("{directory}/name"))
            .unwrap_or_else(|| sensor.clone());
        // Batteries are meters by themselves.
        if root.exists(&format!("{SUPPLIES}/{name}")) || name.to_lowercase().contains("bat") {
            continue;
        }
        let device = root.canonical(&format!("{directory}/device"));
        let address = device
            .as_deref()
            .and_then(|device| device.rsplit('/').next());
        let card = processors
            .iter()
            .find(|found| found.bus_address.is_some() && found.bus_address.as_deref() == address);
        let place = format!("{directory}/{file}");
        meters.push(Meter {
            kind: MeterKind::Hwmon,
            covers: card.map_or(name, |card| card.id.clone()),
            found: readable(root, &place),
            place,
        });
    }
    meters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(files: &[(&str, &str)]) -> Supplies {
        let files = files
            .iter()
            .map(|(path, text)| format!("== {SUPPLIES}/{path}\n{text}\n"));
        supplies(&Root::recorded(&files.collect::<String>()))
    }

    #[test]
    fn charge_becomes_energy() {
        let found = supply(&[
            ("BAT1/type", "Battery"),
            ("BAT1/status", "Discharging"),
            ("BAT1/charge_full", "4000000"),
            ("BAT1/voltage_min_design", "15000000"),
            ("BAT1/voltage_now", "16000000"),
            ("BAT1/current_now", "-500000"),
            ("BAT1/capacity", "101"),
            ("AC/type", "Mains"),
            ("AC/online", "0"),
        ]);
        assert_eq!(found.source, Some(PowerSource::Battery));
        let battery = &found.batteries[0];
        assert_eq!(
            (battery.capacity_wh, battery.watts),
            (Some(60.0), Some(8.0))
        );
        assert_eq!(battery.charge_percent, None, "there is no 101 %");
    }

    #[test]
    fn a_mouse_is_no_supply() {
        let found = supply(&[
            ("hidpp_battery_0/type", "Battery"),
            ("hidpp_battery_0/scope", "Device"),
        ]);
        assert_eq!((found.source, found.batteries.len()), (None, 0));
    }

    #[test]
    fn a_supply_that_is_on_is_the_source() {
        let found = supply(&[
            ("BAT0/type", "Battery"),
            ("BAT0/status", "Not charging"),
            ("USBC0/type", "USB"),
            ("USBC0/online", "1"),
        ]);
        assert_eq!(found.source, Some(PowerSource::Mains));
        assert_eq!(found.batteries[0].status, "not charging");
    }

    #[test]
    fn a_counter_that_may_not_be_read_is_blocked() {
        let root = Root::recorded(
            "== /sys/class/powercap/intel-rapl:0/name\npackage-0\n== /sys/class/powercap/intel-rapl:0/energy_uj !\n\
             == /sys/class/powercap/intel-rapl-mmio:0/energy_uj\n1\n",
        );
        let meters = meters(&root, &[], &[], &mut Notes::default());
        assert_eq!(meters.len(), 1);
        assert_eq!(meters[0].covers, "package-0");
        assert!(matches!(meters[0].found, Found::Blocked { .. }));
    }
}
