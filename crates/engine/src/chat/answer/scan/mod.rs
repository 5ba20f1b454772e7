//! Where a call ends: readers of what stands between its marks, which go on when more of it comes.
//!
//! They find extents and check no more than they must for that; `call` makes calls of what they find. Every reader
//! decides by the bytes up to its position, so that it does not matter how the text was cut.

mod json;
mod pairs;

use std::ops::Range;

use super::call::name_in_head;
use super::family::{Body, CallForm};
use super::search::{Beginning, begins};
pub(super) use json::DEPTH_MAX;
use json::JsonScan;
use pairs::{FUNCTIONS, KEYS_AND_VALUES, PairScan};

/// What stands between a call's opening mark and its JSON: a name and marks.
const HEAD_BYTES_MAX: usize = 512;

/// What a reader says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The text so far is the beginning of a call.
    More,
    /// The call ends at this byte.
    Done(usize, Extent),
    /// The text is no call; at this byte it shows.
    Broken(usize),
}

/// Where the parts of a call are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// JSON of calls, or of the arguments where the head holds a name.
    Json {
        head: Range<usize>,
        json: Range<usize>,
    },
    /// A name, and keys with values as plain text. If `lines`, a value stands on lines of its own.
    Pairs {
        name: Range<usize>,
        pairs: Vec<(Range<usize>, Range<usize>)>,
        lines: bool,
    },
    /// `call:name{key:value}`.
    Quoted {
        body: Range<usize>,
        quote: &'static str,
    },
}

/// Reads one call of a form. It is given all text behind the opening mark, each time a longer one.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    form: CallForm,
    at: usize,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Nothing but space so far.
    Start,
    /// A name and marks ahead of JSON.
    Head,
    Json(JsonScan),
    Pairs(PairScan),
    /// Within quotes or outside of them.
    Quoted {
        inside: bool,
    },
}

impl Scanner {
    pub(super) fn new(form: CallForm) -> Self {
        Self {
            form,
            at: 0,
            phase: match form.body {
                Body::Tagged => Phase::Start,
                Body::Json | Body::Bare => Phase::Head,
                Body::Function => Phase::Pairs(PairScan::new(&FUNCTIONS, 0)),
                Body::Quoted(_) => Phase::Quoted { inside: false },
            },
        }
    }

    pub(super) fn advance(&mut self, text: &str) -> Progress {
        loop {
            let progress = match &mut self.phase {
                Phase::Start => self.start(text),
                Phase::Head => self.head(text),
                Phase::Json(scan) => return scan.advance(text, &mut self.at),
                Phase::Pairs(scan) => match scan.advance(text, &mut self.at) {
                    Ok(progress) => return progress,
                    Err(head) => {
                        self.phase = Phase::Json(JsonScan::new(head, self.at, false));
                        None
                    }
                },
                Phase::Quoted { inside } => match self.form.body {
                    Body::Quoted(quote) => {
                        return quoted(text, self.form.close, quote, inside, &mut self.at);
                    }
                    _ => return Progress::Broken(self.at),
                },
            };
            if let Some(progress) = progress {
                return progress;
            }
        }
    }

    /// Which of the three ways of `<tool_call>` it is.
    fn start(&mut self, text: &str) -> Option<Progress> {
        skip_space(text, &mut self.at);
        let rest = &text[self.at..];
        let Some(first) = rest.chars().next() else {
            return Some(Progress::More);
        };
        self.phase = match first {
            '{' | '[' => Phase::Json(JsonScan::new(self.at..self.at, self.at, false)),
            '<' => match begins(rest, "<function=") {
                Beginning::Yes => {
                    self.at += "<function=".len();
                    Phase::Pairs(PairScan::new(&FUNCTIONS, self.at))
                }
                Beginning::Maybe => return Some(Progress::More),
                Beginning::No => return Some(Progress::Broken(self.at)),
            },
            c if c.is_alphanumeric() || c == '_' => {
                Phase::Pairs(PairScan::new(&KEYS_AND_VALUES, self.at))
            }
            _ => return Some(Progress::Broken(self.at)),
        };
        None
    }

    fn head(&mut self, text: &str) -> Option<Progress> {
        let bare = self.form.body == Body::Bare;
        while self.at < text.len() {
            let rest = &text[self.at..];
            let head = &text[..self.at];
            match rest.as_bytes()[0] {
                b'{' | b'[' if name_in_head(head) == Some(None) => {
                    self.phase = Phase::Json(JsonScan::new(0..self.at, self.at, bare));
                    return None;
                }
                b'{' if !bare && name_in_head(head).is_some() => {
                    self.phase = Phase::Json(JsonScan::new(0..self.at, self.at, false));
                    return None;
                }
                b'{' => return Some(Progress::Broken(self.at)),
                b'<' | b'[' => {
                    let marks = [self.form.open, self.form.close];
                    for mark in marks.into_iter().filter(|mark| !mark.is_empty()) {
                        match begins(rest, mark) {
                            Beginning::Yes => return Some(Progress::Broken(self.at)),
                            Beginning::Maybe => return Some(Progress::More),
                            Beginning::No => {}
                        }
                    }
                }
                _ => {}
            }
            if self.at >= HEAD_BYTES_MAX || bare && !may_fence(text, self.at) {
                return Some(Progress::Broken(self.at));
            }
            self.at += rest.chars().next().map_or(1, char::len_utf8);
        }
        Some(Progress::More)
    }
}

