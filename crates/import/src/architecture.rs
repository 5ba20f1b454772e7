//! The architectures that are imported: what their tensors and settings are called on both sides.

use troika_gguf::{Metadata, Value};

use crate::config::Config;
use crate::layout::{Change, Layout};
use crate::{Error, encoder, rope};

/// What is particular to an architecture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    /// As `architectures` of config.json names it.
    hugging_face: &'static [&'static str],
    /// As GGUF names it.
    pub(crate) gguf: &'static str,
    /// Pairs of the rotation become neighbours.
    pub(crate) interleaves: bool,
    /// Norms of the heads of queries and keys.
    head_norms: bool,
    /// Norms are kept as what they differ from 1 by, and stand behind each half of a layer as well.
    gemma: bool,
    experts: Experts,
}

/// How a checkpoint keeps its experts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Experts {
    None,
    /// `mlp.experts.N.{gate,up,down}_proj`
    Each,
    /// `block_sparse_moe.experts.N.{w1,w3,w2}`
    Mixtral,
    /// `block_sparse_moe.{input,output}_linear`, gate and up one behind the other.
    Granite,
    /// `mlp.experts.{gate_up,down}_proj`, transposed, gate and up alternating; or in MXFP4, not transposed.
    GptOss,
}

const PLAIN: Family = Family {
    hugging_face: &[],
    gguf: "llama",
    interleaves: false,
    head_norms: false,
    gemma: false,
    experts: Experts::None,
};

const FAMILIES: &[Family] = &[
    Family {
        hugging_face: &["LlamaForCausalLM", "MistralForCausalLM"],
        interleaves: true,
        ..PLAIN
    },
    Family {
        hugging_face: &["MixtralForCausalLM"],
        interleaves: true,
        experts: Experts::Mixtral,
        ..PLAIN
    },
    Family {
        hugging_face: &["Qwen2ForCausalLM"],
        gguf: "qwen2",
        ..PLAIN
    },
    Family {
        // The embedding models are the bare decoder.
        hugging_face: &["Qwen3ForCausalLM", "Qwen3Model"],
        gguf: "qwen3",
        head_norms: true,
        ..PLAIN
    },
    Family {
        hugging_face: &["Qwen3MoeForCausalLM"],
        gguf: "qwen3moe",
        head_norms: true,
        experts: Experts::Each,
        ..PLAIN
    },
    Family {
        hugging_face: &["SmolLM3ForCausalLM"],
        gguf: "smollm3",
        interleaves: true,
        ..PLAIN
    },
    Family {
        hugging_face: &["GraniteForCausalLM"],
        gguf: "granite",
        interleaves: true,
        ..PLAIN
    },
    Family {
        hugging_face: &["GraniteMoeForCausalLM"],
        gguf: "granitemoe",
        interleaves: true,
        experts: Experts::Granite,
        ..PLAIN
    },
    Family {
        hugging_face: &["Gemma2ForCausalLM"],
        gguf: "gemma2",
        gemma: true,
        ..PLAIN
    },
    Family {
        hugging_face: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
        gguf: "gemma3",
        gemma: true,
        head_norms: true,
        ..PLAIN
    },
    Family {
        hugging_face: &["Phi3ForCausalLM"],
        gguf: "phi3",
        ..PLAIN
    },
    Family {
        hugging_face: &["GptOssForCausalLM"],
        gguf: "gpt-oss",
        experts: Experts::GptOss,
        ..PLAIN
    },
    Family {
        hugging_face: &["BertModel", "BertForMaskedLM"],
        gguf: encoder::BERT,
        ..PLAIN
    },
    Family {
        hugging_face: &["NomicBertModel"],
        gguf: encoder::NOMIC_BERT,
        ..PLAIN
    },
];

