//! Models come into memory and go.

use std::time::Duration;

use troika_base::Bytes;

use super::Scheduler;
use crate::batcher::Batcher;
use crate::event::Action;
use crate::facts::Form;
use crate::fleet::{Resident, Stage};
use crate::job::{DeviceId, KeepAlive, ModelId};
use crate::{Class, Limits, Time};

/// A model that was used so long ago is worth `1/e` of one that is in use.
const RECENCY: f64 = 600.0;
/// Of what is free beside a model, its cache takes this share at most, if its job needs no more.
const CACHE_SHARE: f64 = 0.35;
/// Tokens of a cache that is worth having.
const KV_TOKENS_MIN: u32 = 512;

/// Room for a model on a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Room {
    /// Models that have to go first.
    pub(super) victims: Vec<(DeviceId, ModelId)>,
    /// Seconds until they are back, weighed by how likely they are asked for again.
    pub(super) cost_s: f64,
    /// Tokens of the cache.
    pub(super) kv_tokens: u32,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Never: more than there is.
    Never { needs: Bytes, has: Bytes },
    /// Not before models that are in use are done.
    InUse { needs: Bytes, has: Bytes },
}

impl Scheduler {
    /// What has to go so that a model fits on a device with a cache of at least `context` tokens. Models that jobs wait for of
    /// the class `spares` or above stay.
    pub(super) fn room_for(
        &self,
        id: DeviceId,
        model: ModelId,
        context: u32,
        spares: Option<Class>,
    ) -> Result<Room, NoRoom> {
        let device = self.device(id);
        let Some(form) = self.models[&model].facts.forms.get(&id) else {
            return Err(NoRoom::Never {
                needs: Bytes(0),
                has: Bytes(0),
            });
        };
        let least = self.needs(
            id,
            model,
            form,
            context.max(KV_TOKENS_MIN.min(form.kv_tokens)),
        );
        let pools = &device.facts.pools;
        let sum = |needs: &[u64]| Bytes(needs.iter().sum());
        let rooms: Vec<u64> = pools.iter().map(|&pool| self.ledger.room(pool)).collect();
        if least.iter().zip(&rooms).any(|(need, room)| need > room) {
            return Err(NoRoom::Never {
                needs: sum(&least),
                has: sum(&rooms),
            });
        }
        // A generous cache is no reason to put others away, so the least decides who has to go.
        let mut free: Vec<u64> = pools.iter().map(|&pool| self.ledger.free(pool)).collect();
        let mut on_device = device.residents.len();
        let mut all = self.n_all_models();
        let mut room = Room::default();
        let mut victims = self.victims(id, model, spares);
        let fits = |free: &[u64], on_device: usize, all: usize| {
            let bytes = least.iter().zip(free).all(|(need, free)| need <= free);
            bytes && on_device < device.facts.residents_max && all < self.settings.models_max
        };
        while !fits(&free, on_device, all) {
            let short = least.iter().zip(&free).any(|(need, free)| need > free);
            let helps = |victim: &(f64, DeviceId, ModelId)| {
                let shares = pools
                    .iter()
                    .any(|&pool| self.ledger.held((victim.1, victim.2), pool) > 0);
                (short && shares)
                    || (on_device >= device.facts.residents_max && victim.1 == id)
                    || all >= self.settings.models_max
            };
            let Some(at) = victims.iter().position(helps) else {
                return Err(NoRoom::InUse {
                    needs: sum(&least),
                    has: sum(&free),
                });
            };
            let (value, from, victim) = victims.remove(at);
            for (free, &pool) in free.iter_mut().zip(pools) {
                *free += self.ledger.held((from, victim), pool);
            }
            all -= 1;
            on_device -= usize::from(from == id);
            room.cost_s += value;
            room.victims.push((from, victim));
        }
        room.kv_tokens = self.kv_that_fits(id, model, form, &free).max(context);
        Ok(room)
    }

    /// Bytes that a model takes of each pool while it is loaded, with a cache of so many tokens.
    fn needs(&self, id: DeviceId, model: ModelId, form: &Form, kv_tokens: u32) -> Vec<u64> {
        let mut needs = self.holds(id, model, form, kv_tokens);
        if let Some(first) = needs.first_mut() {
            *first += form.load_peak.0;
        }
        needs
    }

