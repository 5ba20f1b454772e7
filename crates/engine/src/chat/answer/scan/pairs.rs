//! Where keys and values in marks of their own end.

use std::ops::Range;

use super::super::search::{Beginning, begins, find_from};
use super::{Extent, HEAD_BYTES_MAX, Progress, skip_space};

/// Marks of keys and values.
#[derive(Debug)]
pub(super) struct PairSyntax {
    /// Whether `>` ends the name. Else it ends with its line or where a mark begins.
    name_in_mark: bool,
    open: &'static str,
    key_end: &'static str,
    /// Between key and value.
    gap: &'static str,
    value_end: &'static str,
    end: &'static str,
}

/// Behind `<function=`.
pub(super) const FUNCTIONS: PairSyntax = PairSyntax {
    name_in_mark: true,
    open: "<parameter=",
    key_end: ">",
    gap: "",
    value_end: "</parameter>",
    end: "</function>",
};

pub(super) const KEYS_AND_VALUES: PairSyntax = PairSyntax {
    name_in_mark: false,
    open: "<arg_key>",
    key_end: "</arg_key>",
    gap: "<arg_value>",
    value_end: "</arg_value>",
    end: "</tool_call>",
};

/// Finds a name, keys and values.
#[derive(Clone, Debug)]
pub(super) struct PairScan {
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

/// What reading a piece comes to.
enum Read {
    /// The next piece begins.
    Next(Piece),
    Ends(Progress),
    /// JSON begins where the first key would.
    Json,
}

impl PairScan {
    /// `start` is where the name begins.
    pub(super) fn new(syntax: &'static PairSyntax, start: usize) -> Self {
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
    pub(super) fn advance(&mut self, text: &str, at: &mut usize) -> Result<Progress, Range<usize>> {
        loop {
            let read = match self.piece {
                Piece::Name => self.name(text, at),
                Piece::Item => self.item(text, at),
                Piece::Key => self.key(text, at),
                Piece::Gap => self.gap(text, at),
                Piece::Value => self.value(text, at),
            };
            match read {
                Read::Next(piece) => self.piece = piece,
                Read::Ends(progress) => return Ok(progress),
                Read::Json => return Err(self.name.clone()),
            }
        }
    }

    fn name(&mut self, text: &str, at: &mut usize) -> Read {
        let ends: &[char] = match self.syntax.name_in_mark {
            true => &['>'],
            false => &['\n', '<'],
        };
        let length = text[*at..].find(ends);
        *at = length.map_or(text.len(), |length| *at + length);
        if *at - self.start > HEAD_BYTES_MAX {
            let end = text.ceil_char_boundary(self.start + HEAD_BYTES_MAX);
            return Read::Ends(Progress::Broken(end));
        }
        if length.is_none() {
            return Read::Ends(Progress::More);
        }
        self.name = self.start..*at;
        *at += usize::from(self.syntax.name_in_mark);
        Read::Next(Piece::Item)
    }

    fn item(&mut self, text: &str, at: &mut usize) -> Read {
        skip_space(text, at);
        let rest = &text[*at..];
        let open = begins(rest, self.syntax.open);
        let end = begins(rest, self.syntax.end);
        match (open, end) {
            (Beginning::Yes, _) => {
                *at += self.syntax.open.len();
                self.start = *at;
                Read::Next(Piece::Key)
            }
            (_, Beginning::Yes) => {
                let extent = Extent::Pairs {
                    name: self.name.clone(),
                    pairs: std::mem::take(&mut self.pairs),
                    lines: self.syntax.name_in_mark,
                };
                Read::Ends(Progress::Done(*at + self.syntax.end.len(), extent))
            }
            (Beginning::Maybe, _) | (_, Beginning::Maybe) => Read::Ends(Progress::More),
            _ if self.syntax.name_in_mark && self.pairs.is_empty() && rest.starts_with('{') => {
                Read::Json
            }
            _ => Read::Ends(Progress::Broken(*at)),
        }
    }

    fn key(&mut self, text: &str, at: &mut usize) -> Read {
        let Some(end) = find_from(text, self.syntax.key_end, at) else {
            return Read::Ends(Progress::More);
        };
        self.key = self.start..end;
        *at = end + self.syntax.key_end.len();
        Read::Next(Piece::Gap)
    }

    fn gap(&mut self, text: &str, at: &mut usize) -> Read {
        if !self.syntax.gap.is_empty() {
            skip_space(text, at);
        }
        match begins(&text[*at..], self.syntax.gap) {
            Beginning::Yes => *at += self.syntax.gap.len(),
            Beginning::Maybe => return Read::Ends(Progress::More),
            Beginning::No => return Read::Ends(Progress::Broken(*at)),
        }
        self.start = *at;
        Read::Next(Piece::Value)
    }

    fn value(&mut self, text: &str, at: &mut usize) -> Read {
        let Some(end) = find_from(text, self.syntax.value_end, at) else {
            return Read::Ends(Progress::More);
        };
        self.pairs.push((self.key.clone(), self.start..end));
        *at = end + self.syntax.value_end.len();
        Read::Next(Piece::Item)
    }
}
