//! Temperatures and the limits that their makers set: the kernel's sensors (hwmon) and thermal zones.
//!
//! A sensor without a limit tells nothing: 90 °C is cool for one chip and the end of another one.

use troika_base::DeviceKind;

use super::{Felt, Known};
use crate::model::{Machine, Processor};
use crate::probe::Root;

const SENSORS: &str = "/sys/class/hwmon";
const ZONES: &str = "/sys/class/thermal";

/// Chips slow down a little before they reach the temperature that they call critical.
const BEFORE_CRITICAL_C: f64 = 3.0;
/// So many degrees before the point where it slows down, a device is warm.
pub(super) const WARM_BEFORE_C: f64 = 10.0;
/// Limits outside are none: sensors of nothing tell 0, 255 or -273 °C.
const LIMITS_C: std::ops::RangeInclusive<f64> = 45.0..=130.0;
/// Temperatures outside are none.
const CELSIUS: std::ops::RangeInclusive<f64> = -60.0..=200.0;
/// Trip points of a zone that are looked at.
const TRIPS_MAX: usize = 16;

/// A temperature that is read again and again.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Thermometer {
    /// A file of millidegrees.
    path: String,
    warm_at: f64,
    hot_at: f64,
}

impl Thermometer {
    fn read(&self, root: &Root) -> Known<Felt> {
        let milli: Option<f64> = root.number::<i64>(&self.path).map(|milli| milli as f64);
        match milli.map(|milli| milli / 1e3) {
            Some(celsius) if CELSIUS.contains(&celsius) => {
                Ok(felt(celsius, self.warm_at, self.hot_at))
            }
            Some(celsius) => Err(format!("{} tells {celsius} °C", self.path)),
            None => Err(format!("{} cannot be read", self.path)),
        }
    }
}

/// A temperature beside its limits.
pub(super) fn felt(celsius: f64, warm_at: f64, hot_at: f64) -> Felt {
    Felt {
        beyond_warm: celsius - warm_at,
        beyond_hot: celsius - hot_at,
        slows_down: false,
    }
}

/// What all thermometers of a device say together. One that fails is passed over as long as others answer.
pub(super) fn read(root: &Root, thermometers: &[Thermometer]) -> Known<Felt> {
    let mut warmest: Option<Felt> = None;
    let mut failure = None;
    for thermometer in thermometers {
        match thermometer.read(root) {
            Ok(felt) => warmest = Some(warmest.map_or(felt, |other| other.or(felt))),
            Err(why) => failure = Some(why),
        }
    }
    warmest.ok_or_else(|| failure.unwrap_or_else(|| "it has no thermometer".to_owned()))
}

/// The thermometers of a device; the error says why there is none.
pub(super) fn find(root: &Root, machine: &Machine, device: &Processor) -> Known<Vec<Thermometer>> {
    let own = Own::of(machine, device);
    let mut found = Vec::new();
    let mut without_limit = None;
    for chip in root.list(SENSORS) {
        let directory = format!("{SENSORS}/{chip}");
        let name = root.line(&format!("{directory}/name")).unwrap_or_default();
        if !own.has_sensor(root, &directory, &name) {
            continue;
        }
        let chip = of_chip(root, &directory, &name);
        if chip.is_empty() {
            without_limit = Some(name);
        }
        found.extend(chip);
    }
    for zone in root.list(ZONES) {
        let directory = format!("{ZONES}/{zone}");
        let kind = root.line(&format!("{directory}/type")).unwrap_or_default();
        if !own.has_zone(&kind) {
            continue;
        }
        match of_zone(root, &directory) {
            Some(thermometer) => found.push(thermometer),
            None => without_limit = without_limit.or(Some(kind)),
        }
    }
    match (found.is_empty(), without_limit) {
        (false, _) => Ok(found),
        (true, Some(name)) => Err(format!("its sensor ({name}) does not tell what is too hot")),
        (true, None) => Err("the system has no sensor of it".to_owned()),
    }
}

/// What sensors of a device look like.
struct Own<'m> {
    kind: DeviceKind,
    address: Option<&'m str>,
    in_soc: bool,
}

impl<'m> Own<'m> {
    fn of(machine: &Machine, device: &'m Processor) -> Self {
        let is_first = machine
            .processors
            .iter()
            .find(|other| other.profile.kind == device.profile.kind)
            .is_some_and(|first| first.id == device.id);
        let link = device.profile.link.as_deref();
        Self {
            kind: device.profile.kind,
            address: device.bus_address.as_deref(),
            in_soc: link == Some("soc") || (device.bus_address.is_none() && is_first),
        }
    }

