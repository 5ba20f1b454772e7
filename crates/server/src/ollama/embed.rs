//! `/api/embed`, and `/api/embeddings` as older clients ask.

use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire::ns;
use super::{Handled, about, caller, required};
use crate::ApiError;
use crate::app::App;
use crate::fields::Stay;
use crate::job::{Caller, EmbedJob, Embedded, Overflow, Prompt, Usage};
use crate::report;
use crate::wire::parse;

/// Texts of one request, at most.
const INPUTS_MAX: usize = 2048;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EmbedRequest {
    model: Option<String>,
    input: Option<Input>,
    /// Whether an input that is too long is cut; it is if nothing is said.
    truncate: Option<bool>,
    dimensions: Option<usize>,
    keep_alive: Option<Stay>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum Input {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OldRequest {
    model: Option<String>,
    prompt: Option<String>,
    keep_alive: Option<Stay>,
}

/// Not a `Value`: that knows double precision only, and would write twice the digits.
#[derive(Serialize)]
struct EmbedAnswer<'a> {
    model: &'a str,
    embeddings: &'a [Vec<f32>],
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    troika: Option<Value>,
}

#[derive(Serialize)]
struct OldAnswer<'a> {
    embedding: &'a [f32],
    #[serde(skip_serializing_if = "Option::is_none")]
    troika: Option<Value>,
}

/// `POST /api/embed`: a vector for each text.
pub(super) async fn embed(
    State(app): State<App>,
    extension: Option<Extension<Caller>>,
    body: Bytes,
) -> Handled {
    let started = Instant::now();
    let request: EmbedRequest = parse(&body)?;
    let inputs = match request.input {
        None => Vec::new(),
        Some(Input::One(text)) if text.is_empty() => Vec::new(),
        Some(Input::One(text)) => vec![text],
        Some(Input::Several(texts)) => texts,
    };
    if inputs.len() > INPUTS_MAX {
        let why = format!(
            "{} texts are too many; {INPUTS_MAX} is the most",
            inputs.len()
        );
        return Err(ApiError::invalid(why).at("input").into());
    }
    // 0 is what clients send for none.
    let dimensions = request.dimensions.filter(|&n| n > 0);
    let overflow = match request.truncate {
        Some(false) => Overflow::Refuse,
        _ => Overflow::Truncate,
    };
    let model = required(request.model)?;
    let job = EmbedJob {
        model: model.clone(),
        inputs: inputs.into_iter().map(Prompt::Text).collect(),
        overflow,
        dimensions,
        keep_alive: request.keep_alive.map(Into::into),
        ..EmbedJob::default()
    };
    let Embedded { vectors, usage } = vectors(&app, job, caller(extension)).await?;
    Ok(Json(EmbedAnswer {
        model: &model,
        embeddings: &vectors,
        total_duration: ns(started.elapsed()),
        load_duration: ns(usage.load),
        prompt_eval_count: usage.prompt_tokens,
        troika: report::troika(&usage),
    })
    .into_response())
}

/// `POST /api/embeddings`: a vector for one text.
pub(super) async fn embeddings(
    State(app): State<App>,
    extension: Option<Extension<Caller>>,
    body: Bytes,
) -> Handled {
    let request: OldRequest = parse(&body)?;
    let prompt = request.prompt.filter(|prompt| !prompt.is_empty());
    let job = EmbedJob {
        model: required(request.model)?,
        inputs: prompt.into_iter().map(Prompt::Text).collect(),
        overflow: Overflow::Truncate,
        dimensions: None,
        keep_alive: request.keep_alive.map(Into::into),
        ..EmbedJob::default()
    };
    let embedded = vectors(&app, job, caller(extension)).await?;
    let vector = embedded.vectors.into_iter().next().unwrap_or_default();
    Ok(Json(OldAnswer {
        embedding: &vector,
        troika: report::troika(&embedded.usage),
    })
    .into_response())
}

/// The vectors of a job. One without inputs loads the model.
async fn vectors(app: &App, job: EmbedJob, caller: Caller) -> Result<Embedded, ApiError> {
    let model = job.model.clone();
    let done = if job.inputs.is_empty() {
        let loaded = app.backend.load(job.model, job.keep_alive).await;
        loaded.map(|()| Embedded {
            vectors: Vec::new(),
            usage: Usage::default(),
        })
    } else {
        app.backend.embed(job, caller).await
    };
    done.map_err(|error| about(&model, error))
}
