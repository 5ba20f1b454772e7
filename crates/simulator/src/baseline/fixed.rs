//! A model stays on one device, and jobs are served as they come.

mod job;
mod memory;

use std::collections::{BTreeMap, VecDeque};

use troika_base::{Bytes, DeviceKind};
use troika_scheduler::{
    Account, Action, Cause, Decision, DeviceFacts, DeviceId, Event, JobId, JobSpec, JoulesSource,
    Limits, Load, ModelFacts, ModelId, Phase, PoolFacts, Power, Refusal, Schedule, SeqId, Settings,
    Slice, Snapshot, Span, StepReport, Time, Work,
};

use crate::machine::VirtualMachine;
use job::{Answer, Job};

/// A device that gave a wrong answer is asked again after so many microseconds.
const RETRY_US: u64 = 5_000_000;

/// How the device of a model is picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    /// A card, the one with the most room; else several cards; else the package's GPU; else a card and the processor; else
    /// the processor. NPUs are never picked.
    GpuElseCpu,
    /// The fastest device of one kind; of equally fast ones, the one with the most room.
    Only(DeviceKind),
}

/// How far a model on its device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Loading,
    Ready,
    Unloading,
}

/// A model on its device.
#[derive(Clone, Debug)]
struct Resident {
    stage: Stage,
    bytes: Vec<Bytes>,
    pages: u32,
    /// Pages that its jobs may come to need.
    promised: u32,
    jobs: Vec<JobId>,
    used: Time,
}

/// A device as it is now.
#[derive(Clone, Debug, Default)]
struct Device {
    is_offered: bool,
    retry: Option<Time>,
    residents: BTreeMap<ModelId, Resident>,
    step: Option<(ModelId, Vec<Slice>, Time)>,
    /// The model whose turn was last.
    last: Option<ModelId>,
}

/// The scheduler.
#[derive(Debug)]
pub(super) struct Fixed {
    facts: Vec<DeviceFacts>,
    pools: Vec<PoolFacts>,
    limits: Limits,
    rule: Rule,
    /// Sequences that a model serves side by side.
    slots: usize,
    devices: Vec<Device>,
    others: Vec<Bytes>,
    models: BTreeMap<ModelId, ModelFacts>,
    /// Where each model is to be.
    bound: BTreeMap<ModelId, DeviceId>,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs that wait, by model, in the order in which they came.
    queues: BTreeMap<ModelId, VecDeque<JobId>>,
    now: Time,
    actions: Vec<Action>,
    policy: troika_scheduler::Policy,
}

impl Fixed {
    pub(super) fn new(
        machine: &VirtualMachine,
        settings: &Settings,
        rule: Rule,
        slots: usize,
    ) -> Self {
        Self {
            facts: machine.devices.clone(),
            pools: machine.pools.clone(),
            limits: settings.limits,
            rule,
            slots,
            devices: vec![
                Device {
                    retry: Some(Time(0)),
                    ..Device::default()
                };
                machine.devices.len()
            ],
            others: vec![Bytes(0); machine.pools.len()],
            models: BTreeMap::new(),
            bound: BTreeMap::new(),
            jobs: BTreeMap::new(),
            queues: BTreeMap::new(),
            now: Time(0),
            actions: Vec::new(),
            policy: settings.policy,
        }
    }

    fn ids(&self) -> impl Iterator<Item = DeviceId> + use<> {
        (0..self.facts.len()).map(|id| DeviceId(id as u16))
    }

