//! What no scheduler may do, checked at every step from outside.
//!
//! The checker sees what the scheduler is told and what it wants, and keeps books of its own: it shares no code with the
//! scheduler's. What it is sure of is listed here, and each has its message below.
//!
//! - A job ends once: it is finished when all its answers have ended, or refused, or cancelled; and none is forgotten.
//! - Nothing is asked of a device that has not answered its probe, or is lost.
//! - A device does one step at a time, and one that is made of several only while they rest.
//! - A slice computes what is known and not held yet, of a job that is there.
//! - No load is ordered into a pool beyond its capacity, less its reserve and what others take.
//! - A model that has jobs is not unloaded.
//! - An interactive job on a device waits there for one step of lower classes at most, those apart that have waited too
//!   long.
//! - A job begins only where it was decided that it goes, and only on the device that it requires.
//! - No cache leaves a device that keeps its caches, or comes to one.
//! - A job that may not leave the machine is never sent, and no endpoint is looked at for it; nor is one sent anywhere that it
//!   may not go, nor while it is elsewhere, nor twice to the same endpoint, nor after a part of its answer was told.
//! - An endpoint has no more jobs than it takes, and who is there is called back only when nobody waits any more.
//! - A job is only where its context has room, under a scheduler that honours classes: others cut answers short.
//! - Once nothing goes wrong any more, every job ends.

mod away;
mod books;
mod hears;

use std::collections::BTreeMap;
use std::fmt;

use troika_base::Bytes;
use troika_scheduler::{
    Action, Class, DeviceId, JobId, ModelFacts, ModelId, PoolId, SeqId, Settings, Slice, Time, Work,
};

use crate::beyond::VirtualRemote;
use crate::machine::VirtualMachine;
use crate::world::predicted_bytes;
use books::{Device, Job, Resident, Stage, Step, Where};

/// Something that no scheduler may do.
#[derive(Clone, PartialEq, Debug)]
pub struct Violation {
    /// When it did.
    pub at: Time,
    /// The job that it is about, if it is about one.
    pub job: Option<JobId>,
    /// What it did.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}", self.at)?;
        if let Some(job) = self.job {
            write!(f, ", job {}", job.0)?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for Violation {}

/// Predictions are corrected by what loads took: one may be so much smaller than what the model's facts say.
const CORRECTED: f64 = 0.9;
/// Steps of lower classes that an interactive job waits for.
const PASSED_MAX: u32 = 1;

/// Watches a scheduler.
#[derive(Debug)]
pub(crate) struct Checker<'w> {
    machine: &'w VirtualMachine,
    remotes: &'w [VirtualRemote],
    settings: &'w Settings,
    models: BTreeMap<ModelId, &'w ModelFacts>,
    jobs: BTreeMap<JobId, Job>,
    devices: Vec<Device>,
    others: Vec<Bytes>,
    /// Whether it is to honour classes.
    has_classes: bool,
    now: Time,
}

impl<'w> Checker<'w> {
    pub(crate) fn new(
        machine: &'w VirtualMachine,
        models: &'w [ModelFacts],
        settings: &'w Settings,
        remotes: &'w [VirtualRemote],
        has_classes: bool,
    ) -> Self {
        Self {
            models: models.iter().map(|model| (model.id, model)).collect(),
            jobs: BTreeMap::new(),
            devices: machine.devices.iter().map(|_| Device::default()).collect(),
            others: vec![Bytes(0); machine.pools.len()],
            has_classes,
            now: Time(0),
            machine,
            remotes,
            settings,
        }
    }

    fn wrong(&self, job: impl Into<Option<JobId>>, what: impl Into<String>) -> Violation {
        Violation {
            at: self.now,
            job: job.into(),
            what: what.into(),
        }
    }

    fn ensure(
        &self,
        holds: bool,
        job: impl Into<Option<JobId>>,
        what: impl FnOnce() -> String,
    ) -> Result<(), Violation> {
        match holds {
            true => Ok(()),
            false => Err(self.wrong(job, what())),
        }
    }

