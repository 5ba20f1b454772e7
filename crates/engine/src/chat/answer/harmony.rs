//! Answers of several messages, each with a header that names its channel and, if it is a call, its recipient.
//!
//! `<|channel|>analysis<|message|>thought<|end|><|start|>assistant<|channel|>commentary to=functions.f
//! <|constrain|>json<|message|>{..}<|call|>`. The token that ends an answer is no text, so the last message may have no
//! end.

use serde_json::Value;

use super::Parts;
use super::call::new;
use super::search::{Beginning, Sighting, begins, first_mark};
use super::tools::Tools;

/// A header of more bytes is none.
const HEADER_BYTES_MAX: usize = 512;

/// A call of more bytes than this is none.
const CALL_BYTES_MAX: usize = 1 << 20;

const START: &str = "<|start|>";
const MESSAGE: &str = "<|message|>";
const CHANNEL: &str = "<|channel|>";

/// What ends a message. The last two begin the next one's header.
const ENDS: [&str; 5] = ["<|end|>", "<|call|>", "<|return|>", START, CHANNEL];

/// How a header may begin.
const HEADERS: [&str; 6] = [START, CHANNEL, MESSAGE, "<|constrain|>", "assistant", "to="];

/// Takes an answer of several messages apart.
#[derive(Clone, Debug)]
pub(super) struct Harmony {
    tools: Tools,
    message: Message,
    /// Text that has not gone out.
    buffer: String,
    /// What of it holds no mark for certain.
    seen: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Message {
    /// Its header is being written.
    Header,
    Thought,
    Content,
    /// A call of this tool, whose header has so many bytes.
    Call {
        name: String,
        header: usize,
    },
}

impl Harmony {
    pub(super) fn new(prompt_tail: &str, tools: Tools) -> Self {
        let open = prompt_tail.rfind(START).map_or("", |at| &prompt_tail[at..]);
        let message = match open.split_once(MESSAGE) {
            // The prompt ends within a message, which the answer goes on with.
            Some((header, _)) => Message::of(header, &tools, 0),
            None => Message::Header,
        };
        Self {
            tools,
            message,
            buffer: String::new(),
            seen: 0,
        }
    }

    pub(super) fn in_reasoning(&self) -> bool {
        self.message == Message::Thought
    }

    pub(super) fn push(&mut self, text: &str, out: &mut Parts) {
        self.buffer.push_str(text);
        while self.step(out) {}
    }

    pub(super) fn finish(self, out: &mut Parts) {
        match self.message {
            // A header that was cut off says nothing.
            Message::Header if self.buffer.trim_start().starts_with("<|") => {}
            Message::Header | Message::Content => out.content(&self.buffer),
            Message::Thought => out.reasoning(&self.buffer),
            Message::Call { .. } => self.end_call(self.buffer.len(), self.buffer.len(), out),
        }
    }

    /// Whether there may be more to do with the text there is.
    fn step(&mut self, out: &mut Parts) -> bool {
        match self.message {
            Message::Header => self.header(out),
            Message::Thought | Message::Content | Message::Call { .. } => self.body(out),
        }
    }

    fn header(&mut self, out: &mut Parts) -> bool {
        let text = &self.buffer;
        let inner = text.trim_start();
        if inner.is_empty() && text.len() < HEADER_BYTES_MAX {
            return false;
        }
        let beginnings = HEADERS.map(|mark| begins(inner, mark));
        if beginnings
            .iter()
            .all(|beginning| *beginning == Beginning::No)
        {
            // An answer with no header at all.
            self.message = Message::Content;
            self.seen = 0;
            return true;
        }
        let head = &text[..text.floor_char_boundary(HEADER_BYTES_MAX)];
        match first_mark(&head[self.seen..], std::iter::once(MESSAGE)) {
            Sighting::Mark(_, start) => {
                let end = self.seen + start;
                let body = end + MESSAGE.len();
                self.message = Message::of(&text[..end], &self.tools, body);
                self.seen = match self.message {
                    Message::Call { .. } => body,
                    _ => {
                        self.buffer.drain(..body);
                        0
                    }
                };
                true
            }
            Sighting::Maybe(_) if text.len() >= HEADER_BYTES_MAX => {
                let length = head.len();
                out.content(head);
                self.buffer.drain(..length);
                self.message = Message::Content;
                self.seen = 0;
                true
            }
            Sighting::Maybe(start) => {
                self.seen += start;
                false
            }
        }
    }

    fn body(&mut self, out: &mut Parts) -> bool {
        let limit = match self.message {
            Message::Call { header, .. } => header + CALL_BYTES_MAX,
            _ => usize::MAX,
        };
        let text = &self.buffer[..self.buffer.floor_char_boundary(limit)];
        let (mut end, mark) = match first_mark(&text[self.seen..], ENDS.into_iter()) {
            Sighting::Mark(index, start) => (self.seen + start, Some(ENDS[index])),
            Sighting::Maybe(start) => (self.seen + start, None),
        };
        // A mark that begins a header is a part of it.
        let behind = match mark {
            Some(START | CHANNEL) | None => end,
            Some(mark) => end + mark.len(),
        };
        match (&self.message, mark) {
            (Message::Thought, _) => out.reasoning(&text[..end]),
            (Message::Call { .. }, Some(_)) => self.end_call(end, behind, out),
            (Message::Call { .. }, None) if self.buffer.len() < limit => {
                self.seen = end;
                return false;
            }
            (Message::Call { .. }, None) => {
                end = text.len();
                out.content(text);
                self.message = Message::Content;
            }
            (Message::Content | Message::Header, _) => out.content(&text[..end]),
        }
        self.seen = 0;
        self.buffer.drain(..behind.max(end));
        if mark.is_some() {
            self.message = Message::Header;
        }
        mark.is_some() || !self.buffer.is_empty() && end > 0
    }

    /// A call's arguments end at `end`, with their mark at `behind`.
    fn end_call(&self, end: usize, behind: usize, out: &mut Parts) {
        let Message::Call { name, header } = &self.message else {
            return;
        };
        let arguments = &self.buffer[*header..end];
        let call = match arguments.trim() {
            "" => new(name, Value::Null),
            text => match serde_json::from_str(text) {
                Ok(arguments @ Value::Object(_)) => new(name, arguments),
                _ => None,
            },
        };
        match call {
            Some(call) => out.calls(vec![call]),
            None => out.content(&self.buffer[..behind]),
        }
    }
}

impl Message {
    /// By its header, which has `bytes` bytes with its mark.
    fn of(header: &str, tools: &Tools, bytes: usize) -> Self {
        let mut words = header.split([' ', '\n', '<']);
        let recipient = words.find_map(|word| word.strip_prefix("to="));
        let function = recipient.and_then(|recipient| {
            let function = recipient.strip_prefix("functions.");
            function.or_else(|| tools.get(recipient).map(|tool| tool.name.as_str()))
        });
        match function {
            Some(name) if !tools.is_empty() => {
                return Self::Call {
                    name: name.to_owned(),
                    header: bytes,
                };
            }
            _ => {}
        }
        let channel = header.split_once(CHANNEL).map_or("", |(_, rest)| rest);
        if channel.trim_start().starts_with("analysis") {
            Self::Thought
        } else {
            Self::Content
        }
    }
}
