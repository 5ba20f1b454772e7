//! The energy of devices while a server runs: of each step, and since any moment.
//!
//! [`DeviceMeters::work`] says that devices begin to work and [`Work::finish`] what they used; [`DeviceMeters::now`] and
//! [`DeviceMeters::since`] sum up all work of all devices. Energy counters of processors are read at both ends, which takes
//! microseconds. Everything slower (cards, batteries, logs) is read by a thread, and what it told is continued up to the
//! moment; see `clock.rs`. Whose energy it was, says `ledger.rs`.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use troika_base::Joules;

use super::clock::{Curve, Direct};
use super::cover::{self, Coverage};
use super::files::{Batteries, BatteryDrain};
use super::ledger::Ledger;
use super::log::LogGauge;
use super::nvml::Library;
use super::{EnergyBasis, Gauge, set};
use crate::model::{Machine, MeterKind};

/// Between two readings of cards, while they work.
const CARD_PERIOD: Duration = Duration::from_millis(100);
/// A card's reading that is older tells nothing.
const CARD_STALE: Duration = Duration::from_secs(1);
/// Cards are read for so long after their last work, so that steps in a row need not wait for them. Not for longer: some
/// cards stay awake while they are read.
const LINGER: Duration = Duration::from_secs(2);
/// Between two readings of what covers the whole machine: nothing of the kind is updated more often.
const SYSTEM_PERIOD: Duration = Duration::from_secs(1);
/// A reading of the whole machine that is older tells nothing.
const SYSTEM_STALE: Duration = Duration::from_secs(10);

/// What a meter told.
#[derive(Clone, Debug, PartialEq)]
pub enum Metered {
    /// It was seen by meters.
    Known {
        /// So much; never less than 0.
        joules: Joules,
        /// How that was found.
        basis: EnergyBasis,
    },
    /// There is no meter, or it failed meanwhile.
    Absent {
        /// Why.
        why: Arc<str>,
    },
}

impl Metered {
    /// The energy, if it is known.
    pub fn joules(&self) -> Option<Joules> {
        match self {
            Self::Known { joules, .. } => Some(*joules),
            Self::Absent { .. } => None,
        }
    }
}

/// What a device used over some time.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceEnergy {
    /// `gpu0`; `system` for the whole machine.
    pub device: String,
    /// While it worked; of the whole machine, all.
    pub metered: Metered,
}

/// A moment, to compare later ones with.
#[derive(Clone, Debug)]
pub struct Counters(Vec<Account>);

#[derive(Clone, Copy, Debug)]
struct Account {
    joules: f64,
    gaps: u64,
}

/// The meters of a machine's devices, open for as long as somebody asks.
#[derive(Debug)]
pub struct DeviceMeters {
    shared: Arc<Shared>,
    sampler: Option<JoinHandle<()>>,
    /// Of each device, and then of the machine.
    coverage: Vec<Coverage>,
}

impl DeviceMeters {
    /// Opens the meters of a machine; `external` is one for all of it, and is taken before its battery.
    ///
    /// Nothing fails: what has no meter is told by [`coverage`](Self::coverage).
    pub fn open(machine: &Machine, external: Option<LogGauge>) -> Self {
        let mut parts = Parts::open(machine);
        parts.system = match external {
            Some(log) => Some(("external meter".to_owned(), Box::new(log))),
            None => batteries(machine),
        };
        Self::of(parts)
    }

