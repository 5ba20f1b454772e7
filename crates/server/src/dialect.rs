//! The interfaces' ways to say no: one [`ApiError`], three bodies.
//!
//! What stands before the handlers (limits, keys, unknown routes) answers by the path, so that every client gets an
//! error that it can read.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::{ApiError, ErrorKind};

/// Whose clients speak to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAI's, and our own routes.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's.
    Ollama,
}

impl Dialect {
    /// The interface that a path belongs to.
    pub(crate) fn of(path: &str) -> Self {
        let below = |root: &str| {
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if below("/v1/messages") {
            Self::Anthropic
        } else if below("/api") && !below("/api/troika") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }

    /// The whole answer to a request that fails.
    pub(crate) fn refuse(self, error: &ApiError) -> Response {
        let status = StatusCode::from_u16(error.kind.status()).expect("a status of the list");
        let mut response = (status, Json(self.body(error))).into_response();
        let headers = response.headers_mut();
        if let Some(after) = error.kind.retry_after() {
            // Whole seconds, and never 0: the client would be back at once.
            let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if error.kind == ErrorKind::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self == Self::Anthropic && error.kind.retry_after().is_some() {
            let name = HeaderName::from_static("x-should-retry");
            headers.insert(name, HeaderValue::from_static("true"));
        }
        response
    }

    /// The body alone: in a stream, an error comes after the status.
    pub(crate) fn body(self, error: &ApiError) -> Value {
        match self {
            Self::OpenAi => json!({"error": {
                "message": error.message,
                "type": openai_type(error.kind),
                "param": error.param,
                "code": openai_code(error.kind),
            }}),
            Self::Anthropic => json!({"type": "error", "error": {
                "type": anthropic_type(error.kind),
                "message": with_param(error),
            }}),
            Self::Ollama => json!({"error": with_param(error)}),
        }
    }
}

/// The message with the field before it, for bodies that have no place for it.
fn with_param(error: &ApiError) -> String {
    match &error.param {
        Some(param) if !error.message.contains(&**param) => format!("{param}: {}", error.message),
        _ => error.message.clone(),
    }
}

fn openai_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::RateLimited { .. } | ErrorKind::Overloaded { .. } => "rate_limit_error",
        ErrorKind::Internal | ErrorKind::Unavailable { .. } => "server_error",
        _ => "invalid_request_error",
    }
}

fn openai_code(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::ContextOverflow => "context_length_exceeded",
        ErrorKind::Unsupported => "unsupported_value",
        ErrorKind::Unauthenticated => "invalid_api_key",
        ErrorKind::PreviousNotFound => "previous_response_not_found",
        ErrorKind::ModelNotFound => "model_not_found",
        ErrorKind::NotFound => "not_found",
        ErrorKind::RateLimited { .. } => "rate_limit_exceeded",
        ErrorKind::Overloaded { .. } => "overloaded",
        ErrorKind::Unavailable { .. } => "unavailable",
        ErrorKind::Deadline => "deadline_unmet",
        ErrorKind::RequiredDevice => "device_unmet",
        _ => return None,
    })
}

fn anthropic_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::ModelNotFound | ErrorKind::NotFound => "not_found_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::RateLimited { .. } => "rate_limit_error",
        ErrorKind::Overloaded { .. } | ErrorKind::Unavailable { .. } => "overloaded_error",
        ErrorKind::Internal => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_the_interface() {
        for (path, want) in [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messagesque", Dialect::OpenAi),
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/api/chat", Dialect::Ollama),
            ("/api/troika/status", Dialect::OpenAi),
            ("/nowhere", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), want, "{path}");
        }
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let retry_after = std::time::Duration::from_millis(1200);
        let error = ApiError::new(ErrorKind::Overloaded { retry_after }, "full");
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Ollama] {
            let response = dialect.refuse(&error);
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        }
    }

    #[test]
    fn what_is_not_there_has_a_code_of_its_own() {
        let route = ApiError::not_found("there is no route /x");
        for (error, want) in [
            (ApiError::no_model("x"), "model_not_found"),
            (route, "not_found"),
        ] {
            assert_eq!(Dialect::OpenAi.refuse(&error).status(), 404);
            let body = Dialect::OpenAi.body(&error);
            assert_eq!(body["error"]["code"], want);
            assert_eq!(body["error"]["type"], "invalid_request_error");
            let body = Dialect::Anthropic.body(&error);
            assert_eq!(body["error"]["type"], "not_found_error");
        }
    }

    #[test]
    fn the_field_at_fault_is_named_once() {
        let error = ApiError::invalid("must be text").at("model");
        assert_eq!(Dialect::Ollama.body(&error)["error"], "model: must be text");
        assert_eq!(Dialect::OpenAi.body(&error)["error"]["param"], "model");
        let error = ApiError::invalid("model must be text").at("model");
        assert_eq!(Dialect::Ollama.body(&error)["error"], "model must be text");
    }
}
