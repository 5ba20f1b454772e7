//! Recorded machines, and this one.

use std::sync::{Arc, Mutex};

use super::*;
use crate::probe;

/// What the first look at a recorded machine tells.
fn first(tree: &str) -> Vec<Change> {
    let root = Root::recorded(tree);
    let machine = probe::read(&root);
    let sensors = Sensors::find(&root, &machine);
    let moment = Moment {
        running: Duration::ZERO,
        wall: SystemTime::UNIX_EPOCH,
        date: jiff::civil::date(2026, 3, 2),
    };
    let mut told = Vec::new();
    Changes::default().tell(moment, sensors.read(&root, true), &mut |change| {
        told.push(change);
    });
    told
}

fn heat_of(changes: &[Change], wanted: &str) -> (Option<Heat>, String) {
    let found = changes.iter().find_map(|change| match change {
        Change::Heat { device, heat, why } if device == wanted => Some((*heat, why.clone())),
        _ => None,
    });
    found.expect("is told")
}

fn memory_of(changes: &[Change], wanted: &str) -> Option<PoolUse> {
    let found = changes.iter().find_map(|change| match change {
        Change::Memory { pool, memory, .. } if pool == wanted => Some(*memory),
        _ => None,
    });
    found.expect("is told")
}

/// A recording with more files.
fn with(tree: &str, files: &[(&str, &str)]) -> String {
    let files = files
        .iter()
        .map(|(path, text)| format!("== {path}\n{text}\n"));
    format!("{}\n{}", tree.trim_end(), files.collect::<String>())
}

const INTEL: &str = include_str!("../../fixtures/core-ultra-155h.tree");
const RADEON: &str = include_str!("../../fixtures/desktop-rx-7900-xtx.tree");

#[test]
fn a_laptop_on_battery() {
    let told = first(INTEL);
    let battery = Change::Power {
        power: Some(PowerState::Battery {
            percent: Some(71.0),
        }),
        why: String::new(),
    };
    assert_eq!(told[0], battery);
    let (heat, why) = heat_of(&told, "cpu0");
    assert_eq!(heat, None);
    assert!(why.contains("coretemp"), "{why}");
    let ram = memory_of(&told, "ram").expect("is known");
    assert!(ram.used.0 > 0 && ram.used < ram.total, "{ram:?}");
    assert_eq!(ram.ours, None, "the recording does not tell of us");
    // Its graphics have no memory of their own.
    let pools = told
        .iter()
        .filter(|change| matches!(change, Change::Memory { .. }));
    assert_eq!(pools.count(), 1);
}

#[test]
fn sensors_count_with_their_limits() {
    const CORE: &str = "/sys/class/hwmon/hwmon2";
    for (files, want) in [
        // 51 °C.
        (vec![("temp1_crit", "100000")], Some(Heat::Normal)),
        (vec![("temp1_crit", "62000")], Some(Heat::Warm)),
        (vec![("temp1_crit", "53000")], Some(Heat::Hot)),
        (vec![("temp1_max", "60000")], Some(Heat::Warm)),
        (
            vec![("temp1_max", "80000"), ("temp1_crit", "100000")],
            Some(Heat::Normal),
        ),
        // No limits.
        (vec![("temp1_crit", "0")], None),
        (vec![("temp1_crit", "hot")], None),
        // A core's own sensor is not the package's.
        (
            vec![
                ("temp1_crit", "100000"),
                ("temp2_input", "99000"),
                ("temp2_crit", "100000"),
            ],
            Some(Heat::Normal),
        ),
    ] {
        let paths: Vec<_> = files
            .iter()
            .map(|(name, text)| (format!("{CORE}/{name}"), *text))
            .collect();
        let files: Vec<_> = paths.iter().map(|(path, text)| (&**path, *text)).collect();
        let told = first(&with(INTEL, &files));
        assert_eq!(heat_of(&told, "cpu0").0, want, "{files:?}");
        // Parts of the processor share its sensors.
        assert_eq!(heat_of(&told, "npu0").0, want, "{files:?}");
    }
}

