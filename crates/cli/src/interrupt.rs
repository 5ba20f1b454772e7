//! Ctrl-C: the first one asks, the second one insists.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

use crate::exit;

/// Whether the user has asked to stop. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C from now on. One that comes while another has not been answered ends the program at once.
    ///
    /// # Errors
    /// If the system refuses, or someone listens already.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let asked = Arc::clone(&interrupt.0);
        ctrlc::set_handler(move || {
            if asked.swap(true, Ordering::Relaxed) {
                // Nothing is written that could be half done.
                std::process::exit(exit::INTERRUPTED.into());
            }
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(interrupt)
    }

    /// Whether Ctrl-C was pressed and not yet answered.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes note that it was answered.
    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// For callbacks that may end what calls them.
    pub(crate) fn flow<B>(&self, stop: B) -> ControlFlow<B> {
        if self.is_set() {
            ControlFlow::Break(stop)
        } else {
            ControlFlow::Continue(())
        }
    }
}
