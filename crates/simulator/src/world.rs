//! A schedule played in virtual time.
//!
//! The world is what a driver and its devices are in earnest: it tells the scheduler what happens, carries its actions out
//! and takes as long over them as the machine would, a little more or less. It knows what the scheduler does not: how fast
//! the devices truly are, how long the answers will be, what is going to fail. The same seed makes the same history.
//!
//! Three things are simpler than they are: devices that share memory slow each other down by what they draw when a step
//! begins, not while it runs; a package's power limit is not shared out among its blocks; and files are read from the disk
//! as if each load were alone.

mod act;
mod agenda;
mod away;
mod device;
mod happen;
mod lineage;
mod pages;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_pcg::Pcg64Mcg;
use troika_base::Bytes;
use troika_scheduler::{
    Action, DeviceId, Event, JobId, JobSpec, ModelFacts, ModelId, OwnerId, Schedule, Settings,
    Time, Work,
};

use crate::baseline::SchedulerKind;
use crate::beyond::Beyond;
use crate::chance::chance;
use crate::faults::Faults;
use crate::invariants::{Checker, Violation};
use crate::log::{Arrival, Log};
use crate::machine::VirtualMachine;

use agenda::{Agenda, Happening};
use device::Device;
pub(crate) use device::predicted_bytes;
use lineage::Lineage;
use record::{Job, Spans, index};

/// How a simulation goes.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// All that is by chance follows from it.
    pub seed: u64,
    /// Steps last up to this share longer or shorter than they should.
    pub noise: f64,
    /// Each device is up to this factor faster or slower than is estimated.
    pub hidden: f64,
    /// What goes wrong.
    pub faults: Faults,
    /// Tokens that a step drafts for each answer where it may, of which by chance some are right.
    pub drafts: u32,
    /// What is beyond the machine, and who may go there.
    pub beyond: Beyond,
    /// Whether all that the scheduler does is checked.
    pub checks: bool,
    /// It ends so long after the last job came and the last fault, whether all jobs are done or not.
    pub patience: Duration,
    /// How long a day is: at its end, a budget of energy begins anew.
    pub day: Duration,
    /// Sequences that a model serves side by side under those that the real scheduler is compared with. Ollama and
    /// llama-server are usually set to four, or one.
    pub slots: usize,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            noise: 0.05,
            hidden: 1.25,
            faults: Faults::default(),
            drafts: 0,
            beyond: Beyond::default(),
            checks: false,
            patience: 7 * DAY,
            day: DAY,
            slots: 4,
        }
    }
}

/// Why a simulation could not be done, or did not end well.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// An arrival asks for a model that the machine was not told of.
    #[error("job {job}: the model {model} is not known")]
    UnknownModel {
        /// Its place among the arrivals, from 0.
        job: usize,
        /// The name.
        model: String,
    },
    /// An arrival requires a device that the machine does not have.
    #[error("job {job}: there is no device {device}; there are {known}")]
    UnknownDevice {
        /// Its place among the arrivals, from 0.
        job: usize,
        /// The name.
        device: String,
        /// Those that are there.
        known: String,
    },
    /// The scheduler did what none may do.
    #[error("seed {seed}: {violation}")]
    Violation {
        /// The seed that shows it.
        seed: u64,
        /// What it did.
        violation: Violation,
    },
}

