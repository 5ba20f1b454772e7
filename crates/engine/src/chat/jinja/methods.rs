//! The methods of Python's strings, lists and dicts that do not change them.

use super::args::{Arguments, count, integer, required, switch, text};
use super::budget::Budget;
use super::error::Fault;
use super::format;
use super::ops;
use super::text::{capitalize, is_space, lines_with_ends, title, without_end};
use super::value::{Items, LoopState, Text, TextBuilder, Value};

const TEXT_METHODS: [&str; 37] = [
    "capitalize",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];

pub(super) fn has_method(value: &Value<'_>, name: &str) -> bool {
    match value {
        Value::Text(_) => TEXT_METHODS.contains(&name),
        Value::Dict(_) => ["get", "items", "keys", "values", "copy"].contains(&name),
        Value::List(_) | Value::Tuple(_) => ["count", "index"].contains(&name),
        Value::Loop(_) => ["cycle", "changed"].contains(&name),
        _ => false,
    }
}

/// Whether Python has the method and the sandbox of chat templates does not.
pub(super) fn is_mutating(value: &Value<'_>, name: &str) -> bool {
    match value {
        Value::Dict(_) => ["clear", "pop", "popitem", "setdefault", "update"].contains(&name),
        Value::List(_) => [
            "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort",
        ]
        .contains(&name),
        _ => false,
    }
}

/// `object.name(args)`, where [`has_method`] is true.
pub(super) fn call<'a>(
    budget: &Budget,
    object: &Value<'a>,
    name: &str,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    match object {
        Value::Text(text) => text_method(budget, text, name, args),
        Value::Dict(dict) => match name {
            "get" => {
                let [key, default] = args.bind("get", ["key", "default"])?;
                let key = required("get", "key", key)?;
                let found = ops::lookup(budget, &dict.entries, &key)?.cloned();
                Ok(found.or(default).unwrap_or(Value::None))
            }
            "copy" => args.none("copy").map(|()| object.clone()),
            "keys" => {
                args.none("keys")?;
                Ok(Value::List(object.items(budget)?))
            }
            "values" => {
                args.none("values")?;
                let values = dict.entries.iter().map(|(_, value)| Ok(value.clone()));
                Ok(Value::List(Items::collect(budget, values)?))
            }
            _ => {
                args.none("items")?;
                Ok(Value::List(pairs(budget, &dict.entries)?))
            }
        },
        Value::List(items) | Value::Tuple(items) => {
            let wanted = args.one(name, "value")?;
            let mut found = Vec::new();
            for (index, item) in items.as_slice().iter().enumerate() {
                if ops::equal(budget, item, &wanted)? {
                    found.push(index);
                }
            }
            match (name, found.first()) {
                ("count", _) => Ok(Value::Int(found.len() as i128)),
                (_, Some(&index)) => Ok(Value::Int(index as i128)),
                (_, None) => Err(Fault::failed("`index`: the value is not in the list")),
            }
        }
        Value::Loop(state) => loop_method(budget, state, name, args),
        _ => Err(Fault::failed(format!(
            "{} has no method `{name}`",
            object.type_name()
        ))),
    }
}

/// Keys and values as tuples.
pub(super) fn pairs<'a>(
    budget: &Budget,
    entries: &[(Value<'a>, Value<'a>)],
) -> Result<Items<'a>, Fault> {
    let pair = |(key, value): &(Value<'a>, Value<'a>)| {
        Value::tuple(budget, vec![key.clone(), value.clone()])
    };
    Items::collect(budget, entries.iter().map(pair))
}

fn loop_method<'a>(
    budget: &Budget,
    state: &LoopState<'a>,
    name: &str,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    if name == "cycle" {
        return match args.positional.len() {
            0 => Err(Fault::failed(
                "`loop.cycle` needs something to cycle through",
            )),
            len => Ok(args.positional[state.index.get() % len].clone()),
        };
    }
    let now = Items::new(budget, args.positional)?;
    let changed = match state.seen.borrow().as_ref() {
        Some(seen) => !ops::equal(
            budget,
            &Value::List(seen.clone()),
            &Value::List(now.clone()),
        )?,
        None => true,
    };
    *state.seen.borrow_mut() = Some(now);
    Ok(Value::Bool(changed))
}