    /// Bytes that a model takes of each pool once it is loaded. The cache is spread as the weights are.
    fn holds(&self, id: DeviceId, model: ModelId, form: &Form, kv_tokens: u32) -> Vec<u64> {
        let cache = self.models[&model].facts.kv_bytes_per_token * u64::from(kv_tokens);
        let weights: u64 = form.bytes.iter().map(|bytes| bytes.0).sum();
        let correction = self.ledger.correction((id, model));
        let of_pool = |bytes: &Bytes| {
            let share = bytes.0 as f64 / weights.max(1) as f64;
            ((bytes.0 as f64 + cache as f64 * share) * correction) as u64
        };
        form.bytes.iter().map(of_pool).collect()
    }

    /// Tokens of a cache that leaves room for other models.
    fn kv_that_fits(&self, id: DeviceId, model: ModelId, form: &Form, free: &[u64]) -> u32 {
        let per_token = self.models[&model].facts.kv_bytes_per_token.max(1);
        let bare = self.needs(id, model, form, 0);
        let left: u64 = free
            .iter()
            .zip(&bare)
            .map(|(free, bare)| free.saturating_sub(*bare))
            .sum();
        let correction = self.ledger.correction((id, model));
        ((left as f64 * CACHE_SHARE / correction) as u64 / per_token).min(u64::from(form.kv_tokens))
            as u32
    }

    /// Models that could be put away, the least valuable first: what it takes to bring them back, by how lately and for
    /// whom they were used. None that is in use, and none that jobs of the class `spares` or above wait for.
    fn victims(
        &self,
        for_device: DeviceId,
        for_model: ModelId,
        spares: Option<Class>,
    ) -> Vec<(f64, DeviceId, ModelId)> {
        let mut victims = Vec::new();
        for id in self.ids() {
            for (&model, resident) in &self.device(id).residents {
                let is_same = (id, model) == (for_device, for_model);
                let peers = Class::ALL.into_iter();
                let mut wanted = peers.filter(|&class| self.has_lane(class, model));
                let is_wanted = wanted.any(|class| spares.is_some_and(|least| class >= least));
                if is_same || is_wanted || resident.stage != Stage::Ready || self.is_used(id, model)
                {
                    continue;
                }
                let value = self.value_of(id, model, resident);
                victims.push((value, id, model));
            }
        }
        let per_byte = |&(value, id, model): &(f64, DeviceId, ModelId)| {
            let bytes = self.device(id).residents[&model].bytes.0.max(1);
            value / bytes as f64
        };
        victims.sort_by(|a, b| per_byte(a).total_cmp(&per_byte(b)).then(a.2.cmp(&b.2)));
        victims
    }

    /// Whether a model has jobs, or is in the step that its device is at, be it for jobs that have left.
    fn is_used(&self, id: DeviceId, model: ModelId) -> bool {
        let device = self.device(id);
        let jobs = device.residents.get(&model).map(|r| !r.jobs.is_empty());
        let step = device.step.as_ref().is_some_and(|step| step.model == model);
        jobs.unwrap_or(false) || step
    }

    fn value_of(&self, id: DeviceId, model: ModelId, resident: &Resident) -> f64 {
        let form = self.models.get(&model).and_then(|m| m.facts.forms.get(&id));
        let load_s = form.map_or(0.0, |form| form.load_s);
        let age_s = (self.now - resident.used).as_secs_f64();
        let classes = Class::ALL.into_iter();
        let waiting = classes.filter(|&class| self.has_lane(class, model));
        // Somebody waits for it already: it would only come back.
        let wanted = if waiting.count() > 0 { 10.0 } else { 1.0 };
        load_s * (-age_s / RECENCY).exp() * wanted
    }

    fn has_lane(&self, class: Class, model: ModelId) -> bool {
        self.queues.has_lane(class, model)
    }

    fn n_all_models(&self) -> usize {
        self.devices
            .iter()
            .map(|device| device.residents.len())
            .sum()
    }

    /// Puts victims away and loads a model, as far as that is possible now: the load follows when they are gone.
    pub(super) fn make_load(&mut self, id: DeviceId, model: ModelId, room: &Room) {
        for &(device, victim) in &room.victims {
            self.unload(device, victim, true);
        }
        if room.victims.is_empty() {
            self.load(id, model, room.kv_tokens);
        }
    }

