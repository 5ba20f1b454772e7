//! Whether a value is what a schema describes: enough of JSON Schema for the tests here, written from the
//! specification and not from the parser.

use serde_json::Value;

/// Whether `value` is valid by `schema`, whose references lead into `root`.
pub(crate) fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let keywords = match schema {
        Value::Bool(any) => return *any,
        _ => schema.as_object().expect("a schema"),
    };
    let valid = |schema: &Value, value: &Value| is_valid(root, schema, value);
    keywords.iter().all(|(keyword, rule)| {
        let any_of = || rule.as_array().expect("a list").iter();
        match keyword.as_str() {
            "$ref" => {
                let target = rule.as_str().expect("a pointer").trim_start_matches('#');
                valid(root.pointer(target).expect("leads somewhere"), value)
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|name| is_type(name, value)),
                name => is_type(name, value),
            },
            "const" => rule == value,
            "enum" => any_of().any(|one| one == value),
            "anyOf" => any_of().any(|one| valid(one, value)),
            "oneOf" => any_of().filter(|one| valid(one, value)).count() == 1,
            "allOf" => any_of().all(|one| valid(one, value)),
            "minimum" => number(value).is_none_or(|have| have >= float(rule)),
            "maximum" => number(value).is_none_or(|have| have <= float(rule)),
            "exclusiveMinimum" => number(value).is_none_or(|have| have > float(rule)),
            "exclusiveMaximum" => number(value).is_none_or(|have| have < float(rule)),
            "multipleOf" => number(value).is_none_or(|have| {
                let times = have / float(rule);
                (times - times.round()).abs() < 1e-6 * times.abs().max(1.0)
            }),
            "minLength" => text(value).is_none_or(|have| have.chars().count() >= size(rule)),
            "maxLength" => text(value).is_none_or(|have| have.chars().count() <= size(rule)),
            "pattern" => text(value).is_none_or(|have| {
                let pattern = fancy_regex::Regex::new(rule.as_str().expect("a text"));
                pattern
                    .expect("a pattern")
                    .is_match(have)
                    .expect("is matched")
            }),
            "format" => text(value).is_none_or(|have| is_format(rule, have)),
            "minItems" => value.as_array().is_none_or(|have| have.len() >= size(rule)),
            "maxItems" => value.as_array().is_none_or(|have| have.len() <= size(rule)),
            "prefixItems" => value
                .as_array()
                .is_none_or(|have| any_of().zip(have).all(|(one, item)| valid(one, item))),
            "items" => value.as_array().is_none_or(|have| {
                let before = keywords.get("prefixItems").and_then(Value::as_array);
                let before = before.map_or(0, Vec::len);
                have.iter().skip(before).all(|item| valid(rule, item))
            }),
            "required" => value.as_object().is_none_or(|have| {
                any_of().all(|name| have.contains_key(name.as_str().expect("a name")))
            }),
            "properties" => value.as_object().is_none_or(|have| {
                let rules = rule.as_object().expect("schemas");
                have.iter()
                    .all(|(name, member)| rules.get(name).is_none_or(|rule| valid(rule, member)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|have| {
                let named = keywords.get("properties").and_then(Value::as_object);
                have.iter()
                    .filter(|(name, _)| named.is_none_or(|named| !named.contains_key(*name)))
                    .all(|(_, member)| valid(rule, member))
            }),
            "$defs" | "title" | "description" | "default" | "uniqueItems" | "discriminator" => true,
            other => panic!("the validator does not know {other}"),
        }
    })
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a name") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => number(value).is_some_and(|have| have.fract() == 0.0),
        other => panic!("the validator does not know {other}"),
    }
}

fn is_format(name: &Value, have: &str) -> bool {
    let pattern = match name.as_str().expect("a name") {
        "date-time" => r"^\d{4}-\d\d-\d\d[tT]\d\d:\d\d:\d\d(\.\d+)?([zZ]|[+-]\d\d:\d\d)$",
        "uuid" => r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        "email" => r"^[^@\s]+@[^@\s]+$",
        other => panic!("the validator does not know {other}"),
    };
    let pattern = fancy_regex::Regex::new(pattern).expect("a pattern");
    pattern.is_match(have).expect("is matched")
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn float(rule: &Value) -> f64 {
    rule.as_f64().expect("a number")
}

fn size(rule: &Value) -> usize {
    rule.as_u64().expect("a count") as usize
}
