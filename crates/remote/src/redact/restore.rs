//! Putting back into an answer what was taken out of its prompt, as the answer comes.
//!
//! A placeholder may be cut anywhere between two pieces of text: what may be the beginning of one is held back until it is
//! known. Models change a little what they repeat, so that `[Email 1]` and `[ EMAIL_1 ]` are known as well; what nobody
//! coined stays as it is.

use std::collections::BTreeMap;
use std::mem;

use serde_json::Value;
use troika_job::{Completed, Delta, Event, FinishReason, Part};

use super::placeholder::{KINDS, Mark, Placeholders, word};

/// Spaces that are bearable at one place in a placeholder, and digits of its number.
const SPACES: usize = 2;
const DIGITS: usize = 6;

/// What a text begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A placeholder.
    Mark {
        mark: Mark,
        /// Its bytes.
        length: usize,
    },
    /// What may become one.
    Beginning,
    /// Something else.
    Other,
}

/// Reads a placeholder at the beginning of a text that begins with `[`.
pub(super) fn step(text: &str) -> Step {
    let bytes = text.as_bytes();
    let mut at = 1;
    let spaces = |at: &mut usize, also: &[u8], most: usize| {
        let start = *at;
        let is = |b: &u8| matches!(b, b' ' | b'\t' | b'\n') || also.contains(b);
        while *at - start < most && bytes.get(*at).is_some_and(is) {
            *at += 1;
        }
    };
    spaces(&mut at, b"", SPACES);
    let letters = bytes[at.min(bytes.len())..]
        .iter()
        .take_while(|b| b.is_ascii_alphabetic())
        .count();
    let said = text[at.min(text.len())..][..letters].to_ascii_uppercase();
    let ends = |at: usize| at == bytes.len();
    let Some(kind) = KINDS.into_iter().find(|kind| word(*kind) == said) else {
        let begins = ends(at + letters) && KINDS.iter().any(|kind| word(*kind).starts_with(&said));
        return if begins { Step::Beginning } else { Step::Other };
    };
    at += letters;
    // Markdown's own sign before the underscore, twice in JSON.
    spaces(&mut at, b"_-\\", SPACES + 2);
    let digits = bytes[at..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .take(DIGITS)
        .count();
    let number = text[at..at + digits].parse();
    at += digits;
    if let Ok(number) = number {
        spaces(&mut at, b"", SPACES);
        if bytes.get(at) == Some(&b']') {
            return Step::Mark {
                mark: (kind, number),
                length: at + 1,
            };
        }
    }
    if ends(at) {
        Step::Beginning
    } else {
        Step::Other
    }
}

/// What is held back of an answer.
#[derive(Clone, Debug, Default)]
struct Held {
    content: String,
    reasoning: String,
}

/// Puts back what was taken out, into what one endpoint answers.
#[derive(Debug)]
pub struct Restorer {
    known: Placeholders,
    /// By the answers' numbers.
    held: BTreeMap<usize, Held>,
}

impl Restorer {
    pub(super) fn new(known: Placeholders) -> Self {
        Self {
            known,
            held: BTreeMap::new(),
        }
    }

    /// What becomes of an event: nothing while all of it is held back, and a further piece of text before an end. Tokens that
    /// are reported with their log-probabilities stay as they came.
    pub fn event(&mut self, event: Event) -> Vec<Event> {
        match event {
            Event::Delta(delta) => {
                let delta = self.delta(delta);
                let is_empty = delta.parts.is_empty() && delta.tokens.is_empty();
                if is_empty {
                    Vec::new()
                } else {
                    vec![Event::Delta(delta)]
                }
            }
            Event::Finished { choice, finish } => {
                let mut events: Vec<_> = self.rest(choice).into_iter().collect();
                let finish = self.finish(finish);
                events.push(Event::Finished { choice, finish });
                events
            }
            Event::Done(usage) => {
                let mut events = self.end();
                events.push(Event::Done(usage));
                events
            }
            event => vec![event],
        }
    }

    /// What is still held back, where an answer ends without saying so.
    pub fn end(&mut self) -> Vec<Event> {
        let choices: Vec<_> = self.held.keys().copied().collect();
        choices
            .into_iter()
            .filter_map(|choice| self.rest(choice))
            .collect()
    }

    /// The same for an answer that is there as a whole.
    pub fn completed(&self, mut completed: Completed) -> Completed {
        for choice in &mut completed.choices {
            choice.content = self.whole(&choice.content, self.known.in_json);
            choice.reasoning = self.whole(&choice.reasoning, false);
            for call in &mut choice.tool_calls {
                self.arguments(&mut call.function.arguments);
            }
            choice.finish = self.finish(choice.finish.clone());
        }
        completed
    }

    fn finish(&self, finish: FinishReason) -> FinishReason {
        match finish {
            FinishReason::StopString(text) => FinishReason::StopString(self.whole(&text, false)),
            finish => finish,
        }
    }

    fn delta(&mut self, delta: Delta) -> Delta {
        let mut held = self.held.remove(&delta.choice).unwrap_or_default();
        let mut parts = Vec::new();
        for part in delta.parts {
            match part {
                Part::Content(text) => {
                    parts.extend(self.flushed(&mut held.reasoning).map(Part::Reasoning));
                    held.content.push_str(&text);
                    let text = self.ready(&mut held.content, self.known.in_json);
                    parts.extend(text.map(Part::Content));
                }
                Part::Reasoning(text) => {
                    parts.extend(self.flushed(&mut held.content).map(Part::Content));
                    held.reasoning.push_str(&text);
                    let text = self.ready(&mut held.reasoning, false);
                    parts.extend(text.map(Part::Reasoning));
                }
                Part::ToolCall(mut call) => {
                    parts.extend(self.flushed(&mut held.reasoning).map(Part::Reasoning));
                    parts.extend(self.flushed(&mut held.content).map(Part::Content));
                    self.arguments(&mut call.function.arguments);
                    parts.push(Part::ToolCall(call));
                }
            }
        }
        self.held.insert(delta.choice, held);
        Delta { parts, ..delta }
    }

    /// What was held back of an answer that has ended.
    fn rest(&mut self, choice: usize) -> Option<Event> {
        let mut held = self.held.remove(&choice)?;
        let reasoning = self.flushed(&mut held.reasoning).map(Part::Reasoning);
        let content = self.flushed(&mut held.content).map(Part::Content);
        let parts: Vec<_> = reasoning.into_iter().chain(content).collect();
        let tokens = Vec::new();
        (!parts.is_empty()).then_some(Event::Delta(Delta {
            choice,
            parts,
            tokens,
        }))
    }

    /// What no placeholder begins with after all.
    fn flushed(&self, held: &mut String) -> Option<String> {
        (!held.is_empty()).then(|| mem::take(held))
    }

    /// All of a text but what may be the beginning of a placeholder, which stays there.
    fn ready(&self, held: &mut String, in_json: bool) -> Option<String> {
        let text = mem::take(held);
        let mut out = String::new();
        let mut rest = &*text;
        while let Some(at) = rest.find('[') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            match step(rest) {
                Step::Mark { mark, length } => {
                    match self.known.value(mark) {
                        Some(value) if in_json => out.push_str(&escaped(value)),
                        Some(value) => out.push_str(value),
                        None => out.push_str(&rest[..length]),
                    }
                    rest = &rest[length..];
                }
                Step::Beginning => break,
                Step::Other => {
                    out.push('[');
                    rest = &rest[1..];
                }
            }
        }
        if !rest.starts_with('[') {
            out.push_str(rest);
            rest = "";
        }
        rest.clone_into(held);
        (!out.is_empty()).then_some(out)
    }

    fn whole(&self, text: &str, in_json: bool) -> String {
        let mut held = text.to_owned();
        let mut out = self.ready(&mut held, in_json).unwrap_or_default();
        out.push_str(&held);
        out
    }

    /// Arguments of a call, as an object or as JSON in a text.
    fn arguments(&self, arguments: &mut Value) {
        match arguments {
            Value::String(text) => *text = self.whole(text, true),
            arguments => self.value(arguments),
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => *text = self.whole(text, false),
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            Value::Object(fields) => {
                let own = mem::take(fields);
                *fields = own
                    .into_iter()
                    .map(|(key, mut value)| {
                        self.value(&mut value);
                        (self.whole(&key, false), value)
                    })
                    .collect();
            }
        }
    }
}

/// A text as it is written inside JSON's quotes.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
