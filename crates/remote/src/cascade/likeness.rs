//! How much one answer is like another: for samples of the same model, and for an answer against its reference.
//!
//! Words and values are compared, not meanings: two ways to say the same are unlike here, and a model's own judgement is the
//! verifier's business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A way to compare an answer with a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// 1 if the words are the same, but for case and the punctuation around them; else 0.
    Exact,
    /// 1 if the reference's words stand in the answer, in a row; else 0. Never chosen by itself.
    Contains,
    /// 1 if the answer's last number is the reference, to a millionth; else 0.
    Number,
    /// 1 if both are the same JSON, whatever the order of fields and the fence around it; else 0.
    Json,
    /// The harmonic mean of precision and recall over words, as many times as they occur: 0 to 1.
    F1,
}

/// A reference of more words than this is a text, of which no two are the same.
const SHORT_WORDS: usize = 8;

/// Numbers that are not whole are the same when they are closer than this, as a share of the larger one.
const NUMBER_TOLERANCE: f64 = 1e-6;

impl Measure {
    /// The one that fits a reference of this form.
    pub fn of(reference: &str) -> Self {
        if json(reference).is_some() {
            Self::Json
        } else if number(reference.trim()).is_some() {
            Self::Number
        } else if words(reference).len() <= SHORT_WORDS {
            Self::Exact
        } else {
            Self::F1
        }
    }

    /// Whether it tells right from wrong and nothing between.
    pub fn is_binary(self) -> bool {
        self != Self::F1
    }

    /// How much an answer is like a reference: 0 to 1.
    pub fn compare(self, answer: &str, reference: &str) -> f64 {
        let same = match self {
            Self::F1 => return f1(&words(answer), &words(reference)),
            Self::Exact => words(answer) == words(reference),
            Self::Contains => {
                let (answer, reference) = (words(answer), words(reference));
                // An empty reference stands in nothing but an empty answer.
                match reference.len() {
                    0 => answer.is_empty(),
                    length => answer.windows(length).any(|window| window == reference),
                }
            }
            Self::Number => match (last_number(answer), last_number(reference)) {
                (Some(a), Some(b)) => same_number(a, b),
                _ => false,
            },
            Self::Json => match (json(answer), json(reference)) {
                (Some(a), Some(b)) => same_json(&a, &b),
                _ => false,
            },
        };
        f64::from(u8::from(same))
    }
}

/// How much two answers are alike, by the measure that fits the first.
pub fn likeness(one: &str, other: &str) -> f64 {
    Measure::of(one).compare(other, one)
}

/// The words of a text: in small letters, without the punctuation around them. Where a script does not part its words, each
/// character is one.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for part in text.split_whitespace() {
        let part = part.trim_matches(|c: char| {
            c.is_ascii_punctuation() && !matches!(c, '+' | '-' | '#' | '%' | '$' | '<' | '>' | '=')
                || "“”„‚‘’«»…–—。、，！？：；「」（）".contains(c)
        });
        let mut word = String::new();
        for c in part.chars() {
            if has_no_spaces(c) {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                words.push(c.to_string());
            } else {
                word.extend(c.to_lowercase());
            }
        }
        words.extend((!word.is_empty()).then_some(word));
    }
    words
}

/// Whether a character is of a script that writes words without spaces: Thai, Lao, Burmese, Khmer, Chinese, Japanese.
fn has_no_spaces(c: char) -> bool {
    matches!(u32::from(c), 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x9FFF
        | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF)
}

fn f1(answer: &[String], reference: &[String]) -> f64 {
    if answer.is_empty() || reference.is_empty() {
        return f64::from(u8::from(answer.is_empty() && reference.is_empty()));
    }
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for word in reference {
        *left.entry(word).or_default() += 1;
    }
    let mut shared = 0_usize;
    for word in answer {
        if let Some(count) = left.get_mut(&**word).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    2.0 * shared as f64 / (answer.len() + reference.len()) as f64
}

/// A text that is one number: `42`, `-1,234.5`, `12 %`, `$ 3.50`.
fn number(text: &str) -> Option<f64> {
    let bare = text.trim_matches(|c: char| c.is_whitespace() || "$€£¥%.".contains(c));
    let (sign, digits) = match bare.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", bare.strip_prefix('+').unwrap_or(bare)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let parts: Vec<&str> = digits.split(',').collect();
    let grouped = parts[1..].iter().all(|part| {
        let whole = part.split('.').next().unwrap_or_default();
        whole.len() == 3 && whole.bytes().all(|b| b.is_ascii_digit())
    });
    let plain = match grouped {
        true => parts.concat(),
        false => return None,
    };
    let value: f64 = format!("{sign}{plain}").parse().ok()?;
    value.is_finite().then_some(value)
}

/// The last number in a text: where reasoning leads to one, it stands at the end.
fn last_number(text: &str) -> Option<f64> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-' | '+' | 'e' | 'E');
    let pieces = text.split(|c| !is_part(c)).rev();
    let trimmed = pieces.map(|piece| piece.trim_end_matches([',', '.', '-', '+', 'e', 'E']));
    let mut started = trimmed.map(|piece| piece.trim_start_matches(['.', ',', 'e', 'E']));
    started.find_map(number)
}

