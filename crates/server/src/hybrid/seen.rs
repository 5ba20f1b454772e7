//! What a request's headers say, for the rules that name some.
//!
//! Headers that carry secrets are left out, so that no rule, and no explanation of one, can show them.

use axum::extract::Request;
use axum::http::HeaderName;
use axum::http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use axum::middleware::Next;
use axum::response::Response;

tokio::task_local! {
    static SEEN: Vec<(String, String)>;
}

/// Anthropic's clients send their keys in it.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Layer: keeps a request's headers for those who judge its jobs.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let is_secret =
        |name: &HeaderName| [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, API_KEY].contains(name);
    let headers = request.headers().iter();
    let open = headers.filter(|(name, _)| !is_secret(name));
    let seen = open.filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let seen = seen.collect();
    SEEN.scope(seen, next.run(request)).await
}

/// The headers of the request that is being answered.
pub(super) fn headers() -> Vec<(String, String)> {
    SEEN.try_with(Clone::clone).unwrap_or_default()
}
