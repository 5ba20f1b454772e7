//! A file's metadata as JSON, for those who show it.

use serde_json::{Value as Json, json};
use troika_gguf::{Array, Value};

/// Items of an array in the metadata that are shown. Vocabularies have hundreds of thousands.
const ITEMS_MAX: usize = 16;

/// A value of a file's metadata. An array that is too long is cut, and becomes an object that says how long it was.
pub fn metadata_json(value: &Value) -> Json {
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
        let value = |value: Value| metadata_json(&value).to_string();
        assert_eq!(value(Value::from(1e-5f32)), "0.00001");
        assert_eq!(value(Value::from(f32::NAN)), "null");
        assert_eq!(value(Value::from(vec![1u32, 2])), "[1,2]");
        let long = metadata_json(&Value::from(vec![7u8; 1000]));
        assert_eq!(long["length"], 1000);
        assert_eq!(long["first"].as_array().map(Vec::len), Some(ITEMS_MAX));
        let nested = Array::Array(vec![Array::U8(vec![1]), Array::Bool(vec![true])]);
        assert_eq!(value(Value::from(nested)), "[[1],[true]]");
    }
}