fn text_method<'a>(
    budget: &Budget,
    text: &Text<'a>,
    name: &str,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let s = text.as_str();
    budget.spend_bytes(s.len())?;
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind(name, ["chars"])?;
            Ok(Value::Text(strip(budget, text, name, chars.as_ref())?))
        }
        "startswith" | "endswith" => affix(name, s, &args.one(name, "prefix")?),
        "removeprefix" | "removesuffix" => {
            let affix = args.one(name, "affix")?;
            let affix = self::text(name, "affix", &affix)?;
            let part = text.part(budget, |s| match name {
                "removeprefix" => s.strip_prefix(affix).unwrap_or(s),
                _ => s.strip_suffix(affix).unwrap_or(s),
            })?;
            Ok(Value::Text(part))
        }
        "split" | "rsplit" => split(budget, text, name, args),
        "splitlines" => {
            let [keep_ends] = args.bind(name, ["keepends"])?;
            let keep_ends = switch(keep_ends.as_ref(), false);
            let lines =
                lines_with_ends(s).map(|line| if keep_ends { line } else { without_end(line) });
            Ok(Value::List(Items::collect(
                budget,
                lines.map(|line| Value::text(budget, line)),
            )?))
        }
        "partition" | "rpartition" => partition(budget, s, name, &args.one(name, "sep")?),
        "replace" => {
            let [old, new, max] = args.bind(name, ["old", "new", "count"])?;
            let (old, new) = (required(name, "old", old)?, required(name, "new", new)?);
            let max = match max {
                Some(max) => usize::try_from(integer(name, "count", &max)?).ok(),
                None => None,
            };
            let (old, new) = (
                self::text(name, "old", &old)?,
                self::text(name, "new", &new)?,
            );
            Ok(Value::Text(replace(budget, text, old, new, max)?))
        }
        "join" => join(budget, s, &args.one(name, "iterable")?),
        "format" => format::braces(budget, s, &args),
        "find" | "rfind" | "index" => find(s, name, &args.one(name, "sub")?),
        "count" => {
            let part = args.one(name, "sub")?;
            Ok(Value::Int(match self::text(name, "sub", &part)? {
                "" => s.chars().count() as i128 + 1,
                part => s.matches(part).count() as i128,
            }))
        }
        "center" | "ljust" | "rjust" | "zfill" => pad(budget, s, name, args),
        _ => {
            args.none(name)?;
            plain_method(budget, s, name)
        }
    }
}

/// A method without arguments: a change of case, or a question.
fn plain_method<'a>(budget: &Budget, s: &str, name: &str) -> Result<Value<'a>, Fault> {
    let all = |test: fn(char) -> bool| Value::Bool(!s.is_empty() && s.chars().all(test));
    let any = |test: fn(char) -> bool| s.chars().any(test);
    Ok(match name {
        "upper" => Value::text(budget, s.to_uppercase())?,
        "lower" => Value::text(budget, s.to_lowercase())?,
        "capitalize" => Value::text(budget, capitalize(s))?,
        "title" => Value::text(budget, title(s))?,
        "swapcase" => Value::text(budget, swap_case(s))?,
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(is_space),
        "isascii" => Value::Bool(s.is_ascii()),
        "isupper" => Value::Bool(any(char::is_uppercase) && !any(char::is_lowercase)),
        _ => Value::Bool(any(char::is_lowercase) && !any(char::is_uppercase)),
    })
}

fn swap_case(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

/// `strip`, `lstrip` or `rstrip` of whitespace, or of the characters in `chars`.
pub(super) fn strip<'a>(
    budget: &Budget,
    text: &Text<'a>,
    name: &str,
    chars: Option<&Value<'a>>,
) -> Result<Text<'a>, Fault> {
    let chars = match chars {
        None | Some(Value::None) => None,
        Some(chars) => {
            let chars = self::text(name, "chars", chars)?;
            budget.spend(chars.len())?;
            let mut chars: Vec<char> = chars.chars().collect();
            chars.sort_unstable();
            Some(chars)
        }
    };
    let stripped = |c: char| match &chars {
        Some(chars) => chars.binary_search(&c).is_ok(),
        None => is_space(c),
    };
    text.part(budget, |s| match name {
        "lstrip" => s.trim_start_matches(stripped),
        "rstrip" => s.trim_end_matches(stripped),
        _ => s.trim_matches(stripped),
    })
}

