//! A job that is ready to run, as it goes to the model's thread.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use troika_base::TokenId;

use super::shelf::Lease;
use super::voice::Style;
use crate::job::Event;
use crate::{ApiError, EventSender};

/// A job that is ready to run.
pub(super) struct Request {
    /// The prompt, at least one token and fewer than `n_ctx`.
    pub(super) tokens: Vec<TokenId>,
    /// What is wanted of it.
    pub(super) work: Work,
    /// Tokens of prompt and answer at most.
    pub(super) n_ctx: usize,
    /// Prompts are cached for each namespace alone.
    pub(super) namespace: String,
    /// When the request came.
    pub(super) arrived: Instant,
    /// Time that it waited for the model to be loaded.
    pub(super) load: Duration,
    /// Keeps the model from being unloaded.
    pub(super) lease: Lease,
}

/// What is wanted of a prompt.
pub(super) enum Work {
    /// Answers.
    Write {
        /// How many.
        n: usize,
        /// How they are written.
        style: Box<Style>,
        /// Where they go.
        events: EventSender,
    },
    /// One vector of length 1.
    Embed {
        /// Where it goes.
        vector: oneshot::Sender<Result<Vec<f32>, ApiError>>,
    },
}

impl Work {
    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Write { events, .. } => events.is_closed(),
            Self::Embed { vector } => vector.is_closed(),
        }
    }

    /// Tells the client what happens. One that has left is found out at the next step.
    pub(super) fn tell(&self, event: Event) {
        if let Self::Write { events, .. } = self {
            let _ = events.send(Ok(event));
        }
    }

    /// Tells the client that nothing will come of it.
    pub(super) fn fail(self, error: ApiError) {
        match self {
            Self::Write { events, .. } => drop(events.send(Err(error))),
            Self::Embed { vector } => drop(vector.send(Err(error))),
        }
    }
}

impl Request {
    /// Queues the job with its model.
    ///
    /// # Errors
    /// If the model is gone.
    pub(super) fn send(self) -> Result<(), ApiError> {
        // The lease is part of what is sent.
        let handle = self.lease.handle();
        handle.send(Box::new(self))
    }
}
