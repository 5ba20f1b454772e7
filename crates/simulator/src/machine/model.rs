//! What a model is on each device of a machine: bytes, speed, or why it does not run there.

use std::collections::BTreeMap;

use troika_base::{Bytes, DeviceKind, DeviceProfile};
use troika_planner::catalogue::{Catalogue, Job, State, Support, Task, shape, split_quantization};
use troika_planner::cost::{self, Setup, Slot, Work};
use troika_planner::model::ModelShape;
use troika_planner::quantization::Quantization;
use troika_scheduler::{DeviceFacts, DeviceId, Form, Gait, ModelFacts, ModelId};

use super::{Hardware, MachineError, VirtualMachine};

/// The quantization of a model of which none is said.
pub const QUANTIZATION: &str = "Q4_K_M";

/// 10⁹ bytes a second that a file is read and repacked at: an NVMe drive of the better sort, not from the page cache.
const DISK_GBS: f64 = 2.0;
/// Seconds to compile 10⁹ bytes of weights for an NPU: minutes for a model of eight billion parameters.
const COMPILE_S_PER_GB: f64 = 20.0;
/// Tokens of an NPU's graph, whose shape is fixed when it is compiled.
const NPU_CTX: u32 = 4096;
/// Tokens of one conversation, at most: what people set.
const CTX: u32 = 32_768;
/// Tokens of the cache of a model, over all conversations, at most.
const KV_TOKENS: u32 = 131_072;
/// A cache of fewer tokens is of no use.
const KV_TOKENS_MIN: u32 = 2048;
/// What a model's cache may take of the memory that its weights leave: others are to fit beside it.
const KV_SHARE: f64 = 0.4;
/// Buffers through which weights get into a card.
const STAGING: u64 = 256 << 20;

impl VirtualMachine {
    /// What a model is on each device. `name` may end in a quantization; else it is [`QUANTIZATION`]. The facts bear the
    /// name as it is given.
    ///
    /// # Errors
    /// If model or quantization are unknown.
    pub fn model_facts(
        &self,
        id: ModelId,
        name: &str,
        catalogue: &Catalogue,
    ) -> Result<ModelFacts, MachineError> {
        let unknown = |error: String| MachineError::Unknown(error);
        let row = catalogue
            .model(name)
            .map_err(|error| unknown(error.to_string()))?
            .row;
        let (_, quantization) = split_quantization(name);
        let quantization = Quantization::parse(quantization.unwrap_or(QUANTIZATION))
            .map_err(|error| unknown(error.to_string()))?;
        let asked = Asked {
            shape: shape(row),
            quantization,
            job: match row.task {
                Task::Embed | Task::Rerank => Job::Embed,
                Task::Asr => Job::Asr,
                Task::Generate => Job::Llm,
            },
            catalogue,
        };
        let mut forms = BTreeMap::new();
        let mut impossible = BTreeMap::new();
        for (id, (facts, hardware)) in (0u16..)
            .map(DeviceId)
            .zip(self.devices.iter().zip(&self.hardware))
        {
            // A part that holds all of it needs no other.
            let alone = facts.parts.iter().find(|part| forms.contains_key(*part));
            let form = match alone {
                Some(part) => Err(format!(
                    "it fits {} alone",
                    self.devices[usize::from(part.0)].name
                )),
                None => self.form(facts, hardware, &asked),
            };
            match form {
                Ok(form) => drop(forms.insert(id, form)),
                Err(why) => drop(impossible.insert(id, why)),
            }
        }
        Ok(ModelFacts {
            id,
            name: name.to_owned(),
            forms,
            impossible,
            kv_bytes_per_token: asked.kv_bytes_per_token(),
        })
    }

