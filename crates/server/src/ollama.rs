//! Ollama's interface: `/api/*`, answers in lines of JSON.
//!
//! What its clients send and expect, said in our own words: requests in `options.rs` and `wire.rs`, text in `text.rs`
//! and `answer.rs`, vectors in `embed.rs`, the models themselves in `models.rs`, `create.rs` and `blobs.rs`. Pulling is in
//! `pulls/`, beside our own routes for it, and pushing is not there.

mod answer;
mod blobs;
mod create;
mod embed;
mod models;
mod options;
mod text;
mod wire;

#[cfg(test)]
mod tests;

use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, head, post};
use axum::{Json, Router};
use serde_json::json;

use crate::app::App;
use crate::dialect::Dialect;
use crate::job::Caller;
use crate::{ApiError, ErrorKind};

/// The routes.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/version", get(version))
        .route("/api/generate", post(text::generate))
        .route("/api/chat", post(text::chat))
        .route("/api/embed", post(embed::embed))
        .route("/api/embeddings", post(embed::embeddings))
        .route("/api/tags", get(models::tags))
        .route("/api/ps", get(models::ps))
        .route("/api/show", post(models::show))
        .route("/api/copy", post(models::copy))
        .route("/api/delete", delete(models::delete))
        .route("/api/create", post(create::create))
        .route("/api/blobs/{digest}", head(blobs::find).post(blobs::upload))
        .route("/api/push", post(no_registry))
}

pub(crate) use text::{chat_job, generate_job};

/// What a handler gives: an answer, or an error that becomes this interface's.
type Handled = Result<Response, Refused>;

/// An error on its way to the client.
#[derive(Debug)]
struct Refused(ApiError);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Dialect::Ollama.refuse(&self.0)
    }
}

async fn version() -> Response {
    Json(json!({"version": env!("CARGO_PKG_VERSION")})).into_response()
}

async fn no_registry() -> Response {
    let error = "models are not pushed to a registry here; nothing leaves this machine by this way";
    (StatusCode::NOT_IMPLEMENTED, Json(json!({"error": error}))).into_response()
}

/// Who asks; without keys, nobody in particular.
fn caller(extension: Option<Extension<Caller>>) -> Caller {
    extension.map_or_else(Caller::default, |Extension(caller)| caller)
}

/// A model's name as a request gives it.
///
/// # Errors
/// If there is none.
fn required(name: Option<String>) -> Result<String, ApiError> {
    match name {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(ApiError::invalid("model is required").at("model")),
    }
}

/// The error of a request about a model. One that is not there is told in the words that clients look for.
fn about(model: &str, error: ApiError) -> ApiError {
    const CHARACTERS_MAX: usize = 80;
    if !matches!(error.kind, ErrorKind::ModelNotFound | ErrorKind::NotFound) {
        return error;
    }
    let name: String = model.chars().take(CHARACTERS_MAX).collect();
    let mut message = format!("model '{name}' not found");
    // Why nobody else was asked, for example.
    if let Some((_, more)) = error.message.split_once("; ") {
        message = format!("{message}; {more}");
    }
    ApiError::new(error.kind, message)
}