    fn of(parts: Parts) -> Self {
        let mut covered = vec![Vec::new(); parts.gauges.len()];
        for (device, found) in parts.devices.iter().enumerate() {
            for &gauge in &found.gauges {
                covered[gauge].push(device);
            }
        }
        let coverage = parts.coverage(&covered);
        let (mut clocks, mut slow) = (Vec::new(), Vec::new());
        for (_, speed, gauge) in parts.gauges {
            clocks.push(match speed {
                Speed::Fast => Clock::Direct(Direct::new(gauge)),
                Speed::Slow => {
                    slow.push((clocks.len(), Mutex::new(gauge)));
                    Clock::Curve(Curve::new(CARD_STALE))
                }
            });
        }
        let is_idle = slow.is_empty() && clocks.is_empty() && parts.system.is_none();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                clocks,
                ledger: Ledger::new(parts.devices.len(), covered),
                works: 0,
                last_work: None,
                system: System::new(),
                is_closed: false,
            }),
            changed: Condvar::new(),
            slow,
            system: parts.system.map(|(_, gauge)| Mutex::new(gauge)),
            devices: parts.devices,
        });
        let sampler = (!is_idle).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("troika-energy".to_owned())
                .spawn(move || shared.sample())
        });
        Self {
            shared,
            sampler: sampler.and_then(Result::ok),
            coverage,
        }
    }

    /// Which meters cover which device, in the order of the machine's devices; the last one is `system`.
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// Devices begin to work: `["gpu0"]`, or all that a step runs on. While they work, what their meters see is theirs.
    ///
    /// Takes microseconds, but for the first work after a rest of seconds: it waits for the reading of a card.
    pub fn work(&self, devices: &[&str]) -> Work {
        let mut numbers = Vec::new();
        let mut missing = None;
        for &name in devices {
            let found = self.shared.devices.iter().position(|d| d.name == name);
            match found {
                Some(number) if numbers.contains(&number) => {}
                Some(number) => numbers.push(number),
                None => missing = Some(format!("this machine has no {name}").into()),
            }
        }
        if numbers.is_empty() && missing.is_none() {
            missing = Some("it ran on no device".into());
        }
        for &number in &numbers {
            let device = &self.shared.devices[number];
            if device.gauges.is_empty() {
                missing.get_or_insert_with(|| format!("{}: {}", device.name, device.why).into());
            }
        }
        self.shared.wake(&numbers);
        let mut state = self.shared.lock();
        let failures = state.settle(&self.shared.gauges_of(&numbers), Instant::now());
        state.works += 1;
        let basis = self.shared.basis(&numbers);
        let id = state.ledger.begin(numbers);
        for (gauge, why) in failures {
            // Without a reading at its beginning, nothing is known of it in the end.
            if !state.is_running(gauge) {
                state.ledger.miss(gauge, &why);
            }
        }
        drop(state);
        self.shared.changed.notify_all();
        Work {
            shared: Arc::clone(&self.shared),
            id: Some(id),
            basis,
            missing,
        }
    }

    /// This moment, to be given to [`since`](Self::since).
    pub fn now(&self) -> Counters {
        let mut state = self.shared.lock();
        state.settle_all(Instant::now());
        Counters(self.shared.accounts(&state))
    }

    /// What each device used since a moment while it worked; the last one is `system`, which also counts while nothing works.
    pub fn since(&self, mark: &Counters) -> Vec<DeviceEnergy> {
        let mut state = self.shared.lock();
        state.settle_all(Instant::now());
        let accounts = self.shared.accounts(&state);
        let energy = |(i, (now, then)): (usize, (&Account, &Account))| {
            let coverage = &self.coverage[i];
            let metered = match coverage.basis {
                None => Metered::Absent {
                    why: (&*coverage.why).into(),
                },
                Some(_) if now.gaps != then.gaps => Metered::Absent {
                    why: self.shared.why(&state, i),
                },
                Some(basis) => Metered::Known {
                    joules: Joules((now.joules - then.joules).max(0.0)),
                    basis,
                },
            };
            DeviceEnergy {
                device: coverage.device.clone(),
                metered,
            }
        };
        let pairs = accounts.iter().zip(&mark.0).enumerate();
        pairs.map(energy).collect()
    }
}

impl Drop for DeviceMeters {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
        if let Some(sampler) = self.sampler.take() {
            // A gauge that panics has told so; there is nothing to add.
            let _ = sampler.join();
        }
    }
}

/// Devices that work. Dropped, the work ends and nobody is told what it took.
#[derive(Debug)]
pub struct Work {
    shared: Arc<Shared>,
    id: Option<u64>,
    basis: EnergyBasis,
    missing: Option<Arc<str>>,
}

impl Work {
    /// What the devices used for it, all together. If one of them has no meter, or one failed meanwhile, that is not known.
    pub fn finish(mut self) -> Metered {
        let ended = self.end();
        let missing = self.missing.take();
        match missing.or_else(|| ended.as_ref().and_then(|work| work.missing.clone())) {
            Some(why) => Metered::Absent { why },
            None => Metered::Known {
                joules: Joules(ended.map_or(0.0, |work| work.joules)),
                basis: self.basis,
            },
        }
    }

