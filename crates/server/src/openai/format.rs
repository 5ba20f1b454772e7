//! The form that an answer must have: `response_format`, and the fields that other servers' clients use.

use serde::Deserialize;
use serde_json::Value;

use crate::ApiError;
use crate::fields::{Few, required};
use crate::job::Format;

/// Texts of which an answer must be one.
type Choices = Few<String, 4_096>;

/// The fields of a request that constrain its answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct FormatFields {
    response_format: Option<ResponseFormat>,
    structured_outputs: Option<Structured>,
    guided_json: Option<Value>,
    guided_regex: Option<String>,
    guided_choice: Option<Choices>,
    guided_grammar: Option<String>,
    grammar: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchema>,
    /// Some servers take the schema of a `json_object` here.
    schema: Option<Value>,
}

/// `name`, `description` and `strict` say nothing more: a schema is always kept.
#[derive(Debug, Deserialize)]
struct JsonSchema {
    schema: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Structured {
    json: Option<Value>,
    regex: Option<String>,
    choice: Option<Choices>,
    grammar: Option<String>,
    json_object: Option<bool>,
}

impl FormatFields {
    /// The one form that is asked for, and the field that asks for it.
    ///
    /// # Errors
    /// If it is unknown, incomplete, or more than one is asked for.
    pub(super) fn into_format(self) -> Result<(Format, String), ApiError> {
        // An empty one is how some clients say that they want none.
        if self.grammar.is_some_and(|grammar| grammar != "") {
            let message = "grammar is a GBNF grammar, which is not understood here; \
                           use response_format, guided_regex, or guided_grammar with a Lark grammar";
            return Err(ApiError::unsupported(message).at("grammar"));
        }
        let structured = self.structured_outputs.unwrap_or_default();
        let within = |name| format!("structured_outputs.{name}");
        let mut asked: Vec<(String, Format)> = Vec::new();
        if let Some(format) = self.response_format {
            asked.push(("response_format".to_owned(), format.into_format()?));
        }
        for (name, schema) in [
            ("guided_json".to_owned(), self.guided_json),
            (within("json"), structured.json),
        ] {
            if let Some(schema) = schema {
                let format = Format::JsonSchema(checked_schema(&name, schema)?);
                asked.push((name, format));
            }
        }
        for (name, pattern) in [
            ("guided_regex".to_owned(), self.guided_regex),
            (within("regex"), structured.regex),
        ] {
            asked.extend(pattern.map(|pattern| (name, Format::Regex(pattern))));
        }
        for (name, choices) in [
            ("guided_choice".to_owned(), self.guided_choice),
            (within("choice"), structured.choice),
        ] {
            if let Some(Few(choices)) = choices {
                let format = Format::Regex(one_of(&name, &choices)?);
                asked.push((name, format));
            }
        }
        for (name, grammar) in [
            ("guided_grammar".to_owned(), self.guided_grammar),
            (within("grammar"), structured.grammar),
        ] {
            asked.extend(grammar.map(|grammar| (name, Format::Lark(grammar))));
        }
        if structured.json_object == Some(true) {
            asked.push((within("json_object"), Format::JsonObject));
        }
        only(asked)
    }
}

/// The one that is more than text.
fn only(asked: Vec<(String, Format)>) -> Result<(Format, String), ApiError> {
    let mut asked = asked
        .into_iter()
        .filter(|(_, format)| *format != Format::Text);
    let Some((first, format)) = asked.next() else {
        return Ok((Format::Text, "response_format".to_owned()));
    };
    match asked.next() {
        None => Ok((format, first)),
        Some((second, _)) => {
            let message = format!("{first} and {second} are both given; an answer has one form");
            Err(ApiError::invalid(message).at(second))
        }
    }
}

impl ResponseFormat {
    fn into_format(self) -> Result<Format, ApiError> {
        match (&*self.kind, self.schema) {
            ("text", _) => Ok(Format::Text),
            ("json_object", None) => Ok(Format::JsonObject),
            ("json_object", Some(schema)) => {
                checked_schema("response_format.schema", schema).map(Format::JsonSchema)
            }
            ("json_schema", _) => {
                let name = "response_format.json_schema.schema";
                let schema = self.json_schema.and_then(|it| it.schema);
                let schema = required(schema, name)?;
                checked_schema(name, schema).map(Format::JsonSchema)
            }
            (other, _) => {
                let message = format!(
                    "response_format.type is `{other}`; it must be text, json_object or json_schema"
                );
                Err(ApiError::invalid(message).at("response_format.type"))
            }
        }
    }
}

/// A schema is an object, `true` or `false`; some clients send its JSON as text.
fn checked_schema(name: &str, schema: Value) -> Result<Value, ApiError> {
    let schema = match schema {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|error| ApiError::invalid(format!("{name} is no JSON: {error}")).at(name))?,
        schema => schema,
    };
    match schema {
        Value::Object(_) | Value::Bool(_) => Ok(schema),
        _ => Err(ApiError::invalid(format!("{name} must be a JSON schema, an object")).at(name)),
    }
}

