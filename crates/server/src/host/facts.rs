//! What the scheduler is told of a model: its sizes and its gait on every device, from the one cost model.

use std::collections::BTreeMap;

use troika_base::{Bytes, DeviceKind, KvType, ModelSpec};
use troika_device::PAGE_TOKENS;
use troika_gguf::ModelFile;
use troika_planner::cost::{self, MemoryNeed, Setup, Slot, Work};
use troika_planner::model::{ModelShape, NotAModel, read_file};
use troika_planner::quantization::Quantization;
use troika_scheduler::{DeviceId, Form, Gait, ModelFacts, ModelId, PoolFacts, PoolId};

use super::devices::{HostDevice, memory};

/// Tokens that a KV cache holds over all sequences, if nothing is said: room for dozens of questions or a few documents.
const KV_TOKENS: u64 = 32 * 1024;
/// The cache takes at most one part in this many of the memory that is left; the rest is for other models.
const KV_SHARE: u64 = 4;
/// Less is of no use.
const KV_TOKENS_MIN: u64 = 512;

/// Bytes of weights a second that become ready, where nothing was loaded yet: a file that is read from a solid-state disk
/// and repacked by one core.
const LOAD_BYTES_PER_S: f64 = 1e9;

/// A device of which no bandwidth is known is taken to read so many bytes a second, give or take [`SPREAD`], until steps
/// were seen: between a phone's memory and a server's.
const READ_BYTES_PER_S: f64 = 30e9;
/// And so many operations a second.
const OPERATIONS_PER_S: f64 = 300e9;
const SPREAD: f64 = 10.0;

/// What the owner wants of a model's context.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Context {
    /// Tokens of one sequence; what the model and the memory allow if absent.
    pub(super) n_ctx: Option<usize>,
    /// Tokens of the cache, over all sequences; what seems sensible if absent.
    pub(super) kv_tokens: Option<usize>,
    /// How the cache is kept.
    pub(super) kv_type: KvType,
}

/// What a model is there for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role<'f> {
    /// It answers; a smaller model beside it guesses, if one does.
    Writer(Option<&'f ModelFacts>),
    /// It guesses for another one, wherever that is.
    Drafter,
}

/// What is known of a file's model on these devices.
///
/// # Errors
/// If the file's metadata lack what every language model has.
pub(super) fn of_file(
    (id, name): (ModelId, &str),
    (file, spec): (&ModelFile, &ModelSpec),
    devices: &[HostDevice],
    pools: &[PoolFacts],
    (context, role): (Context, Role<'_>),
) -> Result<ModelFacts, NotAModel> {
    let (shape, quantization) = read_file(file)?;
    let model = Known {
        shape,
        quantization,
        spec,
        context,
        role,
    };
    let mut forms = BTreeMap::new();
    let mut impossible = BTreeMap::new();
    for (index, device) in (0..).zip(devices) {
        let parts = device.facts.parts.iter();
        let parts = parts.filter_map(|id| Some((devices.get(usize::from(id.0))?, forms.get(id)?)));
        // A part that holds all of it needs no other, but that a CPU is glad of any help.
        let mut parts = parts.filter(|(part, _)| part.facts.kind != DeviceKind::Cpu);
        let alone = parts.find(|(part, form)| model.fits(form, &free(part, pools)));
        let form = match (role, alone) {
            (Role::Writer(_), Some((part, _))) => Err(format!("it fits {} alone", part.facts.name)),
            (Role::Drafter, _) if device.facts.kind == DeviceKind::Npu => {
                Err("nothing is drafted where graphs are compiled".to_owned())
            }
            _ if !device.device.keeps(context.kv_type) => Err(format!(
                "it keeps keys and values in f16, not in {}",
                context.kv_type
            )),
            _ => model.form((DeviceId(index), device), pools),
        };
        match form {
            Ok(form) => drop(forms.insert(DeviceId(index), form)),
            Err(why) => drop(impossible.insert(DeviceId(index), why)),
        }
    }
    Ok(ModelFacts {
        id,
        name: name.to_owned(),
        forms,
        impossible,
        kv_bytes_per_token: model.kv_bytes_per_token(),
    })
}

struct Known<'a> {
    shape: ModelShape,
    quantization: Quantization,
    spec: &'a ModelSpec,
    context: Context,
    role: Role<'a>,
}

