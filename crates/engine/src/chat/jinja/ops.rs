//! Operators: arithmetic, comparison, membership, concatenation.

use std::cmp::Ordering;

use super::ast::{Comparison, Operator};
use super::budget::Budget;
use super::error::Fault;
use super::format;
use super::value::{Items, Text, TextBuilder, Value};

/// `left operator right`
pub(super) fn arithmetic<'a>(
    budget: &Budget,
    operator: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Result<Value<'a>, Fault> {
    if let Some(result) = numbers(operator, left, right) {
        return result;
    }
    match (operator, left, right) {
        (Operator::Add, Value::Text(_), Value::Text(_)) => {
            concat(budget, &[left.clone(), right.clone()])
        }
        (Operator::Add, Value::List(left), Value::List(right)) => {
            Ok(Value::List(joined(budget, left, right)?))
        }
        (Operator::Add, Value::Tuple(left), Value::Tuple(right)) => {
            Ok(Value::Tuple(joined(budget, left, right)?))
        }
        (Operator::Mul, times, value) | (Operator::Mul, value, times)
            if times.as_int().is_some() =>
        {
            repeated(budget, value, times.as_int().unwrap_or(0))
        }
        (Operator::Rem, Value::Text(pattern), args) => {
            format::percent(budget, pattern.as_str(), args)
        }
        _ => Err(unsupported(symbol(operator), left, right)),
    }
}

/// `left operator right`, if both are numbers.
pub(super) fn numbers<'a>(
    operator: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Option<Result<Value<'a>, Fault>> {
    if let (Some(left), Some(right)) = (left.as_int(), right.as_int()) {
        return Some(integers(operator, left, right));
    }
    Some(floats(operator, as_float(left)?, as_float(right)?))
}

fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Sub => "-",
        Operator::Mul => "*",
        Operator::Div => "/",
        Operator::FloorDiv => "//",
        Operator::Rem => "%",
        Operator::Pow => "**",
    }
}

fn unsupported<'a>(symbol: &str, left: &Value<'a>, right: &Value<'a>) -> Fault {
    for side in [left, right] {
        if let Value::Undefined(Some(name)) = side {
            return Fault::failed(format!(
                "`{name}` is undefined, so `{symbol}` has nothing to work on"
            ));
        }
    }
    let (left, right) = (left.type_name(), right.type_name());
    Fault::failed(format!("`{symbol}` does not work on {left} and {right}"))
}

fn integers<'a>(operator: Operator, left: i128, right: i128) -> Result<Value<'a>, Fault> {
    let too_large = || Fault::failed("a number does not fit 127 bits");
    if right == 0 && matches!(operator, Operator::Div | Operator::FloorDiv | Operator::Rem) {
        return Err(Fault::failed("division by zero"));
    }
    let value = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Sub => left.checked_sub(right),
        Operator::Mul => left.checked_mul(right),
        Operator::Div => return Ok(Value::Float(left as f64 / right as f64)),
        // Python rounds down where Rust rounds to zero.
        Operator::FloorDiv => left
            .checked_div(right)
            .map(|quotient| quotient - i128::from(left % right != 0 && (left < 0) != (right < 0))),
        Operator::Rem => left.checked_rem(right).map(|rest| {
            if rest != 0 && (rest < 0) != (right < 0) {
                rest + right
            } else {
                rest
            }
        }),
        Operator::Pow if right < 0 => return floats(operator, left as f64, right as f64),
        Operator::Pow => u32::try_from(right)
            .ok()
            .and_then(|right| left.checked_pow(right)),
    };
    value.map(Value::Int).ok_or_else(too_large)
}

fn floats<'a>(operator: Operator, left: f64, right: f64) -> Result<Value<'a>, Fault> {
    let divides = matches!(operator, Operator::Div | Operator::FloorDiv | Operator::Rem);
    if right == 0.0 && divides || left == 0.0 && right < 0.0 && operator == Operator::Pow {
        return Err(Fault::failed("division by zero"));
    }
    Ok(Value::Float(match operator {
        Operator::Add => left + right,
        Operator::Sub => left - right,
        Operator::Mul => left * right,
        Operator::Div => left / right,
        Operator::FloorDiv => (left / right).floor(),
        Operator::Rem => {
            let rest = left % right;
            if rest != 0.0 && (rest < 0.0) != (right < 0.0) {
                rest + right
            } else {
                rest
            }
        }
        Operator::Pow => left.powf(right),
    }))
}

fn as_float(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        _ => value.as_int().map(|value| value as f64),
    }
}

fn joined<'a>(budget: &Budget, left: &Items<'a>, right: &Items<'a>) -> Result<Items<'a>, Fault> {
    let all = left.as_slice().iter().chain(right.as_slice());
    Items::collect(budget, all.cloned().map(Ok))
}

