//! What the interfaces share on the way in and out: bodies that are JSON, and streams of events or lines.

mod objects;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ApiError;
pub(crate) use objects::List;
use objects::Objects;

/// Proxies and clients give up on a connection that says nothing; a long prompt may take that long.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Reads a body. `serde_json` bounds the nesting; the layer before us bounds the length.
///
/// # Errors
/// If it is not JSON, or not of the shape of `T`: the message names the place.
pub(crate) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    if body.is_empty() {
        return Err(ApiError::invalid("the body is empty; send a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(Objects(&mut deserializer)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        match &*path {
            "." => ApiError::invalid(format!("the body is not what was expected: {message}")),
            _ => ApiError::invalid(format!("{path}: {message}")).at(path),
        }
    })?;
    deserializer
        .end()
        .map_err(|error| ApiError::invalid(format!("the body goes on after its JSON: {error}")))?;
    Ok(value)
}

/// A `text/event-stream`. What the client does not read stays in the system's buffers and then in the job's channel.
pub(crate) fn sse(events: impl Stream<Item = SseEvent> + Send + 'static) -> Response {
    use futures_util::StreamExt as _;
    let events = events.map(Ok::<_, Infallible>);
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(SILENCE_MAX))
        .into_response();
    // Proxies that buffer would hand the answer over in one piece.
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    response
}

/// One event of a stream: `data: {...}`, with a name for interfaces that have names.
pub(crate) fn sse_event(name: Option<&str>, data: &Value) -> SseEvent {
    let event = SseEvent::default();
    // The name first: clients that read line by line know then what the data are.
    let event = match name {
        Some(name) => event.event(name),
        None => event,
    };
    event.data(data.to_string())
}

/// A stream of JSON, one value a line.
pub(crate) fn ndjson(lines: impl Stream<Item = Value> + Send + 'static) -> Response {
    use futures_util::StreamExt as _;
    let lines = lines.map(|line| Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))));
    let mut headers = HeaderMap::new();
    let ndjson = header::HeaderValue::from_static("application/x-ndjson");
    headers.insert(header::CONTENT_TYPE, ndjson);
    (headers, axum::body::Body::from_stream(lines)).into_response()
}

/// Seconds since 1970.
pub(crate) fn unix_seconds(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
