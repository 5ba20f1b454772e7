//! Editing JSON as text: strings are read and written without their escapes, and everything else stays byte for byte.

use serde::de::IgnoredAny;

/// What becomes of a string or a number: itself, or another string. It is told the key whose value it is.
pub(super) type Edit<'a> = dyn FnMut(&str, Option<&str>) -> Option<String> + 'a;

/// Whether a text is an object or an array, as a whole.
pub(super) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The text with its strings edited; `None` if nothing changes. Keys are strings, too. A number that is edited becomes a
/// string. `text` is JSON.
pub(super) fn edited(text: &str, edit: &mut Edit<'_>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut any = false;
    let (mut key, mut in_array) = (None, Vec::new());
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        let length = match byte {
            b'"' => string_length(&text[at..]),
            b'-' | b'0'..=b'9' => number_length(&text[at..]),
            _ => 1,
        };
        let token = text.get(at..at + length)?;
        at += length;
        match byte {
            b'"' => {
                let string: String = serde_json::from_str(token).ok()?;
                let is_key = text[at..].trim_start().starts_with(':');
                let new = edit(&string, key.as_deref().filter(|_| !is_key));
                any |= new.is_some();
                match new {
                    Some(new) => out.push_str(&quoted(&new)),
                    None => out.push_str(token),
                }
                if is_key {
                    key = Some(string);
                }
                continue;
            }
            b'-' | b'0'..=b'9' => {
                if let Some(new) = edit(token, None) {
                    any = true;
                    out.push_str(&quoted(&new));
                    continue;
                }
            }
            b'{' | b'[' => {
                in_array.push(byte == b'[');
                if byte == b'{' {
                    key = None;
                }
            }
            b'}' | b']' => {
                in_array.pop();
            }
            b',' if in_array.last() == Some(&false) => key = None,
            _ => {}
        }
        // Outside of strings all of JSON is ASCII.
        out.push_str(token);
    }
    any.then_some(out)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Bytes of a string at the beginning, with its quotes.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (i, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

fn number_length(text: &str) -> usize {
    let is_part = |b: &u8| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    text.bytes().take_while(is_part).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_edited_changes() {
        let text = r#" {"a\u0062": ["x\n\"y\"", 1.50e3, -12345678901234567890123, true], "k":{"l":"m"},"n":"x"} "#;
        assert!(is_json(text));
        let mut seen = Vec::new();
        let same = edited(text, &mut |string, key| {
            seen.push((string.to_owned(), key.map(str::to_owned)));
            None
        });
        assert_eq!(same, None);
        let pair = |string: &str, key: &str| {
            (string.to_owned(), (!key.is_empty()).then(|| key.to_owned()))
        };
        let want = [
            pair("ab", ""),
            pair("x\n\"y\"", "ab"),
            pair("1.50e3", ""),
            pair("-12345678901234567890123", ""),
            pair("k", ""),
            pair("l", ""),
            pair("m", "l"),
            pair("n", ""),
            pair("x", "n"),
        ];
        assert_eq!(seen, want);
        let new = edited(text, &mut |string, _| match string {
            "x\n\"y\"" => Some("[NAME_1]\"".to_owned()),
            "1.50e3" => Some("[CARD_1]".to_owned()),
            _ => None,
        });
        let want = text
            .replace(r#""x\n\"y\"""#, r#""[NAME_1]\"""#)
            .replace("1.50e3", "\"[CARD_1]\"");
        assert_eq!(new, Some(want));
    }

    #[test]
    fn texts_that_are_no_json_are_told() {
        for text in ["", "text", "\"a\"", "{a}", "[1", "[1] and"] {
            assert!(!is_json(text), "{text}");
        }
    }
}