impl Family {
    /// That of a checkpoint.
    pub(crate) fn of(config: &serde_json::Value) -> Result<Self, Error> {
        let named = config["architectures"][0].as_str().unwrap_or("(none)");
        let found = FAMILIES
            .iter()
            .find(|family| family.hugging_face.contains(&named));
        found.copied().ok_or_else(|| Error::UnknownArchitecture {
            architecture: named.to_owned(),
            known: known().join(", "),
        })
    }

    /// That of a GGUF file's architecture.
    pub(crate) fn of_gguf(architecture: &str) -> Result<Self, Error> {
        let found = FAMILIES.iter().find(|family| family.gguf == architecture);
        found.copied().ok_or_else(|| Error::UnknownArchitecture {
            architecture: architecture.to_owned(),
            known: known().join(", "),
        })
    }

    /// The settings, and tensors of factors that belong to them.
    pub(crate) fn metadata(
        &self,
        config: &Config,
        metadata: &mut Metadata,
    ) -> Result<rope::Factors, Error> {
        if self.is_encoder() {
            return encoder::metadata(self.gguf, config, metadata);
        }
        self.refuse_what_would_be_ignored(config)?;
        let n_embd = config.count("hidden_size")?;
        let n_head = config.count("num_attention_heads")?;
        config.expect(
            n_head > 0,
            "num_attention_heads",
            "expected a positive number",
        )?;
        let head_dim = config.opt_count("head_dim")?.unwrap_or(n_embd / n_head);
        let n_ff = config.count("intermediate_size")?;
        let mut add = |name: &str, value: Value| {
            metadata.insert(format!("{}.{name}", self.gguf), value);
        };
        let n_head_kv = config.opt_count("num_key_value_heads")?.unwrap_or(n_head);
        for (name, value) in [
            ("block_count", config.count("num_hidden_layers")?),
            ("context_length", config.count("max_position_embeddings")?),
            ("embedding_length", n_embd),
            ("feed_forward_length", n_ff),
            ("attention.head_count", n_head),
            ("attention.head_count_kv", n_head_kv),
            ("attention.key_length", head_dim),
            ("attention.value_length", head_dim),
            ("vocab_size", config.count("vocab_size")?),
        ] {
            add(name, value.into());
        }
        let eps = config.opt_float("rms_norm_eps")?.unwrap_or(1e-6);
        add("attention.layer_norm_rms_epsilon", (eps as f32).into());
        for (name, key) in [
            ("embedding_scale", "embedding_multiplier"),
            ("residual_scale", "residual_multiplier"),
            ("attention.scale", "attention_multiplier"),
            ("logit_scale", "logits_scaling"),
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ] {
            if let Some(value) = config.opt_float(key)? {
                add(name, (value as f32).into());
            }
        }
        // Said only where it is not what a head's width says, as other readers take it from that.
        if let Some(width) = config.opt_float("query_pre_attn_scalar")?
            && width != f64::from(head_dim)
        {
            add("attention.scale", (1.0 / width.sqrt() as f32).into());
        }
        if let Some(window) = self.window(config)? {
            add("attention.sliding_window", window.into());
        }
        self.experts(config, n_ff, &mut add)?;
        rope::write(config, self.gguf, head_dim, metadata)
    }

    /// Tokens that layers with a window see, in a model that has such layers.
    fn window(&self, config: &Config) -> Result<Option<u32>, Error> {
        // Qwen's configurations have a window that a flag turns off.
        let used = config
            .get("use_sliding_window")
            .is_none_or(|used| used == true);
        let window = config.opt_count("sliding_window")?.filter(|_| used);
        let has = matches!(
            self.gguf,
            "llama" | "gemma2" | "gemma3" | "phi3" | "gpt-oss"
        );
        let expected = "this architecture is computed without a window";
        config.expect(has || window.is_none(), "sliding_window", expected)?;
        if self.gguf == "phi3" {
            // Readers want the key, and 0 for none.
            return Ok(Some(window.unwrap_or(0)));
        }
        Ok(window)
    }

