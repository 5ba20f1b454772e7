//! What the scheduler is told of a model: its sizes and its gait on every device, from the one cost model.

use std::collections::BTreeMap;

use troika_base::{Bytes, DeviceProfile, ModelSpec};
use troika_device::PAGE_TOKENS;
use troika_gguf::ModelFile;
use troika_planner::cost::{self, MemoryNeed, Setup, Slot, Split, Work};
use troika_planner::model::{ModelShape, NotAModel, read_file};
use troika_planner::quantization::Quantization;
use troika_scheduler::{DeviceId, Form, Gait, ModelFacts, ModelId, PoolFacts};

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
    context: Context,
) -> Result<ModelFacts, NotAModel> {
    let (shape, quantization) = read_file(file)?;
    let model = Known {
        shape,
        quantization,
        spec,
        context,
    };
    let mut forms = BTreeMap::new();
    let mut impossible = BTreeMap::new();
    for (index, device) in (0..).zip(devices) {
        match model.form(device, pools) {
            Ok(form) => drop(forms.insert(DeviceId(index), form)),
            Err(why) => drop(impossible.insert(DeviceId(index), why)),
        }
    }
    Ok(ModelFacts {
        id,
        name: name.to_owned(),
        forms,
        impossible,
        kv_bytes_per_token: spec.kv_bytes_per_token(),
    })
}

struct Known<'a> {
    shape: ModelShape,
    quantization: Quantization,
    spec: &'a ModelSpec,
    context: Context,
}

impl Known<'_> {
    /// The model on a device, or why it does not run there.
    fn form(&self, device: &HostDevice, pools: &[PoolFacts]) -> Result<Form, String> {
        let need = self
            .need(&device.profile)
            .map_err(|refusal| refusal.to_string())?;
        let fixed = need.weights + need.scratch + need.runtime;
        let kv_tokens = self.kv_tokens(free(device, pools).saturating_sub(fixed));
        let most = kv_tokens.min(self.spec.n_ctx as u64);
        let n_ctx = self
            .context
            .n_ctx
            .map_or(most, |n_ctx| most.min(n_ctx as u64));
        let mut bytes = vec![Bytes(0); device.facts.pools.len()];
        if let Some(first) = bytes.first_mut() {
            *first = Bytes(fixed);
        }
        Ok(Form {
            bytes,
            load_peak: Bytes(0),
            kv_tokens: u32::try_from(kv_tokens).unwrap_or(u32::MAX),
            n_ctx: u32::try_from(n_ctx).unwrap_or(u32::MAX),
            load_s: need.weights as f64 / LOAD_BYTES_PER_S,
            gait: self.gait(device, need.weights),
        })
    }

    fn need(&self, profile: &DeviceProfile) -> Result<MemoryNeed, cost::Refusal> {
        let setup = Setup {
            slots: vec![Slot {
                device: profile,
                memory_free: None,
            }],
            split: Split::Layers,
            link_gbs: None,
            backend: None,
            engine: "troika".to_owned(),
        };
        let work = Work {
            prompt_tokens: 0,
            gen_tokens: 1,
            depth: 0,
            batch: 1,
            kv_bits: 16.0,
            context: 1,
            tokens_per_step: 1.0,
        };
        cost::memory_need(&setup, &self.shape, &self.quantization, &work)
    }

    /// Tokens of the cache where `free` bytes are left for it.
    fn kv_tokens(&self, free: u64) -> u64 {
        let sensible = || {
            let affordable = free / KV_SHARE / self.spec.kv_bytes_per_token().max(1);
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
        let estimate = Gait::estimate(&[&device.profile], None, &self.shape, &self.quantization);
        estimate.unwrap_or_else(|why| {
            // It can be loaded all the same; what it takes is learned from its steps.
            tracing::warn!(device = device.facts.name, %why, "speeds are not known before the first steps; `troika devices --measure` measures them");
            Gait {
                launch_s: 0.0,
                read_s: weights as f64 / READ_BYTES_PER_S,
                token_s: 2.0 * self.shape.params_active as f64 / OPERATIONS_PER_S,
                past_s: self.spec.kv_bytes_per_token() as f64 / READ_BYTES_PER_S,
                watts_prefill: device.profile.watts_limit.unwrap_or(0.0),
                watts_decode: device.profile.watts_limit.unwrap_or(0.0),
                spread: SPREAD,
            }
        })
    }
}

/// Bytes that models may have where the device's first pool is, as things are now.
fn free(device: &HostDevice, pools: &[PoolFacts]) -> u64 {
    let pool = device.facts.pools.first();
    let pool = pool.and_then(|id| pools.get(usize::from(id.0)));
    let room = pool.map_or(u64::MAX, |pool| {
        pool.capacity.0.saturating_sub(pool.reserve.0)
    });
    match memory() {
        Some(memory) if device.is_in_ram() => room.min(memory.available),
        _ => room,
    }
}
