//! Where a model is to be, and how it gets there.

use std::cmp::Reverse;

use troika_base::{Bytes, DeviceKind};
use troika_scheduler::{Action, DeviceId, Form, ModelFacts, ModelId, PoolId};

use super::{Fixed, Resident, Rule, Stage};
use crate::world::predicted_bytes;

impl Fixed {
    /// The device of a model, of those that could hold it.
    pub(super) fn bind(&mut self, model: ModelId) -> Option<DeviceId> {
        if let Some(&device) = self.bound.get(&model) {
            return Some(device);
        }
        let facts = self.models.get(&model)?;
        let fits = |(&id, form): (&DeviceId, &Form)| {
            let is_offered = self.devices[usize::from(id.0)].is_offered;
            let fits = is_offered && self.could_hold(id, facts, form, &self.others);
            fits.then(|| (self.rank(id, form), Reverse(self.room(id)), id))
        };
        let (.., device) = facts.forms.iter().filter_map(fits).min()?;
        self.bound.insert(model, device);
        Some(device)
    }

    /// How good a device is for a model, less being better: by what it is, or by how many microseconds it takes.
    fn rank(&self, id: DeviceId, form: &Form) -> u64 {
        match self.rule {
            Rule::GpuElseCpu => self.turn(id).unwrap_or(u64::MAX),
            Rule::Only(_) => {
                let seconds = form.gait.prefill_s(512, 512) + 128.0 * form.gait.read_s;
                (seconds * 1e6) as u64
            }
        }
    }

    /// When it is a device's turn to be asked, where GPUs come first; `None` where nobody asks.
    fn turn(&self, id: DeviceId) -> Option<u64> {
        let device = &self.facts[usize::from(id.0)];
        let of = |id: &DeviceId| &self.facts[usize::from(id.0)];
        let is_gpu = |id: &DeviceId| of(id).kind == DeviceKind::Gpu;
        let is_in_package = || {
            let mut processors = self.facts.iter().filter(|d| d.kind == DeviceKind::Cpu);
            processors.any(|processor| processor.pools == device.pools)
        };
        match device.kind {
            DeviceKind::Gpu if device.parts.is_empty() => Some(2 * u64::from(is_in_package())),
            DeviceKind::Gpu if device.parts.iter().all(is_gpu) => Some(1),
            DeviceKind::Gpu => Some(3),
            DeviceKind::Cpu => Some(4),
            DeviceKind::Npu | DeviceKind::Accelerator => None,
        }
    }

    /// Bytes that nobody has in a device's first pool.
    fn room(&self, id: DeviceId) -> u64 {
        let pool = self.facts[usize::from(id.0)].pools[0];
        let capacity = self.pools[usize::from(pool.0)].capacity;
        capacity
            .0
            .saturating_sub(self.taken(pool) + self.kept(pool))
    }

    /// Whether a device that is used is big enough for a model, beside what others take.
    fn could_hold(&self, id: DeviceId, model: &ModelFacts, form: &Form, others: &[Bytes]) -> bool {
        let device = &self.facts[usize::from(id.0)];
        let least = predicted_bytes(model, form, form.n_ctx);
        let mut pools = device.pools.iter().zip(&least);
        let holds = pools.all(|(pool, bytes)| {
            let pool = usize::from(pool.0);
            let kept = self.pools[pool].reserve.0 + others[pool].0;
            bytes.0 + form.load_peak.0 + kept <= self.pools[pool].capacity.0
        });
        let is_used = match self.rule {
            Rule::GpuElseCpu => self.turn(id).is_some(),
            Rule::Only(kind) => device.kind == kind,
        };
        holds && is_used
    }

    /// Whether no device that is used could ever hold the model.
    pub(super) fn can_never(&self, model: ModelId) -> bool {
        let none = vec![Bytes(0); self.pools.len()];
        !self.models.get(&model).is_some_and(|facts| {
            let mut forms = facts.forms.iter();
            forms.any(|(&id, form)| self.could_hold(id, facts, form, &none))
        })
    }

