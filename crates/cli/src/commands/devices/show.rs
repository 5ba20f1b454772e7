//! A machine for people.

use std::fmt::Write as _;

use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool, NumberFormat, Rate};
use troika_machine::{
    Battery, Cpu, Found, Machine, MemoryFacts, MeterKind, PowerSource, Processor,
};

use crate::output::{self, Align, line, number};

/// Characters of a name that are shown.
const NAME_WIDTH: usize = 44;

/// Everything, in the order in which it is asked for.
///
/// `gpus` is how GPUs are reached, `lacking` what GPUs and NPUs need beside the kernel's drivers.
pub(super) fn page(machine: &Machine, gpus: &[[String; 3]], lacking: &[[String; 2]]) -> String {
    let mut page = format!("{}\n", title(machine));
    page.push_str(&indented(&overview(machine)));
    page.push('\n');
    page.push_str(&devices(&machine.processors));
    if !gpus.is_empty() {
        page.push_str("\ngpus\n");
        page.push_str(&indented(gpus));
    }
    let mut blocked = blocked(machine);
    blocked.extend_from_slice(lacking);
    if !blocked.is_empty() {
        page.push_str("\nblocked\n");
        page.push_str(&indented(&blocked));
    }
    if !machine.meters.is_empty() {
        page.push_str("\nmeters\n");
        page.push_str(&indented(&meters(machine)));
    }
    if !machine.unknown.is_empty() {
        page.push_str("\nunknown\n");
        page.push_str(&indented(&unknown(machine)));
    }
    page
}

fn title(machine: &Machine) -> String {
    let product = machine.product.as_deref().unwrap_or("This computer");
    let guest = match &machine.cpu.virtual_machine {
        Some(host) => format!(", a guest of {host}"),
        None => String::new(),
    };
    line(&format!("{product}, {}{guest}", machine.system), 120)
}

fn overview(machine: &Machine) -> Vec<[String; 2]> {
    let mut rows = vec![["processor".to_owned(), processor(&machine.cpu)]];
    if !machine.cpu.features.is_empty() {
        let features = line(&machine.cpu.features.join(" "), 120);
        rows.push(["instructions".to_owned(), features]);
    }
    if let Some(caches) = caches(&machine.cpu) {
        rows.push(["caches".to_owned(), caches]);
    }
    rows.push(["memory".to_owned(), memory(&machine.memory)]);
    if let Some(power) = power(machine) {
        rows.push(["power".to_owned(), power]);
    }
    rows
}

/// `AMD Ryzen AI 9 HX 370: 4 performance and 8 efficiency cores, 24 threads, up to 5.2 GHz`.
fn processor(cpu: &Cpu) -> String {
    let model = line(cpu.model.as_deref().unwrap_or("unknown"), 72);
    let kinds: Vec<_> = cpu
        .cores
        .iter()
        .map(|kind| match &*kind.name {
            "core" => kind.cores.to_string(),
            name => format!("{} {}", kind.cores, line(name, 20)),
        })
        .collect();
    if kinds.is_empty() {
        return model;
    }
    let threads: u64 = cpu.cores.iter().map(|kind| u64::from(kind.threads)).sum();
    let sockets = match cpu.packages {
        0 | 1 => String::new(),
        count => format!(" in {count} sockets"),
    };
    let fastest = cpu
        .cores
        .iter()
        .filter_map(|kind| kind.mhz_max)
        .reduce(f64::max);
    let clock = fastest.map_or_else(String::new, |mhz| {
        format!(", up to {} GHz", number(mhz / 1e3))
    });
    let word = match cpu.cores.as_slice() {
        [kind] if kind.cores == 1 => "core",
        _ => "cores",
    };
    format!(
        "{model}: {} {word}{sockets}, {threads} threads{clock}",
        listed(&kinds)
    )
}

fn listed(parts: &[String]) -> String {
    match parts {
        [all @ .., before, last] => {
            let mut text: String = all.iter().map(|part| format!("{part}, ")).collect();
            let _ = write!(text, "{before} and {last}");
            text
        }
        [one] => one.clone(),
        [] => String::new(),
    }
}

