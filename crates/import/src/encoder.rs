//! BERT and Nomic BERT: what their tensors and settings are called on both sides. Nomic's makers' files and those that
//! transformers writes have names of their own for some settings.

use troika_gguf::Metadata;

use crate::Error;
use crate::config::Config;
use crate::layout::{Change, Layout};
use crate::rope;

/// As GGUF names them.
pub(crate) const BERT: &str = "bert";
pub(crate) const NOMIC_BERT: &str = "nomic-bert";

/// Whether an architecture is one of these.
pub(crate) fn is_encoder(gguf: &str) -> bool {
    [BERT, NOMIC_BERT].contains(&gguf)
}

/// What the embedding table's name ends with.
pub(crate) const TABLE: &str = "embeddings.word_embeddings.weight";

/// A count by the first of two names, or by the second.
fn count(config: &Config, names: [&str; 2]) -> Result<u32, Error> {
    match config.opt_count(names[0])? {
        Some(count) => Ok(count),
        None => config.count(names[1]),
    }
}

fn n_layer(config: &Config) -> Result<u32, Error> {
    count(config, ["num_hidden_layers", "n_layer"])
}

/// The settings of the one that GGUF names so.
pub(crate) fn metadata(
    gguf: &str,
    config: &Config,
    metadata: &mut Metadata,
) -> Result<rope::Factors, Error> {
    match gguf {
        BERT => refuse_what_bert_would_ignore(config)?,
        _ => refuse_what_nomic_bert_would_ignore(config)?,
    }
    let n_embd = count(config, ["hidden_size", "n_embd"])?;
    let n_head = count(config, ["num_attention_heads", "n_head"])?;
    let even = n_head > 0 && n_embd.is_multiple_of(n_head);
    config.expect(
        even,
        "num_attention_heads",
        "expected a divisor of the width",
    )?;
    let positions = count(config, ["max_position_embeddings", "n_positions"])?;
    // Its makers' files say how far rotations may be stretched, too; beyond this they were not trained.
    let trained = config.opt_count("max_trained_positions")?;
    for (name, value) in [
        ("block_count", n_layer(config)?),
        (
            "context_length",
            trained.unwrap_or(positions).min(positions),
        ),
        ("embedding_length", n_embd),
        (
            "feed_forward_length",
            count(config, ["intermediate_size", "n_inner"])?,
        ),
        ("attention.head_count", n_head),
        ("vocab_size", config.count("vocab_size")?),
    ] {
        metadata.insert(format!("{gguf}.{name}"), value);
    }
    let eps = match config.opt_float("layer_norm_eps")? {
        Some(eps) => eps,
        None => config.opt_float("layer_norm_epsilon")?.unwrap_or(1e-12),
    };
    metadata.insert(format!("{gguf}.attention.layer_norm_epsilon"), eps as f32);
    metadata.insert(format!("{gguf}.attention.causal"), false);
    if gguf == BERT {
        return Ok(rope::Factors::default());
    }
    let base = config.opt_float("rotary_emb_base")?;
    let factors = rope::write(config, gguf, n_embd / n_head, metadata)?;
    if let Some(base) = base {
        metadata.insert(format!("{gguf}.rope.freq_base"), base as f32);
    }
    Ok(factors)
}

/// Flags that change what is computed, and have no key.
fn refuse_what_bert_would_ignore(config: &Config) -> Result<(), Error> {
    for key in ["is_decoder", "add_cross_attention"] {
        config.expect(!config.is(key), key, "expected false")?;
    }
    for (key, usual) in [
        ("hidden_act", "gelu"),
        ("position_embedding_type", "absolute"),
    ] {
        let is_usual = config.str(key).is_none_or(|value| value == usual);
        config.expect(is_usual, key, &format!("expected {usual}"))?;
    }
    Ok(())
}

