//! Waiting jobs get their places.
//!
//! Jobs are bound late: the head of each lane is looked at whenever something has changed, and it goes where it is best off
//! now, waits where that is worth waiting for, or has its model loaded. So a full device is left and a free one is filled
//! without anybody having to move.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Scheduler;
use super::memory::left_s;
use super::offers::{Hurdle, Passes, Survey, context};
use crate::decision::{Candidate, Cause, Decision, JobForecast, Lost};
use crate::event::{Action, Refusal};
use crate::fleet::Stage;
use crate::gait::Load;
use crate::job::{DeviceId, JobId, JobSpec, ModelId, PoolId, Work};
use crate::live::{Job, Place};
use crate::place::{self, Offer, Ready, Wish};
use crate::queue::LaneId;
use crate::{Class, Goal, Outlook, Policy, Power};

/// Two devices have to be better than one by this factor.
const SPLIT_GAIN: f64 = 1.15;

/// What becomes of the head of a lane.
enum Verdict {
    Start(Box<Offer>),
    Send(Box<Offer>),
    Load(DeviceId),
    Wait,
    /// Wait, and have what is in use on this device leave.
    Clear(DeviceId),
    Never(Refusal),
}

impl Scheduler {
    /// Gives the heads of all lanes their places: the most urgent class first, and within it whoever has waited longest.
    pub(super) fn place_all(&mut self) {
        let mut lanes = Vec::new();
        for lane in self.queues.lanes() {
            let jobs = &self.jobs;
            let head = self.queues.head(lane, |id| Self::waits(jobs, id));
            // What is held back may still leave, if it may leave at all.
            if let Some(head) = head.filter(|_| lane.may_leave || !self.is_held(lane.class())) {
                lanes.push((Reverse(lane.class()), self.jobs[&head].queued, lane));
            }
        }
        lanes.sort();
        // Pools in which memory is cleared for a lane: those after it would only take it away again.
        let mut claims = BTreeSet::new();
        for (class, _, lane) in lanes {
            match self.is_held(class.0) {
                true => self.send_held(lane),
                false => self.place_lane(lane, &mut claims),
            }
        }
    }

    /// Places the heads of a lane until one has to wait.
    fn place_lane(&mut self, lane: LaneId, claims: &mut BTreeSet<PoolId>) {
        let (class, model) = (lane.class(), lane.model);
        loop {
            let jobs = &self.jobs;
            let Some(id) = self.queues.head(lane, |id| Self::waits(jobs, id)) else {
                return;
            };
            let survey = self.survey(&self.jobs[&id], class);
            let wish = self.wish(&self.jobs[&id]);
            let mut offers = survey.offers;
            let (best, lost) = self.best(&wish, &mut offers);
            match self.verdict(id, best, &offers, &survey.hurdles) {
                Verdict::Start(offer) => {
                    let cause = self.cause(id, best, &offers);
                    let decision = self.decision(id, cause, &offer, &offers, lost, survey.hurdles);
                    self.bind(id, &offer, decision);
                    self.learn_regret(model, &wish, &offer, &offers);
                }
                Verdict::Send(offer) => {
                    let cause = self.cause(id, best, &offers);
                    let decision = self.decision(id, cause, &offer, &offers, lost, survey.hurdles);
                    self.queues.pop(lane, self.jobs[&id].cost_s);
                    self.send(id, &offer, decision);
                    self.learn_regret(model, &wish, &offer, &offers);
                }
                Verdict::Load(device) => {
                    let pools = &self.device(device).facts.pools;
                    if pools.iter().any(|pool| claims.contains(pool)) {
                        return;
                    }
                    let job = &self.jobs[&id];
                    let (context, spares) = (context(job), self.spares(job));
                    if let Ok(room) = self.room_for(device, model, context, spares) {
                        if !room.victims.is_empty() {
                            claims.extend(pools.iter().copied());
                        }
                        self.make_load(device, model, &room);
                    }
                    return;
                }
                Verdict::Wait => return,
                Verdict::Clear(device) => {
                    claims.extend(self.device(device).facts.pools.iter().copied());
                    self.ask_to_leave(device);
                    return;
                }
                Verdict::Never(refusal) => self.refuse_waiting(id, refusal),
            }
        }
    }

