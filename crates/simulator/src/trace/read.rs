//! A trace, line by line. Memory is that of one line, whatever the file holds.

use std::io::{self, BufRead, Read as _};

use troika_scheduler::Time;

use super::{Header, LINE_BYTES_MAX, NAME_CHARS_MAX, Row, SECONDS_MAX, TRACE_VERSION};
use crate::Arrival;

/// What is wrong with a trace, and where.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct TraceError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub fault: TraceFault,
}

/// What is wrong with a line of a trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceFault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// There is nothing in it.
    #[error("the trace is empty; it begins with {{\"troika_trace\":{TRACE_VERSION}}}")]
    Empty,
    /// There is a header and nothing else.
    #[error("the trace ends after its header: it holds no job")]
    NoJobs,
    /// The first line is no header.
    #[error("is no header of a trace ({why}); it begins with {{\"troika_trace\":{TRACE_VERSION}}}")]
    Header {
        /// What the parser says.
        why: String,
    },
    /// It was written by a newer program.
    #[error(
        "the trace has version {version}, and this program reads up to {TRACE_VERSION}; take a newer one"
    )]
    Version {
        /// Its version.
        version: u64,
    },
    /// A line that nobody would write.
    #[error("has more than {LINE_BYTES_MAX} bytes")]
    Long,
    /// It is no JSON object.
    #[error("is no JSON object")]
    NoObject,
    /// It is no JSON, or fields are missing, unknown or of the wrong kind.
    #[error("{why}")]
    Form {
        /// What the parser says.
        why: String,
    },
    /// A job that comes before the one on the line before.
    #[error("time goes backwards: {at_s} s, and line {before} has {before_s} s; sort by at_s")]
    Backwards {
        /// Its time.
        at_s: f64,
        /// The line of the job before it.
        before: u64,
        /// That one's time.
        before_s: f64,
    },
    /// A number that cannot be.
    #[error("{field} is {value}; it has to be a whole number from 1 to {most}")]
    Count {
        /// The field.
        field: &'static str,
        /// What it says.
        value: i64,
        /// The most that it may say.
        most: u32,
    },
    /// More in common than there is.
    #[error(
        "shared is {shared}; it has to be a whole number from 0 to prompt_tokens, {prompt_tokens}"
    )]
    Shared {
        /// What it says.
        shared: i64,
        /// Tokens of the prompt.
        prompt_tokens: u32,
    },
    /// A time that cannot be.
    #[error(
        "{field} is {value}; it has to be a number of seconds {from}, at most {SECONDS_MAX:.0}"
    )]
    Seconds {
        /// The field.
        field: &'static str,
        /// What it says.
        value: f64,
        /// Where its range begins, for people.
        from: &'static str,
    },
    /// A job that writes, and nobody knows how much.
    #[error("a job of kind \"generate\" needs tokens, the number that each answer had")]
    NoTokens,
    /// Nothing is written where no text is.
    #[error("only a job of kind \"generate\" has tokens, max_tokens or n")]
    NoText,
    /// More was written than was allowed.
    #[error("tokens is {tokens}, and max_tokens only {most}")]
    MoreThanAllowed {
        /// Written.
        tokens: u32,
        /// Allowed.
        most: u32,
    },
    /// A name that is none.
    #[error("{field} has to be a name of 1 to {NAME_CHARS_MAX} characters")]
    Name {
        /// The field.
        field: &'static str,
    },
    /// A model that nobody knows.
    #[error("{why}")]
    Model {
        /// The name, and what could be meant.
        why: String,
    },
}

/// Reads a trace. After an error it ends.
pub struct TraceReader<R, K> {
    from: R,
    /// Says whether a model is known, and if not, why.
    known: K,
    line: u64,
    /// The line and the time of the job before.
    last: Option<(u64, Time)>,
    is_over: bool,
    buffer: Vec<u8>,
}

impl<R: BufRead, K: FnMut(&str) -> Result<(), String>> TraceReader<R, K> {
    /// Reads the header. `known` says of each model that is named whether there is one, and if not, what is to be said.
    ///
    /// # Errors
    /// If the first line is no header that this program knows.
    pub fn new(from: R, known: K) -> Result<Self, TraceError> {
        let mut reader = Self {
            from,
            known,
            line: 0,
            last: None,
            is_over: false,
            buffer: Vec::new(),
        };
        let header = reader.header();
        header.map_err(|fault| reader.at_line(fault))?;
        Ok(reader)
    }

    fn header(&mut self) -> Result<(), TraceFault> {
        match self.next_line() {
            Ok(true) => {}
            Ok(false) => return Err(TraceFault::Empty),
            Err(TraceFault::NoObject) => {
                let why = "no JSON object".to_owned();
                return Err(TraceFault::Header { why });
            }
            Err(fault) => return Err(fault),
        }
        let header: Header = serde_json::from_slice(&self.buffer)
            .map_err(|error| TraceFault::Header { why: plain(&error) })?;
        match header.troika_trace {
            TRACE_VERSION => Ok(()),
            version => Err(TraceFault::Version { version }),
        }
    }

    /// Reads the next line that is not blank. `false` at the end.
    fn next_line(&mut self) -> Result<bool, TraceFault> {
        loop {
            self.line += 1;
            self.buffer.clear();
            // A file without line breaks is not read to its end.
            let read = (&mut self.from)
                .take(LINE_BYTES_MAX + 1)
                .read_until(b'\n', &mut self.buffer)?;
            if read as u64 > LINE_BYTES_MAX {
                return Err(TraceFault::Long);
            }
            match (read, self.buffer.trim_ascii()) {
                (0, _) => return Ok(false),
                (_, []) => {}
                // What could also be a struct's fields in a row is no line of a trace.
                (_, text) if !text.starts_with(b"{") => return Err(TraceFault::NoObject),
                _ => return Ok(true),
            }
        }
    }

    fn arrival(&mut self) -> Result<Option<Arrival>, TraceFault> {
        if !self.next_line()? {
            return match self.last {
                Some(_) => Ok(None),
                None => Err(TraceFault::NoJobs),
            };
        }
        let row: Row = serde_json::from_slice(&self.buffer)
            .map_err(|error| TraceFault::Form { why: plain(&error) })?;
        let arrival = row.arrival()?;
        if let Some((before, last)) = self.last.filter(|&(_, last)| arrival.at < last) {
            return Err(TraceFault::Backwards {
                at_s: arrival.at.seconds(),
                before,
                before_s: last.seconds(),
            });
        }
        (self.known)(&arrival.model).map_err(|why| TraceFault::Model { why })?;
        self.last = Some((self.line, arrival.at));
        Ok(Some(arrival))
    }

    fn at_line(&self, fault: TraceFault) -> TraceError {
        TraceError {
            line: self.line,
            fault,
        }
    }
}

impl<R: BufRead, K: FnMut(&str) -> Result<(), String>> Iterator for TraceReader<R, K> {
    type Item = Result<Arrival, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let arrival = self
            .arrival()
            .map_err(|fault| self.at_line(fault))
            .transpose();
        self.is_over = !matches!(arrival, Some(Ok(_)));
        arrival
    }
}

/// What the parser says, without its own count of lines: it sees one line only.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(what, _)| what);
    match error.column() {
        0 => what.to_owned(),
        column => format!("{what} (column {column})"),
    }
}
