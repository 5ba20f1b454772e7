//! An answer as a stream of this interface's events: items, each with its parts, each begun, continued and done.
//!
//! An answer in one body is made here too, without its events: what is streamed and what is not can never differ.

use std::sync::Arc;

use axum::response::sse::Event as SseEvent;
use serde_json::{Value, json};
use troika_engine::chat::ToolCall;

use super::item::{Item, Kind, Status, TextPart, logprobs_json};
use super::object::{Object, State};
use super::store::{Store, Turn};
use crate::ids::new_id;
use crate::job::{Delta, Event, FinishReason, Part, TokenLogprob};
use crate::narrator::{Narrator, next_event};
use crate::wire::{sse_event, unix_seconds};
use crate::{Answer, ApiError};

/// Tells one answer.
pub(super) struct ResponseStream {
    object: Object,
    /// The item being written; its index is the number of those before it.
    open: Option<Item>,
    /// Tokens that no text came with yet.
    tokens: Vec<TokenLogprob>,
    /// Thoughts are told as a summary.
    summary: bool,
    finish: Option<FinishReason>,
    keep: Option<Keep>,
    sequence_number: usize,
    said: Vec<SseEvent>,
}

/// Where the response is kept, and with what.
pub(super) struct Keep {
    pub(super) store: Store,
    pub(super) owner: Option<String>,
    pub(super) input: Vec<Arc<Item>>,
    pub(super) previous: Option<Arc<Turn>>,
    pub(super) local_only: bool,
}

impl ResponseStream {
    pub(super) fn new(object: Object, summary: bool, keep: Option<Keep>) -> Self {
        Self {
            object,
            open: None,
            tokens: Vec::new(),
            summary,
            finish: None,
            keep,
            sequence_number: 0,
            said: Vec::new(),
        }
    }

    /// The whole response, when it is complete.
    ///
    /// # Errors
    /// The job's, if it failed.
    pub(super) async fn collect(mut self, mut answer: Answer) -> Result<Value, ApiError> {
        loop {
            let event = next_event(&mut answer).await?;
            let done = matches!(event, Event::Done(_));
            self.tell(event);
            if done {
                return Ok(self.object.json());
            }
        }
    }

    fn say(&mut self, kind: &'static str, data: Value) {
        let mut event = json!({"type": kind, "sequence_number": self.sequence_number});
        if let (Value::Object(event), Value::Object(data)) = (&mut event, data) {
            event.extend(data);
        }
        self.sequence_number += 1;
        self.said.push(sse_event(Some(kind), &event));
    }

    fn say_response(&mut self, kind: &'static str) {
        let response = self.object.json();
        self.say(kind, json!({"response": response}));
    }

    /// Says something about the open item.
    fn say_item(&mut self, kind: &'static str, data: Value) {
        let Some(item) = &self.open else { return };
        let mut event = json!({"item_id": item.id, "output_index": self.object.output.len()});
        if let (Value::Object(event), Value::Object(data)) = (&mut event, data) {
            event.extend(data);
        }
        self.say(kind, event);
    }

    fn begin(&mut self) {
        if self.sequence_number == 0 {
            self.say_response("response.created");
            self.say_response("response.in_progress");
        }
    }

    fn delta(&mut self, delta: Delta) {
        let says = |part: &Part| matches!(part, Part::Content(_));
        // Tokens of thoughts and calls are not reported; those without text wait for it.
        if delta.parts.is_empty() || delta.parts.iter().any(says) {
            self.tokens.extend(delta.tokens);
        }
        for part in delta.parts {
            match part {
                Part::Content(text) | Part::Reasoning(text) if text.is_empty() => {}
                Part::Content(text) => self.text(&text),
                Part::Reasoning(text) => self.thought(&text),
                Part::ToolCall(call) => self.call(call),
            }
        }
    }

    fn text(&mut self, text: &str) {
        if !matches!(&self.open, Some(item) if matches!(item.kind, Kind::Message { .. })) {
            self.open_message();
        }
        let tokens = std::mem::take(&mut self.tokens);
        let logprobs = logprobs_json(&tokens);
        if let Some(part) = self.open_part() {
            part.text.push_str(text);
            part.logprobs.extend(tokens);
        }
        let data = json!({"content_index": 0, "delta": text, "logprobs": logprobs});
        self.say_item("response.output_text.delta", data);
    }

    fn open_message(&mut self) {
        let role = "assistant".to_owned();
        let parts = Vec::new();
        self.open(Kind::Message { role, parts });
        let part = TextPart::default();
        let data = json!({"content_index": 0, "part": part.output_json()});
        if let Some(Kind::Message { parts, .. }) = self.open.as_mut().map(|item| &mut item.kind) {
            parts.push(part);
        }
        self.say_item("response.content_part.added", data);
    }

    fn open_part(&mut self) -> Option<&mut TextPart> {
        match &mut self.open.as_mut()?.kind {
            Kind::Message { parts, .. } => parts.last_mut(),
            _ => None,
        }
    }

    fn thought(&mut self, thought: &str) {
        if !matches!(&self.open, Some(item) if matches!(item.kind, Kind::Reasoning { .. })) {
            self.open(Kind::Reasoning {
                text: String::new(),
                summary: String::new(),
            });
            let kind = match self.summary {
                true => "response.reasoning_summary_part.added",
                false => "response.content_part.added",
            };
            let part = self.thought_part("");
            self.say_item(kind, part);
        }
        if let Some(Kind::Reasoning { text, summary }) =
            self.open.as_mut().map(|item| &mut item.kind)
        {
            let told = if self.summary { summary } else { text };
            told.push_str(thought);
        }
        let (kind, index) = match self.summary {
            true => ("response.reasoning_summary_text.delta", "summary_index"),
            false => ("response.reasoning_text.delta", "content_index"),
        };
        self.say_item(kind, json!({index: 0, "delta": thought}));
    }

