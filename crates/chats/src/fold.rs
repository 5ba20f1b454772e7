//! Text as it is compared when words are looked for: without case, accents and forms of the same letter.
//!
//! Each character is folded by itself, so that what is found can be shown where it stands in the text as it was written.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Words of a search at most; more are passed over.
const TERMS_MAX: usize = 8;
/// Bytes of a search at most.
const QUERY_BYTES_MAX: usize = 256;

/// What stands before and after the first word that was found, in characters.
const BEFORE: usize = 40;
const AFTER: usize = 120;

/// A text, folded.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        fold_char(c, &mut folded);
    }
    folded
}

fn fold_char(c: char, to: &mut String) {
    if c.is_ascii() {
        to.push(c.to_ascii_lowercase());
        return;
    }
    for part in std::iter::once(c).nfkd() {
        if is_combining_mark(part) {
            continue;
        }
        for small in part
            .to_lowercase()
            .filter(|small| !is_combining_mark(*small))
        {
            // Letters that people who lack their key write with others.
            match small {
                'ß' => to.push_str("ss"),
                'æ' => to.push_str("ae"),
                'œ' => to.push_str("oe"),
                'ø' => to.push('o'),
                'ł' => to.push('l'),
                'đ' | 'ð' => to.push('d'),
                'ı' => to.push('i'),
                'ς' => to.push('σ'),
                other => to.push(other),
            }
        }
    }
}

/// The words of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms(Vec<String>);

impl Terms {
    /// `None` if nothing is looked for.
    pub(crate) fn of(query: &str) -> Option<Self> {
        let query = &query[..query.floor_char_boundary(QUERY_BYTES_MAX)];
        let mut terms: Vec<String> = Vec::new();
        for term in fold(query).split_whitespace() {
            if terms.len() < TERMS_MAX && !terms.iter().any(|known| known == term) {
                terms.push(term.to_owned());
            }
        }
        (!terms.is_empty()).then_some(Self(terms))
    }

    /// Which of them are in a folded text, a bit for each.
    pub(crate) fn found_in(&self, folded: &str, but: u32) -> u32 {
        let terms = self.0.iter().enumerate();
        let wanted = terms.filter(|(at, _)| but & (1 << at) == 0);
        let found = wanted.filter(|(_, term)| folded.contains(&***term));
        found.fold(0, |found, (at, _)| found | 1 << at)
    }

    /// All of them.
    pub(crate) fn all(&self) -> u32 {
        (1 << self.0.len()) - 1
    }

    /// A part of a text around the first of them, with all that are in it.
    pub(crate) fn snippet(&self, text: &str) -> Vec<Part> {
        let first = self.first(text).unwrap_or(0);
        let before = text[..first].char_indices().rev().take(BEFORE).last();
        let begin = before.map_or(first, |(at, _)| at);
        let after = text[first..].char_indices().nth(AFTER);
        let end = after.map_or(text.len(), |(at, _)| first + at);
        let mut parts = self.marked(&text[begin..end]);
        if begin > 0 {
            parts.insert(0, Part::plain("…"));
        }
        if end < text.len() {
            parts.push(Part::plain("…"));
        }
        parts
    }

    /// Where the first of them is in a text that was not folded.
    fn first(&self, text: &str) -> Option<usize> {
        let folded = fold(text);
        let found = self
            .0
            .iter()
            .filter_map(|term| folded.find(&**term))
            .min()?;
        let mut scratch = String::new();
        let mut length = 0;
        for (at, c) in text.char_indices() {
            scratch.clear();
            fold_char(c, &mut scratch);
            length += scratch.len();
            if length > found {
                return Some(at);
            }
        }
        None
    }

    fn marked(&self, text: &str) -> Vec<Part> {
        let mut folded = String::new();
        // Where each byte of the folded text comes from.
        let mut from: Vec<Range<usize>> = Vec::new();
        for (at, c) in text.char_indices() {
            fold_char(c, &mut folded);
            from.resize(folded.len(), at..at + c.len_utf8());
        }
        let mut hits: Vec<Range<usize>> = Vec::new();
        for term in &self.0 {
            let found = folded.match_indices(&**term);
            hits.extend(found.map(|(at, term)| from[at].start..from[at + term.len() - 1].end));
        }
        hits.sort_unstable_by_key(|hit| (hit.start, hit.end));
        let mut parts: Vec<Part> = Vec::new();
        let mut at = 0;
        for hit in hits {
            let begin = hit.start.max(at);
            if begin >= hit.end {
                continue;
            }
            if begin > at {
                parts.push(Part::plain(&text[at..begin]));
            }
            match parts.last_mut() {
                Some(last) if last.is_hit => last.text.push_str(&text[begin..hit.end]),
                _ => parts.push(Part {
                    text: text[begin..hit.end].to_owned(),
                    is_hit: true,
                }),
            }
            at = hit.end;
        }
        if at < text.len() {
            parts.push(Part::plain(&text[at..]));
        }
        parts
    }
}

/// A part of a text that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The text as it was written.
    pub text: String,
    /// It is what was looked for.
    pub is_hit: bool,
}

impl Part {
    fn plain(text: &str) -> Self {
        let text = text.to_owned();
        let is_hit = false;
        Self { text, is_hit }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_and_accents_do_not_matter() {
        for (text, want) in [
            ("Ünïcödé", "unicode"),
            ("STRASSE Straße", "strasse strasse"),
            ("ﬁne Ｗｉｄｅ", "fine wide"),
            ("İstanbul", "istanbul"),
            ("Łódź Øre Æon", "lodz ore aeon"),
            ("Σίσυφος", "σισυφοσ"),
            ("日本語", "日本語"),
            ("e\u{301}", "e"),
        ] {
            assert_eq!(fold(text), want, "{text}");
        }
    }

    #[test]
    fn snippets_show_the_text_as_it_was_written() {
        let terms = Terms::of("CAFÉ  zur").unwrap();
        let parts = terms.snippet("Das Café zur Post, cafe");
        let told: Vec<_> = parts
            .iter()
            .map(|part| (&*part.text, part.is_hit))
            .collect();
        let want = [
            ("Das ", false),
            ("Café", true),
            (" ", false),
            ("zur", true),
            (" Post, ", false),
            ("cafe", true),
        ];
        assert_eq!(told, want);
        let long = format!("{}needle{}", "x ".repeat(1000), " y".repeat(1000));
        let parts = Terms::of("needle").unwrap().snippet(&long);
        assert_eq!(parts.first().unwrap().text, "…");
        assert_eq!(parts.last().unwrap().text, "…");
        assert!(
            parts
                .iter()
                .any(|part| part.is_hit && part.text == "needle")
        );
        assert_eq!(Terms::of("  \u{301}"), None);
    }

    proptest! {
        #[test]
        fn any_snippet_is_a_part_of_the_text(text in any::<String>(), query in any::<String>()) {
            if let Some(terms) = Terms::of(&query) {
                let parts = terms.snippet(&text);
                let told: String = parts.iter().map(|part| &*part.text).collect();
                prop_assert!(text.contains(told.trim_matches('…')));
            }
        }
    }
}
