//! The routes of all interfaces, over one [`Backend`].

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;

use crate::dialect::Dialect;
use crate::{ApiError, Backend};

/// What every handler is given.
#[derive(Clone)]
pub(crate) struct App {
    /// The models.
    pub(crate) backend: Arc<dyn Backend>,
}

/// All routes, without the layers that guard them.
pub(crate) fn routes(backend: Arc<dyn Backend>) -> Router {
    Router::new()
        .merge(crate::openai::routes())
        .merge(crate::anthropic::routes())
        .fallback(unknown_route)
        .with_state(App { backend })
}

async fn unknown_route(uri: Uri) -> axum::response::Response {
    let error = ApiError::not_found(format!("there is no route {}", uri.path()));
    Dialect::of(uri.path()).refuse(&error)
}
