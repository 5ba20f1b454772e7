//! Messages, tools, and what else a template is given.
//!
//! The serialized form is the one that templates see and that OpenAI's interface speaks.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::clock::Moment;

/// All that a chat template turns into text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatInput {
    /// The conversation, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Tools that the model may call, as `{"type": "function", "function": {"name", "description", "parameters"}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Whether the text ends where the assistant's answer begins.
    #[serde(default)]
    pub add_generation_prompt: bool,
    /// The text of the model's token of beginning, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token: Option<String>,
    /// The text of the model's token of ending, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token: Option<String>,
    /// The time for templates that name the date. The machine's clock if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Moment>,
    /// Further variables: `enable_thinking`, `reasoning_effort`, `date_string`, `documents`, whatever the template
    /// knows. They do not replace the ones above.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// What is said. Empty in a message that only calls tools.
    #[serde(default)]
    pub content: Content,
    /// What the model thought before it said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Calls that the assistant makes.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub tool_calls: Vec<ToolCall>,
    /// Who speaks, or which tool answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The call that a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// What a message says: text, or parts of several kinds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts in order.
    Parts(Vec<ContentPart>),
}

/// One part of a content: `{"type": "text", "text": ..}`, or another kind with fields of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContentPart {
    /// `text`, `image`, `audio`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a part of that kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The fields of other kinds.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// A call of a tool by the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Names the call, so that its result can refer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`, the only kind there is.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// What is called.
    pub function: FunctionCall,
}

/// A function's name and arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// The function.
    pub name: String,
    /// An object, or its JSON as text, which is how OpenAI's interface sends it. Templates are given the object.
    #[serde(default)]
    pub arguments: Value,
}

fn function() -> String {
    "function".to_owned()
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ChatMessage {
    /// A message of plain text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Content::Text(content.into()),
            ..Self::default()
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl<'de> Deserialize<'de> for Content {
    /// `null` is empty text: it stands beside tool calls.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "content is text, a list of parts, or null")]
        enum Wire {
            Text(String),
            Parts(Vec<ContentPart>),
            Null,
        }
        Ok(match Wire::deserialize(deserializer)? {
            Wire::Text(text) => Self::Text(text),
            Wire::Parts(parts) => Self::Parts(parts),
            Wire::Null => Self::default(),
        })
    }
}

impl Content {
    /// The text, with a newline between text parts. `None` if a part is not text.
    pub fn as_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Parts(parts) => {
                let texts: Option<Vec<_>> = parts.iter().map(ContentPart::as_text).collect();
                Some(texts?.join("\n"))
            }
        }
    }
}

impl ContentPart {
    /// A part of text.
    pub fn new_text(text: impl Into<String>) -> Self {
        Self {
            kind: "text".to_owned(),
            text: Some(text.into()),
            fields: Map::new(),
        }
    }

    fn as_text(&self) -> Option<&str> {
        match &*self.kind {
            "text" => self.text.as_deref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_goes_both_ways() {
        let wire = r#"{"role":"assistant","content":"","tool_calls":[{"id":"a1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]}"#;
        let message: ChatMessage = serde_json::from_str(wire).expect("a message");
        assert_eq!(message.tool_calls[0].function.name, "f");
        assert_eq!(serde_json::to_string(&message).expect("serializes"), wire);
    }

    #[test]
    fn null_and_absent_content_are_empty_text() {
        for wire in [
            r#"{"role":"assistant","content":null,"tool_calls":null}"#,
            r#"{"role":"assistant"}"#,
        ] {
            let message: ChatMessage = serde_json::from_str(wire).expect(wire);
            assert_eq!(message, ChatMessage::new("assistant", ""));
        }
        assert!(serde_json::from_str::<ChatMessage>(r#"{"role":"user","content":7}"#).is_err());
    }

    #[test]
    fn parts_keep_their_fields() {
        let wire = r#"[{"type":"text","text":"see"},{"type":"image","url":"data:x"}]"#;
        let content: Content = serde_json::from_str(wire).expect("parts");
        assert_eq!(serde_json::to_string(&content).expect("serializes"), wire);
        assert_eq!(content.as_text(), None, "an image is not text");
        let content = Content::Parts(vec![ContentPart::new_text("a"), ContentPart::new_text("b")]);
        assert_eq!(content.as_text().as_deref(), Some("a\nb"));
    }
}