    fn end(&mut self) -> Option<super::ledger::WorkAccount> {
        let id = self.id.take()?;
        let mut state = self.shared.lock();
        let now = Instant::now();
        let gauges = state.ledger.devices_of(id);
        state.settle(&self.shared.gauges_of(&gauges), now);
        state.works -= 1;
        state.last_work = Some(now);
        state.ledger.end(id)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a meter is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speed {
    /// Whenever its energy is asked for.
    Fast,
    /// By the thread.
    Slow,
}

/// The meters that opened, and the devices.
struct Parts {
    gauges: Vec<(String, Speed, Box<dyn Gauge>)>,
    devices: Vec<Device>,
    system: Option<(String, Box<dyn Gauge>)>,
}

/// A device and its meters.
#[derive(Clone, Debug)]
struct Device {
    name: String,
    gauges: Vec<usize>,
    basis: EnergyBasis,
    why: String,
    remedy: String,
}

impl Parts {
    /// Opens for each device the first set of meters of which all open.
    fn open(machine: &Machine) -> Self {
        let mut nvml: Option<Library> = None;
        let mut parts = Self {
            gauges: Vec::new(),
            devices: Vec::new(),
            system: None,
        };
        // What was tried, by the meter's number in the machine: its number here, or why it did not open.
        let mut tried: Vec<Option<Result<usize, (String, String)>>> =
            vec![None; machine.meters.len()];
        for processor in &machine.processors {
            let (why, remedy) = cover::reason(machine, processor);
            let mut device = Device {
                name: processor.id.clone(),
                gauges: Vec::new(),
                basis: EnergyBasis::Counted,
                why,
                remedy,
            };
            let mut refusal = None;
            for set in cover::candidates(machine, processor) {
                let opened = set.iter().map(|&number| {
                    let tried = &mut tried[number];
                    let open = || parts.add(&machine.meters[number], &mut nvml);
                    tried.get_or_insert_with(open).clone()
                });
                match opened.collect::<Result<Vec<_>, _>>() {
                    Ok(gauges) => {
                        device.gauges = gauges;
                        break;
                    }
                    Err(why) => refusal = refusal.or(Some(why)),
                }
            }
            if let (true, Some((why, remedy))) = (device.gauges.is_empty(), refusal) {
                (device.why, device.remedy) = (why, remedy);
            }
            parts.devices.push(device);
        }
        parts.note_bases();
        parts
    }

    /// Opens a meter; the error is why it does not, and what would help.
    fn add(
        &mut self,
        meter: &crate::model::Meter,
        nvml: &mut Option<Library>,
    ) -> Result<usize, (String, String)> {
        let gauge = set::open(meter, nvml).map_err(|error| {
            let unknown = set::unknown(meter, &error);
            (unknown.why, unknown.remedy)
        })?;
        let speed = match meter.kind {
            MeterKind::Rapl => Speed::Fast,
            MeterKind::Nvml | MeterKind::Hwmon | MeterKind::Battery => Speed::Slow,
        };
        self.gauges.push((cover::name(meter), speed, gauge));
        Ok(self.gauges.len() - 1)
    }

    /// Asks each meter once how it tells energy.
    fn note_bases(&mut self) {
        let bases: Vec<EnergyBasis> = self
            .gauges
            .iter_mut()
            .map(|(_, _, gauge)| match gauge.read() {
                Ok(super::Reading::Watts(_)) => EnergyBasis::Sampled,
                Ok(super::Reading::Counter { .. }) | Err(_) => EnergyBasis::Counted,
            })
            .collect();
        for device in &mut self.devices {
            let is_sampled = |&gauge: &usize| bases[gauge] == EnergyBasis::Sampled;
            if device.gauges.iter().any(is_sampled) {
                device.basis = EnergyBasis::Sampled;
            }
        }
    }

    fn coverage(&self, covered: &[Vec<usize>]) -> Vec<Coverage> {
        let device = |(number, device): (usize, &Device)| {
            let has_meter = !device.gauges.is_empty();
            let mut shared: Vec<usize> = Vec::new();
            for &gauge in &device.gauges {
                shared.extend(covered[gauge].iter().filter(|&&other| other != number));
            }
            shared.sort_unstable();
            shared.dedup();
            let names = |gauge: &usize| self.gauges[*gauge].0.clone();
            Coverage {
                device: device.name.clone(),
                meters: device.gauges.iter().map(names).collect(),
                basis: has_meter.then_some(device.basis),
                shared_with: shared
                    .into_iter()
                    .map(|other| self.devices[other].name.clone())
                    .collect(),
                why: if has_meter {
                    String::new()
                } else {
                    device.why.clone()
                },
                remedy: if has_meter {
                    String::new()
                } else {
                    device.remedy.clone()
                },
            }
        };
        let mut coverage: Vec<_> = self.devices.iter().enumerate().map(device).collect();
        let has_system = self.system.is_some();
        let told = |text: &str| {
            if has_system {
                String::new()
            } else {
                text.to_owned()
            }
        };
        coverage.push(Coverage {
            device: "system".to_owned(),
            meters: self.system.iter().map(|(name, _)| name.clone()).collect(),
            basis: has_system.then_some(EnergyBasis::Sampled),
            shared_with: Vec::new(),
            why: told("there is neither a battery that tells watts nor an external meter"),
            remedy: told("give the file that a smart plug's program writes"),
        });
        coverage
    }
}

/// All batteries as one meter of the machine.
fn batteries(machine: &Machine) -> Option<(String, Box<dyn Gauge>)> {
    let batteries = machine
        .meters
        .iter()
        .filter(|meter| meter.kind == MeterKind::Battery);
    let open = |meter: &crate::model::Meter| BatteryDrain::open(&PathBuf::from(&meter.place));
    let gauges: Vec<_> = batteries.map(open).collect();
    (!gauges.is_empty()).then(|| ("battery".to_owned(), Box::new(Batteries(gauges)) as _))
}

/// What the thread and everybody else share. Slow meters have locks of their own, so that nobody waits for them.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Slow meters, each with its number among the clocks.
    slow: Vec<(usize, Mutex<Box<dyn Gauge>>)>,
    system: Option<Mutex<Box<dyn Gauge>>>,
    devices: Vec<Device>,
}

struct State {
    clocks: Vec<Clock>,
    ledger: Ledger,
    /// Works now.
    works: usize,
    last_work: Option<Instant>,
    system: System,
    is_closed: bool,
}

enum Clock {
    Direct(Direct),
    Curve(Curve),
}

/// The whole machine's account.
struct System {
    curve: Curve,
    joules: f64,
    gaps: u64,
    why: Arc<str>,
    next: Option<Instant>,
}

impl System {
    fn new() -> Self {
        Self {
            curve: Curve::new(SYSTEM_STALE),
            joules: 0.0,
            gaps: 0,
            why: "it was not read yet".into(),
            next: None,
        }
    }

