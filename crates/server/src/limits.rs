//! Bodies: how long they may be, how long they may take, and how many bytes of them may wait in memory.
//!
//! A body is read before its handler runs, so that handlers see all of it or nothing, and every interface's clients get a
//! refusal they can read. The one exception are uploads, which go to the disk as they come.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt as _};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dialect::Dialect;
use crate::{ApiError, ErrorKind, Settings, metrics};

/// Bodies of full length that may be in memory at once.
const FULL_BODIES: u64 = 64;
/// Memory is accounted for in pieces of this size.
const PIECE_BYTES: usize = 1 << 10;
/// What is read of a body that is refused, so that the client, still sending, gets to see the refusal.
const DISCARD_BYTES_MAX: usize = 256 << 20;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(5);
/// When to try again if memory for bodies is short.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What bodies are held to.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    bytes_max: usize,
    time_max: Duration,
    /// One permit for each [`PIECE_BYTES`].
    memory: Arc<Semaphore>,
}

impl Bodies {
    pub(crate) fn new(settings: &Settings) -> Self {
        let pieces = settings.body_limit.saturating_mul(FULL_BODIES) / PIECE_BYTES as u64;
        let pieces = usize::try_from(pieces).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            bytes_max: usize::try_from(settings.body_limit).unwrap_or(usize::MAX),
            time_max: settings.body_timeout,
            memory: Arc::new(Semaphore::new(pieces.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Reads a body to its end. The permit stands for the memory it takes.
    async fn read(&self, body: &mut Body) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
        // What the client says about the length is only good enough to refuse it early.
        if body.size_hint().lower() > self.bytes_max as u64 {
            return Err(self.too_large());
        }
        let reading = tokio::time::timeout(self.time_max, self.collect(body));
        let late = |_| {
            let message = format!(
                "the body did not come within {} s",
                self.time_max.as_secs_f64()
            );
            Err(ApiError::new(ErrorKind::Timeout, message))
        };
        reading.await.unwrap_or_else(late)
    }

    async fn collect(&self, body: &mut Body) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
        let mut memory = self.reserve(0)?;
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let broken = |_| ApiError::invalid("the body broke off; send all of it");
            // Trailers are nothing to us.
            let Ok(data) = frame.map_err(broken)?.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > self.bytes_max {
                return Err(self.too_large());
            }
            let held = memory.num_permits();
            let needed = (bytes.len() + data.len()).div_ceil(PIECE_BYTES);
            memory.merge(self.reserve(needed.saturating_sub(held))?);
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.into(), memory))
    }

    fn reserve(&self, pieces: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(pieces);
        memory.map_err(|_| {
            let retry_after = RETRY_AFTER;
            let kind = ErrorKind::Unavailable { retry_after };
            ApiError::new(kind, "too many long requests at once; try again")
        })
    }

    fn too_large(&self) -> ApiError {
        let message = format!(
            "the body is longer than {} bytes, which is this server's limit (`body_limit`)",
            self.bytes_max
        );
        ApiError::new(ErrorKind::TooLarge, message)
    }

    /// An upload: as long as it likes, but it must not stand still.
    fn pace(&self, body: Body) -> Body {
        let patience = self.time_max;
        let chunks = StreamExt::boxed(body.into_data_stream());
        let paced = futures_util::stream::unfold(Some(chunks), move |chunks| async move {
            let mut chunks = chunks?;
            match tokio::time::timeout(patience, chunks.try_next()).await {
                Ok(Ok(Some(chunk))) => Some((Ok(chunk), Some(chunks))),
                Ok(Ok(None)) => None,
                Ok(Err(error)) => Some((Err(std::io::Error::other(error)), None)),
                Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
            }
        });
        Body::from_stream(paced)
    }
}

/// Whether the body goes to the disk rather than to memory.
fn is_upload(path: &str) -> bool {
    path.starts_with("/api/blobs/")
}

