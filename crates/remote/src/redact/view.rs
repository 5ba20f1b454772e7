//! A text as it is, and as it reads with its escapes undone.
//!
//! A tool's result is often JSON, in which `Müller` is `M\u00fcller` and a line ends with `\n`; an address in a link is
//! `anna%40example.com`. What is looked for is looked for in every reading, and found at its place in the text itself.

use std::ops::Range;

/// How often escapes in escapes are undone.
const DEPTH: usize = 3;

/// A reading of a text.
pub(super) struct View {
    pub(super) text: String,
    /// For each byte, and for the end: where that is in the text itself. `None` if it is the text itself.
    at: Option<Vec<usize>>,
}

impl View {
    /// All readings, the text itself first.
    pub(super) fn all(text: &str) -> Vec<Self> {
        let own = Self {
            text: text.to_owned(),
            at: None,
        };
        let mut views = vec![own];
        for unescape in [json_unit, percent_unit] {
            let mut from = 0;
            for _ in 0..DEPTH {
                match views[from].unescaped(unescape) {
                    Some(view) => views.push(view),
                    None => break,
                }
                from = views.len() - 1;
            }
        }
        views
    }

    /// Where a part of it is in the text itself.
    pub(super) fn place(&self, range: &Range<usize>) -> Range<usize> {
        match &self.at {
            Some(at) => at[range.start]..at[range.end],
            None => range.clone(),
        }
    }

    /// Whether a place in the text itself is inside what one character here was written as.
    pub(super) fn cuts(&self, place: usize) -> bool {
        let is_between = |at: &Vec<usize>| at.binary_search(&place).is_err();
        self.at.as_ref().is_some_and(is_between)
    }

    /// The reading with one level of escapes undone; `None` if there are none.
    fn unescaped(&self, unit: fn(&str) -> Option<(String, usize)>) -> Option<Self> {
        if !self.text.contains(['\\', '%']) {
            return None;
        }
        let own = |i: usize| self.at.as_ref().map_or(i, |at| at[i]);
        let (mut text, mut at) = (String::new(), Vec::new());
        let (mut i, mut any) = (0, false);
        while let Some(c) = self.text[i..].chars().next() {
            let (read, length) = match unit(&self.text[i..]) {
                Some(unit) => {
                    any = true;
                    unit
                }
                None => (c.to_string(), c.len_utf8()),
            };
            // Bytes of a character, and characters of an escape, have the place of its beginning.
            at.extend(std::iter::repeat_n(own(i), read.len()));
            text.push_str(&read);
            i += length;
        }
        at.push(own(i));
        any.then_some(Self { text, at: Some(at) })
    }
}

/// What an escape of JSON at the beginning stands for, and its length.
fn json_unit(text: &str) -> Option<(String, usize)> {
    let rest = text.strip_prefix('\\')?;
    let simple = match rest.chars().next()? {
        '"' => '"',
        '\\' => '\\',
        '/' => '/',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return unicode_unit(rest),
        _ => return None,
    };
    Some((simple.to_string(), 2))
}

/// The same for `uXXXX` after the backslash, and for two of them that are one character.
fn unicode_unit(rest: &str) -> Option<(String, usize)> {
    let unit = |text: &str| {
        let digits = text.strip_prefix('u')?.get(..4)?;
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let first = unit(rest)?;
    let second = rest
        .get(5..)
        .and_then(|rest| unit(rest.strip_prefix('\\')?));
    let pair = [Some(first), second];
    let units = pair.into_iter().flatten();
    match char::decode_utf16(units).next()? {
        Ok(c) => Some((c.to_string(), 6 * c.len_utf16())),
        Err(_) => None,
    }
}

/// What `%41`, or several that make one character, stand for at the beginning, and their length.
fn percent_unit(text: &str) -> Option<(String, usize)> {
    let byte = |i: usize| {
        let digits = text.get(3 * i..)?.strip_prefix('%')?.get(..2)?;
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let length = match byte(0)? {
        0..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
        0x80..0xc0 => return None,
    };
    let bytes: Vec<u8> = (0..length).map_while(byte).collect();
    let text = String::from_utf8(bytes).ok()?;
    Some((text, 3 * length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_found_at_their_place() {
        let text = r"a M\u00fcller\n \ud83d\ude00! %40%C3%BC %zz \\u0041 \q";
        let views = View::all(text);
        let read = |i: usize| &*views[i].text;
        assert_eq!(read(0), text);
        assert_eq!(read(1), "a Müller\n 😀! %40%C3%BC %zz \\u0041 \\q");
        assert_eq!(read(2), "a Müller\n 😀! %40%C3%BC %zz A \\q");
        assert_eq!(read(3), r"a M\u00fcller\n \ud83d\ude00! @ü %zz \\u0041 \q");
        let found = views[1].text.find("Müller").unwrap();
        let place = views[1].place(&(found..found + "Müller".len()));
        assert_eq!(&text[place], r"M\u00fcller");
        assert!(views[1].cuts(text.find("00fc").unwrap()));
        assert!(!views[1].cuts(text.find("ller").unwrap()));
        assert_eq!(View::all("plain").len(), 1);
    }
}
