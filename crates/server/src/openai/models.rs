//! `GET /v1/models` and `GET /v1/models/{name}`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Refusal;
use crate::ApiError;
use crate::app::App;
use crate::job::ModelInfo;
use crate::wire::unix_seconds;

/// All installed models, by name.
pub(super) async fn list(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let models = app.backend.models().await?;
    let models: Vec<_> = models.iter().map(body).collect();
    Ok(Json(json!({"object": "list", "data": models})))
}

/// One of them.
pub(super) async fn retrieve(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let Path(name) = name.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let models = app.backend.models().await?;
    match models.iter().find(|model| is_called(model, &name)) {
        Some(model) => Ok(Json(body(model))),
        None => Err(ApiError::no_model(&name).into()),
    }
}

/// A name may be written with `:latest` or without.
fn is_called(model: &ModelInfo, name: &str) -> bool {
    let bare = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
    bare(&model.name) == bare(name)
}

/// What OpenAI's clients know; `max_model_len`, which clients of other servers look for; and what else is known of it.
fn body(model: &ModelInfo) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": unix_seconds(model.modified),
        "owned_by": "troika",
        "max_model_len": model.n_ctx_train,
        "troika": {
            "architecture": model.architecture,
            "parameters": model.n_parameter,
            "quantization": model.quantization,
            "file_bytes": model.file_bytes,
            "chat": model.capabilities.chat,
            "tools": model.capabilities.tools,
            "thinking": model.capabilities.thinking,
        },
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::Scripted;

    async fn get(path: &str) -> (u16, String) {
        let (status, body) = Scripted::new([]).request("GET", path, String::new()).await;
        (status.as_u16(), body)
    }

    #[tokio::test]
    async fn models_are_listed() {
        let (status, body) = get("/v1/models").await;
        assert_eq!(status, 200);
        insta::assert_snapshot!(body);
    }

    #[tokio::test]
    async fn one_model_has_two_names() {
        for path in [
            "/v1/models/tiny",
            "/v1/models/tiny:latest",
            "/v1/models/tiny%3Alatest",
        ] {
            let (status, body) = get(path).await;
            assert_eq!(status, 200, "{path}");
            assert!(body.contains(r#""id":"tiny""#), "{path}: {body}");
        }
    }

    #[tokio::test]
    async fn an_unknown_model_is_named() {
        let (status, body) = get("/v1/models/acme/large%2Fone:q4").await;
        assert_eq!(status, 404);
        insta::assert_snapshot!(body);
        let (status, body) = get("/v1/models/%FF").await;
        assert_eq!(status, 400);
        assert!(body.contains("invalid_request_error"), "{body}");
    }
}
