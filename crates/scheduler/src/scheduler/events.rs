//! What has happened is taken in.

use std::collections::BTreeMap;
use std::time::Duration;

use troika_base::Bytes;

use super::{Model, Scheduler, TYPICAL_TOKENS};
use crate::event::{Event, Refusal};
use crate::facts::{Form, ModelFacts};
use crate::fleet::{Health, Stage};
use crate::job::{DeviceId, JobId, JobSpec, KeepAlive, ModelId, Work};
use crate::live::{Job, Place};

/// A load that failed is tried again after so long.
const LOAD_RETRY: Duration = Duration::from_secs(30);

/// When a client whose job found the queue full may come again, at least and at most.
const RETRY_AFTER: [f64; 2] = [1.0, 60.0];

impl Scheduler {
    pub(super) fn take_in(&mut self, event: Event) {
        match event {
            Event::ModelKnown(facts) => self.model_known(facts),
            Event::FormIs {
                model,
                device,
                form,
            } => self.form_is(model, device, form),
            Event::ModelForgotten(model) => self.model_forgotten(model),
            Event::Cool(model) => self.cool(model),
            Event::Submitted { job, spec } => self.submitted(job, spec),
            Event::Cancelled(job) => self.cancel(job),
            Event::Started {
                device,
                job,
                held,
                free_pages,
            } => self.started(device, job, held, free_pages),
            Event::StepDone { device, report } => self.step_done(device, report),
            Event::OutOfPages { device, free_pages } => self.out_of_pages(device, free_pages),
            Event::BesideBegan {
                device,
                run,
                class,
                is_metered,
            } => self.beside_began(device, run, class, is_metered),
            Event::BesideEnded {
                device,
                run,
                joules,
            } => self.beside_ended(device, run, joules),
            Event::Loaded {
                device,
                model,
                bytes,
                pages,
                took,
            } => self.loaded(device, model, &bytes, pages, took),
            Event::LoadFailed {
                device,
                model,
                why,
                is_final,
            } => self.load_failed(device, model, why, is_final),
            Event::Unloaded { device, model } => self.unloaded(device, model),
            Event::Moved {
                job,
                to,
                free_pages,
            } => self.moved(job, to, free_pages),
            Event::MoveFailed { job, why } => self.move_failed(job, &why),
            Event::Probed { device, outcome } => self.probed(device, outcome),
            Event::Lost { device, why } => self.lose(device, why),
            Event::RemoteIs(facts) => self.remote_is(facts),
            Event::Back { job, from, outcome } => self.back(job, from, outcome),
            Event::OthersUse { pool, bytes } => self.ledger.others_use(pool, bytes),
            Event::PowerIs(power) => self.power = power,
            Event::HeatIs { device, heat } => {
                if let Some(device) = self.devices.get_mut(usize::from(device.0)) {
                    device.heat = heat;
                }
            }
            Event::PolicyIs(policy) => self.settings.policy = policy,
            Event::WorthIs(worth) => self.settings.worth = worth,
            Event::Midnight => self.spent = 0.0,
        }
    }

    fn model_known(&mut self, facts: ModelFacts) {
        let model = Model {
            is_forgotten: false,
            failed: BTreeMap::new(),
            typical: [(TYPICAL_TOKENS, 1); 4],
            regret: BTreeMap::new(),
            facts,
        };
        self.models.insert(model.facts.id, model);
    }

    fn form_is(&mut self, id: ModelId, device: DeviceId, form: Result<Form, String>) {
        let Some(model) = self.models.get_mut(&id) else {
            return;
        };
        let found = self.devices.get(usize::from(device.0));
        let is_there = found.is_some_and(|found| found.residents.contains_key(&id));
        if is_there && form.is_err() {
            // It runs there now, whatever became of its file.
            return;
        }
        model.failed.remove(&device);
        let facts = &mut model.facts;
        match form {
            Ok(form) => {
                facts.impossible.remove(&device);
                facts.forms.insert(device, form);
            }
            Err(why) => {
                facts.forms.remove(&device);
                facts.impossible.insert(device, why);
            }
        }
    }

    fn model_forgotten(&mut self, id: ModelId) {
        if let Some(model) = self.models.get_mut(&id) {
            model.is_forgotten = true;
            self.cool(id);
        }
    }

    /// The model goes as soon as nobody uses it.
    fn cool(&mut self, id: ModelId) {
        let residents = self.devices.iter_mut();
        let residents = residents.filter_map(|device| device.residents.get_mut(&id));
        for resident in residents {
            resident.keep_alive = KeepAlive::For(Duration::ZERO);
        }
    }