/// `L2 12 × 1.0 MiB, L3 24.0 MiB`; the first level is alike everywhere and tells nobody anything.
fn caches(cpu: &Cpu) -> Option<String> {
    let outer = cpu.caches.iter().filter(|cache| cache.level > 1);
    let texts: Vec<_> = outer
        .map(|cache| match cache.count {
            1 => format!("L{} {}", cache.level, Bytes(cache.bytes)),
            count => format!("L{} {count} × {}", cache.level, Bytes(cache.bytes)),
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn memory(memory: &MemoryFacts) -> String {
    let mut text = match memory.total_bytes {
        0 => "unknown".to_owned(),
        total => Bytes(total).to_string(),
    };
    if let Some(available) = memory.available_bytes {
        let _ = write!(text, ", {} free", Bytes(available));
    }
    let mut modules = Vec::new();
    modules.extend(memory.kind.as_deref().map(|kind| line(kind, 20)));
    modules.extend(memory.mega_transfers.map(|speed| format!("{speed} MT/s")));
    modules.extend(memory.channels.map(|count| match count {
        1 => "1 channel".to_owned(),
        count => format!("{count} channels"),
    }));
    if !modules.is_empty() {
        let _ = write!(text, "; {}", modules.join(", "));
    }
    text
}

fn power(machine: &Machine) -> Option<String> {
    let source = machine.power_source.map(|source| match source {
        PowerSource::Mains => "mains".to_owned(),
        PowerSource::Battery => "battery".to_owned(),
    });
    let parts: Vec<_> = source
        .into_iter()
        .chain(machine.batteries.iter().map(battery))
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `BAT0 71 %, discharging at 9.87 W, holds 72.3 Wh`.
fn battery(battery: &Battery) -> String {
    let mut text = line(&battery.name, 24);
    if let Some(percent) = battery.charge_percent {
        let _ = write!(text, " {percent:.0} %");
    }
    let _ = write!(text, ", {}", line(&battery.status, 24));
    if let Some(watts) = battery.watts.filter(|&watts| watts > 0.0) {
        let _ = write!(text, " at {} W", number(watts));
    }
    if let Some(capacity) = battery.capacity_wh {
        let _ = write!(text, ", holds {} Wh", number(capacity));
    }
    text
}

fn devices(processors: &[Processor]) -> String {
    let heading = [
        "device",
        "name",
        "what",
        "memory",
        "bandwidth",
        "best rates",
        "driver",
        "state",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    let dash = || "-".to_owned();
    for found in processors {
        let profile = &found.profile;
        rows.push([
            found.id.clone(),
            line(&profile.name, NAME_WIDTH),
            what(profile),
            profile
                .memory
                .map_or_else(dash, |memory| match profile.memory_pool {
                    MemoryPool::Own => memory.to_string(),
                    MemoryPool::Shared => format!("{memory} shared"),
                }),
            bandwidth(profile).unwrap_or_else(dash),
            rates(profile).unwrap_or_else(dash),
            found
                .driver
                .as_deref()
                .map_or_else(dash, |driver| line(driver, 20)),
            match found.found {
                Found::Ready => "ready",
                Found::Blocked { .. } => "blocked",
            }
            .to_owned(),
        ]);
    }
    use Align::{Left, Right};
    output::table([Left, Left, Left, Right, Right, Left, Left, Left], &rows)
}

/// `GPU, rdna3, pcie4x16`.
fn what(profile: &DeviceProfile) -> String {
    let kind = match profile.kind {
        DeviceKind::Cpu => "CPU",
        DeviceKind::Gpu => "GPU",
        DeviceKind::Npu => "NPU",
        DeviceKind::Accelerator => "accelerator",
    };
    let more = [profile.family.as_deref(), profile.link.as_deref()];
    let more = more.into_iter().flatten().filter(|word| *word != "soc");
    more.fold(kind.to_owned(), |text, word| {
        format!("{text}, {}", line(word, 16))
    })
}

/// `936 GB/s`, and `61.2 of 89.6 GB/s` where a part of it was reached.
fn bandwidth(profile: &DeviceProfile) -> Option<String> {
    match (profile.bandwidth_measured_gbs, profile.bandwidth_peak_gbs) {
        (Some(reached), Some(peak)) => {
            Some(format!("{} of {} GB/s", number(reached), number(peak)))
        }
        (Some(reached), None) => Some(format!("{} GB/s measured", number(reached))),
        (None, Some(peak)) => Some(format!("{} GB/s", number(peak))),
        (None, None) => None,
    }
}

/// The best dense rate of integers and of each width of floats that models are computed in.
fn rates(profile: &DeviceProfile) -> Option<String> {
    use NumberFormat::{Bf16, Fp8, Fp16, Fp32, Int4, Int8};
    let groups: [&[NumberFormat]; 4] = [&[Int8, Int4], &[Fp8], &[Fp16, Bf16], &[Fp32]];
    let texts: Vec<_> = groups
        .into_iter()
        .filter_map(|formats| formats.iter().find_map(|&format| rate(profile, format)))
        .take(3)
        .collect();
    (!texts.is_empty()).then(|| format!("{} TOPS", texts.join(", ")))
}

/// `int8 330`, and `int8 2.1 of 4.8` where a part of it was reached.
fn rate(profile: &DeviceProfile, format: NumberFormat) -> Option<String> {
    let best = |rates: &[Rate]| {
        let of_format = rates.iter().filter(|rate| rate.format == format);
        of_format
            .filter_map(|rate| rate.dense_tops)
            .reduce(f64::max)
    };
    let name = format!("{format:?}").to_lowercase();
    match (best(&profile.rates_measured), best(&profile.rates)) {
        (Some(reached), Some(peak)) => {
            Some(format!("{name} {} of {}", number(reached), number(peak)))
        }
        (Some(reached), None) => Some(format!("{name} {} measured", number(reached))),
        (None, Some(peak)) => Some(format!("{name} {}", number(peak))),
        (None, None) => None,
    }
}

fn blocked(machine: &Machine) -> Vec<[String; 2]> {
    let blocked = machine
        .processors
        .iter()
        .filter_map(|found| match &found.found {
            Found::Ready => None,
            Found::Blocked { why, remedy } => Some([found.id.clone(), advice(why, remedy)]),
        });
    blocked.collect()
}

fn meters(machine: &Machine) -> Vec<[String; 3]> {
    let rows = machine.meters.iter().map(|meter| {
        let kind = match meter.kind {
            MeterKind::Rapl => "RAPL",
            MeterKind::Nvml => "NVML",
            MeterKind::Hwmon => "sensor",
            MeterKind::Battery => "battery",
        };
        let state = match &meter.found {
            Found::Ready => "ready".to_owned(),
            Found::Blocked { why, remedy } => format!("blocked: {}", advice(why, remedy)),
        };
        [line(&meter.covers, 24), kind.to_owned(), state]
    });
    rows.collect()
}

fn unknown(machine: &Machine) -> Vec<[String; 2]> {
    let rows = machine.unknown.iter();
    rows.map(|unknown| {
        [
            line(&unknown.what, 32),
            advice(&unknown.why, &unknown.remedy),
        ]
    })
    .collect()
}

/// A reason and what would help.
fn advice(why: &str, remedy: &str) -> String {
    match remedy {
        "" => line(why, 160),
        remedy => line(&format!("{why}; {remedy}"), 240),
    }
}

fn indented<const N: usize>(rows: &[[String; N]]) -> String {
    let table = output::table([Align::Left; N], rows);
    table.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "  {line}");
        out
    })
}

#[cfg(test)]
mod tests {
    use troika_base::Unit;
    use troika_machine::probe::{self, Root};

    use super::*;

    fn recorded(name: &str) -> Machine {
        let path = format!(
            "{}/../machine/fixtures/{name}.tree",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut machine = probe::read(&Root::recorded(&text));
        super::super::describe(
            &mut machine,
            troika_planner::catalogue::Catalogue::builtin(),
        );
        machine
    }

    #[test]
    fn pages_are_as_ever() {
        for name in [
            "ryzen-ai-hx-370",
            "desktop-2x-rtx-3090",
            "core-ultra-258v",
            "rk3588",
            "vm",
        ] {
            insta::assert_snapshot!(name, page(&recorded(name), &[], &[]));
        }
    }

    #[test]
    fn the_catalogue_knows_recorded_devices() {
        for name in [
            "core-ultra-155h",
            "core-ultra-258v",
            "desktop-2x-rtx-3090",
            "desktop-rx-7900-xtx",
            "raspberry-pi-5",
            "rk3588",
            "ryzen-ai-hx-370",
            "ryzen-ai-max-395",
            "snapdragon-x-elite",
        ] {
            let machine = recorded(name);
            for found in &machine.processors {
                // Nobody publishes what the small graphics of a desktop's processor can do.
                let is_listed = found.profile.name != "AMD Radeon 610M";
                let told = found.profile.bandwidth_peak_gbs.is_some();
                assert!(
                    told || !is_listed,
                    "{name}: {} {}",
                    found.id,
                    found.profile.name
                );
            }
        }
    }

    #[test]
    fn what_was_measured_stands_beside_the_data_sheet() {
        let rate = |tops| Rate {
            format: NumberFormat::Int8,
            unit: Unit::Matrix,
            dense_tops: Some(tops),
            sparse_tops: None,
        };
        let mut profile = DeviceProfile {
            bandwidth_peak_gbs: Some(936.2),
            rates: vec![rate(284.0)],
            ..DeviceProfile::unknown("NVIDIA GeForce RTX 3090", DeviceKind::Gpu)
        };
        assert_eq!(bandwidth(&profile).as_deref(), Some("936 GB/s"));
        assert_eq!(rates(&profile).as_deref(), Some("int8 284 TOPS"));
        profile.bandwidth_measured_gbs = Some(871.0);
        profile.rates_measured = vec![rate(201.5)];
        assert_eq!(bandwidth(&profile).as_deref(), Some("871 of 936 GB/s"));
        assert_eq!(rates(&profile).as_deref(), Some("int8 202 of 284 TOPS"));
        profile.bandwidth_peak_gbs = None;
        assert_eq!(bandwidth(&profile).as_deref(), Some("871 GB/s measured"));
    }

    #[test]
    fn names_from_outside_give_no_commands() {
        let mut machine = recorded("vm");
        machine.product = Some("\u{1b}[2J".to_owned());
        machine.processors[0].profile.name = "a\nb".to_owned();
        assert!(!page(&machine, &[], &[]).contains('\u{1b}'));
        assert!(page(&machine, &[], &[]).contains("a⏎b"));
    }
}
