//! The owner's names: whole, in any case, however they are composed and whatever space is between their words.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use crate::config::{ConfigError, RedactLists};

/// Finders of names.
#[derive(Debug)]
pub(super) struct Names(AhoCorasick);

/// A text as names are compared, and where each byte of it comes from.
struct Folded {
    text: String,
    at: Vec<usize>,
}

impl Names {
    /// # Errors
    /// If a file cannot be read, or a name is too short to be one.
    pub(super) fn new(lists: &RedactLists) -> Result<Self, ConfigError> {
        let mut names = Vec::new();
        for (i, name) in lists.names.iter().enumerate() {
            let folded = named(name).ok_or_else(|| {
                let message = format!("`{name}` is no name: it has to have two letters or digits");
                ConfigError::at(format!("redact.names[{i}]"), message)
            })?;
            names.push(folded);
        }
        for (i, path) in lists.files.iter().enumerate() {
            let field = format!("redact.files[{i}]");
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigError::at(&field, format!("cannot read {}: {error}", path.display()))
            })?;
            for (line, name) in text.lines().enumerate() {
                if name.trim().is_empty() {
                    continue;
                }
                // The name is not told: lists of names are what they are.
                let folded = named(name).ok_or_else(|| {
                    let message = format!(
                        "line {} of {} is no name: it has to have two letters or digits",
                        line + 1,
                        path.display()
                    );
                    ConfigError::at(&field, message)
                })?;
                names.push(folded);
            }
        }
        names.sort();
        names.dedup();
        let names = AhoCorasick::new(&names);
        let names =
            names.map_err(|error| ConfigError::at("redact", format!("too many names: {error}")))?;
        Ok(Self(names))
    }

    pub(super) fn find(&self, text: &str) -> Vec<Range<usize>> {
        if self.0.patterns_len() == 0 {
            return Vec::new();
        }
        let folded = Folded::new(text);
        let found = self.0.find_overlapping_iter(&folded.text);
        found
            .filter(|it| is_whole(&folded.text, it.range()))
            .map(|it| folded.at[it.start()]..folded.at[it.end()])
            .collect()
    }
}

/// A name as it is compared; `None` if it is none.
fn named(name: &str) -> Option<String> {
    let folded = Folded::new(name.trim()).text;
    let letters = folded.chars().filter(|c| c.is_alphanumeric()).count();
    let is_name = letters >= 2 || folded.chars().any(has_no_spaces);
    is_name.then_some(folded)
}

impl Folded {
    fn new(text: &str) -> Self {
        let mut folded = Self {
            text: String::with_capacity(text.len()),
            at: Vec::with_capacity(text.len() + 1),
        };
        let mut in_space = false;
        for (i, c) in text.char_indices() {
            if c.is_whitespace() {
                if !in_space {
                    folded.push(' ', i);
                }
                in_space = true;
                continue;
            }
            in_space = false;
            let c = match c {
                '\u{2018}' | '\u{2019}' | '\u{2bc}' => '\'',
                '\u{2010}'..='\u{2013}' => '-',
                // Soft hyphens and what joins or parts words unseen.
                '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => continue,
                c => c,
            };
            // Upper case first: it makes one of what has two small forms.
            let cased = c.to_uppercase().flat_map(char::to_lowercase);
            for c in cased.nfd() {
                folded.push(c, i);
            }
        }
        folded.at.push(text.len());
        folded
    }

    fn push(&mut self, c: char, at: usize) {
        self.text.push(c);
        self.at.extend(std::iter::repeat_n(at, c.len_utf8()));
    }
}

/// Whether nothing before or after it belongs to the same word.
fn is_whole(text: &str, range: Range<usize>) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || is_combining_mark(c);
    let (before, after) = (
        text[..range.start].chars().next_back(),
        text[range.end..].chars().next(),
    );
    let (first, last) = (
        text[range.clone()].chars().next(),
        text[range].chars().next_back(),
    );
    let ends = |edge: Option<char>, next: Option<char>| {
        edge.is_some_and(has_no_spaces) && !next.is_some_and(is_combining_mark)
            || !next.is_some_and(goes_on)
    };
    ends(first, before) && ends(last, after)
}

/// Whether a character is of a script that puts no spaces between words.
fn has_no_spaces(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole_and_in_any_form() {
        let list = [
            "Anna Schmidt",
            "Müller",
            "O'Neil",
            "Ann",
            "Ann Mar",
            "Weiß",
            "张伟",
        ];
        let names = Names::new(&RedactLists {
            names: list.map(str::to_owned).to_vec(),
            files: Vec::new(),
        });
        let names = names.unwrap();
        for (text, want) in [
            ("ANNA  \n Schmidt's", &["ANNA  \n Schmidt"][..]),
            (
                "Mu\u{308}ller, müller; MÜLLERS Mull",
                &["Mu\u{308}ller", "müller"],
            ),
            ("o’neil", &["o’neil"]),
            ("Ann Marie and ann_b", &["Ann", "ann"]),
            ("Annalena, Hermann, Anné", &[]),
            ("WEISS und weiß", &["WEISS", "weiß"]),
            ("我叫张伟。", &["张伟"]),
            ("Mül\u{ad}ler", &["Mül\u{ad}ler"]),
        ] {
            let found: Vec<_> = names
                .find(text)
                .into_iter()
                .map(|range| &text[range])
                .collect();
            assert_eq!(found, want, "{text}");
        }
    }

    #[test]
    fn lists_come_from_files_and_mistakes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("names.txt");
        std::fs::write(&file, "Anna\n\n  Bert \n").unwrap();
        let lists = |names: &[&str], files: Vec<std::path::PathBuf>| RedactLists {
            names: names.iter().map(|it| (*it).to_owned()).collect(),
            files,
        };
        let names = Names::new(&lists(&[], vec![file.clone()])).unwrap();
        assert_eq!(names.find("bert and anna").len(), 2);
        let wrong = Names::new(&lists(&["Anna", " a "], Vec::new())).unwrap_err();
        assert!(
            wrong.to_string().starts_with("redact.names[1]: ` a `"),
            "{wrong}"
        );
        std::fs::write(&file, "Anna\n-\n").unwrap();
        let wrong = Names::new(&lists(&[], vec![file])).unwrap_err().to_string();
        assert!(wrong.contains("redact.files[0]: line 2 of"), "{wrong}");
        Names::new(&lists(&[], vec![dir.path().join("none")])).unwrap_err();
    }
}
