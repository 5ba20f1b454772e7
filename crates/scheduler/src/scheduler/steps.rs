//! Idle devices get their next step, and what came of a step is taken note of.

use std::time::Duration;

use troika_base::Joules;

use super::Scheduler;
use crate::Time;
use crate::account::{JoulesSource, Phase, Span};
use crate::batcher::{Batcher, Plan, Slice, Urgency};
use crate::event::{Action, Refusal, StepReport, Wrote};
use crate::fleet::Step;
use crate::gait::Gait;
use crate::job::{DeviceId, JobId, ModelId, SeqId, Work};
use crate::live::{Answer, Job, Place, seq};

/// A step that takes so many times as long as expected, and this long besides, hangs.
const HANG_FACTOR: f64 = 30.0;
const HANG_MIN: Duration = Duration::from_secs(60);

impl Scheduler {
    /// Gives every idle device its next step; where devices share parts, the most urgent goes first.
    pub(super) fn dispatch(&mut self) {
        let now = self.now;
        let mut wants: Vec<(Urgency, std::cmp::Reverse<Time>, DeviceId, ModelId)> = Vec::new();
        for id in self.ids() {
            let device = self.device(id);
            if !device.is_ready() || device.step.is_some() {
                continue;
            }
            let lifts = !device.has_passed();
            for (&model, resident) in &device.residents {
                if let Some(urgency) = resident.batcher.urgency(&self.settings, now, lifts) {
                    wants.push((urgency, std::cmp::Reverse(resident.served), id, model));
                }
            }
        }
        wants.sort_by(|a, b| (b.0, b.1, a.2, a.3).cmp(&(a.0, a.1, b.2, b.3)));
        for (_, _, id, model) in wants {
            let is_busy = |id: DeviceId| self.device(id).step.is_some();
            let conflicts = &self.ties.conflicts[usize::from(id.0)];
            if !is_busy(id) && !conflicts.iter().any(|&other| is_busy(other)) {
                self.begin_step(id, model);
            }
        }
    }

    fn begin_step(&mut self, id: DeviceId, model: ModelId) {
        let now = self.now;
        let device = &mut self.devices[usize::from(id.0)];
        let Some(resident) = device.residents.get_mut(&model) else {
            return;
        };
        let plan = resident
            .batcher
            .plan(resident.free_pages, &self.settings, now);
        let Some(Plan {
            slices,
            load,
            class,
            begun,
            preempted,
            may_draft,
            ..
        }) = plan
        else {
            return;
        };
        let expected = resident.true_gait().step_s(load);
        for (&other, resident) in &mut device.residents {
            let is_over = resident.batcher.top() > Some(class);
            resident.was_passed = other != model && (resident.was_passed || is_over);
        }
        device.step = Some(Step {
            model,
            slices: slices.clone(),
            load,
            since: now,
            hangs: now + HANG_MIN + Duration::from_secs_f64(expected * HANG_FACTOR),
            class,
        });
        for seq in begun {
            if let Some(job) = self.jobs.get_mut(&seq.job) {
                job.first_step.get_or_insert(now);
            }
        }
        for seq in preempted {
            self.give_up(seq, id, model);
        }
        self.actions.push(Action::Step {
            device: id,
            model,
            slices,
            may_draft,
        });
    }

    /// A sequence lost its pages: its job waits again, or if it has other answers here, the sequence alone does.
    fn give_up(&mut self, gone: SeqId, device: DeviceId, model: ModelId) {
        let resident = self.devices[usize::from(device.0)]
            .residents
            .get_mut(&model);
        let Some(job) = self.jobs.get_mut(&gone.job) else {
            return;
        };
        let runs_on = resident.as_ref().is_some_and(|resident| {
            job.open(gone.job)
                .any(|(seq, _)| resident.batcher.progress(seq).is_some())
        });
        match runs_on {
            true => {
                if let Some(answer) = job.answers.get_mut(gone.choice as usize) {
                    answer.is_parked = true;
                }
                job.account.replays += 1;
                if let Some(resident) = resident {
                    resident.parked.insert(gone.job);
                }
                self.actions.push(Action::Release { device, seq: gone });
            }
            false => {
                job.account.replays += 1;
                self.give_way(gone.job, device);
            }
        }
    }

