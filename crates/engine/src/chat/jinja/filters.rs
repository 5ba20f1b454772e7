//! Jinja's filters: `value|name(args)`. Those that work on many items are in [`super::sequences`].

use super::args::{Arguments, count, integer, required, switch, text};
use super::budget::Budget;
use super::error::Fault;
use super::json::to_json;
use super::methods::{self, pairs};
use super::sequences;
use super::text::{capitalize, is_space, lines_with_ends, without_end};
use super::value::{Text, TextBuilder, Value};
use super::{format, ops};

/// `value|name(args)`. All recursion through `map` and its kin passes here.
pub(super) fn apply<'a>(
    budget: &Budget,
    name: &str,
    value: &Value<'a>,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let _descent = budget.descend()?;
    match name {
        "tojson" => to_json(budget, value, args),
        "default" | "d" => {
            let [default, boolean] = args.bind(name, ["default_value", "boolean"])?;
            let missing = match switch(boolean.as_ref(), false) {
                true => !value.is_true(),
                false => matches!(value, Value::Undefined(_)),
            };
            Ok(if missing {
                default.unwrap_or(Value::EMPTY)
            } else {
                value.clone()
            })
        }
        "length" | "count" => {
            args.none(name)?;
            Ok(Value::Int(value.length(budget)? as i128))
        }
        "items" => {
            args.none(name)?;
            match value {
                Value::Dict(dict) => Ok(Value::List(pairs(budget, &dict.entries)?)),
                Value::Undefined(_) => Value::list(budget, Vec::new()),
                _ => Err(Fault::failed(format!(
                    "`items` needs a dict, not {}",
                    value.type_name()
                ))),
            }
        }
        "string" => {
            args.none(name)?;
            Ok(Value::Text(value.to_text(budget)?))
        }
        // Nothing is escaped on output, so nothing has to be marked as safe.
        "safe" => args.none(name).map(|()| value.clone()),
        "abs" | "int" | "float" | "round" => number_filter(budget, name, value, args),
        "attr" => {
            let attribute = args.one(name, "name")?;
            match attribute {
                Value::Text(Text::Borrowed(attribute)) => {
                    super::access::attribute(budget, value, attribute)
                }
                _ => Err(Fault::failed("`attr` needs the name of an attribute")),
            }
        }
        _ => match text_filter(budget, name, value, args)? {
            Ok(value) => Ok(value),
            Err(args) => sequences::apply(budget, name, value, args),
        },
    }
}

/// Filters of text, or the arguments back.
fn text_filter<'a>(
    budget: &Budget,
    name: &str,
    value: &Value<'a>,
    args: Arguments<'a>,
) -> Result<Result<Value<'a>, Arguments<'a>>, Fault> {
    let done = |text: Text<'a>| Ok(Ok(Value::Text(text)));
    match name {
        "trim" => {
            let [chars] = args.bind(name, ["chars"])?;
            done(methods::strip(
                budget,
                &value.to_text(budget)?,
                "strip",
                chars.as_ref(),
            )?)
        }
        "replace" => {
            let [old, new, max] = args.bind(name, ["old", "new", "count"])?;
            let old = required(name, "old", old)?.to_text(budget)?;
            let new = required(name, "new", new)?.to_text(budget)?;
            let max = match &max {
                None | Some(Value::None) => None,
                Some(max) => usize::try_from(integer(name, "count", max)?).ok(),
            };
            let value = value.to_text(budget)?;
            done(methods::replace(
                budget,
                &value,
                old.as_str(),
                new.as_str(),
                max,
            )?)
        }
        "upper" | "lower" | "capitalize" | "title" | "wordcount" => {
            args.none(name)?;
            Ok(Ok(plain_filter(budget, name, &value.to_text(budget)?)?))
        }
        "escape" | "e" | "forceescape" => {
            args.none(name)?;
            done(escape(budget, value.to_text(budget)?.as_str())?)
        }
        "indent" => done(indent(budget, value.to_text(budget)?.as_str(), args)?),
        "truncate" => done(truncate(budget, &value.to_text(budget)?, args)?),
        "format" => {
            let pattern = value.to_text(budget)?;
            let values = match args.named.is_empty() {
                true => Value::tuple(budget, args.positional)?,
                false => named_values(budget, args)?,
            };
            Ok(Ok(format::percent(budget, pattern.as_str(), &values)?))
        }
        "center" => {
            let [width] = args.bind(name, ["width"])?;
            let text = Value::Text(value.to_text(budget)?);
            let width = Arguments {
                positional: vec![width.unwrap_or(Value::Int(80))],
                named: Vec::new(),
            };
            Ok(Ok(methods::call(budget, &text, name, width)?))
        }
        _ => Ok(Err(args)),
    }
}

