//! Where a text may be cut so that each piece can be read by itself, told from its lines alone.
//!
//! It looks at each line once, when the line is complete, so the cuts do not depend on how the text came in. A piece is a code
//! block between fences, or other Markdown up to a blank line after which something new begins at the margin. Markdown is read
//! from top to bottom: what follows such a line never changes what stands before it, but for definitions of links, which the
//! renderer looks after. Raw HTML is text here, so that a blank line ends it.

use std::ops::Range;

use super::tree;

/// A piece that has this many bytes ends with its line. It bounds what is ever read again while a text grows: a list or a
/// table without a blank line is as long as it likes. The largest tables that models write have some ten thousand bytes.
pub(super) const PIECE_BYTES: usize = 32 << 10;

/// A line that is longer is cut, too.
const LINE_BYTES: usize = 32 << 10;

/// How often a piece may be parsed to find where a list ends: a hostile text asks at each of its lines.
const ASKED_MAX: usize = 8;

/// A piece that does not change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its bytes. Those of a code block do not include the fences.
    pub(super) range: Range<usize>,
    /// Set for a code block.
    pub(super) fence: Option<Fence>,
}

/// What opened a code block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    /// The language, if it has a name that can be shown.
    pub(super) lang: Option<String>,
    /// Blanks before it, which are taken off each line.
    pub(super) indent: usize,
    /// Backtick or tilde.
    mark: u8,
    /// How many.
    count: usize,
}

/// How far a text is cut.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// Where the piece begins that is not complete; for a code block after its first line.
    start: usize,
    /// Where the line begins that was not looked at yet.
    line: usize,
    /// There is no line's end before this place.
    seen: usize,
    /// The line before is blank.
    is_after_blank: bool,
    /// The column at which the text of a list's item begins; what stands left of it is not in the list.
    list: Option<usize>,
    /// The lines do not tell whether the list is still one: a line stood left of its text, without a blank one before it, and
    /// is in it if it goes on with a paragraph; or it began right after a paragraph.
    is_list_unsure: bool,
    /// How often the parser was asked within this piece.
    asked: usize,
    /// The code block that is open.
    fence: Option<Fence>,
}

impl Cutter {
    /// Where the piece begins that is not complete.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// The code block that is open.
    pub(super) fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    /// Reads on to the end of `text`, which begins with what was read before. `is_all` if nothing comes after it.
    pub(super) fn read(&mut self, text: &str, is_all: bool, pieces: &mut Vec<Piece>) {
        loop {
            let end = text[self.seen..].find('\n').map(|found| self.seen + found);
            self.seen = end.unwrap_or(text.len());
            if self.fence.is_none() && self.seen - self.line > LINE_BYTES {
                self.cut_line(text, pieces);
                continue;
            }
            let Some(end) = end else { break };
            self.look_at(text, end, end + 1, pieces);
        }
        if is_all {
            if self.line < text.len() {
                self.look_at(text, text.len(), text.len(), pieces);
            }
            if self.start < text.len() || self.fence.is_some() {
                let fence = self.fence.take();
                self.end(text.len(), fence, text.len(), pieces);
            }
        }
    }

    /// Cuts a line that is too long, between words if there are any.
    fn cut_line(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        let most = text.floor_char_boundary(self.line + LINE_BYTES);
        let blank = text[self.line..most].rfind(' ');
        let at = blank.map_or(most, |blank| self.line + blank + 1);
        self.end(at, None, at, pieces);
        self.line = at;
        self.seen = at;
        self.is_after_blank = false;
    }

    /// Looks at the line that ends at `end`; the next one begins at `next`.
    fn look_at(&mut self, text: &str, end: usize, next: usize, pieces: &mut Vec<Piece>) {
        let begin = std::mem::replace(&mut self.line, next);
        self.seen = next;
        let line = &text[begin..end];
        if let Some(fence) = &self.fence {
            if fence.is_closed_by(line) {
                let fence = self.fence.take();
                self.end(begin, fence, next, pieces);
                self.is_after_blank = false;
            }
            return;
        }
        let (indent, rest) = indentation(line);
        if rest.trim_ascii().is_empty() {
            self.is_after_blank = true;
        } else {
            self.look_at_text(text, begin, next, indent, rest, pieces);
            self.is_after_blank = false;
        }
        if self.fence.is_none() && next - self.start >= PIECE_BYTES {
            self.end(next, None, next, pieces);
        }
    }

