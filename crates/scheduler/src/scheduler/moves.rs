//! Running jobs go where they are better off.
//!
//! A job moves between steps only, to a device where its model is ready; and only if that is better by a margin, after it has
//! been where it is for a while, so that nothing flaps. It takes its cache along. Where a cache cannot leave its device, or
//! come to another, the job lets go of it and is read again there from its tokens, which is part of what the way costs.

use std::time::Duration;

use super::Scheduler;
use crate::decision::{Candidate, Cause, Decision, JobForecast, Lost};
use crate::event::Action;
use crate::fleet::Stage;
use crate::job::{DeviceId, JobId, Work};
use crate::live::{Job, Place};
use crate::place::{self, Offer, Ready};

/// Between two looks at a device's jobs.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Jobs that are looked at each time.
const LOOK_AT: usize = 4;
/// A job stays where it is for so long at least.
const STAY_MIN: Duration = Duration::from_secs(3);
/// It has to cost less than this share elsewhere.
const MARGIN: f64 = 0.75;
/// No job moves more often.
const MOVES_MAX: u32 = 8;

impl Scheduler {
    /// Hands over jobs whose prompts are read, and moves those that are better off elsewhere.
    pub(super) fn move_some(&mut self) {
        for job in std::mem::take(&mut self.parted) {
            let found = self.jobs.get(&job);
            let goes = found.and_then(|found| Some((found.place, found.decode_on?)));
            if let Some((Place::Running(from), to)) = goes {
                self.hand_over(job, from, to);
            }
        }
        if self.devices.len() < 2 {
            return;
        }
        let now = self.now;
        for id in self.ids() {
            let device = self.device(id);
            let is_due = now - device.looked >= LOOK_EVERY;
            // In the middle of a step nothing moves.
            if !is_due || !device.is_ready() || device.step.is_some() {
                continue;
            }
            let ready = device.residents.values();
            let ready = ready.filter(|resident| resident.stage == Stage::Ready);
            let may = |job: &JobId| {
                let job = self.jobs.get(job);
                job.is_some_and(|job| {
                    job.place == Place::Running(id)
                        && now - job.placed >= STAY_MIN
                        && job.account.moves < MOVES_MAX
                })
            };
            let candidates = ready.flat_map(|resident| resident.jobs.iter().copied());
            let candidates: Vec<_> = candidates.filter(may).take(LOOK_AT).collect();
            self.device_mut(id).looked = now;
            for job in candidates {
                self.consider(job, id);
            }
        }
    }

