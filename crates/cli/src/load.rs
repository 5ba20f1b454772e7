//! A device and a model on it, with a bar while it loads.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use troika_device::{Cancelled, LoadOptions, LoadProgress};
use troika_engine::{CpuDevice, Model};
use troika_gguf::ModelFile;

use crate::exit::{Interrupted, WrongUse};
use crate::interrupt::Interrupt;
use crate::output::Console;
use crate::progress::{Progress, Unit};

/// The CPU on so many threads, or on one for each physical core.
///
/// # Errors
/// [`WrongUse`] if `TROIKA_ISA` names kernels that this CPU cannot run.
pub(crate) fn cpu(threads: Option<usize>) -> Result<CpuDevice, WrongUse> {
    let threads = threads.unwrap_or_else(CpuDevice::default_threads);
    CpuDevice::new(threads).map_err(|error| WrongUse(error.to_string()))
}

/// Loads a model for contexts of `n_ctx` tokens in all. Returns it with the time that took.
///
/// # Errors
/// If it cannot be loaded, or [`Interrupted`].
pub(crate) fn model(
    file: &ModelFile,
    device: &CpuDevice,
    n_ctx: usize,
    console: &Console,
    interrupt: &Interrupt,
) -> anyhow::Result<(Model, Duration)> {
    let started = Instant::now();
    let mut bar = Progress::new(console, "loading", Unit::Bytes);
    let mut on_progress = |LoadProgress { done, total }: LoadProgress| -> ControlFlow<Cancelled> {
        bar.update(done.0, total.0);
        interrupt.flow(Cancelled)
    };
    let loaded = Model::load(file, device, LoadOptions { n_ctx }, &mut on_progress);
    bar.clear();
    if interrupt.is_set() {
        return Err(Interrupted.into());
    }
    let model = loaded.context("cannot load the model")?;
    Ok((model, started.elapsed()))
}
