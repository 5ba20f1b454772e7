//! Where JSON ends. Whether it is right is for its parser to say.

use std::ops::Range;

use super::{Extent, Progress};

/// How deep JSON may be nested.
pub(in super::super) const DEPTH_MAX: usize = 64;

/// Keys that a call may begin with. Any other begins JSON that is somebody's answer.
const FIRST_KEYS: [&str; 9] = [
    "name",
    "arguments",
    "parameters",
    "type",
    "function",
    "id",
    "tool_name",
    "tool_call_id",
    "tool_calls",
];

/// Finds the end of JSON.
#[derive(Clone, Debug)]
pub(super) struct JsonScan {
    head: Range<usize>,
    start: usize,
    /// The closing brackets that are awaited.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    first_key: FirstKey,
}

/// Whether the first key tells that this is a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstKey {
    /// It does not matter, or it does.
    Fine,
    Awaited,
    /// It begins at this byte.
    Begun(usize),
}

impl JsonScan {
    /// `at` is where the JSON begins. If `calls_only`, its first key must be one of a call.
    pub(super) fn new(head: Range<usize>, at: usize, calls_only: bool) -> Self {
        Self {
            head,
            start: at,
            open: Vec::new(),
            in_string: false,
            escaped: false,
            first_key: if calls_only {
                FirstKey::Awaited
            } else {
                FirstKey::Fine
            },
        }
    }

    pub(super) fn advance(&mut self, text: &str, at: &mut usize) -> Progress {
        while let Some(&byte) = text.as_bytes().get(*at) {
            let fine = if self.in_string {
                self.in_string(text, byte, *at)
            } else {
                self.outside(byte, *at)
            };
            if !fine {
                return Progress::Broken(*at);
            }
            *at += 1;
            if self.open.is_empty() {
                let extent = Extent::Json {
                    head: self.head.clone(),
                    json: self.start..*at,
                };
                return Progress::Done(*at, extent);
            }
        }
        Progress::More
    }

    fn in_string(&mut self, text: &str, byte: u8, at: usize) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.in_string = false;
                if let FirstKey::Begun(start) = self.first_key {
                    self.first_key = FirstKey::Fine;
                    return FIRST_KEYS.contains(&&text[start..at]);
                }
            }
            // JSON escapes these.
            0..0x20 => return false,
            _ => {}
        }
        true
    }

    fn outside(&mut self, byte: u8, at: usize) -> bool {
        let awaits_key = self.first_key == FirstKey::Awaited;
        match byte {
            b'{' | b'[' => {
                self.open.push(if byte == b'{' { b'}' } else { b']' });
                self.open.len() <= DEPTH_MAX
            }
            b'}' | b']' => self.open.pop() == Some(byte) && !awaits_key,
            b'"' => {
                self.in_string = true;
                if awaits_key {
                    self.first_key = FirstKey::Begun(at + 1);
                }
                !awaits_key || self.open.last() == Some(&b'}')
            }
            b' ' | b'\n' | b'\r' | b'\t' => true,
            b',' | b':' | b'-' | b'+' | b'.' => !awaits_key,
            _ => byte.is_ascii_alphanumeric() && !awaits_key,
        }
    }
}
