//! Where a job could go, and what it would take there.

use super::memory::{NoRoom, Room, left_s};
use super::{Scheduler, TYPICAL_TOKENS};
use crate::decision::{JobForecast, Lost, WATTS_MOST};
use crate::fleet::{Device, Health, Resident, Stage};
use crate::gait::{Gait, Load};
use crate::job::{DeviceId, JobId, Work};
use crate::live::Job;
use crate::place::{Offer, Ready};
use crate::{Class, Limits};

/// After so many steps, what they took is known better than it can be guessed.
const STEPS_MIN: u64 = 16;
/// A prompt of fewer tokens is not worth two devices.
const SPLIT_TOKENS_MIN: u32 = 256;
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

/// All places for a job: offers, and hurdles of the other devices.
pub(super) struct Survey {
    pub(super) offers: Vec<Offer>,
    pub(super) hurdles: Vec<(DeviceId, Hurdle)>,
}

impl Scheduler {
    /// All places for a job.
    pub(super) fn survey(&self, job: &Job, class: Class) -> Survey {
        let behind = self.queues.n_for(class, job.spec.model).saturating_sub(1);
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
        let mut survey = Survey { offers, hurdles };
        self.add_away(job, &mut survey);
        survey
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
            kind: Some(device.facts.kind),
            heat: device.heat,
            above: self.above(id, spec.class),
            crowd: self.crowd(id),
            crowd_watts: self.crowd_watts(id),
            watts: self.watts_compared(id, gait.watts_decode.max(gait.watts_prefill)),
            backlog_s: behind as f64 * (forecast.prefill_s + each),
            tps: self.expected_left(job) / forecast.decode_s.max(1e-9),
            forecast,
            state,
        })
    }

    /// How fast a model goes on a device now. Steps have shown how others slow it down; until there were some, devices that
    /// use the same memory are taken to share it.
    fn gait_now(&self, id: DeviceId, resident: Option<&Resident>, form: &Gait) -> Gait {
        match resident.filter(|resident| resident.correction().steps() >= STEPS_MIN) {
            Some(resident) => *resident.true_gait(),
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
        let beside = self.ties.beside[usize::from(id.0)].iter();
        beside.map(|&other| self.device(other).usage.busy()).sum()
    }

    /// Watts that those devices drew lately beyond their rest.
    pub(super) fn crowd_watts(&self, id: DeviceId) -> f64 {
        let watts = |other: &Device| (other.usage.watts() - other.facts.watts_idle).max(0.0);
        let beside = self.ties.beside[usize::from(id.0)].iter();
        beside.map(|&other| watts(self.device(other))).sum()
    }

    /// Share of a device's time lately that classes above this one took.
    pub(super) fn above(&self, id: DeviceId, class: Class) -> f64 {
        let workers = self.workers(id).iter();
        let above = workers.map(|&worker| self.device(worker).usage.above(class));
        above.fold(0.0, f64::max)
    }

    /// What speaks against a device before anything is reckoned.
    pub(super) fn check(&self, id: DeviceId, job: &Job) -> Result<(), Hurdle> {
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
        if job.spec.work == Work::Embed && !device.facts.embeds {
            return Err(never(Lost::Unsupported {
                because: "it tells what comes next, and no more: it cannot embed".to_owned(),
            }));
        }
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
        // Of devices whose watts at rest nobody knows, it is all that they draw.
        let joules = |seconds: f64, watts: f64| match seconds > 0.0 {
            true => (watts > 0.0).then(|| seconds * (watts - idle).max(0.0)),
            false => Some(0.0),
        };
        let reading = joules(prefill_s, gait.watts_prefill);
        let writing_s = left * shared * share;
        let writing = joules(writing_s, gait.watts_decode);
        let joules = reading.zip(writing).map(|(a, b)| a + b);
        let assumed = device.facts.watts_assumed.filter(|_| joules.is_none());
        JobForecast {
            prefill_s,
            decode_s,
            joules,
            joules_assumed: assumed.map(|watts| watts * (prefill_s + writing_s)),
            spread: gait.spread,
            ..JobForecast::default()
        }
    }

    /// Watts of a device as places are compared by: known, or else assumed, or else more than anything draws.
    pub(super) fn watts_compared(&self, id: DeviceId, watts: f64) -> f64 {
        let assumed = self.device(id).facts.watts_assumed;
        match watts > 0.0 {
            true => watts,
            false => assumed.unwrap_or(WATTS_MOST),
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
            .filter(|o| o.state == Ready::Now && self.device(o.decode).facts.moves)
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
                let joules = reader.forecast.joules.zip(writer.forecast.joules);
                let parts = |(r, w): (f64, f64)| r * share(reader) + w * (1.0 - share(writer));
                let compared = |offer: &Offer| offer.forecast.joules_compared();
                let assumed = (compared(reader), compared(writer));
                let joules = joules.map(parts);
                offers.push(Offer {
                    prefill: reader.prefill,
                    decode: writer.decode,
                    forecast: JobForecast {
                        copy_s: bytes as f64 / (link * 1e9),
                        decode_s: writer.forecast.decode_s,
                        joules,
                        joules_assumed: joules.is_none().then(|| parts(assumed)),
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
}

/// Tokens of context that a job needs: the longest of its answers.
pub(super) fn context(job: &Job) -> u32 {
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
