//! Meters that show what the test sets.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use super::super::live::SYSTEM_PERIOD;
use super::super::parts::{Device, Speed};
use super::super::{Gauge, MeterError, Reading};
use super::*;
use crate::model::MeterKind;

/// A meter that the test sets; fails while nothing is set, and may be slow.
#[derive(Clone, Default)]
struct Dial(Arc<Mutex<Option<Reading>>>, Duration);

impl Dial {
    fn set(&self, reading: Option<Reading>) {
        *self.0.lock().expect("is sound") = reading;
    }

    fn count(&self, joules: f64) {
        self.set(Some(Reading::Counter {
            joules,
            range: Some(1000.0),
        }));
    }
}

impl Gauge for Dial {
    fn read(&mut self) -> Result<Reading, MeterError> {
        std::thread::sleep(self.1);
        self.0.lock().expect("is sound").ok_or(MeterError::Reset)
    }
}

fn device(name: &str, gauges: &[usize]) -> Device {
    Device {
        name: name.to_owned(),
        gauges: gauges.to_vec(),
        basis: EnergyBasis::Counted,
        why: "there is none".to_owned(),
        remedy: String::new(),
    }
}

/// A package of `cpu0` and `gpu0`, a card `gpu1`, and `npu0` without a meter.
fn meters(package: &Dial, card: &Dial, system: Option<&Dial>) -> DeviceMeters {
    let mut parts = Parts {
        gauges: vec![
            (
                "rapl package-0".to_owned(),
                Speed::Fast,
                Box::new(package.clone()),
            ),
            ("nvml gpu1".to_owned(), Speed::Slow, Box::new(card.clone())),
        ],
        devices: vec![
            device("cpu0", &[0]),
            device("gpu0", &[0]),
            device("gpu1", &[1]),
            device("npu0", &[]),
        ],
        system: system.map(|dial| ("external meter".to_owned(), Box::new(dial.clone()) as _)),
    };
    parts.note_bases();
    DeviceMeters::of(parts)
}

fn joules(metered: &Metered) -> f64 {
    metered.joules().expect("is known").0
}

fn why(metered: &Metered) -> &str {
    match metered {
        Metered::Absent { why } => why,
        Metered::Known { joules, .. } => panic!("{joules:?}"),
    }
}

#[test]
fn steps_of_a_package_are_counted_and_divided() {
    let (package, card) = (Dial::default(), Dial::default());
    package.count(990.0);
    let meters = meters(&package, &card, None);
    let mark = meters.now();
    package.count(992.0);
    let step = meters.work(&["cpu0"]);
    package.count(995.0);
    let beside = meters.work(&["gpu0"]);
    // The counter goes round.
    package.count(5.0);
    assert_eq!(joules(&step.finish()), 8.0);
    package.count(6.0);
    let beside = beside.finish();
    let want = Metered::Known {
        joules: Joules(6.0),
        basis: EnergyBasis::Counted,
    };
    assert_eq!(beside, want);
    package.count(300.0);
    let since = meters.since(&mark);
    let names: Vec<_> = since.iter().map(|energy| &*energy.device).collect();
    assert_eq!(names, ["cpu0", "gpu0", "gpu1", "npu0", "system"]);
    let told: Vec<_> = since.iter().map(|energy| energy.metered.joules()).collect();
    let want = [Some(8.0), Some(6.0), Some(0.0), None, None].map(|joules| joules.map(Joules));
    assert_eq!(told, want, "the rest is nobody's");
}

#[test]
fn what_is_not_metered_says_why() {
    let (package, card) = (Dial::default(), Dial::default());
    package.count(1.0);
    let meters = meters(&package, &card, None);
    assert_eq!(why(&meters.work(&["npu0"]).finish()), "npu0: there is none");
    let both = meters.work(&["npu0", "cpu0"]).finish();
    assert_eq!(why(&both), "npu0: there is none");
    assert!(why(&meters.work(&["gpu9"]).finish()).contains("no gpu9"));
    assert!(why(&meters.work(&[]).finish()).contains("no device"));
    let coverage = meters.coverage();
    assert_eq!(coverage[0].shared_with, ["gpu0"]);
    assert_eq!(coverage[2].meters, ["nvml gpu1"]);
    assert_eq!(
        (coverage[3].basis, &*coverage[3].why),
        (None, "there is none")
    );
    assert_eq!(coverage[4].device, "system");
}

#[test]
fn a_meter_that_vanishes_is_absent_until_it_is_back() {
    let (package, card) = (Dial::default(), Dial::default());
    package.count(1.0);
    let meters = meters(&package, &card, None);
    let mark = meters.now();
    let step = meters.work(&["cpu0"]);
    package.set(None);
    assert!(why(&step.finish()).contains("set back"));
    let step = meters.work(&["cpu0"]);
    package.count(50.0);
    // It came back during the step, and had not been read when that began.
    assert!(step.finish().joules().is_none());
    let step = meters.work(&["cpu0"]);
    package.count(52.0);
    assert_eq!(joules(&step.finish()), 2.0);
    // Backwards, and not by going round.
    let step = meters.work(&["cpu0"]);
    package.count(51.0);
    let told = step.finish();
    assert!(
        told.joules().is_none_or(|joules| joules.0 >= 0.0),
        "{told:?}"
    );
    assert!(meters.since(&mark)[0].metered.joules().is_none());
    // Work that is given up does not stay.
    drop(meters.work(&["cpu0"]));
    package.count(80.0);
    let mark = meters.now();
    package.count(90.0);
    assert_eq!(meters.since(&mark)[0].metered.joules(), Some(Joules(0.0)));
}

