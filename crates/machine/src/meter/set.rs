//! All meters of a machine, looked at by one thread while somebody counts.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use troika_base::Joules;

use super::files::{BatteryDrain, Hwmon, Rapl};
use super::integrate::Integrator;
use super::nvml::Library;
use super::sampler::{Sampled, Sampler};
use super::{EnergyBasis, Gauge, MeterError, Reading};
use crate::model::{Found, Machine, Meter, MeterKind, Unknown};

/// Between two looks: short beside a request, and long beside what a look costs.
const PERIOD: Duration = Duration::from_millis(100);

/// What a meter saw during a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// What the meter covers: `package-0`, `gpu0`, `system`.
    pub covers: String,
    /// What was used.
    pub joules: Joules,
    /// In how many seconds.
    pub seconds: f64,
    /// How that was found.
    pub basis: EnergyBasis,
}

impl Energy {
    /// The mean power.
    pub fn watts(&self) -> f64 {
        self.joules.0 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// The meters that can be read. A thread looks at them while there are spans, and sleeps while there are none.
#[derive(Debug)]
pub struct MeterSet {
    shared: Arc<Shared>,
    /// Held for its thread's sake. Without it, spans are still read at both ends, which is all that counters need.
    _sampler: Option<Sampler<Shared>>,
    unreadable: Vec<Unknown>,
}

impl MeterSet {
    /// Opens the meters of a machine; those that do not open are told by [`unreadable`](Self::unreadable).
    pub fn open(machine: &Machine) -> Self {
        let mut nvml = None;
        let mut gauges = Vec::new();
        let mut unreadable = Vec::new();
        for meter in &machine.meters {
            match open(meter, &mut nvml) {
                Ok(gauge) => gauges.push((meter.covers.clone(), gauge)),
                Err(error) => unreadable.push(unknown(meter, &error)),
            }
        }
        let mut set = Self::of(gauges);
        set.unreadable = unreadable;
        set
    }

    /// Meters that were opened elsewhere, each with what it covers.
    pub fn of(gauges: Vec<(String, Box<dyn Gauge>)>) -> Self {
        let channels: Vec<_> = gauges
            .into_iter()
            .map(|(covers, gauge)| Channel {
                covers,
                gauge,
                sum: Integrator::default(),
                failures: 0,
            })
            .collect();
        let is_empty = channels.is_empty();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                channels,
                spans: 0,
                is_closed: false,
            }),
            changed: Condvar::new(),
        });
        let sampler = (!is_empty).then(|| Sampler::start("troika-meters", &shared));
        Self {
            shared,
            _sampler: sampler.and_then(Result::ok),
            unreadable: Vec::new(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shared.lock().channels.is_empty()
    }

    /// The meters that did not open, with the reason.
    pub fn unreadable(&self) -> &[Unknown] {
        &self.unreadable
    }

    /// Begins to count. Reads all meters, which takes microseconds for files, and up to some milliseconds for others.
    pub fn span(&self) -> Span {
        let mut state = self.shared.lock();
        let now = Instant::now();
        let goes_on = state.spans > 0;
        for channel in &mut state.channels {
            channel.look(now, goes_on);
        }
        state.spans += 1;
        let from = state.channels.iter().map(Channel::mark).collect();
        drop(state);
        self.shared.changed.notify_all();
        Span {
            shared: Arc::clone(&self.shared),
            started: now,
            from,
        }
    }
}

/// A time during which is counted. Dropped, it counts no more.
#[derive(Debug)]
pub struct Span {
    shared: Arc<Shared>,
    started: Instant,
    from: Vec<Mark>,
}

