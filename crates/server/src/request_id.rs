//! A name for each request, so that a client's trouble can be found in the log.

use std::fmt::{self, Write as _};
use std::hash::BuildHasher as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

/// What clients and proxies send and read.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What Anthropic's clients read.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// A longer one is somebody's payload.
const LENGTH_MAX: usize = 128;

/// A request's name; every request carries it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's, if it is harmless.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(X_REQUEST_ID)?;
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        let sane = (1..=LENGTH_MAX).contains(&value.len()) && value.as_bytes().iter().all(harmless);
        sane.then(|| Self(value.clone()))
    }

    /// One that no other request of this process has, and that no other process is likely to have.
    fn made() -> Self {
        static PROCESS: LazyLock<u64> = LazyLock::new(|| {
            // The standard library's hasher is keyed at random, once for each process.
            std::collections::hash_map::RandomState::new().hash_one(std::process::id())
        });
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut id = String::with_capacity(28);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let _ = write!(id, "req_{:016x}{count:08x}", *PROCESS);
        Self(HeaderValue::try_from(id).expect("hexadecimal digits are visible"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or(""))
    }
}

/// Layer: names the request, and says the name in the response.
pub(crate) async fn layer(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers()).unwrap_or_else(RequestId::made);
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(X_REQUEST_ID, id.0.clone());
    response.headers_mut().insert(REQUEST_ID, id.0);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harmless_name_is_kept() {
        for (text, kept) in [
            ("req-1_2.3", true),
            ("", false),
            ("two words", false),
            ("quo\"te", false),
            (&*"x".repeat(128), true),
            (&*"x".repeat(129), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(text).unwrap());
            assert_eq!(RequestId::of(&headers).is_some(), kept, "{text:?}");
        }
        assert_ne!(RequestId::made(), RequestId::made());
    }
}
