//! `/api/create`: a model of another one, or of a file that was uploaded, with settings of its own.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use troika_engine::chat::ChatTemplate;
use troika_engine::sampler::SamplingParams;
use troika_library::{Digest, Lora, Manifest, Parameters, Turn};

use super::options::Options;
use super::{Handled, about, required};
use crate::ApiError;
use crate::app::App;
use crate::wire::{ndjson, parse};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CreateRequest {
    model: Option<String>,
    /// As older clients say.
    name: Option<String>,
    stream: Option<bool>,
    from: Option<String>,
    files: Option<BTreeMap<String, String>>,
    adapters: Option<BTreeMap<String, AdapterField>>,
    template: Option<String>,
    system: Option<String>,
    license: Option<License>,
    parameters: Option<Options>,
    messages: Option<Vec<Turn>>,
    quantize: Option<String>,
    modelfile: Option<String>,
}

/// An uploaded file.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a digest, or an object with `digest` and `scale`"
)]
enum AdapterField {
    /// Its digest, as other servers have it.
    Whole(String),
    Scaled {
        digest: String,
        scale: f32,
    },
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected text or a list of texts")]
enum License {
    One(String),
    Several(Vec<String>),
}

/// `POST /api/create`. It is done when the answer begins: the lines are for clients that show them.
pub(super) async fn create(State(app): State<App>, body: Bytes) -> Handled {
    let mut request: CreateRequest = parse(&body)?;
    let name = required(request.model.take().or(request.name.take()))?;
    let stream = request.stream.unwrap_or(true);
    let manifest = request.into_manifest()?;
    check_template(manifest.template.clone()).await?;
    let from = manifest.from.clone();
    let created = app.backend.create(name, manifest).await;
    created.map_err(|error| about(&from, error))?;
    let said = |status: &str| json!({ "status": status });
    if !stream {
        return Ok(Json(said("success")).into_response());
    }
    let lines = ["reading model metadata", "writing manifest", "success"];
    Ok(ndjson(stream::iter(lines.map(said))))
}

impl CreateRequest {
    fn into_manifest(self) -> Result<Manifest, ApiError> {
        self.refuse_what_is_not_here()?;
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let parameters = self.parameters.unwrap_or_default().parameters()?;
        check_ranges(&parameters)?;
        Ok(Manifest {
            from: origin(text(self.from), self.files.unwrap_or_default())?,
            adapters: adapters(self.adapters.unwrap_or_default())?,
            system: text(self.system),
            template: text(self.template),
            messages: self.messages.unwrap_or_default(),
            license: text(self.license.map(|license| match license {
                License::One(text) => text,
                License::Several(texts) => texts.join("\n\n"),
            })),
            parameters,
        })
    }

    fn refuse_what_is_not_here(&self) -> Result<(), ApiError> {
        let refuse = |field: &str, why: &str| Err(ApiError::unsupported(why).at(field));
        if self
            .quantize
            .as_ref()
            .is_some_and(|format| !format.is_empty())
        {
            return refuse("quantize", "a model keeps the format of its file");
        }
        if self.modelfile.as_ref().is_some_and(|file| !file.is_empty()) {
            return refuse(
                "modelfile",
                "send what stands in it as `from`, `system`, `template`, `parameters`",
            );
        }
        Ok(())
    }
}

/// What the model is made of: another one's name, or the digest of an uploaded file.
fn origin(from: Option<String>, files: BTreeMap<String, String>) -> Result<String, ApiError> {
    match (from, files.len()) {
        (Some(_), 1..) => {
            let why = "a model is made of another one or of a file, not of both; leave one of `from` and `files` out";
            Err(ApiError::invalid(why).at("files"))
        }
        (Some(from), 0) => Ok(from),
        (None, 0) => {
            let why = "neither `from` nor `files` says what the model is made of";
            Err(ApiError::invalid(why).at("from"))
        }
        (None, 2..) => {
            let why = "a model is made of one GGUF file here";
            Err(ApiError::unsupported(why).at("files"))
        }
        (None, 1) => {
            let digest = files.into_values().next().unwrap_or_default();
            uploaded(&digest, "files")
        }
    }
}

/// LoRA adapters, by their digests.
fn adapters(files: BTreeMap<String, AdapterField>) -> Result<Vec<Lora>, ApiError> {
    const FIELD: &str = "adapters";
    let adapters = files.into_values().map(|adapter| {
        let (digest, scale) = match adapter {
            AdapterField::Whole(digest) => (digest, 1.0),
            AdapterField::Scaled { digest, scale } => (digest, scale),
        };
        let from = uploaded(&digest, FIELD)?;
        Ok(Lora { from, scale })
    });
    adapters.collect()
}

/// The digest of an uploaded file, as the library writes it.
fn uploaded(digest: &str, field: &str) -> Result<String, ApiError> {
    let digest = digest.parse::<Digest>();
    let digest = digest.map_err(|error| ApiError::invalid(error.to_string()).at(field))?;
    Ok(digest.to_string())
}

/// Settings that no job could run with are refused here, rather than at every job.
fn check_ranges(parameters: &Parameters) -> Result<(), ApiError> {
    let default = SamplingParams::default();
    let params = SamplingParams {
        temperature: parameters.temperature.unwrap_or(default.temperature),
        top_p: parameters.top_p.unwrap_or(default.top_p),
        min_p: parameters.min_p.unwrap_or(default.min_p),
        repeat_penalty: parameters.repeat_penalty.unwrap_or(default.repeat_penalty),
        presence_penalty: parameters
            .presence_penalty
            .unwrap_or(default.presence_penalty),
        frequency_penalty: parameters
            .frequency_penalty
            .unwrap_or(default.frequency_penalty),
        ..default
    };
    let checked = params
        .with(&parameters.extra)
        .and_then(|params| params.validate());
    checked.map_err(|error| ApiError::invalid(error.to_string()).at("parameters"))
}

/// A template that is none would fail at every job too.
async fn check_template(template: Option<String>) -> Result<(), ApiError> {
    let Some(template) = template else {
        return Ok(());
    };
    // It is parsed on a thread of its own, which this one would wait for.
    let parsed = tokio::task::spawn_blocking(move || ChatTemplate::new(&template).map(drop)).await;
    match parsed {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(ApiError::invalid(format!(
            "{error}; templates are written in Jinja here, as in GGUF files"
        ))
        .at("template")),
        Err(_) => Err(ApiError::internal()),
    }
}
