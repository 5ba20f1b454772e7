//! Nomic BERT: what its tensors and settings are called on both sides. Its makers' files and those that transformers
//! writes have names of their own for some of them.

use troika_gguf::Metadata;

use crate::Error;
use crate::config::Config;
use crate::layout::{Change, Layout};
use crate::rope;

/// As GGUF names it.
pub(crate) const GGUF: &str = "nomic-bert";

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

/// The settings.
pub(crate) fn metadata(config: &Config, metadata: &mut Metadata) -> Result<rope::Factors, Error> {
    refuse_what_would_be_ignored(config)?;
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
        metadata.insert(format!("{GGUF}.{name}"), value);
    }
    let eps = match config.opt_float("layer_norm_eps")? {
        Some(eps) => eps,
        None => config.opt_float("layer_norm_epsilon")?.unwrap_or(1e-12),
    };
    metadata.insert(format!("{GGUF}.attention.layer_norm_epsilon"), eps as f32);
    metadata.insert(format!("{GGUF}.attention.causal"), false);
    let base = config.opt_float("rotary_emb_base")?;
    let factors = rope::write(config, GGUF, n_embd / n_head, metadata)?;
    if let Some(base) = base {
        metadata.insert(format!("{GGUF}.rope.freq_base"), base as f32);
    }
    Ok(factors)
}

/// Flags that change what is computed, and have no key.
fn refuse_what_would_be_ignored(config: &Config) -> Result<(), Error> {
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

/// The tensors.
pub(crate) fn tensors(config: &Config, layout: &mut Layout<'_>) -> Result<(), Error> {
    layout.whole("token_embd.weight", TABLE, Change::None)?;
    let types = "embeddings.token_type_embeddings.weight";
    layout.whole("token_types.weight", types, Change::None)?;
    norm(layout, "token_embd_norm", "emb_ln")?;
    for i in 0..n_layer(config)? {
        for (to, from) in [
            ("attn_qkv", "attn.Wqkv"),
            ("attn_output", "attn.out_proj"),
            ("ffn_up", "mlp.fc11"),
            ("ffn_gate", "mlp.fc12"),
            ("ffn_down", "mlp.fc2"),
        ] {
            let (to, from) = (
                format!("blk.{i}.{to}.weight"),
                format!("encoder.layers.{i}.{from}.weight"),
            );
            layout.whole(&to, &from, Change::None)?;
        }
        for (to, from) in [
            ("attn_output_norm", "norm1"),
            ("layer_output_norm", "norm2"),
        ] {
            let (to, from) = (
                format!("blk.{i}.{to}"),
                format!("encoder.layers.{i}.{from}"),
            );
            norm(layout, &to, &from)?;
        }
    }
    layout.finish()
}

/// A weight and a bias.
fn norm(layout: &mut Layout<'_>, to: &str, from: &str) -> Result<(), Error> {
    for part in ["weight", "bias"] {
        layout.whole(
            &format!("{to}.{part}"),
            &format!("{from}.{part}"),
            Change::None,
        )?;
    }
    Ok(())
}
