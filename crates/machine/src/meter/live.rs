//! What the thread that reads meters shares with those who ask for energy.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::{Curve, Direct};
use super::ledger::Ledger;
use super::parts::{Device, Parts, Speed};
use super::sampler::Sampled;
use super::{EnergyBasis, Gauge, MeterError, Reading};

/// Between two readings of cards, while they work.
const CARD_PERIOD: Duration = Duration::from_millis(100);
/// A card's reading that is older tells nothing.
const CARD_STALE: Duration = Duration::from_secs(1);
/// Cards are read for so long after their last work, so that steps in a row need not wait for them. Not for longer: some
/// cards stay awake while they are read.
const LINGER: Duration = Duration::from_secs(2);
/// Between two readings of what covers the whole machine: nothing of the kind is updated more often.
pub(super) const SYSTEM_PERIOD: Duration = Duration::from_secs(1);
/// A reading of the whole machine that is older tells nothing.
const SYSTEM_STALE: Duration = Duration::from_secs(10);

/// What a device, or the machine, used so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) joules: f64,
    pub(super) gaps: u64,
}

/// What the thread and everybody else share. Slow meters have locks of their own, so that nobody waits for them.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Condvar,
    /// Slow meters, each with its number among the clocks.
    slow: Vec<(usize, Mutex<Box<dyn Gauge>>)>,
    system: Option<Mutex<Box<dyn Gauge>>>,
    pub(super) devices: Vec<Device>,
}

pub(super) struct State {
    clocks: Vec<Clock>,
    pub(super) ledger: Ledger,
    /// When each meter's devices last began or ended a work.
    last_work: Vec<Option<Instant>>,
    system: System,
    pub(super) is_closed: bool,
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
}

