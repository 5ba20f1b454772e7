//! Jobs leave: done, cancelled, refused; or they wait again.

use super::Scheduler;
use crate::event::{Action, Refusal};
use crate::job::{DeviceId, JobId, Work};
use crate::live::Place;

/// What one answer more counts for how long answers are, once there were a few.
const LEARN: f64 = 0.1;

impl Scheduler {
    /// Nobody waits for a job any more.
    pub(super) fn cancel(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let (place, class, cost_s) = (job.place, job.spec.class, job.cost_s);
        if place == Place::Queued {
            self.queues.left(class, cost_s);
        }
        self.leave_remote(place);
        if let Place::Away(device) = place {
            self.actions.push(Action::Drop { device, job: id });
        }
        for device in place.devices().into_iter().flatten() {
            self.forget_on(id, device);
            self.actions.push(Action::Drop { device, job: id });
        }
        self.jobs.remove(&id);
    }

    /// A job is not on a device any more.
    pub(super) fn forget_on(&mut self, id: JobId, device: DeviceId) {
        let now = self.now;
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let model = job.spec.model;
        let device = &mut self.devices[usize::from(device.0)];
        if let Some(resident) = device.residents.get_mut(&model) {
            for choice in 0..job.answers.len() {
                resident.batcher.remove(crate::live::seq(id, choice));
            }
            resident.coming.remove(&id);
            resident.parked.remove(&id);
            if resident.jobs.remove(&id) {
                resident.used = now;
                if let Some(keep_alive) = job.spec.keep_alive {
                    resident.keep_alive = keep_alive;
                }
            }
        }
    }

    /// A job waits again, before those of its owner that have not begun. Whatever it had on a device is given up already.
    pub(super) fn requeue(&mut self, id: JobId) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.place = Place::Queued;
        job.queued = now;
        job.decode_on = None;
        for answer in &mut job.answers {
            answer.is_parked = false;
            answer.held = 0;
        }
        let (lane, owner, cost_s) = (job.lane(), job.spec.owner, job.cost_s);
        self.queues.push(lane, owner, id, cost_s, true);
    }

    /// A job gives up its place on a device to others.
    pub(super) fn give_way(&mut self, id: JobId, device: DeviceId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.account.moves += 1;
        self.actions.push(Action::Drop { device, job: id });
        self.forget_on(id, device);
        self.requeue(id);
    }

    /// A job is done.
    pub(super) fn finish(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        for device in job.place.devices().into_iter().flatten() {
            self.forget_on(id, device);
        }
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        if job.place == Place::Queued {
            self.queues.left(job.spec.class, job.cost_s);
        }
        self.leave_remote(job.place);
        if let Some(deadline) = job.spec.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        // What an endpoint writes is written by another model, maybe, and counted by another tokenizer.
        let is_ours = !matches!(job.place, Place::Away(_));
        if let (true, Work::Write { .. }, Some(model)) =
            (is_ours, job.spec.work, self.models.get_mut(&job.spec.model))
        {
            let (typical, n) = &mut model.typical[job.spec.class.index()];
            *n = n.saturating_add(1);
            let learn = LEARN.max(1.0 / f64::from(*n));
            *typical += learn * (f64::from(job.written()) - *typical);
        }
        let account = Box::new(job.close());
        self.actions.push(Action::Finish { job: id, account });
    }

    /// A job that waits is refused.
    pub(super) fn refuse_waiting(&mut self, id: JobId, refusal: Refusal) {
        if let Some(job) = self.jobs.remove(&id) {
            if job.place == Place::Queued {
                self.queues.left(job.spec.class, job.cost_s);
            }
            self.refuse(id, refusal);
        }
    }

    /// Jobs whose deadline has passed before they began are worth nothing any more.
    pub(super) fn drop_late(&mut self) {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > self.now {
                return;
            }
            self.deadlines.pop_first();
            let waits = self.jobs.get(&id);
            if waits.is_some_and(|job| job.place == Place::Queued && job.first_step.is_none()) {
                self.refuse_waiting(id, Refusal::DeadlinePassed);
            }
        }
    }
}
