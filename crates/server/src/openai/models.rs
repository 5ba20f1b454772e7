//! `GET /v1/models` and `GET /v1/models/{name}`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Refusal;
use crate::ApiError;
use crate::app::App;
use crate::hybrid::RemoteView;
use crate::job::ModelInfo;
use crate::wire::unix_seconds;

/// All installed models, by name.
pub(super) async fn list(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let models = app.backend.models().await?;
    let beyond = beyond(&models, app.backend.remotes());
    let models: Vec<_> = models.iter().map(body).chain(beyond).collect();
    Ok(Json(json!({"object": "list", "data": models})))
}

/// The models that only endpoints have. Clients let people choose from this list; whether a request goes there, the owner's
/// rules say.
fn beyond(here: &[ModelInfo], remotes: Vec<RemoteView>) -> impl Iterator<Item = Value> {
    let mut owners = BTreeMap::new();
    for remote in remotes {
        for model in remote.models {
            if !here.iter().any(|own| is_called(own, &model)) {
                owners
                    .entry(model)
                    .or_insert_with(|| format!("remote:{}", remote.name));
            }
        }
    }
    let models = owners.into_iter();
    models.map(|(id, owner)| json!({"id": id, "object": "model", "created": 0, "owned_by": owner}))
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

    #[test]
    fn what_only_endpoints_have_is_listed_once() {
        use super::{RemoteView, beyond};
        let remote = |name: &str, models: &[&str]| RemoteView {
            name: name.to_owned(),
            api: troika_remote::config::Api::Openai,
            models: models.iter().map(|&it| it.to_owned()).collect(),
            region: None,
            data: None,
            profile: troika_remote::Profile::default(),
        };
        let here = [crate::testing::tiny()];
        let remotes = vec![
            remote("far", &["tiny", "cloud"]),
            remote("near", &["cloud"]),
        ];
        let listed: Vec<_> = beyond(&here, remotes).collect();
        let [cloud] = &*listed else {
            panic!("one: {listed:?}")
        };
        assert_eq!(
            (&cloud["id"], &cloud["owned_by"]),
            (&"cloud".into(), &"remote:far".into())
        );
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