    fn submitted(&mut self, id: JobId, spec: JobSpec) {
        let waiting = self.queues.n_all();
        let (class, model, owner) = (spec.class, spec.model, spec.owner);
        if !self.models.contains_key(&model) {
            let why = "the model is not known".to_owned();
            return self.refuse(id, Refusal::Model { why });
        }
        let mut job = Job::new(spec, self.now);
        job.cost_s = self.rough_cost_s(&job);
        let is_full = waiting >= self.settings.queue;
        if is_full && !self.make_way_in_queue(class) {
            if self.send_past_queue(id, &job) {
                return;
            }
            let work_s = self.queues.work_from(class) / waiting.max(1) as f64;
            return self.refuse(
                id,
                Refusal::QueueFull {
                    class,
                    waiting,
                    retry_after: Duration::from_secs_f64(
                        work_s.clamp(RETRY_AFTER[0], RETRY_AFTER[1]),
                    ),
                },
            );
        }
        if let Some(refusal) = self.misses_deadline(&job) {
            return self.refuse(id, refusal);
        }
        if let Some(deadline) = job.spec.deadline {
            self.deadlines.insert((deadline, id));
        }
        self.queues.push(job.lane(), owner, id, job.cost_s, false);
        self.jobs.insert(id, job);
    }

    /// Whether there is room for a job of a class though the queue is full: no class fills it for those above it.
    fn make_way_in_queue(&self, class: crate::Class) -> bool {
        let peers = crate::Class::ALL
            .into_iter()
            .filter(|other| *other >= class);
        let peers: usize = peers.map(|class| self.queues.n_waiting(class)).sum();
        peers < self.settings.queue / 2 && class >= crate::Class::Agent
    }

    fn started(&mut self, device: DeviceId, id: JobId, held: u32, free_pages: u32) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.place != Place::Starting(device) {
            return;
        }
        let model = job.spec.model;
        if job.spec.work != Work::Embed {
            let prompt = job.spec.prompt_tokens;
            self.habits
                .started(job.spec.owner, model, device, prompt, held.min(prompt));
        }
        let Some(resident) = self.devices[usize::from(device.0)]
            .residents
            .get_mut(&model)
        else {
            return;
        };
        resident.free_pages = free_pages;
        resident.coming.remove(&id);
        for (seq, answer) in job.open(id) {
            let held = held.min(answer.known - 1);
            resident
                .batcher
                .admit(seq, job.spec.class, answer.known, held, now);
        }
        job.place = Place::Running(device);
    }

    fn loaded(
        &mut self,
        id: DeviceId,
        model: ModelId,
        bytes: &[Bytes],
        pages: u32,
        took: Duration,
    ) {
        let now = self.now;
        let device = &mut self.devices[usize::from(id.0)];
        let Some(resident) = device.residents.get_mut(&model) else {
            return;
        };
        if !matches!(resident.stage, Stage::Loading { .. }) {
            return;
        }
        resident.stage = Stage::Ready;
        resident.pages = pages;
        resident.free_pages = pages;
        resident.served = now;
        resident.used = now;
        resident.bytes = bytes.iter().copied().sum();
        self.ledger.settle((id, model), &device.facts.pools, bytes);
        if let Some(model) = self.models.get_mut(&model) {
            model.failed.remove(&id);
            if let Some(form) = model.facts.forms.get_mut(&id) {
                // Half of what was new counts: the next load may find the file in the page cache.
                form.load_s = (form.load_s + took.as_secs_f64()) / 2.0;
            }
        }
    }

    fn load_failed(&mut self, id: DeviceId, model: ModelId, why: String, is_final: bool) {
        self.devices[usize::from(id.0)].residents.remove(&model);
        self.ledger.release((id, model));
        let until = self.now + LOAD_RETRY;
        if let Some(model) = self.models.get_mut(&model) {
            if is_final {
                model.facts.forms.remove(&id);
                model.facts.impossible.insert(id, why);
            } else {
                model.failed.insert(id, (until, why));
            }
        }
    }

    fn unloaded(&mut self, id: DeviceId, model: ModelId) {
        let device = self.device_mut(id);
        let stage = device.residents.get(&model).map(|resident| resident.stage);
        if stage == Some(Stage::Unloading) {
            device.residents.remove(&model);
            self.habits.left(model, id);
            self.ledger.release((id, model));
        }
    }

    fn probed(&mut self, id: DeviceId, outcome: Result<(), String>) {
        let device = self.device_mut(id);
        match (outcome, &device.health) {
            (Ok(()), Health::Probing { .. }) => device.health = Health::Ready,
            (Ok(()), _) => {}
            (Err(why), _) => {
                self.abandon(id, format!("it answered a known question wrongly: {why}"));
            }
        }
    }
}