impl Span {
    /// What each meter saw since the span began. A meter that failed meanwhile is left out.
    pub fn finish(self) -> Vec<Energy> {
        let mut state = self.shared.lock();
        let now = Instant::now();
        let seconds = now.duration_since(self.started).as_secs_f64();
        let mut energies = Vec::new();
        for (channel, from) in state.channels.iter_mut().zip(&self.from) {
            channel.look(now, true);
            if from.is_known && channel.failures == from.failures {
                energies.push(Energy {
                    covers: channel.covers.clone(),
                    joules: Joules(channel.sum.joules() - from.joules),
                    seconds,
                    basis: channel.sum.basis(),
                });
            }
        }
        energies
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.shared.lock().spans -= 1;
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    channels: Vec<Channel>,
    /// Spans that count now.
    spans: usize,
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sampled for Shared {
    fn sample(&self) {
        let mut state = self.lock();
        while !state.is_closed {
            if state.spans == 0 {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.changed.wait_timeout(state, PERIOD);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.spans > 0 {
                let now = Instant::now();
                for channel in &mut state.channels {
                    channel.look(now, true);
                }
            }
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

/// One meter.
struct Channel {
    covers: String,
    gauge: Box<dyn Gauge>,
    sum: Integrator,
    /// Times that it could not be read.
    failures: u64,
}

/// Where a span begins.
#[derive(Clone, Copy, Debug)]
struct Mark {
    joules: f64,
    failures: u64,
    /// Whether the meter could be read then. One that comes back later saw a part of the span alone.
    is_known: bool,
}

impl Channel {
    /// Reads it, and adds what was used since the last look if somebody counted then.
    fn look(&mut self, now: Instant, goes_on: bool) {
        let read = self.gauge.read().and_then(|reading| {
            if goes_on {
                self.sum.add(now, reading)
            } else {
                self.sum.restart(now, reading);
                Ok(())
            }
        });
        if read.is_err() {
            self.failures += 1;
            self.sum.interrupt();
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            joules: self.sum.joules(),
            failures: self.failures,
            is_known: self.sum.is_running(),
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel({}, {:?})", self.covers, self.sum)
    }
}

/// Opens a meter and reads it once.
pub(super) fn open(
    meter: &Meter,
    nvml: &mut Option<Library>,
) -> Result<Box<dyn Gauge>, MeterError> {
    let place = Path::new(&meter.place);
    let mut gauge: Box<dyn Gauge> = match meter.kind {
        MeterKind::Rapl => Box::new(Rapl::open(place)),
        MeterKind::Hwmon => Box::new(Hwmon::open(place)),
        MeterKind::Battery => Box::new(BatteryDrain::open(place)),
        MeterKind::Nvml => {
            let library = match nvml {
                Some(library) => library,
                None => nvml.insert(Library::load()?),
            };
            Box::new(library.gauge(&meter.place)?)
        }
    };
    match gauge.read() {
        Err(error) if !error.is_passing() => Err(error),
        Ok(Reading::Counter { .. } | Reading::Watts(_)) | Err(_) => Ok(gauge),
    }
}

pub(super) fn unknown(meter: &Meter, error: &MeterError) -> Unknown {
    use std::error::Error as _;
    let why = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let remedy = match &meter.found {
        // Whoever looked for it may have known better.
        Found::Blocked { remedy, .. } if !remedy.is_empty() => remedy.clone(),
        _ => error.remedy(),
    };
    Unknown {
        what: format!("{}.watts", meter.covers),
        why,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Shows what the test sets, however often it is looked at; fails while nothing is set.
    #[derive(Clone, Default)]
    struct Dial(Arc<Mutex<Option<Reading>>>);

    impl Dial {
        fn set(&self, reading: Option<Reading>) {
            *self.0.lock().expect("is sound") = reading;
        }
    }

    impl Gauge for Dial {
        fn read(&mut self) -> Result<Reading, MeterError> {
            self.0.lock().expect("is sound").ok_or(MeterError::Reset)
        }
    }

    fn counter(joules: f64) -> Reading {
        Reading::Counter {
            joules,
            range: Some(100.0),
        }
    }

    fn meter(kind: MeterKind, place: &Path) -> Meter {
        Meter {
            kind,
            covers: "package-0".to_owned(),
            place: place.to_string_lossy().into_owned(),
            found: Found::Ready,
        }
    }

    #[test]
    fn spans_overlap_and_pauses_do_not_count() {
        let dial = Dial::default();
        let show = |joules| dial.set(Some(counter(joules)));
        show(10.0);
        let meters = MeterSet::of(vec![("package-0".to_owned(), Box::new(dial.clone()))]);
        let outer = meters.span();
        show(11.0);
        let inner = meters.span();
        show(14.0);
        assert_eq!(inner.finish()[0].joules, Joules(3.0));
        assert_eq!(outer.finish()[0].joules, Joules(4.0));
        show(99.0);
        let later = meters.span();
        // One round later.
        show(20.0);
        let energies = later.finish();
        assert_eq!(energies[0].joules, Joules(21.0));
        assert_eq!(energies[0].basis, EnergyBasis::Counted);
    }

    #[test]
    fn a_meter_that_fails_is_left_out_of_its_span_alone() {
        let (failing, working) = (Dial::default(), Dial::default());
        failing.set(Some(counter(1.0)));
        working.set(Some(counter(1.0)));
        let meters = MeterSet::of(vec![
            ("gpu0".to_owned(), Box::new(failing.clone())),
            ("package-0".to_owned(), Box::new(working.clone())),
        ]);
        let span = meters.span();
        failing.set(None);
        working.set(Some(counter(2.0)));
        let energies = span.finish();
        let covered: Vec<_> = energies.iter().map(|energy| &*energy.covers).collect();
        assert_eq!(covered, ["package-0"]);
        assert_eq!(energies[0].joules, Joules(1.0));
        // It comes back too late for this one.
        let late = meters.span();
        failing.set(Some(counter(50.0)));
        assert_eq!(late.finish().len(), 1);
        let span = meters.span();
        failing.set(Some(counter(51.0)));
        assert_eq!(span.finish()[0].joules, Joules(1.0));
    }

    #[test]
    fn power_is_looked_at_meanwhile() {
        struct Steady(Arc<Mutex<u32>>);
        impl Gauge for Steady {
            fn read(&mut self) -> Result<Reading, MeterError> {
                *self.0.lock().expect("is sound") += 1;
                Ok(Reading::Watts(40.0))
            }
        }
        let looks = Arc::new(Mutex::new(0));
        let gauge: Box<dyn Gauge> = Box::new(Steady(Arc::clone(&looks)));
        let meters = MeterSet::of(vec![("gpu0".to_owned(), gauge)]);
        let span = meters.span();
        std::thread::sleep(PERIOD * 3);
        let energies = span.finish();
        assert!((energies[0].watts() - 40.0).abs() < 1e-6, "{energies:?}");
        assert_eq!(energies[0].basis, EnergyBasis::Sampled);
        let while_counting = *looks.lock().expect("is sound");
        assert!(while_counting > 2, "{while_counting} looks");
        std::thread::sleep(PERIOD * 2);
        let after = *looks.lock().expect("is sound");
        assert_eq!(after, while_counting, "nobody counts, nobody looks");
    }

    #[test]
    fn meters_of_a_machine_open_or_say_why_not() {
        let zone = tempfile::tempdir().expect("a place for files");
        fs::write(zone.path().join("energy_uj"), "5000000").expect("writes");
        fs::write(zone.path().join("max_energy_range_uj"), "9000000").expect("writes");
        let mut nvml = None;
        assert!(open(&meter(MeterKind::Rapl, zone.path()), &mut nvml).is_ok());
        let gone = meter(MeterKind::Hwmon, &zone.path().join("power1_input"));
        let Err(error) = open(&gone, &mut nvml) else {
            panic!("there is no such file");
        };
        let told = unknown(&gone, &error);
        assert_eq!(told.what, "package-0.watts");
        assert!(told.why.contains("power1_input"), "{told:?}");
        // On mains now, on battery later.
        fs::write(zone.path().join("status"), "Charging").expect("writes");
        assert!(open(&meter(MeterKind::Battery, zone.path()), &mut nvml).is_ok());
    }
}
