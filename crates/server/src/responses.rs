//! OpenAI's newer interface: responses, which the server keeps so that the next request can go on from them.
//!
//! `responses/request.rs` makes a job of a body, `responses/stream.rs` tells the answer, `responses/object.rs` and
//! `responses/item.rs` are what it is told in, `responses/store.rs` keeps it. Responses in the background,
//! conversations as objects of their own, and tools that run on the server are not to be had here, and are refused.

mod item;
mod object;
mod request;
mod store;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ApiError;
use crate::app::App;
use crate::dialect::Dialect;
use crate::ids::new_id;
use crate::job::{Caller, Job};
use crate::narrator::narrate;
use crate::wire::{parse, unix_seconds};
use item::Item;
use object::Object;
use request::{Asked, Request};
pub(crate) use store::Store;
use store::Stored;
use stream::{Keep, ResponseStream};

/// The most items on one page of a list.
const PAGE_MAX: usize = 100;
const PAGE: usize = 20;

/// The routes under `/v1/responses`.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/v1/responses/input_tokens", post(input_tokens))
        .route("/v1/responses/{id}", get(retrieve).delete(delete))
        .route("/v1/responses/{id}/input_items", get(input_items))
        .route("/v1/responses/{id}/cancel", post(cancel))
}

type Who = Option<Extension<Caller>>;
type Id = Result<Path<String>, PathRejection>;

fn caller(who: Who) -> Caller {
    who.map(|Extension(caller)| caller).unwrap_or_default()
}

fn respond(result: Result<Value, ApiError>) -> Response {
    match result {
        Ok(body) => Json(body).into_response(),
        Err(error) => Dialect::OpenAi.refuse(&error),
    }
}

async fn create(State(app): State<App>, who: Who, body: Bytes) -> Response {
    let response = answer(&app, caller(who), body).await;
    response.unwrap_or_else(|error| Dialect::OpenAi.refuse(&error))
}

async fn answer(app: &App, caller: Caller, body: Bytes) -> Result<Response, ApiError> {
    let request: Request = parse(&body)?;
    // A long conversation is not kept in memory twice while the answer is written.
    drop(body);
    let owner = caller.key.clone();
    let Asked {
        job,
        input,
        previous,
        echo,
        stream,
        store,
        summary,
    } = request.understand(&app.responses, owner.as_deref())?;
    let local_only = job.wishes.local_only;
    let submitted = app.backend.submit(job, caller).await;
    let answer = submitted.map_err(request::renamed)?;
    let object = Object {
        id: new_id("resp_"),
        created_at: unix_seconds(SystemTime::now()),
        model: answer.model.clone(),
        echo: Arc::new(echo),
        ..Object::default()
    };
    let keep = store.then(|| Keep {
        store: app.responses.clone(),
        owner,
        input,
        previous,
        local_only,
    });
    let narrator = ResponseStream::new(object, summary, keep);
    if stream {
        return narrate(answer, narrator).await;
    }
    Ok(Json(narrator.collect(answer).await?).into_response())
}

/// The job of a body, without doing it. Nothing is stored that it could go on from.
///
/// # Errors
/// As the route has it.
pub(crate) fn job(body: &Bytes) -> Result<Job, ApiError> {
    let asked = parse::<Request>(body)?.understand(&Store::default(), None)?;
    Ok(asked.job)
}

async fn input_tokens(State(app): State<App>, who: Who, body: Bytes) -> Response {
    let owner = caller(who).key;
    let counted = async {
        let request: Request = parse(&body)?;
        let job = request.understand(&app.responses, owner.as_deref())?.job;
        let counted = app.backend.count_tokens(job.model, job.prompt).await;
        let tokens = counted.map_err(request::renamed)?;
        Ok(json!({"object": "response.input_tokens", "input_tokens": tokens}))
    };
    respond(counted.await)
}

fn stored(app: &App, who: Who, id: Id) -> Result<Arc<Stored>, ApiError> {
    let id = path_id(id)?;
    let found = app.responses.get(caller(who).key.as_deref(), &id);
    found.ok_or_else(|| no_response(&id))
}

fn path_id(id: Id) -> Result<String, ApiError> {
    match id {
        Ok(Path(id)) => Ok(id),
        Err(_) => Err(ApiError::not_found("the path holds no response's id")),
    }
}

fn no_response(id: &str) -> ApiError {
    ApiError::not_found(format!("there is no stored response `{id}`"))
}

#[derive(Deserialize)]
struct RetrieveQuery {
    stream: Option<bool>,
}

async fn retrieve(
    State(app): State<App>,
    who: Who,
    id: Id,
    query: Result<Query<RetrieveQuery>, QueryRejection>,
) -> Response {
    respond((|| {
        let query = understood(query)?;
        if query.stream == Some(true) {
            let message = "a stored response is not streamed again; leave `stream` out";
            return Err(ApiError::unsupported(message).at("stream"));
        }
        Ok(stored(&app, who, id)?.object.json())
    })())
}

fn understood<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    let rejected = |rejection: QueryRejection| ApiError::invalid(rejection.body_text());
    query.map(|Query(query)| query).map_err(rejected)
}

async fn delete(State(app): State<App>, who: Who, id: Id) -> Response {
    respond(path_id(id).and_then(
        |id| match app.responses.remove(caller(who).key.as_deref(), &id) {
            true => Ok(json!({"id": id, "object": "response", "deleted": true})),
            false => Err(no_response(&id)),
        },
    ))
}

/// A response that can be found is complete.
async fn cancel(State(app): State<App>, who: Who, id: Id) -> Response {
    respond(stored(&app, who, id).and_then(|_| {
        let message = "only responses in the background can be cancelled, and there are none here; close the connection of a request to cancel it";
        Err(ApiError::invalid(message).at("response_id"))
    }))
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<usize>,
    order: Option<String>,
    after: Option<String>,
}

async fn input_items(
    State(app): State<App>,
    who: Who,
    id: Id,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    respond((|| {
        let query = understood(query)?;
        list(stored(&app, who, id)?.turn.input_items(), &query)
    })())
}

/// A page of items, newest first unless asked otherwise.
fn list(mut items: Vec<Arc<Item>>, query: &ListQuery) -> Result<Value, ApiError> {
    match query.order.as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(other) => {
            let message = format!("`order` is `{other}`; it must be `asc` or `desc`");
            return Err(ApiError::invalid(message).at("order"));
        }
    }
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        let message = format!("`limit` is {limit}; it must be from 1 to {PAGE_MAX}");
        return Err(ApiError::invalid(message).at("limit"));
    }
    let begin = match &query.after {
        None => 0,
        Some(after) => {
            let found = items.iter().position(|item| item.id == *after);
            let message = format!("`after` is `{after}`, which is none of these items");
            1 + found.ok_or_else(|| ApiError::invalid(message).at("after"))?
        }
    };
    let page: Vec<_> = items[begin..].iter().take(limit).collect();
    Ok(json!({
        "object": "list",
        "data": page.iter().map(|item| item.json()).collect::<Vec<_>>(),
        "first_id": page.first().map(|item| &item.id),
        "last_id": page.last().map(|item| &item.id),
        "has_more": begin + page.len() < items.len(),
    }))
}
