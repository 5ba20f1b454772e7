//! Anthropic's interface: messages, and counting their tokens.
//!
//! `anthropic/request.rs` makes a job of a body, `anthropic/message.rs` a body of an answer, `anthropic/stream.rs` a
//! stream of events. Taken and without effect here: `cache_control` (every prefix is cached), `metadata`,
//! the header `anthropic-version` and the query `beta=true`. What would change the answer and is not to
//! be had (images, documents, tools that run on the server) is refused.

mod message;
mod request;
mod stream;

#[cfg(test)]
mod tests;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde_json::json;

use crate::ApiError;
use crate::app::App;
use crate::dialect::Dialect;
use crate::job::{Caller, Job, Prompt};
use crate::narrator::narrate;
use crate::wire::parse;
use message::message;
use request::Request;
use stream::MessageStream;

/// The routes under `/v1/messages`.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
}

async fn messages(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
    body: Bytes,
) -> Response {
    let caller = caller.map(|Extension(caller)| caller).unwrap_or_default();
    let response = answer(&app, caller, body).await;
    response.unwrap_or_else(|error| Dialect::Anthropic.refuse(&error))
}

async fn answer(app: &App, caller: Caller, body: Bytes) -> Result<Response, ApiError> {
    let request: Request = parse(&body)?;
    // A long conversation is not kept in memory twice while the answer is written.
    drop(body);
    let stream = request.stream();
    let thinking = request.thinking_shown();
    let format_field = request.format_field();
    let submitted = app.backend.submit(request.into_job()?, caller).await;
    let answer = submitted.map_err(|error| error.renamed("format", format_field))?;
    if stream {
        let narrator = MessageStream::new(answer.model.clone(), thinking);
        return narrate(answer, narrator).await;
    }
    let model = answer.model.clone();
    let completed = answer.collect().await?;
    Ok(Json(message(&model, completed, thinking)?).into_response())
}

/// The job of a body, without doing it.
///
/// # Errors
/// As the route has it.
pub(crate) fn job(body: &Bytes) -> Result<Job, ApiError> {
    parse::<Request>(body)?.into_job()
}

async fn count_tokens(State(app): State<App>, body: Bytes) -> Response {
    let counted = async {
        let (model, prompt) = parse::<Request>(&body)?.into_prompt()?;
        let prompt = Prompt::Chat(Box::new(prompt));
        app.backend.count_tokens(model, prompt).await
    };
    match counted.await {
        Ok(tokens) => Json(json!({"input_tokens": tokens})).into_response(),
        Err(error) => Dialect::Anthropic.refuse(&error),
    }
}
