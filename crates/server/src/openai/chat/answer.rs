//! A chat completion as clients read it: one body, or chunks of it.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use troika_engine::chat::ToolCall;

use crate::Answer;
use crate::fields::tier_told;
use crate::ids::new_id;
use crate::job::{Choice, Completed, Delta, Event, FinishReason, Part, TokenLogprob};
use crate::openai::events::Chunks;
use crate::openai::{FINGERPRINT, logprob, usage};
use crate::wire::unix_seconds;

/// What all bodies of one answer have in common.
#[derive(Debug)]
pub(super) struct Reply {
    id: String,
    created: u64,
    model: String,
    /// Log-probabilities were asked for.
    logprobs: bool,
    /// Calls are written in the old form, `function_call`.
    legacy: bool,
    /// What the request says of its urgency, which bodies repeat.
    pub(super) service_tier: Option<String>,
}

impl Reply {
    pub(super) fn new(answer: &Answer, logprobs: bool, legacy: bool) -> Self {
        Self {
            id: new_id("chatcmpl-"),
            created: unix_seconds(SystemTime::now()),
            model: answer.model.clone(),
            logprobs,
            legacy,
            service_tier: None,
        }
    }

    /// The whole answer.
    pub(super) fn body(&self, completed: Completed) -> Value {
        let choices = completed.choices.into_iter().enumerate();
        let choices: Vec<_> = choices.map(|(i, choice)| self.choice(i, choice)).collect();
        self.with_tier(json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
            "usage": usage::body(&completed.usage),
        }))
    }

    /// A body with the tier, if one was named.
    fn with_tier(&self, mut body: Value) -> Value {
        if let Some(tier) = &self.service_tier {
            body["service_tier"] = tier_told(tier).into();
        }
        body
    }

    fn choice(&self, index: usize, choice: Choice) -> Value {
        let mut message = json!({
            "role": "assistant",
            "content": choice.content,
            "refusal": null,
            "annotations": [],
        });
        if !choice.reasoning.is_empty() {
            message["reasoning_content"] = choice.reasoning.into();
        }
        if !choice.tool_calls.is_empty() {
            if choice.content.is_empty() {
                message["content"] = Value::Null;
            }
            let mut calls = choice.tool_calls.into_iter().map(call);
            match self.legacy {
                false => message["tool_calls"] = calls.collect(),
                true => message["function_call"] = calls.next().map(function).into(),
            }
        }
        json!({
            "index": index,
            "message": message,
            "logprobs": self.logprobs(&choice.tokens),
            "finish_reason": self.finish(&choice.finish),
        })
    }

    /// The answer in chunks, for `n` choices.
    pub(super) fn into_chunks(self, n: usize, include_usage: bool) -> ChatChunks {
        ChatChunks {
            reply: self,
            include_usage,
            choices: vec![Progress::default(); n],
        }
    }

    fn logprobs(&self, tokens: &[TokenLogprob]) -> Value {
        match self.logprobs {
            false => Value::Null,
            true => {
                json!({"content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null})
            }
        }
    }

    fn finish(&self, finish: &FinishReason) -> &'static str {
        match finish {
            FinishReason::EndOfText | FinishReason::StopString(_) => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls if self.legacy => "function_call",
            FinishReason::ToolCalls => "tool_calls",
        }
    }
}

/// Writes chunks.
#[derive(Debug)]
pub(super) struct ChatChunks {
    reply: Reply,
    include_usage: bool,
    choices: Vec<Progress>,
}

/// What was sent of a choice.
#[derive(Clone, Debug, Default)]
struct Progress {
    role: bool,
    /// Calls so far.
    calls: usize,
}