/// Whether the text up to and with the character at `at` may open a block of code that holds JSON.
fn may_fence(text: &str, at: usize) -> bool {
    let end = text.ceil_char_boundary(at + 1);
    let head = text[..end].trim_start();
    "```json".starts_with(head.trim_end()) || head.trim_end() == "```"
}

/// Finds the closing mark outside of quotes.
fn quoted(
    text: &str,
    close: &str,
    quote: &'static str,
    inside: &mut bool,
    at: &mut usize,
) -> Progress {
    while let Some(index) = text[*at..].find('<') {
        *at += index;
        let rest = &text[*at..];
        match (begins(rest, quote), begins(rest, close)) {
            (Beginning::Yes, _) => {
                *inside = !*inside;
                *at += quote.len();
            }
            (_, Beginning::Yes) if !*inside => {
                return Progress::Done(
                    *at,
                    Extent::Quoted {
                        body: 0..*at,
                        quote,
                    },
                );
            }
            (Beginning::Maybe, _) => return Progress::More,
            (_, Beginning::Maybe) if !*inside => return Progress::More,
            _ => *at += 1,
        }
    }
    *at = text.len();
    Progress::More
}

pub(super) fn skip_space(text: &str, at: &mut usize) {
    let rest = &text[*at..];
    *at += rest.len() - rest.trim_start().len();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(form: CallForm, text: &str) -> Progress {
        let whole = Scanner::new(form).advance(text);
        let mut scanner = Scanner::new(form);
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            match scanner.advance(&text[..end]) {
                Progress::More => {}
                early => {
                    assert_eq!(early, whole, "at {end} of {text}");
                    return early;
                }
            }
        }
        assert_eq!(scanner.advance(text), whole, "{text}");
        whole
    }

    fn form(body: Body) -> CallForm {
        CallForm {
            open: "<o>",
            body,
            close: "</o>",
        }
    }

    #[test]
    fn json_ends_where_its_brackets_close() {
        let json = |head, json| Extent::Json { head, json };
        assert_eq!(
            scan(form(Body::Tagged), "\n{\"a\": \"}\\\"]\"}\n</o>"),
            Progress::Done(14, json(1..1, 1..14))
        );
        assert_eq!(
            scan(form(Body::Json), "name{\"a\": [1, {}]}x"),
            Progress::Done(18, json(0..4, 4..18))
        );
        assert_eq!(scan(form(Body::Tagged), "{\"a\": [1}"), Progress::Broken(8));
        assert_eq!(
            scan(form(Body::Tagged), "{\"a\": 1</o>"),
            Progress::Broken(7)
        );
        assert_eq!(
            scan(form(Body::Tagged), "{\"a\nb\": 1}"),
            Progress::Broken(3)
        );
        assert_eq!(scan(form(Body::Tagged), "{\"a\""), Progress::More);
        let deep = "[".repeat(DEPTH_MAX + 1);
        assert_eq!(scan(form(Body::Tagged), &deep), Progress::Broken(DEPTH_MAX));
    }

    #[test]
    fn bare_json_must_begin_like_a_call() {
        let bare = |text| scan(form(Body::Bare), text);
        assert!(matches!(bare("{\"name\": \"f\"}"), Progress::Done(13, _)));
        assert!(matches!(bare("[{\"name\": \"f\"}]"), Progress::Done(15, _)));
        assert!(matches!(
            bare("```json\n{\"name\": 1}"),
            Progress::Done(19, _)
        ));
        assert_eq!(bare("{\"city\": \"f\"}"), Progress::Broken(6));
        assert_eq!(bare("{x"), Progress::Broken(1));
        assert_eq!(bare("[1]"), Progress::Broken(1));
        assert_eq!(bare("[\"name\""), Progress::Broken(1));
        assert_eq!(bare("```py\n{"), Progress::Broken(3));
    }

    #[test]
    fn heads_are_bounded() {
        let long = "a".repeat(HEAD_BYTES_MAX + 8);
        assert_eq!(
            scan(form(Body::Json), &long),
            Progress::Broken(HEAD_BYTES_MAX)
        );
        assert_eq!(
            scan(form(Body::Function), &long),
            Progress::Broken(HEAD_BYTES_MAX)
        );
        assert_eq!(scan(form(Body::Json), "name</o>{}"), Progress::Broken(4));
    }

    #[test]
    fn functions_and_pairs() {
        let text = "f>\n<parameter=a>\n<x>\n</parameter></function>";
        let extent = Extent::Pairs {
            name: 0..1,
            pairs: vec![(14..15, 16..21)],
            lines: true,
        };
        assert_eq!(
            scan(form(Body::Function), text),
            Progress::Done(text.len(), extent)
        );
        let text = "f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value></tool_call>";
        let extent = Extent::Pairs {
            name: 0..1,
            pairs: vec![(11..12, 34..35)],
            lines: false,
        };
        assert_eq!(
            scan(form(Body::Tagged), text),
            Progress::Done(text.len(), extent)
        );
        assert_eq!(scan(form(Body::Function), "f>text"), Progress::Broken(2));
        assert!(matches!(
            scan(form(Body::Function), "f>{\"a\": 1}</function>"),
            Progress::Done(10, Extent::Json { .. })
        ));
    }

    #[test]
    fn quotes_hide_a_closing_mark() {
        let form = CallForm {
            open: "<o>",
            body: Body::Quoted("<q>"),
            close: "</o>",
        };
        assert!(matches!(
            scan(form, "call:f{a:<q></o><q>}</o>"),
            Progress::Done(20, Extent::Quoted { .. })
        ));
        assert_eq!(scan(form, "call:f{a:<q></o>"), Progress::More);
    }
}
