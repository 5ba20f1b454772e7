//! The way from serving to stopped, which everyone who must know of it can watch.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Running answers finish; nothing new begins.
    Draining,
    /// Running answers are cut off.
    Abandoned,
}

/// Whether the server is going down. Clones share the answer.
#[derive(Clone, Debug)]
pub struct Drain(Arc<watch::Sender<Stage>>);

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Stage::Serving)))
    }
}

impl Drain {
    /// Nothing new begins from here on.
    pub fn begin(&self) {
        self.raise(Stage::Draining);
    }

    /// What runs is cut off.
    pub fn abandon(&self) {
        self.raise(Stage::Abandoned);
    }

    /// Whether [`Drain::begin`] was called.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Stage::Draining
    }

    /// Waits for [`Drain::begin`].
    pub async fn begun(&self) {
        self.reached(Stage::Draining).await;
    }

    /// Waits for [`Drain::abandon`].
    pub async fn abandoned(&self) {
        self.reached(Stage::Abandoned).await;
    }

    /// Begins at the first signal to stop (SIGINT, SIGTERM) and abandons at the second. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    /// If the system does not let us listen for signals.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut signals = Signals::new()?;
        let drain = self.clone();
        tokio::spawn(async move {
            signals.next().await;
            drain.begin();
            signals.next().await;
            drain.abandon();
        });
        Ok(())
    }

    fn raise(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let raises = *now < stage;
            *now = stage.max(*now);
            raises
        });
    }

    async fn reached(&self, stage: Stage) {
        let mut stages = self.0.subscribe();
        let reached = stages.wait_for(|now| *now >= stage).await;
        reached.expect("the sender is in self");
    }
}

/// Signals to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can tell us to stop that way.
            std::future::pending::<()>().await;
        }
    }
}
