//! A model's row: its shape, and the arithmetic that proves it.

use serde::{Deserialize, Serialize};

use super::source::Source;

/// A language model's shape, in the field's names. What no source states is absent.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Family, generation and size: `llama-3.1-8b`.
    pub name: String,
    /// What files, hubs and people call it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// As GGUF names it.
    pub architecture: String,
    /// All parameters, in 10⁹.
    pub params_b: f64,
    /// Those that a token meets, as the vendor counts; absent for a dense model.
    pub active_b: Option<f64>,
    /// Layers.
    pub n_layer: u32,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key/value heads.
    pub n_head_kv: u32,
    /// Values per head.
    pub head_dim: u32,
    /// Width of the feed-forward layer of dense layers.
    pub n_ff: u32,
    /// Tokens in the vocabulary.
    pub n_vocab: u32,
    /// Context length that it was trained for, in tokens.
    pub n_ctx: u32,
    /// The output projection is the embedding, or there is none.
    pub tied: bool,
    /// The feed-forward layer has a gate: three matrices, not two.
    #[serde(default = "yes")]
    pub gated: bool,
    /// Parameters that the shape does not tell of, in 10⁹: vision towers, per-layer embeddings, attention gates.
    pub extra_b: Option<f64>,
    /// Only for a mixture.
    pub experts: Option<Experts>,
    /// Only where attention isn't full everywhere.
    pub attention: Option<Window>,
    /// Only for hybrids.
    pub linear: Option<Linear>,
    /// Only for latent attention.
    pub mla: Option<Latent>,
    /// What it does, if not generate text.
    #[serde(default)]
    pub task: Task,
    /// Short name of its licence.
    pub licence: Option<String>,
    /// Where this is from.
    pub source: Source,
}

fn yes() -> bool {
    true
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    /// Experts in a layer, shared ones apart.
    pub count: u32,
    /// Of these, how many a token goes to.
    pub active: u32,
    /// Width of one.
    pub n_ff: u32,
    /// Width of those that every token goes to, together; 0 if there are none.
    #[serde(default)]
    pub shared_n_ff: u32,
    /// Layers without experts.
    #[serde(default)]
    pub dense_layers: u32,
}

/// Attention that sees only the last tokens in most layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Tokens seen.
    pub window: u32,
    /// Every so many-th layer is full; 0 if none is.
    pub full_every: u32,
}

/// Layers that keep a state of fixed size instead of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Every so many-th layer is attention.
    pub full_every: Option<u32>,
    /// How many layers are attention, where there is no such rule.
    pub full_layers: Option<u32>,
    /// Bytes of a layer's state, for each sequence.
    pub state_bytes: u64,
    /// Parameters that such a layer has in place of attention, in 10⁶.
    pub params_m: Option<f64>,
}

/// Attention whose cache is a latent vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Latent {
    /// Width of the latent vector.
    pub kv_rank: u32,
    /// Width of the part of a key that has a position.
    pub rope_dim: u32,
    /// Width that queries pass through; absent if they don't.
    pub q_rank: Option<u32>,
    /// Width of a value; `head_dim` if absent.
    pub v_dim: Option<u32>,
}

/// What a model does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Writes text.
    #[default]
    Generate,
    /// Turns text into a vector.
    Embed,
    /// Orders texts by relevance.
    Rerank,
    /// Turns speech into text.
    Asr,
}

impl Model {
    /// Layers that keep keys and values of all tokens.
    pub fn full_layers(&self) -> u32 {
        let kept = self.kv_layers();
        match self.attention {
            Some(Window { full_every: 0, .. }) => 0,
            Some(Window { full_every, .. }) => kept / full_every,
            None => kept,
        }
    }

    /// Layers that keep keys and values, be it of the last tokens only.
    pub fn kv_layers(&self) -> u32 {
        match self.linear {
            Some(Linear {
                full_layers: Some(layers),
                ..
            }) => layers,
            Some(Linear {
                full_every: Some(every @ 1..),
                ..
            }) => self.n_layer / every,
            _ => self.n_layer,
        }
    }

    /// Parameters by the shape, in 10⁹, without norms and biases; `None` where the shape does not tell.
    ///
    /// A row whose figure differs by more than a little has a wrong shape or a wrong figure.
    pub fn computed_params_b(&self) -> Option<f64> {
        let mixer = self.mixer_params()?;
        Some((self.embedding_params() + mixer + self.ffn_params(false)) / 1e9 + self.extra())
    }

    /// Parameters that a token meets by the shape, in 10⁹; of the embedding, one row.
    pub fn computed_active_b(&self) -> Option<f64> {
        let output = f64::from(self.n_vocab) * f64::from(self.n_embd);
        Some((output + self.mixer_params()? + self.ffn_params(true)) / 1e9)
    }

    fn extra(&self) -> f64 {
        self.extra_b.unwrap_or(0.0)
    }

    fn embedding_params(&self) -> f64 {
        let one = f64::from(self.n_vocab) * f64::from(self.n_embd);
        if self.tied { one } else { 2.0 * one }
    }

