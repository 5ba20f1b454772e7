//! Metadata values to bytes, all little-endian: the way back of `parse.rs`.

use crate::{Array, Value};

/// Text: its length, then its bytes.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A value without its type.
pub(crate) fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(n) => out.extend(n.to_le_bytes()),
        Value::I8(n) => out.extend(n.to_le_bytes()),
        Value::U16(n) => out.extend(n.to_le_bytes()),
        Value::I16(n) => out.extend(n.to_le_bytes()),
        Value::U32(n) => out.extend(n.to_le_bytes()),
        Value::I32(n) => out.extend(n.to_le_bytes()),
        Value::F32(x) => out.extend(x.to_le_bytes()),
        Value::U64(n) => out.extend(n.to_le_bytes()),
        Value::I64(n) => out.extend(n.to_le_bytes()),
        Value::F64(x) => out.extend(x.to_le_bytes()),
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::String(text) => put_string(out, text),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.element_type().id().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(items) => out.extend(items),
        Array::I8(items) => out.extend(items.iter().flat_map(|n| n.to_le_bytes())),
        Array::U16(items) => out.extend(items.iter().flat_map(|n| n.to_le_bytes())),
        Array::I16(items) => out.extend(items.iter().flat_map(|n| n.to_le_bytes())),
        Array::U32(items) => out.extend(items.iter().flat_map(|n| n.to_le_bytes())),
        Array::I32(items) => out.extend(items.iter().flat_map(|n| n.to_le_bytes())),
        Array::F32(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
        Array::U64(items) => out.extend(items.iter().flat_map(|n| n.to_le_bytes())),
        Array::I64(items) => out.extend(items.iter().flat_map(|n| n.to_le_bytes())),
        Array::F64(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
        Array::Bool(items) => out.extend(items.iter().map(|&b| u8::from(b))),
        Array::String(items) => items.iter().for_each(|text| put_string(out, text)),
        Array::Array(items) => items.iter().for_each(|array| put_array(out, array)),
    }
}
