//! Lines of an answer, as they come.

use serde::Deserialize;
use serde_json::{Map, Value};
use troika_job::{Delta, Event, FinishReason, Part, TokenLogprob};

use crate::wire::calls::call;
use crate::wire::{Counts, Fault, Frame, NO_TOKEN, Reader, Refusal, say};

/// Reads lines.
#[derive(Debug)]
pub(in crate::wire) struct Stream {
    /// The job's answer that this is.
    choice: usize,
    called: bool,
    counts: Counts,
    complete: bool,
}

#[derive(Deserialize)]
struct Line {
    /// Of `/api/chat`.
    message: Option<Message>,
    /// Of `/api/generate`.
    response: Option<String>,
    thinking: Option<String>,
    logprobs: Option<Vec<Token>>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<usize>,
    eval_count: Option<usize>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    thinking: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    id: Option<String>,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Vec<Self>,
}

impl Stream {
    /// What reads this of the job's answers.
    pub(in crate::wire) fn new(choice: usize) -> Self {
        Self {
            choice,
            called: false,
            counts: Counts::default(),
            complete: false,
        }
    }

    fn finish(&self, reason: Option<&str>) -> FinishReason {
        match reason {
            Some("length") => FinishReason::Length,
            _ if self.called => FinishReason::ToolCalls,
            _ => FinishReason::EndOfText,
        }
    }
}

impl Reader for Stream {
    fn read(&mut self, frame: &Frame, said: &mut Vec<Event>) -> Result<(), Fault> {
        let garbled = |what: &str| Fault::Garbled(format!("a line of its answer is {what}"));
        let value: Value = serde_json::from_str(&frame.data).map_err(|_| garbled("no JSON"))?;
        if value.get("error").is_some_and(|it| !it.is_null()) {
            return Err(Fault::Refused(Refusal::of(&value).unwrap_or_default()));
        }
        let line: Line =
            serde_json::from_value(value).map_err(|_| garbled("no part of an answer"))?;
        let mut delta = Delta {
            choice: self.choice,
            ..Delta::default()
        };
        say(&mut delta, Part::Reasoning, line.thinking);
        say(&mut delta, Part::Content, line.response);
        if let Some(message) = line.message {
            say(&mut delta, Part::Reasoning, message.thinking);
            say(&mut delta, Part::Content, message.content);
            for Call { id, function } in message.tool_calls.unwrap_or_default() {
                self.called = true;
                let arguments = Value::Object(function.arguments).to_string();
                let id = id.filter(|it| !it.is_empty());
                delta
                    .parts
                    .push(Part::ToolCall(call(id, function.name, arguments)));
            }
        }
        delta.tokens = line
            .logprobs
            .unwrap_or_default()
            .into_iter()
            .map(token)
            .collect();
        if !delta.parts.is_empty() || !delta.tokens.is_empty() {
            said.push(Event::Delta(delta));
        }
        if line.done {
            self.counts.prompt = line.prompt_eval_count;
            self.counts.completion = line.eval_count;
            self.complete = true;
            let finish = self.finish(line.done_reason.as_deref());
            said.push(Event::Finished {
                choice: self.choice,
                finish,
            });
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn is_over(&self) -> bool {
        self.complete
    }
}

fn token(token: Token) -> TokenLogprob {
    let bytes = token.bytes.unwrap_or_else(|| token.token.into_bytes());
    TokenLogprob {
        id: NO_TOKEN,
        bytes,
        logprob: token.logprob,
        top: token.top_logprobs.into_iter().map(self::token).collect(),
    }
}
