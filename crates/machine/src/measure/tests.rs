//! A measurement from its beginning to the profile.

use troika_base::{DeviceKind, DeviceProfile, Joules, NumberFormat, Unit};
use troika_kernels::Kernels;

use super::*;
use crate::meter::{EnergyBasis, Gauge, MeterError, Reading};
use crate::model::{Cache, Cpu, Found, MemoryFacts, Processor};

/// A machine of two devices, small enough to be measured in no time.
pub(crate) fn machine() -> Machine {
    let processor = |id: &str, kind| Processor {
        id: id.to_owned(),
        profile: DeviceProfile::unknown(id, kind),
        driver: None,
        pci_id: None,
        bus_address: None,
        found: Found::Ready,
    };
    let cache = |level, bytes, count| Cache {
        level,
        kind: "unified".to_owned(),
        bytes,
        count,
    };
    Machine {
        version: Machine::VERSION,
        system: "Linux".to_owned(),
        product: None,
        cpu: Cpu {
            model: Some("a processor".to_owned()),
            vendor: Some("AuthenticAMD".to_owned()),
            architecture: "x86_64".to_owned(),
            packages: 1,
            cores: Vec::new(),
            caches: vec![
                cache(1, 32 << 10, 2),
                cache(2, 1 << 20, 2),
                cache(3, 8 << 20, 1),
            ],
            features: Vec::new(),
            virtual_machine: None,
        },
        memory: MemoryFacts {
            total_bytes: 1 << 30,
            // A quarter is read: enough for the caches above, and soon done.
            available_bytes: Some(256 << 20),
            channels: None,
            kind: None,
            mega_transfers: None,
        },
        processors: vec![
            processor("cpu0", DeviceKind::Cpu),
            processor("gpu0", DeviceKind::Gpu),
        ],
        power_source: None,
        batteries: Vec::new(),
        meters: Vec::new(),
        unknown: Vec::new(),
        measurements: Vec::new(),
    }
}

struct Steady(f64);

impl Gauge for Steady {
    fn read(&mut self) -> Result<Reading, MeterError> {
        Ok(Reading::Watts(self.0))
    }
}

fn meters(watts: &[(&str, f64)]) -> MeterSet {
    let gauges = watts.iter().map(|&(covers, watts)| {
        let gauge: Box<dyn Gauge> = Box::new(Steady(watts));
        (covers.to_owned(), gauge)
    });
    MeterSet::of(gauges.collect())
}

/// Two threads of the simplest kernels, for a moment.
fn run(machine: &mut Machine, meters: &MeterSet, watch: &mut Watch<'_>) -> Result<(), Stopped> {
    let kernels = Kernels::from_env().expect("no set is forced");
    let seen = machine.clone();
    let cpu = CpuTest::new(&seen, kernels, 2);
    measure(machine, &[&cpu], meters, Duration::from_millis(300), watch)
}