    /// Pages were short: the youngest sequence gives way.
    pub(super) fn out_of_pages(&mut self, id: DeviceId, free_pages: u32) {
        let device = self.device_mut(id);
        let Some(step) = device.step.take() else {
            return;
        };
        let Some(resident) = device.residents.get_mut(&step.model) else {
            return;
        };
        resident.free_pages = free_pages;
        if let Some(gone) = resident.batcher.preempt(None) {
            return self.give_up(gone, id, step.model);
        }
        // It is alone, and yet the cache does not hold it.
        let jobs: Vec<_> = step.slices.iter().map(|slice| slice.seq.job).collect();
        for job in jobs {
            let Some(found) = self.jobs.get(&job) else {
                continue;
            };
            let model = &self.models[&found.spec.model];
            let page = u64::from(self.settings.limits.page_tokens);
            let refusal = Refusal::Memory {
                model: model.facts.name.clone(),
                needs: troika_base::Bytes(
                    model.facts.kv_bytes_per_token * u64::from(found.known()),
                ),
                free: troika_base::Bytes(
                    model.facts.kv_bytes_per_token * page * u64::from(free_pages),
                ),
            };
            self.forget_on(job, id);
            self.actions.push(Action::Drop { device: id, job });
            self.jobs.remove(&job);
            self.refuse(job, refusal);
        }
    }

    /// A step is done.
    pub(super) fn step_done(&mut self, id: DeviceId, report: StepReport) {
        let now = self.now;
        let device = &mut self.devices[usize::from(id.0)];
        let Some(mut step) = device.step.take() else {
            return;
        };
        let Some(resident) = device.residents.get_mut(&step.model) else {
            return;
        };
        step.drafted(&report);
        let gait = *resident.true_gait();
        resident.free_pages = report.free_pages;
        resident.served = now;
        resident.learn(step.load, report.took);
        resident.batcher.computed(now);
        let joules = self.charge_device(id, &step, &report, &gait);
        self.charge_jobs(id, &step, &report, &gait, joules);
        for wrote in report.wrote {
            self.wrote(id, step.model, wrote);
        }
        for job in report.failed {
            self.finish(job);
        }
        self.requeue_parked(id, step.model);
        self.unpark(id, step.model);
    }

    /// Jobs of which nothing runs any more but what gave way wait as a whole again.
    fn requeue_parked(&mut self, id: DeviceId, model: ModelId) {
        let is_stuck = |job: &JobId| {
            self.jobs.get(job).is_some_and(|found| {
                let mut open = found.open(*job);
                found.place == Place::Running(id) && open.all(|(_, answer)| answer.is_parked)
            })
        };
        let resident = self.device(id).residents.get(&model).into_iter();
        let parked = resident.flat_map(|resident| resident.parked.iter().copied());
        let stuck: Vec<JobId> = parked.filter(is_stuck).collect();
        for job in stuck {
            self.give_way(job, id);
        }
    }

    /// What a device used for a step, and before it while it rested.
    fn charge_device(
        &mut self,
        id: DeviceId,
        step: &Step,
        report: &StepReport,
        gait: &Gait,
    ) -> f64 {
        let took = report.took.as_secs_f64();
        let joules = report
            .joules
            .unwrap_or(Joules(gait.watts(step.load) * took));
        let joules = joules.0.max(0.0);
        let source = source(report, gait.watts(step.load));
        let n_workers = self.workers(id).len();
        for at in 0..n_workers {
            let worker = self.workers(id)[at];
            self.rest_until(worker, step.since);
            let usage = &mut self.devices[usize::from(worker.0)].usage;
            let (until, share) = (step.since + report.took, joules / n_workers as f64);
            usage.spent(until, report.took, Some(step.class), share, source);
        }
        self.spent += joules;
        joules
    }

    /// The devices that work when this one does: its parts, or itself.
    pub(super) fn workers(&self, id: DeviceId) -> &[DeviceId] {
        &self.ties.workers[usize::from(id.0)]
    }