    fn experts(
        &self,
        config: &Config,
        n_ff: u32,
        add: &mut impl FnMut(&str, Value),
    ) -> Result<(), Error> {
        if self.experts == Experts::None {
            return Ok(());
        }
        let n = match config.opt_count("num_local_experts")? {
            Some(n) => n,
            None => config.count("num_experts")?,
        };
        add("expert_count", n.into());
        add(
            "expert_used_count",
            config.count("num_experts_per_tok")?.into(),
        );
        let n_ff = config.opt_count("moe_intermediate_size")?.unwrap_or(n_ff);
        add("expert_feed_forward_length", n_ff.into());
        if self.experts == Experts::Each {
            let expected = "experts' weights are computed so that they add up to one";
            config.expect(config.is("norm_topk_prob"), "norm_topk_prob", expected)?;
        }
        Ok(())
    }

    /// Flags that change what is computed, and have no key.
    fn refuse_what_would_be_ignored(&self, config: &Config) -> Result<(), Error> {
        let (key, act) = match config.str("hidden_activation") {
            Some(act) => ("hidden_activation", Some(act)),
            None => ("hidden_act", config.str("hidden_act")),
        };
        let usual: &[&str] = match self.gemma {
            true => &["gelu_pytorch_tanh"],
            false => &["silu", "swish"],
        };
        let is_usual = act.is_none_or(|act| usual.contains(&act));
        config.expect(is_usual, key, &format!("expected {}", usual.join(" or ")))?;
        let layers = |key: &str, holds: &dyn Fn(usize, &serde_json::Value) -> bool| {
            let all = config.get(key).and_then(serde_json::Value::as_array);
            all.is_none_or(|all| all.iter().enumerate().all(|(i, value)| holds(i, value)))
        };
        let every = match self.gguf {
            "gemma2" | "gpt-oss" => 2,
            "gemma3" => 6,
            _ => 0,
        };
        let is_in_turn = layers("layer_types", &|i, value| {
            every == 0 || (value == "full_attention") == (i + 1).is_multiple_of(every)
        });
        let expected = "expected windows in all layers but the last of each group";
        config.expect(is_in_turn, "layer_types", expected)?;
        let is_in_turn = layers("no_rope_layers", &|i, value| {
            (value == 1) != (i + 1).is_multiple_of(4)
        });
        let expected = "expected every fourth layer to be without positions";
        config.expect(is_in_turn, "no_rope_layers", expected)?;
        let none = layers("mlp_only_layers", &|_, _| false);
        config.expect(none, "mlp_only_layers", "expected experts in every layer")?;
        let step = config.opt_count("decoder_sparse_step")?.unwrap_or(1);
        config.expect(
            step == 1,
            "decoder_sparse_step",
            "expected experts in every layer",
        )
    }

    /// Whether it is none of the decoders, which are all built alike.
    fn is_encoder(&self) -> bool {
        encoder::is_encoder(self.gguf)
    }

