//! A language model as the planner sees it: the shape that decides its memory and its speed.

/// A mixture of experts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Experts {
    /// Experts in a layer.
    pub count: u32,
    /// Experts that a token uses.
    pub active: u32,
    /// Width of an expert.
    pub n_ff: u32,
    /// Width of the experts that every token uses, together.
    pub shared_n_ff: u32,
    /// Layers at the front that have no experts.
    pub dense_layers: u32,
}

/// What the layers remember of the past.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Memory {
    /// Keys and values of every token.
    Full,
    /// Every `full_every`-th layer sees all; the others the last `window` tokens.
    Window {
        /// Tokens that a windowed layer sees.
        window: u32,
        /// 1 in this many layers is full; 0: none.
        full_every: u32,
    },
    /// Every `full_every`-th layer is attention; the others keep a state of fixed size.
    Linear {
        /// 1 in this many layers is full; 0: none.
        full_every: u32,
        /// Bytes of the state, per layer and sequence.
        state_bytes: u64,
    },
    /// Latent attention: one compressed row for all heads.
    Latent {
        /// Width of the compressed row.
        kv_rank: u32,
        /// Width of the key's rotated part.
        rope_dim: u32,
    },
}

/// A model's shape. Counts are of one copy of the model.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelShape {
    /// `llama-3.1-8b`.
    pub name: String,
    /// As GGUF names it.
    pub architecture: String,
    /// All parameters.
    pub params: u64,
    /// Parameters that one token uses.
    pub params_active: u64,
    /// Transformer layers.
    pub n_layer: u32,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key/value heads.
    pub n_head_kv: u32,
    /// Values per head.
    pub head_dim: u32,
    /// Width of the feed-forward layer.
    pub n_ff: u32,
    /// Tokens in the vocabulary.
    pub n_vocab: u32,
    /// Context length that it was trained for.
    pub n_ctx: u32,
    /// Whether the output projection is the embedding.
    pub tied: bool,
    /// Where the feed-forward layers are mixtures.
    pub experts: Option<Experts>,
    /// What layers remember.
    pub memory: Memory,
}
