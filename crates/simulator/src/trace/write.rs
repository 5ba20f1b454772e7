//! A trace as it is written: while jobs come and go, in the order of their arrival.
//!
//! How much a job writes is known when it ends, and jobs do not end in the order in which they came. So lines wait for those
//! of the jobs before them; what is written is flushed at once.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use super::{Header, Row, TRACE_VERSION};
use crate::Arrival;

/// Lines that wait for one job, at most; after that, it is left out.
const WAITING_MAX: usize = 4096;

/// A job that has come and whose line is to follow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(u64);

/// Records a trace. Owners are written as `k1`, `k2`, ... in the order in which they were first seen, so that a trace tells
/// who is the same and not who it is.
pub struct TraceWriter<W: Write> {
    to: W,
    owners: HashMap<String, usize>,
    next: u64,
    /// Jobs whose line is not written: those that are not done hold back those after them.
    waiting: BTreeMap<Ticket, Option<Row>>,
    left_out: u64,
}

impl<W: Write> TraceWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn new(to: W) -> io::Result<Self> {
        let mut writer = Self {
            to,
            owners: HashMap::new(),
            next: 0,
            waiting: BTreeMap::new(),
            left_out: 0,
        };
        let header = Header {
            troika_trace: TRACE_VERSION,
        };
        writer.line(&header)?;
        writer.to.flush()?;
        Ok(writer)
    }

    /// A job has come; its time is not before that of the one before. [`Self::finished`] or [`Self::forgotten`] follows.
    pub fn arrived(&mut self) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, None);
        ticket
    }

    /// A job has ended, well or not. The tokens of its work are those that each answer had, `max_tokens` is what its client
    /// allowed.
    ///
    /// # Errors
    /// If nothing can be written. The line is lost then.
    pub fn finished(
        &mut self,
        ticket: Ticket,
        arrival: &Arrival,
        max_tokens: Option<u32>,
    ) -> io::Result<()> {
        let owner = self.pseudonym(&arrival.owner);
        if let Some(line) = self.waiting.get_mut(&ticket) {
            *line = Some(Row::of(arrival, owner, max_tokens));
        }
        self.settle()
    }

    /// A job that is not to be recorded: it was refused before it was one.
    ///
    /// # Errors
    /// If nothing can be written.
    pub fn forgotten(&mut self, ticket: Ticket) -> io::Result<()> {
        self.waiting.remove(&ticket);
        self.settle()
    }

    /// Jobs that were left out since they took too long for the others to wait.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Writes what waits for jobs that are not done, without those, and gives back what was written to.
    ///
    /// # Errors
    /// If nothing can be written.
    pub fn close(mut self) -> io::Result<W> {
        self.left_out += self.waiting.values().filter(|line| line.is_none()).count() as u64;
        self.waiting.retain(|_, line| line.is_some());
        self.settle()?;
        Ok(self.to)
    }

    /// Writes all lines that wait for nobody.
    fn settle(&mut self) -> io::Result<()> {
        let mut has_written = false;
        while let Some(first) = self.waiting.first_entry() {
            if first.get().is_none() && self.waiting.len() <= WAITING_MAX {
                break;
            }
            match self.waiting.pop_first() {
                Some((_, Some(row))) => self.line(&row)?,
                _ => self.left_out += 1,
            }
            has_written = true;
        }
        match has_written {
            true => self.to.flush(),
            false => Ok(()),
        }
    }

    fn line(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        // One write for a line: a file that is cut off is cut between lines.
        let mut text = serde_json::to_vec(value)?;
        text.push(b'\n');
        self.to.write_all(&text)
    }

    fn pseudonym(&mut self, owner: &str) -> String {
        if owner.is_empty() {
            return String::new();
        }
        let next = self.owners.len() + 1;
        let number = *self.owners.entry(owner.to_owned()).or_insert(next);
        format!("k{number}")
    }
}

/// Writes a load as a trace.
///
/// # Errors
/// If nothing can be written.
pub fn write_trace<W: Write>(to: W, arrivals: &[Arrival]) -> io::Result<W> {
    let mut writer = TraceWriter::new(to)?;
    for arrival in arrivals {
        let ticket = writer.arrived();
        writer.finished(ticket, arrival, None)?;
    }
    writer.close()
}
