//! A language model as the planner sees it: the shape that decides its memory and its speed.

mod file;

pub use file::{NotAModel, read_file};

use crate::quantization::{Quantization, Role};

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

/// Parameters by what a step does with them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Parameters {
    /// The table of tokens: one row is read per token, unless it is the output projection too.
    pub embedding: f64,
    /// The output projection; 0 where the table stands in.
    pub output: f64,
    /// Query and key projections.
    pub query_key: f64,
    /// Value projections.
    pub value: f64,
    /// Output projections of attention.
    pub attention_output: f64,
    /// Gate and up projections of dense feed-forward layers and shared experts.
    pub gate_up: f64,
    /// Down projections of the same.
    pub down: f64,
    /// Gate and up projections of all experts.
    pub expert_gate_up: f64,
    /// Down projections of all experts.
    pub expert_down: f64,
    /// What a token uses that the shape does not explain: convolutions, state layers, low-rank detours.
    pub other: f64,
    /// What no token of text uses in full: picture towers, tables by layer.
    pub unread: f64,
}

impl Parameters {
    /// Every role with its count.
    pub fn by_role(&self) -> [(Role, f64); 11] {
        [
            (Role::Embedding, self.embedding),
            (Role::Output, self.output),
            (Role::QueryKey, self.query_key),
            (Role::Value, self.value),
            (Role::AttentionOutput, self.attention_output),
            (Role::GateUp, self.gate_up),
            (Role::Down, self.down),
            (Role::ExpertGateUp, self.expert_gate_up),
            (Role::ExpertDown, self.expert_down),
            (Role::Other, self.other),
            (Role::Unread, self.unread),
        ]
    }
}

/// Bytes of weights by what a step does with them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct WeightBytes {
    /// The table of tokens.
    pub embedding: f64,
    /// The output projection; 0 where the table stands in.
    pub output: f64,
    /// What every token reads in the layers.
    pub layers: f64,
    /// All experts.
    pub experts: f64,
    /// What no token reads in full.
    pub unread: f64,
}

impl WeightBytes {
    /// The size of the file, but for its directory.
    pub fn total(&self) -> f64 {
        self.embedding + self.output + self.layers + self.experts + self.unread
    }

    /// What a step reads from the output projection.
    pub fn output_read(&self) -> f64 {
        if self.output > 0.0 {
            self.output
        } else {
            self.embedding
        }
    }
}

impl ModelShape {
    /// Layers that are mixtures of experts.
    pub fn expert_layers(&self) -> u32 {
        self.experts.map_or(0, |experts| {
            self.n_layer.saturating_sub(experts.dense_layers)
        })
    }

    /// Layers that keep keys and values of every token.
    pub fn full_layers(&self) -> u32 {
        match self.memory {
            Memory::Full | Memory::Latent { .. } => self.n_layer,
            Memory::Window { full_every, .. } | Memory::Linear { full_every, .. } => {
                self.n_layer.checked_div(full_every).unwrap_or(0)
            }
        }
    }

    /// Bytes of keys, values and states that one sequence of `tokens` tokens has, at `bits` a value.
    pub fn cache_bytes(&self, tokens: u64, bits: f64) -> f64 {
        let row = f64::from(2 * self.n_head_kv * self.head_dim) * bits / 8.0;
        let full = f64::from(self.full_layers());
        let rest = f64::from(self.n_layer) - full;
        let tokens = tokens as f64;
        match self.memory {
            Memory::Full => full * row * tokens,
            Memory::Window { window, .. } => {
                full * row * tokens + rest * row * tokens.min(f64::from(window))
            }
            Memory::Linear { state_bytes, .. } => full * row * tokens + rest * state_bytes as f64,
            Memory::Latent { kv_rank, rope_dim } => {
                full * f64::from(kv_rank + rope_dim) * bits / 8.0 * tokens
            }
        }
    }

    /// The share of the experts' weights that a step over `batch` sequences reads.
    ///
    /// Each sequence picks `active` of `count`; picks are taken to be independent, which over-estimates a little: texts on
    /// one subject prefer the same experts.
    pub fn expert_share(&self, batch: u32) -> f64 {
        self.experts.map_or(0.0, |experts| {
            let picked = f64::from(experts.active) / f64::from(experts.count.max(1));
            1.0 - (1.0 - picked.min(1.0)).powi(i32::try_from(batch).unwrap_or(i32::MAX))
        })
    }