fn affix<'a>(name: &str, s: &str, affix: &Value<'a>) -> Result<Value<'a>, Fault> {
    let has = |affix: &Value<'_>| {
        let affix = text(name, "prefix", affix)?;
        Ok(if name == "startswith" {
            s.starts_with(affix)
        } else {
            s.ends_with(affix)
        })
    };
    let Value::Tuple(options) = affix else {
        return has(affix).map(Value::Bool);
    };
    for option in options.as_slice() {
        if has(option)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn split<'a>(
    budget: &Budget,
    whole: &Text<'a>,
    name: &str,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let [separator, max] = args.bind(name, ["sep", "maxsplit"])?;
    let max = match max {
        None => usize::MAX,
        Some(max) => usize::try_from(integer(name, "maxsplit", &max)?).unwrap_or(usize::MAX),
    };
    let s = whole.as_str();
    let part = |part: &str| Value::text(budget, part);
    let items = match separator {
        None | Some(Value::None) if name == "split" => {
            let mut rest = s.trim_start_matches(is_space);
            let mut left = max;
            let words = std::iter::from_fn(|| {
                if rest.is_empty() {
                    return None;
                }
                let len = match left {
                    0 => rest.len(),
                    _ => rest.find(is_space).unwrap_or(rest.len()),
                };
                left = left.saturating_sub(1);
                let (word, after) = rest.split_at(len);
                rest = after.trim_start_matches(is_space);
                Some(part(word))
            });
            Items::collect(budget, words)?
        }
        None | Some(Value::None) => {
            return Err(Fault::failed(
                "`rsplit` needs the argument `sep` in chat templates",
            ));
        }
        Some(separator) => {
            let separator = text(name, "sep", &separator)?;
            if separator.is_empty() {
                return Err(Fault::failed(format!("`{name}`: the separator is empty")));
            }
            let count = max.saturating_add(1);
            if name == "split" {
                Items::collect(budget, s.splitn(count, separator).map(part))?
            } else {
                let parts = Items::collect(budget, s.rsplitn(count, separator).map(part))?;
                Items::collect(budget, parts.as_slice().iter().rev().cloned().map(Ok))?
            }
        }
    };
    Ok(Value::List(items))
}

fn partition<'a>(
    budget: &Budget,
    s: &str,
    name: &str,
    separator: &Value<'a>,
) -> Result<Value<'a>, Fault> {
    let separator = text(name, "sep", separator)?;
    let at = if name == "partition" {
        s.find(separator)
    } else {
        s.rfind(separator)
    };
    let parts = match (at, name) {
        (Some(at), _) => [&s[..at], separator, &s[at + separator.len()..]],
        (None, "partition") => [s, "", ""],
        (None, _) => ["", "", s],
    };
    let parts = parts
        .into_iter()
        .map(|part| Value::text(budget, part))
        .collect::<Result<_, _>>()?;
    Value::tuple(budget, parts)
}

/// Replaces the first `max` occurrences, or all.
pub(super) fn replace<'a>(
    budget: &Budget,
    text: &Text<'a>,
    old: &str,
    new: &str,
    max: Option<usize>,
) -> Result<Text<'a>, Fault> {
    let s = text.as_str();
    budget.spend_bytes(s.len())?;
    if !s.contains(old) {
        return Ok(text.clone());
    }
    let mut out = TextBuilder::new(budget)?;
    let mut copied = 0;
    for (at, _) in s.match_indices(old).take(max.unwrap_or(usize::MAX)) {
        out.push(&s[copied..at])?;
        out.push(new)?;
        copied = at + old.len();
    }
    out.push(&s[copied..])?;
    Ok(out.finish())
}

/// `separator.join(items)`, as Python does it: items are text.
fn join<'a>(budget: &Budget, separator: &str, items: &Value<'a>) -> Result<Value<'a>, Fault> {
    let mut out = TextBuilder::new(budget)?;
    for (index, item) in items.items(budget)?.as_slice().iter().enumerate() {
        out.push(if index == 0 { "" } else { separator })?;
        out.push(text("join", "iterable", item)?)?;
    }
    Ok(Value::Text(out.finish()))
}

fn find<'a>(s: &str, name: &str, part: &Value<'a>) -> Result<Value<'a>, Fault> {
    let part = text(name, "sub", part)?;
    let at = if name == "rfind" {
        s.rfind(part)
    } else {
        s.find(part)
    };
    match at {
        Some(at) => Ok(Value::Int(s[..at].chars().count() as i128)),
        None if name == "index" => Err(Fault::failed("`index`: the text is not found")),
        None => Ok(Value::Int(-1)),
    }
}

fn pad<'a>(budget: &Budget, s: &str, name: &str, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
    let [width, fill] = args.bind(name, ["width", "fillchar"])?;
    let width = count(name, "width", &required(name, "width", width)?)?;
    let fill = match &fill {
        Some(fill) => text(name, "fillchar", fill)?,
        None if name == "zfill" => "0",
        None => " ",
    };
    let len = s.chars().count();
    let missing = width.saturating_sub(len);
    let left = match name {
        "ljust" => 0,
        // Python gives the odd space to the left if the width is odd.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (sign, digits) = match s.strip_prefix(['+', '-']) {
        Some(digits) if name == "zfill" => s.split_at(s.len() - digits.len()),
        _ => ("", s),
    };
    let mut out = TextBuilder::new(budget)?;
    out.push(sign)?;
    out.push_repeated(fill, left)?;
    out.push(digits)?;
    out.push_repeated(fill, missing - left)?;
    Ok(Value::Text(out.finish()))
}
