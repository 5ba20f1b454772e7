//! The time and energy of what devices do beside their steps.
//!
//! A second is in the accounts once: while a step is under way it is the step's, else that of what runs beside, else the device
//! rests. Joules that a meter told are those of the run, whatever went on beside it; without a meter it is watts times the
//! seconds that no step has.

use troika_base::Joules;

use super::Scheduler;
use super::steps::estimated;
use crate::beside::Run;
use crate::job::{DeviceId, JobId};
use crate::{Class, JoulesSource, Time};

impl Scheduler {
    /// An always-on model begins on a device.
    pub(super) fn beside_began(
        &mut self,
        id: DeviceId,
        run: JobId,
        class: Class,
        is_metered: bool,
    ) {
        self.settle(id);
        let since = self.now;
        let began = Run {
            since,
            class,
            is_metered,
        };
        self.device_mut(id).beside.began(run, began);
    }

    /// It is done.
    pub(super) fn beside_ended(&mut self, id: DeviceId, run: JobId, joules: Option<Joules>) {
        self.settle(id);
        let now = self.now;
        let device = self.device_mut(id);
        if device.beside.ended(run, now)
            && let Some(joules) = joules
        {
            let joules = joules.0.max(0.0);
            device.usage.paid(joules);
            self.spent += joules;
        }
    }

    /// Takes note of a device's time until now, or until the step that it is at.
    fn settle(&mut self, id: DeviceId) {
        let begun = |id: DeviceId| self.device(id).step.as_ref().map(|step| step.since);
        let wholes = self.ties.conflicts[usize::from(id.0)].iter().copied();
        let steps = std::iter::once(id).chain(wholes).filter_map(begun);
        let until = steps.min().unwrap_or(self.now);
        self.rest_until(id, until);
    }

    /// Takes note of the time in which a device took no step: it rested, or did something beside.
    pub(super) fn rest_until(&mut self, id: DeviceId, until: Time) {
        let device = &mut self.devices[usize::from(id.0)];
        let (facts, beside, usage) = (&device.facts, &device.beside, &mut device.usage);
        let since = beside.since().unwrap_or(until).min(until);
        let rest = since - usage.until();
        let idle = facts.watts_idle * rest.as_secs_f64();
        usage.spent(since, rest, None, idle, estimated(facts.watts_idle));
        self.spent += idle;
        let (Some(class), work) = (beside.class(), until - usage.until()) else {
            return;
        };
        let (joules, source) = match beside.is_metered() {
            true => (0.0, JoulesSource::Measured),
            false => {
                let watts = facts.watts_busy.unwrap_or(0.0);
                (watts * work.as_secs_f64(), estimated(watts))
            }
        };
        usage.spent(until, work, Some(class), joules, source);
        self.spent += joules;
    }
}
