//! Answers to `/api/generate` and `/api/chat`: whole, or in lines as they come.

use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value, json};
use troika_engine::chat::ToolCall;

use super::wire::{logprobs, now, ns};
use crate::dialect::Dialect;
use crate::job::{Delta, Event, FinishReason, Part, TokenLogprob, Usage};
use crate::narrator::{first_event, next_event};
use crate::report;
use crate::wire::ndjson;
use crate::{Answer, ApiError};

/// Which of the two shapes an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text in `response`.
    Generate,
    /// Text in `message`.
    Chat,
}

/// The whole answer in one object.
///
/// # Errors
/// The job's.
pub(super) async fn whole(
    kind: Kind,
    model: &str,
    answer: Answer,
    started: Instant,
) -> Result<Response, ApiError> {
    let mut completed = answer.collect().await?;
    // One was asked for.
    let choice = completed.choices.pop().ok_or_else(ApiError::internal)?;
    let said = Said {
        content: choice.content,
        thinking: choice.reasoning,
        tool_calls: choice.tool_calls,
        tokens: choice.tokens,
    };
    let mut body = line(kind, model, said);
    finish(
        &mut body,
        done_reason(&choice.finish),
        &completed.usage,
        started,
    );
    Ok(Json(Value::Object(body)).into_response())
}

/// The answer in lines, each with what came, the last with the numbers.
///
/// # Errors
/// The job's, if it fails before anything else.
pub(super) async fn stream(
    kind: Kind,
    model: String,
    mut answer: Answer,
    started: Instant,
) -> Result<Response, ApiError> {
    let first = first_event(&mut answer).await?;
    let lines = Lines {
        first,
        kind,
        model,
        answer,
        started,
        reason: "stop",
        ended: false,
    };
    let lines = stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((line, lines))
    });
    Ok(ndjson(lines))
}

/// The answer to a request that had no prompt.
pub(super) fn nothing(kind: Kind, model: &str, reason: &str) -> Response {
    let mut body = line(kind, model, Said::default());
    body.insert("done".to_owned(), true.into());
    body.insert("done_reason".to_owned(), reason.into());
    Json(Value::Object(body)).into_response()
}

/// A stream in progress. Dropped with its connection, it takes the job along.
struct Lines {
    kind: Kind,
    model: String,
    /// What was awaited before there was a status, if it came in time.
    first: Option<Event>,
    answer: Answer,
    started: Instant,
    reason: &'static str,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Value> {
        while !self.ended {
            let event = match self.first.take() {
                Some(first) => Ok(first),
                None => next_event(&mut self.answer).await,
            };
            match event {
                Ok(Event::Placed(_) | Event::Started(_)) => {}
                Ok(Event::Delta(delta)) => {
                    let said = Said::from(delta);
                    if !said.is_empty() {
                        return Some(line(self.kind, &self.model, said).into());
                    }
                }
                Ok(Event::Finished { finish, .. }) => self.reason = done_reason(&finish),
                Ok(Event::Done(usage)) => {
                    self.ended = true;
                    let mut last = line(self.kind, &self.model, Said::default());
                    finish(&mut last, self.reason, &usage, self.started);
                    return Some(last.into());
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Dialect::Ollama.body(&error));
                }
            }
        }
        None
    }
}

/// What one line says.
#[derive(Default)]
struct Said {
    content: String,
    thinking: String,
    tool_calls: Vec<ToolCall>,
    tokens: Vec<TokenLogprob>,
}

impl From<Delta> for Said {
    fn from(delta: Delta) -> Self {
        let mut said = Self {
            tokens: delta.tokens,
            ..Self::default()
        };
        for part in delta.parts {
            match part {
                Part::Content(text) => said.content.push_str(&text),
                Part::Reasoning(text) => said.thinking.push_str(&text),
                Part::ToolCall(call) => said.tool_calls.push(call),
            }
        }
        said
    }
}

impl Said {
    fn is_empty(&self) -> bool {
        self.content.is_empty()
            && self.thinking.is_empty()
            && self.tool_calls.is_empty()
            && self.tokens.is_empty()
    }
}

/// A line that is not the last.
fn line(kind: Kind, model: &str, said: Said) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("model".to_owned(), model.into());
    line.insert("created_at".to_owned(), now().into());
    let thinking = Some(said.thinking).filter(|text| !text.is_empty());
    let calls: Vec<_> = said
        .tool_calls
        .into_iter()
        .enumerate()
        .map(tool_call)
        .collect();
    match kind {
        Kind::Generate => {
            line.insert("response".to_owned(), said.content.into());
            line.extend(thinking.map(|text| ("thinking".to_owned(), text.into())));
        }
        Kind::Chat => {
            let mut message = Map::new();
            message.insert("role".to_owned(), "assistant".into());
            message.insert("content".to_owned(), said.content.into());
            message.extend(thinking.map(|text| ("thinking".to_owned(), text.into())));
            if !calls.is_empty() {
                message.insert("tool_calls".to_owned(), calls.into());
            }
            line.insert("message".to_owned(), message.into());
        }
    }
    line.insert("done".to_owned(), false.into());
    if !said.tokens.is_empty() {
        line.insert("logprobs".to_owned(), logprobs(&said.tokens));
    }
    line
}

/// Makes a line the last.
fn finish(line: &mut Map<String, Value>, reason: &str, usage: &Usage, started: Instant) {
    let mut add = |name: &str, value: Value| line.insert(name.to_owned(), value);
    add("done", true.into());
    add("done_reason", reason.into());
    add("total_duration", ns(started.elapsed()).into());
    add("load_duration", ns(usage.load).into());
    add("prompt_eval_count", usage.prompt_tokens.into());
    add("prompt_eval_duration", ns(usage.prefill).into());
    add("eval_count", usage.completion_tokens.into());
    add("eval_duration", ns(usage.decode).into());
    if let Some(troika) = report::troika(usage) {
        add(report::FIELD, troika);
    }
}

fn done_reason(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::Length => "length",
        FinishReason::EndOfText | FinishReason::StopString(_) | FinishReason::ToolCalls => "stop",
    }
}

/// A call with its arguments as an object: clients of this interface do not parse them.
fn tool_call((index, call): (usize, ToolCall)) -> Value {
    let arguments = match call.function.arguments {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    };
    let arguments = match arguments {
        object @ Value::Object(_) => object,
        Value::Null => json!({}),
        // What the model wrote is no object, and clients take nothing else.
        other => json!({ "arguments": other }),
    };
    let mut value = json!({
        "function": {"index": index, "name": call.function.name, "arguments": arguments},
    });
    if let Some(id) = call.id {
        value["id"] = id.into();
    }
    value
}
