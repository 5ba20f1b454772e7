//! Conversations that are kept: `/api/troika/chats`, and the models to choose from, `/api/troika/picker`.
//!
//! `troika_chats` keeps, finds and renders; here are its routes. `chats/wire.rs` is how conversations are told,
//! `chats/answer.rs` has one answered by a model and follows the answer into the file and to the client,
//! `chats/picker.rs` lists the models. A conversation belongs to the key that made it, and no other sees it. What is said in
//! it is never in the log.

mod answer;
mod picker;
mod wire;

#[cfg(test)]
mod tests;

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde::Deserialize;
use troika_chats::{Store, StoreError, markdown};

use crate::dialect::Dialect;
use crate::ids::new_id;
use crate::job::Caller;
use crate::wire::parse;
use crate::{ApiError, Backend, ErrorKind, Settings};
use picker::Shapes;
use wire::{ChangeFields, NewFields};

/// Conversations of a list, if nothing is said, and at most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 500;

/// The conversations of this server.
#[derive(Clone, Debug)]
pub struct Chats {
    store: Arc<Store>,
    notice: Option<Arc<str>>,
}

impl Chats {
    /// Opens the file that the settings name. Where they want none, or it cannot be had, conversations last as long as the
    /// server; [`Chats::notice`] says why. Reads the whole file, so that it blocks.
    pub fn open(settings: &Settings) -> Self {
        match settings.chats {
            true => Self::at(&settings.chats_file),
            false => Self::in_memory(),
        }
    }

    fn at(path: &FilePath) -> Self {
        match Store::open(path) {
            Ok(opened) => Self {
                store: Arc::new(opened.store),
                notice: opened.damaged.map(|aside| damaged(&aside).into()),
            },
            Err(error) => {
                let why = match &error {
                    StoreError::Unusable { source, .. } => format!("{error}: {source}"),
                    _ => error.to_string(),
                };
                let notice = format!(
                    "Conversations are not kept, and those kept before are not shown: {why}."
                );
                Self {
                    notice: Some(notice.into()),
                    ..Self::in_memory()
                }
            }
        }
    }

    /// Conversations that last as long as the server.
    pub(crate) fn in_memory() -> Self {
        let store = Store::in_memory();
        Self {
            store: Arc::new(store.expect("an empty database takes no memory. This is a bug.")),
            notice: None,
        }
    }

    /// What the owner has to know of the file.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Does something with the store, on a thread that may wait.
    ///
    /// # Errors
    /// The store's, as clients are told.
    async fn aside<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || act(&store)).await;
        // A panic there was reported by its place.
        done.map_err(|_| ApiError::internal())?
            .map_err(|error| refused(&error))
    }
}

fn damaged(aside: &FilePath) -> String {
    let name = aside.file_name().map(PathBuf::from).unwrap_or_default();
    format!(
        "The file of conversations was damaged. It is kept as {}, and a new one was begun.",
        name.display()
    )
}

fn refused(error: &StoreError) -> ApiError {
    let kind = match error {
        StoreError::NoChat | StoreError::NoMessage => ErrorKind::NotFound,
        StoreError::NoPlace => return ApiError::invalid(error.to_string()).at("before"),
        StoreError::Long | StoreError::Full { .. } => ErrorKind::Conflict,
        error => {
            tracing::error!(%error, "conversations cannot be read or written");
            return ApiError::internal();
        }
    };
    ApiError::new(kind, error.to_string())
}

/// What the routes see.
#[derive(Clone)]
struct View {
    backend: Arc<dyn Backend>,
    chats: Chats,
    shapes: Shapes,
}

/// The routes.
pub(crate) fn routes(backend: Arc<dyn Backend>, chats: Chats) -> Router {
    Router::new()
        .route(
            "/api/troika/chats",
            get(list).post(create).delete(delete_all),
        )
        .route("/api/troika/chats/export", get(export_all))
        .route(
            "/api/troika/chats/{id}",
            get(show).patch(change).delete(delete),
        )
        .route("/api/troika/chats/{id}/answer", post(answer::answer))
        .route("/api/troika/chats/{id}/export", get(export))
        .route("/api/troika/picker", get(picker::picker))
        .method_not_allowed_fallback(crate::app::wrong_method)
        .with_state(View {
            backend,
            chats,
            shapes: Shapes::default(),
        })
}

/// An error on its way to the client.
struct Refused(ApiError);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> Response {
        Dialect::OpenAi.refuse(&self.0)
    }
}

type Handled = Result<Response, Refused>;
type Who = Option<Extension<Caller>>;

fn caller(who: Who) -> Caller {
    who.map(|Extension(caller)| caller).unwrap_or_default()
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], body).into_response()
}

#[derive(Deserialize)]
struct ListQuery {
    query: Option<String>,
    limit: Option<usize>,
    before: Option<String>,
}

fn understood<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    let rejected = |rejection: QueryRejection| ApiError::invalid(rejection.body_text());
    query.map(|Query(query)| query).map_err(rejected)
}

