//! Jinja's filters of many items.

use std::cmp::Ordering;

use super::access::item;
use super::args::{Arguments, count, required, switch};
use super::budget::Budget;
use super::error::Fault;
use super::methods::pairs;
use super::value::{Items, Text, TextBuilder, Value};
use super::{filters, ops, predicates};

/// `value|name(args)`
pub(super) fn apply<'a>(
    budget: &Budget,
    name: &str,
    value: &Value<'a>,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    match name {
        "list" => {
            args.none(name)?;
            Ok(Value::List(value.items(budget)?))
        }
        "first" | "last" => {
            args.none(name)?;
            let items = value.items(budget)?;
            let items = items.as_slice();
            let found = if name == "first" {
                items.first()
            } else {
                items.last()
            };
            Ok(found.cloned().unwrap_or(Value::Undefined(None)))
        }
        "join" => join(budget, value, args),
        // Jinja asks whether there is anything before it asks whether that can be iterated.
        "map" | "select" | "reject" | "selectattr" | "rejectattr" if !value.is_true() => {
            Value::list(budget, Vec::new())
        }
        "map" => map(budget, value, args),
        "select" | "reject" => {
            let (items, test) = (value.items(budget)?, args);
            choose(budget, &items, name == "select", &[], test)
        }
        "selectattr" | "rejectattr" => {
            let mut test = args;
            if test.positional.is_empty() {
                return Err(Fault::failed(format!(
                    "`{name}` needs the name of an attribute"
                )));
            }
            let path = path(budget, Some(test.positional.remove(0)))?;
            choose(
                budget,
                &value.items(budget)?,
                name == "selectattr",
                &path,
                test,
            )
        }
        "sort" => sort(budget, value, args),
        "dictsort" => dictsort(budget, value, args),
        "unique" => unique(budget, value, args),
        "groupby" => groupby(budget, value, args),
        "min" | "max" => extreme(budget, name, value, args),
        "sum" => sum(budget, value, args),
        "reverse" => {
            args.none(name)?;
            ops::slice(
                budget,
                &reversible(budget, value)?,
                [None, None, Some(Value::Int(-1))],
            )
        }
        "batch" => batch(budget, value, args),
        _ => Err(Fault::failed(format!("unknown filter `{name}`"))),
    }
}

fn reversible<'a>(budget: &Budget, value: &Value<'a>) -> Result<Value<'a>, Fault> {
    match value {
        Value::Text(_) => Ok(value.clone()),
        _ => Ok(Value::List(value.items(budget)?)),
    }
}

/// The steps of `attribute='a.b.0'`, or none.
fn path<'a>(budget: &Budget, attribute: Option<Value<'a>>) -> Result<Vec<Value<'a>>, Fault> {
    let step = |step: Value<'a>| match step.as_str().and_then(|step| step.parse::<u32>().ok()) {
        Some(index) => Value::Int(index.into()),
        None => step,
    };
    match attribute {
        None | Some(Value::None) => Ok(Vec::new()),
        Some(Value::Text(Text::Borrowed(path))) => Ok(path
            .split('.')
            .map(|part| step(Value::Text(Text::Borrowed(part))))
            .collect()),
        Some(Value::Text(path)) => {
            let steps = path.as_str().split('.');
            steps
                .map(|part| Ok(step(Value::text(budget, part)?)))
                .collect()
        }
        Some(index) => Ok(vec![index]),
    }
}

fn follow<'a>(budget: &Budget, value: &Value<'a>, path: &[Value<'a>]) -> Result<Value<'a>, Fault> {
    let mut value = value.clone();
    for step in path {
        value = item(budget, &value, step)?;
    }
    Ok(value)
}

fn join<'a>(budget: &Budget, value: &Value<'a>, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
    let [separator, attribute] = args.bind("join", ["d", "attribute"])?;
    let separator = match separator {
        Some(separator) => separator.to_text(budget)?,
        None => Text::Borrowed(""),
    };
    let path = path(budget, attribute)?;
    let mut out = TextBuilder::new(budget)?;
    for (index, value) in value.items(budget)?.as_slice().iter().enumerate() {
        out.push(if index == 0 { "" } else { separator.as_str() })?;
        follow(budget, value, &path)?.write_text(&mut out)?;
    }
    Ok(Value::Text(out.finish()))
}