    fn has_sensor(&self, root: &Root, directory: &str, name: &str) -> bool {
        if self.kind == DeviceKind::Cpu {
            return matches!(name, "coretemp" | "k10temp" | "zenpower");
        }
        let device = root.canonical(&format!("{directory}/device"));
        let address = device.as_deref().and_then(|path| path.rsplit('/').next());
        address.is_some() && address == self.address
    }

    fn has_zone(&self, kind: &str) -> bool {
        let begins = |names: &[&str]| names.iter().any(|name| kind.starts_with(name));
        match self.kind {
            DeviceKind::Cpu => begins(&[
                "x86_pkg_temp",
                "cpu",
                "soc",
                "package",
                "bigcore",
                "littlecore",
                "cluster",
            ]),
            DeviceKind::Gpu => self.in_soc && begins(&["gpu"]),
            DeviceKind::Npu => self.in_soc && begins(&["npu", "nsp", "cdsp"]),
            DeviceKind::Accelerator => false,
        }
    }
}

/// The temperatures of a chip that have a limit.
fn of_chip(root: &Root, directory: &str, name: &str) -> Vec<Thermometer> {
    let inputs: Vec<String> = root
        .list(directory)
        .into_iter()
        .filter_map(|file| file.strip_suffix("_input").map(str::to_owned))
        .filter(|file| file.starts_with("temp"))
        .collect();
    let label = |input: &String| {
        let label = root.line(&format!("{directory}/{input}_label"));
        label.unwrap_or_default()
    };
    // The package is as warm as its warmest core.
    let has_package = inputs
        .iter()
        .any(|input| label(input).starts_with("Package"));
    let of_package = |input: &&String| !has_package || label(input).starts_with("Package");
    let limit = |input: &str, kind: &str| {
        let celsius = milli(root, &format!("{directory}/{input}_{kind}"))?;
        LIMITS_C.contains(&celsius).then_some(celsius)
    };
    let thermometer = |input: &String| {
        let hot_at = match limit(input, "crit") {
            Some(critical) => critical - BEFORE_CRITICAL_C,
            // This driver tells 70 °C for every chip.
            None if name == "k10temp" => return None,
            None => limit(input, "max")?,
        };
        Some(Thermometer {
            path: format!("{directory}/{input}_input"),
            warm_at: hot_at - WARM_BEFORE_C,
            hot_at,
        })
    };
    let inputs = inputs.iter().filter(of_package);
    inputs.filter_map(thermometer).collect()
}

/// A zone's temperature, with the limits at which the kernel slows something down.
fn of_zone(root: &Root, directory: &str) -> Option<Thermometer> {
    let (mut passive, mut critical): (Vec<f64>, Option<f64>) = (Vec::new(), None);
    for trip in 0..TRIPS_MAX {
        let file = |what: &str| format!("{directory}/trip_point_{trip}_{what}");
        let Some(kind) = root.line(&file("type")) else {
            break;
        };
        let Some(celsius) = milli(root, &file("temp")).filter(|c| LIMITS_C.contains(c)) else {
            continue;
        };
        match &*kind {
            "passive" | "hot" => passive.push(celsius),
            "critical" => critical = Some(critical.map_or(celsius, |other| celsius.min(other))),
            _ => {}
        }
    }
    let lowest = passive.iter().copied().reduce(f64::min);
    let highest = passive.iter().copied().reduce(f64::max);
    // Of two, the kernel begins to look at the lower and holds the higher.
    let (warm_at, hot_at) = match (lowest, highest, critical) {
        (Some(lowest), Some(highest), _) if lowest < highest => (lowest, highest),
        (Some(only), ..) => (only - WARM_BEFORE_C, only),
        (None, _, Some(critical)) => {
            let hot_at = critical - BEFORE_CRITICAL_C;
            (hot_at - WARM_BEFORE_C, hot_at)
        }
        (None, ..) => return None,
    };
    Some(Thermometer {
        path: format!("{directory}/temp"),
        warm_at,
        hot_at,
    })
}

/// Degrees of a file of millidegrees.
fn milli(root: &Root, path: &str) -> Option<f64> {
    root.number::<i64>(path).map(|milli| milli as f64 / 1e3)
}
