//! Recorded machines: each is read as a whole, and none can make the reader fall.

use std::path::Path;

use proptest::prelude::*;
use troika_base::MemoryPool;

use super::{Root, read};
use crate::model::{Found, Machine, MeterKind, PowerSource, Processor};

const RECORDED: [&str; 10] = [
    "core-ultra-155h",
    "core-ultra-258v",
    "desktop-2x-rtx-3090",
    "desktop-rx-7900-xtx",
    "raspberry-pi-5",
    "rk3588",
    "ryzen-ai-hx-370",
    "ryzen-ai-max-395",
    "snapdragon-x-elite",
    "vm",
];

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/{name}.tree"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn machine(name: &str) -> Machine {
    read(&Root::recorded(&text(name)))
}

fn device<'m>(machine: &'m Machine, id: &str) -> &'m Processor {
    let found = machine.processors.iter().find(|found| found.id == id);
    found.unwrap_or_else(|| panic!("{id} is there: {:?}", names(machine)))
}

fn names(machine: &Machine) -> Vec<(&str, &str)> {
    let processors = machine.processors.iter();
    processors
        .map(|found| (&*found.id, &*found.profile.name))
        .collect()
}

fn kinds(machine: &Machine) -> Vec<(&str, u32, u32)> {
    let kinds = machine.cpu.cores.iter();
    kinds
        .map(|kind| (&*kind.name, kind.cores, kind.threads))
        .collect()
}

fn meters(machine: &Machine, kind: MeterKind) -> Vec<&str> {
    let meters = machine.meters.iter().filter(|meter| meter.kind == kind);
    meters.map(|meter| &*meter.covers).collect()
}

#[test]
fn recorded_machines_are_read_as_ever() {
    for name in RECORDED {
        let told = serde_json::to_string_pretty(&machine(name)).expect("is JSON");
        insta::assert_snapshot!(name, told);
    }
}

#[test]
fn a_laptop_of_intel_s() {
    let machine = machine("core-ultra-155h");
    assert_eq!(
        names(&machine),
        [
            ("cpu0", "Intel Core Ultra 7 155H"),
            ("gpu0", "Intel Arc Graphics (Meteor Lake)"),
            ("npu0", "Intel NPU 3720 (Meteor Lake)"),
        ]
    );
    assert_eq!(
        kinds(&machine),
        [
            ("performance", 6, 12),
            ("efficiency", 8, 8),
            ("low-power", 2, 2)
        ]
    );
    let npu = device(&machine, "npu0");
    assert_eq!(npu.driver.as_deref(), Some("intel_vpu"));
    assert_eq!(npu.pci_id.as_deref(), Some("8086:7d1d"));
    assert_eq!(npu.profile.memory_pool, MemoryPool::Shared);
    assert_eq!(machine.power_source, Some(PowerSource::Battery));
    assert_eq!(meters(&machine, MeterKind::Battery), ["system"]);
    // The same counters stand there a second time, mapped to memory.
    let packages = meters(&machine, MeterKind::Rapl);
    assert_eq!(
        packages
            .iter()
            .filter(|covers| **covers == "package-0")
            .count(),
        1
    );
}

#[test]
fn counters_that_only_root_reads_are_blocked() {
    let machine = machine("core-ultra-258v");
    assert_eq!(
        kinds(&machine),
        [("performance", 4, 4), ("efficiency", 4, 4)]
    );
    let rapl: Vec<_> = machine
        .meters
        .iter()
        .filter(|meter| meter.kind == MeterKind::Rapl)
        .collect();
    assert!(!rapl.is_empty());
    for meter in rapl {
        assert!(matches!(&meter.found, Found::Blocked { remedy, .. } if remedy.contains("chmod")));
    }
    assert_eq!(
        device(&machine, "npu0").profile.name,
        "Intel NPU 4000 (Lunar Lake)"
    );
    assert_eq!(device(&machine, "gpu0").driver.as_deref(), Some("xe"));
}