    /// The prompt is read; the answers are written elsewhere, if that is still possible.
    fn hand_over(&mut self, id: JobId, from: DeviceId, to: DeviceId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.decode_on = None;
        }
        let job = &self.jobs[&id];
        if job.answers.iter().any(|answer| answer.is_parked) {
            return;
        }
        if let Some(there) = self.other_place(job, id, from, to) {
            self.begin_move(id, from, there.decode, Cause::Handover, Vec::new());
        }
    }

    /// Moves a job if another device is better for the rest of it.
    fn consider(&mut self, id: JobId, from: DeviceId) {
        let job = &self.jobs[&id];
        if job.place != Place::Running(from)
            || job.spec.require_device.is_some()
            || job.answers.iter().any(|answer| answer.is_parked)
        {
            return;
        }
        let Some(here) = self.this_place(job, id, from) else {
            return;
        };
        let elsewhere = self.ids().filter(|&to| to != from);
        let mut offers: Vec<Offer> = elsewhere
            .filter_map(|to| self.other_place(job, id, from, to))
            .collect();
        if offers.is_empty() {
            return;
        }
        offers.insert(0, here);
        let wish = self.wish(job);
        let (best, lost) = place::choose(&wish, &mut offers);
        let Some(best) = best.filter(|&best| best > 0) else {
            return;
        };
        let (here, there) = (&offers[0], &offers[best]);
        // Where it is may be out of the question by now; else the gain has to be worth the way.
        let is_out = lost[0] == Some(Lost::NotPreferred);
        if is_out || place::gain(&wish, here, there) > 1.0 - MARGIN {
            let cause = match there.forecast.joules_compared() < here.forecast.joules_compared() {
                true => Cause::Home,
                false => Cause::Gain,
            };
            let candidates = place::candidates(&offers, lost);
            self.begin_move(id, from, there.decode, cause, candidates);
        }
    }

    /// Tokens of a job that are in a device's cache.
    fn held(&self, job: &Job, id: JobId, device: DeviceId) -> Option<u32> {
        let resident = self.device(device).residents.get(&job.spec.model)?;
        let open = job.open(id);
        let held = open.map(|(seq, _)| resident.batcher.progress(seq).map(|(_, held)| held));
        held.sum::<Option<u32>>()
    }

    /// Whether a cache can go from one device to the other.
    fn carries(&self, from: DeviceId, to: DeviceId) -> bool {
        self.device(from).facts.moves && self.device(to).facts.moves
    }

    /// Where a job is, as a place for the rest of it.
    fn this_place(&self, job: &Job, id: JobId, at: DeviceId) -> Option<Offer> {
        let resident = self.device(at).residents.get(&job.spec.model)?;
        let held = self.held(job, id, at)?;
        let gait = resident.true_gait();
        let mut forecast = self.forecast(at, job, gait, held);
        // It is in the round already, and was counted twice.
        let n = job.open(id).count() as u64;
        let past = n * u64::from(job.known());
        let (with, without) = (
            crate::Load {
                tokens: 2 * n,
                past: 2 * past,
            },
            crate::Load { tokens: n, past },
        );
        let ratio = gait.step_s(without) / gait.step_s(with);
        forecast.decode_s *= ratio;
        Some(self.running_offer(at, job, forecast, gait))
    }

    /// Another device as a place for the rest of a job: its model is ready there, and there is room.
    fn other_place(&self, job: &Job, id: JobId, from: DeviceId, to: DeviceId) -> Option<Offer> {
        let device = self.device(to);
        let resident = device.residents.get(&job.spec.model)?;
        let is_open = self.check(to, job).is_ok()
            && resident.stage == Stage::Ready
            && !job.failed_on.contains(&to)
            && self.admits(to, job, resident)
            && resident.batcher.lacks(
                job.spec.class,
                job.known(),
                resident.pages_left(self.settings.limits.page_tokens),
            ) == 0;
        if !is_open || matches!(job.spec.work, Work::Embed | Work::Load) {
            return None;
        }
        let held = self.held(job, id, from)?;
        let held = if self.carries(from, to) { held } else { 0 };
        let gait = resident.true_gait();
        let mut forecast = self.forecast(to, job, gait, held);
        let bytes = self.models[&job.spec.model].facts.kv_bytes_per_token * u64::from(held);
        forecast.copy_s = bytes as f64 / (self.link_gbs(from, to) * 1e9);
        forecast.wait_s = device.ahead_s(job.spec.class, self.now, self.limits(to).prefill_tokens);
        Some(self.running_offer(to, job, forecast, gait))
    }

    fn running_offer(
        &self,
        id: DeviceId,
        job: &Job,
        forecast: JobForecast,
        gait: &crate::Gait,
    ) -> Offer {
        let device = self.device(id);
        Offer {
            prefill: id,
            decode: id,
            kind: Some(device.facts.kind),
            heat: device.heat,
            above: self.above(id, job.spec.class),
            crowd: self.crowd(id),
            crowd_watts: self.crowd_watts(id),
            watts: self.watts_compared(id, gait.watts_decode),
            backlog_s: 0.0,
            tps: self.expected_left(job) / forecast.decode_s.max(1e-9),
            forecast,
            state: Ready::Now,
        }
    }

    fn begin_move(
        &mut self,
        id: JobId,
        from: DeviceId,
        to: DeviceId,
        cause: Cause,
        candidates: Vec<Candidate>,
    ) {
        let now = self.now;
        let carries = self.carries(from, to);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let model = job.spec.model;
        let mut tokens = 0;
        if let Some(resident) = self.devices[usize::from(from.0)].residents.get_mut(&model) {
            for (choice, answer) in job.answers.iter_mut().enumerate() {
                let seq = crate::live::seq(id, choice);
                if let Some((_, held)) = resident.batcher.progress(seq) {
                    answer.held = held;
                    tokens += held;
                    resident.batcher.remove(seq);
                }
            }
        }
        let (class, known) = (job.spec.class, job.known());
        job.place = match carries {
            true => Place::Moving { from, to },
            false => Place::Starting(to),
        };
        job.decode_on = job.decode_on.filter(|&device| device != to);
        job.placed = now;
        job.account.moves += 1;
        if let Some(resident) = self.devices[usize::from(to.0)].residents.get_mut(&model) {
            resident.jobs.insert(id);
            resident.coming.insert(id, (class, known));
        }
        let decision = Decision {
            job: id,
            at: now,
            class,
            policy: self.settings.policy,
            cause,
            prefill: to,
            decode: to,
            candidates,
        };
        self.actions.push(Action::Place(Box::new(decision)));
        match carries {
            true => self.actions.push(Action::Move {
                job: id,
                model,
                from,
                to,
                tokens,
            }),
            false => self.start_over(id, from, to),
        }
    }

    /// A job leaves its cache behind, and begins at another device with what that has of its tokens.
    fn start_over(&mut self, id: JobId, from: DeviceId, to: DeviceId) {
        self.actions.push(Action::Drop {
            device: from,
            job: id,
        });
        self.leave(id, from);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.account.replays += 1;
        for answer in &mut job.answers {
            answer.held = 0;
        }
        let model = job.spec.model;
        self.actions.push(Action::Start {
            device: to,
            model,
            job: id,
        });
    }

    /// A job's cache is where it goes.
    pub(super) fn moved(&mut self, id: JobId, to: DeviceId, free_pages: u32) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Place::Moving { from, to: expected } = job.place else {
            return;
        };
        if to == expected {
            let model = job.spec.model;
            self.leave(id, from);
            if let Some(resident) = self.device_mut(to).residents.get_mut(&model) {
                resident.free_pages = free_pages;
            }
            self.arrive(id, to);
        }
    }

    /// A job's cache could not be moved.
    pub(super) fn move_failed(&mut self, id: JobId, _why: &str) {
        if let Some(Place::Moving { from, to }) = self.jobs.get(&id).map(|job| job.place) {
            self.back_home(id, from, to);
        }
    }

    /// A job stays where it was.
    pub(super) fn back_home(&mut self, id: JobId, from: DeviceId, to: DeviceId) {
        self.leave(id, to);
        self.arrive(id, from);
    }

    fn leave(&mut self, id: JobId, device: DeviceId) {
        let now = self.now;
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let model = job.spec.model;
        if let Some(resident) = self.device_mut(device).residents.get_mut(&model) {
            resident.jobs.remove(&id);
            resident.coming.remove(&id);
            resident.used = now;
        }
    }

    /// A job goes on where its cache is.
    fn arrive(&mut self, id: JobId, device: DeviceId) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let model = job.spec.model;
        let residents = &mut self.devices[usize::from(device.0)].residents;
        let Some(resident) = residents.get_mut(&model) else {
            return;
        };
        resident.coming.remove(&id);
        for (seq, answer) in job.open(id) {
            let held = answer.held.min(answer.known - 1);
            resident
                .batcher
                .admit(seq, job.spec.class, answer.known, held, now);
        }
        job.place = Place::Running(device);
        job.placed = now;
    }
}
