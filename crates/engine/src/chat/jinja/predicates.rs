//! What stands behind `is`: Jinja's tests.

use super::args::Arguments;
use super::ast::{Comparison, Operator};
use super::budget::Budget;
use super::error::Fault;
use super::ops;
use super::value::Value;

/// `value is name(args)`
pub(super) fn test<'a>(
    budget: &Budget,
    name: &str,
    value: &Value<'a>,
    args: Arguments<'a>,
) -> Result<bool, Fault> {
    if let Some(comparison) = comparison(name) {
        let other = args.one(name, "other")?;
        return ops::compare(budget, comparison, value, &other);
    }
    match name {
        "divisibleby" => return divides(value, &args.one(name, "num")?),
        "sameas" => return Ok(is_same(value, &args.one(name, "other")?)),
        _ => args.none(name)?,
    }
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined(_)),
        "undefined" => matches!(value, Value::Undefined(_)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        // To Python, text and dicts are sequences, and what is undefined behaves like an empty one.
        "sequence" => is_sequence(value),
        "iterable" => is_sequence(value) || matches!(value, Value::Loop(_)),
        "callable" => {
            matches!(
                value,
                Value::Macro(_) | Value::Function(_) | Value::Method(_) | Value::Undefined(_)
            )
        }
        "odd" => !divides(value, &Value::Int(2))?,
        "even" => divides(value, &Value::Int(2))?,
        "lower" => is_case(budget, value, char::is_lowercase, char::is_uppercase)?,
        "upper" => is_case(budget, value, char::is_uppercase, char::is_lowercase)?,
        "escaped" => false,
        _ => return Err(Fault::failed(format!("unknown test `{name}`"))),
    })
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "eq" | "equalto" | "==" => Comparison::Eq,
        "ne" | "!=" => Comparison::Ne,
        "lt" | "lessthan" | "<" => Comparison::Lt,
        "le" | "<=" => Comparison::Le,
        "gt" | "greaterthan" | ">" => Comparison::Gt,
        "ge" | ">=" => Comparison::Ge,
        "in" => Comparison::In,
        _ => return None,
    })
}

fn divides<'a>(value: &Value<'a>, by: &Value<'a>) -> Result<bool, Fault> {
    match ops::numbers(Operator::Rem, value, by) {
        Some(rest) => Ok(!rest?.is_true()),
        None => Err(Fault::failed(format!(
            "{} has no remainder",
            value.type_name()
        ))),
    }
}

fn is_sequence(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Text(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Undefined(_)
    )
}

fn is_same<'a>(left: &Value<'a>, right: &Value<'a>) -> bool {
    match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) => left == right,
        (Value::Text(left), Value::Text(right)) => std::ptr::eq(left.as_str(), right.as_str()),
        (Value::Dict(left), Value::Dict(right)) => std::rc::Rc::ptr_eq(left, right),
        (Value::List(left), Value::List(right)) => std::ptr::eq(left.as_slice(), right.as_slice()),
        _ => false,
    }
}

fn is_case(
    budget: &Budget,
    value: &Value<'_>,
    is: fn(char) -> bool,
    is_not: fn(char) -> bool,
) -> Result<bool, Fault> {
    let text = value.to_text(budget)?;
    budget.spend_bytes(text.as_str().len())?;
    Ok(text.as_str().chars().any(is) && !text.as_str().chars().any(is_not))
}