    /// Parameters by role. What the shape does not account for of [`ModelShape::params`] is in `other` or `unread`.
    pub fn parameters(&self) -> Parameters {
        let [layers, embd, vocab] = [self.n_layer, self.n_embd, self.n_vocab].map(f64::from);
        let heads = f64::from(self.n_head * self.head_dim);
        let heads_kv = f64::from(self.n_head_kv * self.head_dim);
        let table = vocab * embd;
        let mut p = Parameters {
            embedding: table,
            output: if self.tied { 0.0 } else { table },
            query_key: layers * embd * (heads + heads_kv),
            value: layers * embd * heads_kv,
            attention_output: layers * heads * embd,
            ..Parameters::default()
        };
        if let Memory::Latent { kv_rank, rope_dim } = self.memory {
            // Keys and values come out of the compressed row; queries are compressed as well, to three times its rank.
            let [rank, rope] = [kv_rank, rope_dim].map(f64::from);
            p.query_key = layers * (embd * (4.0 * rank + rope) + 3.0 * rank * heads);
            p.value = layers * rank * 2.0 * heads;
        }
        let expert_layers = f64::from(self.expert_layers());
        let dense_layers = layers - expert_layers;
        let mut dense_width = dense_layers * f64::from(self.n_ff);
        if let Some(experts) = self.experts {
            let all = expert_layers * f64::from(experts.count) * f64::from(experts.n_ff) * embd;
            p.expert_gate_up = 2.0 * all;
            p.expert_down = all;
            dense_width += expert_layers * f64::from(experts.shared_n_ff);
        }
        p.gate_up = 2.0 * embd * dense_width;
        p.down = embd * dense_width;
        self.reconcile(p)
    }

    /// Makes the roles add up to the counts that are known: of all parameters and of the active ones.
    fn reconcile(&self, mut p: Parameters) -> Parameters {
        let sum: f64 = p.by_role().iter().map(|(_, n)| n).sum();
        let missing = self.params as f64 - sum;
        if missing < 0.0 {
            // The shape promises more than there is: layers without attention, feed-forward layers without a gate.
            let body = sum - p.embedding - p.output;
            let scale = ((body + missing) / body).max(0.05);
            for part in [
                &mut p.query_key,
                &mut p.value,
                &mut p.attention_output,
                &mut p.gate_up,
                &mut p.down,
                &mut p.expert_gate_up,
                &mut p.expert_down,
            ] {
                *part *= scale;
            }
        } else if self.experts.is_none() && self.params_active < self.params {
            p.unread = missing.min((self.params - self.params_active) as f64);
            p.other = missing - p.unread;
        } else {
            p.other = missing;
        }
        p
    }

    /// Bytes of weights in a quantization.
    pub fn weights(&self, quantization: &Quantization) -> WeightBytes {
        if let Some(exact) = quantization.exact {
            return exact;
        }
        let mut bytes = WeightBytes::default();
        for (role, count) in self.parameters().by_role() {
            let size = count * quantization.bits(role, self.tied) / 8.0;
            *match role {
                Role::Embedding => &mut bytes.embedding,
                Role::Output => &mut bytes.output,
                Role::ExpertGateUp | Role::ExpertDown => &mut bytes.experts,
                Role::Unread => &mut bytes.unread,
                _ => &mut bytes.layers,
            } += size;
        }
        bytes
    }
}

/// Llama 3.1 8B, whose proportions are those of most dense models.
pub(crate) fn llama_8b() -> ModelShape {
    ModelShape {
        name: "llama-3.1-8b".into(),
        architecture: "llama".into(),
        params: 8_030_261_248,
        params_active: 8_030_261_248,
        n_layer: 32,
        n_embd: 4096,
        n_head: 32,
        n_head_kv: 8,
        head_dim: 128,
        n_ff: 14_336,
        n_vocab: 128_256,
        n_ctx: 131_072,
        tied: false,
        experts: None,
        memory: Memory::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_published_files() {
        let model = llama_8b();
        // Bytes of the files of Llama 3.1 8B as llama.cpp's quantizer documents them, in GiB.
        for (name, gib) in [
            ("Q4_K_M", 4.58),
            ("Q4_K_S", 4.36),
            ("Q5_K_M", 5.33),
            ("Q6_K", 6.14),
            ("Q8_0", 7.95),
            ("Q3_K_M", 3.74),
            ("Q2_K", 2.95),
            ("F16", 14.96),
            ("Q4_0", 4.34),
            ("IQ4_XS", 4.13),
        ] {
            let quantization = Quantization::parse(name).expect("a known name");
            let got = model.weights(&quantization).total() / f64::from(1 << 30);
            assert!(
                (got / gib - 1.0).abs() < 0.02,
                "{name}: {got:.2} GiB, published {gib}"
            );
        }
    }

    #[test]
    fn the_cache_is_what_the_layers_keep() {
        let mut model = llama_8b();
        assert_eq!(model.cache_bytes(1, 16.0), 131_072.0, "128 KiB a token");
        model.memory = Memory::Window {
            window: 1024,
            full_every: 4,
        };
        assert_eq!(
            model.cache_bytes(8192, 16.0),
            4096.0 * f64::from(8 * 8192 + 24 * 1024)
        );
        model.memory = Memory::Latent {
            kv_rank: 512,
            rope_dim: 64,
        };
        assert_eq!(model.cache_bytes(1, 16.0), f64::from(32 * 576 * 2));
    }

    #[test]
    fn more_sequences_touch_more_experts() {
        let mut model = llama_8b();
        model.experts = Some(Experts {
            count: 128,
            active: 8,
            n_ff: 768,
            shared_n_ff: 0,
            dense_layers: 0,
        });
        assert_eq!(model.expert_share(1), 8.0 / 128.0);
        assert!(model.expert_share(64) > 0.95);
        assert!(model.expert_share(u32::MAX) <= 1.0);
    }
}
