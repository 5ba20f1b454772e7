//! Words and pieces of lines: what is measured in columns of a terminal.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use troika_scheduler::{Class, JoulesSource};

use crate::output;

/// Whether there are colours, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Theme {
    /// Without colours, what is bold and what is reversed must do; nothing is told by colour alone.
    pub(super) colours: bool,
}

impl Theme {
    fn colour(self, colour: Color) -> Style {
        match self.colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    pub(super) fn class(self, class: Class) -> Style {
        self.colour(match class {
            Class::Interactive => Color::Blue,
            Class::Agent => Color::Cyan,
            Class::Background => Color::Yellow,
            Class::Batch => Color::Magenta,
        })
    }

    pub(super) fn good(self) -> Style {
        self.colour(Color::Green)
    }

    pub(super) fn warning(self) -> Style {
        self.colour(Color::Yellow)
    }

    pub(super) fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn soft(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// A text from elsewhere on one line, without what a terminal would obey or what turns the reading around.
pub(super) fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    output::line(text, usize::MAX).replace(turns, "\u{fffd}")
}

/// Columns that a text takes.
pub(super) fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

/// The text in at most so many columns, with an ellipsis where it was cut.
pub(super) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut taken = 0;
    let mut buffer = [0; 4];
    for c in text.chars() {
        taken += columns(c.encode_utf8(&mut buffer));
        // One column is the ellipsis'.
        if taken + 1 > width {
            break;
        }
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// The text in exactly so many columns.
pub(super) fn fitted(text: &str, width: usize) -> String {
    let mut out = cut(text, width);
    let missing = width.saturating_sub(columns(&out));
    out.extend(std::iter::repeat_n(' ', missing));
    out
}

/// A bar of so many columns, filled by a share from 0 to 1.
pub(super) fn bar(share: f64, width: usize) -> String {
    let filled = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    "█".repeat(filled) + &"░".repeat(width - filled)
}

/// A whole that has parts: words that belong together.
pub(super) type Piece = Vec<Span<'static>>;

/// Pieces one after the other, three columns apart, on as many lines as they need.
pub(super) fn flow(
    pieces: impl IntoIterator<Item = Piece>,
    indent: usize,
    width: usize,
) -> Vec<Line<'static>> {
    const GAP: usize = 3;
    let begin = || Line::from(" ".repeat(indent));
    let mut lines = vec![begin()];
    for piece in pieces {
        let needs: usize = piece.iter().map(Span::width).sum();
        let line = lines.last_mut().expect("there is one");
        let is_first = line.width() <= indent;
        let line = if is_first {
            line
        } else if line.width() + GAP + needs > width {
            lines.push(begin());
            lines.last_mut().expect("there is one")
        } else {
            line.push_span(" ".repeat(GAP));
            line
        };
        line.extend(piece);
    }
    lines
}

/// `240 ms`, `4.2 s`, `3 min`, `2 h 5 min`.
pub(super) fn span(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "-".to_owned();
    }
    let seconds = seconds.max(0.0);
    match seconds {
        0.0 => "0 s".to_owned(),
        ..0.9995 => format!("{:.0} ms", seconds * 1e3),
        ..99.95 => format!("{seconds:.1} s"),
        _ => {
            let minutes = (seconds.min(1e12) / 60.0).round() as u64;
            match minutes / 60 {
                0 => format!("{minutes} min"),
                hours => format!("{hours} h {} min", minutes % 60),
            }
        }
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Where watts come from.
pub(super) fn source(source: Option<JoulesSource>) -> &'static str {
    match source {
        Some(JoulesSource::Estimated) => "estimated",
        Some(JoulesSource::Measured) => "measured",
        Some(JoulesSource::Mixed) => "partly measured",
        Some(JoulesSource::Unknown) | None => "of unknown source",
    }
}

/// What a policy does, in a sentence.
pub(super) fn policy(name: &str) -> &'static str {
    match name {
        "fastest" => "every job as soon as possible",
        "balanced" => "people and their programs fast, the rest frugal",
        "frugal" => "as few joules as each class's needs allow",
        "cool" => "as few watts at a time as each class's needs allow: quiet fans",
        "battery" => "frugal, and what nobody waits for waits for the mains",
        "PREFER_CPU" => "balanced, but on the CPU wherever it will do",
        "PREFER_GPU" => "balanced, but on the GPU wherever it will do",
        "PREFER_NPU" => "balanced, but on the NPU wherever it will do",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_take_the_columns_they_are_given() {
        for (text, width, want) in [
            ("short", 8, "short   "),
            ("much too long", 8, "much to…"),
            ("千问千问千问", 7, "千问千…"),
            ("千问千问千问", 6, "千问… "),
            ("x", 0, ""),
        ] {
            let fits = fitted(text, width);
            assert_eq!(fits, want);
            assert_eq!(columns(&fits), width, "{text}");
        }
        assert_eq!(clean("a\u{1b}[2J\nb\u{202e}c"), "a\u{fffd}[2J⏎b\u{fffd}c");
    }

    #[test]
    fn pieces_that_do_not_fit_go_to_the_next_line() {
        let pieces = ["one", "two", "a long one", "x"].map(|text| vec![Span::raw(text)]);
        let lines: Vec<_> = flow(pieces, 2, 12).iter().map(Line::to_string).collect();
        assert_eq!(lines, ["  one   two", "  a long one", "  x"]);
    }

    #[test]
    fn spans_of_time_are_short() {
        for (seconds, want) in [
            (0.0, "0 s"),
            (-1.0, "0 s"),
            (0.24, "240 ms"),
            (0.9999, "1.0 s"),
            (96.0, "96.0 s"),
            (180.0, "3 min"),
            (7_261.0, "2 h 1 min"),
            (f64::INFINITY, "-"),
        ] {
            assert_eq!(span(seconds), want);
        }
        assert_eq!(bar(0.5, 4), "██░░");
        assert_eq!(bar(f64::NAN, 2), "░░");
        assert_eq!(bar(7.0, 2), "██");
    }

    #[test]
    fn every_policy_has_its_sentence() {
        for name in super::super::app::policies() {
            assert!(!policy(name).is_empty(), "{name}");
        }
    }
}
