//! A model's facts for programs.

use serde_json::{Map, Value as Json, json};
use troika_gguf::{Array, Value};

use super::facts::Facts;
use crate::weights::Footprint;

/// Items of an array in the metadata that are shown. Vocabularies have hundreds of thousands.
const ITEMS_MAX: usize = 16;

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
        .map(|(key, value)| (key.to_owned(), scalar(value)));
    entries.collect::<Map<_, _>>().into()
}

fn scalar(value: &Value) -> Json {
    match value {
        Value::U8(n) => json!(n),
        Value::I8(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::U64(n) => json!(n),
        Value::I64(n) => json!(n),
        Value::F32(x) => float(*x),
        Value::F64(x) => json!(x),
        Value::Bool(b) => json!(b),
        Value::String(text) => json!(text),
        Value::Array(items) => array(items),
        // A type of a later version of the format.
        other => json!(other.to_string()),
    }
}

/// As the file's author wrote it: 1e-5, not the nearest double to its nearest single.
fn float(x: f32) -> Json {
    json!(x.to_string().parse::<f64>().unwrap_or(f64::from(x)))
}

fn array(items: &Array) -> Json {
    fn cut<T>(items: &[T], of: impl Fn(&T) -> Json) -> Json {
        let first: Vec<_> = items.iter().take(ITEMS_MAX).map(of).collect();
        if items.len() <= ITEMS_MAX {
            return first.into();
        }
        json!({ "length": items.len(), "first": first })
    }
    match items {
        Array::U8(items) => cut(items, |n| json!(n)),
        Array::I8(items) => cut(items, |n| json!(n)),
        Array::U16(items) => cut(items, |n| json!(n)),
        Array::I16(items) => cut(items, |n| json!(n)),
        Array::U32(items) => cut(items, |n| json!(n)),
        Array::I32(items) => cut(items, |n| json!(n)),
        Array::U64(items) => cut(items, |n| json!(n)),
        Array::I64(items) => cut(items, |n| json!(n)),
        Array::F32(items) => cut(items, |x| float(*x)),
        Array::F64(items) => cut(items, |x| json!(x)),
        Array::Bool(items) => cut(items, |b| json!(b)),
        Array::String(items) => cut(items, |text| json!(text)),
        // The file's nesting is bounded where it is read.
        Array::Array(items) => cut(items, array),
        other => json!(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_arrays_are_cut_and_floats_are_short() {
        let value = |value: Value| scalar(&value).to_string();
        assert_eq!(value(Value::from(1e-5f32)), "0.00001");
        assert_eq!(value(Value::from(f32::NAN)), "null");
        assert_eq!(value(Value::from(vec![1u32, 2])), "[1,2]");
        let long = scalar(&Value::from(vec![7u8; 1000]));
        assert_eq!(long["length"], 1000);
        assert_eq!(long["first"].as_array().map(Vec::len), Some(ITEMS_MAX));
        let nested = Array::Array(vec![Array::U8(vec![1]), Array::Bool(vec![true])]);
        assert_eq!(value(Value::from(nested)), "[[1],[true]]");
    }
}