impl System {
    fn new() -> Self {
        Self {
            curve: Curve::new(SYSTEM_STALE),
            joules: 0.0,
            gaps: 0,
            why: "it was not read yet".into(),
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
    pub(super) fn settle(&mut self, gauges: &[usize], now: Instant) -> Vec<(usize, String)> {
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

    pub(super) fn settle_all(&mut self, now: Instant) {
        let busy: Vec<usize> = (0..self.clocks.len())
            .filter(|&gauge| !self.ledger.rests(gauge))
            .collect();
        self.settle(&busy, now);
        self.system.settle(now);
    }

    /// Whether a meter is to be read: its devices work, or did so just now.
    fn is_awake(&self, gauge: usize, now: Instant) -> bool {
        let lingers = |then| now.saturating_duration_since(then) < LINGER;
        !self.ledger.rests(gauge) || self.last_work[gauge].is_some_and(lingers)
    }

    /// Works begin or end on what these meters cover. Returns whether one of them rested: then the thread is to be woken.
    pub(super) fn touch(&mut self, gauges: &[usize], now: Instant) -> bool {
        let rested = gauges.iter().any(|&gauge| !self.is_awake(gauge, now));
        for &gauge in gauges {
            self.last_work[gauge] = Some(now);
        }
        rested
    }
}

impl Shared {
    /// `covered`: the devices of each meter.
    pub(super) fn new(parts: Parts, covered: Vec<Vec<usize>>) -> Self {
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
        Self {
            state: Mutex::new(State {
                last_work: vec![None; clocks.len()],
                clocks,
                ledger: Ledger::new(parts.devices.len(), covered),
                system: System::new(),
                is_closed: false,
            }),
            changed: Condvar::new(),
            slow,
            system: parts.system.map(|(_, gauge)| Mutex::new(gauge)),
            devices: parts.devices,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gauges_of(&self, devices: &[usize]) -> Vec<usize> {
        let mut gauges: Vec<usize> = devices
            .iter()
            .flat_map(|&device| self.devices[device].gauges.iter().copied())
            .collect();
        gauges.sort_unstable();
        gauges.dedup();
        gauges
    }

    pub(super) fn basis(&self, devices: &[usize]) -> EnergyBasis {
        let is_sampled = |&device: &usize| self.devices[device].basis == EnergyBasis::Sampled;
        match devices.iter().any(is_sampled) {
            true => EnergyBasis::Sampled,
            false => EnergyBasis::Counted,
        }
    }

    pub(super) fn accounts(&self, state: &State) -> Vec<Account> {
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
    pub(super) fn why(&self, state: &State, account: usize) -> Arc<str> {
        let why = match account < self.devices.len() {
            true => state.ledger.account(account).why.clone(),
            false => Some(Arc::clone(&state.system.why)),
        };
        why.unwrap_or_else(|| "it could not be read".into())
    }

    /// Reads the slow meters of devices that rested.
    pub(super) fn wake(&self, devices: &[usize]) {
        let wanted = self.gauges_of(devices);
        for (clock, gauge) in &self.slow {
            if !wanted.contains(clock) {
                continue;
            }
            let mut state = self.lock();
            // From now on the thread reads it as well.
            if state.touch(&[*clock], Instant::now()) {
                self.changed.notify_all();
            }
            let is_running = state.is_running(*clock);
            drop(state);
            if !is_running {
                self.look(*clock, gauge);
            }
        }
    }

    fn look(&self, clock: usize, gauge: &Mutex<Box<dyn Gauge>>) {
        let read = read(gauge);
        let mut state = self.lock();
        if let Clock::Curve(curve) = &mut state.clocks[clock] {
            curve.sample(Instant::now(), read);
        }
    }

    /// Waits for so long, or else for the next work. Who is awake is not woken by more work.
    fn pause(&self, pause: Option<Duration>, is_awake: bool) {
        let state = self.lock();
        let now = Instant::now();
        let sleeps = |state: &mut State| {
            let works = (0..state.clocks.len()).any(|gauge| state.is_awake(gauge, now));
            !state.is_closed && (is_awake || !works)
        };
        match pause {
            Some(pause) => drop(self.changed.wait_timeout_while(state, pause, sleeps)),
            None => drop(self.changed.wait_while(state, sleeps)),
        }
    }
}

impl Sampled for Shared {
    fn sample(&self) {
        let mut system_next = Instant::now();
        loop {
            let now = Instant::now();
            let mut state = self.lock();
            if state.is_closed {
                return;
            }
            let awake: Vec<bool> = (0..state.clocks.len())
                .map(|gauge| state.is_awake(gauge, now))
                .collect();
            state.rest(&awake);
            drop(state);
            for (clock, gauge) in &self.slow {
                if awake[*clock] {
                    self.look(*clock, gauge);
                }
            }
            if let (true, Some(gauge)) = (system_next <= now, &self.system) {
                let read = read(gauge);
                self.lock().system.curve.sample(Instant::now(), read);
                system_next = now + SYSTEM_PERIOD;
            }
            let is_awake = awake.contains(&true);
            if is_awake {
                // Counters must not go round unseen under a long step.
                self.lock().settle_all(Instant::now());
            }
            let pause = match (is_awake, &self.system) {
                (true, _) => Some(CARD_PERIOD),
                (false, Some(_)) => Some(system_next.saturating_duration_since(now)),
                (false, None) => None,
            };
            self.pause(pause, is_awake);
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

impl State {
    pub(super) fn is_running(&self, clock: usize) -> bool {
        match &self.clocks[clock] {
            Clock::Direct(clock) => clock.is_running(),
            Clock::Curve(curve) => curve.is_running(),
        }
    }

    /// Nobody looks at meters whose devices rest.
    fn rest(&mut self, awake: &[bool]) {
        for (clock, is_awake) in self.clocks.iter_mut().zip(awake) {
            if let (Clock::Curve(curve), false) = (clock, is_awake) {
                curve.interrupt("it rests");
            }
        }
    }
}

fn read(gauge: &Mutex<Box<dyn Gauge>>) -> Result<Reading, MeterError> {
    gauge.lock().unwrap_or_else(PoisonError::into_inner).read()
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({:?})", self.devices)
    }
}