/// A filter of text without arguments.
fn plain_filter<'a>(budget: &Budget, name: &str, text: &Text<'a>) -> Result<Value<'a>, Fault> {
    let s = text.as_str();
    budget.spend_bytes(s.len())?;
    match name {
        "upper" => Value::text(budget, s.to_uppercase()),
        "lower" => Value::text(budget, s.to_lowercase()),
        "capitalize" => Value::text(budget, capitalize(s)),
        "title" => Value::text(budget, title(s)),
        _ => {
            let words = s.split(|c: char| c != '_' && !c.is_alphanumeric());
            let words = words.filter(|word| !word.is_empty()).count();
            Ok(Value::Int(words as i128))
        }
    }
}

fn named_values<'a>(budget: &Budget, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
    let entries = args
        .named
        .into_iter()
        .map(|(name, value)| (Value::Text(name), value));
    Ok(Value::Dict(super::value::Dict::new(
        budget,
        entries.collect(),
    )?))
}

/// Jinja's `title`: words begin after a space, a hyphen or an opening bracket.
fn title(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut at_start = true;
    for c in s.chars() {
        let separates = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
        if at_start && !separates {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        at_start = separates;
    }
    out
}

fn escape<'a>(budget: &Budget, s: &str) -> Result<Text<'a>, Fault> {
    let mut out = TextBuilder::new(budget)?;
    let mut plain = 0;
    for (at, c) in s.char_indices() {
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\'' => "&#39;",
            '"' => "&#34;",
            _ => continue,
        };
        out.push(&s[plain..at])?;
        out.push(escaped)?;
        plain = at + 1;
    }
    out.push(&s[plain..])?;
    Ok(out.finish())
}

/// Indents every line but the first, and blank lines only if asked.
fn indent<'a>(budget: &Budget, s: &str, args: Arguments<'a>) -> Result<Text<'a>, Fault> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
    let (unit, times) = match &width {
        Some(Value::Text(text)) => (text.as_str(), 1),
        Some(width) => (" ", count("indent", "width", width)?),
        None => (" ", 4),
    };
    let (first, blank) = (switch(first.as_ref(), false), switch(blank.as_ref(), false));
    let mut out = TextBuilder::new(budget)?;
    // A text that ends with a newline has one more line, which is empty.
    let ends_open = s.is_empty() || s.ends_with('\n');
    let last = ends_open.then_some("");
    for (index, line) in lines_with_ends(s).map(without_end).chain(last).enumerate() {
        if index > 0 {
            out.push("\n")?;
        }
        let wanted = if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if wanted {
            out.push_repeated(unit, times)?;
        }
        out.push(line)?;
    }
    Ok(out.finish())
}

fn truncate<'a>(budget: &Budget, whole: &Text<'a>, args: Arguments<'a>) -> Result<Text<'a>, Fault> {
    let name = "truncate";
    let [length, killwords, end, leeway] =
        args.bind(name, ["length", "killwords", "end", "leeway"])?;
    let length = length.map_or(Ok(255), |length| count(name, "length", &length))?;
    let leeway = leeway.map_or(Ok(5), |leeway| count(name, "leeway", &leeway))?;
    let end = match &end {
        Some(end) => text(name, "end", end)?,
        None => "...",
    };
    let s = whole.as_str();
    budget.spend_bytes(s.len())?;
    if s.chars().count() <= length.saturating_add(leeway) {
        return Ok(whole.clone());
    }
    let kept = length.saturating_sub(end.chars().count());
    let mut kept = &s[..ops::byte_of_char(s, kept)];
    if !switch(killwords.as_ref(), false) {
        kept = kept.rsplit_once(' ').map_or(kept, |(words, _)| words);
    }
    let mut out = TextBuilder::new(budget)?;
    out.push(kept)?;
    out.push(end)?;
    Ok(out.finish())
}

