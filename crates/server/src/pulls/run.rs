//! One pull: a task that fetches, and what those who watch it see.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use troika_pull::{Error, Progress, Puller, Stage, Wish};

use super::told;
use crate::ApiError;

/// A pull as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Pull {
    pub(crate) id: String,
    pub(super) from: String,
    pub(super) name: Option<String>,
    pub(super) state: State,
    pub(super) bytes: u64,
    pub(super) done_bytes: u64,
    pub(super) bytes_per_second: f64,
    pub(super) error: Option<String>,
    /// The model's name, once the library has it.
    pub(super) model: Option<String>,
    /// What the file is, if its source says so.
    #[serde(skip)]
    pub(super) digest: Option<String>,
    /// The error with its kind.
    #[serde(skip)]
    pub(super) failure: Option<ApiError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Looking,
    Downloading,
    Verifying,
    Done,
    Failed,
    Stopped,
}

impl Pull {
    /// Whether nothing more will happen.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Failed | State::Stopped)
    }
}

/// A pull and its task.
pub(super) struct Run {
    wish: Wish,
    seen: watch::Sender<Pull>,
    task: Mutex<Option<AbortHandle>>,
}

impl Run {
    /// Begins a pull.
    pub(super) fn start(id: String, wish: Wish, puller: Arc<Puller>) -> Arc<Self> {
        let (seen, _) = watch::channel(Pull {
            id,
            from: wish.from.to_string(),
            name: wish.name.clone(),
            state: State::Looking,
            bytes: 0,
            done_bytes: 0,
            bytes_per_second: 0.0,
            error: None,
            model: None,
            digest: None,
            failure: None,
        });
        let run = Arc::new(Self {
            wish,
            seen,
            task: Mutex::default(),
        });
        let own = Arc::clone(&run);
        let task = tokio::spawn(async move {
            let ended = own.fetch(&puller).await;
            own.end(ended);
        });
        *run.task() = Some(task.abort_handle());
        run
    }

    /// Whether this is what somebody wants.
    pub(super) fn is_of(&self, wish: &Wish) -> bool {
        let own = &self.wish;
        own.from == wish.from && own.file == wish.file && own.name == wish.name
    }

    /// As it is now.
    pub(super) fn pull(&self) -> Pull {
        self.seen.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Pull> {
        self.seen.subscribe()
    }

    /// Stops it; what is here of it stays.
    pub(super) fn stop(&self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
        self.seen.send_if_modified(|pull| {
            let runs = !pull.is_over();
            if runs {
                (pull.state, pull.bytes_per_second) = (State::Stopped, 0.0);
            }
            runs
        });
    }

    async fn fetch(&self, puller: &Puller) -> Result<String, Error> {
        let look = puller.look(&self.wish).await?;
        self.seen.send_modify(|pull| {
            pull.name = Some(look.name.clone());
            (pull.bytes, pull.done_bytes) = (look.bytes, look.have_bytes);
            pull.digest = look.digest.as_ref().map(ToString::to_string);
            pull.state = State::Downloading;
        });
        let (tell, mut watched) = watch::channel(Progress {
            stage: Stage::Downloading,
            bytes: look.bytes,
            done_bytes: look.have_bytes,
            bytes_per_second: 0.0,
        });
        let mut pulling = std::pin::pin!(puller.pull(&look, &tell));
        loop {
            tokio::select! {
                ended = &mut pulling => return ended,
                _ = watched.changed() => self.advance(*watched.borrow_and_update()),
            }
        }
    }

    fn advance(&self, progress: Progress) {
        self.seen.send_modify(|pull| {
            if pull.is_over() {
                return;
            }
            pull.done_bytes = progress.done_bytes;
            pull.bytes_per_second = progress.bytes_per_second;
            pull.state = match progress.stage {
                // That it is done is told with the model's name.
                Stage::Verifying | Stage::Done => State::Verifying,
                Stage::Looking | Stage::Downloading => State::Downloading,
            };
        });
    }

    fn end(&self, ended: Result<String, Error>) {
        self.seen.send_modify(|pull| {
            pull.bytes_per_second = 0.0;
            match ended {
                _ if pull.is_over() => {}
                Ok(name) => {
                    tracing::info!(model = name, "a model was pulled");
                    (pull.state, pull.done_bytes) = (State::Done, pull.bytes);
                    pull.model = Some(name);
                }
                Err(error) => {
                    tracing::warn!(error = error.whole(), "a pull failed");
                    let failure = told(&error);
                    pull.state = State::Failed;
                    pull.error = Some(failure.message.clone());
                    pull.failure = Some(failure);
                }
            }
        });
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<AbortHandle>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