    fn device(&mut self, id: DeviceId) -> &mut Device {
        &mut self.devices[usize::from(id.0)]
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::ModelKnown(facts) => drop(self.models.insert(facts.id, facts)),
            Event::Submitted { job, spec } => self.submitted(job, spec),
            Event::Cancelled(job) => self.cancelled(job),
            Event::Started {
                device, job, held, ..
            } => self.started(device, job, held),
            Event::StepDone { device, report } => self.step_done(device, &report),
            // Pages are promised before a job begins, so they are never short.
            Event::OutOfPages { device, .. } => self.device(device).step = None,
            Event::Loaded {
                device,
                model,
                bytes,
                pages,
                ..
            } => {
                let now = self.now;
                if let Some(resident) = self.device(device).residents.get_mut(&model) {
                    resident.stage = Stage::Ready;
                    resident.bytes = bytes;
                    resident.pages = pages;
                    resident.used = now;
                }
            }
            Event::LoadFailed { device, model, .. } | Event::Unloaded { device, model } => {
                self.device(device).residents.remove(&model);
            }
            Event::Probed { device, outcome } => match outcome {
                Ok(()) => self.device(device).is_offered = true,
                Err(_) => self.lost(device),
            },
            Event::Lost { device, .. } => self.lost(device),
            Event::OthersUse { pool, bytes } => self.others[usize::from(pool.0)] = bytes,
            _ => {}
        }
    }

    fn submitted(&mut self, id: JobId, spec: JobSpec) {
        let job = Job {
            arrived: self.now,
            device: None,
            is_started: false,
            pages: 0,
            answers: vec![Answer {
                known: spec.prompt_tokens,
                held: 0,
                has_ended: false,
            }],
            first_step: None,
            first_token: None,
            account: Account::default(),
            spec,
        };
        self.queues.entry(job.spec.model).or_default().push_back(id);
        self.jobs.insert(id, job);
    }

    fn cancelled(&mut self, id: JobId) {
        if let Some(device) = self.leave(id) {
            self.actions.push(Action::Drop { device, job: id });
        }
    }

    /// Forgets a job; where it was.
    fn leave(&mut self, id: JobId) -> Option<DeviceId> {
        let job = self.jobs.remove(&id)?;
        let Some(device) = job.device else {
            self.dequeue(id, job.spec.model);
            return None;
        };
        let now = self.now;
        if let Some(resident) = self.device(device).residents.get_mut(&job.spec.model) {
            resident.jobs.retain(|other| *other != id);
            resident.promised -= job.pages;
            resident.used = now;
        }
        Some(device)
    }

    fn dequeue(&mut self, id: JobId, model: ModelId) {
        let Some(queue) = self.queues.get_mut(&model) else {
            return;
        };
        match queue.front() == Some(&id) {
            true => drop(queue.pop_front()),
            false => queue.retain(|waiting| *waiting != id),
        }
    }

    fn refuse(&mut self, id: JobId, refusal: Refusal) {
        self.leave(id);
        self.actions.push(Action::Refuse { job: id, refusal });
    }

    fn started(&mut self, device: DeviceId, id: JobId, held: u32) {
        if let Some(job) = self.jobs.get_mut(&id)
            && job.device == Some(device)
        {
            job.is_started = true;
            job.answers[0].held = held;
        }
    }

    /// What was on a device is gone; jobs fail, and models may be bound anew.
    fn lost(&mut self, id: DeviceId) {
        let retry = Time(self.now.0 + RETRY_US);
        for other in self.ids() {
            let is_part = self.facts[usize::from(other.0)].parts.contains(&id);
            if other != id && !(is_part && self.device(other).is_offered) {
                continue;
            }
            let device = std::mem::take(self.device(other));
            self.device(other).retry = Some(retry);
            self.bound.retain(|_, bound| *bound != other);
            for job in device.residents.into_values().flat_map(|r| r.jobs) {
                self.jobs.remove(&job);
                let why = "its device is lost".to_owned();
                let refusal = Refusal::Failed { tries: 1, why };
                self.actions.push(Action::Refuse { job, refusal });
            }
        }
    }

    fn step_done(&mut self, id: DeviceId, report: &StepReport) {
        let now = self.now;
        let Some((model, slices, _)) = self.device(id).step.take() else {
            return;
        };
        let gait = self.models[&model].forms.get(&id).map(|form| form.gait);
        let tokens = slices.iter().map(|slice| u64::from(slice.n_tok)).sum();
        let watts = gait.map_or(0.0, |gait| gait.watts(Load { tokens, past: 0 }));
        let estimate = (watts > 0.0).then_some(watts * report.took.as_secs_f64());
        let (joules, source) = match (report.joules, estimate) {
            (Some(joules), _) => (Some(joules.0), JoulesSource::Measured),
            (None, Some(joules)) => (Some(joules), JoulesSource::Estimated),
            (None, None) => (None, JoulesSource::Unknown),
        };
        // As the real one shares a step out: reading the weights is common, arithmetic is by tokens.
        let common = gait.map_or(1.0, |gait| gait.launch_s + gait.read_s) / slices.len() as f64;
        let token_s = gait.map_or(0.0, |gait| gait.token_s);
        let weight = |slice: &Slice| common + token_s * f64::from(slice.n_tok);
        let all: f64 = slices.iter().map(weight).sum();
        for slice in &slices {
            let Some(job) = self.jobs.get_mut(&slice.seq.job) else {
                continue;
            };
            let share = weight(slice) / all;
            let span = Span {
                device: id,
                phase: match job.first_token {
                    Some(_) => Phase::Decode,
                    None => Phase::Prefill,
                },
                tokens: u64::from(slice.n_tok),
                device_s: report.took.as_secs_f64() * share,
                joules: joules.map(|joules| joules * share),
            };
            job.charge(span, source);
            if let Some(answer) = job.answers.get_mut(slice.seq.choice as usize) {
                answer.held += slice.n_tok;
            }
        }
        for wrote in &report.wrote {
            if let Some(job) = self.jobs.get_mut(&wrote.seq.job) {
                job.wrote(wrote.seq.choice, wrote.has_ended, now);
            }
        }
        let mut done: Vec<JobId> = report.failed.clone();
        done.extend(report.wrote.iter().map(|wrote| wrote.seq.job));
        done.dedup();
        for job in done {
            let is_done = |found: &Job| found.answers.iter().all(|answer| answer.has_ended);
            let found = self.jobs.get(&job);
            if found.is_some_and(|found| is_done(found) || report.failed.contains(&job)) {
                self.finish(job);
            }
        }
    }

    fn finish(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let account = Box::new(job.close(self.now));
        self.leave(id);
        self.actions.push(Action::Finish { job: id, account });
    }

    fn probe(&mut self) {
        let now = self.now;
        for id in self.ids() {
            let device = self.device(id);
            if device.retry.is_some_and(|at| at <= now) {
                device.retry = None;
                self.actions.push(Action::Probe(id));
            }
        }
    }

    /// Gives jobs their slots in the order in which they came.
    fn admit(&mut self) {
        // Models that a load waits for take no jobs, or it would wait for ever.
        let mut drains: Vec<DeviceId> = Vec::new();
        let first = |queue: &VecDeque<JobId>| queue.front().copied();
        let firsts = self.queues.iter();
        let firsts = firsts.filter_map(|(&model, queue)| Some((first(queue)?, model)));
        let mut firsts: Vec<(JobId, ModelId)> = firsts.collect();
        firsts.sort_unstable();
        for (_, model) in firsts {
            while let Some(id) = self.queues.get(&model).and_then(first) {
                if !self.admit_one(id, model, &mut drains) {
                    break;
                }
            }
        }
    }

    /// Gives a job its slot, or refuses it. `false` if it waits on, and with it those of its model that came later.
    fn admit_one(&mut self, id: JobId, model: ModelId, drains: &mut Vec<DeviceId>) -> bool {
        let only = self.jobs[&id].spec.require_device;
        let Some(device) = self.bind(model) else {
            let never = self.can_never(model);
            if never {
                let why = "it runs on no device that this scheduler uses".to_owned();
                let model = self.models[&model].name.clone();
                self.refuse(id, Refusal::NoDevice { model, why });
            }
            return never;
        };
        if let Some(only) = only.filter(|only| *only != device) {
            // An endpoint has no name here: this scheduler sends nothing.
            let name = |id: DeviceId| {
                let found = self.facts.get(usize::from(id.0));
                found.map_or_else(
                    || format!("endpoint {}", id.0),
                    |device| device.name.clone(),
                )
            };
            let refusal = Refusal::RequiredDevice {
                device: name(only),
                why: format!("its model is on {}", name(device)),
            };
            self.refuse(id, refusal);
            return true;
        }
        let resident = self.device(device).residents.get(&model);
        match resident.map(|resident| resident.stage) {
            Some(Stage::Ready) if !drains.contains(&device) => self.place(id, device),
            Some(_) => false,
            None if drains.contains(&device) => false,
            None => {
                if !self.load(device, model) {
                    drains.extend(self.neighbours(device));
                }
                false
            }
        }
    }

    /// Gives a job a slot. `false` if there is none.
    fn place(&mut self, id: JobId, device: DeviceId) -> bool {
        let job = &self.jobs[&id];
        let model = job.spec.model;
        let n_ctx = self.models[&model].forms[&device].n_ctx;
        let (n, max_tokens) = match job.spec.work {
            Work::Write { n, max_tokens } => (n, max_tokens),
            _ => (1, 0),
        };
        let context = job.spec.prompt_tokens.saturating_add(max_tokens).min(n_ctx);
        // A page more for each answer, since the last shared one is copied.
        let pages = n * ((context + 1).div_ceil(self.limits.page_tokens) + 1);
        let slots = self.slots.min(self.facts[usize::from(device.0)].batch_max);
        let resident = &self.devices[usize::from(device.0)].residents[&model];
        if job.spec.prompt_tokens >= n_ctx || pages > resident.pages {
            let per_token = self.models[&model].kv_bytes_per_token;
            let page = per_token * u64::from(self.limits.page_tokens);
            let refusal = Refusal::Memory {
                model: self.models[&model].name.clone(),
                needs: Bytes(page * u64::from(pages)),
                free: Bytes(page * u64::from(resident.pages)),
            };
            self.refuse(id, refusal);
            return true;
        }
        let taken: usize = resident.jobs.iter().map(|job| self.jobs[job].n()).sum();
        let has_slot = taken == 0 || taken + n as usize <= slots;
        if !has_slot || resident.promised + pages > resident.pages {
            return false;
        }
        let decision = Decision {
            job: id,
            at: self.now,
            class: job.spec.class,
            policy: self.policy,
            cause: Cause::Arrival,
            prefill: device,
            decode: device,
            candidates: Vec::new(),
        };
        self.dequeue(id, model);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.device = Some(device);
            job.pages = pages;
        }
        if let Some(resident) = self.device(device).residents.get_mut(&model) {
            resident.promised += pages;
            resident.jobs.push(id);
        }
        self.actions.push(Action::Place(Box::new(decision)));
        self.actions.push(Action::Start {
            device,
            model,
            job: id,
        });
        true
    }

    /// Gives every idle device its next step; models on it take turns.
    fn dispatch(&mut self) {
        for id in self.ids() {
            let is_busy = self.ids().any(|other| {
                self.devices[usize::from(other.0)].step.is_some() && self.shares_part(id, other)
            });
            if is_busy {
                continue;
            }
            let device = &self.devices[usize::from(id.0)];
            let after = device.residents.keys().filter(|&&m| Some(m) > device.last);
            let before = device.residents.keys().filter(|&&m| Some(m) <= device.last);
            let turns: Vec<ModelId> = after.chain(before).copied().collect();
            let found = turns.into_iter().find_map(|model| {
                let slices = self.slices(id, model);
                (!slices.is_empty()).then_some((model, slices))
            });
            if let Some((model, slices)) = found {
                let now = self.now;
                for slice in &slices {
                    if let Some(job) = self.jobs.get_mut(&slice.seq.job) {
                        job.first_step.get_or_insert(now);
                    }
                }
                let device = self.device(id);
                device.step = Some((model, slices.clone(), now));
                device.last = Some(model);
                self.actions.push(Action::Step {
                    device: id,
                    model,
                    slices,
                    may_draft: false,
                });
            }
        }
    }

    fn shares_part(&self, a: DeviceId, b: DeviceId) -> bool {
        let parts = |id: DeviceId| &self.facts[usize::from(id.0)].parts;
        a == b
            || parts(a).contains(&b)
            || parts(b).contains(&a)
            || parts(a).iter().any(|part| parts(b).contains(part))
    }

    /// All that writes, and as much of the prompts as fits into a step, first come, first served.
    fn slices(&self, id: DeviceId, model: ModelId) -> Vec<Slice> {
        let resident = &self.devices[usize::from(id.0)].residents[&model];
        let started = resident.jobs.iter().filter(|job| self.jobs[job].is_started);
        let open = started.flat_map(|&job| {
            let answers = (0u32..).zip(&self.jobs[&job].answers);
            let open = answers.filter(|(_, answer)| !answer.has_ended);
            open.map(move |(choice, answer)| (SeqId { job, choice }, *answer))
        });
        let (writes, reads): (Vec<_>, Vec<_>) =
            open.partition(|(_, answer)| answer.known - answer.held == 1);
        let limit = self.facts[usize::from(id.0)].batch_max;
        let mut room = self.limits.prefill_tokens;
        let mut slices = Vec::new();
        for (seq, answer) in writes.into_iter().chain(reads) {
            let left = answer.known - answer.held;
            let n_tok = if left == 1 { 1 } else { left.min(room) };
            if n_tok == 0 || slices.len() >= limit {
                continue;
            }
            room = room.saturating_sub(n_tok);
            slices.push(Slice {
                seq,
                n_tok,
                complete: n_tok == left,
            });
        }
        slices
    }
}

impl Schedule for Fixed {
    fn step(&mut self, now: Time, events: Vec<Event>) -> Vec<Action> {
        self.now = now;
        for event in events {
            self.take_in(event);
        }
        self.probe();
        self.admit();
        self.dispatch();
        std::mem::take(&mut self.actions)
    }

    fn wake_at(&self) -> Option<Time> {
        let retries = self.devices.iter().filter_map(|device| device.retry);
        retries.min()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: self.now,
            policy: self.policy,
            power: Power::default(),
            devices: Vec::new(),
            pools: Vec::new(),
            queues: Vec::new(),
            away: Vec::new(),
            jobs: Vec::new(),
            budget: None,
        }
    }
}
