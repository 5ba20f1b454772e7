//! The turns of a conversation as clients send them.

use serde::Deserialize;
use serde_json::Value;
use troika_engine::chat::{ChatMessage, Content, FunctionCall, ToolCall};

use crate::ApiError;
use crate::fields::{Few, TextOr};

/// The turns of a request. More fit into no context.
pub(super) type Messages = Few<Message, 16_384>;

/// The parts of one message.
type Parts = Few<ContentPart, 4_096>;

/// The calls of one message.
type Calls = Few<WireCall, 1_024>;

/// One turn.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    role: String,
    content: Option<TextOr<Parts>>,
    /// What earlier versions call `reasoning_content`.
    reasoning: Option<String>,
    reasoning_content: Option<String>,
    refusal: Option<String>,
    name: Option<String>,
    tool_calls: Option<Calls>,
    tool_call_id: Option<String>,
    /// What came before `tool_calls`.
    function_call: Option<WireFunction>,
}

#[derive(Debug, Deserialize)]
struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WireCall {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<WireFunction>,
}

/// `arguments` are JSON as text; some clients send the object itself.
#[derive(Debug, Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// The turns, oldest first.
///
/// # Errors
/// If there are none, or one makes no sense; the error names the place.
pub(super) fn conversation(Few(messages): Messages) -> Result<Vec<ChatMessage>, ApiError> {
    if messages.is_empty() {
        let message = "messages is empty; give at least one message";
        return Err(ApiError::invalid(message).at("messages"));
    }
    let turns = messages.into_iter().enumerate();
    turns
        .map(|(i, message)| message.into_turn(&format!("messages[{i}]")))
        .collect()
}

impl Message {
    fn into_turn(self, place: &str) -> Result<ChatMessage, ApiError> {
        let role = match &*self.role {
            "system" | "developer" | "user" | "assistant" | "tool" => self.role,
            // A tool's answer, from before there were other tools than functions.
            "function" => "tool".to_owned(),
            other => {
                let message = format!(
                    "{place}.role is `{other}`; it must be system, developer, user, assistant or tool"
                );
                return Err(ApiError::invalid(message).at(format!("{place}.role")));
            }
        };
        let content_place = format!("{place}.content");
        let content = match self.content {
            Some(TextOr::Text(text)) => text,
            Some(TextOr::Other(Few(parts))) => joined(parts, &content_place)?,
            None if matches!(&*role, "assistant" | "tool") => self.refusal.unwrap_or_default(),
            None => {
                let message =
                    format!("{content_place} is missing; a {role} message says something");
                return Err(ApiError::invalid(message).at(content_place));
            }
        };
        let Few(calls) = self.tool_calls.unwrap_or_default();
        let calls = calls.into_iter().enumerate();
        let mut tool_calls = calls
            .map(|(i, call)| call.into_call(&format!("{place}.tool_calls[{i}]")))
            .collect::<Result<Vec<_>, _>>()?;
        tool_calls.extend(self.function_call.map(|function| function.into_call(None)));
        Ok(ChatMessage {
            role,
            content: Content::Text(content),
            reasoning_content: self.reasoning_content.or(self.reasoning),
            tool_calls,
            name: self.name,
            tool_call_id: self.tool_call_id,
        })
    }
}

/// The text of parts, with a newline between them.
fn joined(parts: Vec<ContentPart>, place: &str) -> Result<String, ApiError> {
    let texts: Vec<_> = parts
        .into_iter()
        .enumerate()
        .map(|(i, part)| part.into_text(format!("{place}[{i}]")))
        .collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

impl ContentPart {
    fn into_text(self, place: String) -> Result<String, ApiError> {
        let text = match &*self.kind {
            "text" => self.text,
            "refusal" => self.refusal,
            "image_url" | "input_audio" | "file" | "video_url" | "audio_url" => {
                let kind = self.kind;
                let message = format!("{place} is of type {kind}; models here read text alone");
                return Err(ApiError::unsupported(message).at(place));
            }
            other => {
                let message = format!("{place}.type is `{other}`; it must be text");
                return Err(ApiError::invalid(message).at(format!("{place}.type")));
            }
        };
        let field = self.kind;
        text.ok_or_else(|| {
            let place = format!("{place}.{field}");
            ApiError::invalid(format!("{place} is missing")).at(place)
        })
    }
}

impl WireCall {
    fn into_call(self, place: &str) -> Result<ToolCall, ApiError> {
        match (self.kind.as_deref(), self.function) {
            (None | Some("function"), Some(function)) => Ok(function.into_call(self.id)),
            (None | Some("function"), None) => {
                let place = format!("{place}.function");
                Err(ApiError::invalid(format!("{place} is missing")).at(place))
            }
            (Some(other), _) => {
                let place = format!("{place}.type");
                let message = format!("{place} is `{other}`; tools here are functions");
                Err(ApiError::unsupported(message).at(place))
            }
        }
    }
}

impl WireFunction {
    fn into_call(self, id: Option<String>) -> ToolCall {
        ToolCall {
            id,
            kind: "function".to_owned(),
            function: FunctionCall {
                name: self.name,
                arguments: self.arguments,
            },
        }
    }
}