    /// Devices that share memory with this one.
    pub(super) fn neighbours(&self, id: DeviceId) -> Vec<DeviceId> {
        let pools = &self.facts[usize::from(id.0)].pools;
        let shares = |other: &DeviceId| {
            let theirs = &self.facts[usize::from(other.0)].pools;
            theirs.iter().any(|pool| pools.contains(pool))
        };
        self.ids().filter(shares).collect()
    }

    /// Loads a model, putting away those that were not used for longest. `false` if it has to wait until some are done.
    pub(super) fn load(&mut self, id: DeviceId, model: ModelId) -> bool {
        let form = &self.models[&model].forms[&id];
        let (most, least) = (form.kv_tokens, form.n_ctx);
        let is_full = |fixed: &Self| {
            let limit = fixed.facts[usize::from(id.0)].residents_max;
            fixed.devices[usize::from(id.0)].residents.len() >= limit
        };
        for kv_tokens in [most, (most / 2).max(least), least] {
            if !is_full(self) && self.has_room(id, model, kv_tokens) {
                let bytes = predicted_bytes(&self.models[&model], form, kv_tokens);
                let mut bytes = bytes;
                // Until it is loaded, it takes its peak too.
                bytes[0] += form.load_peak;
                let resident = Resident {
                    stage: Stage::Loading,
                    bytes,
                    pages: 0,
                    promised: 0,
                    jobs: Vec::new(),
                    used: self.now,
                };
                self.device(id).residents.insert(model, resident);
                self.actions.push(Action::Load {
                    device: id,
                    model,
                    kv_tokens,
                });
                return true;
            }
        }
        let near = self.neighbours(id);
        let leaving = |device: &DeviceId| {
            let residents = self.devices[usize::from(device.0)].residents.values();
            residents.into_iter().any(|r| r.stage == Stage::Unloading)
        };
        if near.iter().any(leaving) {
            return false;
        }
        let idle = near.iter().flat_map(|&device| {
            let residents = self.devices[usize::from(device.0)].residents.iter();
            let at_work = self.devices[usize::from(device.0)]
                .step
                .as_ref()
                .map(|step| step.0);
            residents
                .filter(move |(model, r)| {
                    r.stage == Stage::Ready && r.jobs.is_empty() && at_work != Some(**model)
                })
                .map(move |(&model, r)| (r.used, device, model))
        });
        if let Some((_, device, victim)) = idle.min() {
            if let Some(resident) = self.device(device).residents.get_mut(&victim) {
                resident.stage = Stage::Unloading;
            }
            self.actions.push(Action::Unload {
                device,
                model: victim,
                keep_prefixes: false,
            });
        }
        false
    }

    fn has_room(&self, id: DeviceId, model: ModelId, kv_tokens: u32) -> bool {
        let facts = &self.models[&model];
        let form = &facts.forms[&id];
        let pools = &self.facts[usize::from(id.0)].pools;
        let needs = predicted_bytes(facts, form, kv_tokens);
        pools.iter().zip(&needs).all(|(&pool, need)| {
            let capacity = self.pools[usize::from(pool.0)].capacity;
            self.taken(pool) + need.0 + form.load_peak.0 + self.kept(pool) <= capacity.0
        })
    }

    /// Bytes of a pool that models have.
    fn taken(&self, pool: PoolId) -> u64 {
        let devices = self.facts.iter().zip(&self.devices);
        let bytes = devices.flat_map(|(facts, device)| {
            let residents = device.residents.values();
            residents.flat_map(|r| facts.pools.iter().zip(&r.bytes))
        });
        let of_pool = bytes.filter(|(of, _)| **of == pool);
        of_pool.map(|(_, bytes)| bytes.0).sum()
    }

    /// Bytes of a pool that are for the desktop and for other programs.
    fn kept(&self, pool: PoolId) -> u64 {
        let at = usize::from(pool.0);
        self.pools[at].reserve.0 + self.others[at].0
    }
}
