//! An answer as a stream of Anthropic's events: a message of blocks, each with a start, deltas and a stop.

use axum::response::sse::Event as SseEvent;
use serde_json::{Value, json};
use troika_engine::chat::ToolCall;

use super::message::{Thinking, input, stop, tool_use, usage};
use crate::ApiError;
use crate::dialect::Dialect;
use crate::ids::new_id;
use crate::job::{Event, FinishReason, Part, Started, Usage};
use crate::narrator::Narrator;
use crate::wire::sse_event;

/// Tells one answer.
pub(super) struct MessageStream {
    model: String,
    thinking: Thinking,
    /// Whether the message was begun.
    begun: bool,
    /// The kind of the block that is open.
    open: Option<Block>,
    /// Its index, or that of the next one.
    index: usize,
    finish: FinishReason,
    said: Vec<SseEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
}

impl MessageStream {
    pub(super) fn new(model: String, thinking: Thinking) -> Self {
        Self {
            model,
            thinking,
            begun: false,
            open: None,
            index: 0,
            finish: FinishReason::EndOfText,
            said: Vec::new(),
        }
    }

    /// Every event's name is also its `type`.
    fn say(&mut self, name: &'static str, data: Value) {
        let mut event = json!({"type": name});
        if let (Value::Object(event), Value::Object(data)) = (&mut event, data) {
            event.extend(data);
        }
        self.said.push(sse_event(Some(name), &event));
    }

    fn begin(&mut self, started: &Started) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let numbers = Usage {
            prompt_tokens: started.prompt_tokens,
            cached_tokens: started.cached_tokens,
            ..Usage::default()
        };
        let message = json!({
            "id": new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage(&numbers),
        });
        self.say("message_start", json!({"message": message}));
        self.say("ping", json!({}));
    }

    fn part(&mut self, part: Part) {
        match part {
            Part::Content(text) | Part::Reasoning(text) if text.is_empty() => {}
            Part::Content(text) => {
                self.go_on(Block::Text);
                self.delta(json!({"type": "text_delta", "text": text}));
            }
            Part::Reasoning(text) => {
                self.go_on(Block::Thinking);
                if self.thinking == Thinking::Shown {
                    self.delta(json!({"type": "thinking_delta", "thinking": text}));
                }
            }
            Part::ToolCall(call) => self.call(&call),
        }
    }

    fn call(&mut self, call: &ToolCall) {
        self.close();
        self.start(&tool_use(call));
        let input = Value::Object(input(call)).to_string();
        self.delta(json!({"type": "input_json_delta", "partial_json": input}));
        self.stop();
    }

    /// Opens a block of this kind, unless it is the one that is open.
    fn go_on(&mut self, block: Block) {
        if self.open == Some(block) {
            return;
        }
        self.close();
        self.start(&match block {
            Block::Text => json!({"type": "text", "text": ""}),
            Block::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
        });
        self.open = Some(block);
    }

    fn close(&mut self) {
        let Some(block) = self.open.take() else {
            return;
        };
        if block == Block::Thinking {
            // Clients keep the last signature they saw, and some wait for one. Ours are empty: we check none.
            self.delta(json!({"type": "signature_delta", "signature": ""}));
        }
        self.stop();
    }

    fn start(&mut self, block: &Value) {
        let data = json!({"index": self.index, "content_block": block});
        self.say("content_block_start", data);
    }

    fn delta(&mut self, delta: Value) {
        let data = json!({"index": self.index, "delta": delta});
        self.say("content_block_delta", data);
    }

    fn stop(&mut self) {
        self.say("content_block_stop", json!({"index": self.index}));
        self.index += 1;
    }

    fn end(&mut self, numbers: &Usage) {
        self.close();
        let (stop_reason, stop_sequence) = stop(&self.finish);
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": stop_sequence});
        self.say(
            "message_delta",
            json!({"delta": delta, "usage": usage(numbers)}),
        );
        self.say("message_stop", json!({}));
    }
}

impl Narrator for MessageStream {
    fn tell(&mut self, event: Event) -> Vec<SseEvent> {
        match event {
            Event::Placed(_) => {}
            Event::Started(started) => self.begin(&started),
            Event::Delta(delta) => {
                self.begin(&Started::default());
                delta.parts.into_iter().for_each(|part| self.part(part));
            }
            Event::Finished { finish, .. } => self.finish = finish,
            Event::Done(numbers) => {
                self.begin(&Started::default());
                self.end(&numbers);
            }
        }
        std::mem::take(&mut self.said)
    }

    fn fail(&mut self, error: &ApiError) -> Vec<SseEvent> {
        self.say("error", Dialect::Anthropic.body(error));
        std::mem::take(&mut self.said)
    }
}
