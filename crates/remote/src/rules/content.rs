//! Patterns of what is private, held against texts in every guise that a reader would see through.
//!
//! A text is read as it is, and twice more: *plain*, with compatibility forms replaced (full-width letters, ligatures, other
//! spaces) and everything invisible taken out; and *bare*, without accents as well. Letters of other scripts that look
//! alike, and encodings such as base64, are not seen through: patterns are a net, not a proof.

use std::borrow::Cow;
use std::collections::BTreeSet;

use regex::{RegexSet, RegexSetBuilder};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

use crate::config::Faults;

/// What all patterns together may take, compiled: far more than anybody writes by hand.
const SIZE_MAX: usize = 64 << 20;

/// The patterns.
#[derive(Debug)]
pub(super) struct Content {
    patterns: RegexSet,
    /// How many the owner wrote. They stand twice: as written, and composed as texts are, in the same order.
    count: usize,
}

impl Content {
    pub(super) fn new(patterns: &[String], faults: &mut Faults) -> Self {
        for (i, pattern) in patterns.iter().enumerate() {
            let field = format!("hybrid.private_content[{i}]");
            match regex::Regex::new(pattern) {
                Err(error) => {
                    let message = error.to_string();
                    // The last line says what; those before it draw.
                    let what = message.lines().last().unwrap_or_default();
                    let what = what.strip_prefix("error: ").unwrap_or(what);
                    faults.add(field, format!("it is no pattern: {what}"));
                }
                Ok(regex) if regex.is_match("") => {
                    let message = "it matches where there is nothing, so no prompt could ever leave; leave out all rules \
                                   instead, if that is meant";
                    faults.add(field, message);
                }
                Ok(_) => {}
            }
        }
        let composed = patterns.iter().map(|pattern| pattern.nfc().collect());
        let all: Vec<String> = patterns.iter().cloned().chain(composed).collect();
        let built = RegexSetBuilder::new(all).size_limit(SIZE_MAX).build();
        Self {
            // Where one is none, that is told already, and nothing is judged.
            patterns: built.unwrap_or_else(|_| RegexSet::empty()),
            count: patterns.len(),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Which patterns match in any of the texts, in order.
    pub(super) fn matches(&self, texts: &[Cow<'_, str>]) -> Vec<usize> {
        let mut found = BTreeSet::new();
        for text in texts {
            for guise in guises(text) {
                let matches = self.patterns.matches(&guise);
                found.extend(matches.iter().map(|index| index % self.count));
            }
        }
        found.into_iter().collect()
    }
}

/// The text as it is, plain, and bare; each only if it differs.
fn guises(text: &str) -> Vec<Cow<'_, str>> {
    let mut guises = vec![Cow::Borrowed(text)];
    if text.is_ascii() && !text.contains(is_invisible) {
        return guises;
    }
    let visible = text.chars().filter(|c| !is_invisible(*c));
    // Replacing a compatibility form may bring up what is invisible again.
    let plain: String = visible.nfkc().filter(|c| !is_invisible(*c)).collect();
    let bare: String = plain.nfkd().filter(|c| !is_combining_mark(*c)).collect();
    for guise in [plain, bare] {
        if guises.iter().all(|other| **other != *guise) {
            guises.push(Cow::Owned(guise));
        }
    }
    guises
}

/// Whether nobody sees the character: controls, formats, fillers, variants of the one before.
fn is_invisible(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        // Default ignorable code points that are no formats (Unicode's DerivedCoreProperties).
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => {
            true
        }
        '\u{2065}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        c if c.is_ascii() => c.is_ascii_control(),
        c => matches!(
            c.general_category(),
            GeneralCategory::Format | GeneralCategory::Control
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> bool {
        let mut faults = Faults::default();
        let content = Content::new(&[pattern.to_owned()], &mut faults);
        faults.or(()).unwrap();
        !content.matches(&[Cow::Borrowed(text)]).is_empty()
    }

    #[test]
    fn patterns_see_through_what_readers_do() {
        for (pattern, text) in [
            ("falcon", "the falcon flies"),
            ("(?i)falcon", "FALCON"),
            ("(?i)falcon", "ＦＡＬＣＯＮ"),
            ("falcon", "fal\u{200b}con"),
            ("falcon", "fal\u{ad}con"),
            ("falcon", "f\u{feff}a\u{2060}l\u{200d}c\u{34f}o\u{fe0f}n"),
            ("falcon", "fal\u{e0041}con"),
            ("falcon", "fal\u{202e}con"),
            ("falcon", "fal\0con\u{8}"),
            ("falcon", "fal\u{85}con"),
            ("falcon", "ﬀ 𝐟𝐚𝐥𝐜𝐨𝐧"),
            ("falcon", "f\u{336}a\u{336}l\u{336}c\u{336}o\u{336}n"),
            ("falcon", "fálcòn"),
            ("red falcon", "red\u{a0}falcon"),
            ("Jürgen", "Ju\u{308}rgen"),
            ("Ju\u{308}rgen", "Jürgen"),
            ("Ju\u{308}rgen", "Ju\u{308}rgen"),
            ("\\d{4}", "١٢٣٤"),
            ("[0-9]{4}", "１２３４"),
            ("\u{200b}", "a\u{200b}b"),
        ] {
            assert!(found(pattern, text), "{pattern} {text:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for (pattern, text) in [
            ("falcon", "FALCON"),
            ("falcon", "fal con"),
            ("falcon", "fal\ncon"),
            ("^falcon", "a falcon"),
            ("[0-9]{4}", "123"),
        ] {
            assert!(!found(pattern, text), "{pattern} {text:?}");
        }
    }

    #[test]
    fn patterns_are_told_by_their_place() {
        let patterns = ["a", "ü", "c"].map(str::to_owned);
        let content = Content::new(&patterns, &mut Faults::default());
        let texts = ["nothing", "u\u{308}", "cab"].map(Cow::Borrowed);
        assert_eq!(content.matches(&texts), [0, 1, 2]);
        assert_eq!(content.matches(&texts[..1]), [0; 0]);
    }
}
