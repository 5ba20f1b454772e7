//! The energy of devices while a server runs: of each step, and since any moment.
//!
//! [`DeviceMeters::work`] says that devices begin to work and [`Work::finish`] what they used; [`DeviceMeters::now`] and
//! [`DeviceMeters::since`] sum up all work of all devices. Energy counters of processors are read at both ends, which takes
//! microseconds. Everything slower (cards, batteries, logs) is read by a thread, and what it told is continued up to the
//! moment; see `clock.rs`. Whose energy it was, says `ledger.rs`.

use std::sync::Arc;
use std::time::Instant;

use troika_base::Joules;

use super::EnergyBasis;
use super::cover::Coverage;
use super::live::{Account, Shared};
use super::log::LogGauge;
use super::parts::{self, Parts};
use super::sampler::Sampler;
use crate::model::Machine;

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

/// The meters of a machine's devices, open for as long as somebody asks.
#[derive(Debug)]
pub struct DeviceMeters {
    shared: Arc<Shared>,
    /// Held for its thread's sake.
    _sampler: Option<Sampler<Shared>>,
    /// Of each device, and then of the machine.
    coverage: Vec<Coverage>,
}

impl DeviceMeters {
    /// Opens the meters of a machine; `external` is one for all of it, and is taken before its battery.
    ///
    /// Nothing fails: what has no meter is told by [`coverage`](Self::coverage).
    pub fn open(machine: &Machine, external: Option<LogGauge>) -> Self {
        let mut opened = Parts::open(machine);
        opened.system = match external {
            Some(log) => Some(("external meter".to_owned(), Box::new(log))),
            None => parts::batteries(machine),
        };
        Self::of(opened)
    }

    fn of(parts: Parts) -> Self {
        let mut covered = vec![Vec::new(); parts.gauges.len()];
        for (device, found) in parts.devices.iter().enumerate() {
            for &gauge in &found.gauges {
                covered[gauge].push(device);
            }
        }
        let coverage = parts.coverage(&covered);
        let is_idle = parts.gauges.is_empty() && parts.system.is_none();
        let shared = Arc::new(Shared::new(parts, covered));
        let sampler = (!is_idle).then(|| Sampler::start("troika-energy", &shared));
        Self {
            shared,
            _sampler: sampler.and_then(Result::ok),
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
        let (gauges, now) = (self.shared.gauges_of(&numbers), Instant::now());
        let failures = state.settle(&gauges, now);
        if state.touch(&gauges, now) {
            self.shared.changed.notify_all();
        }
        let basis = self.shared.basis(&numbers);
        let id = state.ledger.begin(numbers);
        for (gauge, why) in failures {
            // Without a reading at its beginning, nothing is known of it in the end.
            if !state.is_running(gauge) {
                state.ledger.miss(gauge, &why);
            }
        }
        drop(state);
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
        let gauges = self.shared.gauges_of(&state.ledger.devices_of(id));
        state.settle(&gauges, now);
        state.touch(&gauges, now);
        state.ledger.end(id)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
