//! Waiting jobs get their places.
//!
//! Jobs are bound late: the head of each lane is looked at whenever something has changed, and it goes where it is best off
//! now, waits where that is worth waiting for, or has its model loaded. So a full device is left and a free one is filled
//! without anybody having to move.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::memory::{NoRoom, Room, left_s};
use super::{Scheduler, TYPICAL_TOKENS};
use crate::decision::{Candidate, Cause, Decision, JobForecast, Lost};
use crate::event::{Action, Refusal};
use crate::fleet::{Health, Resident, Stage};
use crate::gait::{Gait, Load};
use crate::job::{DeviceId, JobId, ModelId, PoolId, Work};
use crate::live::{Job, Place};
use crate::place::{self, Offer, Ready, Wish};
use crate::{Class, Goal, Limits, Policy, Power};

/// After so many steps, what they took is known better than it can be guessed.
const STEPS_MIN: u64 = 16;
/// A prompt of fewer tokens is not worth two devices.
const SPLIT_TOKENS_MIN: u32 = 256;
/// Two devices have to be better than one by this factor.
const SPLIT_GAIN: f64 = 1.15;
/// A device that failed so often in a row does not count as one that will be back.
const FAILURES_MAX: u32 = 3;

/// Why a device is no place for a job, and whether that will pass.
pub(super) struct Hurdle {
    pub(super) lost: Lost,
    pub(super) passes: Passes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Passes {
    Never,
    Soon,
    /// When models that are in use are done.
    WhenFree,
}

/// What becomes of the head of a lane.
enum Verdict {
    Start(Box<Offer>),
    Load(DeviceId),
    Wait,
    /// Wait, and have what is in use on this device leave.
    Clear(DeviceId),
    Never(Refusal),
}

/// All places for a job: offers, and hurdles of the other devices.
struct Survey {
    offers: Vec<Offer>,
    hurdles: Vec<(DeviceId, Hurdle)>,
}

impl Scheduler {
    /// Gives the heads of all lanes their places: the most urgent class first, and within it whoever has waited longest.
    pub(super) fn place_all(&mut self) {
        let mut lanes = Vec::new();
        for (class, model) in self.queues.lanes() {
            let jobs = &self.jobs;
            let head = self.queues.head(class, model, |id| Self::waits(jobs, id));
            if let Some(head) = head.filter(|_| !self.is_held(class)) {
                lanes.push((Reverse(class), self.jobs[&head].queued, model));
            }
        }
        lanes.sort();
        // Pools in which memory is cleared for a lane: those after it would only take it away again.
        let mut claims = BTreeSet::new();
        for (class, _, model) in lanes {
            self.place_lane(class.0, model, &mut claims);
        }
    }

