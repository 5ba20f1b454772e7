//! The tools of a request, as far as reading and writing calls needs to know them.

use serde_json::{Map, Value, json};

/// How deep a schema is followed when a parameter's type is looked for.
const DEPTH_MAX: usize = 8;

/// Tools by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Tools {
    tools: Vec<Tool>,
}

/// A tool.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    /// The schema of its arguments, an object's.
    pub(super) parameters: Map<String, Value>,
}

impl Tools {
    /// From `{"type": "function", "function": {"name", "parameters"}}` or the inner object alone. Others are left out.
    pub(super) fn new(tools: &[Value]) -> Self {
        let tools = tools.iter().filter_map(|tool| {
            let function = tool.get("function").unwrap_or(tool);
            let mut parameters = match function.get("parameters") {
                Some(Value::Object(parameters)) => parameters.clone(),
                _ => Map::new(),
            };
            parameters.insert("type".to_owned(), json!("object"));
            Some(Tool {
                name: function.get("name")?.as_str()?.to_owned(),
                parameters,
            })
        });
        Self {
            tools: tools.collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.tools.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// An argument that is written as plain text, as the value that the tool's schema wants.
    pub(super) fn value_of(&self, tool: &str, parameter: &str, text: &str) -> Value {
        let text_allowed = self
            .get(tool)
            .and_then(|tool| tool.properties()?.get(parameter))
            .and_then(|schema| allows_text(schema, 0));
        if text_allowed == Some(true) {
            return json!(text);
        }
        match serde_json::from_str(text.trim()) {
            // A text in quotes is one without where nothing says what is meant.
            Ok(Value::String(_)) if text_allowed.is_none() => json!(text),
            Ok(value) => value,
            // Templates that print values rather than serialize them teach models these.
            Err(_) => match text.trim() {
                "True" => json!(true),
                "False" => json!(false),
                "None" => Value::Null,
                _ => json!(text),
            },
        }
    }
}

impl Tool {
    /// The parameters' schemas by name.
    pub(super) fn properties(&self) -> Option<&Map<String, Value>> {
        self.parameters.get("properties")?.as_object()
    }

    /// Whether a parameter has to be there.
    pub(super) fn requires(&self, parameter: &str) -> bool {
        let required = self.parameters.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|name| name == parameter))
    }
}

/// Whether a schema takes text. `None` if it does not say.
pub(super) fn allows_text(schema: &Value, depth: usize) -> Option<bool> {
    if depth > DEPTH_MAX {
        return None;
    }
    match schema.get("type") {
        Some(Value::String(kind)) => return Some(kind == "string"),
        Some(Value::Array(kinds)) => return Some(kinds.iter().any(|kind| kind == "string")),
        _ => {}
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        return Some(values.iter().any(Value::is_string));
    }
    if let Some(value) = schema.get("const") {
        return Some(value.is_string());
    }
    let branches = schema.get("anyOf").or_else(|| schema.get("oneOf"))?;
    let mut branches = branches.as_array()?.iter();
    let known: Option<Vec<bool>> = branches
        .by_ref()
        .map(|branch| allows_text(branch, depth + 1))
        .collect();
    known.map(|known| known.contains(&true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_what_the_schema_wants() {
        let tools = Tools::new(&[json!({"type": "function", "function": {
            "name": "f",
            "parameters": {"properties": {
                "zip": {"type": "string"},
                "n": {"type": "integer"},
                "flag": {"type": "boolean"},
                "any": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                "odd": {},
            }},
        }})]);
        let check = |parameter: &str, text: &str, expect: Value| {
            assert_eq!(
                tools.value_of("f", parameter, text),
                expect,
                "{parameter} {text}"
            );
        };
        check("zip", "01234", json!("01234"));
        check("zip", " {\"a\":1}", json!(" {\"a\":1}"));
        check("n", "7", json!(7));
        check("n", "seven", json!("seven"));
        check("flag", "True", json!(true));
        check("any", "7", json!("7"));
        check("odd", "[1, 2]", json!([1, 2]));
        check("odd", "plain", json!("plain"));
        check("unknown", "7", json!(7));
        assert_eq!(tools.value_of("g", "x", "None"), Value::Null);
    }
}
