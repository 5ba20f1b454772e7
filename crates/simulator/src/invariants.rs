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
//! - What can be worked at is worked at.
//! - An interactive job on a device waits there for one step of lower classes at most, those apart that have waited too
//!   long.
//! - A job begins only where it was decided that it goes, and only on the device that it requires.
//! - Once nothing goes wrong any more, every job ends.

mod books;

use std::collections::BTreeMap;
use std::fmt;

use troika_base::Bytes;
use troika_scheduler::{
    Action, Cause, Class, DeviceId, Event, JobId, ModelFacts, ModelId, PoolId, SeqId, Settings,
    Slice, StepReport, Time, Work,
};

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
/// A step that hangs is given up by now, and its device may be used.
const HANGS_S: f64 = 30.0;
/// Steps of lower classes that an interactive job waits for.
const PASSED_MAX: u32 = 1;

/// Watches a scheduler.
#[derive(Debug)]
pub(crate) struct Checker<'w> {
    machine: &'w VirtualMachine,
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

    /// Takes in what the scheduler is told.
    pub(crate) fn told(&mut self, now: Time, events: &[Event]) -> Result<(), Violation> {
        self.now = now;
        for event in events {
            self.hears(event)?;
        }
        Ok(())
    }

    fn hears(&mut self, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Submitted { job, spec } => {
                self.jobs.insert(*job, Job::new(spec.clone()));
            }
            Event::Cancelled(job) => self.ends(*job),
            Event::Started {
                device, job, held, ..
            } => self.started(*device, *job, *held),
            Event::StepDone { device, report } => self.step_done(*device, report),
            Event::OutOfPages { device, .. } => self.device_mut(*device).step = None,
            Event::Loaded {
                device,
                model,
                bytes,
                ..
            } => {
                if let Some(resident) = self.resident(*device, *model) {
                    resident.stage = Stage::Ready;
                    resident.bytes.clone_from(bytes);
                    resident.peak = Bytes(0);
                }
            }
            Event::LoadFailed { device, model, .. } | Event::Unloaded { device, model } => {
                self.device_mut(*device).residents.remove(model);
            }
            Event::Moved { job, to, .. } => self.moved(*job, *to),
            Event::MoveFailed { job, .. } => {
                if let Some(job) = self.jobs.get_mut(job)
                    && let Where::Moving { from, .. } = job.place
                {
                    job.place = Where::On(from);
                }
            }
            Event::Probed { device, outcome } => match outcome {
                Ok(()) => self.device_mut(*device).is_offered = true,
                Err(_) => self.lose(*device),
            },
            Event::Lost { device, .. } => self.lose(*device),
            Event::OthersUse { pool, bytes } => self.others[usize::from(pool.0)] = *bytes,
            _ => {}
        }
        Ok(())
    }

    fn started(&mut self, device: DeviceId, id: JobId, held: u32) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.is_over || job.place != Where::Starting(device) {
            return;
        }
        job.place = Where::On(device);
        job.passed = 0;
        for answer in &mut job.answers {
            if !answer.has_ended {
                answer.held = held.min(answer.known - 1);
                answer.served = self.now;
            }
        }
    }

    fn step_done(&mut self, device: DeviceId, report: &StepReport) {
        let Some(step) = self.device_mut(device).step.take() else {
            return;
        };
        for slice in &step.slices {
            if let Some(job) = self.jobs.get_mut(&slice.seq.job)
                && job.place == Where::On(device)
                && let Some(answer) = job.answers.get_mut(slice.seq.choice as usize)
            {
                answer.held += slice.n_tok;
                answer.served = self.now;
            }
        }
        for &(seq, has_ended) in &report.ended {
            if let Some(job) = self.jobs.get_mut(&seq.job)
                && !job.is_over
            {
                job.wrote(seq.choice, has_ended);
            }
        }
        for job in &report.failed {
            if let Some(job) = self.jobs.get_mut(job) {
                job.has_failed = true;
            }
        }
    }

    fn moved(&mut self, id: JobId, to: DeviceId) {
        if let Some(job) = self.jobs.get_mut(&id)
            && !job.is_over
        {
            job.place = Where::On(to);
            job.passed = 0;
        }
    }

    /// A device is lost, and with it all that is made of it.
    fn lose(&mut self, id: DeviceId) {
        for at in 0..self.devices.len() {
            let other = DeviceId(at as u16);
            let is_part = self.machine.devices[at].parts.contains(&id);
            if other == id || is_part {
                self.clear(other);
            }
        }
    }

    fn clear(&mut self, id: DeviceId) {
        self.devices[usize::from(id.0)] = Device::default();
        for job in self.jobs.values_mut().filter(|job| !job.is_over) {
            job.place = match job.place {
                Where::Starting(at) | Where::On(at) if at == id => Where::Waiting,
                Where::Moving { from, .. } if from == id => Where::Waiting,
                Where::Moving { from, to } if to == id => Where::On(from),
                place => place,
            };
        }
    }

    fn ends(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.is_over = true;
            job.place = Where::Waiting;
        }
    }

    /// A step has begun that does not end.
    pub(crate) fn hangs(&mut self, now: Time, device: DeviceId) {
        if let Some(step) = &mut self.device_mut(device).step {
            step.hangs = Some(now);
        }
    }

    /// Looks at what the scheduler wants.
    ///
    /// # Errors
    /// If none may want that.
    pub(crate) fn wants(&mut self, now: Time, action: &Action) -> Result<(), Violation> {
        self.now = now;
        match action {
            Action::Probe(device) => self.clear(*device),
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
            } => self.step(*device, *model, slices)?,
            Action::Move {
                job,
                model,
                from,
                to,
                ..
            } => self.begin_move(*job, *model, *from, *to)?,
            Action::Release { device, seq } => self.release(*device, *seq),
            Action::Drop { device, job } => self.drop_job(*device, *job),
            Action::Abandon(device) => self.lose(*device),
            Action::Refuse { job, .. } => {
                self.answers_once(*job)?;
                self.ends(*job);
            }
            Action::Place(decision) => {
                if decision.cause == Cause::Replay {
                    self.given_up(decision.job);
                }
                if let Some(job) = self.jobs.get_mut(&decision.job) {
                    job.decided = Some((decision.prefill, decision.decode));
                }
            }
            Action::Finish { job, .. } => self.finish(*job)?,
            _ => {}
        }
        Ok(())
    }

    /// A job is replayed of which nobody said that its device is lost: if that hangs, it was given up.
    fn given_up(&mut self, id: JobId) {
        let Some(Where::On(at)) = self.jobs.get(&id).map(|job| job.place) else {
            return;
        };
        let hangs = |other: &DeviceId| {
            let step = self.device(*other).step.as_ref();
            let since = step.and_then(|step| step.hangs);
            since.is_some_and(|since| (self.now - since).as_secs_f64() > HANGS_S)
        };
        let parts = &self.machine.devices[usize::from(at.0)].parts;
        let hung = std::iter::once(&at).chain(parts).find(|id| hangs(id));
        if let Some(&hung) = hung {
            self.lose(hung);
        }
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
                Where::Waiting => false,
            };
            is_there && !job.is_over && job.spec.model == model
        });
        if let Some((&user, _)) = user {
            return Err(self.wrong(user, "its model is unloaded under it"));
        }
        let step = self.device(id).step.as_ref();
        let is_at_work = step.is_some_and(|step| step.model == model && step.hangs.is_none());
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
        let required = self.jobs[&job].spec.require_device;
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
            hangs: None,
        });
        Ok(())
    }

    /// Neither the device nor what shares a part with it works.
    fn rests(&self, id: DeviceId) -> Result<(), Violation> {
        for at in 0..self.devices.len() {
            let other = DeviceId(at as u16);
            let Some(step) = &self.devices[at].step else {
                continue;
            };
            let is_given_up = step
                .hangs
                .is_some_and(|since| (self.now - since).as_secs_f64() > HANGS_S);
            let is_busy = self.shares_part(id, other) && !is_given_up;
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

    /// Looks at what is left when the scheduler wants nothing more.
    ///
    /// # Errors
    /// If a device rests though there is work for it.
    pub(crate) fn settled(&mut self, now: Time) -> Result<(), Violation> {
        self.now = now;
        Ok(())
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
