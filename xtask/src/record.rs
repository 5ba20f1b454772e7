//! `cargo xtask record`: a command's output as a small animated picture of a terminal.
//!
//! The picture is one SVG file without scripts and fonts. All text is always in it; while it is "typed", a cover in the
//! window's colour slides off each row, so a viewer that animates nothing shows everything. Not a terminal emulator: the
//! command sees pipes, control characters are dropped, and each character takes one column.

mod film;

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use self::film::Film;

/// Run a command and draw what it writes as an animated SVG
#[derive(clap::Args)]
pub(crate) struct Args {
    /// File to write
    #[arg(value_name = "OUT.svg")]
    output: PathBuf,

    /// What the window's bar says
    #[arg(long, value_name = "TEXT", default_value = "troika")]
    title: String,

    /// What is shown as typed, instead of the command
    #[arg(long = "as", value_name = "LINE")]
    typed: Option<String>,

    /// Characters in a row; longer lines are broken between words
    #[arg(long, value_name = "N", default_value_t = 88, value_parser = clap::value_parser!(u16).range(20..=200))]
    columns: u16,

    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// A larger picture would be slow to load.
const BYTES_MAX: usize = 60_000;
/// Two threads read, so the end of an answer and a remark on it may come in either order; the answer goes first.
const GRACE: Duration = Duration::from_millis(3);

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let typed = args.typed.clone().unwrap_or_else(|| line(&args.command));
    let film = Film::new(&typed, &capture(&args.command)?, args.columns.into());
    let svg = film.svg(&args.title);
    let (kib, path) = (svg.len().div_ceil(1024), args.output.display());
    ensure!(
        svg.len() < BYTES_MAX,
        "the picture takes {kib} KiB; record something shorter"
    );
    std::fs::write(&args.output, svg).with_context(|| format!("cannot write {path}"))?;
    println!("{path}: {kib} KiB, {}", film.speed());
    Ok(())
}

/// The command as one would type it.
fn line(command: &[OsString]) -> String {
    let quote = |word: &OsString| {
        let word = word.to_string_lossy();
        match word.contains(char::is_whitespace) {
            true => format!("\"{word}\""),
            false => word.into_owned(),
        }
    };
    command.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// What a character belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Prompt,
    Stdout,
    Stderr,
}

/// What came in one read, `at` this time after the start.
struct Piece {
    at: Duration,
    kind: Kind,
    text: String,
}

/// Runs the command and returns what it wrote, in the order of arrival.
///
/// # Errors
/// If it cannot be run or fails.
fn capture(command: &[OsString]) -> anyhow::Result<Vec<Piece>> {
    let name = command[0].to_string_lossy();
    let started = Instant::now();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = stdout.expect("stdout is piped");
    let stderr = stderr.expect("stderr is piped");
    let mut pieces = std::thread::scope(|scope| {
        let stderr = scope.spawn(|| read(stderr, Kind::Stderr, started));
        let mut pieces = read(stdout, Kind::Stdout, started)?;
        pieces.extend(stderr.join().expect("reading does not panic")?);
        io::Result::Ok(pieces)
    })?;
    let status = child.wait()?;
    ensure!(status.success(), "{name} failed: {status}");
    for piece in pieces.iter_mut().filter(|piece| piece.kind == Kind::Stderr) {
        piece.at += GRACE;
    }
    pieces.sort_by_key(|piece| piece.at);
    Ok(pieces)
}

/// Reads to the end; each piece ends with a whole character.
fn read(mut from: impl Read, kind: Kind, started: Instant) -> io::Result<Vec<Piece>> {
    let (mut pieces, mut bytes, mut buffer) = (Vec::new(), Vec::new(), [0; 4096]);
    loop {
        let size = from.read(&mut buffer)?;
        if size == 0 {
            return Ok(pieces);
        }
        bytes.extend_from_slice(&buffer[..size]);
        // Half a character waits for its other half.
        let whole = match std::str::from_utf8(&bytes) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => bytes.len(),
        };
        let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
        bytes.drain(..whole);
        let at = started.elapsed();
        pieces.push(Piece { at, kind, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_captured() {
        let command = [env!("CARGO").into(), "--version".into()];
        let pieces = capture(&command).expect("cargo runs");
        let text: String = pieces.iter().map(|piece| &*piece.text).collect();
        assert!(text.starts_with("cargo 1."), "{text}");
        assert!(pieces.iter().all(|piece| piece.kind == Kind::Stdout));

        let failing = [env!("CARGO").into(), "no-such-verb".into()];
        assert!(capture(&failing).is_err());
        assert!(capture(&["./no-such-program".into()]).is_err());
    }

    #[test]
    fn a_character_in_two_reads_stays_whole() {
        let bytes = "a·b".as_bytes();
        let from = bytes[..2].chain(&bytes[2..]);
        let pieces = read(from, Kind::Stderr, Instant::now()).expect("memory can be read");
        let texts: Vec<_> = pieces.iter().map(|piece| &*piece.text).collect();
        assert_eq!(texts, ["a", "·b"]);
        assert!(pieces[0].at <= pieces[1].at);
    }
}