    fn name(&self, id: DeviceId) -> &str {
        &self.machine.devices[usize::from(id.0)].name
    }

    fn device(&self, id: DeviceId) -> &Device {
        &self.devices[usize::from(id.0)]
    }

    fn device_mut(&mut self, id: DeviceId) -> &mut Device {
        &mut self.devices[usize::from(id.0)]
    }

    fn resident(&mut self, device: DeviceId, model: ModelId) -> Option<&mut Resident> {
        self.device_mut(device).residents.get_mut(&model)
    }

    /// Looks at what the scheduler wants.
    ///
    /// # Errors
    /// If none may want that.
    pub(crate) fn wants(&mut self, now: Time, action: &Action) -> Result<(), Violation> {
        self.now = now;
        match action {
            Action::Load {
                device,
                model,
                kv_tokens,
            } => self.load(*device, *model, *kv_tokens)?,
            Action::Unload { device, model, .. } => self.unload(*device, *model)?,
            Action::Start { device, model, job } => self.start(*device, *model, *job)?,
            Action::Step {
                device,
                model,
                slices,
                ..
            } => self.step(*device, *model, slices)?,
            Action::Move {
                job,
                model,
                from,
                to,
                ..
            } => self.begin_move(*job, *model, *from, *to)?,
            Action::Release { device, seq } => self.release(*device, *seq),
            Action::Drop { device, job } => {
                self.calls_back(*device, *job)?;
                self.drop_job(*device, *job);
            }
            Action::Send { job, to } => self.send(*job, *to)?,
            Action::Abandon(device) => self.clear(*device),
            Action::Refuse { job, .. } => {
                self.answers_once(*job)?;
                self.ends(*job);
            }
            Action::Place(decision) => {
                self.looks_only_where_it_may(decision)?;
                if let Some(job) = self.jobs.get_mut(&decision.job) {
                    job.decided = Some((decision.prefill, decision.decode));
                }
            }
            Action::Finish { job, .. } => self.finish(*job)?,
            _ => {}
        }
        Ok(())
    }

    fn answers_once(&self, id: JobId) -> Result<(), Violation> {
        let job = self.jobs.get(&id);
        let job = job.ok_or_else(|| self.wrong(id, "it is answered, and never came"))?;
        self.ensure(!job.is_over, id, || "it is answered twice".to_owned())
    }

    fn finish(&mut self, id: JobId) -> Result<(), Violation> {
        self.answers_once(id)?;
        let job = &self.jobs[&id];
        let is_done = job.answers.iter().all(|answer| answer.has_ended);
        let is_load = job.spec.work == Work::Load;
        self.ensure(is_done || job.has_failed || is_load, id, || {
            "it is finished before its answers have ended".to_owned()
        })?;
        self.ends(id);
        Ok(())
    }

    fn is_offered(&self, id: DeviceId, what: &str) -> Result<(), Violation> {
        self.ensure(self.device(id).is_offered, None, || {
            format!("{what} on {}, which is not offered", self.name(id))
        })
    }

    fn is_ready(&self, device: DeviceId, model: ModelId, job: JobId) -> Result<(), Violation> {
        let stage = self.device(device).residents.get(&model).map(|r| r.stage);
        self.ensure(stage == Some(Stage::Ready), job, || {
            let name = &self.models[&model].name;
            format!(
                "{name} is used on {}, where it is {stage:?}",
                self.name(device)
            )
        })
    }

