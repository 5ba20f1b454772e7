//! The routes of all interfaces, over one [`Backend`].

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};

use crate::dialect::Dialect;
use crate::guard::{self, Guard};
use crate::keys::{self, Keys};
use crate::limits::{self, Bodies};
use crate::metered::Metered;
use crate::{ApiError, Backend, Drain, Settings, metrics, observe, request_id, status};

/// What every handler is given.
#[derive(Clone)]
pub(crate) struct App {
    /// The models.
    pub(crate) backend: Arc<dyn Backend>,
    /// Responses that later requests can go on from.
    pub(crate) responses: crate::responses::Store,
}

/// All routes, without the layers that guard them.
pub(crate) fn routes(backend: Arc<dyn Backend>) -> Router {
    Router::new()
        .merge(crate::openai::routes())
        .merge(crate::anthropic::routes())
        .merge(crate::responses::routes())
        .merge(crate::ollama::routes())
        .fallback(unknown_route)
        .with_state(App {
            backend,
            responses: crate::responses::Store::default(),
        })
}

/// The whole server but for its connections: all routes, and what stands before them.
pub fn app(backend: Arc<dyn Backend>, settings: &Settings, keys: Keys, drain: &Drain) -> Router {
    metrics::start();
    let guard = Arc::new(Guard::new(settings, sysinfo::System::host_name()));
    let watched = status::routes(Arc::clone(&backend), drain.clone());
    let refusing = from_fn_with_state(drain.clone(), status::refuse_when_draining);
    // From the innermost layer to the outermost: a request meets them the other way round.
    let router = routes(Arc::new(Metered::new(backend, keys.clone())))
        .layer(refusing)
        .merge(watched)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Bodies::new(settings), limits::layer))
        .layer(from_fn_with_state(keys, keys::layer));
    let router = match guard::cors(settings) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(from_fn_with_state(guard, guard::layer))
        .layer(from_fn(observe::layer))
        .layer(from_fn(request_id::layer))
}

async fn unknown_route(uri: Uri) -> axum::response::Response {
    let error = ApiError::not_found(format!("there is no route {}", uri.path()));
    Dialect::of(uri.path()).refuse(&error)
}