/// `map('filter', args..)` or `map(attribute='a.b', default=x)`
fn map<'a>(
    budget: &Budget,
    value: &Value<'a>,
    mut args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let items = value.items(budget)?;
    let items = items.as_slice().iter();
    if args.positional.is_empty() {
        let [attribute, default] = args.bind("map", ["attribute", "default"])?;
        let path = path(budget, Some(required("map", "attribute", attribute)?))?;
        let mapped = items.map(|value| match (follow(budget, value, &path)?, &default) {
            (Value::Undefined(_), Some(default)) => Ok(default.clone()),
            (value, _) => Ok(value),
        });
        return Ok(Value::List(Items::collect(budget, mapped)?));
    }
    let name = args.positional.remove(0).to_text(budget)?;
    let mapped = items.map(|value| {
        let _charge = args.charge(budget)?;
        filters::apply(budget, name.as_str(), value, args.clone())
    });
    Ok(Value::List(Items::collect(budget, mapped)?))
}

/// Items that pass a test, or fail it; without a test, those that are true.
fn choose<'a>(
    budget: &Budget,
    items: &Items<'a>,
    keep: bool,
    path: &[Value<'a>],
    mut test: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let name = match test.positional.is_empty() {
        true => None,
        false => Some(test.positional.remove(0).to_text(budget)?),
    };
    let passes = |value: &Value<'a>| {
        let value = follow(budget, value, path)?;
        match &name {
            Some(name) => {
                let _charge = test.charge(budget)?;
                predicates::test(budget, name.as_str(), &value, test.clone())
            }
            None => Ok(value.is_true()),
        }
    };
    let chosen = items
        .as_slice()
        .iter()
        .filter_map(|value| match passes(value) {
            Ok(passed) => (passed == keep).then(|| Ok(value.clone())),
            Err(fault) => Some(Err(fault)),
        });
    Ok(Value::List(Items::collect(budget, chosen)?))
}

/// What a value sorts by: text without its case unless case counts.
fn sort_key<'a>(
    budget: &Budget,
    value: Value<'a>,
    case_sensitive: bool,
) -> Result<Value<'a>, Fault> {
    match &value {
        Value::Text(text) if !case_sensitive => Value::text(budget, text.as_str().to_lowercase()),
        _ => Ok(value),
    }
}

/// Sorts stably by keys. The keys of a place are all text or all numbers; others have no order.
fn sort_by_keys<'a, T>(
    budget: &Budget,
    mut keyed: Vec<(Vec<Value<'a>>, T)>,
    reverse: bool,
) -> Result<Vec<T>, Fault> {
    let rounds = (usize::BITS - keyed.len().leading_zeros()) as usize;
    for (keys, _) in &keyed {
        for (key, first) in keys.iter().zip(&keyed[0].0) {
            ops::order(budget, "<", first, key)?;
            budget.spend_bytes(rounds * key.as_str().map_or(16, str::len))?;
        }
    }
    keyed.sort_by(|(left, _), (right, _)| {
        let orders = left
            .iter()
            .zip(right)
            .map(|(left, right)| ops::compare_keys(left, right));
        let order = orders
            .into_iter()
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal);
        if reverse { order.reverse() } else { order }
    });
    Ok(keyed.into_iter().map(|(_, item)| item).collect())
}

fn sort<'a>(budget: &Budget, value: &Value<'a>, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
    let [reverse, case_sensitive, attribute] =
        args.bind("sort", ["reverse", "case_sensitive", "attribute"])?;
    let case_sensitive = switch(case_sensitive.as_ref(), false);
    // `attribute='a,b'` sorts by a, and by b where a is equal.
    let paths = match &attribute {
        Some(Value::Text(Text::Borrowed(list))) => list
            .split(',')
            .map(|one| path(budget, Some(Value::Text(Text::Borrowed(one)))))
            .collect::<Result<Vec<_>, _>>()?,
        _ => vec![path(budget, attribute)?],
    };
    let mut keyed = Vec::new();
    for value in value.items(budget)?.as_slice() {
        let key =
            |path: &Vec<Value<'a>>| sort_key(budget, follow(budget, value, path)?, case_sensitive);
        keyed.push((
            paths.iter().map(key).collect::<Result<Vec<_>, _>>()?,
            value.clone(),
        ));
    }
    let sorted = sort_by_keys(budget, keyed, switch(reverse.as_ref(), false))?;
    Value::list(budget, sorted)
}

fn dictsort<'a>(
    budget: &Budget,
    value: &Value<'a>,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let [case_sensitive, by, reverse] =
        args.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let by_value = match by.as_ref().and_then(Value::as_str) {
        None | Some("key") => false,
        Some("value") => true,
        Some(_) => return Err(Fault::failed("`dictsort` sorts by key or by value")),
    };
    let Value::Dict(dict) = value else {
        return Err(Fault::failed(format!(
            "`dictsort` needs a dict, not {}",
            value.type_name()
        )));
    };
    let case_sensitive = switch(case_sensitive.as_ref(), false);
    let mut keyed = Vec::new();
    for (key, value) in &dict.entries {
        let by = if by_value { value } else { key };
        let by = sort_key(budget, by.clone(), case_sensitive)?;
        keyed.push((vec![by], (key.clone(), value.clone())));
    }
    let sorted = sort_by_keys(budget, keyed, switch(reverse.as_ref(), false))?;
    Ok(Value::List(pairs(budget, &sorted)?))
}

