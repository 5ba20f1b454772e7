//! `value.name` and `value[key]`, in Python's order: `.` asks the object before its items, `[]` the items first.
//! So `schema.items` is the dict's method and `schema['items']` its entry.

use super::budget::Budget;
use super::error::Fault;
use super::methods::{has_method, is_mutating};
use super::ops;
use super::value::{LoopState, Value};
use std::rc::Rc;

/// `value.name`
pub(super) fn attribute<'a>(
    budget: &Budget,
    value: &Value<'a>,
    name: &'a str,
) -> Result<Value<'a>, Fault> {
    if is_mutating(value, name) {
        return Err(Fault::failed(format!(
            "`{name}` would change a {}, which templates may not",
            value.type_name()
        )));
    }
    if has_method(value, name) {
        return Ok(Value::Method(Rc::new((value.clone(), name))));
    }
    let found = match value {
        Value::Dict(dict) => dict.get_text(budget, name)?,
        Value::Namespace(namespace) => namespace.get(budget, name)?,
        Value::Loop(state) => loop_attribute(state, name),
        Value::Macro(callee) if name == "name" => {
            Some(Value::text(budget, callee.def.name.as_str())?)
        }
        Value::Undefined(origin) => return Err(no_attribute(*origin, name)),
        _ => None,
    };
    Ok(found.unwrap_or(Value::Undefined(Some(name))))
}

fn no_attribute(origin: Option<&str>, name: &str) -> Fault {
    Fault::failed(match origin {
        Some(origin) => format!("`{origin}` is undefined, so it has no `{name}`"),
        None => format!("an undefined value has no `{name}`"),
    })
}

/// `value[key]`
pub(super) fn item<'a>(
    budget: &Budget,
    value: &Value<'a>,
    key: &Value<'a>,
) -> Result<Value<'a>, Fault> {
    let found = match (value, key) {
        (Value::Dict(dict), Value::Text(name)) => dict.get_text(budget, name.as_str())?,
        (Value::Dict(dict), key) => ops::lookup(budget, &dict.entries, key)?.cloned(),
        (Value::List(items) | Value::Tuple(items), key) => {
            let index = key.as_int().and_then(|index| place(index, items.len()));
            index.map(|index| items.as_slice()[index].clone())
        }
        (Value::Text(text), key) if key.as_int().is_some() => {
            budget.spend_bytes(text.as_str().len())?;
            let len = text.as_str().chars().count();
            let index = key.as_int().and_then(|index| place(index, len));
            match index.and_then(|index| text.as_str().chars().nth(index)) {
                Some(c) => Some(Value::text(budget, c)?),
                None => None,
            }
        }
        (Value::Undefined(origin), key) => {
            return Err(no_attribute(*origin, key.to_text(budget)?.as_str()));
        }
        _ => None,
    };
    if let Some(found) = found {
        return Ok(found);
    }
    // Python's methods are found by `[]` too, when there is no such item.
    match key {
        Value::Text(super::value::Text::Borrowed(name)) => match value {
            Value::Dict(_) if !has_method(value, name) => Ok(Value::Undefined(Some(name))),
            _ => attribute(budget, value, name),
        },
        _ => Ok(Value::Undefined(None)),
    }
}

/// The place of a Python index, which counts from the end if it is negative.
fn place(index: i128, len: usize) -> Option<usize> {
    let index = if index < 0 {
        index + len as i128
    } else {
        index
    };
    usize::try_from(index).ok().filter(|&index| index < len)
}

fn loop_attribute<'a>(state: &LoopState<'a>, name: &str) -> Option<Value<'a>> {
    let (index, len) = (state.index.get(), state.items.len());
    let int = |value: usize| Some(Value::Int(value as i128));
    match name {
        "index" => int(index + 1),
        "index0" => int(index),
        "revindex" => int(len - index),
        "revindex0" => int(len - index - 1),
        "first" => Some(Value::Bool(index == 0)),
        "last" => Some(Value::Bool(index + 1 == len)),
        "length" => int(len),
        "depth" => int(1),
        "depth0" => int(0),
        "previtem" => index
            .checked_sub(1)
            .map(|at| state.items.as_slice()[at].clone()),
        "nextitem" => state.items.as_slice().get(index + 1).cloned(),
        _ => None,
    }
}
