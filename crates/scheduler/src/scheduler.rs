//! The state machine: events in, actions out.
//!
//! A step takes in what has happened (`events`), looks after devices and memory (`health`, `memory`), gives waiting jobs
//! their places (`placing`), some of them beyond this machine (`away`), moves those that would be better off elsewhere (`moves`), and gives every idle device its next
//! step (`steps`). Nothing here looks at a clock, and all that has an order has the same one every time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::away::Remote;
use crate::event::{Action, Event, Refusal};
use crate::facts::{DeviceFacts, ModelFacts, PoolFacts, Power};
use crate::fleet::Device;
use crate::habit::Habits;
use crate::job::{DeviceId, JobId, JobSpec, ModelId};
use crate::ledger::Ledger;
use crate::live::{Job, Place};
use crate::queue::Queues;
use crate::snapshot::Snapshot;
use crate::{Class, Settings, Time};

mod away;
mod beside;
mod events;
mod health;
mod jobs;
mod memory;
mod moves;
mod offers;
mod placing;
mod steps;
mod view;

#[cfg(test)]
mod tests;

/// Decides which job runs where and when. The one in earnest is [`Scheduler`]; a simulation has others to compare it with.
pub trait Schedule {
    /// Takes in what has happened, and says what is to be done now. `now` never goes back.
    fn step(&mut self, now: Time, events: Vec<Event>) -> Vec<Action>;

    /// When to call [`Schedule::step`] again though nothing happens.
    fn wake_at(&self) -> Option<Time>;

    /// The state of everything.
    fn snapshot(&self) -> Snapshot;

    /// Where the power comes from.
    fn power(&self) -> Power {
        self.snapshot().power
    }

    /// What would become of a job on this machine if it came now. Unknown where nobody tells.
    fn outlook(&self, _spec: &JobSpec) -> Outlook {
        Outlook::default()
    }
}

/// What would become of a job on this machine if it came now.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Outlook {
    /// Seconds until its first token; absent if no device can do it now.
    pub ttft_s: Option<f64>,
    /// Seconds until its end.
    pub total_s: Option<f64>,
    /// Jobs that wait, of all classes.
    pub waiting: usize,
}

/// A model that can be asked for.
#[derive(Clone, Debug)]
struct Model {
    facts: ModelFacts,
    /// Nobody can ask for it any more.
    is_forgotten: bool,
    /// Loads that failed, until when they are not tried again, and why.
    failed: BTreeMap<DeviceId, (Time, String)>,
    /// Tokens that its answers have, by class, and how many answers told that.
    typical: [(f64, u32); 4],
    /// Seconds that were lost so far because it was not loaded on a device.
    regret: BTreeMap<DeviceId, f64>,
}

/// All jobs, in no order: a step asks for every job that it computes, several times.
type Jobs = HashMap<JobId, Job, foldhash::fast::FixedState>;

/// Places every job: one scheduler over all devices and models.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    now: Time,
    devices: Vec<Device>,
    /// Endpoints beyond this machine.
    remotes: BTreeMap<DeviceId, Remote>,
    ties: Ties,
    ledger: Ledger,
    models: BTreeMap<ModelId, Model>,
    jobs: Jobs,
    queues: Queues,
    habits: Habits,
    /// Jobs whose prompts were read in this step, and whose answers are to be written elsewhere.
    parted: Vec<JobId>,
    /// Deadlines of jobs; of some that do not wait any more, too.
    deadlines: BTreeSet<(Time, JobId)>,
    power: Power,
    /// Joules spent since midnight.
    spent: f64,
    actions: Vec<Action>,
}

/// Tokens of an answer of which nothing else is known.
const TYPICAL_TOKENS: f64 = 256.0;

