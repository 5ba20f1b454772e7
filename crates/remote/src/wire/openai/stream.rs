//! Chunks of a chat completion, or of a completion, as they come.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use troika_job::{Delta, Event, FinishReason, Part, TokenLogprob};

use crate::wire::calls::Calls;
use crate::wire::{Counts, Fault, Frame, NO_TOKEN, Reader, Refusal, say};

/// Reads chunks.
#[derive(Debug)]
pub(in crate::wire) struct Stream {
    answers: Range<usize>,
    choices: Vec<Progress>,
    counts: Counts,
    over: bool,
}

/// What came of a choice.
#[derive(Debug, Default)]
struct Progress {
    calls: Calls,
    finished: bool,
}

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: usize,
    delta: Option<Message>,
    /// Of plain completions.
    text: Option<String>,
    logprobs: Option<Logprobs>,
    finish_reason: Option<String>,
    /// vLLM: the stop string that came up, or the token's number.
    stop_reason: Option<Value>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    /// What some call `reasoning`.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Piece>>,
}

#[derive(Deserialize)]
struct Piece {
    /// Some servers leave it out where there is one call.
    index: Option<usize>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<Value>,
}

/// In the form of conversations (`content`), or in that of plain completions (the others).
#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Token>>,
    tokens: Option<Vec<String>>,
    token_logprobs: Option<Vec<Option<f32>>>,
    top_logprobs: Option<Vec<Option<BTreeMap<String, f32>>>>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Vec<Self>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<usize>,
    completion_tokens: Option<usize>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<usize>,
}

impl Stream {
    /// What reads these of the job's answers.
    pub(in crate::wire) fn new(answers: Range<usize>) -> Self {
        Self {
            choices: answers.clone().map(|_| Progress::default()).collect(),
            answers,
            counts: Counts::default(),
            over: false,
        }
    }

    fn choice(&mut self, choice: Choice, said: &mut Vec<Event>) -> Result<(), Fault> {
        let n = self.choices.len();
        let Some(progress) = self.choices.get_mut(choice.index) else {
            let message = format!("it gives an answer {} of {n}", choice.index);
            return Err(Fault::Garbled(message));
        };
        let mut delta = Delta {
            choice: self.answers.start + choice.index,
            ..Delta::default()
        };
        say(&mut delta, Part::Content, choice.text);
        if let Some(message) = choice.delta {
            say(
                &mut delta,
                Part::Reasoning,
                message.reasoning_content.or(message.reasoning),
            );
            say(&mut delta, Part::Content, message.content);
            // In its own words why it does not answer: they are the answer.
            say(&mut delta, Part::Content, message.refusal);
            for piece in message.tool_calls.unwrap_or_default() {
                let calls = piece.into_calls(&mut progress.calls)?;
                delta.parts.extend(calls.into_iter().map(Part::ToolCall));
            }
        }
        delta.tokens = choice.logprobs.map(tokens).unwrap_or_default();
        let finish = match choice.finish_reason.as_deref() {
            Some("content_filter") => return Err(Fault::Withheld),
            Some(word) if !word.is_empty() && !progress.finished => {
                let calls = progress.calls.finish()?;
                let calls_tools = !calls.is_empty();
                delta.parts.extend(calls.into_iter().map(Part::ToolCall));
                progress.finished = true;
                Some(finish(word, choice.stop_reason, calls_tools))
            }
            _ => None,
        };
        let index = delta.choice;
        if !delta.parts.is_empty() || !delta.tokens.is_empty() {
            said.push(Event::Delta(delta));
        }
        said.extend(finish.map(|finish| Event::Finished {
            choice: index,
            finish,
        }));
        Ok(())
    }
}

impl Reader for Stream {
    fn read(&mut self, frame: &Frame, said: &mut Vec<Event>) -> Result<(), Fault> {
        if frame.data == "[DONE]" {
            self.over = true;
            return Ok(());
        }
        let value: Value = serde_json::from_str(&frame.data)
            .map_err(|_| Fault::Garbled("a piece of its answer is no JSON".to_owned()))?;
        let has_error = value.get("error").is_some_and(|it| !it.is_null());
        if (has_error || value.get("choices").is_none())
            && let Some(refusal) = Refusal::of(&value)
        {
            return Err(Fault::Refused(refusal));
        }
        let chunk: Chunk = serde_json::from_value(value).map_err(|_| {
            Fault::Garbled("a piece of its answer is no chunk of a completion".to_owned())
        })?;
        if let Some(usage) = chunk.usage {
            usage.add_to(&mut self.counts);
        }
        for choice in chunk.choices.unwrap_or_default() {
            self.choice(choice, said)?;
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn is_complete(&self) -> bool {
        self.choices.iter().all(|it| it.finished)
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

impl Piece {
    fn into_calls(self, calls: &mut Calls) -> Result<Vec<troika_engine::chat::ToolCall>, Fault> {
        let function = self.function.unwrap_or(Function {
            name: None,
            arguments: None,
        });
        let arguments = match function.arguments {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(object) => object.to_string(),
        };
        let index = self.index.unwrap_or(0);
        calls.add(
            index,
            self.id.as_deref(),
            function.name.as_deref(),
            &arguments,
        )
    }
}

/// An answer that calls tools ends in `stop` with some servers.
fn finish(word: &str, stop_reason: Option<Value>, calls_tools: bool) -> FinishReason {
    match (word, stop_reason) {
        ("length", _) => FinishReason::Length,
        ("tool_calls" | "function_call", _) => FinishReason::ToolCalls,
        (_, Some(Value::String(stop))) => FinishReason::StopString(stop),
        _ if calls_tools => FinishReason::ToolCalls,
        _ => FinishReason::EndOfText,
    }
}

fn tokens(logprobs: Logprobs) -> Vec<TokenLogprob> {
    if let Some(tokens) = logprobs.content {
        return tokens.into_iter().map(token).collect();
    }
    let texts = logprobs.tokens.unwrap_or_default();
    let logprobs_of = logprobs.token_logprobs.unwrap_or_default();
    let tops = logprobs.top_logprobs.unwrap_or_default();
    let tops = tops.into_iter().map(Option::unwrap_or_default);
    let tops = tops.chain(std::iter::repeat_with(BTreeMap::new));
    let tokens = texts.into_iter().zip(logprobs_of).zip(tops);
    tokens
        .filter_map(|((text, logprob), top)| {
            let mut top: Vec<_> = top
                .into_iter()
                .map(|(text, logprob)| plain(text, logprob))
                .collect();
            top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
            // The first token of a whole text has none, as nothing comes before it.
            Some(TokenLogprob {
                top,
                ..plain(text, logprob?)
            })
        })
        .collect()
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

fn plain(text: String, logprob: f32) -> TokenLogprob {
    TokenLogprob {
        id: NO_TOKEN,
        bytes: text.into_bytes(),
        logprob,
        top: Vec::new(),
    }
}

impl Usage {
    /// Later numbers replace earlier ones: they are of all that was done until then.
    fn add_to(self, counts: &mut Counts) {
        let cached = self.prompt_tokens_details.and_then(|it| it.cached_tokens);
        let reasoning = self
            .completion_tokens_details
            .and_then(|it| it.reasoning_tokens);
        *counts = Counts {
            prompt: self.prompt_tokens.or(counts.prompt),
            cached: cached.or(counts.cached),
            completion: self.completion_tokens.or(counts.completion),
            reasoning: reasoning.or(counts.reasoning),
        };
    }
}