/// The conversations, the newest first, or those in which something is found.
async fn list(
    State(view): State<View>,
    who: Who,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Handled {
    let ListQuery {
        query,
        limit,
        before,
    } = understood(query)?;
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let message = format!("`limit` is {limit}; it must be from 1 to {LIMIT_MAX}");
        return Err(ApiError::invalid(message).at("limit").into());
    }
    let owner = caller(who).key;
    let listed = view.chats.aside(move |store| {
        let query = query.unwrap_or_default();
        store.list(owner.as_deref(), &query, limit, before.as_deref())
    });
    let listed = listed.await?;
    Ok(axum::Json(wire::listed(&listed)).into_response())
}

async fn create(State(view): State<View>, who: Who, body: Bytes) -> Handled {
    let new = match body.is_empty() {
        true => NewFields::default(),
        false => parse(&body)?,
    };
    let new = new.checked()?;
    let owner = caller(who).key;
    let created = view
        .chats
        .aside(move |store| store.create(owner.as_deref(), &new_id("chat_"), new, now()));
    let body = wire::chat(&created.await?)?;
    Ok(json(StatusCode::CREATED, body))
}

/// A conversation with its messages, as they are shown.
async fn show(State(view): State<View>, who: Who, Path(id): Path<String>) -> Handled {
    let owner = caller(who).key;
    let body = view.chats.aside(move |store| {
        let (chat, messages) = store.get(owner.as_deref(), &id)?;
        wire::chat_with(&chat, &messages, wire::Blocks::Told)
    });
    Ok(json(StatusCode::OK, body.await?))
}

async fn change(
    State(view): State<View>,
    who: Who,
    Path(id): Path<String>,
    body: Bytes,
) -> Handled {
    let change = parse::<ChangeFields>(&body)?.checked()?;
    let owner = caller(who).key;
    let changed = view
        .chats
        .aside(move |store| store.change(owner.as_deref(), &id, change));
    let body = wire::chat(&changed.await?)?;
    Ok(json(StatusCode::OK, body))
}

async fn delete(State(view): State<View>, who: Who, Path(id): Path<String>) -> Handled {
    let owner = caller(who).key;
    let deleted = view
        .chats
        .aside(move |store| store.delete(owner.as_deref(), &id));
    deleted.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
struct All {
    all: Option<bool>,
}

async fn delete_all(State(view): State<View>, who: Who, body: Bytes) -> Handled {
    if parse::<All>(&body)?.all != Some(true) {
        let message = "to delete all conversations, say so: {\"all\": true}";
        return Err(ApiError::invalid(message).at("all").into());
    }
    let owner = caller(who).key;
    let deleted = view
        .chats
        .aside(move |store| store.delete_all(owner.as_deref()));
    deleted.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    #[default]
    Markdown,
    Json,
}

#[derive(Deserialize)]
struct ExportQuery {
    format: Option<Form>,
}

/// A conversation as a file: the branch that is shown to read, or all of it for programs.
async fn export(
    State(view): State<View>,
    who: Who,
    Path(id): Path<String>,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Handled {
    let form = understood(query)?.format.unwrap_or_default();
    let owner = caller(who).key;
    let body = view.chats.aside(move |store| {
        let (chat, messages) = store.get(owner.as_deref(), &id)?;
        match form {
            Form::Markdown => Ok(markdown(&chat, &messages).into_bytes()),
            Form::Json => wire::chat_with(&chat, &messages, wire::Blocks::Absent),
        }
    });
    let (kind, name) = match form {
        Form::Markdown => ("text/markdown; charset=utf-8", "chat.md"),
        Form::Json => ("application/json", "chat.json"),
    };
    Ok(file(kind, name, body.await?.into()))
}

/// All conversations, one a line. One at a time is in memory.
async fn export_all(State(view): State<View>, who: Who) -> Handled {
    let owner = caller(who).key;
    let asked = owner.clone();
    let ids = view
        .chats
        .aside(move |store| store.all(asked.as_deref()))
        .await?;
    let lines = stream::unfold((view.chats, ids.into_iter()), move |(chats, mut ids)| {
        let owner = owner.clone();
        async move {
            loop {
                let id = ids.next()?;
                let owner = owner.clone();
                let line = chats.aside(move |store| {
                    let (chat, messages) = store.get(owner.as_deref(), &id)?;
                    let mut line = wire::chat_with(&chat, &messages, wire::Blocks::Absent)?;
                    line.push(b'\n');
                    Ok(line)
                });
                match line.await {
                    // It was deleted meanwhile.
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    // A file that breaks off is not taken for a whole one.
                    line => return Some((line.map_err(std::io::Error::other), (chats, ids))),
                }
            }
        }
    });
    let body = Body::from_stream(lines);
    Ok(file("application/jsonl", "chats.jsonl", body))
}

/// A body that browsers save, and never show.
fn file(kind: &'static str, name: &'static str, body: Body) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let disposition = HeaderValue::try_from(disposition).expect("the names are plain");
    let kind = HeaderValue::from_static(kind);
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_DISPOSITION, disposition),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, body).into_response()
}
