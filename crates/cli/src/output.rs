//! Where words go: answers to stdout, everything else to stderr.
//!
//! Texts that come from a model or its file may hold control characters, and a terminal obeys those: what is shown to
//! people goes through [`printable`] or [`line()`].

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use anyhow::Context as _;
use serde::Serialize;

/// Characters of a line of an error that are shown: long enough for any that we write.
const MESSAGE_WIDTH: usize = 2000;

/// What the user wants to hear, and in which form.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Console {
    /// Answers are JSON.
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
}

impl Console {
    /// A remark for people, on stderr; `--quiet` silences it.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            say(text);
        }
    }

    /// A remark that `-v` asks for.
    pub(crate) fn detail(&self, text: impl Display) {
        if self.verbose > 0 {
            say(text);
        }
    }
}

/// Whether a person may be watching.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A line on stderr, come what may.
pub(crate) fn say(text: impl Display) {
    // There is nobody left to tell when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// An error and its causes, on stderr.
pub(crate) fn error(error: &anyhow::Error) {
    error_to(&mut io::stderr().lock(), error);
}

/// An error and its causes.
pub(crate) fn error_to(to: &mut dyn Write, error: &anyhow::Error) {
    // They quote files and arguments. There is nobody left to tell when stderr is gone.
    let _ = writeln!(to, "error: {}", quoted(&error.to_string()));
    for cause in error.chain().skip(1) {
        let _ = writeln!(to, "  because: {}", quoted(&cause.to_string()));
    }
}

/// Lines of a message, harmless and each of bearable length.
fn quoted(message: &str) -> String {
    let lines: Vec<_> = message
        .trim_end()
        .lines()
        .map(|text| line(text, MESSAGE_WIDTH))
        .collect();
    lines.join("\n")
}

/// Writes an answer to stdout.
pub(crate) fn answer(text: impl Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = write!(out, "{text}").and_then(|()| out.flush());
    written.context("cannot write the answer")
}

/// Text that flows out piece by piece, and is seen at once.
pub(crate) struct Flow<'w> {
    to: &'w mut dyn Write,
    /// Whether control characters are taken out: for a terminal.
    cleans: bool,
    /// What goes before the first piece. Until that comes, a progress bar may have the line.
    opening: String,
    in_line: bool,
}

impl<'w> Flow<'w> {
    pub(crate) fn new(to: &'w mut dyn Write, cleans: bool, opening: &str) -> Self {
        Self {
            to,
            cleans,
            opening: opening.to_owned(),
            in_line: false,
        }
    }

    /// Writes more of the text.
    pub(crate) fn show(&mut self, text: &str) -> io::Result<()> {
        let opening = std::mem::take(&mut self.opening);
        for text in [&*opening, text] {
            if !text.is_empty() {
                self.in_line = !text.ends_with('\n');
                let shown = if self.cleans {
                    printable(text)
                } else {
                    text.into()
                };
                self.to.write_all(shown.as_bytes())?;
            }
        }
        self.to.flush()
    }

    /// Ends the text, and its line if it did not do so itself.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.show("")?;
        self.break_off()
    }

    /// Ends the line, if one has begun.
    pub(crate) fn break_off(&mut self) -> io::Result<()> {
        if self.in_line {
            self.show("\n")
        } else {
            Ok(())
        }
    }
}

/// Writes JSON to stdout, with line breaks for people.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write the answer as JSON")?;
    answer(format_args!("{text}\n"))
}

/// Writes JSON to stdout on one line, for programs that read lines.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value).context("cannot write the answer as JSON")?;
    answer(format_args!("{text}\n"))
}

/// The text without what a terminal would obey: control characters but line breaks and tabs become U+FFFD.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(harmful, "\u{fffd}"))
}

/// The text on one line of at most `width` characters, with an ellipsis where it was cut.
pub(crate) fn line(text: &str, width: usize) -> String {
    let mut out = String::new();
    for (shown, c) in text.chars().enumerate() {
        if shown == width {
            out.push('…');
            break;
        }
        out.push(match c {
            '\n' => '⏎',
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        });
    }
    out
}

/// The text on one line of at most `width` characters, cut in the middle: names differ at both ends.
pub(crate) fn ends(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= width {
        return line(text, width);
    }
    let tail = width * 3 / 5;
    let head = width.saturating_sub(tail + 1);
    let cut: String = chars[..head]
        .iter()
        .chain(&['…'])
        .chain(&chars[chars.len() - tail..])
        .collect();
    line(&cut, width)
}

/// The text in lines of at most `width` characters, broken at spaces, each after `indent` spaces and ended.
pub(crate) fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let text = line(text, usize::MAX);
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
    out
}