    fn thought_part(&self, text: &str) -> Value {
        match self.summary {
            true => json!({"summary_index": 0, "part": {"type": "summary_text", "text": text}}),
            false => json!({"content_index": 0, "part": {"type": "reasoning_text", "text": text}}),
        }
    }

    fn call(&mut self, call: ToolCall) {
        let written = match call.function.arguments {
            Value::String(text) => text,
            other => other.to_string(),
        };
        self.open(Kind::FunctionCall {
            call_id: call.id.unwrap_or_else(|| new_id("call_")),
            name: call.function.name,
            arguments: String::new(),
        });
        let kind = "response.function_call_arguments.delta";
        self.say_item(kind, json!({"delta": written}));
        if let Some(Kind::FunctionCall { arguments, .. }) =
            self.open.as_mut().map(|item| &mut item.kind)
        {
            *arguments = written;
        }
        self.close(Status::Completed);
    }

    /// Begins an item; the one before it is complete.
    fn open(&mut self, kind: Kind) {
        self.close(Status::Completed);
        let item = Item {
            id: new_id(kind.prefix()),
            status: Status::InProgress,
            kind,
        };
        let index = self.object.output.len();
        let data = json!({"output_index": index, "item": item.json()});
        self.say("response.output_item.added", data);
        self.open = Some(item);
    }

    /// Ends the open item, if there is one.
    fn close(&mut self, status: Status) {
        let mut rest = std::mem::take(&mut self.tokens);
        match self.open_part() {
            Some(part) => part.logprobs.append(&mut rest),
            None => self.tokens = rest,
        }
        let Some(item) = &self.open else { return };
        let done = match &item.kind {
            Kind::Message { parts, .. } => self.message_done(parts),
            Kind::Reasoning { text, summary } => self.thought_done(text, summary),
            Kind::FunctionCall {
                name, arguments, ..
            } => {
                let data = json!({"name": name, "arguments": arguments});
                vec![("response.function_call_arguments.done", data)]
            }
            Kind::FunctionCallOutput { .. } => Vec::new(),
        };
        for (kind, data) in done {
            self.say_item(kind, data);
        }
        if let Some(mut item) = self.open.take() {
            item.status = status;
            let index = self.object.output.len();
            let data = json!({"output_index": index, "item": item.json()});
            self.say("response.output_item.done", data);
            self.object.output.push(Arc::new(item));
        }
    }

    fn message_done(&self, parts: &[TextPart]) -> Vec<(&'static str, Value)> {
        let mut done = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let logprobs = logprobs_json(&part.logprobs);
            let text = json!({"content_index": index, "text": part.text, "logprobs": logprobs});
            done.push(("response.output_text.done", text));
            let part = json!({"content_index": index, "part": part.output_json()});
            done.push(("response.content_part.done", part));
        }
        done
    }

    fn thought_done(&self, text: &str, summary: &str) -> Vec<(&'static str, Value)> {
        match self.summary {
            true => {
                let whole = json!({"summary_index": 0, "text": summary});
                vec![
                    ("response.reasoning_summary_text.done", whole),
                    (
                        "response.reasoning_summary_part.done",
                        self.thought_part(summary),
                    ),
                ]
            }
            false => {
                let whole = json!({"content_index": 0, "text": text});
                vec![
                    ("response.reasoning_text.done", whole),
                    ("response.content_part.done", self.thought_part(text)),
                ]
            }
        }
    }

    fn finish(&mut self, finish: FinishReason) {
        let nothing = self.object.output.is_empty() && self.open.is_none();
        if nothing {
            // Clients look for the first item's text.
            self.open_message();
        }
        self.close(match finish {
            FinishReason::Length => Status::Incomplete,
            _ => Status::Completed,
        });
        self.finish = Some(finish);
    }

    fn end(&mut self, state: State) {
        let kind = match &state {
            State::Failed(_) => "response.failed",
            State::Incomplete => "response.incomplete",
            State::InProgress | State::Completed => "response.completed",
        };
        if state == State::Completed {
            self.object.completed_at = Some(unix_seconds(std::time::SystemTime::now()));
        }
        self.object.state = state;
        self.say_response(kind);
        if let Some(keep) = self.keep.take() {
            let object = self.object.clone();
            keep.store.put(
                keep.owner,
                object,
                keep.input,
                keep.previous,
                keep.local_only,
            );
        }
    }
}

impl Narrator for ResponseStream {
    fn tell(&mut self, event: Event) -> Vec<SseEvent> {
        self.begin();
        match event {
            Event::Placed(_) | Event::Started(_) => {}
            Event::Delta(delta) => self.delta(delta),
            Event::Finished { finish, .. } => self.finish(finish),
            Event::Done(usage) => {
                self.object.usage = Some(usage);
                self.end(match self.finish {
                    Some(FinishReason::Length) => State::Incomplete,
                    _ => State::Completed,
                });
            }
        }
        std::mem::take(&mut self.said)
    }

    fn fail(&mut self, error: &ApiError) -> Vec<SseEvent> {
        self.begin();
        self.close(Status::Incomplete);
        self.end(State::Failed(error.clone()));
        std::mem::take(&mut self.said)
    }
}
