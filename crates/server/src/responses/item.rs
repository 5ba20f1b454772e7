//! Items: what a conversation is made of in this interface, on the way in and on the way out.

use std::sync::Arc;

use serde_json::{Value, json};
use troika_engine::chat::{ChatMessage, Content, FunctionCall, ToolCall};

use crate::job::TokenLogprob;
use crate::openai::logprob;

/// Memory that an item takes beside its text, roughly.
const ITEM_BYTES: usize = 256;

/// One item. Responses that follow one another share it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) kind: Kind,
}

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It is being written.
    InProgress,
    /// All of it is there.
    Completed,
    /// It was cut short.
    Incomplete,
}

/// What an item is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Something said.
    Message {
        /// `system`, `developer`, `user` or `assistant`.
        role: String,
        /// Its parts.
        parts: Vec<TextPart>,
    },
    /// Something thought.
    Reasoning {
        /// The thoughts.
        text: String,
        /// The thoughts, for clients that asked for a summary: that is what they show.
        summary: String,
    },
    /// A call of a function.
    FunctionCall {
        /// What its output refers to.
        call_id: String,
        /// The function.
        name: String,
        /// JSON as text.
        arguments: String,
    },
    /// What a function gave back.
    FunctionCallOutput {
        /// The call.
        call_id: String,
        /// Its text.
        output: String,
    },
}

/// A piece of text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TextPart {
    pub(super) text: String,
    /// Its tokens, if they were asked for.
    pub(super) logprobs: Vec<TokenLogprob>,
}

impl Status {
    /// As the wire spells it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

impl Kind {
    /// What ids of this kind begin with.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Message { .. } => "msg_",
            Self::Reasoning { .. } => "rs_",
            Self::FunctionCall { .. } => "fc_",
            Self::FunctionCallOutput { .. } => "fco_",
        }
    }
}

impl TextPart {
    /// A part of what a model says.
    pub(super) fn output_json(&self) -> Value {
        json!({
            "type": "output_text",
            "text": self.text,
            "annotations": [],
            "logprobs": logprobs_json(&self.logprobs),
        })
    }
}

/// Tokens with their log-probabilities.
pub(super) fn logprobs_json(tokens: &[TokenLogprob]) -> Value {
    let one = |token: &TokenLogprob| json!({"token": token.text(), "bytes": token.bytes, "logprob": logprob(token.logprob)});
    tokens
        .iter()
        .map(|token| {
            let mut value = one(token);
            value["top_logprobs"] = token.top.iter().map(one).collect();
            value
        })
        .collect()
}

impl Item {
    /// The item as the wire has it.
    pub(super) fn json(&self) -> Value {
        let (id, status) = (&self.id, self.status.as_str());
        match &self.kind {
            Kind::Message { role, parts } => {
                let part = |part: &TextPart| match &**role {
                    "assistant" => part.output_json(),
                    _ => json!({"type": "input_text", "text": part.text}),
                };
                let content: Vec<_> = parts.iter().map(part).collect();
                json!({"id": id, "type": "message", "status": status, "role": role, "content": content})
            }
            Kind::Reasoning { text, summary } => {
                let part = |kind: &str, text: &String| match &**text {
                    "" => json!([]),
                    text => json!([{"type": kind, "text": text}]),
                };
                json!({
                    "id": id,
                    "type": "reasoning",
                    "status": status,
                    "summary": part("summary_text", summary),
                    "content": part("reasoning_text", text),
                })
            }
            Kind::FunctionCall {
                call_id,
                name,
                arguments,
            } => json!({
                "id": id,
                "type": "function_call",
                "status": status,
                "call_id": call_id,
                "name": name,
                "arguments": arguments,
            }),
            Kind::FunctionCallOutput { call_id, output } => json!({
                "id": id,
                "type": "function_call_output",
                "status": status,
                "call_id": call_id,
                "output": output,
            }),
        }
    }