    /// Attention and what stands in its place, in all layers.
    fn mixer_params(&self) -> Option<f64> {
        let kept = f64::from(self.kv_layers());
        let attention = kept * self.attention_params();
        let others = f64::from(self.n_layer) - kept;
        if others == 0.0 {
            return Some(attention);
        }
        let each = self.linear?.params_m?;
        Some(attention + others * each * 1e6)
    }

    /// One layer's attention.
    fn attention_params(&self) -> f64 {
        let [n_embd, n_head, n_kv, head] =
            [self.n_embd, self.n_head, self.n_head_kv, self.head_dim].map(f64::from);
        let Some(mla) = self.mla else {
            return n_embd * head * (2.0 * n_head + 2.0 * n_kv);
        };
        let [rank, rope] = [mla.kv_rank, mla.rope_dim].map(f64::from);
        let value = mla.v_dim.map_or(head, f64::from);
        let query = n_head * (head + rope);
        let q = match mla.q_rank.map(f64::from) {
            Some(q_rank) => q_rank * (n_embd + query),
            None => n_embd * query,
        };
        q + n_embd * (rank + rope) + rank * n_head * (head + value) + n_head * value * n_embd
    }

    /// The feed-forward layers, all of them or what one token meets.
    fn ffn_params(&self, active_only: bool) -> f64 {
        let matrices = if self.gated { 3.0 } else { 2.0 };
        let width = |n_ff: u32| matrices * f64::from(self.n_embd) * f64::from(n_ff);
        let Some(experts) = self.experts else {
            return f64::from(self.n_layer) * width(self.n_ff);
        };
        let met = if active_only {
            experts.active
        } else {
            experts.count
        };
        let router = f64::from(self.n_embd) * f64::from(experts.count);
        let sparse = f64::from(met) * width(experts.n_ff) + width(experts.shared_n_ff) + router;
        let dense_layers = f64::from(experts.dense_layers);
        dense_layers * width(self.n_ff) + (f64::from(self.n_layer) - dense_layers) * sparse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> Model {
        let source = "source = { url = 'https://example.org', date = 2026-11-21 }";
        toml::from_str(&format!("{text}\n{source}")).expect("parses")
    }

    fn assert_near(value: f64, want: f64) {
        assert!((value / want - 1.0).abs() < 0.001, "{value} is not {want}");
    }

    #[test]
    fn parameters_follow_from_the_shape() {
        let dense = model(
            "name = 'llama-3.1-8b'\narchitecture = 'llama'\nparams_b = 8.030\nn_layer = 32\nn_embd = 4096\n\
             n_head = 32\nn_head_kv = 8\nhead_dim = 128\nn_ff = 14336\nn_vocab = 128256\nn_ctx = 131072\ntied = false",
        );
        assert_near(dense.computed_params_b().expect("a whole shape"), 8.030);
        let sparse = model(
            "name = 'qwen3-30b-a3b'\narchitecture = 'qwen3moe'\nparams_b = 30.53\nactive_b = 3.3\nn_layer = 48\n\
             n_embd = 2048\nn_head = 32\nn_head_kv = 4\nhead_dim = 128\nn_ff = 6144\nn_vocab = 151936\nn_ctx = 40960\n\
             tied = false\nexperts = { count = 128, active = 8, n_ff = 768 }",
        );
        assert_near(sparse.computed_params_b().expect("a whole shape"), 30.53);
        assert_near(sparse.computed_active_b().expect("a whole shape"), 3.04);
        let latent = model(
            "name = 'deepseek-v3'\narchitecture = 'deepseek2'\nparams_b = 671.0\nactive_b = 37.0\nn_layer = 61\n\
             n_embd = 7168\nn_head = 128\nn_head_kv = 128\nhead_dim = 128\nn_ff = 18432\nn_vocab = 129280\n\
             n_ctx = 163840\ntied = false\nmla = { kv_rank = 512, rope_dim = 64, q_rank = 1536 }\n\
             experts = { count = 256, active = 8, n_ff = 2048, shared_n_ff = 2048, dense_layers = 3 }",
        );
        assert_near(latent.computed_params_b().expect("a whole shape"), 671.0);
    }

    #[test]
    fn layers_are_counted_by_kind() {
        let mut gemma = model(
            "name = 'gemma-3-1b'\narchitecture = 'gemma3'\nparams_b = 1.0\nn_layer = 26\nn_embd = 1152\nn_head = 4\n\
             n_head_kv = 1\nhead_dim = 256\nn_ff = 6912\nn_vocab = 262144\nn_ctx = 32768\ntied = true\n\
             attention = { window = 512, full_every = 6 }",
        );
        assert_eq!((gemma.kv_layers(), gemma.full_layers()), (26, 4));
        gemma.attention = None;
        gemma.linear = Some(Linear {
            full_every: Some(4),
            full_layers: None,
            state_bytes: 1024,
            params_m: None,
        });
        assert_eq!((gemma.kv_layers(), gemma.full_layers()), (6, 6));
        assert_eq!(gemma.computed_params_b(), None);
    }
}