    fn look_at_text(
        &mut self,
        text: &str,
        begin: usize,
        next: usize,
        indent: usize,
        rest: &str,
        pieces: &mut Vec<Piece>,
    ) {
        let is_in_list = self.list.is_some_and(|column| indent >= column);
        if indent >= 4 {
            return;
        }
        let fence = Fence::of(indent, rest);
        if is_in_list && !(fence.is_some() && self.is_list_unsure) {
            return;
        }
        if is_in_list && self.is_parsed_in_list(&text[self.start..next]) {
            self.is_list_unsure = false;
            return;
        }
        if let Some(fence) = fence {
            self.end(begin, None, next, pieces);
            self.fence = Some(fence);
            return;
        }
        let item = item_width(rest);
        if self.is_after_blank && indent == 0 && item.is_none() {
            self.end(begin, None, begin, pieces);
        }
        match item {
            Some(width) => {
                // After a paragraph's line it need not be one.
                let is_sure = self.is_after_blank || begin == self.start;
                let is_sure = is_sure || (self.list.is_some() && !self.is_list_unsure);
                self.list = Some(indent + width);
                self.is_list_unsure = !is_sure;
            }
            None if self.is_after_blank => self.list = None,
            None => self.is_list_unsure = self.list.is_some(),
        }
    }

    /// Whether the code block that begins with the last line of `piece` is a list's. Its lines alone do not tell; the parser
    /// does, as long as it is not asked too often.
    fn is_parsed_in_list(&mut self, piece: &str) -> bool {
        self.asked += 1;
        self.asked <= ASKED_MAX && !tree::ends_in_code(piece)
    }

    /// A piece ends at `end`, and the next one begins at `next`.
    fn end(&mut self, end: usize, fence: Option<Fence>, next: usize, pieces: &mut Vec<Piece>) {
        let range = self.start.min(end)..end;
        if !range.is_empty() || fence.is_some() {
            pieces.push(Piece { range, fence });
        }
        self.start = next;
        self.list = None;
        self.is_list_unsure = false;
        self.asked = 0;
    }
}

impl Fence {
    /// The fence that a line opens, if it does.
    fn of(indent: usize, rest: &str) -> Option<Self> {
        let mark = rest
            .bytes()
            .next()
            .filter(|mark| matches!(mark, b'`' | b'~'))?;
        let count = rest.bytes().take_while(|byte| *byte == mark).count();
        let info = rest[count..].trim();
        if count < 3 || (mark == b'`' && info.contains('`')) {
            return None;
        }
        Some(Self {
            lang: language(info),
            indent,
            mark,
            count,
        })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let (indent, rest) = indentation(line);
        let count = rest.bytes().take_while(|byte| *byte == self.mark).count();
        indent < 4 && count >= self.count && rest[count..].trim_ascii().is_empty()
    }

    /// Whether a line that begins so may turn out to close it.
    pub(super) fn may_be_closed_by(&self, line: &str) -> bool {
        let is_part = |byte: u8| byte == self.mark || byte.is_ascii_whitespace();
        line.bytes().all(is_part)
    }
}

/// The language that a code block names, if its name can be shown.
pub(super) fn language(info: &str) -> Option<String> {
    let name = info
        .split(|c: char| c.is_whitespace() || c == ',' || c == '{')
        .next()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+#._-".contains(&byte);
    let is_name = !name.is_empty() && name.len() <= 32 && name.bytes().all(is_plain);
    is_name.then(|| name.to_owned())
}

/// The column at which a line's text begins, and the text.
fn indentation(line: &str) -> (usize, &str) {
    let mut column = 0;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b' ' => column += 1,
            b'\t' => column += 4 - column % 4,
            _ => return (column, &line[at..]),
        }
    }
    (column, "")
}