#[test]
fn slow_meters_hold_up_the_first_step_alone() {
    let package = Dial::default();
    let card = Dial(Arc::default(), Duration::from_millis(20));
    package.count(1.0);
    card.set(Some(Reading::Watts(100.0)));
    let meters = meters(&package, &card, None);
    let mark = meters.now();
    drop(meters.work(&["gpu1"]));
    let mut sum = 0.0;
    let begin = Instant::now();
    for _ in 0..20 {
        let step = meters.work(&["gpu1"]);
        std::thread::sleep(Duration::from_millis(10));
        let metered = step.finish();
        let Metered::Known { joules, basis } = metered else {
            panic!("{metered:?}");
        };
        assert_eq!(basis, EnergyBasis::Sampled);
        sum += joules.0;
    }
    let seconds = begin.elapsed().as_secs_f64();
    // 100 W, less what passed between the steps.
    assert!(sum <= 100.0 * seconds + 0.5, "{sum} J in {seconds} s");
    assert!(sum > 15.0, "{sum} J in {seconds} s");
    let told = joules(&meters.since(&mark)[2].metered);
    assert!((told - sum).abs() < 1.5, "{told} against {sum}");
}

#[test]
fn the_whole_machine_counts_always() {
    let (package, card, plug) = (Dial::default(), Dial::default(), Dial::default());
    package.count(1.0);
    plug.set(Some(Reading::Watts(50.0)));
    let meters = meters(&package, &card, Some(&plug));
    std::thread::sleep(Duration::from_millis(100));
    let mark = meters.now();
    std::thread::sleep(Duration::from_millis(200));
    let since = meters.since(&mark);
    let system = since.last().expect("is there");
    let told = joules(&system.metered);
    assert!((9.0..30.0).contains(&told), "{told} J");
    // It gives up, and that is not bridged.
    let mark = meters.now();
    plug.set(None);
    std::thread::sleep(SYSTEM_PERIOD + Duration::from_millis(300));
    let since = meters.since(&mark);
    assert!(why(&since.last().expect("is there").metered).contains("set back"));
}

#[test]
fn a_machine_s_meters_open_or_say_why_not() {
    let tree = include_str!("../../../fixtures/ryzen-ai-hx-370.tree");
    let mut machine = crate::probe::read(&crate::probe::Root::recorded(tree));
    let directory = tempfile::tempdir().expect("a place for files");
    let zone = directory.path().join("energy_uj");
    let power = directory.path().join("power1_average");
    for meter in &mut machine.meters {
        meter.place = match meter.kind {
            MeterKind::Rapl => zone.to_string_lossy().into_owned(),
            _ => power.to_string_lossy().into_owned(),
        };
    }
    fs::write(&power, "20000000").expect("writes");
    // No counter, but the power of all of it as the graphics tell it.
    let meters = DeviceMeters::open(&machine, None);
    for coverage in &meters.coverage()[..3] {
        assert_eq!(coverage.meters, ["hwmon gpu0"], "{coverage:?}");
        assert_eq!(coverage.basis, Some(EnergyBasis::Sampled));
        assert_eq!(coverage.shared_with.len(), 2);
    }
    drop(meters);
    fs::write(&zone, "7000000").expect("writes");
    let meters = DeviceMeters::open(&machine, None);
    for coverage in &meters.coverage()[..3] {
        assert_eq!(coverage.meters, ["rapl package-0"], "{coverage:?}");
    }
    fs::remove_file(&zone).expect("is there");
    fs::remove_file(&power).expect("is there");
    let meters = DeviceMeters::open(&machine, None);
    let coverage = &meters.coverage()[0];
    assert_eq!(coverage.basis, None);
    assert!(coverage.why.contains("energy_uj"), "{coverage:?}");
}

/// Not a benchmark: a step's readings must not be felt, and are far below this on any disk.
#[test]
fn a_step_s_readings_are_cheap() {
    let zone = tempfile::tempdir().expect("a place for files");
    fs::write(zone.path().join("energy_uj"), "1000000").expect("writes");
    let gauge = super::super::files::Rapl::open(zone.path());
    let card = Dial(Arc::default(), Duration::from_millis(5));
    card.set(Some(Reading::Watts(100.0)));
    let parts = Parts {
        gauges: vec![
            ("rapl package-0".to_owned(), Speed::Fast, Box::new(gauge)),
            ("nvml gpu0".to_owned(), Speed::Slow, Box::new(card)),
        ],
        devices: vec![device("cpu0", &[0]), device("gpu0", &[1])],
        system: None,
    };
    let meters = DeviceMeters::of(parts);
    drop(meters.work(&["gpu0", "cpu0"]));
    let begin = Instant::now();
    const STEPS: u32 = 2000;
    for _ in 0..STEPS {
        drop(meters.work(&["gpu0", "cpu0"]));
    }
    let each = begin.elapsed() / STEPS;
    assert!(each < Duration::from_micros(500), "{each:?}");
}