/// What can be watched of a simulation.
#[derive(Debug)]
pub enum Seen<'s> {
    /// The scheduler is told this.
    Told(&'s [Event]),
    /// The scheduler wants this done.
    Wants(&'s [Action]),
}

/// Plays a load on a machine. `models` are what [`VirtualMachine::model_facts`] makes of the names that arrivals ask by,
/// each under the number of its place.
///
/// # Errors
/// If an arrival asks for what is not there, or the scheduler is checked and does what none may do.
pub fn simulate(
    machine: &VirtualMachine,
    models: &[ModelFacts],
    kind: SchedulerKind,
    settings: &Settings,
    arrivals: &[Arrival],
    options: &Options,
) -> Result<Log, SimulationError> {
    watch(
        machine,
        models,
        kind,
        settings,
        arrivals,
        options,
        &mut |_, _| (),
    )
}

/// The same as [`simulate`], with somebody who sees all that is told and wanted.
///
/// # Errors
/// As [`simulate`].
pub fn watch(
    machine: &VirtualMachine,
    models: &[ModelFacts],
    kind: SchedulerKind,
    settings: &Settings,
    arrivals: &[Arrival],
    options: &Options,
    witness: &mut dyn FnMut(Time, Seen<'_>),
) -> Result<Log, SimulationError> {
    let specs = specs(machine, models, arrivals, &options.beyond)?;
    let scheduler = kind.build(machine, settings, options.slots);
    let has_classes = kind == SchedulerKind::Troika;
    let checker = options.checks.then(|| {
        Checker::new(
            machine,
            models,
            settings,
            &options.beyond.remotes,
            has_classes,
        )
    });
    let mut world = World::new(
        machine, models, settings, arrivals, specs, options, scheduler,
    );
    for at in 0..options.beyond.remotes.len() {
        let facts = world.remote_facts(at, None);
        world.inbox.push(Event::RemoteIs(facts));
    }
    world.checker = checker;
    let played = world.play(witness);
    played.map_err(|violation| SimulationError::Violation {
        seed: options.seed,
        violation,
    })?;
    Ok(world.log(kind))
}

/// The jobs as a scheduler is told of them.
fn specs(
    machine: &VirtualMachine,
    models: &[ModelFacts],
    arrivals: &[Arrival],
    beyond: &Beyond,
) -> Result<Vec<JobSpec>, SimulationError> {
    let ids: BTreeMap<&str, ModelId> = models.iter().map(|m| (m.name.as_str(), m.id)).collect();
    let mut owners: BTreeMap<&str, OwnerId> = BTreeMap::new();
    let spec = |(job, arrival): (usize, &Arrival), owner: OwnerId| {
        let model = ids.get(arrival.model.as_str()).copied();
        let model = model.ok_or_else(|| SimulationError::UnknownModel {
            job,
            model: arrival.model.clone(),
        })?;
        let remote_id = |at: usize| DeviceId((machine.devices.len() + at) as u16);
        let device = |name: &String| {
            let mut remotes = beyond.remotes.iter();
            let remote = remotes.position(|remote| remote.device_name() == *name);
            let found = machine.device(name).or_else(|| remote.map(remote_id));
            found.ok_or_else(|| SimulationError::UnknownDevice {
                job,
                device: name.clone(),
                known: names(machine),
            })
        };
        Ok(JobSpec {
            model,
            owner,
            class: arrival.class,
            prompt_tokens: arrival.prompt_tokens.max(1),
            work: match arrival.work {
                Work::Write { n, max_tokens } => Work::Write {
                    n: n.max(1),
                    max_tokens: allowed(max_tokens),
                },
                other => other,
            },
            deadline: arrival.deadline.map(|left| arrival.at + left),
            require_device: arrival.device.as_ref().map(device).transpose()?,
            elsewhere: {
                let places = beyond.may_go.get(&job).into_iter().flatten();
                places
                    .map(|&at| beyond.remotes[at].place(remote_id(at), arrival))
                    .collect()
            },
            keep_alive: None,
        })
    };
    let mut specs = Vec::with_capacity(arrivals.len());
    for (at, arrival) in arrivals.iter().enumerate() {
        let next = OwnerId(owners.len() as u32);
        let owner = *owners.entry(&arrival.owner).or_insert(next);
        specs.push(spec((at, arrival), owner)?);
    }
    Ok(specs)
}

/// What clients allow who get answers of so many tokens: a round number, and plenty.
fn allowed(tokens: u32) -> u32 {
    tokens.max(1).div_ceil(512).saturating_mul(512)
}

/// For whom is kept what a job leaves in a cache; nobody asks for a vector's.
fn keeper(spec: &JobSpec) -> Option<OwnerId> {
    matches!(spec.work, Work::Write { .. }).then_some(spec.owner)
}

fn names(machine: &VirtualMachine) -> String {
    let names: Vec<&str> = machine.devices.iter().map(|d| d.name.as_str()).collect();
    names.join(", ")
}

/// Everything but the scheduler.
struct World<'w> {
    machine: &'w VirtualMachine,
    models: BTreeMap<ModelId, &'w ModelFacts>,
    settings: &'w Settings,
    options: &'w Options,
    arrivals: &'w [Arrival],
    specs: Vec<JobSpec>,
    lineage: Lineage,
    scheduler: Box<dyn Schedule>,
    checker: Option<Checker<'w>>,
    now: Time,
    agenda: Agenda,
    /// What the scheduler is told next.
    inbox: Vec<Event>,
    devices: Vec<Device>,
    jobs: Vec<Job>,
    n_open: usize,
    others: Vec<Bytes>,
    remotes: away::Remotes,
    /// Models that an NPU has compiled before.
    compiled: BTreeSet<(DeviceId, ModelId)>,
    rng: Pcg64Mcg,
    spans: Spans,
    log: Log,
}

/// So many answers at one moment are too many: nothing comes to an end.
const ROUNDS_MAX: usize = 10_000;

impl<'w> World<'w> {
    fn new(
        machine: &'w VirtualMachine,
        models: &'w [ModelFacts],
        settings: &'w Settings,
        arrivals: &'w [Arrival],
        specs: Vec<JobSpec>,
        options: &'w Options,
        scheduler: Box<dyn Schedule>,
    ) -> Self {
        let mut rng = chance(options.seed, 1);
        let mut agenda = Agenda::default();
        for (at, arrival) in arrivals.iter().enumerate() {
            agenda.plan(arrival.at, Happening::Comes(at));
            if let Some(stays) = arrival.leaves {
                agenda.plan(arrival.at + stays, Happening::Leaves(at));
            }
        }
        agenda.plan(Time(0) + options.day, Happening::Midnight);
        let mut planner = chance(options.seed, 2);
        if options.faults.until > Time(0) {
            for (at, fault) in
                options
                    .faults
                    .plan(machine, models.len(), &options.beyond.remotes, &mut planner)
            {
                agenda.plan(at, Happening::Fault(fault));
            }
        }
        let devices = machine.devices.iter();
        Self {
            models: models.iter().map(|model| (model.id, model)).collect(),
            checker: None,
            now: Time(0),
            agenda,
            inbox: models.iter().cloned().map(Event::ModelKnown).collect(),
            devices: devices
                .map(|_| Device::new(options.hidden, &mut rng))
                .collect(),
            jobs: arrivals.iter().map(Job::new).collect(),
            n_open: arrivals.len(),
            others: vec![Bytes(0); machine.pools.len()],
            remotes: away::Remotes::new(&options.beyond.remotes),
            compiled: BTreeSet::new(),
            rng,
            spans: Spans::new(machine.devices.len()),
            log: Log::default(),
            machine,
            settings,
            options,
            lineage: Lineage::of(&specs, arrivals),
            arrivals,
            specs,
            scheduler,
        }
    }

    /// For whom is kept what a job leaves in a cache.
    fn keeper(&self, job: JobId) -> Option<OwnerId> {
        self.specs.get(index(job)).and_then(keeper)
    }

    /// Plays until all jobs have ended, nothing happens any more, or it takes too long.
    fn play(&mut self, witness: &mut dyn FnMut(Time, Seen<'_>)) -> Result<(), Violation> {
        let last = self.arrivals.iter().map(|arrival| arrival.at).max();
        let last = last.unwrap_or_default().max(self.options.faults.until);
        let limit = last + self.options.patience;
        self.settle(witness)?;
        while self.n_open > 0 {
            let wake = self.scheduler.wake_at();
            // Who asks to be woken in the past is woken as soon as there is something new under the clock.
            let wake = wake.map(|at| at.max(Time(self.now.0 + 1)));
            let next = self.agenda.next().into_iter().chain(wake).min();
            let Some(next) = next.filter(|&at| at <= limit) else {
                break;
            };
            self.now = next;
            while let Some(happening) = self.agenda.due(next) {
                self.happen(happening);
            }
            self.settle(witness)?;
        }
        match &mut self.checker {
            Some(checker) => checker.end(self.now),
            None => Ok(()),
        }
    }

    /// Tells the scheduler what has happened and carries out what it wants, until nothing follows at this moment.
    fn settle(&mut self, witness: &mut dyn FnMut(Time, Seen<'_>)) -> Result<(), Violation> {
        for _ in 0..ROUNDS_MAX {
            let events = std::mem::take(&mut self.inbox);
            witness(self.now, Seen::Told(&events));
            if let Some(checker) = &mut self.checker {
                checker.told(self.now, &events);
            }
            let actions = self.scheduler.step(self.now, events);
            witness(self.now, Seen::Wants(&actions));
            for action in actions {
                if let Some(checker) = &mut self.checker {
                    checker.wants(self.now, &action)?;
                }
                self.carry_out(action);
            }
            if self.inbox.is_empty() {
                return Ok(());
            }
        }
        Err(Violation {
            at: self.now,
            job: None,
            what: format!("it does not settle: {ROUNDS_MAX} answers at one moment"),
        })
    }

    fn device(&mut self, id: DeviceId) -> &mut Device {
        &mut self.devices[usize::from(id.0)]
    }

    fn job(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.get_mut(index(id))
    }

    /// What came of it.
    fn log(mut self, kind: SchedulerKind) -> Log {
        let end = self.now;
        let facts = self.machine.devices.iter();
        let idle = facts.zip(&self.devices).map(|(facts, device)| {
            let rest = (end.seconds() - device.busy_s).max(0.0);
            facts.watts_idle * rest
        });
        let outcomes = self.jobs.into_iter().zip(self.arrivals);
        Log {
            machine: self.machine.name.clone(),
            scheduler: kind.name().to_owned(),
            devices: self
                .machine
                .devices
                .iter()
                .map(|d| d.name.clone())
                .collect(),
            joules_idle: idle.collect(),
            watts_rest: self.machine.watts_rest,
            joules_busy: self.devices.iter().map(|device| device.joules).collect(),
            outcomes: outcomes
                .map(|(job, arrival)| job.outcome(arrival, end))
                .collect(),
            remotes: self.remotes.log,
            spans: std::mem::take(&mut self.spans).finish(),
            end,
            ..self.log
        }
    }
}

#[cfg(test)]
mod tests;
