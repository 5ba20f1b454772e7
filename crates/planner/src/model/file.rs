//! The shape of a model that is in a file: exact, to the byte.

use troika_base::DType;
use troika_gguf::{Metadata, ModelFile, TensorInfo};

use super::{Experts, Memory, ModelShape, WeightBytes};
use crate::quantization::{Numbers, Quantization};

/// A file from which no shape can be read.
#[derive(Debug, thiserror::Error)]
pub enum NotAModel {
    /// A key is absent or of another type.
    #[error(transparent)]
    Gguf(#[from] troika_gguf::Error),
    /// A number that no model has.
    #[error("`{key}` is {value}, which is not a size that a model has")]
    Absurd {
        /// The metadata key.
        key: String,
        /// What it holds.
        value: u64,
    },
}

/// The largest value that a dimension of a model may have; keeps products within 64 bits.
const DIMENSION_MAX: u32 = 1 << 24;

/// The shape and the sizes of a model file.
///
/// # Errors
/// If its metadata lacks what every language model has.
pub fn read_file(file: &ModelFile) -> Result<(ModelShape, Quantization), NotAModel> {
    let metadata = file.metadata();
    let keys = Keys {
        metadata,
        architecture: metadata.str("general.architecture")?,
    };
    let (n_embd, n_head) = (
        keys.need("embedding_length")?,
        keys.need("attention.head_count")?,
    );
    let tied = file.tensor("output.weight").is_none();
    let (mut weights, dtype) = weigh(file.tensors());
    let adapter = file
        .adapter()
        .into_iter()
        .flat_map(|adapter| adapter.tensors());
    weights.layers += adapter.map(|tensor| tensor.bytes as f64).sum::<f64>();
    let experts = experts(&keys)?;
    let params: u64 = file.tensors().iter().map(TensorInfo::n_elements).sum();
    let params_active = experts.map_or(params, |experts| {
        let idle = 1.0 - f64::from(experts.active) / f64::from(experts.count);
        params - (elements_of_experts(file.tensors()) * idle) as u64
    });
    let shape = ModelShape {
        name: metadata
            .opt_str("general.name")?
            .unwrap_or_else(|| file.name())
            .to_owned(),
        architecture: keys.architecture.to_owned(),
        params,
        params_active,
        n_layer: keys.need("block_count")?,
        n_embd,
        n_head,
        n_head_kv: keys.opt("attention.head_count_kv")?.unwrap_or(n_head),
        head_dim: keys
            .opt("attention.key_length")?
            .unwrap_or(n_embd / n_head.max(1)),
        n_ff: keys.opt("feed_forward_length")?.unwrap_or(0),
        n_vocab: file
            .tensor("token_embd.weight")
            .map_or(0, |table| u32::try_from(table.n_rows()).unwrap_or(u32::MAX)),
        n_ctx: keys.opt("context_length")?.unwrap_or(0),
        tied,
        experts,
        memory: memory(&keys)?,
    };
    Ok((
        shape,
        Quantization::of_file(dtype.name(), numbers(dtype), weights),
    ))
}

/// Metadata keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    /// A count; of a list by layer, the largest. Lists are how files say that layers differ.
    fn opt(&self, name: &str) -> Result<Option<u32>, NotAModel> {
        let key = format!("{}.{name}", self.architecture);
        let value = match self.metadata.opt_u32(&key) {
            Ok(value) => value,
            Err(not_a_number) => match self.metadata.opt_u32s(&key) {
                Ok(list) => list.and_then(|list| list.iter().copied().max()),
                Err(_) => return Err(not_a_number.into()),
            },
        };
        match value {
            Some(value) if value > DIMENSION_MAX => Err(NotAModel::Absurd {
                key,
                value: value.into(),
            }),
            other => Ok(other),
        }
    }

    fn need(&self, name: &str) -> Result<u32, NotAModel> {
        match self.opt(name)? {
            Some(value) if value > 0 => Ok(value),
            Some(value) => Err(NotAModel::Absurd {
                key: format!("{}.{name}", self.architecture),
                value: value.into(),
            }),
            None => Err(self
                .metadata
                .u32(&format!("{}.{name}", self.architecture))
                .expect_err("the key is absent")
                .into()),
        }
    }
}

fn experts(keys: &Keys<'_>) -> Result<Option<Experts>, NotAModel> {
    let Some(count) = keys.opt("expert_count")?.filter(|&count| count > 1) else {
        return Ok(None);
    };
    Ok(Some(Experts {
        count,
        active: keys.opt("expert_used_count")?.unwrap_or(1).clamp(1, count),
        n_ff: keys.opt("expert_feed_forward_length")?.unwrap_or(0),
        shared_n_ff: keys.opt("expert_shared_feed_forward_length")?.unwrap_or(0),
        dense_layers: keys.opt("leading_dense_block_count")?.unwrap_or(0),
    }))
}

fn memory(keys: &Keys<'_>) -> Result<Memory, NotAModel> {
    if let Some(kv_rank) = keys.opt("attention.kv_lora_rank")? {
        return Ok(Memory::Latent {
            kv_rank,
            rope_dim: keys.opt("rope.dimension_count")?.unwrap_or(64),
        });
    }
    let window = keys
        .opt("attention.sliding_window")?
        .filter(|&window| window > 0);
    Ok(window.map_or(Memory::Full, |window| Memory::Window {
        window,
        // Files do not always say which layers are full; these are the architectures' own patterns.
        full_every: match keys.architecture {
            "gemma3" | "gemma3n" | "gemma4" => 6,
            "cohere2" | "llama4" => 4,
            "gemma2" | "gpt-oss" => 2,
            _ => 0,
        },
    }))
}

/// Bytes by role, and the format of most of them.
fn weigh(tensors: &[TensorInfo]) -> (WeightBytes, DType) {
    let mut weights = WeightBytes::default();
    let mut by_dtype: Vec<(DType, u64)> = Vec::new();
    for tensor in tensors {
        let part = match tensor.name.as_str() {
            "token_embd.weight" => &mut weights.embedding,
            "output.weight" => &mut weights.output,
            name if name.contains("per_layer_token_embd") || name.starts_with("v.") => {
                &mut weights.unread
            }
            name if is_expert(name) => &mut weights.experts,
            _ => &mut weights.layers,
        };
        *part += tensor.bytes as f64;
        match by_dtype
            .iter_mut()
            .find(|(dtype, _)| *dtype == tensor.dtype)
        {
            Some((_, bytes)) => *bytes += tensor.bytes,
            None => by_dtype.push((tensor.dtype, tensor.bytes)),
        }
    }
    let most = by_dtype.iter().max_by_key(|(_, bytes)| *bytes);
    (weights, most.map_or(DType::F32, |(dtype, _)| *dtype))
}

fn is_expert(name: &str) -> bool {
    name.contains("_exps.")
}

fn elements_of_experts(tensors: &[TensorInfo]) -> f64 {
    tensors
        .iter()
        .filter(|tensor| is_expert(&tensor.name))
        .map(|tensor| tensor.n_elements() as f64)
        .sum()
}

fn numbers(dtype: DType) -> Numbers {
    match dtype {
        DType::F32 => Numbers::Single,
        DType::F16 | DType::BF16 => Numbers::Half,
        DType::MXFP4 | DType::NVFP4 => Numbers::Float4,
        _ => Numbers::Blocks,
    }
}