    fn place_lane(&mut self, class: Class, model: ModelId, claims: &mut BTreeSet<PoolId>) {
        loop {
            let jobs = &self.jobs;
            let head = self.queues.head(class, model, |id| Self::waits(jobs, id));
            let Some(id) = head else {
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
    fn spares(&self, job: &Job) -> Option<Class> {
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
        }
    }

    /// All places for a job.
    fn survey(&self, job: &Job, class: Class) -> Survey {
        let behind = self
            .queues
            .n_in_lane(class, job.spec.model)
            .saturating_sub(1);
        let mut offers = Vec::with_capacity(self.devices.len());
        let mut hurdles = Vec::new();
        let singles = self
            .ids()
            .filter(|&id| self.device(id).facts.parts.is_empty());
        for id in singles {
            match self.offer(id, job, behind) {
                Ok(offer) => offers.push(offer),
                Err(hurdle) => hurdles.push((id, hurdle)),
            }
        }
        let wholes = self
            .ids()
            .filter(|&id| !self.device(id).facts.parts.is_empty());
        for id in wholes {
            // Several devices for what one can do would make each of them wait for the others.
            let is_required = job.spec.require_device == Some(id);
            if !offers.is_empty() && !is_required {
                continue;
            }
            match self.offer(id, job, behind) {
                Ok(offer) => offers.push(offer),
                Err(hurdle) => hurdles.push((id, hurdle)),
            }
        }
        self.add_splits(job, &mut offers);
        Survey { offers, hurdles }
    }

    /// A device as a place for a job that has yet to begin there; `behind` jobs wait behind it.
    fn offer(&self, id: DeviceId, job: &Job, behind: usize) -> Result<Offer, Hurdle> {
        self.check(id, job)?;
        let device = self.device(id);
        let spec = &job.spec;
        let form = &self.models[&spec.model].facts.forms[&id];
        let limits = self.limits(id);
        let resident = device.residents.get(&spec.model);
        let gait = self.gait_now(id, resident, &form.gait);
        let held = match spec.work {
            Work::Write { .. } => {
                let held = self
                    .habits
                    .expected(spec.owner, spec.model, id, spec.prompt_tokens);
                held.min(job.known() - 1)
            }
            _ => 0,
        };
        let mut forecast = self.forecast(id, job, &gait, held);
        forecast.wait_s = device.ahead_s(spec.class, self.now, limits.prefill_tokens);
        let state = match resident {
            None => {
                let room = self.room(id, job)?;
                forecast.load_s = form.load_s + room.cost_s;
                Ready::Load
            }
            Some(resident) => match resident.stage {
                Stage::Ready if self.admits(id, job, resident) => Ready::Now,
                Stage::Ready => {
                    let lane = self.expected_left(job) / limits.running.max(1) as f64;
                    forecast.wait_s += lane * forecast.decode_s / self.expected_left(job).max(1.0);
                    Ready::Later
                }
                Stage::Loading { since } => {
                    forecast.load_s = left_s(since, self.now, form.load_s);
                    Ready::Later
                }
                Stage::Leaving | Stage::Unloading => {
                    return Err(passing("the model is being put away there"));
                }
            },
        };
        let together = limits.running.min(behind + 1).max(1) as u64;
        let each = self.expected_left(job)
            * gait.step_s(Load {
                tokens: together,
                past: 0,
            })
            / together as f64;
        Ok(Offer {
            prefill: id,
            decode: id,
            kind: device.facts.kind,
            heat: device.heat,
            above: self.above(id, spec.class),
            crowd: self.crowd(id),
            watts: (gait.watts_decode).max(gait.watts_prefill),
            backlog_s: behind as f64 * (forecast.prefill_s + each),
            tps: self.expected_left(job) / forecast.decode_s.max(1e-9),
            forecast,
            state,
        })
    }

    /// How fast a model goes on a device now. Steps have shown how others slow it down; until there were some, devices that
    /// use the same memory are taken to share it.
    fn gait_now(&self, id: DeviceId, resident: Option<&Resident>, form: &Gait) -> Gait {
        match resident.filter(|resident| resident.correction.steps() >= STEPS_MIN) {
            Some(resident) => resident.true_gait(),
            None => {
                let crowd = 1.0 + self.crowd(id);
                Gait {
                    read_s: form.read_s * crowd,
                    past_s: form.past_s * crowd,
                    ..*form
                }
            }
        }
    }

    /// How busy devices were lately that use the same memory: 0 if none was, 1 if one always was.
    pub(super) fn crowd(&self, id: DeviceId) -> f64 {
        let pools = &self.device(id).facts.pools;
        let others = self.ids().filter(|other| {
            let facts = &self.device(*other).facts;
            let shares = facts.pools.iter().any(|pool| pools.contains(pool));
            *other != id && facts.parts.is_empty() && shares
        });
        others.map(|other| self.device(other).usage.busy()).sum()
    }

    /// Share of a device's time lately that classes above this one took.
    pub(super) fn above(&self, id: DeviceId, class: Class) -> f64 {
        let workers = self.workers(id).into_iter();
        let above = workers.map(|worker| self.device(worker).usage.above(class));
        above.fold(0.0, f64::max)
    }

    /// What speaks against a device before anything is reckoned.
    fn check(&self, id: DeviceId, job: &Job) -> Result<(), Hurdle> {
        let device = self.device(id);
        let never = |lost| Hurdle {
            lost,
            passes: Passes::Never,
        };
        if job.spec.require_device.is_some_and(|device| device != id) {
            return Err(never(Lost::NotRequired));
        }
        let model = &self.models[&job.spec.model];
        let Some(form) = model.facts.forms.get(&id) else {
            let because = model.facts.impossible.get(&id);
            let because = because.map_or("the model has no form for it", |why| &**why);
            return Err(never(Lost::Unsupported {
                because: because.to_owned(),
            }));
        };
        let context = context(job);
        if context > form.n_ctx {
            let because = format!("{context} tokens are more than its {}", form.n_ctx);
            return Err(never(Lost::TooSmall { because }));
        }
        if let Some((_, why)) = model.failed.get(&id).filter(|(until, _)| *until > self.now) {
            return Err(never(Lost::NotOffered {
                because: why.clone(),
            }));
        }
        let out = device.facts.parts.iter().chain([&id]).find_map(|&part| {
            let device = self.device(part);
            device.why_not().map(|why| (device, why))
        });
        if let Some((device, because)) = out {
            let is_gone = matches!(&device.health, Health::Lost { failures, .. } if *failures >= FAILURES_MAX);
            return Err(Hurdle {
                lost: Lost::NotOffered { because },
                passes: if is_gone { Passes::Never } else { Passes::Soon },
            });
        }
        // Where another one is left, a device is not tried twice.
        let has_failed = job.failed_on.contains(&id);
        let others = model
            .facts
            .forms
            .keys()
            .filter(|other| self.device(**other).is_ready() && !job.failed_on.contains(other));
        if has_failed && job.spec.require_device.is_none() && others.count() > 0 {
            return Err(never(Lost::NotOffered {
                because: format!("the job failed there: {}", job.failure),
            }));
        }
        Ok(())
    }

    fn room(&self, id: DeviceId, job: &Job) -> Result<Room, Hurdle> {
        let spares = self.spares(job);
        self.room_for(id, job.spec.model, context(job), spares)
            .map_err(|no| {
                let (needs, has, passes) = match no {
                    NoRoom::Never { needs, has } => (needs, has, Passes::Never),
                    NoRoom::InUse { needs, has } => (needs, has, Passes::WhenFree),
                };
                let because = format!("it needs {needs}, and {has} is to be had");
                Hurdle {
                    lost: Lost::TooSmall { because },
                    passes,
                }
            })
    }

    /// Whether a job can begin on a device at once.
    pub(super) fn admits(&self, id: DeviceId, job: &Job, resident: &Resident) -> bool {
        if job.spec.work == Work::Load {
            return true;
        }
        let limits = self.limits(id);
        let class = job.spec.class;
        let free = resident.pages_left(limits.page_tokens);
        let known = job.known();
        if resident.peers(class) >= limits.running || !resident.batcher.admits(class, known, free) {
            return false;
        }
        // Lower classes give up their pages, but not in the middle of a step.
        let step = self.device(id).step.as_ref();
        let is_busy = step.is_some_and(|step| step.model == job.spec.model);
        !is_busy || resident.batcher.lacks(class, known, free) == 0
    }

    pub(super) fn limits(&self, id: DeviceId) -> Limits {
        let batch_max = self.device(id).facts.batch_max.max(1);
        let limits = self.settings.limits;
        Limits {
            running: limits.running.min(batch_max),
            sequences: limits.sequences.min(batch_max),
            ..limits
        }
    }

    /// What a job is expected to take on a device, of which it has the first `held` tokens in the cache.
    pub(super) fn forecast(&self, id: DeviceId, job: &Job, gait: &Gait, held: u32) -> JobForecast {
        let device = self.device(id);
        let (class, model) = (job.spec.class, job.spec.model);
        let unread = job.known().saturating_sub(held);
        let limits = self.limits(id);
        let prefill_s = match job.spec.work {
            Work::Load => 0.0,
            _ => gait.prefill_s(unread, limits.prefill_tokens),
        };
        let left = self.expected_left(job);
        let n = job.open(JobId(0)).count().max(job.n() as usize) as u64;
        let past = n * u64::from(job.known()) + (left / 2.0) as u64;
        let more = Load { tokens: n, past };
        let decode_s = left * device.cycle_s(class, model, gait, more);
        let peers = device.residents.get(&model);
        let peers = peers.map_or(0, |resident| resident.peers(class)) as u64;
        let shared = gait.step_s(Load {
            tokens: n + peers,
            past,
        });
        let idle = device.facts.watts_idle;
        let share = n as f64 / (n + peers) as f64;
        let joules = prefill_s * (gait.watts_prefill - idle).max(0.1)
            + left * shared * share * (gait.watts_decode - idle).max(0.1);
        JobForecast {
            prefill_s,
            decode_s,
            joules,
            spread: gait.spread,
            ..JobForecast::default()
        }
    }

    /// Tokens that a job is expected to write yet.
    pub(super) fn expected_left(&self, job: &Job) -> f64 {
        let Work::Write { max_tokens, .. } = job.spec.work else {
            return 0.0;
        };
        let model = self.models.get(&job.spec.model);
        let typical = model.map_or(TYPICAL_TOKENS, |m| m.typical[job.spec.class.index()].0);
        let whole = typical.min(f64::from(max_tokens));
        (whole - f64::from(job.written())).max(1.0)
    }

    /// Pairs of devices, one to read the prompt and one to write the answers.
    fn add_splits(&self, job: &Job, offers: &mut Vec<Offer>) {
        let is_fit = matches!(job.spec.work, Work::Write { .. })
            && !job.has_parted()
            && job.spec.require_device.is_none()
            && job.spec.prompt_tokens >= SPLIT_TOKENS_MIN;
        if !is_fit || offers.len() < 2 {
            return;
        }
        let ready: Vec<Offer> = offers
            .iter()
            .filter(|o| o.state == Ready::Now)
            .cloned()
            .collect();
        let facts = &self.models[&job.spec.model].facts;
        let bytes = facts.kv_bytes_per_token * u64::from(job.spec.prompt_tokens);
        for reader in &ready {
            for writer in &ready {
                let faster = reader.forecast.prefill_s < writer.forecast.prefill_s
                    && writer.forecast.decode_s < reader.forecast.decode_s;
                let cheaper = reader.prefill != writer.prefill;
                if !(faster && cheaper) {
                    continue;
                }
                let link = self.link_gbs(reader.prefill, writer.decode);
                let share = |offer: &Offer| {
                    let forecast = &offer.forecast;
                    let all = forecast.prefill_s + forecast.decode_s;
                    forecast.prefill_s / all.max(1e-9)
                };
                let joules = reader.forecast.joules * share(reader)
                    + writer.forecast.joules * (1.0 - share(writer));
                offers.push(Offer {
                    prefill: reader.prefill,
                    decode: writer.decode,
                    forecast: JobForecast {
                        copy_s: bytes as f64 / (link * 1e9),
                        decode_s: writer.forecast.decode_s,
                        joules,
                        spread: reader.forecast.spread.max(writer.forecast.spread),
                        ..reader.forecast
                    },
                    above: reader.above.max(writer.above),
                    heat: reader.heat.max(writer.heat),
                    ..writer.clone()
                });
            }
        }
    }

    /// 10⁹ bytes a second from one device to another.
    pub(super) fn link_gbs(&self, from: DeviceId, to: DeviceId) -> f64 {
        let speed = |id: DeviceId| self.device(id).facts.link_gbs.max(0.01);
        speed(from).min(speed(to))
    }

    /// A job goes to a device.
    fn bind(&mut self, id: JobId, offer: &Offer, decision: Decision) {
        let (now, at) = (self.now, offer.prefill);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let (class, model, known) = (job.spec.class, job.spec.model, job.known());
        self.queues.pop(class, model, job.cost_s);
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
        if !job.failed_on.is_empty() {
            return Cause::Replay;
        }
        let cheapest = (0..offers.len()).min_by(|&a, &b| {
            offers[a]
                .forecast
                .joules
                .total_cmp(&offers[b].forecast.joules)
        });
        let is_lower = job.spec.class < Class::Agent;
        match is_lower && cheapest != best && self.settings.policy.goal != Goal::Fastest {
            true => Cause::Spill,
            false => Cause::Arrival,
        }
    }

    fn decision(
        &self,
        id: JobId,
        cause: Cause,
        winner: &Offer,
        offers: &[Offer],
        lost: Vec<Option<Lost>>,
        hurdles: Vec<(DeviceId, Hurdle)>,
    ) -> Decision {
        let possible = offers.iter().zip(lost).map(|(offer, lost)| Candidate {
            prefill: offer.prefill,
            decode: offer.decode,
            forecast: Some(offer.forecast),
            lost,
        });
        let impossible = hurdles.into_iter().map(|(device, hurdle)| Candidate {
            prefill: device,
            decode: device,
            forecast: None,
            lost: Some(hurdle.lost),
        });
        let mut candidates: Vec<_> = possible.chain(impossible).collect();
        let score = |c: &Candidate| c.forecast.map_or(f64::INFINITY, |f| f.score);
        candidates.sort_by(|a, b| {
            let first = a.lost.is_some().cmp(&b.lost.is_some());
            first.then(score(a).total_cmp(&score(b)))
        });
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
        let ready = self
            .devices
            .iter()
            .filter(|device| device.is_ready())
            .count();
        let queued_s = self.queues.work_from(job.spec.class) / ready.max(1) as f64;
        let best = survey.offers.iter().map(|offer| offer.forecast);
        let best = best.min_by(|a, b| a.total_s().total_cmp(&b.total_s()))?;
        let expected_s = best.total_s() + queued_s;
        (expected_s > left_s).then_some(Refusal::Deadline {
            expected_s,
            low_s: expected_s / best.spread,
            high_s: expected_s * best.spread,
            left_s,
        })
    }

    fn no_device(&self, job: &Job, hurdles: &[(DeviceId, Hurdle)]) -> Refusal {
        if let Some(required) = job.spec.require_device {
            let found = hurdles.iter().find(|(id, _)| *id == required);
            return Refusal::RequiredDevice {
                device: self.device(required).facts.name.clone(),
                why: found.map_or("there is no such device".to_owned(), |(_, h)| {
                    h.lost.to_string()
                }),
            };
        }
        let told = hurdles
            .iter()
            .map(|(id, hurdle)| format!("{}: {}", self.device(*id).facts.name, hurdle.lost));
        Refusal::NoDevice {
            model: self.models[&job.spec.model].facts.name.clone(),
            why: told.collect::<Vec<_>>().join("; "),
        }
    }
}

/// Tokens of context that a job needs: the longest of its answers.
fn context(job: &Job) -> u32 {
    job.spec.prompt_tokens.saturating_add(job.max_tokens())
}

fn passing(because: &str) -> Hurdle {
    Hurdle {
        lost: Lost::NotOffered {
            because: because.to_owned(),
        },
        passes: Passes::Soon,
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