fn same_number(a: f64, b: f64) -> bool {
    // Two whole numbers that differ in the last digit are two numbers.
    if a.fract() == 0.0 && b.fract() == 0.0 {
        return a == b;
    }
    (a - b).abs() <= NUMBER_TOLERANCE * a.abs().max(b.abs())
}

/// The object or list that a text is, within a fence of Markdown or without.
fn json(text: &str) -> Option<Value> {
    let text = text.trim();
    let inner = text
        .strip_prefix("```")
        .and_then(|rest| rest.strip_suffix("```"));
    let text = inner.map_or(text, |inner| {
        inner.strip_prefix("json").unwrap_or(inner).trim()
    });
    if !text.starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Whether two values are the same: `1` is `1.0`, and fields stand in any order.
pub fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a
            .as_f64()
            .zip(b.as_f64())
            .is_some_and(|(a, b)| same_number(a, b)),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, value)| b.get(key).is_some_and(|other| same_json(value, other));
            a.len() == b.len() && a.iter().all(same)
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measure_fits_the_reference() {
        for (reference, want) in [
            ("Paris", Measure::Exact),
            ("", Measure::Exact),
            ("-1,234.50", Measure::Number),
            ("12 %", Measure::Number),
            ("1,2", Measure::Exact),
            ("2026-11-22", Measure::Exact),
            ("{\"a\": 1}", Measure::Json),
            ("```json\n[1, 2]\n```", Measure::Json),
            ("[sic] as it was", Measure::Exact),
            ("one two three four five six seven eight nine", Measure::F1),
        ] {
            assert_eq!(Measure::of(reference), want, "{reference:?}");
        }
    }

    #[test]
    fn answers_are_compared_as_people_would() {
        use Measure::{Contains, Exact, F1, Json, Number};
        for (measure, answer, reference, want) in [
            (Exact, " **Paris**. ", "paris", 1.0),
            (Exact, "The answer is Paris", "Paris", 0.0),
            (Exact, "C", "C++", 0.0),
            (Exact, "", "", 1.0),
            (Exact, "", "Paris", 0.0),
            (Contains, "It is Paris, France.", "Paris", 1.0),
            (Contains, "It is Parisian.", "Paris", 0.0),
            (Contains, "anything", "", 0.0),
            (Number, "3 + 4 makes 7, so: 1,042.0.", "1042", 1.0),
            (Number, "It is -5", "5", 0.0),
            (Number, "none", "5", 0.0),
            (Number, "1e3", "1000", 1.0),
            (Number, "12345678", "12345679", 0.0),
            (Number, "0.33333333", "0.333333333", 1.0),
            (
                Json,
                "```json\n{\"b\": [1.0], \"a\": \"x\"}\n```",
                "{\"a\": \"x\", \"b\": [1]}",
                1.0,
            ),
            (Json, "{\"a\": 1, \"b\": 2}", "{\"a\": 1}", 0.0),
            (Json, "{\"a\":", "{\"a\": 1}", 0.0),
            (F1, "the cat sat", "the cat stood", 2.0 / 3.0),
            (F1, "the the the", "the cat stood", 1.0 / 3.0),
            (F1, "", "the cat", 0.0),
            (F1, "私は猫", "私は犬", 2.0 / 3.0),
        ] {
            let got = measure.compare(answer, reference);
            assert!(
                (got - want).abs() < 1e-12,
                "{measure:?} {answer:?} {reference:?}: {got}"
            );
        }
    }

    #[test]
    fn nothing_is_more_alike_than_the_same() {
        for text in [
            "Paris",
            "-12.5",
            "{\"a\": [1, null]}",
            "a b c d e f g h i j",
            "",
            "…",
        ] {
            assert!((likeness(text, text) - 1.0).abs() < 1e-12, "{text:?}");
        }
    }
}
