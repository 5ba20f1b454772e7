//! Calls of tools, gathered from the pieces in which they come.

use std::collections::BTreeMap;

use serde_json::Value;
use troika_engine::chat::{FunctionCall, ToolCall};

use super::Fault;

/// Calls of one answer at most; each takes memory as soon as it is named.
const CALLS_MAX: usize = 1_024;

/// The calls of one answer that are not complete.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<usize, Pending>);

#[derive(Debug, Default)]
struct Pending {
    id: Option<String>,
    name: String,
    arguments: String,
}

impl Calls {
    /// Adds a piece of the `index`th call. Those before it are complete, and come back.
    ///
    /// # Errors
    /// If there are too many.
    pub(super) fn add(
        &mut self,
        index: usize,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
    ) -> Result<Vec<ToolCall>, Fault> {
        if index >= CALLS_MAX {
            let message = format!("it calls a tool for the {index}th time in one answer");
            return Err(Fault::Garbled(message));
        }
        let later = self.0.split_off(&index);
        let before = std::mem::replace(&mut self.0, later);
        let pending = self.0.entry(index).or_default();
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            pending.id = Some(id.to_owned());
        }
        // Some repeat the name with every piece; none send it in two.
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            name.clone_into(&mut pending.name);
        }
        pending.arguments.push_str(arguments);
        finished(before)
    }

    /// The rest, when the answer ends.
    ///
    /// # Errors
    /// If one has no name.
    pub(super) fn finish(&mut self) -> Result<Vec<ToolCall>, Fault> {
        finished(std::mem::take(&mut self.0))
    }
}

fn finished(calls: BTreeMap<usize, Pending>) -> Result<Vec<ToolCall>, Fault> {
    calls.into_values().map(Pending::finish).collect()
}

impl Pending {
    fn finish(self) -> Result<ToolCall, Fault> {
        if self.name.is_empty() {
            return Err(Fault::Garbled("it calls a tool without a name".to_owned()));
        }
        let arguments = match self.arguments.trim().is_empty() {
            true => "{}".to_owned(),
            false => self.arguments,
        };
        Ok(call(self.id, self.name, arguments))
    }
}

/// A complete call; one without an id is given one.
pub(super) fn call(id: Option<String>, name: String, arguments: String) -> ToolCall {
    ToolCall {
        id: Some(id.unwrap_or_else(new_id)),
        kind: "function".to_owned(),
        function: FunctionCall {
            name,
            arguments: Value::String(arguments),
        },
    }
}

/// `call_` and 24 hexadecimal digits.
fn new_id() -> String {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("call_{}", digits.concat())
}

/// A call's arguments as text, which is how OpenAI's interface has them.
pub(super) fn arguments_text(arguments: &Value) -> String {
    match arguments {
        Value::String(text) => text.clone(),
        Value::Null => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// A call's arguments as an object, which is how the other interfaces have them; `None` if they are none.
pub(super) fn arguments_object(arguments: &Value) -> Option<Value> {
    let object = match arguments {
        Value::Null => Value::Object(serde_json::Map::new()),
        Value::String(text) if text.trim().is_empty() => Value::Object(serde_json::Map::new()),
        Value::String(text) => serde_json::from_str(text).ok()?,
        other => other.clone(),
    };
    object.is_object().then_some(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_make_calls() {
        let mut calls = Calls::default();
        assert_eq!(calls.add(0, Some("a"), Some("f"), "").unwrap(), []);
        assert_eq!(calls.add(0, None, None, "{\"x\"").unwrap(), []);
        assert_eq!(calls.add(0, Some(""), Some(""), ":1}").unwrap(), []);
        let first = calls.add(1, Some("b"), Some("g"), "").unwrap();
        assert_eq!(
            first,
            [call(
                Some("a".to_owned()),
                "f".to_owned(),
                "{\"x\":1}".to_owned()
            )]
        );
        let last = calls.finish().unwrap();
        assert_eq!(
            last,
            [call(Some("b".to_owned()), "g".to_owned(), "{}".to_owned())]
        );
        assert_eq!(calls.finish().unwrap(), []);
    }

    #[test]
    fn a_call_without_a_name_or_without_end_is_refused() {
        let mut calls = Calls::default();
        calls.add(0, Some("a"), None, "{}").unwrap();
        assert!(calls.finish().is_err());
        assert!(
            Calls::default()
                .add(CALLS_MAX, None, Some("f"), "")
                .is_err()
        );
    }

    #[test]
    fn an_id_is_made_where_there_is_none() {
        let made = |_| call(None, "f".to_owned(), String::new()).id.unwrap();
        let ids: Vec<_> = (0..2).map(made).collect();
        assert!(
            ids.iter()
                .all(|id| id.len() == 29 && id.starts_with("call_"))
        );
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn arguments_change_their_form() {
        assert_eq!(arguments_text(&json!({"a": 1})), r#"{"a":1}"#);
        assert_eq!(arguments_text(&json!("{")), "{");
        assert_eq!(arguments_object(&json!("{\"a\":1}")), Some(json!({"a": 1})));
        assert_eq!(arguments_object(&json!("")), Some(json!({})));
        assert_eq!(arguments_object(&json!("[1]")), None);
    }
}
