//! LoRA adapters as PEFT saves them: a directory with `adapter_config.json` and `adapter_model.safetensors` becomes what a
//! GGUF adapter says, for one model. A module's `lora_A` and `lora_B` are renamed as the model's matrices are, and where
//! these have their rows in another order, so has `lora_B`.

use std::path::Path;

use troika_gguf::{Metadata, ModelFile, Writer};

use crate::Error;
use crate::architecture::Family;
use crate::checkpoint::{opt_json, writer};
use crate::config::{Config, refuse};
use crate::layout::{Change, Layout};
use crate::source::Source;

/// What a decoder's layers are in, in a model that only writes and in one that also sees.
const PREFIXES: [&str; 4] = [
    "model.",
    "model.language_model.",
    "language_model.model.",
    "",
];

/// A layer's modules, and the matrices that they are.
const MODULES: [(&str, &str); 13] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.router", "ffn_gate_inp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("block_sparse_moe.router.layer", "ffn_gate_inp"),
];

/// Settings that make of a pair of matrices something else than their product.
const CHANGES_NOTHING: [&str; 12] = [
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "modules_to_save",
    "alpha_pattern",
    "rank_pattern",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "arrow_config",
];

/// Reads an adapter for `model` as a GGUF file in memory.
///
/// # Errors
/// If something is missing, damaged or not known, the weights are pickle, or the model's architecture is not imported.
pub fn adapter(directory: &Path, model: &ModelFile) -> Result<ModelFile, Error> {
    let mut bytes = Vec::new();
    convert(directory, model, |writer| writer.write_to(&mut bytes))?;
    Ok(ModelFile::from_bytes(
        &directory.display().to_string(),
        bytes,
    )?)
}

/// Writes an adapter for `model` to a GGUF file, whole or not at all.
///
/// # Errors
/// As [`adapter`], and if the file cannot be written.
pub fn write_adapter(directory: &Path, model: &ModelFile, out: &Path) -> Result<(), Error> {
    convert(directory, model, |writer| writer.write_file(out))
}

/// Has an adapter written, under the names that its tensors get.
fn convert(
    directory: &Path,
    model: &ModelFile,
    write: impl FnOnce(Writer<'_>) -> Result<(), troika_gguf::Error>,
) -> Result<(), Error> {
    let config = opt_json(&directory.join("adapter_config.json"))?;
    let config = config.ok_or_else(|| Error::NoAdapter {
        path: directory.to_owned(),
    })?;
    let alpha = alpha(&Config::new(config))?;
    let named = model.metadata().str("general.architecture")?;
    let family = Family::of_gguf(named)?;
    let source = Source::open(directory)?;
    let mut layout = Layout::unnamed(&source);
    for name in source.names() {
        take(&mut layout, name, family, model)?;
    }
    let mut metadata = Metadata::default();
    metadata.insert("general.type", "adapter");
    metadata.insert("general.architecture", named);
    metadata.insert("adapter.type", "lora");
    metadata.insert("adapter.lora.alpha", alpha);
    Ok(write(writer(metadata, &layout.made, &|_| Ok(())))?)
}

/// What divided by the rank multiplies the change.
fn alpha(config: &Config) -> Result<f32, Error> {
    let kind = config.str("peft_type");
    config.expect(kind == Some("LORA"), "peft_type", "expected LORA")?;
    let bias = config.str("bias").unwrap_or("none");
    config.expect(bias == "none", "bias", "expected none")?;
    for key in CHANGES_NOTHING {
        let is_unset = config.get(key).is_none_or(|value| {
            value == false
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty)
        });
        config.expect(is_unset, key, "adapters with it are not computed")?;
    }
    let rank = f64::from(config.count("r")?);
    let alpha = config.opt_float("lora_alpha")?;
    let alpha =
        alpha.ok_or_else(|| refuse("lora_alpha", &serde_json::Value::Null, "expected a number"))?;
    // Stabilised by rank, it is divided by the root of the rank only.
    let factor = match config.is("use_rslora") {
        true => rank.sqrt(),
        false => 1.0,
    };
    Ok((alpha * factor) as f32)
}

/// Takes a tensor of the adapter to what it is called beside the model's matrix.
fn take(
    layout: &mut Layout<'_>,
    name: &str,
    family: Family,
    model: &ModelFile,
) -> Result<(), Error> {
    let unknown = || Error::Tensor {
        tensor: name.to_owned(),
        problem: "it is no `lora_A` and no `lora_B` of a module that is known here".to_owned(),
    };
    let (module, part) = [(".lora_A.weight", "lora_a"), (".lora_B.weight", "lora_b")]
        .into_iter()
        .find_map(|(end, part)| Some((name.strip_suffix(end)?, part)))
        .ok_or_else(unknown)?;
    let module = module.strip_prefix("base_model.model.").unwrap_or(module);
    let matrix = matrix(module).ok_or_else(unknown)?;
    let n_head = |key: &str| model.metadata().opt_u64(&format!("{}.{key}", family.gguf));
    let n_head = match matrix.rsplit_once('.') {
        Some((_, "attn_q")) => n_head("attention.head_count")?,
        Some((_, "attn_k")) => match n_head("attention.head_count_kv")? {
            Some(n) => Some(n),
            None => n_head("attention.head_count")?,
        },
        _ => None,
    };
    let change = match n_head {
        Some(n @ 1..) if family.interleaves && part == "lora_b" => Change::Interleave(n as usize),
        _ => Change::None,
    };
    layout.whole(&format!("{matrix}.weight.{part}"), name, change)?;
    let made = layout.made.last_mut();
    let made = made.expect("it was added. This is a bug.");
    // Of rank 1 it is a matrix too.
    if let [n] = made.shape[..] {
        made.shape = vec![1, n];
    }
    Ok(())
}

/// The matrix that a module is: `model.layers.0.self_attn.q_proj` is `blk.0.attn_q`.
fn matrix(module: &str) -> Option<String> {
    if module == "lm_head" {
        return Some("output".to_owned());
    }
    let of_layers = PREFIXES.iter().find_map(|prefix| {
        let within = module.strip_prefix(prefix)?;
        within.strip_prefix("layers.")
    });
    let (layer, module) = of_layers?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (_, matrix) = MODULES.iter().find(|(name, _)| *name == module)?;
    Some(format!("blk.{layer}.{matrix}"))
}
