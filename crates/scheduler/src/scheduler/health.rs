//! Devices come, fail and come back.

use std::time::Duration;

use super::Scheduler;
use crate::Time;
use crate::event::{Action, Refusal};
use crate::fleet::{Device, Health};
use crate::job::DeviceId;
use crate::live::Place;

/// A device that failed is asked again after so long, and after twice as long each time that it fails again.
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Of a device that rests, it is taken note so often.
const REST: Duration = Duration::from_secs(1);
/// A probe that is not answered for so long has failed.
const PROBE_MAX: Duration = Duration::from_secs(60);

impl Device {
    /// When something is due that no event tells.
    pub(super) fn wake_at(&self) -> Option<Time> {
        match &self.health {
            Health::Ready => None,
            Health::New => Some(Time::default()),
            Health::Probing { since, .. } => Some(*since + PROBE_MAX),
            Health::Lost { retry, .. } => Some(*retry),
        }
    }
}

impl Scheduler {
    /// Asks devices that are new or due again, and gives up those that hang.
    pub(super) fn look_after_devices(&mut self) {
        let now = self.now;
        for id in self.ids() {
            let rests = self.device(id).facts.parts.is_empty() && !self.works(id);
            if rests && now - self.device(id).usage.until() >= REST {
                self.rest_until(id, now);
            }
            let device = self.device_mut(id);
            let is_late = device.step.as_ref().is_some_and(|step| step.hangs <= now);
            match &device.health {
                Health::New => self.probe(id, 0),
                Health::Lost {
                    retry, failures, ..
                } if *retry <= now => {
                    let failures = *failures;
                    self.probe(id, failures);
                }
                Health::Probing { since, .. } if now - *since >= PROBE_MAX => {
                    self.abandon(id, "it does not answer".to_owned());
                }
                Health::Ready if is_late => {
                    self.abandon(id, "it hangs: a step does not end".to_owned());
                }
                _ => {}
            }
        }
    }

    /// Whether a device is at a step, by itself or as a part of another one.
    fn works(&self, id: DeviceId) -> bool {
        let is_busy = |id: DeviceId| self.device(id).step.is_some();
        let wholes = self.ties.conflicts[usize::from(id.0)].iter();
        is_busy(id) || wholes.copied().any(is_busy)
    }

    fn probe(&mut self, id: DeviceId, failures: u32) {
        let since = self.now;
        self.device_mut(id).health = Health::Probing { since, failures };
        self.actions.push(Action::Probe(id));
    }

    /// A device is not to be trusted any more; nobody but us knows that.
    pub(super) fn abandon(&mut self, id: DeviceId, why: String) {
        self.actions.push(Action::Abandon(id));
        self.lose(id, why);
    }

    /// A device is gone, and all that was on it: its jobs go on elsewhere from their tokens.
    pub(super) fn lose(&mut self, id: DeviceId, why: String) {
        let now = self.now;
        let device = self.device_mut(id);
        let failures = match &device.health {
            Health::Probing { failures, .. } | Health::Lost { failures, .. } => failures + 1,
            Health::New | Health::Ready => 0,
        };
        let backoff = RETRY.saturating_mul(1 << failures.min(10)).min(RETRY_MAX);
        device.health = Health::Lost {
            why: why.clone(),
            failures,
            retry: now + backoff,
        };
        device.step = None;
        let residents = std::mem::take(&mut device.residents);
        for (&model, resident) in &residents {
            self.ledger.release((id, model));
            self.habits.left(model, id);
            for &job in &resident.jobs {
                self.lost_device(job, id, &why);
            }
        }
        // What it is part of has lost its models too.
        let wholes = self.ties.conflicts[usize::from(id.0)].clone();
        for whole in wholes {
            let device = self.device(whole);
            let is_lost = matches!(device.health, Health::Lost { .. });
            if device.facts.parts.contains(&id) && !is_lost {
                self.abandon(whole, why.clone());
            }
        }
    }

    /// A job's device is gone.
    fn lost_device(&mut self, id: crate::JobId, device: DeviceId, why: &str) {
        let tries = self.settings.tries;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if let Place::Moving { from, to } = job.place
            && to == device
        {
            return self.back_home(id, from, to);
        }
        if let Place::Moving { from, to } = job.place
            && from == device
        {
            self.actions.push(Action::Drop {
                device: to,
                job: id,
            });
            self.forget_on(id, to);
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.failed_on.push(device);
        job.failure = why.to_owned();
        job.account.replays += 1;
        let failed = job.failed_on.len() as u32;
        if failed >= tries {
            let refusal = Refusal::Failed {
                tries: failed,
                why: why.to_owned(),
            };
            self.jobs.remove(&id);
            return self.refuse(id, refusal);
        }
        self.requeue(id);
    }
}