    /// What the embedding table's name ends with.
    pub(crate) fn table(&self) -> &'static str {
        match self.is_encoder() {
            true => encoder::TABLE,
            false => "embed_tokens.weight",
        }
    }

    /// The tensors.
    pub(crate) fn tensors(&self, config: &Config, layout: &mut Layout<'_>) -> Result<(), Error> {
        if self.is_encoder() {
            return encoder::tensors(self.gguf, config, layout);
        }
        let n_head = config.count("num_attention_heads")? as usize;
        let n_head_kv = config.opt_count("num_key_value_heads")?;
        let n_head_kv = n_head_kv.map_or(n_head, |n| n as usize);
        let norm = if self.gemma {
            Change::AddOne
        } else {
            Change::None
        };
        layout.whole("token_embd.weight", "embed_tokens.weight", Change::None)?;
        layout.whole("output_norm.weight", "norm.weight", norm)?;
        // Where it is the embedding table, some checkpoints have it twice, and some once.
        let tied = config
            .get("tie_word_embeddings")
            .map_or(self.gemma, |tied| tied == true);
        if !tied && layout.has("lm_head.weight") {
            layout.whole("output.weight", "lm_head.weight", Change::None)?;
        } else {
            layout.leave("lm_head.weight");
        }
        for i in 0..config.count("num_hidden_layers")? {
            let mut layer = Layer { layout, i, norm };
            layer.one("attn_norm.weight", "input_layernorm.weight", norm)?;
            self.attention(&mut layer, [n_head, n_head_kv])?;
            let behind_attention = "post_attention_layernorm.weight";
            if self.gemma {
                layer.one("post_attention_norm.weight", behind_attention, norm)?;
                layer.one("ffn_norm.weight", "pre_feedforward_layernorm.weight", norm)?;
                layer.one(
                    "post_ffw_norm.weight",
                    "post_feedforward_layernorm.weight",
                    norm,
                )?;
            } else if self.gguf == "gpt-oss" {
                layer.one("post_attention_norm.weight", behind_attention, norm)?;
            } else {
                layer.one("ffn_norm.weight", behind_attention, norm)?;
            }
            self.feed_forward(&mut layer, config)?;
        }
        layout.finish()
    }

    fn attention(&self, layer: &mut Layer<'_, '_>, heads: [usize; 2]) -> Result<(), Error> {
        let turned = |n_head| match self.interleaves {
            true => Change::Interleave(n_head),
            false => Change::None,
        };
        if layer.has("self_attn.qkv_proj.weight") {
            layer.one("attn_qkv.weight", "self_attn.qkv_proj.weight", Change::None)?;
        } else {
            for (part, change) in [
                ("q", turned(heads[0])),
                ("k", turned(heads[1])),
                ("v", Change::None),
            ] {
                let from = format!("self_attn.{part}_proj");
                layer.both(&format!("attn_{part}"), &from, change)?;
            }
        }
        layer.both("attn_output", "self_attn.o_proj", Change::None)?;
        if self.head_norms {
            for part in ["q_norm", "k_norm"] {
                let (name, from) = (
                    format!("attn_{part}.weight"),
                    format!("self_attn.{part}.weight"),
                );
                layer.one(&name, &from, layer.norm)?;
            }
        }
        if layer.has("self_attn.sinks") {
            layer.one("attn_sinks.weight", "self_attn.sinks", Change::None)?;
        }
        Ok(())
    }

    fn feed_forward(&self, layer: &mut Layer<'_, '_>, config: &Config) -> Result<(), Error> {
        match self.experts {
            Experts::None if layer.has("mlp.gate_up_proj.weight") => {
                layer.one("ffn_up.weight", "mlp.gate_up_proj.weight", Change::None)?;
                layer.one("ffn_down.weight", "mlp.down_proj.weight", Change::None)
            }
            Experts::None => ["gate", "up", "down"].into_iter().try_for_each(|part| {
                let (name, from) = (
                    format!("ffn_{part}.weight"),
                    format!("mlp.{part}_proj.weight"),
                );
                layer.one(&name, &from, Change::None)
            }),
            Experts::Each | Experts::Mixtral => {
                let mixtral = self.experts == Experts::Mixtral;
                let (within, names) = match mixtral {
                    true => ("block_sparse_moe", ["w1", "w3", "w2"]),
                    false => ("mlp", ["gate_proj", "up_proj", "down_proj"]),
                };
                let key = if mixtral {
                    "num_local_experts"
                } else {
                    "num_experts"
                };
                let n = match config.opt_count(key)? {
                    Some(n) => n,
                    None => config.count("num_local_experts")?,
                };
                layer.one(
                    "ffn_gate_inp.weight",
                    &format!("{within}.gate.weight"),
                    Change::None,
                )?;
                for (part, of) in ["gate", "up", "down"].into_iter().zip(names) {
                    let from = |expert| format!("{within}.experts.{expert}.{of}.weight");
                    let from: Vec<String> = (0..n).map(from).collect();
                    layer.stack(&format!("ffn_{part}_exps.weight"), &from)?;
                }
                Ok(())
            }
            Experts::Granite => {
                let within = "block_sparse_moe";
                layer.one(
                    "ffn_gate_inp.weight",
                    &format!("{within}.router.layer.weight"),
                    Change::None,
                )?;
                let both = format!("{within}.input_linear.weight");
                layer.parts("ffn_gate_exps.weight", &both, |n| 0..n / 2, Change::None)?;
                layer.parts("ffn_up_exps.weight", &both, |n| n / 2..n, Change::None)?;
                let down = format!("{within}.output_linear.weight");
                layer.parts("ffn_down_exps.weight", &down, |n| 0..n, Change::None)
            }
            Experts::GptOss => {
                layer.both("ffn_gate_inp", "mlp.router", Change::None)?;
                for (part, of, first, step) in [
                    ("gate", "gate_up_proj", 0, 2),
                    ("up", "gate_up_proj", 1, 2),
                    ("down", "down_proj", 0, 1),
                ] {
                    let from = format!("mlp.experts.{of}");
                    let name = format!("ffn_{part}_exps.weight");
                    if layer.has(&format!("{from}_blocks")) {
                        layer.mxfp4(&name, &from, (first, step))?;
                    } else {
                        let change = Change::Transposed { first, step };
                        layer.parts(&name, &from, |n| 0..n, change)?;
                    }
                    let change = if step == 2 {
                        Change::Alternate(first)
                    } else {
                        Change::None
                    };
                    let (name, from) = (format!("ffn_{part}_exps.bias"), format!("{from}_bias"));
                    layer.one(&name, &from, change)?;
                }
                Ok(())
            }
        }
    }
}

