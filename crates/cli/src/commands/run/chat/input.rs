//! Lines from the user, and messages made of them.

use anyhow::Context as _;
use rustyline::config::{Behavior, Config};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;

/// Around a message of several lines.
const FENCE: &str = "\"\"\"";

/// What reading a line, or a message of several, comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the file.
    End,
}

/// Where lines come from.
pub(super) trait Input {
    fn read(&mut self, prompt: &str) -> anyhow::Result<Line>;
}

/// The user's terminal, with editing and a history that ends with the program: what was said is nobody's business.
pub(super) struct Terminal(rustyline::Editor<(), MemHistory>);

impl Terminal {
    pub(super) fn new() -> anyhow::Result<Self> {
        // The prompt goes to the terminal itself; stdout may be a file.
        let config = Config::builder().behavior(Behavior::PreferTerm).build();
        let history = MemHistory::with_config(&config);
        let editor = rustyline::Editor::with_history(config, history);
        Ok(Self(editor.context("cannot read from the terminal")?))
    }
}

impl Input for Terminal {
    fn read(&mut self, prompt: &str) -> anyhow::Result<Line> {
        match self.0.readline(prompt) {
            Ok(text) => {
                // The history is a comfort: a line that does not fit is left out.
                let _ = self.0.add_history_entry(&text);
                Ok(Line::Text(text))
            }
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }
}

/// Reads one message: a line, or several between fences. Ctrl-C among several throws them away.
pub(super) fn read_message(input: &mut dyn Input) -> anyhow::Result<Line> {
    let first = input.read("> ")?;
    let Line::Text(text) = &first else {
        return Ok(first);
    };
    let Some(rest) = text.trim_start().strip_prefix(FENCE) else {
        return Ok(first);
    };
    let mut lines = Vec::new();
    let mut line = rest.to_owned();
    loop {
        if let Some(last) = line.trim_end().strip_suffix(FENCE) {
            lines.push(last.to_owned());
            break;
        }
        lines.push(line);
        line = match input.read(". ")? {
            Line::Text(text) => text,
            Line::Interrupted => return Ok(Line::Interrupted),
            Line::End => break,
        };
    }
    // A fence may stand on a line of its own.
    Ok(Line::Text(lines.join("\n").trim_matches('\n').to_owned()))
}
