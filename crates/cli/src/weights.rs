//! What a file's weights take in memory, and what of them a step reads.

use std::collections::BTreeMap;

use troika_base::{Bytes, DType, ModelSpec};
use troika_device::{KvShape, PAGE_TOKENS};
use troika_engine::ExpertBytes;
use troika_gguf::{ModelFile, TensorInfo};
use troika_kernels::packed_bytes;

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";
/// An encoder's, of which the first row alone is loaded.
const TYPES: &str = "token_types.weight";
/// An encoder's, of which a token reads one row.
const POSITIONS: &str = "position_embd.weight";
/// Read by the host when the model is loaded.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Memory that a model takes when it is loaded on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) n_ctx: usize,
    pub(crate) weights: Bytes,
    pub(crate) kv: Bytes,
    /// What the weights can do with at least, if experts stay in the file; `None` if there are none.
    pub(crate) weights_min: Option<Bytes>,
}

impl Footprint {
    /// With a context of `n_ctx` tokens. `None` if a tensor's format is not computed.
    pub(crate) fn of(file: &ModelFile, spec: &ModelSpec, n_ctx: usize) -> Option<Self> {
        let shape = KvShape::of(spec);
        let weights: Option<u64> = file.tensors().iter().map(resident_bytes).sum();
        let weights = weights?;
        let experts = ExpertBytes::of(file, spec);
        let dense = Bytes(weights.saturating_sub(experts.all.0));
        Some(Self {
            n_ctx,
            weights: Bytes(weights),
            weights_min: (experts.all.0 > 0).then(|| dense + experts.least),
            kv: Bytes((shape.page_bytes() * n_ctx.div_ceil(PAGE_TOKENS)) as u64),
        })
    }

    pub(crate) fn total(&self) -> Bytes {
        self.weights + self.kv
    }
}

/// Bytes of a tensor as it is kept: matrices in panels of whole rows, rows of weights in single precision.
fn resident_bytes(tensor: &TensorInfo) -> Option<u64> {
    if tensor.name == ROPE_FACTORS {
        return Some(0);
    }
    if tensor.n_rows() == 1 || tensor.name == TYPES {
        return tensor.row_len().checked_mul(4);
    }
    let size = |n: u64| usize::try_from(n).ok();
    let bytes = packed_bytes(
        tensor.dtype,
        size(tensor.n_rows())?,
        size(tensor.row_len())?,
    )?;
    Some(bytes as u64)
}

/// What one token costs, weights alone: the bytes that a step of one token reads, and the multiplications by format.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TokenCost {
    /// Bytes of weights that writing a token reads.
    pub(crate) decode_bytes: u64,
    /// Weights that a token of a prompt is multiplied with, by format. The output matrix is not among them: it is
    /// for the last token alone.
    pub(crate) prefill_weights: BTreeMap<DType, u64>,
}

impl TokenCost {
    pub(crate) fn of(file: &ModelFile) -> Self {
        let tied = file.tensor(OUTPUT).is_none();
        let experts = troika_engine::model_spec(file)
            .ok()
            .and_then(|spec| spec.experts);
        let mut cost = Self::default();
        for tensor in file.tensors().iter().filter(|tensor| tensor.n_rows() > 1) {
            if [TYPES, POSITIONS].contains(&&*tensor.name) {
                continue;
            }
            let is_table = tensor.name == EMBEDDING;
            // Of the table, a token reads one row, unless it is the output matrix too.
            // Of a mixture, a token goes to some experts.
            let used = |all: u64| match experts {
                Some(experts) if tensor.shape.len() == 3 => {
                    all / experts.n as u64 * experts.n_used as u64
                }
                _ => all,
            };
            if !is_table || tied {
                cost.decode_bytes += used(resident_bytes(tensor).unwrap_or(tensor.bytes));
            }
            if !is_table && tensor.name != OUTPUT {
                let weights = used(tensor.n_elements());
                *cost.prefill_weights.entry(tensor.dtype).or_default() += weights;
            }
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use troika_gguf::{Metadata, Writer};
    use troika_library::Formats;

    use super::*;
    use crate::model::Source;

    #[test]
    fn the_built_in_model_adds_up() {
        let file = Source::BuiltIn.open().expect("opens");
        let spec = troika_engine::model_spec(&file).expect("is known");
        let formats = Formats::of(&file);
        assert!(formats.bytes().0 <= file.bytes());
        let main = formats.by_bytes()[0].1;
        assert!(main.bytes <= formats.bytes().0);
        let footprint = Footprint::of(&file, &spec, 33).expect("its formats are computed");
        assert_eq!(footprint.kv.0 % 2, 0);
        let twice = Footprint::of(&file, &spec, 64).expect("its formats are computed");
        assert_eq!(footprint.kv, twice.kv, "two pages each");
        let cost = TokenCost::of(&file);
        let device = troika_engine::CpuDevice::new(1).expect("no set is forced");
        let options = troika_device::LoadOptions::new(33);
        let mut go_on = |_| std::ops::ControlFlow::Continue(());
        let model = troika_engine::Model::load(&file, &device, options, &mut go_on).expect("loads");
        assert_eq!(
            (footprint.weights, footprint.kv),
            (model.weights_bytes(), model.kv_bytes()),
            "told before, and taken"
        );
        assert!(cost.decode_bytes <= footprint.weights.0);
        assert!(cost.prefill_weights.values().sum::<u64>() < formats.parameters());
    }

    #[test]
    fn a_token_costs_the_experts_that_it_goes_to() {
        let mut metadata = Metadata::default();
        metadata.insert("general.architecture", "qwen3moe");
        for (key, value) in [
            ("context_length", 64u32),
            ("embedding_length", 32),
            ("block_count", 1),
            ("attention.head_count", 1),
            ("feed_forward_length", 32),
            ("expert_count", 8),
            ("expert_used_count", 2),
            ("expert_feed_forward_length", 32),
        ] {
            metadata.insert(format!("qwen3moe.{key}"), value);
        }
        metadata.insert("qwen3moe.attention.layer_norm_rms_epsilon", 1e-5f32);
        metadata.insert("tokenizer.ggml.tokens", vec!["a".to_owned(); 16]);
        let zeros = vec![0; 4 * 32 * 32 * 8];
        let mut writer = Writer::new(metadata);
        let mut put = |name: &str, shape: &[u64]| {
            let bytes = 4 * shape.iter().product::<u64>() as usize;
            writer.tensor_bytes(name, DType::F32, shape, &zeros[..bytes]);
        };
        put("token_embd.weight", &[32, 16]);
        put("output.weight", &[32, 16]);
        put("blk.0.attn_q.weight", &[32, 32]);
        put("blk.0.ffn_up_exps.weight", &[32, 32, 8]);
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes).expect("memory does not fail");
        let file = ModelFile::from_bytes("made", bytes).expect("is a model");
        troika_engine::model_spec(&file).expect("is known");
        let cost = TokenCost::of(&file);
        // Queries, and two of eight experts.
        let multiplied = 32 * 32 + 2 * 32 * 32;
        assert_eq!(
            cost.prefill_weights,
            BTreeMap::from([(DType::F32, multiplied)])
        );
        assert_eq!(cost.decode_bytes, 4 * (multiplied + 32 * 16));
    }
}