fn repeated<'a>(budget: &Budget, value: &Value<'a>, times: i128) -> Result<Value<'a>, Fault> {
    // More than memory can hold is more than any budget has.
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    let repeat = |items: &Items<'a>| {
        let len = items.len().saturating_mul(times);
        let items = items.as_slice();
        Items::collect(
            budget,
            (0..len).map(|at| Ok(items[at % items.len()].clone())),
        )
    };
    match value {
        Value::Text(text) => {
            let mut out = TextBuilder::new(budget)?;
            out.push_repeated(text.as_str(), times)?;
            Ok(Value::Text(out.finish()))
        }
        Value::List(items) => Ok(Value::List(repeat(items)?)),
        Value::Tuple(items) => Ok(Value::Tuple(repeat(items)?)),
        _ => Err(unsupported("*", value, &Value::Int(0))),
    }
}

/// `-value`
pub(super) fn negate<'a>(value: &Value<'a>) -> Result<Value<'a>, Fault> {
    match (value, value.as_int()) {
        (_, Some(int)) => integers(Operator::Sub, 0, int),
        (Value::Float(float), _) => Ok(Value::Float(-float)),
        _ => Err(unsupported("-", value, &Value::Int(0))),
    }
}

/// `a ~ b ~ c`: their text in a row.
pub(super) fn concat<'a>(budget: &Budget, values: &[Value<'a>]) -> Result<Value<'a>, Fault> {
    let mut out = TextBuilder::new(budget)?;
    for value in values {
        value.write_text(&mut out)?;
    }
    Ok(Value::Text(out.finish()))
}

/// One link of a comparison.
pub(super) fn compare<'a>(
    budget: &Budget,
    comparison: Comparison,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Result<bool, Fault> {
    Ok(match comparison {
        Comparison::Eq => equal(budget, left, right)?,
        Comparison::Ne => !equal(budget, left, right)?,
        Comparison::Lt => order(budget, "<", left, right)?.is_some_and(Ordering::is_lt),
        Comparison::Le => order(budget, "<=", left, right)?.is_some_and(Ordering::is_le),
        Comparison::Gt => order(budget, ">", left, right)?.is_some_and(Ordering::is_gt),
        Comparison::Ge => order(budget, ">=", left, right)?.is_some_and(Ordering::is_ge),
        Comparison::In => contains(budget, right, left)?,
        Comparison::NotIn => !contains(budget, right, left)?,
    })
}

/// `left == right`. Recursion ends at the limit on a value's depth.
pub(super) fn equal<'a>(
    budget: &Budget,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Result<bool, Fault> {
    budget.spend(1)?;
    Ok(match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Text(left), Value::Text(right)) => {
            budget.spend_bytes(left.as_str().len())?;
            left.as_str() == right.as_str()
        }
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in left.as_slice().iter().zip(right.as_slice()) {
                if !equal(budget, left, right)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(left), Value::Dict(right)) => {
            if left.entries.len() != right.entries.len() {
                return Ok(false);
            }
            for (key, value) in &left.entries {
                match lookup(budget, &right.entries, key)? {
                    Some(other) if equal(budget, value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Namespace(left), Value::Namespace(right)) => std::rc::Rc::ptr_eq(left, right),
        (Value::Function(left), Value::Function(right)) => left == right,
        _ => match (left.as_int(), right.as_int()) {
            (Some(left), Some(right)) => left == right,
            _ => {
                matches!((as_float(left), as_float(right)), (Some(left), Some(right)) if left == right)
            }
        },
    })
}

/// The value of `key` among entries of a dict.
pub(super) fn lookup<'v, 'a>(
    budget: &Budget,
    entries: &'v [(Value<'a>, Value<'a>)],
    key: &Value<'a>,
) -> Result<Option<&'v Value<'a>>, Fault> {
    for (have, value) in entries {
        if equal(budget, have, key)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// How two values compare; `None` for those without order, like NaN.
pub(super) fn order<'a>(
    budget: &Budget,
    symbol: &str,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Result<Option<Ordering>, Fault> {
    budget.spend(1)?;
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => {
            budget.spend_bytes(left.as_str().len())?;
            Ok(Some(left.as_str().cmp(right.as_str())))
        }
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            for (left, right) in left.as_slice().iter().zip(right.as_slice()) {
                if !equal(budget, left, right)? {
                    return order(budget, symbol, left, right);
                }
            }
            Ok(Some(left.len().cmp(&right.len())))
        }
        _ => match (
            left.as_int(),
            right.as_int(),
            as_float(left),
            as_float(right),
        ) {
            (Some(left), Some(right), ..) => Ok(Some(left.cmp(&right))),
            (_, _, Some(left), Some(right)) => Ok(left.partial_cmp(&right)),
            _ => Err(unsupported(symbol, left, right)),
        },
    }
}

/// A total order of keys: text by code point, numbers, and whatever else before both.
pub(super) fn compare_keys<'a>(left: &Value<'a>, right: &Value<'a>) -> Ordering {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => left.as_str().cmp(right.as_str()),
        (Value::Text(_), _) => Ordering::Greater,
        (_, Value::Text(_)) => Ordering::Less,
        _ => {
            let number = |value: &Value<'a>| as_float(value).unwrap_or(f64::NEG_INFINITY);
            number(left).total_cmp(&number(right))
        }
    }
}

