//! Where a call ends: readers of what stands between its marks, which go on when more of it comes.
//!
//! They find extents and check no more than they must for that; `call` makes calls of what they find. Every reader
//! decides by the bytes up to its position, so that it does not matter how the text was cut.

use std::ops::Range;

use super::call::name_in_head;
use super::family::{Body, CallForm};
use super::search::{Beginning, begins, find_from};

/// How deep JSON may be nested.
pub(super) const DEPTH_MAX: usize = 64;

/// What stands between a call's opening mark and its JSON: a name and marks.
const HEAD_BYTES_MAX: usize = 512;

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
#[derive(Debug)]
pub(super) struct Scanner {
    form: CallForm,
    at: usize,
    phase: Phase,
}

#[derive(Debug)]
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

/// Finds the end of JSON.
#[derive(Debug)]
struct JsonScan {
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
    fn new(head: Range<usize>, at: usize, calls_only: bool) -> Self {
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

    fn advance(&mut self, text: &str, at: &mut usize) -> Progress {
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

/// Marks of keys and values.
#[derive(Debug)]
struct PairSyntax {
    /// Whether `>` ends the name. Else it ends with its line or where a mark begins.
    name_in_mark: bool,
    open: &'static str,
    key_end: &'static str,
    /// Between key and value.
    gap: &'static str,
    value_end: &'static str,
    end: &'static str,
}

const FUNCTIONS: PairSyntax = PairSyntax {
    name_in_mark: true,
    open: "<parameter=",
    key_end: ">",
    gap: "",
    value_end: "</parameter>",
    end: "</function>",
};

const KEYS_AND_VALUES: PairSyntax = PairSyntax {
    name_in_mark: false,
    open: "<arg_key>",
    key_end: "</arg_key>",
    gap: "<arg_value>",
    value_end: "</arg_value>",
    end: "</tool_call>",
};

/// Finds a name, keys and values.
#[derive(Debug)]
struct PairScan {
    syntax: &'static PairSyntax,
    /// Where the current piece begins.
    start: usize,
    piece: Piece,
    name: Range<usize>,
    key: Range<usize>,
    pairs: Vec<(Range<usize>, Range<usize>)>,
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Name,
    Item,
    Key,
    Gap,
    Value,
}

impl PairScan {
    fn new(syntax: &'static PairSyntax, start: usize) -> Self {
        Self {
            syntax,
            start,
            piece: Piece::Name,
            name: start..start,
            key: 0..0,
            pairs: Vec::new(),
        }
    }

    /// # Errors
    /// With the name's extent, if JSON begins where the first key would.
    fn advance(&mut self, text: &str, at: &mut usize) -> Result<Progress, Range<usize>> {
        loop {
            match self.piece {
                Piece::Name => {
                    let ends: &[char] = match self.syntax.name_in_mark {
                        true => &['>'],
                        false => &['\n', '<'],
                    };
                    let Some(length) = text[*at..].find(ends) else {
                        *at = text.len();
                        let long = *at - self.start > HEAD_BYTES_MAX;
                        let broken =
                            Progress::Broken(text.ceil_char_boundary(self.start + HEAD_BYTES_MAX));
                        return Ok(if long { broken } else { Progress::More });
                    };
                    *at += length;
                    self.name = self.start..*at;
                    if self.name.len() > HEAD_BYTES_MAX {
                        let end = text.ceil_char_boundary(self.start + HEAD_BYTES_MAX);
                        return Ok(Progress::Broken(end));
                    }
                    *at += usize::from(self.syntax.name_in_mark);
                    self.piece = Piece::Item;
                }
                Piece::Item => {
                    skip_space(text, at);
                    let rest = &text[*at..];
                    let open = begins(rest, self.syntax.open);
                    let end = begins(rest, self.syntax.end);
                    match (open, end) {
                        (Beginning::Yes, _) => {
                            *at += self.syntax.open.len();
                            self.start = *at;
                            self.piece = Piece::Key;
                        }
                        (_, Beginning::Yes) => {
                            let extent = Extent::Pairs {
                                name: self.name.clone(),
                                pairs: std::mem::take(&mut self.pairs),
                                lines: self.syntax.name_in_mark,
                            };
                            return Ok(Progress::Done(*at + self.syntax.end.len(), extent));
                        }
                        (Beginning::Maybe, _) | (_, Beginning::Maybe) => {
                            return Ok(Progress::More);
                        }
                        _ if rest.starts_with('{')
                            && self.syntax.name_in_mark
                            && self.pairs.is_empty() =>
                        {
                            return Err(self.name.clone());
                        }
                        _ => return Ok(Progress::Broken(*at)),
                    }
                }
                Piece::Key => {
                    let Some(end) = find_from(text, self.syntax.key_end, at) else {
                        return Ok(Progress::More);
                    };
                    self.key = self.start..end;
                    *at = end + self.syntax.key_end.len();
                    self.piece = Piece::Gap;
                }
                Piece::Gap => {
                    if !self.syntax.gap.is_empty() {
                        skip_space(text, at);
                    }
                    match begins(&text[*at..], self.syntax.gap) {
                        Beginning::Yes => *at += self.syntax.gap.len(),
                        Beginning::Maybe => return Ok(Progress::More),
                        Beginning::No => return Ok(Progress::Broken(*at)),
                    }
                    self.start = *at;
                    self.piece = Piece::Value;
                }
                Piece::Value => {
                    let Some(end) = find_from(text, self.syntax.value_end, at) else {
                        return Ok(Progress::More);
                    };
                    self.pairs.push((self.key.clone(), self.start..end));
                    *at = end + self.syntax.value_end.len();
                    self.piece = Piece::Item;
                }
            }
        }
    }
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