    fn load(&mut self, id: DeviceId, model: ModelId, kv_tokens: u32) -> Result<(), Violation> {
        self.is_offered(id, "a load")?;
        let facts = self.models[&model];
        let name = &facts.name;
        let Some(form) = facts.forms.get(&id) else {
            return Err(self.wrong(None, format!("{name} does not run on {}", self.name(id))));
        };
        let there = &self.device(id).residents;
        self.ensure(!there.contains_key(&model), None, || {
            format!("{name} is loaded to {} twice", self.name(id))
        })?;
        let limit = self.machine.devices[usize::from(id.0)].residents_max;
        self.ensure(there.len() < limit, None, || {
            format!("more than {limit} models on {}", self.name(id))
        })?;
        let bytes: Vec<Bytes> = predicted_bytes(facts, form, kv_tokens)
            .iter()
            .map(|bytes| Bytes((bytes.0 as f64 * CORRECTED) as u64))
            .collect();
        let resident = Resident {
            stage: Stage::Loading,
            bytes,
            peak: form.load_peak,
        };
        self.device_mut(id).residents.insert(model, resident);
        for &pool in &self.machine.devices[usize::from(id.0)].pools {
            self.fits(pool)?;
        }
        Ok(())
    }

    fn fits(&self, pool: PoolId) -> Result<(), Violation> {
        let facts = &self.machine.pools[usize::from(pool.0)];
        let devices = self.machine.devices.iter().zip(&self.devices);
        let taken: u64 = devices
            .map(|(facts, device)| device.takes(&facts.pools, pool))
            .sum();
        let others = self.others[usize::from(pool.0)];
        let all = taken + facts.reserve.0 + others.0;
        self.ensure(all <= facts.capacity.0, None, || {
            format!(
                "a load makes {} of {} full: models take {}, others {others}, {} are reserved",
                facts.name,
                facts.capacity,
                Bytes(taken),
                facts.reserve
            )
        })
    }

    fn unload(&mut self, id: DeviceId, model: ModelId) -> Result<(), Violation> {
        self.is_offered(id, "an unload")?;
        let user = self.jobs.iter().find(|(_, job)| {
            let is_there = match job.place {
                Where::Starting(at) | Where::On(at) => at == id,
                Where::Moving { from, to } => from == id || to == id,
                Where::Waiting | Where::Away(_) => false,
            };
            is_there && !job.is_over && job.spec.model == model
        });
        if let Some((&user, _)) = user {
            return Err(self.wrong(user, "its model is unloaded under it"));
        }
        let step = self.device(id).step.as_ref();
        let is_at_work = step.is_some_and(|step| step.model == model);
        self.ensure(!is_at_work, None, || {
            let name = &self.models[&model].name;
            format!("{name} is unloaded while {} computes it", self.name(id))
        })?;
        if let Some(resident) = self.resident(id, model) {
            resident.stage = Stage::Unloading;
        }
        Ok(())
    }

    fn start(&mut self, id: DeviceId, model: ModelId, job: JobId) -> Result<(), Violation> {
        self.is_offered(id, "a start")?;
        self.is_ready(id, model, job)?;
        let Some(found) = self.jobs.get(&job) else {
            return Err(self.wrong(job, "it is started, and never came"));
        };
        let place = found.place;
        self.ensure(!found.is_over, job, || {
            "it is started after its end".to_owned()
        })?;
        self.ensure(!found.is_back, job, || {
            "it is started after it was answered elsewhere".to_owned()
        })?;
        self.ensure(place == Where::Waiting, job, || {
            format!("it is started on {}, and is {place:?}", self.name(id))
        })?;
        self.is_allowed(job, id)?;
        let decided = found.decided;
        self.ensure(
            decided.is_some_and(|(prefill, decode)| prefill == id || decode == id),
            job,
            || {
                format!(
                    "it is started on {}, and was decided to {decided:?}",
                    self.name(id)
                )
            },
        )?;
        if let Some(job) = self.jobs.get_mut(&job) {
            job.place = Where::Starting(id);
        }
        Ok(())
    }

    fn is_allowed(&self, job: JobId, device: DeviceId) -> Result<(), Violation> {
        let spec = &self.jobs[&job].spec;
        let max_tokens = match spec.work {
            Work::Write { max_tokens, .. } => max_tokens,
            Work::Embed | Work::Load => 0,
        };
        let context = spec.prompt_tokens.saturating_add(max_tokens);
        let form = self.models[&spec.model].forms.get(&device);
        let room = form.map_or(0, |form| form.n_ctx);
        self.ensure(!self.has_classes || context <= room, job, || {
            let name = self.name(device);
            format!("it comes to {context} tokens, and is on {name}, which has room for {room}")
        })?;
        let required = spec.require_device;
        self.ensure(required.is_none_or(|only| only == device), job, || {
            format!(
                "it is on {}, and requires another device",
                self.name(device)
            )
        })
    }

