//! The parameters of a tool: whether they are a JSON schema of an object at all.
//!
//! This is about what no reader could make sense of, and so holds whether a tool has to be called or is only shown.
//! What arguments can be held to is the engine's business, where a call is required.

use serde_json::{Map, Value};

use crate::ApiError;

const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

/// Keywords that hold schemas by name.
const BY_NAME: [&str; 5] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
];

/// Keywords that hold a list of schemas, at least one.
const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// Keywords that hold one schema.
const ONE: [&str; 6] = [
    "additionalProperties",
    "contains",
    "else",
    "if",
    "not",
    "then",
];

/// Checks a tool's parameters, which stand at `param` of the request.
///
/// # Errors
/// If they are no schema, or one of something else than an object; the message says where in it.
pub(crate) fn check_parameters(parameters: &Value, param: &str) -> Result<(), ApiError> {
    let mut schemas = Schemas {
        todo: vec![(String::new(), parameters)],
    };
    let refused = |at: &str, reason: String| {
        ApiError::invalid(format!("`{param}{at}` is no JSON schema: {reason}")).at(param)
    };
    if let Value::Object(keywords) = parameters
        && !describes_object(keywords)
    {
        let reason = "the `type` of parameters is `object`".to_owned();
        return Err(refused("", reason));
    }
    // A list of what is still to be seen takes the place of recursion.
    while let Some((at, schema)) = schemas.todo.pop() {
        schemas
            .visit(&at, schema)
            .map_err(|reason| refused(&at, reason))?;
    }
    Ok(())
}

fn describes_object(keywords: &Map<String, Value>) -> bool {
    match keywords.get("type") {
        None => true,
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        Some(name) => name == "object",
    }
}

/// Schemas that are still to be seen, each with its place.
struct Schemas<'s> {
    todo: Vec<(String, &'s Value)>,
}

impl<'s> Schemas<'s> {
    fn visit(&mut self, at: &str, schema: &'s Value) -> Result<(), String> {
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            Value::Bool(_) => return Ok(()),
            _ => return Err("a schema is an object, `true` or `false`".to_owned()),
        };
        for (keyword, value) in keywords {
            let inside = format!("{at}.{keyword}");
            match (&**keyword, value) {
                ("type", kind) => check_type(kind)?,
                ("enum", Value::Array(_)) => {}
                ("enum", _) => return Err("`enum` is a list of values".to_owned()),
                // A boolean is how the drafts before had it, one for each property.
                ("required", Value::Bool(_)) => {}
                ("required", names) => check_required(names)?,
                ("items", Value::Array(list)) => self.push_list(&inside, list),
                ("items", one) => self.todo.push((inside, one)),
                ("prefixItems", Value::Array(list)) => self.push_list(&inside, list),
                (keyword, Value::Array(list)) if LISTS.contains(&keyword) && !list.is_empty() => {
                    self.push_list(&inside, list);
                }
                (keyword, _) if LISTS.contains(&keyword) || keyword == "prefixItems" => {
                    return Err(format!("`{keyword}` is a list of schemas"));
                }
                (keyword, Value::Object(schemas)) if BY_NAME.contains(&keyword) => {
                    let named = schemas
                        .iter()
                        .map(|(name, schema)| (format!("{inside}.{name}"), schema));
                    self.todo.extend(named);
                }
                (keyword, _) if BY_NAME.contains(&keyword) => {
                    return Err(format!("`{keyword}` is an object of schemas by name"));
                }
                (keyword, one) if ONE.contains(&keyword) => self.todo.push((inside, one)),
                _ => {}
            }
        }
        Ok(())
    }

    fn push_list(&mut self, at: &str, list: &'s [Value]) {
        let list = list.iter().enumerate();
        let list = list.map(|(i, schema)| (format!("{at}[{i}]"), schema));
        self.todo.extend(list);
    }
}

fn check_type(kind: &Value) -> Result<(), String> {
    let is_type = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
    let ok = match kind {
        Value::Array(names) => !names.is_empty() && names.iter().all(is_type),
        name => is_type(name),
    };
    match ok {
        true => Ok(()),
        false => Err(format!(
            "`type` is one of {}, or a list of them",
            TYPES.join(", ")
        )),
    }
}

fn check_required(names: &Value) -> Result<(), String> {
    let names = names.as_array();
    match names.is_some_and(|names| names.iter().all(Value::is_string)) {
        true => Ok(()),
        false => Err("`required` is a list of names".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_of_objects_are_taken() {
        for parameters in [
            json!({}),
            json!({"type": "object"}),
            json!({"type": ["object", "null"], "additionalProperties": false}),
            json!({"type": "object", "properties": {"a": true, "b": {"type": "string", "enum": ["x", null]}}, "required": ["a"]}),
            json!({"properties": {"type": {"type": "string"}, "required": {"type": "integer", "required": true}}}),
            json!({"properties": {"a": {"type": "array", "items": [{}, {"anyOf": [{"$ref": "#/$defs/x"}, {"type": "null"}]}]}}, "$defs": {"x": {"const": 1}}}),
            // What nobody knows is somebody's.
            json!({"type": "object", "x-order": 7, "format": "zebra", "not": {}, "uniqueItems": 7}),
        ] {
            assert_eq!(check_parameters(&parameters, "p"), Ok(()), "{parameters}");
        }
    }

    #[test]
    fn what_is_no_schema_is_named_with_its_place() {
        for (parameters, place, reason) in [
            (json!(7), "`p`", "a schema is an object"),
            (json!({"type": 7}), "`p`", "`object`"),
            (json!({"type": "string"}), "`p`", "`object`"),
            (json!({"type": "nothing"}), "`p`", "`object`"),
            (
                json!({"type": ["object", "nothing"]}),
                "`p`",
                "`type` is one of",
            ),
            (json!({"properties": 5}), "`p`", "`properties` is an object"),
            (json!({"required": "a"}), "`p`", "`required` is a list"),
            (
                json!({"properties": {"a": {"type": "text"}}}),
                "`p.properties.a`",
                "`type` is one of",
            ),
            (
                json!({"properties": {"a": {"items": {"anyOf": [{}, 7]}}}}),
                "`p.properties.a.items.anyOf[1]`",
                "a schema is an object",
            ),
            (json!({"anyOf": []}), "`p`", "`anyOf` is a list"),
            (
                json!({"properties": {"a": {"enum": 7}}}),
                "`p.properties.a`",
                "`enum`",
            ),
            (
                json!({"additionalProperties": "no"}),
                "`p.additionalProperties`",
                "a schema is",
            ),
        ] {
            let error = check_parameters(&parameters, "p").expect_err(&parameters.to_string());
            assert_eq!(error.param.as_deref(), Some("p"), "{parameters}");
            assert!(
                error.message.starts_with(place) && error.message.contains(reason),
                "{parameters}: {error}"
            );
        }
    }
}