/// How wide the mark of a list's item is with the blanks after it, if a text begins with one.
fn item_width(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mark = match bytes.first()? {
        b'-' | b'*' | b'+' if is_rule(text) => return None,
        b'-' | b'*' | b'+' => 1,
        b'0'..=b'9' => {
            let digits = bytes
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let is_item = digits <= 9 && matches!(bytes.get(digits), Some(b'.' | b')'));
            is_item.then_some(digits + 1)?
        }
        _ => return None,
    };
    let (blanks, rest) = indentation(&text[mark..]);
    match blanks {
        0 if rest.trim_ascii().is_empty() => Some(mark + 1),
        0 => None,
        1..=4 if !rest.trim_ascii().is_empty() => Some(mark + blanks),
        _ => Some(mark + 1),
    }
}

/// Whether a line is a rule: three or more of a mark, and blanks.
fn is_rule(text: &str) -> bool {
    let mut bytes = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let Some(first) = bytes.next() else {
        return false;
    };
    let mut count = 1;
    for byte in bytes {
        if byte != first {
            return false;
        }
        count += 1;
    }
    count >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of a text, code blocks with their language before them.
    fn pieces(text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        Cutter::default().read(text, true, &mut pieces);
        let told = pieces.into_iter().map(|piece| match piece.fence {
            Some(fence) => format!("{}:{}", fence.lang.unwrap_or_default(), &text[piece.range]),
            None => text[piece.range].to_owned(),
        });
        told.collect()
    }

    #[test]
    fn text_is_cut_where_something_new_begins() {
        for (text, want) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a\nb\n\nc\n\n\nd\n", &["a\nb\n\n", "c\n\n\n", "d\n"]),
            // A list goes on after blank lines, and so does what is in it.
            (
                "- a\n\n- b\n\n  c\n\n1. d\n\ne",
                &["- a\n\n- b\n\n  c\n\n1. d\n\n", "e"],
            ),
            (
                "# a\n\n    code\n\n    more\n\nb",
                &["# a\n\n    code\n\n    more\n\n", "b"],
            ),
            ("a\n\n***\nb", &["a\n\n", "***\nb"]),
            ("a\n\n- - -\nb", &["a\n\n", "- - -\nb"]),
        ] {
            assert_eq!(pieces(text), want, "{text:?}");
        }
    }

    #[test]
    fn code_blocks_are_pieces() {
        for (text, want) in [
            (
                "a\n```rust x\nb\n\nc\n```\nd",
                &["a\n", "rust:b\n\nc\n", "d"][..],
            ),
            ("~~~\n```\n~~\n~~~~ \n", &[":```\n~~\n"]),
            ("```a`b\n\nc", &["```a`b\n\n", "c"]),
            ("```\nopen\n", &[":open\n"]),
            ("```", &[":"]),
            // In a list they are the list's, until it is left.
            (
                "- a\n  ```\n  b\n\n  c\n  ```\n\nd",
                &["- a\n  ```\n  b\n\n  c\n  ```\n\n", "d"],
            ),
            ("- a\n```\nb\n```\n", &["- a\n", ":b\n"]),
            // Neither do all marks of items end a paragraph.
            ("a\n- \n  ```\n\nb\n  ```\n", &["a\n- \n", ":\nb\n"]),
            // A line at the margin goes on with an item's paragraph, and ends an item that is none.
            (
                "- a\nb\n  ```\n\nc\n  ```\n",
                &["- a\nb\n  ```\n\n", "c\n", ":"],
            ),
            ("- # a\nb\n  ```\n\nc\n  ```\n", &["- # a\nb\n", ":\nc\n"]),
            ("> ```\n> a\n\nb", &["> ```\n> a\n\n", "b"]),
            ("    ```\n\na", &["    ```\n\n", "a"]),
            ("```<script>\na\n```", &[":a\n"]),
        ] {
            assert_eq!(pieces(text), want, "{text:?}");
        }
    }

    #[test]
    fn no_piece_is_long() {
        for text in [
            "- item\n".repeat(50_000),
            "word ".repeat(100_000),
            "ä".repeat(200_000),
            format!("a\n{}", "\t".repeat(300_000)),
        ] {
            let mut pieces = Vec::new();
            Cutter::default().read(&text, true, &mut pieces);
            let most = pieces.iter().map(|piece| piece.range.len()).max();
            assert!(most.unwrap() <= PIECE_BYTES + LINE_BYTES, "{most:?}");
            let whole: usize = pieces.iter().map(|piece| piece.range.len()).sum();
            assert_eq!(whole, text.len());
        }
    }
}