/// Layer: hands the request on with its whole body.
pub(crate) async fn layer(State(bodies): State<Bodies>, request: Request, next: Next) -> Response {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path();
    if is_upload(path) {
        let body = bodies.pace(body);
        return next.run(Request::from_parts(parts, body)).await;
    }
    match bodies.read(&mut body).await {
        // The permit is held until the handler has answered, or has begun to.
        Ok((bytes, _memory)) => {
            let request = Request::from_parts(parts, Body::from(bytes));
            next.run(request).await
        }
        Err(error) => {
            metrics::refused(error.kind);
            // One that is longer than is read here anyhow is not waited for.
            let is_endless = body.size_hint().lower() > DISCARD_BYTES_MAX as u64;
            if error.kind != ErrorKind::Timeout && !is_endless {
                discard(body).await;
            }
            let mut response = Dialect::of(path).refuse(&error);
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            response
        }
    }
}

/// Reads on for a while. A connection that is closed under a client that is still sending is reset, and the client never
/// reads why.
async fn discard(mut body: Body) {
    let mut left = DISCARD_BYTES_MAX;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Past that time the client has had its chance.
    let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post;
    use futures_util::stream;
    use tower::ServiceExt as _;

    use super::*;

    fn app() -> Router {
        let settings = Settings {
            body_limit: 1 << 10,
            body_timeout: Duration::from_millis(100),
            ..Settings::default()
        };
        let length = |body: Bytes| async move { body.len().to_string() };
        Router::new()
            .route("/v1/messages", post(length))
            .route("/api/blobs/x", post(length))
            .layer(axum::middleware::from_fn_with_state(
                Bodies::new(&settings),
                layer,
            ))
    }

    async fn send(path: &str, body: Body) -> (u16, String) {
        let request = Request::post(path).body(body).unwrap();
        let response = app().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn chunks(count: usize) -> Body {
        let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 100]));
        Body::from_stream(stream::iter((0..count).map(move |_| chunk())))
    }

    #[tokio::test]
    async fn long_bodies_are_refused_whatever_they_say_of_themselves() {
        assert_eq!(send("/v1/messages", Body::from(vec![0; 1024])).await.0, 200);
        for body in [Body::from(vec![0; 1025]), chunks(11)] {
            let (status, body) = send("/v1/messages", body).await;
            assert_eq!(status, 413);
            assert!(body.contains("request_too_large"), "{body}");
        }
        assert_eq!(
            send("/v1/messages", chunks(10)).await,
            (200, "1000".to_owned())
        );
    }

    #[tokio::test]
    async fn slow_bodies_are_given_up() {
        let (status, body) = send("/v1/messages", Body::from_stream(stall())).await;
        assert_eq!(status, 408);
        assert!(body.contains("within 0.1 s"), "{body}");
    }

    #[tokio::test]
    async fn uploads_may_be_long_but_not_stand_still() {
        assert_eq!(
            send("/api/blobs/x", chunks(50)).await,
            (200, "5000".to_owned())
        );
        let (status, _) = send("/api/blobs/x", Body::from_stream(stall())).await;
        assert_eq!(status, 400, "the handler sees a broken body");
    }

    /// One chunk, and then nothing.
    fn stall() -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
        let first = stream::iter([Ok(Bytes::from_static(b"{"))]);
        first.chain(stream::pending())
    }

    #[tokio::test]
    async fn memory_for_bodies_is_bounded_and_given_back() {
        let bodies = Bodies::new(&Settings {
            body_limit: 1 << 10,
            ..Settings::default()
        });
        let mut held = Vec::new();
        for _ in 0..FULL_BODIES {
            let read = bodies.read(&mut Body::from(vec![0; 1024])).await;
            held.push(read.unwrap());
        }
        let full = bodies.read(&mut Body::from("x")).await.unwrap_err();
        assert_eq!(full.kind.status(), 503);
        held.pop();
        assert!(bodies.read(&mut Body::from("x")).await.is_ok());
    }
}
