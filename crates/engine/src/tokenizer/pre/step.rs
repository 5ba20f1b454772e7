//! The steps that pre-tokenizers are made of: hand-written matchers for the patterns that tokenizers publish as
//! regular expressions.
//!
//! Each looks ahead without backtracking, so that a step passes over a text in linear time whatever the text is.

use std::ops::Range;

use super::class;

/// A class of characters.
pub(super) type Class = fn(char) -> bool;

/// One pass over a text: the stretches that match become words, and so does what lies between them.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// `X`: each such character is a word.
    One(Class),
    /// `X+`
    Run(Class),
    /// `\s?X+`
    SpaceRun(Class),
    /// `\s+$`
    TrailingSpace,
    /// `XXX`, and what is left of a run stays together.
    Triple(Class),
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3 {
        /// The most digits in a word.
        digits: usize,
        /// Whether combining marks count as letters.
        marks: bool,
    },
    /// As [`Step::Llama3`], but words also begin where lower case turns into upper case, and punctuation takes slashes
    /// with its line ends:
    /// `[^\r\n\p{L}\p{N}]?U*W+c?|[^\r\n\p{L}\p{N}]?U+W*c?|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n/]*|…`
    /// with `U` = [`class::not_lower`], `W` = [`class::not_upper`], `c` = the contractions of [`Step::Llama3`].
    Gpt4o {
        /// The most digits in a word.
        digits: usize,
        /// Whether a contraction belongs to the word before it (`c`), or is none at all.
        contractions: bool,
    },
}

impl Step {
    /// The first match at or after byte `from`, never empty.
    pub(super) fn find(self, text: &str, from: usize) -> Option<Range<usize>> {
        if let Self::TrailingSpace = self {
            let start = text.trim_end().len().max(from);
            return (start < text.len()).then_some(start..text.len());
        }
        let mut start = from;
        while let Some(c) = char_at(text, start) {
            if let Some(end) = self.match_at(text, start, c) {
                return Some(start..end);
            }
            start += c.len_utf8();
        }
        None
    }

    /// The end of the match that begins at byte `at`, where `c` stands.
    fn match_at(self, text: &str, at: usize, c: char) -> Option<usize> {
        let next = at + c.len_utf8();
        match self {
            Self::One(class) => class(c).then_some(next),
            Self::Run(class) => class(c).then(|| run(text, next, class)),
            Self::SpaceRun(class) => {
                let start = if c.is_whitespace() { next } else { at };
                // A space may itself be of the class, and then needs nothing after it.
                nonempty_run(text, start, class).or_else(|| nonempty_run(text, at, class))
            }
            Self::Triple(class) => {
                let end = run_of_at_most(text, at, 3, class);
                (text[at..end].chars().count() == 3).then_some(end)
            }
            Self::TrailingSpace => unreachable!("found without trying each place"),
            Self::Gpt2 => gpt2(text, at, c),
            Self::Llama3 { digits, marks } => llama3(text, at, c, digits, marks),
            Self::Gpt4o {
                digits,
                contractions,
            } => gpt4o(text, at, c, digits, contractions),
        }
    }
}

fn gpt2(text: &str, at: usize, c: char) -> Option<usize> {
    if let Some(end) = contraction(text, at, false) {
        return Some(end);
    }
    let start = if c == ' ' { at + 1 } else { at };
    [class::letter, class::number, other]
        .into_iter()
        .find_map(|class| nonempty_run(text, start, class))
        .or_else(|| whitespace(text, at))
}

fn llama3(text: &str, at: usize, c: char, digits: usize, marks: bool) -> Option<usize> {
    let letter = if marks { letter_or_mark } else { class::letter };
    let other = if marks { other_but_marks } else { other };
    if let Some(end) = contraction(text, at, true) {
        return Some(end);
    }
    if word_prefix(c)
        && let Some(end) = nonempty_run(text, at + c.len_utf8(), letter)
    {
        return Some(end);
    }
    nonempty_run(text, at, letter)
        .or_else(|| numbers(text, at, c, digits))
        .or_else(|| punctuation(text, at, c, other, class::line_end))
        .or_else(|| line_ends(text, at))
        .or_else(|| whitespace(text, at))
}

