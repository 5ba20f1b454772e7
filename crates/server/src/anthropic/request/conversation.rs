//! From Anthropic's messages, which hold blocks, to the turns that templates know.
//!
//! There, results of tools are blocks of a user's message and calls blocks of an assistant's; a template has turns of the
//! tool, and calls beside the text. Neighbours of one role are one turn, as the interface promises and many templates
//! demand.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use troika_engine::chat::{ChatMessage, Content, FunctionCall, ToolCall};

use crate::ApiError;
use crate::fields::{TextOr, required};

/// One message.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    role: String,
    content: TextOr<Vec<Block>>,
}

/// A block of any kind: the kind decides which fields must be there. Not a tagged enum, which would forget the path of
/// what is wrong inside.
#[derive(Debug, Deserialize)]
pub(super) struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Map<String, Value>>,
    tool_use_id: Option<String>,
    content: Option<TextOr<Vec<Self>>>,
    is_error: Option<bool>,
}

/// The turns, and whether the answer goes on with the last one.
///
/// # Errors
/// If there are none, or one is not to be understood.
pub(super) fn conversation(messages: Vec<Message>) -> Result<(Vec<ChatMessage>, bool), ApiError> {
    let last = messages.len().saturating_sub(1);
    let prefilled = messages.last().is_some_and(|m| m.role == "assistant");
    let mut turns = Turns::default();
    for (i, message) in messages.into_iter().enumerate() {
        turns.message(message, &format!("messages[{i}]"))?;
    }
    let mut turns = turns.turns;
    // Empty, the assistant's last message is no turn.
    let begun = turns.pop_if(|turn| prefilled && turn.role == "assistant");
    let begun = begun.filter(|turn| *turn != ChatMessage::new("assistant", ""));
    if begun
        .as_ref()
        .is_some_and(|turn| !turn.tool_calls.is_empty())
    {
        let message = "the last message calls a tool; its `tool_result` must follow";
        return Err(ApiError::invalid(message).at(format!("messages[{last}].content")));
    }
    let continue_last = begun.is_some();
    turns.extend(begun);
    if turns.is_empty() {
        let message = "`messages` must have at least one message that says something";
        return Err(ApiError::invalid(message).at("messages"));
    }
    Ok((turns, continue_last))
}

/// The text of content that can be nothing else, with a newline between its blocks.
///
/// # Errors
/// If a block is not text.
pub(super) fn text(content: TextOr<Vec<Block>>, path: &str) -> Result<String, ApiError> {
    let blocks = match content {
        TextOr::Text(text) => return Ok(text),
        TextOr::Other(blocks) => blocks,
    };
    let mut texts = Vec::with_capacity(blocks.len());
    for (i, block) in blocks.into_iter().enumerate() {
        let path = format!("{path}[{i}]");
        match &*block.kind {
            "text" => texts.push(required(block.text, &format!("{path}.text"))?),
            other => return Err(no_such_block(other, &path, "text")),
        }
    }
    Ok(texts.join("\n"))
}

fn no_such_block(kind: &str, path: &str, known: &str) -> ApiError {
    let message = format!("{path}: blocks of type `{kind}` cannot be read here; send {known}");
    ApiError::unsupported(message).at(path)
}

#[derive(Default)]
struct Turns {
    turns: Vec<ChatMessage>,
    /// The names of the tools that were called, by the calls' ids.
    called: BTreeMap<String, String>,
}

impl Turns {
    fn message(&mut self, message: Message, path: &str) -> Result<(), ApiError> {
        let content_path = format!("{path}.content");
        match &*message.role {
            "system" => {
                let text = text(message.content, &content_path)?;
                self.turns.push(ChatMessage::new("system", text));
                return Ok(());
            }
            "user" | "assistant" => {}
            other => {
                let message =
                    format!("`{path}.role` is `{other}`; it must be `user` or `assistant`");
                return Err(ApiError::invalid(message).at(format!("{path}.role")));
            }
        }
        let of_user = message.role == "user";
        match message.content {
            TextOr::Text(text) => self.say(&message.role, &text),
            TextOr::Other(blocks) => {
                for (i, block) in blocks.into_iter().enumerate() {
                    let path = format!("{content_path}[{i}]");
                    match of_user {
                        true => self.user(block, &path)?,
                        false => self.assistant(block, &path)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn user(&mut self, block: Block, path: &str) -> Result<(), ApiError> {
        match &*block.kind {
            "text" => {
                let text = required(block.text, &format!("{path}.text"))?;
                self.say("user", &text);
                Ok(())
            }
            "tool_result" => self.tool_result(block, path),
            other => Err(no_such_block(other, path, "text and tool_result")),
        }
    }

    fn tool_result(&mut self, block: Block, path: &str) -> Result<(), ApiError> {
        let id_path = format!("{path}.tool_use_id");
        let id = required(block.tool_use_id, &id_path)?;
        let Some(name) = self.called.get(&id) else {
            let message =
                format!("`{id_path}` is `{id}`, which no earlier `tool_use` has for its id");
            return Err(ApiError::invalid(message).at(id_path));
        };
        let mut result = match block.content {
            Some(content) => text(content, &format!("{path}.content"))?,
            None => String::new(),
        };
        if block.is_error == Some(true) {
            // Templates have no place for it, and the model must know.
            result = format!("Error: {result}");
        }
        self.turns.push(ChatMessage {
            name: Some(name.clone()),
            tool_call_id: Some(id),
            ..ChatMessage::new("tool", result)
        });
        Ok(())
    }

    fn assistant(&mut self, block: Block, path: &str) -> Result<(), ApiError> {
        match &*block.kind {
            "text" => {
                let text = required(block.text, &format!("{path}.text"))?;
                self.say("assistant", &text);
            }
            "thinking" => {
                let thought = required(block.thinking, &format!("{path}.thinking"))?;
                let reasoning = &mut self.turn("assistant").reasoning_content;
                append(reasoning.get_or_insert_default(), &thought);
            }
            // Encrypted by the service that wrote it.
            "redacted_thinking" => {}
            "tool_use" => {
                let id = required(block.id, &format!("{path}.id"))?;
                let name = required(block.name, &format!("{path}.name"))?;
                let input = required(block.input, &format!("{path}.input"))?;
                self.called.insert(id.clone(), name.clone());
                let arguments = Value::Object(input);
                self.turn("assistant").tool_calls.push(ToolCall {
                    id: Some(id),
                    kind: "function".to_owned(),
                    function: FunctionCall { name, arguments },
                });
            }
            other => return Err(no_such_block(other, path, "text, thinking and tool_use")),
        }
        Ok(())
    }

    fn say(&mut self, role: &str, text: &str) {
        if let Content::Text(said) = &mut self.turn(role).content {
            append(said, text);
        }
    }

    /// The turn of this role that is going on, or a new one.
    fn turn(&mut self, role: &str) -> &mut ChatMessage {
        if self.turns.last().is_none_or(|turn| turn.role != role) {
            self.turns.push(ChatMessage::new(role, ""));
        }
        self.turns.last_mut().expect("one was pushed")
    }
}

fn append(said: &mut String, text: &str) {
    if !said.is_empty() && !text.is_empty() {
        said.push('\n');
    }
    said.push_str(text);
}