    fn begin_move(
        &mut self,
        job: JobId,
        model: ModelId,
        from: DeviceId,
        to: DeviceId,
    ) -> Result<(), Violation> {
        self.is_offered(to, "a move")?;
        self.is_ready(to, model, job)?;
        self.is_allowed(job, to)?;
        for end in [from, to] {
            let moves = self.machine.devices[usize::from(end.0)].moves;
            self.ensure(moves, job, || {
                format!(
                    "its cache is moved, and {} keeps its caches",
                    self.name(end)
                )
            })?;
        }
        let found = &self.jobs[&job];
        let (place, decided) = (found.place, found.decided);
        self.ensure(place == Where::On(from) && !found.is_over, job, || {
            format!("it is moved from {}, and is {place:?}", self.name(from))
        })?;
        self.ensure(decided.is_some_and(|(_, decode)| decode == to), job, || {
            format!(
                "it is moved to {}, and was decided to {decided:?}",
                self.name(to)
            )
        })?;
        let step = self.device(from).step.as_ref();
        let is_at_work = step.is_some_and(|step| step.has(job));
        self.ensure(!is_at_work, job, || {
            "it is moved in the middle of a step".to_owned()
        })?;
        if let Some(job) = self.jobs.get_mut(&job) {
            job.place = Where::Moving { from, to };
        }
        Ok(())
    }

    /// A sequence's cache is given up. A job whose last one went waits again.
    fn release(&mut self, device: DeviceId, seq: SeqId) {
        if let Some(job) = self.jobs.get_mut(&seq.job)
            && job.place == Where::On(device)
        {
            if let Some(answer) = job.answers.get_mut(seq.choice as usize) {
                answer.held = 0;
                answer.is_released = true;
            }
            let mut open = job.answers.iter().filter(|answer| !answer.has_ended);
            if open.all(|answer| answer.is_released) {
                job.wait();
            }
        }
    }

    fn drop_job(&mut self, device: DeviceId, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            match job.place {
                Where::Starting(at) | Where::On(at) if at == device => job.wait(),
                _ => {}
            }
        }
    }

    fn step(&mut self, id: DeviceId, model: ModelId, slices: &[Slice]) -> Result<(), Violation> {
        self.is_offered(id, "a step")?;
        self.rests(id)?;
        let first = slices.first().map(|slice| slice.seq.job);
        let Some(first) = first else {
            return Err(self.wrong(None, format!("an empty step on {}", self.name(id))));
        };
        self.is_ready(id, model, first)?;
        let limit = self.machine.devices[usize::from(id.0)].batch_max;
        self.ensure(slices.len() <= limit, None, || {
            format!("{} sequences at once on {}", slices.len(), self.name(id))
        })?;
        for (at, slice) in slices.iter().enumerate() {
            self.slice(id, model, *slice)?;
            let again = slices[..at].iter().any(|other| other.seq == slice.seq);
            self.ensure(!again, slice.seq.job, || "it is twice in a step".to_owned())?;
        }
        self.honours_classes(id, slices)?;
        for slice in slices {
            if let Some(job) = self.jobs.get_mut(&slice.seq.job) {
                job.passed = 0;
                let answer = job.answers.get_mut(slice.seq.choice as usize);
                if let Some(answer) = answer {
                    answer.is_released = false;
                }
            }
        }
        self.device_mut(id).step = Some(Step {
            model,
            slices: slices.to_vec(),
        });
        Ok(())
    }