    fn settle(&mut self, now: Instant) {
        match self.curve.advance(now) {
            Ok(joules) => self.joules += joules,
            Err(why) => {
                self.gaps += 1;
                self.why = why.into();
            }
        }
    }
}

impl State {
    /// Gives what meters saw until now to those who worked; returns those that told nothing, with the reason.
    fn settle(&mut self, gauges: &[usize], now: Instant) -> Vec<(usize, String)> {
        let mut failures = Vec::new();
        for &gauge in gauges {
            let rests = self.ledger.rests(gauge);
            let advanced = match &mut self.clocks[gauge] {
                Clock::Direct(clock) => {
                    if rests {
                        clock.rest(now);
                    }
                    clock.advance(now)
                }
                Clock::Curve(curve) => curve.advance(now),
            };
            match advanced {
                Ok(joules) => self.ledger.share(gauge, joules),
                Err(why) => {
                    self.ledger.miss(gauge, &why);
                    failures.push((gauge, why));
                }
            }
        }
        failures
    }

    fn settle_all(&mut self, now: Instant) {
        let busy: Vec<usize> = (0..self.clocks.len())
            .filter(|&gauge| !self.ledger.rests(gauge))
            .collect();
        self.settle(&busy, now);
        self.system.settle(now);
    }

    /// Whether cards are to be read: they work, or did so just now.
    fn is_awake(&self, now: Instant) -> bool {
        let lingers = |then| now.saturating_duration_since(then) < LINGER;
        self.works > 0 || self.last_work.is_some_and(lingers)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gauges_of(&self, devices: &[usize]) -> Vec<usize> {
        let mut gauges: Vec<usize> = devices
            .iter()
            .flat_map(|&device| self.devices[device].gauges.iter().copied())
            .collect();
        gauges.sort_unstable();
        gauges.dedup();
        gauges
    }

    fn basis(&self, devices: &[usize]) -> EnergyBasis {
        let is_sampled = |&device: &usize| self.devices[device].basis == EnergyBasis::Sampled;
        match devices.iter().any(is_sampled) {
            true => EnergyBasis::Sampled,
            false => EnergyBasis::Counted,
        }
    }

    fn accounts(&self, state: &State) -> Vec<Account> {
        let devices = (0..self.devices.len()).map(|device| state.ledger.account(device));
        let devices = devices.map(|account| Account {
            joules: account.joules,
            gaps: account.gaps,
        });
        let system = Account {
            joules: state.system.joules,
            gaps: state.system.gaps,
        };
        devices.chain([system]).collect()
    }

    /// Why something of a device's energy, or the system's, is missing.
    fn why(&self, state: &State, account: usize) -> Arc<str> {
        let why = match account < self.devices.len() {
            true => state.ledger.account(account).why.clone(),
            false => Some(Arc::clone(&state.system.why)),
        };
        why.unwrap_or_else(|| "it could not be read".into())
    }

    /// Reads the slow meters of devices that rested.
    fn wake(&self, devices: &[usize]) {
        let wanted = self.gauges_of(devices);
        for (clock, gauge) in &self.slow {
            if !wanted.contains(clock) || self.lock().is_running(*clock) {
                continue;
            }
            self.look(*clock, gauge);
        }
    }

    fn look(&self, clock: usize, gauge: &Mutex<Box<dyn Gauge>>) {
        let read = read(gauge);
        let mut state = self.lock();
        if let Clock::Curve(curve) = &mut state.clocks[clock] {
            curve.sample(Instant::now(), read);
        }
    }

    /// The thread's life.
    fn sample(&self) {
        loop {
            let now = Instant::now();
            let mut state = self.lock();
            if state.is_closed {
                return;
            }
            let is_awake = state.is_awake(now);
            let is_due = self.system.is_some() && state.system.next.is_none_or(|next| next <= now);
            if is_due {
                state.system.next = Some(now + SYSTEM_PERIOD);
            }
            if !is_awake {
                state.rest();
            }
            drop(state);
            if is_awake {
                for (clock, gauge) in &self.slow {
                    self.look(*clock, gauge);
                }
            }
            if let (true, Some(gauge)) = (is_due, &self.system) {
                let read = read(gauge);
                let mut state = self.lock();
                let now = Instant::now();
                state.system.curve.sample(now, read);
            }
            let mut state = self.lock();
            if is_awake {
                // Counters must not go round unseen under a long step.
                state.settle_all(Instant::now());
            }
            let pause = match (is_awake, state.system.next) {
                (true, _) => Some(CARD_PERIOD),
                (false, next) => next.map(|next| next.saturating_duration_since(Instant::now())),
            };
            if state.is_closed || (!is_awake && state.works > 0) {
                continue;
            }
            match pause {
                Some(pause) if is_awake => {
                    drop(state);
                    self.pause(pause);
                }
                Some(pause) => {
                    drop(self.changed.wait_timeout(state, pause));
                }
                None => drop(self.changed.wait(state)),
            }
        }
    }

    /// Waits, whatever begins meanwhile, unless all is over.
    fn pause(&self, pause: Duration) {
        let state = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(state, pause, |state| !state.is_closed);
        drop(waited);
    }
}

impl State {
    fn is_running(&self, clock: usize) -> bool {
        match &self.clocks[clock] {
            Clock::Direct(clock) => clock.is_running(),
            Clock::Curve(curve) => curve.is_running(),
        }
    }

    /// Nothing works, and nobody looks at cards.
    fn rest(&mut self) {
        for clock in &mut self.clocks {
            if let Clock::Curve(curve) = clock {
                curve.interrupt("it rests");
            }
        }
    }
}

fn read(gauge: &Mutex<Box<dyn Gauge>>) -> Result<super::Reading, super::MeterError> {
    gauge.lock().unwrap_or_else(PoisonError::into_inner).read()
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({:?})", self.devices)
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