    fn load(&mut self, id: DeviceId, model: ModelId, kv_tokens: u32) {
        let now = self.now;
        let form = self.models[&model].facts.forms[&id].clone();
        let holds = self.holds(id, model, &form, kv_tokens);
        let pools = self.device(id).facts.pools.clone();
        self.ledger
            .reserve((id, model), &pools, &holds, form.load_peak.0);
        let limits = Limits {
            running: self
                .settings
                .limits
                .running
                .min(self.device(id).facts.batch_max),
            sequences: self
                .settings
                .limits
                .sequences
                .min(self.device(id).facts.batch_max),
            ..self.settings.limits
        };
        let bytes = Bytes(holds.iter().sum());
        let batcher = Batcher::new(limits, form.gait);
        let keep_alive = self.settings.keep_alive;
        let resident = Resident::loading(now, batcher, form.gait, keep_alive, bytes);
        self.device_mut(id).residents.insert(model, resident);
        if let Some(model) = self.models.get_mut(&model) {
            model.regret.remove(&id);
        }
        self.actions.push(Action::Load {
            device: id,
            model,
            kv_tokens,
        });
    }

    fn unload(&mut self, device: DeviceId, model: ModelId, keep_prefixes: bool) {
        if let Some(resident) = self.device_mut(device).residents.get_mut(&model) {
            resident.stage = Stage::Unloading;
            self.actions.push(Action::Unload {
                device,
                model,
                keep_prefixes,
            });
        }
    }

    /// A model that others have waited for too long takes no more jobs: the least valuable of those that are in the way.
    pub(super) fn ask_to_leave(&mut self, id: DeviceId) {
        let pools = self.device(id).facts.pools.clone();
        let mut worst: Option<(f64, DeviceId, ModelId)> = None;
        for other in self.ids() {
            for (&model, resident) in &self.device(other).residents {
                let in_the_way = other == id
                    || self.n_all_models() >= self.settings.models_max
                    || pools
                        .iter()
                        .any(|&pool| self.ledger.held((other, model), pool) > 0);
                match resident.stage {
                    // One at a time.
                    Stage::Leaving | Stage::Unloading if in_the_way => return,
                    Stage::Ready if in_the_way => {
                        let value = self.value_of(other, model, resident);
                        if worst.is_none_or(|(least, ..)| value < least) {
                            worst = Some((value, other, model));
                        }
                    }
                    _ => {}
                }
            }
        }
        if let Some((_, device, model)) = worst
            && let Some(resident) = self.device_mut(device).residents.get_mut(&model)
        {
            resident.stage = Stage::Leaving;
        }
    }

    /// Puts away what was asked to leave and what nobody has used for long, and forgets models that nobody can ask for.
    pub(super) fn tidy_memory(&mut self) {
        let now = self.now;
        for id in self.ids() {
            let idle: Vec<_> = self
                .device(id)
                .residents
                .iter()
                .filter(|(model, _)| !self.is_used(id, **model))
                .map(|(&model, resident)| (model, resident.stage, expires(resident)))
                .collect();
            for (model, stage, expires) in idle {
                let is_wanted = Class::ALL
                    .into_iter()
                    .any(|class| self.has_lane(class, model));
                let is_over = expires.is_some_and(|at| at <= now) && !is_wanted;
                match stage {
                    Stage::Leaving => self.unload(id, model, true),
                    Stage::Ready if is_over => self.unload(id, model, true),
                    _ => {}
                }
            }
        }
        let forgotten = self.models.iter().filter(|(_, model)| model.is_forgotten);
        let forgotten: Vec<_> = forgotten.map(|(&id, _)| id).collect();
        for id in forgotten {
            let on_device = self
                .devices
                .iter()
                .any(|device| device.residents.contains_key(&id));
            let has_jobs = self.jobs.values().any(|job| job.spec.model == id);
            if !on_device && !has_jobs {
                self.models.remove(&id);
                self.queues.tidy();
            }
        }
    }

    /// When the next model has been idle for too long.
    pub(super) fn expires_at(&self) -> Option<Time> {
        let residents = self
            .devices
            .iter()
            .flat_map(|device| device.residents.values());
        let idle = residents.filter(|r| r.stage == Stage::Ready && r.jobs.is_empty());
        // What is over and still there is waited for, and looked at with those who wait.
        idle.filter_map(expires).filter(|at| *at > self.now).min()
    }
}

/// When a model that is idle goes.
fn expires(resident: &Resident) -> Option<Time> {
    match resident.keep_alive {
        KeepAlive::For(time) => Some(resident.used + time),
        KeepAlive::Forever => None,
    }
}

/// How long a model takes to load from here on.
pub(super) fn left_s(since: Time, now: Time, load_s: f64) -> f64 {
    let passed: Duration = now - since;
    // What takes longer than expected takes longer still.
    (load_s - passed.as_secs_f64()).max(load_s * 0.1)
}
