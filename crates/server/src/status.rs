//! How the server does, for those who watch it: `/health`, `/ready`, `/metrics`, `/api/troika/status`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::dialect::Dialect;
use crate::wire::unix_seconds;
use crate::{ApiError, Backend, Drain, ErrorKind, metrics};

/// When to ask a server that goes down again: another one may stand in its place by then.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Watched {
    backend: Arc<dyn Backend>,
    drain: Drain,
    begun: Instant,
}

/// The routes of those who watch.
pub(crate) fn routes(backend: Arc<dyn Backend>, drain: Drain) -> Router {
    let begun = Instant::now();
    Router::new()
        .route("/health", get(async || Json(json!({"status": "ok"}))))
        .route("/ready", get(ready))
        .route("/metrics", get(numbers))
        .route("/api/troika/status", get(status))
        .method_not_allowed_fallback(crate::app::wrong_method)
        .with_state(Watched {
            backend,
            drain,
            begun,
        })
}

/// Whether new requests should be sent here.
async fn ready(State(watched): State<Watched>) -> Response {
    match watched.drain.is_draining() {
        true => Dialect::OpenAi.refuse(&going_down()),
        false => Json(json!({"status": "ready"})).into_response(),
    }
}

/// Layer: nothing new begins on a server that goes down.
pub(crate) async fn refuse_when_draining(
    State(drain): State<Drain>,
    request: Request,
    next: Next,
) -> Response {
    match drain.is_draining() {
        true => Dialect::of(request.uri().path()).refuse(&going_down()),
        false => next.run(request).await,
    }
}

fn going_down() -> ApiError {
    let kind = ErrorKind::Unavailable {
        retry_after: RETRY_AFTER,
    };
    ApiError::new(kind, "the server is going down; try again soon")
}

async fn numbers() -> impl IntoResponse {
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], metrics::render())
}

async fn status(State(watched): State<Watched>) -> Json<Value> {
    let models = watched.backend.loaded().into_iter().map(|loaded| {
        json!({
            "name": loaded.info.name,
            "memory_bytes": loaded.memory_bytes,
            "n_ctx": loaded.n_ctx,
            "expires": loaded.expires.map(unix_seconds),
        })
    });
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": watched.begun.elapsed().as_secs(),
        "draining": watched.drain.is_draining(),
        "models": models.collect::<Vec<_>>(),
    }))
}
