//! What was captured, laid out in rows and in time, and drawn.
//!
//! A [`Film`] knows of each character when it appears. Its motion is one CSS animation per row: a cover that steps to the
//! right, with the cursor at its left edge.

use super::{Kind, Piece};

/// The loop begins with the whole text, so that a paused picture shows it.
const HOLD_S: f64 = 4.0;
const TYPING_S_MAX: f64 = 1.5;
const OUTPUT_S_MAX: f64 = 6.0;
/// What is over sooner is slowed down to be seen, within reason.
const OUTPUT_S_MIN: f64 = 4.0;
const SLOWDOWN_MAX: f64 = 40.0;

/// In pixels: font size, a column's width, a row's height, the bar's height, the space around the text.
const FONT: usize = 14;
const COLUMN: f64 = 8.4;
const ROW: usize = 21;
const BAR: usize = 36;
const PAD: usize = 16;
/// A viewer that does not know `textLength` may need a little more than the columns.
const SLACK: f64 = 10.0;

/// A character and when it appears, in seconds from the loop's start.
#[derive(Clone, Copy)]
struct Cell {
    char: char,
    at_s: f64,
    kind: Kind,
}

/// Text in rows and in time.
pub(super) struct Film {
    cells: Vec<Cell>,
    /// The window's width, in characters.
    columns: usize,
    /// The loop's length.
    total_s: f64,
    /// Seconds on the screen for a second of the real run; 1 when there is no output.
    slowdown: f64,
}

impl Film {
    /// The line is typed at a pace of our own; the output keeps its proportions.
    pub(super) fn new(typed: &str, pieces: &[Piece], columns: usize) -> Self {
        let mut film = Self {
            cells: Vec::new(),
            columns,
            total_s: HOLD_S,
            slowdown: 1.0,
        };
        film.push("$ ", Kind::Prompt, HOLD_S);
        let key_s = (TYPING_S_MAX / typed.chars().count() as f64).min(0.04);
        for char in typed.chars() {
            film.total_s += key_s;
            film.push(char.encode_utf8(&mut [0; 4]), Kind::Prompt, film.total_s);
        }
        film.push("\n", Kind::Prompt, film.total_s);
        let real_s = pieces.last().map_or(0.0, |piece| piece.at.as_secs_f64());
        let shown_s = real_s
            .max(OUTPUT_S_MIN.min(real_s * SLOWDOWN_MAX))
            .min(OUTPUT_S_MAX);
        if real_s > 0.0 {
            film.slowdown = shown_s / real_s;
        }
        for Piece { at, kind, text } in pieces {
            let at_s = film.total_s + at.as_secs_f64() * film.slowdown;
            film.push(text, *kind, at_s);
        }
        film.total_s += shown_s;
        if film.cells.last().is_some_and(|cell| cell.char != '\n') {
            film.push("\n", Kind::Stdout, film.total_s);
        }
        film.push("$ ", Kind::Prompt, film.total_s);
        // For the end to be seen, should the loop's first frame come late.
        film.total_s += 0.5;
        film
    }

    /// What the window's bar says of the speed.
    pub(super) fn speed(&self) -> String {
        let brief = |x: f64| format!("{x:.*}", usize::from(x < 9.95));
        match self.slowdown {
            x if x > 1.05 => format!("slowed down {} times", brief(x)),
            x if x < 0.95 => format!("sped up {} times", brief(1.0 / x)),
            _ => "in real time".to_owned(),
        }
    }

    fn push(&mut self, text: &str, kind: Kind, at_s: f64) {
        let text = text.replace('\t', "    ");
        let shown = text
            .chars()
            .filter(|&char| char == '\n' || !char.is_control());
        self.cells
            .extend(shown.map(|char| Cell { char, at_s, kind }));
    }

    /// The rows of the window: lines, broken between words where they are too long.
    fn rows(&self) -> Vec<&[Cell]> {
        let mut rows = Vec::new();
        for mut line in self.cells.split(|cell| cell.char == '\n') {
            while line.len() > self.columns {
                let space = line[..=self.columns]
                    .iter()
                    .rposition(|cell| cell.char == ' ');
                let end = space.filter(|&index| index > 0).unwrap_or(self.columns);
                rows.push(&line[..end]);
                line = &line[end + usize::from(line[end].char == ' ')..];
            }
            rows.push(line);
        }
        rows
    }