    /// The memory that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let token = |t: &TokenLogprob| size_of::<TokenLogprob>() + t.bytes.len();
        let text = match &self.kind {
            Kind::Message { parts, .. } => parts
                .iter()
                .map(|part| {
                    let top = part.logprobs.iter().flat_map(|t| &t.top);
                    let tokens: usize = part.logprobs.iter().chain(top).map(token).sum();
                    part.text.len() + tokens
                })
                .sum(),
            Kind::Reasoning { text, summary } => text.len() + summary.len(),
            Kind::FunctionCall {
                call_id,
                name,
                arguments,
            } => call_id.len() + name.len() + arguments.len(),
            Kind::FunctionCallOutput { call_id, output } => call_id.len() + output.len(),
        };
        ITEM_BYTES + self.id.len() + text
    }
}

/// The turns that a template is given. What an assistant thinks, says and calls in a row is one turn; `instructions` and
/// the system's and the developer's messages at the beginning are one system message, as templates have one.
pub(super) fn conversation(
    instructions: Option<&str>,
    items: impl IntoIterator<Item = Arc<Item>>,
) -> Vec<ChatMessage> {
    let mut turns = Turns(Vec::new());
    if let Some(instructions) = instructions.filter(|text| !text.is_empty()) {
        turns.0.push(ChatMessage::new("system", instructions));
    }
    for item in items {
        turns.push(&item.kind);
    }
    turns.0
}

struct Turns(Vec<ChatMessage>);

impl Turns {
    fn push(&mut self, kind: &Kind) {
        match kind {
            Kind::Message { role, parts } => {
                let texts: Vec<_> = parts.iter().map(|part| &*part.text).collect();
                self.say(role, &texts.join("\n"));
            }
            Kind::Reasoning { text, summary } => {
                let thought = if text.is_empty() { summary } else { text };
                if !thought.is_empty() {
                    let turn = self.assistant();
                    append(turn.reasoning_content.get_or_insert_default(), thought);
                }
            }
            Kind::FunctionCall {
                call_id,
                name,
                arguments,
            } => self.assistant().tool_calls.push(ToolCall {
                id: Some(call_id.clone()),
                kind: "function".to_owned(),
                function: FunctionCall {
                    name: name.clone(),
                    arguments: Value::String(arguments.clone()),
                },
            }),
            Kind::FunctionCallOutput { call_id, output } => {
                let name = self.called(call_id);
                self.0.push(ChatMessage {
                    name,
                    tool_call_id: Some(call_id.clone()),
                    ..ChatMessage::new("tool", &**output)
                });
            }
        }
    }

    fn say(&mut self, role: &str, text: &str) {
        match role {
            "assistant" => {
                if let Content::Text(said) = &mut self.assistant().content {
                    append(said, text);
                }
            }
            "system" | "developer" => match self.0.as_mut_slice() {
                [only] if only.role == "system" => {
                    if let Content::Text(said) = &mut only.content {
                        append(said, text);
                    }
                }
                _ => self.0.push(ChatMessage::new("system", text)),
            },
            _ => self.0.push(ChatMessage::new(role, text)),
        }
    }

    /// The assistant's turn that is going on, or a new one.
    fn assistant(&mut self) -> &mut ChatMessage {
        if self.0.last().is_none_or(|turn| turn.role != "assistant") {
            self.0.push(ChatMessage::new("assistant", ""));
        }
        self.0.last_mut().expect("one was pushed")
    }

    /// The name of the function that was called. The call is near the end.
    fn called(&self, call_id: &str) -> Option<String> {
        let calls = self.0.iter().rev().flat_map(|turn| &turn.tool_calls);
        let mut calls = calls.filter(|call| call.id.as_deref() == Some(call_id));
        calls.next().map(|call| call.function.name.clone())
    }
}

fn append(said: &mut String, text: &str) {
    if !said.is_empty() && !text.is_empty() {
        said.push('\n');
    }
    said.push_str(text);
}