    fn verdict(
        &self,
        id: JobId,
        best: Option<usize>,
        offers: &[Offer],
        hurdles: &[(DeviceId, Hurdle)],
    ) -> Verdict {
        let job = &self.jobs[&id];
        let is_impatient = self.spares(job).is_none();
        let Some(best) = best else {
            if let Some(refusal) = too_late(offers, job, self.now) {
                return Verdict::Never(refusal);
            }
            if hurdles
                .iter()
                .all(|(_, hurdle)| hurdle.passes == Passes::Never)
            {
                return Verdict::Never(self.no_device(job, hurdles));
            }
            let mut full = hurdles.iter().filter(|(_, h)| h.passes == Passes::WhenFree);
            return match full.next() {
                Some(&(device, _)) if is_impatient => Verdict::Clear(device),
                _ => Verdict::Wait,
            };
        };
        let offer = &offers[best];
        match offer.state {
            Ready::Now if offer.is_away() => Verdict::Send(Box::new(offer.clone())),
            Ready::Now => Verdict::Start(Box::new(offer.clone())),
            Ready::Later => Verdict::Wait,
            // It is on its way to somewhere, and soon there.
            Ready::Load if self.comes_within(job.spec.model, offer.forecast.load_s * 1.5) => {
                Verdict::Wait
            }
            Ready::Load => Verdict::Load(offer.prefill),
        }
    }

    /// The class from which on a job leaves idle models to those that wait for them: its own, until its patience ends.
    pub(super) fn spares(&self, job: &Job) -> Option<Class> {
        let waited = self.now - job.queued;
        let class = job.spec.class;
        (waited <= self.settings.patience(class)).then_some(class)
    }

    /// Whether a model is being loaded somewhere and will be there within so many seconds.
    fn comes_within(&self, model: ModelId, seconds: f64) -> bool {
        self.ids().any(|id| {
            let resident = self.device(id).residents.get(&model);
            let Some(Stage::Loading { since }) = resident.map(|resident| resident.stage) else {
                return false;
            };
            let form = self.models.get(&model).and_then(|m| m.facts.forms.get(&id));
            form.is_some_and(|form| left_s(since, self.now, form.load_s) <= seconds)
        })
    }

    /// Sends the heads of a lane whose class is held back on this machine, as far as they have waited long enough for that.
    fn send_held(&mut self, lane: LaneId) {
        loop {
            let jobs = &self.jobs;
            let Some(id) = self.queues.head(lane, |id| Self::waits(jobs, id)) else {
                return;
            };
            let job = &self.jobs[&id];
            let Survey {
                mut offers,
                hurdles,
            } = self.survey_away(job);
            offers.retain(|offer| offer.state == Ready::Now);
            let wish = self.wish(job);
            let (best, lost) = place::choose(&wish, &mut offers);
            let best = best.map(|best| offers[best].clone());
            let Some(offer) = best.filter(|offer| self.is_worth_leaving(job, &wish, offer)) else {
                return;
            };
            let cost_s = job.cost_s;
            let decision = self.decision(id, Cause::Spill, &offer, &offers, lost, hurdles);
            self.queues.pop(lane, cost_s);
            self.send(id, &offer, decision);
        }
    }

    /// The best of the offers, and why the others lost. Two devices have to be better than one by a margin.
    fn best(&self, wish: &Wish, offers: &mut Vec<Offer>) -> (Option<usize>, Vec<Option<Lost>>) {
        let (best, lost) = place::choose(wish, offers);
        let is_split = |offer: &Offer| offer.prefill != offer.decode;
        let Some(winner) = best.filter(|&best| is_split(&offers[best])) else {
            return (best, lost);
        };
        let single = offers.iter().filter(|offer| !is_split(offer));
        let single = single
            .map(|offer| offer.forecast.score)
            .min_by(f64::total_cmp);
        match single.is_some_and(|single| single < offers[winner].forecast.score * SPLIT_GAIN) {
            true => {
                offers.retain(|offer| !is_split(offer));
                place::choose(wish, offers)
            }
            false => (best, lost),
        }
    }

    /// What is wanted of a place for a job, under the policy and the power that there is.
    pub(super) fn wish(&self, job: &Job) -> Wish {
        let class = job.spec.class;
        let on_battery = matches!(self.power, Power::Battery { .. });
        let goal = match self.settings.policy.goal {
            // On the battery, and when the day's energy is spent, what costs least is best.
            Goal::Balanced if on_battery || self.budget_is_spent() => Goal::Frugal,
            goal => goal,
        };
        let waited = (self.now - job.queued).as_secs_f64();
        let patience = self.settings.patience(class).as_secs_f64();
        Wish {
            class,
            policy: Policy {
                goal,
                ..self.settings.policy
            },
            left_s: job.spec.deadline.map(|at| (at - self.now).as_secs_f64()),
            patience_s: patience - waited,
            worth: self.settings.worth,
        }
    }