impl Chunks for ChatChunks {
    fn write(&mut self, event: Event) -> Vec<Value> {
        match event {
            Event::Placed(_) => Vec::new(),
            Event::Started(_) => (0..self.choices.len())
                .filter_map(|choice| self.role(choice))
                .collect(),
            Event::Delta(delta) => {
                let role = self.role(delta.choice);
                role.into_iter().chain(self.delta(delta)).collect()
            }
            Event::Finished { choice, finish } => {
                let role = self.role(choice);
                let finish = self.reply.finish(&finish);
                let last = self.chunk(choice, json!({}), Value::Null, Some(finish));
                role.into_iter().chain([last]).collect()
            }
            Event::Done(usage) if self.include_usage => {
                let mut chunk = self.frame(json!([]));
                chunk["usage"] = usage::body(&usage);
                vec![chunk]
            }
            Event::Done(_) => Vec::new(),
        }
    }
}

impl ChatChunks {
    /// The first chunk of a choice, if it was not sent.
    fn role(&mut self, choice: usize) -> Option<Value> {
        let progress = self.choices.get_mut(choice).filter(|it| !it.role)?;
        progress.role = true;
        let delta = json!({"role": "assistant", "content": "", "refusal": null});
        Some(self.chunk(choice, delta, Value::Null, None))
    }

    /// `None` if there is nothing in it.
    fn delta(&mut self, delta: Delta) -> Option<Value> {
        let progress = self.choices.get_mut(delta.choice)?;
        let mut fields = Map::new();
        for part in delta.parts {
            match part {
                Part::Content(text) => append(&mut fields, "content", &text),
                Part::Reasoning(text) => append(&mut fields, "reasoning_content", &text),
                Part::ToolCall(tool_call) => {
                    add_call(&mut fields, progress.calls, tool_call, self.reply.legacy);
                    progress.calls += 1;
                }
            }
        }
        if fields.is_empty() {
            if delta.tokens.is_empty() {
                return None;
            }
            // The tokens of half a character, or of what is held back as the beginning of a stop string.
            fields.insert("content".to_owned(), "".into());
        }
        let logprobs = match delta.tokens.is_empty() {
            true => Value::Null,
            false => self.reply.logprobs(&delta.tokens),
        };
        Some(self.chunk(delta.choice, fields.into(), logprobs, None))
    }

    fn chunk(
        &self,
        choice: usize,
        delta: Value,
        logprobs: Value,
        finish: Option<&'static str>,
    ) -> Value {
        self.frame(json!([{
            "index": choice,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish,
        }]))
    }

    fn frame(&self, choices: Value) -> Value {
        let mut chunk = self.reply.with_tier(json!({
            "id": self.reply.id,
            "object": "chat.completion.chunk",
            "created": self.reply.created,
            "model": self.reply.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }));
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

fn append(fields: &mut Map<String, Value>, name: &str, text: &str) {
    match fields.get_mut(name) {
        Some(Value::String(before)) => before.push_str(text),
        _ => _ = fields.insert(name.to_owned(), text.into()),
    }
}

/// A call in a delta; in the old form there is but one.
fn add_call(fields: &mut Map<String, Value>, index: usize, tool_call: ToolCall, legacy: bool) {
    let mut call = call(tool_call);
    if legacy {
        if index == 0 {
            fields.insert("function_call".to_owned(), function(call));
        }
        return;
    }
    call["index"] = index.into();
    let calls = fields.entry("tool_calls").or_insert_with(|| json!([]));
    calls.as_array_mut().expect("made as a list").push(call);
}

/// `{"id", "type", "function": {"name", "arguments"}}`, with the arguments as text.
fn call(call: ToolCall) -> Value {
    let arguments = match call.function.arguments {
        Value::String(text) => text,
        Value::Null => "{}".to_owned(),
        object => object.to_string(),
    };
    json!({
        "id": call.id.unwrap_or_else(|| new_id("call_")),
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    })
}

/// What a call calls.
fn function(mut call: Value) -> Value {
    call["function"].take()
}

fn token(token: &TokenLogprob) -> Value {
    let mut body = alternative(token);
    body["top_logprobs"] = token.top.iter().map(alternative).collect();
    body
}

fn alternative(token: &TokenLogprob) -> Value {
    json!({"token": token.text(), "logprob": logprob(token.logprob), "bytes": token.bytes})
}
