//! What no scheduler may do with jobs that leave the machine, or may not.

use troika_scheduler::{Decision, DeviceId, JobId, Returned};

use super::books::Where;
use super::{Checker, Violation};

impl Checker<'_> {
    fn is_remote(&self, id: DeviceId) -> bool {
        usize::from(id.0) >= self.machine.devices.len()
    }

    /// Of a job that may not leave, no endpoint is even looked at.
    pub(super) fn looks_only_where_it_may(&self, decision: &Decision) -> Result<(), Violation> {
        let Some(job) = self.jobs.get(&decision.job) else {
            return Ok(());
        };
        let may = |id: DeviceId| job.spec.elsewhere.iter().any(|place| place.device == id);
        let seen = decision.candidates.iter();
        let seen = seen.flat_map(|candidate| [candidate.prefill, candidate.decode]);
        let all = seen.chain([decision.prefill, decision.decode]);
        let wrong = all.filter(|&id| self.is_remote(id)).find(|&id| !may(id));
        match wrong {
            Some(id) => Err(self.wrong(
                decision.job,
                format!("endpoint {} is looked at, and it may not go there", id.0),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn send(&mut self, id: JobId, to: DeviceId) -> Result<(), Violation> {
        let Some(job) = self.jobs.get(&id) else {
            return Err(self.wrong(id, "it is sent, and never came"));
        };
        let may = job.spec.elsewhere.iter().any(|place| place.device == to);
        self.ensure(may, id, || {
            format!("it is sent to endpoint {}, and may not go there", to.0)
        })?;
        self.ensure(!job.is_over, id, || "it is sent after its end".to_owned())?;
        self.ensure(job.place == Where::Waiting, id, || {
            format!("it is sent, and is {:?}", job.place)
        })?;
        self.ensure(!job.sent_to.contains(&to), id, || {
            "it is sent again to where it came back from undone".to_owned()
        })?;
        let is_unwritten = job
            .answers
            .iter()
            .all(|a| a.known == job.spec.prompt_tokens);
        self.ensure(is_unwritten, id, || {
            "it is sent, and a part of its answer was told".to_owned()
        })?;
        let required = job.spec.require_device;
        self.ensure(required.is_none_or(|only| only == to), id, || {
            "it is sent, and requires another place".to_owned()
        })?;
        self.ensure(job.decided == Some((to, to)), id, || {
            format!(
                "it is sent to {}, and was decided to {:?}",
                to.0, job.decided
            )
        })?;
        let at = usize::from(to.0) - self.machine.devices.len();
        let there = |job: &&super::books::Job| job.place == Where::Away(to);
        let jobs = self.jobs.values().filter(there).count();
        let most = self.remotes.get(at).and_then(|remote| remote.concurrent);
        self.ensure(most.is_none_or(|most| jobs < most), id, || {
            format!("it is sent to where {jobs} are, and that takes no more")
        })?;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.place = Where::Away(to);
            job.sent_to.push(to);
        }
        Ok(())
    }

    /// Who is away is called back only when nobody waits for it any more.
    pub(super) fn calls_back(&self, device: DeviceId, id: JobId) -> Result<(), Violation> {
        let is_open = self.jobs.get(&id).is_some_and(|job| !job.is_over);
        self.ensure(!(self.is_remote(device) && is_open), id, || {
            "it is called back, and somebody waits for it".to_owned()
        })
    }

    pub(super) fn back(&mut self, id: JobId, from: DeviceId, outcome: &Returned) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.is_over || job.place != Where::Away(from) {
            return;
        }
        job.place = Where::Waiting;
        // A job that is done, or ends in the middle, is to be finished.
        job.has_failed |= match outcome {
            Returned::Done { .. } => true,
            Returned::Failed { said, .. } => *said,
        };
        job.is_back = job.has_failed;
    }
}