impl Known<'_> {
    /// The model on a device, or why it does not run there.
    fn form(
        &self,
        (id, device): (DeviceId, &HostDevice),
        pools: &[PoolFacts],
    ) -> Result<Form, String> {
        let free = free(device, pools);
        let need = self.need(device, &free);
        let (need, layers) = need.map_err(|refusal| refusal.to_string())?;
        let mut bytes = need.without_cache(&layers);
        let mut load_s = need.weights as f64 / LOAD_BYTES_PER_S;
        let drafter = self.drafter().and_then(|drafter| drafter.forms.get(&id));
        if let Some(drafter) = drafter {
            let more = bytes.iter_mut().zip(&drafter.bytes);
            more.for_each(|(bytes, more)| *bytes += *more);
            load_s += drafter.load_s;
        }
        let own = self.spec.n_ctx as u64;
        let kv_tokens = self.kv_tokens(left(&free, &bytes, &layers));
        // What is compiled for a length is compiled anew for a longer one.
        let limit = device.n_ctx_max.map(|limit| own.min(limit as u64));
        let kv_tokens = limit.map_or(kv_tokens, |limit| kv_tokens.min(limit));
        let most = kv_tokens.min(own);
        let n_ctx = self
            .context
            .n_ctx
            .map_or(most, |n_ctx| most.min(n_ctx as u64));
        Ok(Form {
            bytes,
            load_peak: Bytes(0),
            kv_tokens: u32::try_from(kv_tokens).unwrap_or(u32::MAX),
            n_ctx: u32::try_from(n_ctx).unwrap_or(u32::MAX),
            load_s,
            gait: self.gait(device, need.weights),
        })
    }

    fn drafter(&self) -> Option<&ModelFacts> {
        match self.role {
            Role::Writer(drafter) => drafter,
            Role::Drafter => None,
        }
    }

    /// Of its cache and that of the smaller model beside it.
    fn kv_bytes_per_token(&self) -> u64 {
        let drafter = self
            .drafter()
            .map_or(0, |drafter| drafter.kv_bytes_per_token);
        self.spec.kv_bytes_per_token(self.context.kv_type) + drafter
    }

    /// Whether a device holds it with the least cache that is of any use.
    fn fits(&self, form: &Form, free: &[u64]) -> bool {
        let cache = KV_TOKENS_MIN * self.kv_bytes_per_token();
        let bytes = form.bytes.iter().map(|bytes| bytes.0).sum::<u64>();
        bytes.saturating_add(cache) <= free.iter().sum()
    }

    /// What it takes over all of a device's parts, and how many layers each of them gets.
    fn need(
        &self,
        device: &HostDevice,
        free: &[u64],
    ) -> Result<(MemoryNeed, Vec<u32>), cost::Refusal> {
        let is_alone = device.profiles.len() < 2;
        let slots = device.profiles.iter().zip(free);
        let slots = slots.map(|(device, &free)| Slot {
            device,
            // Of a device of its own, the ledger says how much is free when it is time.
            memory_free: (!is_alone).then_some(Bytes(free)),
        });
        let setup = Setup::by_layers(slots, None);
        let work = Work::alone(0, 0);
        let (shape, quantization) = (&self.shape, &self.quantization);
        if is_alone {
            let need = cost::memory_need(&setup, shape, quantization, &work)?;
            return Ok((need, vec![shape.n_layer]));
        }
        let outlook = cost::outlook(&setup, shape, quantization, &work, None)?;
        Ok((outlook.memory, outlook.layers))
    }

    /// Tokens of the cache where `free` bytes are left for it.
    fn kv_tokens(&self, free: u64) -> u64 {
        let sensible = || {
            let affordable = free / KV_SHARE / self.kv_bytes_per_token().max(1);
            let wanted = self.context.n_ctx.unwrap_or(0) as u64;
            KV_TOKENS.min(affordable).max(KV_TOKENS_MIN).max(wanted)
        };
        let tokens = self
            .context
            .kv_tokens
            .map_or_else(sensible, |tokens| tokens as u64);
        tokens.next_multiple_of(PAGE_TOKENS as u64)
    }

    fn gait(&self, device: &HostDevice, weights: u64) -> Gait {
        let parts: Vec<_> = device.profiles.iter().collect();
        let link = (parts.len() > 1).then_some(device.facts.link_gbs);
        let estimate = Gait::estimate(&parts, link, &self.shape, &self.quantization);
        let watts = parts.iter().map(|part| part.watts_limit);
        let watts = watts.sum::<Option<f64>>().unwrap_or(0.0);
        estimate.unwrap_or_else(|why| {
            // It can be loaded all the same; what it takes is learned from its steps.
            tracing::warn!(device = device.facts.name, %why, "speeds are not known before the first steps; `troika devices --measure` measures them");
            Gait {
                launch_s: 0.0,
                read_s: weights as f64 / READ_BYTES_PER_S,
                token_s: 2.0 * self.shape.params_active as f64 / OPERATIONS_PER_S,
                past_s: self.spec.kv_bytes_per_token(self.context.kv_type) as f64 / READ_BYTES_PER_S,
                watts_prefill: watts,
                watts_decode: watts,
                spread: SPREAD,
            }
        })
    }
}

/// Bytes that are left for a cache which lies by layers beside the weights.
fn left(free: &[u64], taken: &[Bytes], layers: &[u32]) -> u64 {
    let all = u64::from(layers.iter().sum::<u32>());
    let parts = free.iter().zip(taken).zip(layers);
    let parts = parts.filter(|(_, layers)| **layers > 0);
    let whole = parts.map(|((free, taken), &layers)| {
        let left = u128::from(free.saturating_sub(taken.0));
        u64::try_from(left * u128::from(all) / u128::from(layers)).unwrap_or(u64::MAX)
    });
    whole.min().unwrap_or(0)
}

/// Bytes that models may have of each of a device's pools, as things are now.
fn free(device: &HostDevice, pools: &[PoolFacts]) -> Vec<u64> {
    let room = |id: &PoolId| {
        let pool = pools.get(usize::from(id.0));
        let room = pool.map_or(u64::MAX, |pool| {
            pool.capacity.0.saturating_sub(pool.reserve.0)
        });
        match memory() {
            Some(memory) if device.is_in_ram() => room.min(memory.available),
            _ => room,
        }
    };
    device.facts.pools.iter().map(room).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_share_what_is_left() {
        let bytes = [Bytes(610), Bytes(210), Bytes(0)];
        // The second part is full with 60 bytes more, a quarter of all.
        assert_eq!(left(&[1000, 270, 5], &bytes, &[6, 2, 0]), 240);
        assert_eq!(left(&[u64::MAX], &[Bytes(1)], &[4]), u64::MAX - 1);
        assert_eq!(left(&[5], &[Bytes(9)], &[4]), 0);
    }
}