    /// The model as it is prepared for a device, or why it is not.
    fn form(
        &self,
        facts: &DeviceFacts,
        hardware: &Hardware,
        asked: &Asked<'_>,
    ) -> Result<Form, String> {
        for profile in &hardware.profiles {
            asked.supported(profile)?;
        }
        let is_npu = facts.kind == DeviceKind::Npu;
        let slots: Vec<&DeviceProfile> = hardware.profiles.iter().collect();
        let outlook = asked.outlook(&slots, self.free(facts))?;
        let link = (slots.len() > 1).then_some(facts.link_gbs);
        let gait = Gait::estimate(&slots, link, &asked.shape, &asked.quantization)
            .map_err(|refusal| refusal.to_string())?;
        let need = outlook.memory;
        if let Some(most) = hardware.session_max
            && need.weights > most.0
        {
            return Err(format!(
                "its weights take {}, and one session there has {most}",
                Bytes(need.weights)
            ));
        }
        let bytes = need.without_cache(&outlook.layers);
        let kv_tokens = self.kv_tokens(facts, &bytes, &outlook.layers, asked)?;
        let n_ctx = asked.shape.n_ctx.min(CTX).min(kv_tokens);
        let weights_gb = need.weights as f64 / 1e9;
        Ok(Form {
            load_peak: Bytes(match facts.kind {
                // The compiler holds the graph beside what it makes of it.
                DeviceKind::Npu => need.weights,
                DeviceKind::Cpu => need.weights / 50,
                _ => STAGING,
            }),
            kv_tokens: if is_npu {
                kv_tokens.min(NPU_CTX)
            } else {
                kv_tokens
            },
            n_ctx: if is_npu { n_ctx.min(NPU_CTX) } else { n_ctx },
            load_s: weights_gb / DISK_GBS
                + if is_npu {
                    weights_gb * COMPILE_S_PER_GB
                } else {
                    0.0
                },
            bytes,
            gait,
        })
    }

    /// What the pools of a device have for models.
    fn free(&self, facts: &DeviceFacts) -> Vec<Bytes> {
        let pools = facts
            .pools
            .iter()
            .map(|pool| &self.pools[usize::from(pool.0)]);
        pools
            .map(|pool| Bytes(pool.capacity.0 - pool.reserve.0))
            .collect()
    }

    /// Tokens of the cache that the weights leave room for.
    fn kv_tokens(
        &self,
        facts: &DeviceFacts,
        bytes: &[Bytes],
        layers: &[u32],
        asked: &Asked<'_>,
    ) -> Result<u32, String> {
        let all: u32 = layers.iter().sum();
        let per_token = asked.kv_bytes_per_token() as f64;
        let mut tokens = f64::from(KV_TOKENS);
        for ((free, taken), &layers) in self.free(facts).iter().zip(bytes).zip(layers) {
            if layers > 0 {
                let left = free.0.saturating_sub(taken.0) as f64;
                let share = f64::from(layers) / f64::from(all.max(1));
                tokens = tokens.min(left * KV_SHARE / (per_token * share).max(1.0));
            }
        }
        let tokens = tokens as u32;
        let least = KV_TOKENS_MIN.min(asked.shape.n_ctx);
        if tokens < least {
            return Err(format!(
                "its weights leave room for {tokens} tokens of cache, and {least} are the least"
            ));
        }
        Ok(tokens)
    }
}

/// A model that is asked for.
struct Asked<'c> {
    shape: ModelShape,
    quantization: Quantization,
    job: Job,
    catalogue: &'c Catalogue,
}

impl Asked<'_> {
    /// Bytes of the cache for a token, on the average over a usual conversation: windows and states count less in long ones.
    fn kv_bytes_per_token(&self) -> u64 {
        const USUAL: u32 = 8192;
        let tokens = USUAL.min(self.shape.n_ctx).max(1);
        (self.shape.cache_bytes(u64::from(tokens), 16.0) / f64::from(tokens)).ceil() as u64
    }

    /// Whether some software runs such a model there.
    fn supported(&self, profile: &DeviceProfile) -> Result<(), String> {
        let family = match profile.kind {
            // Our own kernels run on every processor.
            DeviceKind::Cpu => return Ok(()),
            _ => profile.family.as_deref(),
        };
        let Some(family) = family else {
            return Ok(());
        };
        let of_family = |row: &&Support| row.families.iter().any(|known| known == family);
        let rows = self.catalogue.support().iter().filter(of_family);
        match rows.map(|row| row.jobs.of(self.job)).max() {
            Some(State::None) => Err(format!("no software runs such a model on {family}")),
            _ => Ok(()),
        }
    }

    /// The cost model's view of it, with a cache of usual size.
    fn outlook(
        &self,
        devices: &[&DeviceProfile],
        free: Vec<Bytes>,
    ) -> Result<cost::Forecast, String> {
        let slots = devices.iter().zip(free).map(|(&device, free)| Slot {
            device,
            memory_free: Some(device.memory.map_or(free, |memory| memory.min(free))),
        });
        let setup = Setup::by_layers(slots, None);
        let work = Work {
            context: (4 * KV_TOKENS_MIN).min(self.shape.n_ctx),
            ..Work::alone(0, 0)
        };
        cost::outlook(&setup, &self.shape, &self.quantization, &work, None)
            .map_err(|refusal| refusal.to_string())
    }
}
