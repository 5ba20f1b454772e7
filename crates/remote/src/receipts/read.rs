//! Reading receipts back: what they sum up to, and whether they are what was written.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::head::Head;
use super::line::{Entry, Hash, Line, Why};
use super::tally::Tally;

/// Why receipts cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptsError {
    /// A line is not what was written.
    #[error("line {line} of the receipts: {why}")]
    Broken {
        /// Which, from 1.
        line: u64,
        /// What is wrong.
        why: Why,
    },
    /// Another process writes them.
    #[error(
        "another server writes the receipts; two cannot write one chain, so nothing leaves by this one"
    )]
    Busy,
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// Read, write, ...
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ReceiptsError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// What a chain that holds looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its lines.
    pub lines: u64,
    /// Of these, beginnings: requests that were let go.
    pub sent: u64,
    /// Of these, those that never ended: the process died, or it is still at it.
    pub open: u64,
    /// Lines that a process that died left unfinished, and which were put aside.
    pub torn: u64,
    /// Bytes after the last line, of a line that is not finished: somebody is writing, or died, or added them.
    pub unfinished_bytes: u64,
    /// Lines that the file of the head vouches for: none of them can be cut off unseen.
    pub vouched: u64,
    /// The hash of the last line. Noted elsewhere, it proves later that nothing up to here was changed.
    pub head: Hash,
}

/// All of a file of receipts, checked.
pub(super) struct Chain {
    pub(super) tally: Tally,
    pub(super) summary: Summary,
    /// Bytes up to the end of the last line.
    pub(super) bytes: u64,
    /// What comes after.
    pub(super) tail: Vec<u8>,
}

/// Checks every line.
///
/// # Errors
/// The first line that is not what was written; or that the file cannot be read.
pub fn verify(path: &Path) -> Result<Summary, ReceiptsError> {
    walk(path, |_| ()).map(|chain| chain.summary)
}

/// Whether a hash that was noted is of one of the lines, and of which. The chain is checked up to its end.
///
/// # Errors
/// As [`verify`].
pub fn find(path: &Path, noted: Hash) -> Result<Option<u64>, ReceiptsError> {
    let mut found = None;
    let mut number = 0;
    walk(path, |hash| {
        number += 1;
        if hash == noted {
            found = Some(number);
        }
    })?;
    Ok(found)
}

/// What they sum up to; checks every line.
///
/// # Errors
/// As [`verify`].
pub fn read(path: &Path) -> Result<Tally, ReceiptsError> {
    walk(path, |_| ()).map(|chain| chain.tally)
}

/// Goes through all lines, and shows each one's hash.
pub(super) fn walk(path: &Path, mut each: impl FnMut(Hash)) -> Result<Chain, ReceiptsError> {
    // Before the lines: a server that writes may be ahead of what was read, and never behind.
    let head = Head::read(path).map_err(ReceiptsError::io("read the head of", path))?;
    let file = File::open(path).map_err(ReceiptsError::io("open", path))?;
    let mut file = BufReader::new(file);
    let mut tally = Tally::default();
    let (mut hash, mut lines, mut bytes, mut torn) = (Hash::origin(), 0, 0, 0);
    let mut text = Vec::new();
    loop {
        text.clear();
        let length = file.read_until(b'\n', &mut text);
        let length = length.map_err(ReceiptsError::io("read", path))?;
        let Some(line) = text.strip_suffix(b"\n") else {
            break;
        };
        lines += 1;
        let broken = |why| ReceiptsError::Broken { line: lines, why };
        let (line, next) = Line::unseal(line, lines, hash).map_err(broken)?;
        if head.is_some_and(|head| head.lines == lines && head.hash != next) {
            return Err(broken(Why::OtherHead));
        }
        torn += u64::from(matches!(line.entry, Entry::Torn { .. }));
        tally.add(line).map_err(broken)?;
        hash = next;
        bytes += length as u64;
        each(hash);
    }
    let vouched = vouched(head, lines).map_err(|why| ReceiptsError::Broken {
        line: lines + 1,
        why,
    })?;
    let summary = Summary {
        lines,
        sent: tally.sent(),
        open: tally.open(),
        torn,
        unfinished_bytes: text.len() as u64,
        vouched,
        head: hash,
    };
    Ok(Chain {
        tally,
        summary,
        bytes,
        tail: text,
    })
}

/// How many lines the head vouches for, if it can be so.
fn vouched(head: Option<Head>, lines: u64) -> Result<u64, Why> {
    match head {
        Some(head) if head.lines > lines => Err(Why::Cut { want: head.lines }),
        Some(head) => Ok(head.lines),
        // A file that was just made.
        None if lines == 0 => Ok(0),
        None => Err(Why::NoHead),
    }
}