#[test]
fn zones_count_with_their_trip_points() {
    const ZONE: &str = "/sys/class/thermal/thermal_zone0";
    let zone = |kind: &str, temp: &str, trips: &[(&str, &str)]| {
        let mut files = vec![(format!("{ZONE}/type"), kind.to_owned())];
        files.push((format!("{ZONE}/temp"), temp.to_owned()));
        for (i, (kind, temp)) in trips.iter().enumerate() {
            files.push((format!("{ZONE}/trip_point_{i}_type"), (*kind).to_owned()));
            files.push((format!("{ZONE}/trip_point_{i}_temp"), (*temp).to_owned()));
        }
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (&**path, &**text))
            .collect();
        let tree = include_str!("../../fixtures/rk3588.tree");
        let tree = first(&with(tree, &files));
        (heat_of(&tree, "cpu0").0, heat_of(&tree, "npu0").0)
    };
    use Heat::{Hot, Normal, Warm};
    let two = [
        ("passive", "75000"),
        ("passive", "85000"),
        ("critical", "115000"),
    ];
    for (temp, heat) in [("70000", Normal), ("76000", Warm), ("85000", Hot)] {
        assert_eq!(zone("soc-thermal", temp, &two).0, Some(heat), "{temp}");
    }
    assert_eq!(zone("npu-thermal", "86000", &two), (None, Some(Hot)));
    let fan = [
        ("active", "50000"),
        ("passive", "0"),
        ("critical", "100000"),
    ];
    for (temp, heat) in [("80000", Normal), ("88000", Warm), ("98000", Hot)] {
        assert_eq!(zone("cpu-thermal", temp, &fan).0, Some(heat), "{temp}");
    }
    for (kind, temp) in [
        ("cpu-thermal", "-273150"),
        ("cpu-thermal", "nan"),
        ("acpitz", "99000"),
    ] {
        assert_eq!(zone(kind, temp, &two).0, None, "{kind} {temp}");
    }
    assert_eq!(zone("cpu-thermal", "99000", &[]).0, None);
}

#[test]
fn cards_tell_their_heat_and_memory() {
    const CARD: &str = "/sys/bus/pci/devices/0000:03:00.0";
    let files = [
        ("/sys/class/hwmon/hwmon1/temp1_crit", "100000"),
        ("/sys/class/hwmon/hwmon1/temp2_input", "108000"),
        ("/sys/class/hwmon/hwmon1/temp2_crit", "110000"),
        (
            "/sys/bus/pci/devices/0000:03:00.0/mem_info_vram_used",
            "3000000000",
        ),
        (
            "/proc/self/status",
            "VmRSS: 900 kB\nRssAnon: 500 kB\nRssFile: 300 kB\nRssShmem: 100 kB",
        ),
        ("/proc/self/fdinfo/0", "pos: 0"),
        (
            "/proc/self/fdinfo/7",
            "drm-pdev: 0000:03:00.0\ndrm-client-id: 12\ndrm-memory-vram: 1024 KiB",
        ),
        (
            "/proc/self/fdinfo/8",
            "drm-pdev: 0000:03:00.0\ndrm-client-id: 12\ndrm-memory-vram: 1024 KiB",
        ),
        (
            "/proc/self/fdinfo/9",
            "drm-pdev: 0000:11:00.0\ndrm-client-id: 13\ndrm-memory-vram: 9 KiB",
        ),
    ];
    let told = first(&with(RADEON, &files));
    // The edge has 45 °C, the junction 108.
    assert_eq!(heat_of(&told, "gpu0").0, Some(Heat::Hot));
    let (heat, why) = heat_of(&told, "cpu0");
    assert_eq!(heat, None);
    assert!(why.contains("k10temp"), "{why}");
    let card = memory_of(&told, "gpu0").expect("is known");
    assert_eq!(card.others(), Some(Bytes(3_000_000_000 - (1 << 20))));
    let ram = memory_of(&told, "ram").expect("is known");
    assert_eq!(ram.ours, Some(Bytes(600 << 10)));
    // Nobody wakes it for a look.
    let status = format!("{CARD}/power/runtime_status");
    let asleep = [&files[..], &[(&*status, "suspended")]].concat();
    let told = first(&with(RADEON, &asleep));
    assert_eq!(heat_of(&told, "gpu0").0, Some(Heat::Normal));
    let is_of_card =
        |change: &&Change| matches!(change, Change::Memory { pool, .. } if pool == "gpu0");
    assert_eq!(told.iter().find(is_of_card), None);
}

#[test]
fn every_recorded_machine_is_read() {
    for tree in [
        include_str!("../../fixtures/core-ultra-258v.tree"),
        include_str!("../../fixtures/desktop-2x-rtx-3090.tree"),
        include_str!("../../fixtures/raspberry-pi-5.tree"),
        include_str!("../../fixtures/ryzen-ai-max-395.tree"),
        include_str!("../../fixtures/snapdragon-x-elite.tree"),
        include_str!("../../fixtures/vm.tree"),
        "",
    ] {
        for change in first(tree) {
            let (is_known, why) = match &change {
                Change::Power { power, why } => (power.is_some(), why),
                Change::Heat { heat, why, .. } => (heat.is_some(), why),
                Change::Memory { memory, why, .. } => (memory.is_some(), why),
                other => panic!("{other:?}"),
            };
            assert_eq!(is_known, why.is_empty(), "{change:?}");
        }
    }
}

#[test]
fn the_thread_tells_and_ends() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let root = Root::real();
    let machine = probe::read(&root);
    let watcher = Watcher::start(&machine, root, move |change| {
        sink.lock().expect("is sound").push(change);
    });
    let watcher = watcher.expect("starts");
    let begin = Instant::now();
    while told.lock().expect("is sound").len() < 3 && begin.elapsed().as_secs() < 20 {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(watcher);
    let told = told.lock().expect("is sound");
    assert!(matches!(told[0], Change::Power { .. }), "{told:?}");
    assert!(begin.elapsed().as_secs() < 20, "{told:?}");
}