fn gpt4o(text: &str, at: usize, c: char, digits: usize, contractions: bool) -> Option<usize> {
    let after_prefix = word_prefix(c).then_some(at + c.len_utf8());
    let starts = || after_prefix.into_iter().chain([at]);
    if let Some(end) = starts()
        .find_map(|start| word_with_tail(text, start))
        .or_else(|| starts().find_map(|start| nonempty_run(text, start, class::not_lower)))
    {
        let contraction = contractions.then(|| contraction(text, end, true)).flatten();
        return Some(contraction.unwrap_or(end));
    }
    let tail = |c| class::line_end(c) || c == '/';
    numbers(text, at, c, digits)
        .or_else(|| punctuation(text, at, c, other, tail))
        .or_else(|| line_ends(text, at))
        .or_else(|| whitespace(text, at))
}

/// `U*W+` of [`Step::Gpt4o`]. The classes overlap, so the longest `U*` may have to give back.
fn word_with_tail(text: &str, start: usize) -> Option<usize> {
    let head_end = run(text, start, class::not_lower);
    nonempty_run(text, head_end, class::not_upper).or_else(|| {
        // The last character of the head that may stand in the tail ends the word: what follows it may not.
        let head = &text[start..head_end];
        let (last, c) = head.char_indices().rfind(|&(_, c)| class::not_upper(c))?;
        Some(start + last + c.len_utf8())
    })
}

/// `[^\r\n\p{L}\p{N}]`: the character that a word may take along.
fn word_prefix(c: char) -> bool {
    !class::line_end(c) && !class::letter(c) && !class::number(c)
}

fn letter_or_mark(c: char) -> bool {
    class::letter(c) || class::mark(c)
}

/// `[^\s\p{L}\p{N}]`
fn other(c: char) -> bool {
    !c.is_whitespace() && !class::letter(c) && !class::number(c)
}

/// `[^\s\p{L}\p{M}\p{N}]`
fn other_but_marks(c: char) -> bool {
    other(c) && !class::mark(c)
}

/// `'s|'t|'re|'ve|'m|'ll|'d`
fn contraction(text: &str, at: usize, any_case: bool) -> Option<usize> {
    let rest = text.as_bytes()[at..].strip_prefix(b"'")?;
    ["s", "t", "re", "ve", "m", "ll", "d"]
        .into_iter()
        .find(|ending| match rest.get(..ending.len()) {
            Some(have) if any_case => have.eq_ignore_ascii_case(ending.as_bytes()),
            have => have == Some(ending.as_bytes()),
        })
        .map(|ending| at + 1 + ending.len())
}

/// `\p{N}{1,n}`
fn numbers(text: &str, at: usize, c: char, n: usize) -> Option<usize> {
    class::number(c).then(|| run_of_at_most(text, at, n, class::number))
}

/// ` ?X+Y*`
fn punctuation(
    text: &str,
    at: usize,
    c: char,
    class: Class,
    tail: impl Fn(char) -> bool,
) -> Option<usize> {
    let start = if c == ' ' { at + 1 } else { at };
    nonempty_run(text, start, class).map(|end| run(text, end, tail))
}

/// `\s*[\r\n]+`: white space up to its last line end.
fn line_ends(text: &str, at: usize) -> Option<usize> {
    let space = &text[at..run(text, at, char::is_whitespace)];
    space.rfind(class::line_end).map(|last| at + last + 1)
}

/// `\s+(?!\S)|\s+`: all white space but the last character before a word, which goes with that word.
fn whitespace(text: &str, at: usize) -> Option<usize> {
    let end = nonempty_run(text, at, char::is_whitespace)?;
    if end == text.len() {
        return Some(end);
    }
    let last = text[at..end].chars().next_back()?.len_utf8();
    Some(if at + last < end { end - last } else { end })
}

fn char_at(text: &str, at: usize) -> Option<char> {
    text[at..].chars().next()
}

/// The end of the longest run of the class from `at`.
fn run(text: &str, at: usize, class: impl Fn(char) -> bool) -> usize {
    text[at..]
        .find(|c| !class(c))
        .map_or(text.len(), |length| at + length)
}

fn nonempty_run(text: &str, at: usize, class: impl Fn(char) -> bool) -> Option<usize> {
    let end = run(text, at, class);
    (end > at).then_some(end)
}

fn run_of_at_most(text: &str, at: usize, n: usize, class: impl Fn(char) -> bool) -> usize {
    text[at..]
        .char_indices()
        .take(n)
        .take_while(|&(_, c)| class(c))
        .last()
        .map_or(at, |(last, c)| at + last + c.len_utf8())
}
