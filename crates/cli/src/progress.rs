//! Bars for long work: on stderr, for a person who watches, and only once the work turns out to be long.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{self, Console};

/// Work that is over sooner than this goes without a bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Tokens,
    Texts,
    Pictures,
    Windows,
    Runs,
    Examples,
    Percent,
    Weights,
    Tensors,
    /// Nothing: how long it has taken is all that is known.
    Time,
}

/// A bar that may never be seen. It goes away when dropped.
pub(crate) struct Progress {
    label: &'static str,
    unit: Unit,
    started: Instant,
    enabled: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(console: &Console, label: &'static str, unit: Unit) -> Self {
        Self {
            label,
            unit,
            started: Instant::now(),
            enabled: !console.quiet && output::stderr_is_terminal(),
            bar: None,
        }
    }

    /// Shows how far the work is.
    pub(crate) fn update(&mut self, done: u64, total: u64) {
        if self.bar.is_none() {
            if !self.enabled || self.started.elapsed() < PATIENCE {
                return;
            }
            let bar = ProgressBar::new(total).with_elapsed(self.started.elapsed());
            bar.set_style(style(self.unit));
            bar.set_message(self.label);
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Shows how it looks so far.
    pub(crate) fn remark(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} {text}", self.label));
        }
    }

    /// Does something else with the terminal's line, and shows the bar again after it.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(work),
            None => work(),
        }
    }

    /// Takes the bar away, so that something else can be written.
    pub(crate) fn clear(&mut self) {
        self.enabled = false;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(unit: Unit) -> ProgressStyle {
    let template = match unit {
        Unit::Bytes => "{msg} {bar:30} {bytes} of {total_bytes}",
        Unit::Tokens => "{msg} {bar:30} {pos} of {len} tokens",
        Unit::Texts => "{msg} {bar:30} {pos} of {len} texts",
        Unit::Pictures => "{msg} {bar:30} {pos} of {len} pictures",
        Unit::Weights => "{msg} {bar:30} {percent} %, {eta} to go",
        Unit::Tensors => "{msg} {bar:30} {pos} of {len} tensors, {eta} to go",
        Unit::Percent => "{msg} {bar:30} {percent} %",
        Unit::Windows => "{msg} {bar:30} {pos} of {len} windows",
        Unit::Time => "{spinner} {msg}, {elapsed}",
        Unit::Examples => "{msg} {bar:30} {pos} of {len} examples, {eta} to go",
        Unit::Runs => "{bar:30} {pos} of {len} {msg}",
    };
    ProgressStyle::with_template(template).expect("the template is valid. This is a bug.")
}