/// While jobs wait, it is looked anew how long they have, and whether memory has come free.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Scheduler {
    /// Over these devices and pools. No device is offered before it has answered a probe.
    pub fn new(settings: Settings, devices: Vec<DeviceFacts>, pools: Vec<PoolFacts>) -> Self {
        let spent = settings.spent_wh.max(0.0) * 3600.0;
        let ties = Ties::new(&devices);
        Self {
            settings,
            now: Time::default(),
            devices: devices.into_iter().map(Device::new).collect(),
            remotes: BTreeMap::new(),
            ties,
            ledger: Ledger::new(pools),
            models: BTreeMap::new(),
            jobs: Jobs::default(),
            queues: Queues::default(),
            habits: Habits::default(),
            parted: Vec::new(),
            deadlines: BTreeSet::new(),
            power: Power::default(),
            spent,
            actions: Vec::new(),
        }
    }

    fn device(&self, id: DeviceId) -> &Device {
        &self.devices[usize::from(id.0)]
    }

    /// The name of a device or an endpoint.
    fn name(&self, id: DeviceId) -> &str {
        let device = self.devices.get(usize::from(id.0));
        let remote = || self.remotes.get(&id).map(|remote| &*remote.name);
        let name = device.map(|device| &*device.facts.name).or_else(remote);
        name.unwrap_or("what nobody knows")
    }

    fn device_mut(&mut self, id: DeviceId) -> &mut Device {
        &mut self.devices[usize::from(id.0)]
    }

    fn ids(&self) -> impl Iterator<Item = DeviceId> + use<> {
        (0..self.devices.len()).map(|id| DeviceId(id as u16))
    }

    fn refuse(&mut self, job: JobId, refusal: Refusal) {
        self.actions.push(Action::Refuse { job, refusal });
    }

    /// Whether a job waits in the queue of this class.
    fn waits(jobs: &Jobs, id: JobId) -> bool {
        jobs.get(&id).is_some_and(|job| job.place == Place::Queued)
    }

    /// Whether jobs of a class are held back for want of power.
    fn is_held(&self, class: Class) -> bool {
        if class >= Class::Agent {
            return false;
        }
        let is_spent = self.budget_is_spent();
        match self.power {
            Power::Mains => is_spent,
            Power::Battery { percent } => {
                let saves = self.settings.policy.goal == crate::Goal::Battery;
                is_spent || saves || percent.is_some_and(|percent| percent < BATTERY_LOW)
            }
        }
    }

    fn budget_is_spent(&self) -> bool {
        let budget = self.settings.budget_wh;
        budget.is_some_and(|watt_hours| self.spent >= watt_hours * 3600.0)
    }
}

/// Below so many percent, what nobody waits for waits for the mains under every policy.
const BATTERY_LOW: f64 = 20.0;

impl Schedule for Scheduler {
    fn step(&mut self, now: Time, events: Vec<Event>) -> Vec<Action> {
        self.now = self.now.max(now);
        for event in events {
            self.take_in(event);
        }
        self.look_after_devices();
        self.drop_late();
        self.place_all();
        self.move_some();
        self.tidy_memory();
        self.dispatch();
        std::mem::take(&mut self.actions)
    }

    fn power(&self) -> Power {
        self.power
    }

    fn wake_at(&self) -> Option<Time> {
        let hung = self
            .devices
            .iter()
            .filter_map(|device| device.step.as_ref());
        let hung = hung.map(|step| step.hangs);
        let retry = self.devices.iter().filter_map(Device::wake_at);
        let late = self.deadlines.first().map(|&(at, _)| at);
        let waiting = self.queues.n_all() > 0;
        let look = waiting.then(|| self.now + LOOK_EVERY);
        hung.chain(retry)
            .chain(late)
            .chain(look)
            .chain(self.expires_at())
            .min()
    }

    fn snapshot(&self) -> Snapshot {
        self.view()
    }

    fn outlook(&self, spec: &JobSpec) -> Outlook {
        self.foretell(spec)
    }
}

/// What devices have to do with each other; by device.
#[derive(Debug)]
struct Ties {
    /// Those that cannot work while it does, since they share a part with it.
    conflicts: Vec<Vec<DeviceId>>,
    /// Those that work when it does: its parts, or itself.
    workers: Vec<Vec<DeviceId>>,
    /// Other devices that use the same memory, those left out that are made of several.
    beside: Vec<Vec<DeviceId>>,
}

impl Ties {
    fn new(devices: &[DeviceFacts]) -> Self {
        let workers = |at: usize| match devices[at].parts.is_empty() {
            true => vec![DeviceId(at as u16)],
            false => devices[at].parts.clone(),
        };
        let meet = |a: usize, b: usize| workers(a).iter().any(|part| workers(b).contains(part));
        let share = |a: usize, b: usize| {
            let pools = &devices[a].pools;
            devices[b].parts.is_empty() && devices[b].pools.iter().any(|pool| pools.contains(pool))
        };
        let all = 0..devices.len();
        let others = |a: usize, tied: &dyn Fn(usize, usize) -> bool| {
            let tied = all.clone().filter(|&b| a != b && tied(a, b));
            tied.map(|b| DeviceId(b as u16)).collect()
        };
        Self {
            conflicts: all.clone().map(|a| others(a, &meet)).collect(),
            workers: all.clone().map(workers).collect(),
            beside: all.clone().map(|a| others(a, &share)).collect(),
        }
    }
}
