//! The shape of a language model, in the field's names.

use crate::KvType;

/// A model's hyperparameters: enough to size its memory, to estimate its speed and to run it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The architecture as GGUF names it: `llama`, `qwen3`, ...
    pub architecture: String,
    /// The model's own name, if it tells one.
    pub name: Option<String>,
    /// Transformer layers.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads; divides `n_head`.
    pub n_head_kv: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub n_ff: usize,
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// Context length that the model was trained for, in tokens.
    pub n_ctx: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// The experts, if its feed-forward layers have some.
    pub experts: Option<ExpertShape>,
    /// Tokens that some or all layers attend to at most, if there are such layers.
    pub window: Option<usize>,
    /// Whether a token sees only itself and what is before it. Where it sees the whole text, the model is an encoder: it reads
    /// a text in one step, gives vectors, and writes nothing.
    pub is_causal: bool,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertShape {
    /// Experts of a layer.
    pub n: usize,
    /// Experts that a token goes to.
    pub n_used: usize,
    /// Width of an expert.
    pub n_ff: usize,
}

impl ModelSpec {
    /// Bytes of keys and values per token.
    pub fn kv_bytes_per_token(&self, kv_type: KvType) -> u64 {
        let values = 2 * self.n_layer * self.n_head_kv * self.head_dim;
        (values as f64 * kv_type.bits() / 8.0).ceil() as u64
    }
}