    /// A job goes to a device.
    fn bind(&mut self, id: JobId, offer: &Offer, decision: Decision) {
        let (now, at) = (self.now, offer.prefill);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let (class, model, known) = (job.spec.class, job.spec.model, job.known());
        self.queues.pop(job.lane(), job.cost_s);
        job.place = Place::Starting(at);
        job.placed = now;
        job.decode_on = (offer.decode != at).then_some(offer.decode);
        job.expect(offer.forecast);
        self.actions.push(Action::Place(Box::new(decision)));
        let device = &mut self.devices[usize::from(at.0)];
        let Some(resident) = device.residents.get_mut(&model) else {
            return;
        };
        resident.jobs.insert(id);
        resident.used = now;
        if job.spec.work == Work::Load {
            return self.finish(id);
        }
        let mut gone = Vec::new();
        let page_tokens = self.settings.limits.page_tokens;
        let mut free = resident.pages_left(page_tokens);
        while resident.batcher.lacks(class, known, free) > 0 {
            let Some(seq) = resident.batcher.preempt(Some(class)) else {
                break;
            };
            // What it had is free from here on; the device says how much that is.
            free += known.div_ceil(page_tokens);
            gone.push(seq);
        }
        resident.coming.insert(id, (class, known));
        for seq in gone {
            self.give_way(seq.job, at);
        }
        self.actions.push(Action::Start {
            device: at,
            model,
            job: id,
        });
    }

    /// Where a model that is not loaded would have been better, that is remembered; when it comes to as much as loading it
    /// there costs, and what goes for it, it is loaded.
    fn learn_regret(&mut self, model: ModelId, wish: &Wish, taken: &Offer, offers: &[Offer]) {
        let mut ripe = None;
        for offer in offers.iter().filter(|offer| offer.state == Ready::Load) {
            let there = Offer {
                forecast: JobForecast {
                    load_s: 0.0,
                    ..offer.forecast
                },
                ..offer.clone()
            };
            let gain = place::gain(wish, taken, &there);
            let load_s = offer.forecast.load_s;
            if let (true, Some(model)) = (gain > 0.0, self.models.get_mut(&model)) {
                let regret = model.regret.entry(offer.prefill).or_insert(0.0);
                *regret += gain * taken.forecast.total_s();
                if *regret > load_s {
                    ripe = Some((offer.prefill, *regret - load_s));
                }
            }
        }
        let Some((device, left)) = ripe.filter(|_| !self.comes_within(model, f64::INFINITY)) else {
            return;
        };
        let kv_tokens = self.models[&model].facts.forms.get(&device);
        let context = kv_tokens.map_or(0, |form| form.kv_tokens.min(form.n_ctx));
        if let Ok(room) = self.room_for(device, model, context, Some(wish.class))
            && room.cost_s <= left
        {
            self.make_load(device, model, &room);
        }
    }

    fn cause(&self, id: JobId, best: Option<usize>, offers: &[Offer]) -> Cause {
        let job = &self.jobs[&id];
        if !job.failed_on.is_empty() || !job.struck.is_empty() {
            return Cause::Replay;
        }
        let cheapest = (0..offers.len()).min_by(|&a, &b| {
            let joules = |at: usize| offers[at].forecast.joules_compared();
            joules(a).total_cmp(&joules(b))
        });
        let is_lower = job.spec.class < Class::Agent;
        match is_lower && cheapest != best && self.settings.policy.goal != Goal::Fastest {
            true => Cause::Spill,
            false => Cause::Arrival,
        }
    }

    pub(super) fn decision(
        &self,
        id: JobId,
        cause: Cause,
        winner: &Offer,
        offers: &[Offer],
        lost: Vec<Option<Lost>>,
        hurdles: Vec<(DeviceId, Hurdle)>,
    ) -> Decision {
        let impossible = hurdles.into_iter().map(|(device, hurdle)| Candidate {
            prefill: device,
            decode: device,
            forecast: None,
            lost: Some(hurdle.lost),
        });
        let mut candidates = place::candidates(offers, lost);
        candidates.extend(impossible);
        Decision {
            job: id,
            at: self.now,
            class: self.jobs[&id].spec.class,
            policy: self.settings.policy,
            cause,
            prefill: winner.prefill,
            decode: winner.decode,
            candidates,
        }
    }

