//! A model's facts for programs.

use serde_json::{Map, Value as Json, json};
use troika_library::metadata_json;

use super::facts::Facts;
use crate::weights::Footprint;

pub(super) fn value(facts: &Facts<'_>, path: Option<String>, with_tensors: bool) -> Json {
    let mut value = json!({
        "name": facts.name(),
        "path": path,
        "manifest": facts.manifest,
        "bytes": facts.file.bytes(),
        "gguf_version": facts.file.version(),
        "architecture": facts.architecture(),
        "parameters": facts.formats.parameters(),
        "bits_per_weight": facts.formats.bits_per_weight(),
        "formats": formats(facts),
        "shape": shape(facts),
        "tokenizer": tokenizer(facts),
        "chat_template_bytes": facts.template.map(str::len),
        "chat_template_error": facts.template_error,
        "runs": facts.obstacles.is_empty(),
        "obstacles": facts.obstacles,
        "memory": facts.memory.iter().map(memory).collect::<Vec<_>>(),
        "metadata": metadata(facts),
    });
    if with_tensors {
        value["tensors"] = tensors(facts);
    }
    value
}

fn formats(facts: &Facts<'_>) -> Json {
    let formats = facts.formats.by_bytes().into_iter().map(|(dtype, format)| {
        let about = json!({
            "tensors": format.tensors,
            "parameters": format.parameters,
            "bytes": format.bytes,
        });
        (dtype.name().to_owned(), about)
    });
    formats.collect::<Map<_, _>>().into()
}

fn shape(facts: &Facts<'_>) -> Json {
    let Some(spec) = &facts.spec else {
        return Json::Null;
    };
    json!({
        "n_layer": spec.n_layer,
        "n_embd": spec.n_embd,
        "n_head": spec.n_head,
        "n_head_kv": spec.n_head_kv,
        "head_dim": spec.head_dim,
        "n_ff": spec.n_ff,
        "n_vocab": spec.n_vocab,
        "n_ctx": spec.n_ctx,
    })
}

fn tokenizer(facts: &Facts<'_>) -> Json {
    let Some(tokenizer) = &facts.tokenizer else {
        return Json::Null;
    };
    json!({
        "model": tokenizer.model_name(),
        "pre": tokenizer.pre_name(),
        "n_vocab": tokenizer.n_vocab(),
        "bos": tokenizer.bos().map(|id| id.0),
        "eos": tokenizer.eos().map(|id| id.0),
        "eot": tokenizer.eot().map(|id| id.0),
    })
}

fn memory(footprint: &Footprint) -> Json {
    json!({
        "n_ctx": footprint.n_ctx,
        "weights_bytes": footprint.weights.0,
        "weights_min_bytes": footprint.weights_min.map(|bytes| bytes.0),
        "kv_bytes": footprint.kv.0,
        "total_bytes": footprint.total().0,
    })
}

fn tensors(facts: &Facts<'_>) -> Json {
    let tensors = facts.file.tensors().iter().map(|tensor| {
        json!({
            "name": tensor.name,
            "format": tensor.dtype.name(),
            "shape": tensor.shape,
            "bytes": tensor.bytes,
            "offset": tensor.offset,
        })
    });
    tensors.collect()
}

/// All keys. An array that is too long is cut, and becomes an object that says how long it was.
fn metadata(facts: &Facts<'_>) -> Json {
    let entries = facts
        .file
        .metadata()
        .iter()
        .map(|(key, value)| (key.to_owned(), metadata_json(value)));
    entries.collect::<Map<_, _>>().into()
}