#[test]
fn all_is_measured_and_reaches_the_profile() {
    let mut machine = machine();
    let meters = meters(&[("package-0", 10.0), ("package-1", 5.0), ("system", 40.0)]);
    let mut last = 0.0;
    let mut seen = Vec::new();
    let mut watch = |done: f64, what: &str| {
        assert!((last..=1.0).contains(&done), "{last} {done}");
        last = done;
        if seen.last().is_none_or(|last| last != what) {
            seen.push(what.to_owned());
        }
        ControlFlow::Continue(())
    };
    run(&mut machine, &meters, &mut watch).expect("nobody stops it");
    assert_eq!(seen.first().map(String::as_str), Some("at rest"));

    let count = |quantity| {
        let all = machine.measurements.iter();
        all.filter(|measured| measured.quantity == quantity).count()
    };
    assert_eq!(count(Quantity::ReadGbs), 2, "one thread, and two");
    assert_eq!(count(Quantity::CacheGbs), 2, "L2 and L3");
    assert_eq!(count(Quantity::IdleW), 2, "cpu0 and the system");
    assert_eq!(count(Quantity::BusyW), 4, "at two kinds of work");
    let profile = &machine.processors[0].profile;
    assert!(profile.bandwidth_measured_gbs.is_some_and(|gbs| gbs > 0.0));
    assert!(profile.launch_us.is_some_and(|us| us > 0.0));
    assert!((profile.watts_idle.expect("is known") - 15.0).abs() < 1e-6);
    assert!((profile.watts_busy.expect("is known") - 15.0).abs() < 1e-6);
    let fp32 = profile.dense_tops(Unit::Vector, NumberFormat::Fp32);
    assert!(fp32.is_some_and(|tops| tops > 0.0));
    assert_eq!(machine.processors[1].profile.bandwidth_measured_gbs, None);

    // Again, without growing.
    let before = machine.measurements.len();
    run(&mut machine, &meters, &mut |_, _| ControlFlow::Continue(())).expect("nobody stops it");
    assert_eq!(machine.measurements.len(), before);
}

#[test]
fn stopping_leaves_all_as_it_was() {
    for stop_at in [
        "at rest",
        "clock",
        "launch",
        "F32 on 1 threads",
        "reading L2",
    ] {
        let mut machine = machine();
        let mut watch = |_: f64, what: &str| match what == stop_at {
            true => ControlFlow::Break(Stopped),
            false => ControlFlow::Continue(()),
        };
        let ended = run(&mut machine, &meters(&[("system", 1.0)]), &mut watch);
        assert_eq!(ended, Err(Stopped), "{stop_at}");
        assert_eq!(machine, self::machine(), "{stop_at}");
    }
}

#[test]
fn what_cannot_be_measured_is_told() {
    let mut machine = machine();
    machine.memory.available_bytes = Some(1 << 20);
    run(&mut machine, &meters(&[]), &mut |_, _| {
        ControlFlow::Continue(())
    })
    .expect("nobody stops it");
    let told: Vec<_> = machine
        .unknown
        .iter()
        .map(|unknown| &*unknown.what)
        .collect();
    assert_eq!(told, ["watts", "cpu0.bandwidth_measured_gbs"]);
    assert_eq!(machine.processors[0].profile.bandwidth_measured_gbs, None);
    assert_eq!(machine.processors[0].profile.watts_idle, None);
}

#[test]
fn measurements_outlive_a_new_look_at_the_same_machine() {
    let mut measured = machine();
    let speeds = [("cpu0", 50.0), ("gpu0", 900.0)];
    measured.record(Findings {
        measurements: speeds
            .iter()
            .filter_map(|&(id, gbs)| Measurement::of_samples(id, Quantity::ReadGbs, vec![gbs]))
            .collect(),
        unknown: Vec::new(),
    });
    let mut looked_at = machine();
    looked_at.processors[1].profile.name = "another card".to_owned();
    looked_at.keep_measurements(&measured);
    let gbs =
        |machine: &Machine, index: usize| machine.processors[index].profile.bandwidth_measured_gbs;
    assert_eq!((gbs(&looked_at, 0), gbs(&looked_at, 1)), (Some(50.0), None));
    let mut other = machine();
    other.cpu.model = Some("another processor".to_owned());
    other.keep_measurements(&measured);
    assert!(other.measurements.is_empty());
}

#[test]
fn packages_are_one_processor() {
    let energy = |covers: &str, joules| Energy {
        covers: covers.to_owned(),
        joules: Joules(joules),
        seconds: 2.0,
        basis: EnergyBasis::Counted,
    };
    let energies = [
        energy("package-0", 20.0),
        energy("gpu0", 100.0),
        energy("package-1", 40.0),
    ];
    let want = [("cpu0".to_owned(), 30.0), ("gpu0".to_owned(), 50.0)];
    assert_eq!(watts_by_device(&energies), want);
}
