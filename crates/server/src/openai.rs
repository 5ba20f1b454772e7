//! OpenAI's interface: chat completions, completions, embeddings and the list of models.
//!
//! Where to start: [`chat`] parses a request into a [`Job`](crate::job::Job) and writes its answer as one body or as a
//! stream of chunks; [`events`] tells several jobs as one. Fields of the request that mean nothing here
//! (`user`, `store`, `metadata`, ...) are passed over; fields that we know are checked, and an error names its field.
//! The responses interface is not here: it has a room of its own.

use axum::body::Bytes;
use axum::extract::Extension;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::ApiError;
use crate::app::App;
use crate::dialect::Dialect;
use crate::job::{Caller, Job};

mod chat;
mod completions;
mod embeddings;
mod events;
mod format;
mod messages;
mod models;
mod options;
mod prompts;
mod tools;
mod usage;

/// All routes of the interface.
pub(crate) fn routes() -> axum::Router<App> {
    axum::Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/models", get(models::list))
        // A name may have slashes in it.
        .route("/v1/models/{*name}", get(models::retrieve))
}

/// The job of a conversation, without doing it.
///
/// # Errors
/// As the route has it.
pub(crate) fn chat_job(body: &Bytes) -> Result<Job, ApiError> {
    chat::request(body).map(|request| request.job)
}

/// The job of one text, without doing it.
///
/// # Errors
/// As the route has it, or if there are several.
pub(crate) fn completion_job(body: &Bytes) -> Result<Job, ApiError> {
    let mut jobs = completions::request(body)?.jobs;
    match (jobs.pop(), jobs.is_empty()) {
        (Some(job), true) => Ok(job),
        _ => Err(ApiError::invalid("there are several prompts; give one").at("prompt")),
    }
}

/// A handler's error: the status and the body that OpenAI's clients read.
#[derive(Debug)]
struct Refusal(ApiError);

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Dialect::OpenAi.refuse(&self.0)
    }
}

/// Who asks; where no keys are in use, nobody in particular.
fn caller(extension: Option<Extension<Caller>>) -> Caller {
    extension.map_or_else(Caller::default, |Extension(caller)| caller)
}

/// What answers call the state of the server that made them.
const FINGERPRINT: &str = concat!("troika-", env!("CARGO_PKG_VERSION"));

/// What OpenAI writes for the logarithm of 0, for which JSON has no number.
const LOGPROB_MIN: f64 = -9999.0;

/// A log-probability as a number that JSON has.
pub(crate) fn logprob(value: f32) -> f64 {
    match value.is_finite() {
        true => value.into(),
        false => LOGPROB_MIN,
    }
}