#[test]
fn a_laptop_of_amd_s_whose_npu_we_may_not_use() {
    let machine = machine("ryzen-ai-hx-370");
    assert_eq!(
        kinds(&machine),
        [("performance", 4, 8), ("efficiency", 8, 16)]
    );
    assert_eq!(device(&machine, "gpu0").profile.name, "AMD Radeon 890M");
    let npu = device(&machine, "npu0");
    assert_eq!(npu.driver.as_deref(), Some("amdxdna"));
    let Found::Blocked { why, remedy } = &npu.found else {
        panic!("the node belongs to others");
    };
    assert_eq!(why, "no permission on /dev/accel/accel0");
    assert!(remedy.contains("join the group render"));
    assert!(
        machine
            .cpu
            .features
            .iter()
            .any(|feature| feature == "avx512_vnni")
    );
}

#[test]
fn an_npu_without_a_driver_is_there_but_blocked() {
    let text = text("core-ultra-155h");
    let unbound = text
        .lines()
        .filter(|line| !(line.contains("0000:00:0b.0/driver ") || line.contains("/accel/accel0")))
        .collect::<Vec<_>>()
        .join("\n");
    let machine = read(&Root::recorded(&unbound));
    let Found::Blocked { why, remedy } = &device(&machine, "npu0").found else {
        panic!("without a driver it is of no use");
    };
    assert!(
        why.contains("no driver") && remedy.contains("intel_vpu"),
        "{why}; {remedy}"
    );
}

#[test]
fn one_memory_for_a_large_processor() {
    let machine = machine("ryzen-ai-max-395");
    let gpu = &device(&machine, "gpu0").profile;
    assert_eq!(gpu.name, "AMD Radeon 8060S");
    assert_eq!(
        (gpu.memory_pool, gpu.link.as_deref()),
        (MemoryPool::Shared, Some("soc"))
    );
    // What firmware sets aside and what the driver may take.
    assert!(gpu.memory.is_some_and(|memory| memory.0 > 100 << 30));
    assert_eq!(
        device(&machine, "npu0").profile.name,
        "AMD XDNA 2 (Strix Halo)"
    );
    assert_eq!(kinds(&machine), [("core", 16, 32)]);
}

#[test]
fn two_cards_on_one_board() {
    let machine = machine("desktop-2x-rtx-3090");
    for (id, address) in [("gpu0", "0000:0a:00.0"), ("gpu1", "0000:0b:00.0")] {
        let gpu = device(&machine, id);
        assert_eq!(gpu.profile.name, "NVIDIA GeForce RTX 3090");
        assert_eq!(gpu.bus_address.as_deref(), Some(address));
        assert_eq!(gpu.profile.link.as_deref(), Some("pcie4x8"));
        // Only a library tells it, and nothing is made up.
        assert_eq!(gpu.profile.memory, None);
        assert!(
            machine
                .unknown
                .iter()
                .any(|unknown| unknown.what == format!("{id}.memory"))
        );
    }
    assert_eq!(meters(&machine, MeterKind::Nvml), ["gpu0", "gpu1"]);
    assert_eq!(machine.power_source, None);
}

#[test]
fn the_card_comes_before_the_graphics_in_the_processor() {
    let machine = machine("desktop-rx-7900-xtx");
    let card = device(&machine, "gpu0");
    assert_eq!(card.profile.name, "AMD Radeon RX 7900 XTX");
    assert_eq!(
        card.profile.memory.map(|memory| memory.0 >> 20),
        Some(24560)
    );
    assert_eq!(card.profile.watts_limit, Some(339.0));
    assert_eq!(card.profile.link.as_deref(), Some("pcie4x16"));
    assert_eq!(
        device(&machine, "gpu1").profile.memory_pool,
        MemoryPool::Shared
    );
    assert_eq!(meters(&machine, MeterKind::Hwmon), ["gpu0", "gpu1"]);
}