/// `value in container`
pub(super) fn contains<'a>(
    budget: &Budget,
    container: &Value<'a>,
    value: &Value<'a>,
) -> Result<bool, Fault> {
    match container {
        Value::Text(text) => {
            let Some(part) = value.as_str() else {
                return Err(unsupported("in", value, container));
            };
            budget.spend_bytes(text.as_str().len())?;
            Ok(text.as_str().contains(part))
        }
        Value::List(items) | Value::Tuple(items) => {
            for item in items.as_slice() {
                if equal(budget, item, value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Dict(dict) => Ok(lookup(budget, &dict.entries, value)?.is_some()),
        Value::Undefined(_) => Ok(false),
        _ => Err(unsupported("in", value, container)),
    }
}

/// `value[start:stop:step]`
pub(super) fn slice<'a>(
    budget: &Budget,
    value: &Value<'a>,
    bounds: [Option<Value<'a>>; 3],
) -> Result<Value<'a>, Fault> {
    let mut numbers = [None; 3];
    for (number, bound) in numbers.iter_mut().zip(&bounds) {
        *number = match bound {
            None | Some(Value::None) => None,
            Some(bound) => Some(bound.as_int().ok_or_else(|| {
                Fault::failed(format!(
                    "a slice goes by whole numbers, not {}",
                    bound.type_name()
                ))
            })?),
        };
    }
    match value {
        Value::Text(text) => slice_text(budget, text, numbers),
        Value::List(items) => Ok(Value::List(slice_items(budget, items, numbers)?)),
        Value::Tuple(items) => Ok(Value::Tuple(slice_items(budget, items, numbers)?)),
        Value::Undefined(Some(name)) => Err(Fault::failed(format!("`{name}` is undefined"))),
        _ => Err(Fault::failed(format!(
            "'{}' object cannot be sliced",
            value.type_name()
        ))),
    }
}

/// The indices of a slice over `len` items: first, step, and how many.
fn slice_indices(
    len: usize,
    [start, stop, step]: [Option<i128>; 3],
) -> Result<(i128, i128, usize), Fault> {
    let len = len as i128;
    let step = step.unwrap_or(1).clamp(-len - 1, len + 1);
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let place = |bound: i128| {
        let bound = if bound < 0 {
            bound.saturating_add(len)
        } else {
            bound
        };
        bound.clamp(lowest, highest)
    };
    let start = start.map_or(if step > 0 { lowest } else { highest }, place);
    let stop = stop.map_or(if step > 0 { highest } else { lowest }, place);
    let count = match step.cmp(&0) {
        Ordering::Equal => return Err(Fault::failed("the step of a slice cannot be zero")),
        Ordering::Greater => (stop - start + step - 1) / step,
        Ordering::Less => (start - stop - step - 1) / -step,
    };
    Ok((start, step, count.max(0) as usize))
}

fn slice_items<'a>(
    budget: &Budget,
    items: &Items<'a>,
    bounds: [Option<i128>; 3],
) -> Result<Items<'a>, Fault> {
    let (start, step, count) = slice_indices(items.len(), bounds)?;
    if step == 1 {
        let start = start as usize;
        return Ok(items.part(start, start + count));
    }
    let at = |nth: usize| Ok(items.as_slice()[(start + step * nth as i128) as usize].clone());
    Items::collect(budget, (0..count).map(at))
}

fn slice_text<'a>(
    budget: &Budget,
    text: &Text<'a>,
    bounds: [Option<i128>; 3],
) -> Result<Value<'a>, Fault> {
    let len = text.as_str().chars().count();
    let (start, step, count) = slice_indices(len, bounds)?;
    if step == 1 {
        let part = text.part(budget, |text| {
            let from = byte_of_char(text, start as usize);
            let rest = &text[from..];
            &rest[..byte_of_char(rest, count)]
        })?;
        return Ok(Value::Text(part));
    }
    budget.spend_bytes(4 * text.as_str().len())?;
    let chars: Vec<char> = text.as_str().chars().collect();
    let at = |nth: usize| chars[(start + step * nth as i128) as usize];
    Value::text(budget, (0..count).map(at).collect::<String>())
}

/// Where the character of this index begins.
pub(super) fn byte_of_char(text: &str, index: usize) -> usize {
    text.char_indices()
        .nth(index)
        .map_or(text.len(), |(at, _)| at)
}
