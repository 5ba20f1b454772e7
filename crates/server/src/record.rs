//! The record of the jobs that came, for `troika simulate` to play again: lengths, classes and times, and no word of what
//! was asked or answered. Who asked is a number.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use troika_scheduler::{Time, Work};
use troika_simulator::{Arrival, Ticket, TraceWriter};

use crate::job::{Caller, EmbedJob, Job, Wishes};
use crate::settings::SettingsError;

/// Writes the record. Clones write the same one.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Shared>);

struct Shared {
    begun: Instant,
    /// `None` after it could not be written.
    trace: Mutex<Option<TraceWriter<File>>>,
}

impl Recorder {
    /// Begins a record. One that is there already is kept under another name.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, SettingsError> {
        let begun = || {
            if std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
                std::fs::rename(path, free_name(path))?;
            }
            TraceWriter::new(File::create(path)?)
        };
        let trace = begun().map_err(|source| SettingsError::Record {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self(Arc::new(Shared {
            begun: Instant::now(),
            trace: Mutex::new(Some(trace)),
        })))
    }

    /// A job has come.
    pub(crate) fn job(&self, job: &Job, caller: &Caller) -> Line {
        let work = Work::Write {
            n: number(job.n),
            max_tokens: 1,
        };
        let max_tokens = job.max_tokens.map(number);
        self.line(&job.model, &job.wishes, caller, work, 1, max_tokens)
    }

    /// Texts to embed have come, each of which is a job.
    pub(crate) fn embedding(&self, job: &EmbedJob, caller: &Caller) -> Line {
        let jobs = job.inputs.len();
        self.line(&job.model, &job.wishes, caller, Work::Embed, jobs, None)
    }

    fn line(
        &self,
        model: &str,
        wishes: &Wishes,
        caller: &Caller,
        work: Work,
        jobs: usize,
        max_tokens: Option<u32>,
    ) -> Line {
        // Under one lock, so that times stand in the order of the tickets.
        let (at, tickets) = self
            .with(|trace| {
                let at = Time::default() + self.0.begun.elapsed();
                let tickets = (0..jobs).map(|_| trace.arrived()).collect();
                Ok((at, tickets))
            })
            .unwrap_or_default();
        let arrival = Arrival {
            at,
            model: model.to_owned(),
            class: wishes.class.unwrap_or_default(),
            owner: caller.key.clone().unwrap_or_default(),
            prompt_tokens: 1,
            shared: 0,
            work,
            deadline: wishes.deadline,
            leaves: None,
            device: wishes.device.clone(),
        };
        Line {
            recorder: self.clone(),
            begun: Instant::now(),
            tickets,
            arrival,
            max_tokens,
        }
    }

    /// Writes. If that fails, it is said once, and the record ends there.
    fn with<T>(&self, write: impl FnOnce(&mut TraceWriter<File>) -> io::Result<T>) -> Option<T> {
        let trace = self.0.trace.lock();
        let mut trace = trace.unwrap_or_else(PoisonError::into_inner);
        let written = write(trace.as_mut()?);
        let failed = |error: &io::Error| tracing::error!(%error, "jobs are no longer recorded");
        match written.inspect_err(failed) {
            Ok(value) => Some(value),
            Err(_) => {
                *trace = None;
                None
            }
        }
    }
}

/// The lines of a request's job, before its lengths are known. Dropping it leaves them out.
pub(crate) struct Line {
    recorder: Recorder,
    begun: Instant,
    tickets: Vec<Ticket>,
    arrival: Arrival,
    max_tokens: Option<u32>,
}

impl Line {
    /// The job is done. Tokens are those of all its texts, or answers; `cached` of the prompt's were in the cache of its
    /// owner.
    pub(crate) fn done(mut self, prompt: usize, cached: usize, completion: usize) {
        let tickets = std::mem::take(&mut self.tickets);
        let jobs = tickets.len().max(1);
        // Of a list of texts only the sums are known; they are taken to be of one length.
        self.arrival.prompt_tokens = number(prompt.div_ceil(jobs));
        let cached = u32::try_from(cached / jobs).unwrap_or(u32::MAX);
        self.arrival.shared = cached.min(self.arrival.prompt_tokens);
        if let Work::Write { n, max_tokens } = &mut self.arrival.work {
            *max_tokens = number(completion.div_ceil(*n as usize));
        }
        self.recorder.with(|trace| {
            let mut tickets = tickets.into_iter();
            tickets.try_for_each(|ticket| trace.finished(ticket, &self.arrival, self.max_tokens))
        });
    }

    /// The client left before the job was done.
    pub(crate) fn left(mut self, prompt: usize, cached: usize, completion: usize) {
        self.arrival.leaves = Some(self.begun.elapsed());
        self.done(prompt, cached, completion);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let tickets = std::mem::take(&mut self.tickets);
        self.recorder.with(|trace| {
            let mut tickets = tickets.into_iter();
            tickets.try_for_each(|ticket| trace.forgotten(ticket))
        });
    }
}

/// At least 1, as a trace has it.
fn number(n: usize) -> u32 {
    u32::try_from(n.max(1)).unwrap_or(u32::MAX)
}

/// The first of `load.jsonl.1`, `load.jsonl.2`, ... that is free.
fn free_name(path: &Path) -> PathBuf {
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    let mut names = (1..).map(numbered);
    names
        .find(|name| !name.exists())
        .expect("there is always a further number")
}

#[cfg(test)]
mod tests;
