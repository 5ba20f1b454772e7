//! A completion as clients read it: one body, or chunks of the same form.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::ids::new_id;
use crate::job::{Completed, Delta, Event, FinishReason, Part, TokenLogprob};
use crate::openai::events::Chunks;
use crate::openai::{FINGERPRINT, logprob, usage};
use crate::wire::unix_seconds;

/// What all bodies of one answer have in common.
#[derive(Debug)]
pub(super) struct Reply {
    id: String,
    created: u64,
    model: String,
    /// How many alternatives to each token were asked for; `None` if not even the tokens.
    top_logprobs: Option<usize>,
    /// What stands before each answer.
    echoes: Vec<String>,
}

impl Reply {
    pub(super) fn new(model: &str, top_logprobs: Option<usize>, echoes: Vec<String>) -> Self {
        Self {
            id: new_id("cmpl-"),
            created: unix_seconds(SystemTime::now()),
            model: model.to_owned(),
            top_logprobs,
            echoes,
        }
    }

    /// The whole answer.
    pub(super) fn body(self, completed: Completed) -> Value {
        let choices = completed.choices.into_iter().zip(&self.echoes).enumerate();
        let choices: Vec<_> = choices
            .map(|(index, (choice, echo))| {
                let text = format!("{echo}{}", choice.content);
                let logprobs = self.logprobs(&choice.tokens, &mut 0);
                choice_body(index, text, logprobs, Some(&choice.finish))
            })
            .collect();
        let mut body = self.frame(choices.into());
        body["usage"] = usage::body(&completed.usage);
        body
    }

    /// The answer in chunks.
    pub(super) fn into_chunks(self, include_usage: bool) -> TextChunks {
        TextChunks {
            choices: vec![Progress::default(); self.echoes.len()],
            reply: self,
            include_usage,
        }
    }

    fn frame(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        })
    }

    /// The tokens in columns. `offset` is how many characters of the answer stand before them; it moves on.
    fn logprobs(&self, tokens: &[TokenLogprob], offset: &mut usize) -> Value {
        let Some(top) = self.top_logprobs else {
            return Value::Null;
        };
        let mut offsets = Vec::with_capacity(tokens.len());
        for token in tokens {
            offsets.push(*offset);
            // A character is counted by its first byte, for it may be spread over tokens.
            *offset += token
                .bytes
                .iter()
                .filter(|&&byte| byte & 0xC0 != 0x80)
                .count();
        }
        let alternatives = |token: &TokenLogprob| {
            let top = token.top.iter().take(top);
            Value::Object(
                top.map(|it| (key(it), logprob(it.logprob).into()))
                    .collect(),
            )
        };
        json!({
            "tokens": tokens.iter().map(key).collect::<Vec<_>>(),
            "token_logprobs": tokens.iter().map(|it| logprob(it.logprob)).collect::<Vec<_>>(),
            "top_logprobs": (top > 0).then(|| tokens.iter().map(alternatives).collect::<Vec<_>>()),
            "text_offset": offsets,
        })
    }
}

/// A token's text. Half a character is written by its bytes, so that different halves stay different keys.
fn key(token: &TokenLogprob) -> String {
    match std::str::from_utf8(&token.bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let bytes = token.bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
    }
}

fn choice_body(
    index: usize,
    text: String,
    logprobs: Value,
    finish: Option<&FinishReason>,
) -> Value {
    let finish = finish.map(|finish| match finish {
        FinishReason::Length => "length",
        FinishReason::EndOfText | FinishReason::StopString(_) | FinishReason::ToolCalls => "stop",
    });
    json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
}

/// Writes chunks.
#[derive(Debug)]
pub(super) struct TextChunks {
    reply: Reply,
    include_usage: bool,
    choices: Vec<Progress>,
}

/// What was sent of a choice.
#[derive(Clone, Debug, Default)]
struct Progress {
    echoed: bool,
    /// Characters of the answer.
    offset: usize,
}

impl Chunks for TextChunks {
    fn write(&mut self, event: Event) -> Vec<Value> {
        match event {
            Event::Placed(_) | Event::Started(_) => Vec::new(),
            Event::Delta(delta) => {
                let Delta {
                    choice,
                    parts,
                    tokens,
                } = delta;
                self.chunk(choice, said(parts), &tokens, None)
                    .into_iter()
                    .collect()
            }
            Event::Finished { choice, finish } => {
                let chunk = self.chunk(choice, String::new(), &[], Some(&finish));
                chunk.into_iter().collect()
            }
            Event::Done(usage) if self.include_usage => {
                let mut chunk = self.reply.frame(json!([]));
                chunk["usage"] = usage::body(&usage);
                vec![chunk]
            }
            Event::Done(_) => Vec::new(),
        }
    }
}

impl TextChunks {
    /// `None` if there is nothing in it.
    fn chunk(
        &mut self,
        choice: usize,
        text: String,
        tokens: &[TokenLogprob],
        finish: Option<&FinishReason>,
    ) -> Option<Value> {
        let progress = self.choices.get_mut(choice)?;
        let text = match progress.echoed {
            true => text,
            false => format!("{}{text}", self.reply.echoes[choice]),
        };
        if text.is_empty() && tokens.is_empty() && finish.is_none() {
            return None;
        }
        progress.echoed = true;
        let logprobs = match tokens.is_empty() {
            true => Value::Null,
            false => self.reply.logprobs(tokens, &mut progress.offset),
        };
        let mut chunk = self
            .reply
            .frame(json!([choice_body(choice, text, logprobs, finish)]));
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        Some(chunk)
    }
}

/// What is said. Text that goes on has neither thoughts nor calls.
fn said(parts: Vec<Part>) -> String {
    let text = |part| match part {
        Part::Content(text) => Some(text),
        Part::Reasoning(_) | Part::ToolCall(_) => None,
    };
    parts.into_iter().filter_map(text).collect()
}