/// Likewise.
fn refuse_what_nomic_bert_would_ignore(config: &Config) -> Result<(), Error> {
    for key in [
        "qkv_proj_bias",
        "mlp_fc1_bias",
        "mlp_fc2_bias",
        "use_rms_norm",
        "prenorm",
        "parallel_block",
        "rotary_emb_interleaved",
        "causal",
    ] {
        config.expect(!config.is(key), key, "expected false")?;
    }
    let whole = config.opt_float("rotary_emb_fraction")?.unwrap_or(1.0);
    let expected = "expected heads that are turned whole";
    config.expect(whole == 1.0, "rotary_emb_fraction", expected)?;
    for key in ["rotary_emb_scale_base", "num_experts"] {
        config.expect(config.get(key).is_none(), key, "expected none")?;
    }
    let act = config
        .str("hidden_act")
        .or(config.str("activation_function"));
    let is_gated = act.is_none_or(|act| matches!(act, "silu" | "swiglu"));
    config.expect(is_gated, "hidden_act", "expected silu or swiglu")
}

/// What a checkpoint calls a layer's parts, each beside what GGUF calls them.
struct Names {
    layer: &'static str,
    /// With their biases, if they have some.
    matrices: &'static [(&'static str, &'static str)],
    embedding_norm: &'static str,
    /// Behind attention, and behind the layer.
    norms: [&'static str; 2],
}

const OF_BERT: Names = Names {
    layer: "encoder.layer",
    matrices: &[
        ("attn_q", "attention.self.query"),
        ("attn_k", "attention.self.key"),
        ("attn_v", "attention.self.value"),
        ("attn_output", "attention.output.dense"),
        ("ffn_up", "intermediate.dense"),
        ("ffn_down", "output.dense"),
    ],
    embedding_norm: "embeddings.LayerNorm",
    norms: ["attention.output.LayerNorm", "output.LayerNorm"],
};

const OF_NOMIC_BERT: Names = Names {
    layer: "encoder.layers",
    matrices: &[
        ("attn_qkv", "attn.Wqkv"),
        ("attn_output", "attn.out_proj"),
        ("ffn_up", "mlp.fc11"),
        ("ffn_gate", "mlp.fc12"),
        ("ffn_down", "mlp.fc2"),
    ],
    embedding_norm: "emb_ln",
    norms: ["norm1", "norm2"],
};

/// The tensors of the one that GGUF names so.
pub(crate) fn tensors(gguf: &str, config: &Config, layout: &mut Layout<'_>) -> Result<(), Error> {
    let names = match gguf {
        BERT => &OF_BERT,
        _ => &OF_NOMIC_BERT,
    };
    layout.whole("token_embd.weight", TABLE, Change::None)?;
    let types = "embeddings.token_type_embeddings.weight";
    layout.whole("token_types.weight", types, Change::None)?;
    if gguf == BERT {
        let positions = "embeddings.position_embeddings.weight";
        layout.whole("position_embd.weight", positions, Change::None)?;
        // What was trained to tell whether one sentence follows another: no vector of a text goes through it.
        layout.leave("pooler.dense.weight");
        layout.leave("pooler.dense.bias");
    }
    norm(layout, "token_embd_norm", names.embedding_norm)?;
    for i in 0..n_layer(config)? {
        let to = |part: &str| format!("blk.{i}.{part}");
        let from = |part: &str| format!("{}.{i}.{part}", names.layer);
        for (part, of) in names.matrices {
            let (weight, bias) = (format!("{}.weight", from(of)), format!("{}.bias", from(of)));
            layout.whole(&to(&format!("{part}.weight")), &weight, Change::None)?;
            if layout.has(&bias) {
                layout.whole(&to(&format!("{part}.bias")), &bias, Change::None)?;
            }
        }
        for (part, of) in ["attn_output_norm", "layer_output_norm"]
            .into_iter()
            .zip(names.norms)
        {
            norm(layout, &to(part), &from(of))?;
        }
    }
    layout.finish()
}

/// A weight and a bias, which BERT's first checkpoints have by the letters of the paper.
fn norm(layout: &mut Layout<'_>, to: &str, from: &str) -> Result<(), Error> {
    for (part, letter) in [("weight", "gamma"), ("bias", "beta")] {
        let by_letter = format!("{from}.{letter}");
        let from = match layout.has(&by_letter) {
            true => by_letter,
            false => format!("{from}.{part}"),
        };
        layout.whole(&format!("{to}.{part}"), &from, Change::None)?;
    }
    Ok(())
}