    /// Neither the device nor what shares a part with it works.
    fn rests(&self, id: DeviceId) -> Result<(), Violation> {
        for at in 0..self.devices.len() {
            let other = DeviceId(at as u16);
            let is_busy = self.devices[at].step.is_some() && self.shares_part(id, other);
            self.ensure(!is_busy, None, || {
                format!(
                    "a step on {} while {} works",
                    self.name(id),
                    self.name(other)
                )
            })?;
        }
        Ok(())
    }

    fn shares_part(&self, a: DeviceId, b: DeviceId) -> bool {
        let parts = |id: DeviceId| &self.machine.devices[usize::from(id.0)].parts;
        let has = |whole: DeviceId, part: DeviceId| whole == part || parts(whole).contains(&part);
        has(a, b) || has(b, a) || parts(a).iter().any(|part| parts(b).contains(part))
    }

    fn slice(&self, id: DeviceId, model: ModelId, slice: Slice) -> Result<(), Violation> {
        let name = slice.seq.job;
        let Some(job) = self.jobs.get(&name) else {
            return Err(self.wrong(name, "it is computed, and never came"));
        };
        self.ensure(!job.is_over, name, || {
            "it is computed after its end".to_owned()
        })?;
        self.ensure(
            job.place == Where::On(id) && job.spec.model == model,
            name,
            || {
                format!(
                    "it is computed on {}, and is {:?}",
                    self.name(id),
                    job.place
                )
            },
        )?;
        self.is_allowed(name, id)?;
        let answer = job.answers.get(slice.seq.choice as usize);
        let Some(answer) = answer.filter(|answer| !answer.has_ended) else {
            let what = format!("answer {} is computed, and is not open", slice.seq.choice);
            return Err(self.wrong(name, what));
        };
        let left = answer.known - answer.held;
        self.ensure((1..=left).contains(&slice.n_tok), name, || {
            format!(
                "{} tokens are computed of {left} that are left",
                slice.n_tok
            )
        })?;
        self.ensure(slice.complete == (slice.n_tok == left), name, || {
            format!(
                "{} of {left} tokens are said to be all, or not",
                slice.n_tok
            )
        })
    }

    /// No interactive job on the device is passed over for lower classes, but for those that have waited too long.
    fn honours_classes(&mut self, id: DeviceId, slices: &[Slice]) -> Result<(), Violation> {
        let urgent = |slice: &Slice| {
            let job = &self.jobs[&slice.seq.job];
            let waited = job.answers.get(slice.seq.choice as usize);
            let waited = waited.map(|answer| self.now - answer.served);
            let class = job.spec.class;
            let ageing = self.settings.ageing[class_index(class)];
            class == Class::Interactive || waited.is_some_and(|waited| waited > ageing)
        };
        if !self.has_classes || slices.iter().any(urgent) {
            return Ok(());
        }
        let mut passed = None;
        for (&name, job) in &mut self.jobs {
            let waits = job.spec.class == Class::Interactive
                && !job.is_over
                && job.place == Where::On(id)
                && job.answers.iter().any(|a| !a.has_ended && !a.is_released);
            if waits {
                job.passed += 1;
                if job.passed > PASSED_MAX {
                    passed = Some((name, job.passed));
                }
            }
        }
        match passed {
            Some((job, steps)) => Err(self.wrong(
                job,
                format!(
                    "it waits on {} for {steps} steps of lower classes",
                    self.name(id)
                ),
            )),
            None => Ok(()),
        }
    }

    /// Looks at what is left in the end.
    ///
    /// # Errors
    /// If a job has not ended.
    pub(crate) fn end(&mut self, now: Time) -> Result<(), Violation> {
        self.now = now;
        let left = self.jobs.iter().find(|(_, job)| !job.is_over);
        match left {
            Some((&id, job)) => Err(self.wrong(
                id,
                format!(
                    "it never ends: of class {}, {:?}",
                    job.spec.class, job.place
                ),
            )),
            None => Ok(()),
        }
    }
}

fn class_index(class: Class) -> usize {
    Class::ALL.len() - 1 - Class::ALL.iter().position(|of| *of == class).unwrap_or(0)
}

#[cfg(test)]
mod tests;