fn unique<'a>(budget: &Budget, value: &Value<'a>, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
    let [case_sensitive, attribute] = args.bind("unique", ["case_sensitive", "attribute"])?;
    let case_sensitive = switch(case_sensitive.as_ref(), false);
    let path = path(budget, attribute)?;
    let (mut seen, mut first) = (Vec::new(), Vec::new());
    'items: for value in value.items(budget)?.as_slice() {
        let key = sort_key(budget, follow(budget, value, &path)?, case_sensitive)?;
        for have in &seen {
            if ops::equal(budget, have, &key)? {
                continue 'items;
            }
        }
        seen.push(key);
        first.push(value.clone());
    }
    Value::list(budget, first)
}

/// Tuples of a key and the items that have it, in order of the keys.
fn groupby<'a>(
    budget: &Budget,
    value: &Value<'a>,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let [attribute, default, case_sensitive] =
        args.bind("groupby", ["attribute", "default", "case_sensitive"])?;
    let path = path(budget, Some(required("groupby", "attribute", attribute)?))?;
    let case_sensitive = switch(case_sensitive.as_ref(), false);
    let mut keyed = Vec::new();
    for value in value.items(budget)?.as_slice() {
        let key = match (follow(budget, value, &path)?, &default) {
            (Value::Undefined(_), Some(default)) => default.clone(),
            (key, _) => key,
        };
        let sort_key = sort_key(budget, key.clone(), case_sensitive)?;
        keyed.push((vec![sort_key.clone()], (sort_key, key, value.clone())));
    }
    let mut groups: Vec<(Value<'a>, Value<'a>, Vec<Value<'a>>)> = Vec::new();
    for (sort_key, key, value) in sort_by_keys(budget, keyed, false)? {
        match groups.last_mut() {
            Some((last, _, group)) if ops::equal(budget, last, &sort_key)? => group.push(value),
            _ => groups.push((sort_key, key, vec![value])),
        }
    }
    let groups = groups.into_iter().map(|(_, key, group)| {
        let group = Value::list(budget, group)?;
        Value::tuple(budget, vec![key, group])
    });
    Ok(Value::List(Items::collect(budget, groups)?))
}

fn extreme<'a>(
    budget: &Budget,
    name: &str,
    value: &Value<'a>,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
    let case_sensitive = switch(case_sensitive.as_ref(), false);
    let path = path(budget, attribute)?;
    let wanted = if name == "min" {
        Ordering::Less
    } else {
        Ordering::Greater
    };
    let mut best: Option<(Value<'a>, Value<'a>)> = None;
    for value in value.items(budget)?.as_slice() {
        let key = sort_key(budget, follow(budget, value, &path)?, case_sensitive)?;
        let better = match &best {
            Some((have, _)) => ops::order(budget, "<", &key, have)? == Some(wanted),
            None => true,
        };
        if better {
            best = Some((key, value.clone()));
        }
    }
    Ok(best.map_or(Value::Undefined(None), |(_, value)| value))
}

fn sum<'a>(budget: &Budget, value: &Value<'a>, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
    let [attribute, start] = args.bind("sum", ["attribute", "start"])?;
    let path = path(budget, attribute)?;
    let mut total = start.unwrap_or(Value::Int(0));
    for value in value.items(budget)?.as_slice() {
        let value = follow(budget, value, &path)?;
        total = ops::arithmetic(budget, super::ast::Operator::Add, &total, &value)?;
    }
    Ok(total)
}

fn batch<'a>(budget: &Budget, value: &Value<'a>, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
    let [size, fill] = args.bind("batch", ["linecount", "fill_with"])?;
    let size = count("batch", "linecount", &required("batch", "linecount", size)?)?;
    if size == 0 {
        return Err(Fault::failed("`batch` needs at least one item per batch"));
    }
    let items = value.items(budget)?;
    let batch = |from: usize| {
        let to = items.len().min(from.saturating_add(size));
        let missing = match fill {
            Some(_) => size - (to - from),
            None => 0,
        };
        let fill = std::iter::repeat_n(fill.as_ref(), missing).flatten();
        let batch = items.as_slice()[from..to].iter().chain(fill);
        Ok(Value::List(Items::collect(budget, batch.cloned().map(Ok))?))
    };
    let batches = (0..items.len()).step_by(size).map(batch);
    Ok(Value::List(Items::collect(budget, batches)?))
}