    /// Seconds of work that a job is, roughly: on the device that is best at it, with company.
    pub(super) fn rough_cost_s(&self, job: &Job) -> f64 {
        let forms = self
            .models
            .get(&job.spec.model)
            .map(|model| &model.facts.forms);
        let left = self.expected_left(job);
        let costs = forms.into_iter().flatten().map(|(_, form)| {
            let company = Load { tokens: 4, past: 0 };
            let writing = left * form.gait.step_s(company) / 4.0;
            form.gait
                .prefill_s(job.known(), self.settings.limits.prefill_tokens)
                + writing
        });
        costs.min_by(f64::total_cmp).unwrap_or(0.0)
    }

    /// Whether a new job would come too late, all that is before it in the queue counted in.
    pub(super) fn misses_deadline(&self, job: &Job) -> Option<Refusal> {
        let left_s = (job.spec.deadline? - self.now).as_secs_f64();
        let survey = self.survey(job, job.spec.class);
        let queued_s = self.queued_s(job.spec.class);
        let expected = survey.offers.iter().map(|offer| {
            // Whoever leaves waits for nobody on this machine.
            let queued_s = if offer.is_away() { 0.0 } else { queued_s };
            (offer.forecast.total_s() + queued_s, offer.forecast)
        });
        let (expected_s, best) = expected.min_by(|a, b| a.0.total_cmp(&b.0))?;
        (expected_s > left_s).then_some(Refusal::Deadline {
            expected_s,
            low_s: expected_s / best.spread,
            high_s: expected_s * best.spread,
            left_s,
        })
    }

    /// Seconds of work of at least a class that waits, for each device that works.
    fn queued_s(&self, class: Class) -> f64 {
        let ready = self.devices.iter().filter(|device| device.is_ready());
        self.queues.work_from(class) / ready.count().max(1) as f64
    }

    /// What would become of a job on this machine if it came now.
    pub(super) fn foretell(&self, spec: &JobSpec) -> Outlook {
        let waiting = self.queues.n_all();
        let spec = JobSpec {
            elsewhere: Vec::new(),
            ..spec.clone()
        };
        let job = Job::new(spec, self.now);
        if !self.models.contains_key(&job.spec.model) {
            return Outlook {
                waiting,
                ..Outlook::default()
            };
        }
        let mut offers = self.survey(&job, job.spec.class).offers;
        let wish = Wish {
            left_s: None,
            ..self.wish(&job)
        };
        let best = self.best(&wish, &mut offers).0.map(|best| &offers[best]);
        let queued_s = self.queued_s(job.spec.class);
        Outlook {
            ttft_s: best.map(|best| best.forecast.ttft_s() + queued_s),
            total_s: best.map(|best| best.forecast.total_s() + queued_s),
            waiting,
        }
    }

    fn no_device(&self, job: &Job, hurdles: &[(DeviceId, Hurdle)]) -> Refusal {
        if let Some(required) = job.spec.require_device {
            let found = hurdles.iter().find(|(id, _)| *id == required);
            let is_here = usize::from(required.0) < self.devices.len();
            return Refusal::RequiredDevice {
                device: self.name(required).to_owned(),
                why: match found {
                    Some((_, hurdle)) => hurdle.lost.to_string(),
                    None if is_here => "there is no such device".to_owned(),
                    None => "the job may not leave this machine for it".to_owned(),
                },
            };
        }
        let told = hurdles
            .iter()
            .map(|(id, hurdle)| format!("{}: {}", self.name(*id), hurdle.lost));
        Refusal::NoDevice {
            model: self.models[&job.spec.model].facts.name.clone(),
            why: told.collect::<Vec<_>>().join("; "),
        }
    }
}

/// The refusal of a job all of whose places come too late.
fn too_late(offers: &[Offer], job: &Job, now: crate::Time) -> Option<Refusal> {
    let left_s = (job.spec.deadline? - now).as_secs_f64();
    let best = offers.iter().map(|offer| offer.forecast);
    let best = best.min_by(|a, b| a.total_s().total_cmp(&b.total_s()))?;
    Some(Refusal::Deadline {
        expected_s: best.total_s(),
        low_s: best.total_s() / best.spread,
        high_s: best.total_s() * best.spread,
        left_s,
    })
}
