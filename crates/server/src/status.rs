//! How the server does, for those who watch it: `/health`, `/ready`, `/metrics`, `/api/troika/status`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
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
        .with_state(Watched {
            backend,
            drain,
            begun,
        })
}

/// Whether new requests should be sent here.
async fn ready(State(watched): State<Watched>) -> Response {
    if !watched.drain.is_draining() {
        return Json(json!({"status": "ready"})).into_response();
    }
    let kind = ErrorKind::Unavailable {
        retry_after: RETRY_AFTER,
    };
    Dialect::OpenAi.refuse(&ApiError::new(kind, "the server is going down"))
}

async fn numbers() -> impl IntoResponse {
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], metrics::render())
}

async fn status(State(watched): State<Watched>) -> (StatusCode, Json<Value>) {
    let models = watched.backend.loaded().into_iter().map(|loaded| {
        json!({
            "name": loaded.info.name,
            "memory_bytes": loaded.memory_bytes,
            "n_ctx": loaded.n_ctx,
            "expires": loaded.expires.map(unix_seconds),
        })
    });
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": watched.begun.elapsed().as_secs(),
        "draining": watched.drain.is_draining(),
        "models": models.collect::<Vec<_>>(),
    });
    (StatusCode::OK, Json(body))
}
