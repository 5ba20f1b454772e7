//! The thread that looks at meters, for as long as somebody holds it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What such a thread shares with those who ask.
pub(super) trait Sampled: Send + Sync + 'static {
    /// The thread's life, until it is [closed](Self::close).
    fn sample(&self);

    /// Tells the thread to end, and wakes it for that.
    fn close(&self);
}

/// A thread that samples. Dropped, it is closed and waited for.
#[derive(Debug)]
pub(super) struct Sampler<S: Sampled> {
    shared: Arc<S>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Sampled> Sampler<S> {
    /// Starts a thread of this name.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(name: &str, shared: &Arc<S>) -> io::Result<Self> {
        let own = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || own.sample())?;
        Ok(Self {
            shared: Arc::clone(shared),
            thread: Some(thread),
        })
    }
}

impl<S: Sampled> Drop for Sampler<S> {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // A gauge that panics has told so; there is nothing to add.
            let _ = thread.join();
        }
    }
}
