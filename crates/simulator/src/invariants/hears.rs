//! What has happened goes into the books.

use troika_scheduler::{DeviceId, Event, JobId, StepReport, Time};

use super::Checker;
use super::books::{Device, Job, Stage, Where};
use troika_base::Bytes;

impl Checker<'_> {
    /// Takes in what the scheduler is told.
    pub(crate) fn told(&mut self, now: Time, events: &[Event]) {
        self.now = now;
        for event in events {
            self.hears(event);
        }
    }

    fn hears(&mut self, event: &Event) {
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
            Event::Back { job, from, outcome } => self.back(*job, *from, outcome),
            Event::Probed { device, outcome } => match outcome {
                Ok(()) => self.device_mut(*device).is_offered = true,
                Err(_) => self.lose(*device),
            },
            Event::Lost { device, .. } => self.lose(*device),
            Event::OthersUse { pool, bytes } => self.others[usize::from(pool.0)] = *bytes,
            _ => {}
        }
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
        for wrote in &report.wrote {
            if let Some(job) = self.jobs.get_mut(&wrote.seq.job)
                && !job.is_over
            {
                job.wrote(wrote);
                if job.place == Where::On(device)
                    && let Some(answer) = job.answers.get_mut(wrote.seq.choice as usize)
                {
                    answer.held += wrote.n_tok - 1;
                }
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
    pub(super) fn lose(&mut self, id: DeviceId) {
        for at in 0..self.devices.len() {
            let other = DeviceId(at as u16);
            let is_part = self.machine.devices[at].parts.contains(&id);
            if other == id || is_part {
                self.clear(other);
            }
        }
    }

    pub(super) fn clear(&mut self, id: DeviceId) {
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

    pub(super) fn ends(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.is_over = true;
            job.place = Where::Waiting;
        }
    }
}