fn number_filter<'a>(
    budget: &Budget,
    name: &str,
    value: &Value<'a>,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    budget.spend_bytes(value.as_str().map_or(0, str::len))?;
    match name {
        "abs" => {
            args.none(name)?;
            match (value, value.as_int()) {
                (Value::Float(value), _) => Ok(Value::Float(value.abs())),
                (_, Some(value)) if value != i128::MIN => Ok(Value::Int(value.abs())),
                _ => Err(Fault::failed(format!(
                    "`abs` needs a number, not {}",
                    value.type_name()
                ))),
            }
        }
        "int" => {
            let [default, base] = args.bind(name, ["default", "base"])?;
            let base = base.map_or(Ok(10), |base| integer(name, "base", &base))?;
            let default = default.unwrap_or(Value::Int(0));
            Ok(to_int(value, base).map_or(default, Value::Int))
        }
        "float" => {
            let [default] = args.bind(name, ["default"])?;
            let number = match value {
                Value::Float(value) => Some(*value),
                Value::Text(text) => parse_float(text.as_str()),
                _ => value.as_int().map(|value| value as f64),
            };
            Ok(number.map_or(default.unwrap_or(Value::Float(0.0)), Value::Float))
        }
        _ => round(value, args),
    }
}

fn to_int(value: &Value<'_>, base: i128) -> Option<i128> {
    match value {
        Value::Text(text) => {
            let digits = text.as_str().trim_matches(is_space).replace('_', "");
            let base = u32::try_from(base)
                .ok()
                .filter(|base| (2..=36).contains(base))?;
            let prefix = match base {
                16 => "0x",
                8 => "0o",
                2 => "0b",
                _ => "",
            };
            let whole =
                i128::from_str_radix(digits.strip_prefix(prefix).unwrap_or(&digits), base).ok();
            whole.or_else(|| {
                parse_float(&digits)
                    .filter(|value| value.is_finite())
                    .map(|value| value as i128)
            })
        }
        Value::Float(value) if value.is_finite() => Some(*value as i128),
        _ => value.as_int(),
    }
}

fn parse_float(text: &str) -> Option<f64> {
    text.trim_matches(is_space).replace('_', "").parse().ok()
}

/// To `precision` digits behind the point, halves to even like Python's `round`.
fn round<'a>(value: &Value<'a>, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
    let [precision, method] = args.bind("round", ["precision", "method"])?;
    let precision =
        precision.map_or(Ok(0), |precision| integer("round", "precision", &precision))?;
    let method = method.unwrap_or(Value::Text(Text::Borrowed("common")));
    if !(0..=300).contains(&precision) {
        return Err(Fault::failed("`round` goes to 0 to 300 digits"));
    }
    let number = match value {
        Value::Float(value) => *value,
        _ => match value.as_int() {
            Some(value) if method.as_str() == Some("common") => return Ok(Value::Int(value)),
            Some(value) => value as f64,
            None => {
                return Err(Fault::failed(format!(
                    "`round` needs a number, not {}",
                    value.type_name()
                )));
            }
        },
    };
    let scale = 10f64.powi(precision as i32);
    let rounded = match method.as_str() {
        Some("common") if precision == 0 => number.round_ties_even(),
        // The digits are exact, so they round as the decimal number does.
        Some("common") if number.is_finite() => {
            let precision = precision as usize;
            format!("{number:.precision$}").parse().unwrap_or(number)
        }
        Some("common") => number,
        Some("ceil") => (number * scale).ceil() / scale,
        Some("floor") => (number * scale).floor() / scale,
        _ => {
            return Err(Fault::failed(
                "`round` knows the methods common, ceil and floor",
            ));
        }
    };
    Ok(Value::Float(rounded))
}
