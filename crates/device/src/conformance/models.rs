//! Small models with random weights, one of every architecture's kind, written in memory.

use troika_base::{DType, ExpertShape, ModelSpec};
use troika_gguf::{Metadata, ModelFile, Writer};
use troika_kernels::quant;

/// Tokens that the caches of the suite hold.
pub(super) const N_CTX: usize = 256;
/// Not a multiple of any kernel's width.
pub(super) const N_VOCAB: usize = 101;
/// One super-block.
const N_EMBD: usize = 256;
const N_FF: usize = 256;
const N_LAYER: usize = 2;

/// The number formats that a device computes.
pub(super) const FORMATS: [DType; 6] = [
    DType::F32,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_K,
    DType::Q6_K,
];

/// An architecture; heads, heads of keys and values, values per head.
pub(super) type Shape = (&'static str, [usize; 3]);

/// Queries in groups of 2, 4 and 3; the last one's heads are wider than the embedding.
pub(super) const SHAPES: [Shape; 3] = [
    ("llama", [4, 2, 64]),
    ("qwen2", [8, 2, 32]),
    ("qwen3", [6, 2, 128]),
];

/// A mixture of experts.
const MIXTURE: Shape = ("qwen3moe", [4, 2, 64]);
const EXPERTS: ExpertShape = ExpertShape {
    n: 6,
    n_used: 2,
    n_ff: N_FF,
};

/// A model before it is a file, so that a test can spoil it.
#[derive(Clone)]
pub(super) struct Recipe {
    pub(super) spec: ModelSpec,
    pub(super) dtype: DType,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    dtype: DType,
    /// In GGUF's order: row length first.
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Recipe {
    pub(super) fn new(shape: &Shape, dtype: DType) -> Self {
        Self::with(shape, dtype, N_LAYER, |_| dtype)
    }

    /// A mixture of experts. Its router's scores are far apart, so that what devices round differently seldom sends a token
    /// elsewhere.
    pub(super) fn mixture(dtype: DType) -> Self {
        Self::with(&MIXTURE, dtype, N_LAYER, |name| match name {
            name if name.ends_with("ffn_gate_inp.weight") => DType::F32,
            _ => dtype,
        })
    }

    /// One model with the formats that most files are made of, of the usual depth if no other is given.
    pub(super) fn mixed(n_layer: Option<usize>) -> Self {
        let n_layer = n_layer.unwrap_or(N_LAYER);
        Self::with(&SHAPES[0], DType::Q8_0, n_layer, |name| match name {
            name if name.ends_with("ffn_gate.weight") => DType::Q4_K,
            name if name.ends_with("attn_v.weight") => DType::Q6_K,
            _ => DType::Q8_0,
        })
    }

    /// A model whose matrices are in the formats that `of` says.
    fn with(shape: &Shape, dtype: DType, n_layer: usize, of: impl Fn(&str) -> DType) -> Self {
        let &(architecture, [n_head, n_head_kv, head_dim]) = shape;
        let spec = ModelSpec {
            architecture: architecture.to_owned(),
            name: None,
            n_layer,
            n_embd: N_EMBD,
            n_head,
            n_head_kv,
            head_dim,
            n_ff: N_FF,
            n_vocab: N_VOCAB,
            n_ctx: N_CTX,
            norm_eps: 1e-5,
            experts: (architecture == MIXTURE.0).then_some(EXPERTS),
            window: None,
            is_causal: true,
        };
        let mut random = Random(0);
        let tensors = tensors(&spec).into_iter().map(|(name, dims)| {
            let dtype = if dims.len() > 1 {
                of(&name)
            } else {
                DType::F32
            };
            Tensor::random(&mut random, name, dtype, dims)
        });
        Self {
            tensors: tensors.collect(),
            metadata: metadata(&spec),
            spec,
            dtype,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.spec.architecture, self.dtype)
    }

    /// The model as a file in memory.
    pub(super) fn file(&self) -> ModelFile {
        let mut writer = Writer::new(self.metadata.clone());
        for tensor in &self.tensors {
            let dims: Vec<u64> = tensor.dims.iter().map(|&n| n as u64).collect();
            writer.tensor_bytes(&tensor.name, tensor.dtype, &dims, &tensor.bytes);
        }
        let mut bytes = Vec::new();
        writer
            .write_to(&mut bytes)
            .and_then(|()| ModelFile::from_bytes(&self.name(), bytes))
            .expect("the suite writes sound files. This is a bug.")
    }
}

fn metadata(spec: &ModelSpec) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", &*spec.architecture);
    let mut add = |key: &str, value: usize| {
        metadata.insert(format!("{}.{key}", spec.architecture), value as u32);
    };
    add("block_count", spec.n_layer);
    add("context_length", spec.n_ctx);
    add("embedding_length", spec.n_embd);
    add("feed_forward_length", spec.n_ff);
    add("attention.head_count", spec.n_head);
    add("attention.head_count_kv", spec.n_head_kv);
    add("attention.key_length", spec.head_dim);
    if let Some(experts) = spec.experts {
        add("expert_count", experts.n);
        add("expert_used_count", experts.n_used);
        add("expert_feed_forward_length", experts.n_ff);
    }
    let key = format!("{}.attention.layer_norm_rms_epsilon", spec.architecture);
    metadata.insert(key, spec.norm_eps);
    metadata
}

/// Names and shapes, row length first.
fn tensors(spec: &ModelSpec) -> Vec<(String, Vec<usize>)> {
    let (biased, tied) = (spec.architecture == "qwen2", spec.architecture == "qwen2");
    let head_norms = spec.architecture.starts_with("qwen3");
    let (q, kv) = (spec.n_head * spec.head_dim, spec.n_head_kv * spec.head_dim);
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: &str, dims: &[usize]| tensors.push((name.to_owned(), dims.to_vec()));
    add("token_embd.weight", &[N_EMBD, N_VOCAB]);
    add("output_norm.weight", &[N_EMBD]);
    if !tied {
        add("output.weight", &[N_EMBD, N_VOCAB]);
    }
    for layer in 0..spec.n_layer {
        let mut add = |part: &str, dims: &[usize]| add(&format!("blk.{layer}.{part}"), dims);
        add("attn_norm.weight", &[N_EMBD]);
        for (part, n_out) in [("q", q), ("k", kv), ("v", kv)] {
            add(&format!("attn_{part}.weight"), &[N_EMBD, n_out]);
            if biased {
                add(&format!("attn_{part}.bias"), &[n_out]);
            }
            if head_norms && part != "v" {
                add(&format!("attn_{part}_norm.weight"), &[spec.head_dim]);
            }
        }
        add("attn_output.weight", &[q, N_EMBD]);
        add("ffn_norm.weight", &[N_EMBD]);
        let Some(experts) = spec.experts else {
            add("ffn_gate.weight", &[N_EMBD, N_FF]);
            add("ffn_up.weight", &[N_EMBD, N_FF]);
            add("ffn_down.weight", &[N_FF, N_EMBD]);
            continue;
        };
        add("ffn_gate_inp.weight", &[N_EMBD, experts.n]);
        add("ffn_gate_exps.weight", &[N_EMBD, experts.n_ff, experts.n]);
        add("ffn_up_exps.weight", &[N_EMBD, experts.n_ff, experts.n]);
        add("ffn_down_exps.weight", &[experts.n_ff, N_EMBD, experts.n]);
    }
    tensors
}

impl Tensor {
    fn random(random: &mut Random, name: String, dtype: DType, dims: Vec<usize>) -> Self {
        let n_in = dims[0];
        let unit = (n_in as f32).sqrt().recip();
        // Queries and keys are large enough for attention to choose, the ends for logits that are far apart.
        let (mean, spread) = match &*name {
            name if name.ends_with("norm.weight") => (1.0, 0.3),
            name if name.ends_with(".bias") => (0.0, 0.5),
            name if name.contains("attn_q") || name.contains("attn_k") => (0.0, 1.5 * unit),
            name if name.contains("ffn_gate_inp") => (0.0, 4.0 * unit),
            "token_embd.weight" | "output.weight" => (0.0, 4.0 * unit),
            _ => (0.0, unit),
        };
        let mut bytes = Vec::new();
        let mut row = vec![0.0; n_in];
        let mut packed = vec![0; dtype.row_bytes(n_in).expect("whole blocks. This is a bug.")];
        for _ in 0..dims[1..].iter().product() {
            row.fill_with(|| mean + spread * random.next());
            quant::quantize_row(dtype, &row, &mut packed)
                .expect("the suite's formats are computed. This is a bug.");
            bytes.extend_from_slice(&packed);
        }
        Self {
            name,
            dtype,
            dims,
            bytes,
        }
    }

    /// Takes the second half away.
    pub(super) fn halve(&mut self) {
        *self.dims.last_mut().expect("no tensor is a number") /= 2;
        self.bytes.truncate(self.bytes.len() / 2);
    }
}

/// SplitMix64 (Steele et al. 2014): the same weights on every machine.
struct Random(u64);

impl Random {
    /// Evenly spread, with mean 0 and variance 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((x ^ (x >> 31)) >> 40) as f32 / (1 << 24) as f32;
        (unit - 0.5) * 12f32.sqrt()
    }
}
