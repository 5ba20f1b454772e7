//! Many questions side by side, with a bar, until they are answered or somebody stops them.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::runtime::{Builder, Runtime};

use crate::interrupt::Interrupt;
use crate::output::Console;
use crate::progress::{Progress, Unit};

/// How long nothing may happen before Ctrl-C is looked for again.
const WATCH: Duration = Duration::from_millis(100);

/// Threads that wait for answers. Models compute on threads of their own.
const THREADS: usize = 2;

/// Where all questions are asked from.
pub(super) struct Desk<'a> {
    pub(super) runtime: Runtime,
    pub(super) console: &'a Console,
    interrupt: Interrupt,
}

impl<'a> Desk<'a> {
    /// # Errors
    /// If the system refuses threads, or to listen for Ctrl-C.
    pub(super) fn new(console: &'a Console) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build()
            .context("cannot start the threads that wait for answers")?;
        Ok(Self {
            runtime,
            console,
            interrupt: Interrupt::install()?,
        })
    }

    /// Asks all questions, so many at a time, and has each answer kept as it comes. `done` of the bar were answered before.
    /// `false` if somebody stopped it: what was not answered then is given up.
    ///
    /// # Errors
    /// Those of `keep`.
    pub(super) fn ask<F: Future>(
        &self,
        label: &'static str,
        mut done: usize,
        questions: Vec<F>,
        parallel: usize,
        mut keep: impl FnMut(F::Output) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let total = (done + questions.len()) as u64;
        let mut bar = Progress::new(self.console, label, Unit::Examples);
        self.runtime.block_on(async {
            let mut asked = stream::iter(questions).buffer_unordered(parallel);
            loop {
                bar.update(done as u64, total);
                if self.interrupt.is_set() {
                    return Ok(false);
                }
                match tokio::time::timeout(WATCH, asked.next()).await {
                    Err(_) => {}
                    Ok(None) => return Ok(true),
                    Ok(Some(answered)) => {
                        bar.aside(|| keep(answered))?;
                        done += 1;
                    }
                }
            }
        })
    }
}