/// A pattern that matches these strings and no others.
fn one_of(name: &str, choices: &[String]) -> Result<String, ApiError> {
    if choices.is_empty() {
        return Err(
            ApiError::invalid(format!("{name} is empty; give at least one string")).at(name),
        );
    }
    let escaped: Vec<_> = choices.iter().map(|choice| literal(choice)).collect();
    Ok(format!("({})", escaped.join("|")))
}

/// A pattern that matches this text and no other.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn format(fields: Value) -> Result<Format, String> {
        let fields: FormatFields = serde_json::from_value(fields).expect("fields");
        let asked = fields.into_format().map_err(|error| error.param.unwrap());
        asked.map(|(format, _)| format)
    }

    #[test]
    fn every_way_to_ask_for_a_form() {
        let schema = json!({"type": "integer"});
        let as_schema = Format::JsonSchema(schema.clone());
        for (fields, want) in [
            (json!({}), Format::Text),
            (json!({"response_format": {"type": "text"}}), Format::Text),
            (
                json!({"response_format": {"type": "json_object"}}),
                Format::JsonObject,
            ),
            (
                json!({"response_format": {"type": "json_object", "schema": schema}}),
                as_schema.clone(),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}}}),
                as_schema.clone(),
            ),
            (json!({"guided_json": schema}), as_schema.clone()),
            (
                json!({"guided_json": schema.to_string()}),
                as_schema.clone(),
            ),
            (
                json!({"structured_outputs": {"json": schema}}),
                as_schema.clone(),
            ),
            (
                json!({"structured_outputs": {"json_object": true}}),
                Format::JsonObject,
            ),
            (
                json!({"guided_regex": "a+"}),
                Format::Regex("a+".to_owned()),
            ),
            (
                json!({"guided_choice": ["a|b", "c."]}),
                Format::Regex(r"(a\|b|c\.)".to_owned()),
            ),
            (
                json!({"guided_grammar": "start: /x/"}),
                Format::Lark("start: /x/".to_owned()),
            ),
            (
                json!({"response_format": {"type": "text"}, "guided_json": schema}),
                as_schema,
            ),
            (
                json!({"grammar": "", "response_format": null}),
                Format::Text,
            ),
        ] {
            assert_eq!(format(fields.clone()), Ok(want), "{fields}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for (fields, param) in [
            (json!({"grammar": "root ::= \"x\""}), "grammar"),
            (
                json!({"response_format": {"type": "xml"}}),
                "response_format.type",
            ),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format.json_schema.schema",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": 7}}}),
                "response_format.json_schema.schema",
            ),
            (json!({"guided_json": "{"}), "guided_json"),
            (json!({"guided_choice": []}), "guided_choice"),
            (
                json!({"guided_regex": "a", "structured_outputs": {"regex": "b"}}),
                "structured_outputs.regex",
            ),
        ] {
            assert_eq!(format(fields.clone()), Err(param.to_owned()), "{fields}");
        }
    }
}
