//! What is around the devices: meters, power, heat, memory of other programs, and the day's energy.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use troika_base::{Bytes, Joules};
use troika_machine::Machine;
use troika_machine::meter::{Counters, DeviceMeters, EnergyDay, Metered};
use troika_machine::watch;
use troika_scheduler::{DeviceView, Event, Heat, Power};

use super::models::lock;
use super::spills::Spills;

/// What a [`Host`](super::Host) is told of the machine around its devices. By default nothing: nothing is watched, all joules
/// are estimated, and nothing is kept for the next start.
#[derive(Clone, Default)]
pub struct Around {
    /// The machine whose power, heat and memory are watched. Not that of devices that are not there.
    pub machine: Option<Machine>,
    /// What tells the joules of its devices' steps.
    pub meters: Option<Arc<DeviceMeters>>,
    /// `TROIKA_HOME`, which keeps what was spent today and what was cached.
    pub home: Option<PathBuf>,
    /// Memory for the cached prefixes of models that are away; 0 keeps none, neither here nor in files.
    pub prefixes: Bytes,
    /// Whether they may be kept in files below `home`, too, where memory is short.
    pub prefix_files: bool,
    /// Memory beyond the pool `ram` that other programs may take before the pool has less.
    pub spare: Bytes,
    /// The machine that the devices pose as; `None` if they are real.
    pub posing: Option<String>,
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Around({:?}, {:?})", self.posing, self.home)
    }
}

/// How often the power of the whole machine is worked out.
const WATTS_EVERY: Duration = Duration::from_secs(5);

/// What is around the devices, as the driver has it.
#[derive(Default)]
pub(super) struct Surroundings {
    pub(super) meters: Option<Arc<DeviceMeters>>,
    pub(super) posing: Option<String>,
    pub(super) spills: Arc<Spills>,
    spare: Bytes,
    day: Mutex<Day>,
    system: Mutex<System>,
}

/// The day's energy.
#[derive(Default)]
struct Day {
    kept: Option<EnergyDay>,
    /// Joules of the devices that are counted in it.
    counted: f64,
}

/// The whole machine's meter.
#[derive(Default)]
struct System {
    since: Option<(Instant, Counters)>,
    watts: Option<f64>,
}

impl Surroundings {
    /// Opens what is kept of the day. Returns what was spent of it, in watt-hours.
    pub(super) fn open(around: &Around) -> (Self, f64) {
        let today = EnergyDay::today();
        let opened = around
            .home
            .as_deref()
            .map(|home| EnergyDay::open(home, today));
        let (kept, note) = opened.unzip();
        if let Some(note) = note.flatten() {
            tracing::warn!("{note}");
        }
        let spent_wh = kept.as_ref().map_or(0.0, |day| day.spent_wh(today));
        let home = around.home.as_ref().filter(|_| around.prefix_files);
        let cache = home.map(|home| home.join("cache").join("kv"));
        let surroundings = Self {
            meters: around.meters.clone(),
            posing: around.posing.clone(),
            spills: Arc::new(Spills::new(around.prefixes, cache)),
            spare: around.spare,
            day: Mutex::new(Day { kept, counted: 0.0 }),
            system: Mutex::default(),
        };
        (surroundings, spent_wh)
    }

    /// What the devices have used since the last time goes to the day's account, and that to the disk when it is time.
    pub(super) fn spend(&self, devices: &[DeviceView]) {
        let mut day = lock(&self.day);
        let all = devices.iter().map(|d| d.joules_busy + d.joules_idle).sum();
        let more = Joules(all - std::mem::replace(&mut day.counted, all));
        let Some(kept) = &mut day.kept else { return };
        if more.0 > 0.0 {
            kept.spend(more, EnergyDay::today());
        }
        if let Err(error) = kept.save_if_due() {
            tracing::warn!(error = %error.source, "{error}");
        }
    }

    /// Watts of the whole machine, as a plug or the battery tells them; `None` where nothing does.
    pub(super) fn watts(&self) -> Option<f64> {
        lock(&self.system).watts
    }

    /// Works out the watts of the whole machine.
    pub(super) fn look(&self) {
        let Some(meters) = &self.meters else { return };
        let mut system = lock(&self.system);
        let passed = system.since.as_ref().map(|(at, _)| at.elapsed());
        if passed.is_some_and(|passed| passed < WATTS_EVERY) {
            return;
        }
        let since = (Instant::now(), meters.now());
        let before = system.since.replace(since);
        let told = before.and_then(|(at, mark)| {
            let whole = meters.since(&mark).pop()?;
            match whole.metered {
                Metered::Known { joules, .. } => Some(joules.0 / at.elapsed().as_secs_f64()),
                Metered::Absent { .. } => None,
            }
        });
        system.watts = told;
    }

    /// What other programs take of a pool, where `others` is theirs of the whole memory.
    pub(super) fn others(&self, is_ram: bool, others: Bytes) -> Bytes {
        if !is_ram {
            return others;
        }
        // The prefixes that wait here are in no model's account.
        let others = others + self.spills.bytes();
        Bytes(others.0.saturating_sub(self.spare.0))
    }
}

/// Where the power comes from, as the scheduler hears it. Where nobody knows, it is as if it came from the mains.
pub(super) fn power(power: Option<watch::PowerState>) -> Event {
    Event::PowerIs(match power {
        Some(watch::PowerState::Battery { percent }) => Power::Battery { percent },
        Some(watch::PowerState::Mains) | None => Power::Mains,
    })
}

/// How warm a device is, as the scheduler hears it. One that does not tell is as one that is not warm.
pub(super) fn heat(heat: Option<watch::Heat>) -> Heat {
    match heat {
        Some(watch::Heat::Hot) => Heat::Hot,
        Some(watch::Heat::Warm) => Heat::Warm,
        Some(watch::Heat::Normal) | None => Heat::Normal,
    }
}