/// A layer's tensors, by their names within it.
struct Layer<'l, 's> {
    layout: &'l mut Layout<'s>,
    i: u32,
    /// What happens to norms.
    norm: Change,
}

impl Layer<'_, '_> {
    fn from(&self, name: &str) -> String {
        format!("layers.{}.{name}", self.i)
    }

    fn to(&self, name: &str) -> String {
        format!("blk.{}.{name}", self.i)
    }

    fn has(&self, name: &str) -> bool {
        self.layout.has(&self.from(name))
    }

    fn one(&mut self, name: &str, from: &str, change: Change) -> Result<(), Error> {
        self.layout.whole(&self.to(name), &self.from(from), change)
    }

    /// A matrix, and its bias if it has one.
    fn both(&mut self, name: &str, from: &str, change: Change) -> Result<(), Error> {
        self.one(&format!("{name}.weight"), &format!("{from}.weight"), change)?;
        let bias = format!("{from}.bias");
        match self.has(&bias) {
            true => self.one(&format!("{name}.bias"), &bias, change),
            false => Ok(()),
        }
    }

    fn stack(&mut self, name: &str, from: &[String]) -> Result<(), Error> {
        let from: Vec<String> = from.iter().map(|name| self.from(name)).collect();
        self.layout.stack(&self.to(name), &from, Change::None)
    }

    fn mxfp4(&mut self, name: &str, from: &str, rows: (usize, usize)) -> Result<(), Error> {
        self.layout.mxfp4(&self.to(name), &self.from(from), rows)
    }

    fn parts(
        &mut self,
        name: &str,
        from: &str,
        rows: impl Fn(usize) -> std::ops::Range<usize>,
        change: Change,
    ) -> Result<(), Error> {
        self.layout
            .parts(&self.to(name), &self.from(from), rows, change)
    }
}

/// All architectures, as config.json names them.
pub(crate) fn known() -> Vec<&'static str> {
    FAMILIES
        .iter()
        .flat_map(|family| family.hugging_face)
        .copied()
        .collect()
}
