//! How Python writes its values and treats text, where Rust does otherwise.

/// What `str.strip` and `\s` take for whitespace: Unicode's, and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `repr` of a float: the shortest digits that read back, in scientific notation from 1e16 and below 1e-4.
pub(super) fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        // `{:?}` has a fraction always, and no exponent in this range.
        let plain = format!("{value}");
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// `repr` of a character within a string quoted by `quote`, or `None` if it stands for itself.
pub(super) fn char_repr(c: char, quote: char) -> Option<String> {
    match c {
        '\n' => Some("\\n".to_owned()),
        '\r' => Some("\\r".to_owned()),
        '\t' => Some("\\t".to_owned()),
        '\\' => Some("\\\\".to_owned()),
        _ if c == quote => Some(format!("\\{c}")),
        ' '..='~' => None,
        _ if is_printable(c) => None,
        _ => Some(match c as u32 {
            code @ 0..=0xff => format!("\\x{code:02x}"),
            code @ 0x100..=0xffff => format!("\\u{code:04x}"),
            code => format!("\\U{code:08x}"),
        }),
    }
}

/// The quote that `repr` puts around a string.
pub(super) fn repr_quote(text: &str) -> char {
    if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    }
}

fn is_printable(c: char) -> bool {
    // Rust escapes what Unicode calls unprintable, and a mark that has nothing before it to combine with.
    let text: String = ['a', c].iter().collect();
    text.escape_debug().nth(1) != Some('\\')
}

/// `str.capitalize`
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    first + &chars.as_str().to_lowercase()
}

/// `str.title`: a letter is upper case unless it follows a letter.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphabetic();
    }
    out
}

/// The lines of a text as `str.splitlines` sees them, each with its end.
pub(super) fn lines_with_ends(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (at, end) = rest.char_indices().find(|&(_, c)| is_line_end(c)).unzip();
        let len = match (at, end) {
            (Some(at), Some('\r')) if rest[at + 1..].starts_with('\n') => at + 2,
            (Some(at), Some(end)) => at + end.len_utf8(),
            _ => rest.len(),
        };
        let (line, after) = rest.split_at(len);
        rest = after;
        (len > 0).then_some(line)
    })
}

/// A line without its end.
pub(super) fn without_end(line: &str) -> &str {
    match line.strip_suffix("\r\n") {
        Some(line) => line,
        None => line.strip_suffix(is_line_end).unwrap_or(line),
    }
}

fn is_line_end(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_python_writes_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float_repr(value), text);
        }
    }

    #[test]
    fn lines_as_python_splits_them() {
        let lines = |text| lines_with_ends(text).map(without_end).collect::<Vec<_>>();
        assert_eq!(lines("a\nb\r\nc\rd\u{2028}e"), ["a", "b", "c", "d", "e"]);
        assert_eq!(lines("a\n\n"), ["a", ""]);
        assert_eq!(lines(""), [""; 0]);
    }

    #[test]
    fn unprintable_characters() {
        let escaped = |c| char_repr(c, '\'');
        assert_eq!(escaped('\u{7f}').as_deref(), Some("\\x7f"));
        assert_eq!(escaped('\u{200b}').as_deref(), Some("\\u200b"));
        assert_eq!(escaped('\u{301}'), None, "a combining accent");
        assert_eq!(escaped('é'), None);
        assert_eq!(escaped('🦀'), None);
        assert_eq!(escaped('"'), None);
    }
}