/// What is wrong with a TOML text, and in which line: the whole line may be too long to show, and hold anything.
pub(crate) fn toml_error(error: &toml::de::Error, text: &str) -> String {
    let message = line(error.message(), 400);
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            let (number, start) = (
                before.matches('\n').count() + 1,
                before.rfind('\n').map_or(0, |at| at + 1),
            );
            let shown = text[start..].lines().next().unwrap_or_default().trim();
            match shown {
                "" => format!("line {number}: {message}"),
                _ => format!("line {number}, `{}`: {message}", line(shown, 60)),
            }
        }
        None => message,
    }
}

/// How the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows in columns, two spaces apart, each line ended. A column without a word takes no room.
pub(crate) fn table<const N: usize>(align: [Align; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        let mut text = String::new();
        let cells = row.iter().zip(&align).zip(&widths);
        for ((cell, &align), &width) in cells.filter(|&(_, &width)| width > 0) {
            text.push_str(&match align {
                Align::Left => format!("{cell:<width$}  "),
                Align::Right => format!("{cell:>width$}  "),
            });
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Three significant digits, or all before the point.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// With the unit that people use: `7.2 M`, `1.24 B`.
pub(crate) fn count(value: u64) -> String {
    match value {
        0..1_000 => value.to_string(),
        1_000..1_000_000 => format!("{} K", number(value as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} M", number(value as f64 / 1e6)),
        _ => format!("{} B", number(value as f64 / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_given_no_commands() {
        for (text, want) in [
            ("plain\n\ttext", "plain\n\ttext"),
            ("\u{1b}[2J", "\u{fffd}[2J"),
            ("a\rb\u{7f}\u{9b}31m", "a\u{fffd}b\u{fffd}\u{fffd}31m"),
        ] {
            assert_eq!(printable(text), want);
        }
        assert_eq!(line("one\ntwo\u{7}", 80), "one⏎two\u{fffd}");
        assert_eq!(line("äöü", 2), "äö…");
        assert_eq!(line("äö", 2), "äö");
    }

    #[test]
    fn errors_are_harmless_too() {
        let error =
            anyhow::anyhow!("row \u{1b}[2J{}\n  second", "x".repeat(1 << 20)).context("out\rer");
        let mut out = Vec::new();
        error_to(&mut out, &error);
        let text = String::from_utf8(out).expect("is text");
        assert!(
            text.starts_with("error: out\u{fffd}er\n  because: row \u{fffd}[2Jxx"),
            "{text}"
        );
        assert!(
            text.ends_with("…\n  second\n") && text.len() < 3000,
            "{}",
            text.len()
        );
    }

    #[test]
    fn text_flows_and_ends_with_its_line() {
        for (opening, pieces, want) in [
            (
                "Once",
                &[" upon", " a\u{7} time"][..],
                "Once upon a\u{fffd} time\n",
            ),
            ("Once", &[], "Once\n"),
            ("", &["line\n"], "line\n"),
            ("", &[], ""),
        ] {
            let mut out = Vec::new();
            let mut flow = Flow::new(&mut out, true, opening);
            for piece in pieces {
                flow.show(piece).expect("memory takes everything");
            }
            flow.end().expect("memory takes everything");
            assert_eq!(String::from_utf8(out).as_deref(), Ok(want));
        }
    }

    #[test]
    fn long_texts_keep_both_ends_or_are_broken_at_spaces() {
        assert_eq!(ends("a long name, NPU", 10), "a l…e, NPU");
        assert_eq!(ends("short\u{7}", 10), "short\u{fffd}");
        assert_eq!(wrapped("one two three", 2, 9), "  one two\n  three\n");
        assert_eq!(wrapped("aVeryLongWord b", 1, 4), " aVeryLongWord\n b\n");
    }

    #[test]
    fn what_is_wrong_with_toml_is_short_and_harmless() {
        let shown = |text: &str| {
            let error = toml::from_str::<toml::Table>(text).expect_err("is wrong");
            toml_error(&error, text)
        };
        let broken = shown("a = 1\nb = \u{1b}[31m\n");
        assert!(
            broken.starts_with("line 2, `b = \u{fffd}[31m`: "),
            "{broken}"
        );
        for text in [
            format!("a = {}", "[".repeat(90_000)),
            "a = \"".to_owned() + &"ä".repeat(90_000),
        ] {
            assert!(shown(&text).chars().count() < 600);
        }
    }

    #[test]
    fn columns_stand_below_each_other() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let rows = [row("größe", "1"), row("n", "1000")];
        assert_eq!(
            table([Align::Left, Align::Right], &rows),
            "größe     1\nn      1000\n"
        );
        let rows = [row("", "1"), row("", "1000")];
        assert_eq!(table([Align::Left, Align::Right], &rows), "   1\n1000\n");
    }

    #[test]
    fn numbers_are_short() {
        for (value, want) in [(0.1234, "0.12"), (12.34, "12.3"), (812.4, "812")] {
            assert_eq!(number(value), want);
        }
        for (value, want) in [
            (999, "999"),
            (7_200_000, "7.20 M"),
            (8_030_261_248, "8.03 B"),
        ] {
            assert_eq!(count(value), want);
        }
    }
}
