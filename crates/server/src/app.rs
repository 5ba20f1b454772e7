//! The routes of all interfaces, over one [`Backend`].

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};

use crate::dialect::Dialect;
use crate::guard::{self, Guard};
use crate::keys::{self, Keys};
use crate::limits::{self, Bodies};
use crate::metered::Metered;
use crate::receipts;
use crate::record::Recorder;
use crate::settings::SettingsError;
use crate::{
    ApiError, Backend, Chats, Drain, ErrorKind, Media, Pulls, Settings, chats, hybrid, media,
    metrics, observe, pulls, request_id, status, troika, wishes,
};

/// What every handler is given.
#[derive(Clone)]
pub(crate) struct App {
    /// The models.
    pub(crate) backend: Arc<dyn Backend>,
    /// Responses that later requests can go on from.
    pub(crate) responses: crate::responses::Store,
}

/// What the server offers beside the models that it asks.
pub struct Services {
    /// Always-on work.
    pub media: Media,
    /// Models are pulled from elsewhere; absent where they may not be.
    pub pulls: Option<Pulls>,
    /// Conversations; they last as long as the server if absent.
    pub chats: Option<Chats>,
}

impl From<Media> for Services {
    fn from(media: Media) -> Self {
        Self {
            media,
            pulls: None,
            chats: None,
        }
    }
}

/// All routes, without the layers that guard them.
pub(crate) fn routes(backend: Arc<dyn Backend>) -> Router {
    Router::new()
        .merge(crate::openai::routes())
        .merge(crate::anthropic::routes())
        .merge(crate::responses::routes())
        .merge(crate::ollama::routes())
        .merge(crate::web::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(App {
            backend,
            responses: crate::responses::Store::default(),
        })
}

/// The whole server but for its connections: all routes, and what stands before them.
///
/// # Errors
/// If jobs are to be recorded and the file cannot be written.
pub fn app(
    backend: Arc<dyn Backend>,
    services: impl Into<Services>,
    settings: &Settings,
    keys: Keys,
    drain: &Drain,
) -> Result<Router, SettingsError> {
    metrics::start();
    let Services {
        media,
        pulls,
        chats,
    } = services.into();
    let guard = Arc::new(Guard::new(settings, sysinfo::System::host_name()));
    let recorder = settings.record.as_deref().map(Recorder::create);
    let recorder = recorder.transpose()?;
    let watched = status::routes(Arc::clone(&backend), drain.clone());
    let watched = watched.merge(troika::routes(Arc::clone(&backend), drain.clone()));
    let watched = watched.merge(receipts::routes(Arc::clone(&backend)));
    let refusing = from_fn_with_state(drain.clone(), status::refuse_when_draining);
    let always_on = media::routes(media.clone(), Arc::clone(&backend));
    // From the innermost layer to the outermost: a request meets them the other way round.
    let metered = Metered::new(backend, keys.clone(), recorder).with_media(media);
    let metered: Arc<dyn Backend> = Arc::new(metered);
    let chats = chats.unwrap_or_else(Chats::in_memory);
    let router = routes(Arc::clone(&metered))
        .merge(chats::routes(metered, chats))
        .merge(always_on)
        .merge(pulls::routes(pulls, drain.clone()))
        .layer(from_fn(hybrid::layer))
        .layer(from_fn(wishes::layer))
        .layer(refusing)
        .merge(watched)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Bodies::new(settings), limits::layer))
        .layer(from_fn_with_state(keys, keys::layer));
    let router = match guard::cors(settings) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    Ok(router
        .layer(from_fn_with_state(guard, guard::layer))
        .layer(from_fn(observe::layer))
        .layer(from_fn(request_id::layer)))
}

/// The router adds which methods there are.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> axum::response::Response {
    let message = format!("{} does not take {method}", uri.path());
    let error = ApiError::new(ErrorKind::MethodNotAllowed, message);
    Dialect::of(uri.path()).refuse(&error)
}

async fn unknown_route(uri: Uri) -> axum::response::Response {
    let error = ApiError::not_found(format!("there is no route {}", uri.path()));
    Dialect::of(uri.path()).refuse(&error)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;
    use crate::testing::Scripted;

    async fn get(path: &str) -> (axum::http::response::Parts, Value) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (parts, body) = routes(Scripted::new([]))
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn a_jobs_field_has_the_name_that_its_interface_gives_it() {
        let messages = json!([{"role": "user", "content": "a"}]);
        let schema = json!({"type": "object"});
        let form = json!({"type": "json_schema", "name": "n", "json_schema": {"schema": schema}, "schema": schema});
        for (path, field, asks, want) in [
            (
                "/v1/chat/completions",
                "format",
                json!({"messages": messages, "response_format": form}),
                "response_format",
            ),
            (
                "/v1/chat/completions",
                "format",
                json!({"messages": messages, "guided_regex": "a"}),
                "guided_regex",
            ),
            (
                "/v1/chat/completions",
                "logit_bias",
                json!({"messages": messages}),
                "logit_bias",
            ),
            (
                "/v1/chat/completions",
                "tools",
                json!({"messages": messages, "functions": [{"name": "f"}]}),
                "functions",
            ),
            (
                "/v1/completions",
                "format",
                json!({"prompt": "a", "response_format": form}),
                "response_format",
            ),
            (
                "/v1/responses",
                "format",
                json!({"input": "a", "text": {"format": form}}),
                "text.format",
            ),
            ("/v1/responses", "messages", json!({"input": "a"}), "input"),
            (
                "/v1/messages",
                "format",
                json!({"messages": messages, "max_tokens": 1, "output_config": {"format": form}}),
                "output_config.format",
            ),
            (
                "/v1/messages",
                "format",
                json!({"messages": messages, "max_tokens": 1, "output_format": form}),
                "output_format",
            ),
            (
                "/api/chat",
                "format",
                json!({"messages": messages, "format": schema}),
                "format",
            ),
            (
                "/api/generate",
                "top_p",
                json!({"prompt": "a", "options": {"top_p": 7}}),
                "options.top_p",
            ),
        ] {
            let backend = Scripted::new([Err(ApiError::invalid("bad").at(field))]);
            let mut body = asks;
            body["model"] = "tiny".into();
            let (status, answer) = backend.post(path, &body).await;
            assert_eq!(status, 400, "{path}: {answer}");
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            let told = match answer.pointer("/error/param") {
                Some(param) => param == want,
                None => answer.to_string().contains(&format!("\"{want}: bad")),
            };
            assert!(told, "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_wrong_method_is_refused_in_the_interfaces_words() {
        for (path, message) in [
            ("/v1/chat/completions", "/error/message"),
            ("/v1/responses", "/error/message"),
            ("/v1/messages", "/error/message"),
            ("/api/chat", "/error"),
        ] {
            let (parts, body) = get(path).await;
            assert_eq!(parts.status, 405, "{path}");
            assert_eq!(parts.headers["allow"], "POST", "{path}");
            let message = body.pointer(message).and_then(Value::as_str);
            assert!(
                message.is_some_and(|it| it.contains("GET")),
                "{path}: {body}"
            );
        }
        let request = Request::post("/health").body(Body::empty()).unwrap();
        let routes = status::routes(Scripted::new([]), Drain::default());
        let response = routes.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["content-type"], "application/json");
    }
}
