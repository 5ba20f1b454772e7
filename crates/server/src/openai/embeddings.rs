//! `POST /v1/embeddings`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::options::overflow;
use super::prompts::{WirePrompts, prompts};
use super::{Refusal, caller};
use crate::ApiError;
use crate::app::App;
use crate::fields::{Integer, Stay, count, required, urgency};
use crate::job::{Caller, EmbedJob, Prompt, Wishes};
use crate::report;
use crate::wire::parse;

/// Longer than any model's vectors are.
const DIMENSIONS_MAX: usize = 1 << 20;

#[derive(Debug, Deserialize)]
struct Fields {
    model: Option<String>,
    input: Option<WirePrompts>,
    encoding_format: Option<String>,
    dimensions: Option<Integer>,
    truncate_prompt: Option<bool>,
    truncation: Option<String>,
    keep_alive: Option<Stay>,
    service_tier: Option<String>,
    priority: Option<Integer>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// A list of numbers.
    Float,
    /// The bytes of `f32`s, little end first.
    Base64,
}

#[derive(Debug, Serialize)]
struct Body {
    object: &'static str,
    data: Vec<Item>,
    model: String,
    usage: Value,
}

#[derive(Debug, Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

/// Embeds texts.
pub(super) async fn embed(
    State(app): State<App>,
    extension: Option<Extension<Caller>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let fields: Fields = parse(&body)?;
    drop(body);
    let encoding = encoding(fields.encoding_format.as_deref())?;
    let model = required(fields.model, "model")?;
    let dimensions = match fields.dimensions {
        Some(dimensions) => Some(dimensions_of(&app, &model, dimensions).await?),
        None => None,
    };
    let job = EmbedJob {
        model: model.clone(),
        inputs: inputs(required(fields.input, "input")?)?,
        overflow: overflow(fields.truncate_prompt, fields.truncation.as_deref())?,
        dimensions,
        keep_alive: fields.keep_alive.map(Into::into),
        wishes: Wishes {
            class: urgency(fields.service_tier.as_deref(), fields.priority)?,
            ..Wishes::default()
        },
    };
    let embedded = app.backend.embed(job, caller(extension)).await;
    let embedded = embedded.map_err(|error| error.renamed("prompt", "input"))?;
    let vectors = embedded.vectors.into_iter().enumerate();
    let data = vectors.map(|(index, vector)| Item {
        object: "embedding",
        index,
        embedding: encoding.write(vector),
    });
    let tokens = embedded.usage.prompt_tokens;
    let mut usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    report::add_to(&mut usage, &embedded.usage);
    let body = Body {
        object: "list",
        data: data.collect(),
        model,
        usage,
    };
    Ok(Json(body).into_response())
}

fn encoding(name: Option<&str>) -> Result<Encoding, ApiError> {
    match name {
        None | Some("float") => Ok(Encoding::Float),
        Some("base64") => Ok(Encoding::Base64),
        Some(other) => {
            let message = format!("encoding_format is `{other}`; it must be float or base64");
            Err(ApiError::invalid(message).at("encoding_format"))
        }
    }
}

/// A vector can be cut short, not drawn out.
async fn dimensions_of(app: &App, model: &str, wanted: Integer) -> Result<usize, ApiError> {
    let n_embd = app.backend.embedding_length(model.to_owned()).await?;
    // At most 2^64, far below what `i128` holds.
    count(
        wanted,
        1..=n_embd.unwrap_or(DIMENSIONS_MAX) as i128,
        "dimensions",
    )
}

fn inputs(wire: WirePrompts) -> Result<Vec<Prompt>, ApiError> {
    let is_text = matches!(wire, WirePrompts::Text(_));
    let inputs = prompts("input", wire)?;
    let is_empty = |input: &Prompt| matches!(input, Prompt::Text(text) if text.is_empty());
    match inputs.iter().position(is_empty) {
        None => Ok(inputs),
        Some(i) => {
            let place = match is_text {
                true => "input".to_owned(),
                false => format!("input[{i}]"),
            };
            let message = format!("{place} is empty; there is nothing to embed");
            Err(ApiError::invalid(message).at(place))
        }
    }
}

impl Encoding {
    fn write(self, vector: Vec<f32>) -> Vector {
        match self {
            Self::Float => Vector::Float(vector),
            Self::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Vector::Base64(BASE64_STANDARD.encode(bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scripted;

    async fn post(body: Value) -> (u16, Value) {
        let (status, body) = Scripted::new([]).post("/v1/embeddings", &body).await;
        (status.as_u16(), serde_json::from_str(&body).unwrap())
    }

    #[tokio::test]
    async fn vectors_as_numbers() {
        let body = json!({"model": "tiny", "input": "a"}).to_string();
        let backend = Scripted::new([]);
        let (_, body) = backend.request("POST", "/v1/embeddings", body).await;
        insta::assert_snapshot!(body);
        let (_, body) = post(json!({"model": "tiny", "input": [[1, 2], [3]]})).await;
        assert_eq!(body["data"][1]["index"], 1);
        assert_eq!(body["usage"]["total_tokens"], 4);
    }

    #[tokio::test]
    async fn vectors_as_bytes() {
        let body = json!({"model": "tiny", "input": ["a"], "encoding_format": "base64"});
        let (_, body) = post(body).await;
        let text = body["data"][0]["embedding"].as_str().unwrap();
        let bytes = BASE64_STANDARD.decode(text).unwrap();
        let vector: Vec<_> = bytes
            .chunks_exact(4)
            .map(|x| f32::from_le_bytes(x.try_into().unwrap()))
            .collect();
        assert_eq!(vector, [0.6, 0.0, -0.8]);
    }

    #[tokio::test]
    async fn vectors_are_cut_short_but_not_drawn_out() {
        let (status, body) = post(json!({"model": "tiny", "input": "a", "dimensions": 2.0})).await;
        assert_eq!(
            (
                status,
                body["data"][0]["embedding"].as_array().unwrap().len()
            ),
            (200, 2)
        );
        for dimensions in [json!(0), json!(4), json!(-1), json!(1e30), json!("2")] {
            let (status, body) =
                post(json!({"model": "tiny", "input": "a", "dimensions": dimensions})).await;
            assert_eq!(status, 400, "{body}");
            assert_eq!(body["error"]["param"], "dimensions", "{body}");
        }
    }

    #[tokio::test]
    async fn wrong_requests_name_the_field() {
        for (fields, param) in [
            (json!({"input": "a"}), "model"),
            (json!({"model": "tiny"}), "input"),
            (json!({"model": "tiny", "input": null}), "input"),
            (json!({"model": "tiny", "input": ""}), "input"),
            (json!({"model": "tiny", "input": ["a", ""]}), "input[1]"),
            (json!({"model": "tiny", "input": []}), "input"),
            (json!({"model": "tiny", "input": [[]]}), "input[0]"),
            (json!({"model": "tiny", "input": ["a", {}]}), "input[1]"),
            (json!({"model": "tiny", "input": [1, -2]}), "input[1]"),
            (json!({"model": "tiny", "input": vec!["a"; 2049]}), "input"),
            (
                json!({"model": "tiny", "input": "a", "encoding_format": "hex"}),
                "encoding_format",
            ),
            (
                json!({"model": "tiny", "input": "a", "truncation": "yes"}),
                "truncation",
            ),
        ] {
            let (status, body) = post(fields).await;
            assert_eq!(
                (status, &body["error"]["param"]),
                (400, &json!(param)),
                "{body}"
            );
        }
        let (status, _) = post(json!({"model": "huge", "input": "a"})).await;
        assert_eq!(status, 404);
    }
}