    /// The picture. In its text no character is missing; all motion is in the style sheet.
    pub(super) fn svg(&self, title: &str) -> String {
        let rows = self.rows();
        let (columns, lines) = (self.columns as f64 * COLUMN + SLACK, rows.len() * ROW);
        let (width, height) = (columns as usize + 2 * PAD, BAR + lines + PAD);
        let (mut style, mut texts, mut covers) = (String::new(), String::new(), String::new());
        for (i, row) in rows.iter().enumerate().filter(|(_, row)| !row.is_empty()) {
            let next = rows[i + 1..].iter().find_map(|row| row.first());
            let rest = if next.is_some() {
                columns
            } else {
                row.len() as f64 * COLUMN
            };
            style += &self.keyframes(i, row, next, rest);
            texts += &text(row, i * ROW + 15);
            covers += &format!(
                r#"<g transform="translate({rest:.1})" class="c" style="animation-name:r{i}"><path class="b" d="M0 {y}h{w:.1}v{ROW}h-{w:.1}z"/><path class="k" d="M0 {top}h8v17h-8z"/></g>
"#,
                y = i * ROW,
                w = columns + COLUMN,
                top = i * ROW + 2,
            );
        }
        let (title, speed, total_s, end) = (escape(title), self.speed(), self.total_s, width - PAD);
        let (middle, below) = (width / 2, height - 1);
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">
<title>{title}</title>
<style>
text{{font:{FONT}px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#dde1e8;white-space:pre}}
.b{{fill:#15171c}}.k{{fill:#dde1e8}}.p{{fill:#8fd6a4}}.e,.t{{fill:#8d95a3}}.t{{font-size:12px}}
.c{{animation:{total_s:.2}s step-end infinite}}
@media (prefers-reduced-motion:reduce){{.c{{animation:none!important}}}}
{style}</style>
<rect class="b" x=".5" y=".5" width="{inner}" height="{below}" rx="9" stroke="#7d8590" stroke-opacity=".5"/>
<g fill="#3d434e"><circle cx="22" cy="19" r="6"/><circle cx="42" cy="19" r="6"/><circle cx="62" cy="19" r="6"/></g>
<text class="t" x="{middle}" y="23" text-anchor="middle">{title}</text>
<text class="t" x="{end}" y="23" text-anchor="end">{speed}</text>
<svg x="{PAD}" y="{BAR}" width="{columns:.1}" height="{lines}" xml:space="preserve">
{texts}{covers}</svg>
</svg>
"##,
            inner = width - 1,
        )
    }

    /// How the cover of row `i` moves, with the cursor at its left edge. It rests outside, where `rest` says.
    fn keyframes(&self, i: usize, row: &[Cell], next: Option<&Cell>, rest: f64) -> String {
        let mut css = format!("@keyframes r{i}{{0%,to{{transform:translate({rest:.1}px)}}\n");
        let mut step = |at_s: f64, x: f64| {
            let percent = at_s / self.total_s * 100.0;
            css += &format!("{percent:.2}%{{transform:translate({x:.1}px)}}\n");
        };
        step(HOLD_S, -COLUMN);
        let mut shown = 0;
        for piece in row.chunk_by(|a, b| a.at_s == b.at_s) {
            shown += piece.len();
            step(piece[0].at_s, shown as f64 * COLUMN);
        }
        if let Some(next) = next {
            step(next.at_s, rest);
        }
        css + "}\n"
    }
}

/// One row as an element. Its length is given, because fonts differ in their widths.
fn text(row: &[Cell], y: usize) -> String {
    let length = row.len() as f64 * COLUMN;
    let mut out = format!(r#"<text y="{y}" textLength="{length:.1}">"#);
    for run in row.chunk_by(|a, b| a.kind == b.kind) {
        let text = escape(&run.iter().map(|cell| cell.char).collect::<String>());
        match run[0].kind {
            Kind::Stdout => out += &text,
            Kind::Prompt => out += &format!(r#"<tspan class="p">{text}</tspan>"#),
            Kind::Stderr => out += &format!(r#"<tspan class="e">{text}</tspan>"#),
        }
    }
    out + "</text>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const COLUMNS: usize = 88;

    fn piece(at_ms: u64, kind: Kind, text: &str) -> Piece {
        Piece {
            at: Duration::from_millis(at_ms),
            kind,
            text: text.to_owned(),
        }
    }

    fn rows(output: &str) -> Vec<String> {
        let film = Film::new("x", &[piece(1, Kind::Stdout, output)], COLUMNS);
        let rows = film.rows();
        let text = |row: &[Cell]| row.iter().map(|cell| cell.char).collect();
        rows.into_iter().map(text).collect()
    }

    /// When each character of the output appears, from the first on.
    fn output_s(film: &Film) -> Vec<f64> {
        let cells = film.cells.iter();
        let output: Vec<_> = cells.filter(|cell| cell.kind != Kind::Prompt).collect();
        output
            .iter()
            .map(|cell| cell.at_s - output[0].at_s)
            .collect()
    }

    #[test]
    fn rows_break_between_words() {
        let word = "a".repeat(40);
        assert_eq!(
            rows(&format!("{word} {word} {word}\n\n\tend\u{1b}\r\n")),
            ["$ x", &format!("{word} {word}"), &word, "", "    end", "$ "]
        );
        let full = "b".repeat(COLUMNS);
        assert_eq!(rows(&format!("{full} c\n")), ["$ x", &full, "c", "$ "]);
        assert_eq!(rows(&format!("{full}c")), ["$ x", &full, "c", "$ "]);
        assert_eq!(rows(&format!(" {full}"))[1], format!(" {}", &full[1..]));
    }

    #[test]
    fn output_keeps_its_proportions() {
        for (end_ms, factor) in [(5_000, 1.0), (50, 40.0), (1_000, 4.0), (60_000, 0.1)] {
            let at = [end_ms / 10, end_ms / 2, end_ms];
            let pieces = at.map(|at| piece(at, Kind::Stdout, "x"));
            let film = Film::new("command", &pieces, COLUMNS);
            let expect = at.map(|at_ms| (at_ms - at[0]) as f64 / 1e3 * factor);
            for (have, want) in output_s(&film).iter().zip(expect) {
                assert!((have - want).abs() < 1e-6, "{end_ms} ms: {have}, {want}");
            }
            assert!(film.total_s - HOLD_S <= 8.01, "{} s", film.total_s);
            assert_eq!(film.speed().starts_with("slowed"), factor > 1.0);
            assert_eq!(film.speed().starts_with("sped"), factor < 1.0);
        }
    }

    #[test]
    fn the_picture_is_whole_without_motion() {
        let pieces = [
            piece(10, Kind::Stdout, "1 < 2 && \"three\"\n"),
            piece(20, Kind::Stderr, "done"),
        ];
        let svg = Film::new("say <this>", &pieces, COLUMNS).svg("a & b");
        for part in [
            "<title>a &amp; b</title>",
            "$ say &lt;this&gt;</tspan>",
            ">1 &lt; 2 &amp;&amp; \"three\"</text>",
            "<tspan class=\"e\">done</tspan>",
            "prefers-reduced-motion",
            // The first cover rests beyond the right edge, the last behind the prompt.
            "<g transform=\"translate(749.2)\" class=\"c\" style=\"animation-name:r0\">",
            "<g transform=\"translate(16.8)\" class=\"c\" style=\"animation-name:r3\">",
            // The loop begins and ends so, too.
            "@keyframes r0{0%,to{transform:translate(749.2px)}",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        for foreign in ["<script", "href", "@import", "url(", "@font-face"] {
            assert!(!svg.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn nothing_written_is_a_picture_too() {
        let film = Film::new("", &[], COLUMNS);
        assert_eq!(film.rows().len(), 2);
        assert!(film.svg("").ends_with("</svg>\n"));
        assert!(film.cells.iter().all(|cell| cell.at_s.is_finite()));
    }
}