#[test]
fn boards_of_arm() {
    let pi = machine("raspberry-pi-5");
    assert_eq!(
        names(&pi),
        [
            ("cpu0", "Raspberry Pi 5"),
            ("gpu0", "Broadcom VideoCore VII")
        ]
    );
    assert_eq!(
        pi.cpu.model.as_deref(),
        Some("Raspberry Pi 5 (4 × Cortex-A76)")
    );
    assert!(pi.unknown.iter().any(|unknown| unknown.what == "meters"));

    let rock = machine("rk3588");
    assert_eq!(
        names(&rock),
        [
            ("cpu0", "Rockchip RK3588"),
            ("gpu0", "Arm Mali-G610 MP4"),
            ("npu0", "Rockchip RK3588 NPU")
        ]
    );
    assert_eq!(kinds(&rock), [("performance", 4, 4), ("efficiency", 4, 4)]);
    assert_eq!(device(&rock, "npu0").driver.as_deref(), Some("rocket"));

    let snapdragon = machine("snapdragon-x-elite");
    assert_eq!(
        names(&snapdragon),
        [
            ("cpu0", "Qualcomm Snapdragon X Elite X1E-78-100"),
            ("gpu0", "Qualcomm Adreno X1-85"),
            ("npu0", "Qualcomm Hexagon NPU"),
        ]
    );
    assert!(
        snapdragon
            .cpu
            .features
            .iter()
            .any(|feature| feature == "i8mm")
    );
    assert_eq!(snapdragon.power_source, Some(PowerSource::Battery));
}

#[test]
fn a_guest_has_a_processor_and_no_more() {
    let machine = machine("vm");
    assert_eq!(names(&machine), [("cpu0", "AMD EPYC")]);
    assert!(machine.cpu.virtual_machine.is_some());
    assert!(machine.meters.is_empty());
    assert_eq!(machine.cpu.cores[0].mhz_max, None);
}

#[test]
fn an_empty_tree_is_a_machine_of_which_nothing_is_known() {
    let machine = read(&Root::recorded(""));
    assert_eq!(names(&machine), [("cpu0", "unknown processor")]);
    for what in ["cpu.model", "cpu.cores", "memory.total"] {
        assert!(
            machine.unknown.iter().any(|unknown| unknown.what == what),
            "{what}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn this_machine_is_read() {
    let machine = read(&Root::real());
    assert!(machine.memory.total_bytes > 0);
    assert_eq!(machine.cpu.architecture, std::env::consts::ARCH);
    assert!(machine.cpu.cores.iter().any(|kind| kind.threads > 0));
}

/// What can happen to a line of a recording.
#[derive(Clone, Debug)]
enum Harm {
    Gone,
    Text(String),
    Number(i64),
    Link(usize),
    Denied,
}

fn harm() -> impl Strategy<Value = (prop::sample::Index, Harm)> {
    let harm = prop_oneof![
        Just(Harm::Gone),
        ".{0,40}".prop_map(Harm::Text),
        any::<i64>().prop_map(Harm::Number),
        any::<usize>().prop_map(Harm::Link),
        Just(Harm::Denied),
    ];
    (any::<prop::sample::Index>(), harm)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Lines vanish, hold nonsense, or lead elsewhere: something is read, and its form can be written and read again.
    #[test]
    fn harmed_trees_are_read(which in 0..RECORDED.len(), harms in prop::collection::vec(harm(), 1..60)) {
        let text = text(RECORDED[which]);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, harm) in harms {
            let at = at.index(lines.len());
            let path = lines[at].strip_prefix("== ").and_then(|head| head.split(' ').next()).map(str::to_owned);
            lines[at] = match (harm, path) {
                (Harm::Gone, _) => String::new(),
                (Harm::Text(text), _) => text,
                (Harm::Number(number), None) => number.to_string(),
                (Harm::Link(to), Some(path)) => {
                    let target = lines[to % lines.len()].trim_start_matches("== ").to_owned();
                    format!("== {path} -> /{target}")
                }
                (Harm::Denied, Some(path)) => format!("== {path} !"),
                (Harm::Link(_) | Harm::Denied, None) => "== /".to_owned(),
                (Harm::Number(number), Some(path)) => format!("== {path}/{number}"),
            };
        }
        let machine = read(&Root::recorded(&lines.join("\n")));
        let written = serde_json::to_string(&machine).expect("can be written");
        let again: Machine = serde_json::from_str(&written).expect("can be read");
        prop_assert_eq!(machine.processors.len(), again.processors.len());
    }

    #[test]
    fn any_text_is_a_tree(text in "(== /(sys|proc|a)(/[a-z0-9:.]{0,6}){0,3}( -> [./a-z]{0,12}| !)?\n|.{0,20}\n){0,40}") {
        let _ = read(&Root::recorded(&text));
    }
}