    /// Shares a step's time and energy out to its jobs.
    fn charge_jobs(
        &mut self,
        id: DeviceId,
        step: &Step,
        report: &StepReport,
        gait: &Gait,
        joules: f64,
    ) {
        let common = (gait.launch_s + gait.read_s) / step.slices.len().max(1) as f64;
        let weight = |slice: &Slice| common + gait.token_s * f64::from(slice.n_tok);
        let all: f64 = step.slices.iter().map(weight).sum();
        let took = report.took.as_secs_f64();
        let source = source(report, gait.watts(step.load));
        let usage = &mut self.devices[usize::from(id.0)].usage;
        for slice in &step.slices {
            let share = if all > 0.0 { weight(slice) / all } else { 0.0 };
            let Some(job) = self.jobs.get_mut(&slice.seq.job) else {
                continue;
            };
            let phase = job.phase();
            let span = Span {
                device: id,
                phase,
                tokens: u64::from(slice.n_tok),
                device_s: took * share,
                joules: (source != JoulesSource::Unknown).then_some(joules * share),
            };
            job.charge(span, source);
            match phase {
                Phase::Prefill => usage.prefill_tokens += u64::from(slice.n_tok),
                Phase::Decode => usage.decode_tokens += u64::from(slice.n_tok),
            }
        }
    }

    /// A sequence wrote tokens, or became a vector.
    fn wrote(&mut self, device: DeviceId, model: ModelId, wrote: Wrote) {
        let now = self.now;
        let at = wrote.seq;
        let residents = &mut self.devices[usize::from(device.0)].residents;
        let mut batcher = residents
            .get_mut(&model)
            .map(|resident| &mut resident.batcher);
        let Some(job) = self.jobs.get_mut(&at.job) else {
            return;
        };
        if !job.has_parted() {
            job.first_token = Some(now);
            if job.decode_on.is_some() {
                self.parted.push(at.job);
            }
            if let Some(batcher) = &mut batcher {
                part(job, at.job, batcher);
            }
        }
        let Some(answer) = job.answers.get_mut(at.choice as usize) else {
            return;
        };
        if matches!(job.spec.work, Work::Write { .. }) {
            answer.known += wrote.n_tok;
            job.account.decode_tokens += u64::from(wrote.n_tok);
        }
        job.last_token = Some(now);
        answer.has_ended |= wrote.has_ended;
        if let Some(batcher) = batcher {
            match wrote.has_ended {
                true => batcher.remove(at),
                false => batcher.wrote(at, wrote.n_tok),
            };
        }
        if job.answers.iter().all(|answer| answer.has_ended) {
            self.finish(at.job);
        }
    }

    /// Sequences whose cache was given up while their jobs ran on come back when there is room, one at a time.
    fn unpark(&mut self, id: DeviceId, model: ModelId) {
        let now = self.now;
        let device = &mut self.devices[usize::from(id.0)];
        let Some(resident) = device.residents.get_mut(&model) else {
            return;
        };
        let parked: Vec<JobId> = resident.parked.iter().copied().collect();
        for job_id in parked {
            let Some(job) = self.jobs.get_mut(&job_id) else {
                continue;
            };
            if job.place != Place::Running(id) {
                continue;
            }
            let class = job.spec.class;
            let mut parked = job.answers.iter_mut().enumerate();
            let Some((choice, answer)) =
                parked.find(|(_, answer)| answer.is_parked && !answer.has_ended)
            else {
                continue;
            };
            let free = resident.free_pages;
            let is_alone = resident.batcher.n_running() == 0;
            if is_alone || resident.batcher.lacks(class, answer.known, free) == 0 {
                answer.is_parked = false;
                resident
                    .batcher
                    .admit(seq(job_id, choice), class, answer.known, 0, now);
                if !job.answers.iter().any(|answer| answer.is_parked) {
                    resident.parked.remove(&job_id);
                }
                return;
            }
        }
    }
}

/// A prompt is read: from here on each of its answers is a sequence of its own.
fn part(job: &mut Job, id: JobId, batcher: &mut Batcher) {
    let known = job.answers[0].known;
    for choice in 1..job.n() as usize {
        job.answers.push(Answer {
            known,
            has_ended: false,
            held: 0,
            is_parked: false,
        });
        if batcher.progress(seq(id, 0)).is_some() {
            batcher.fork(seq(id, 0), seq(id, choice));
        }
    }
}

/// How a step's joules were found, where its model draws so many watts.
fn source(report: &StepReport, watts: f64) -> JoulesSource {
    match report.joules {
        Some(_) => JoulesSource::Measured,
        None => estimated(watts),
    }
}

/// What can be said of energy without a meter.
pub(super) fn estimated(watts: f64) -> JoulesSource {
    match watts > 0.0 {
        true => JoulesSource::Estimated,
        false => JoulesSource::Unknown,
    }
}
