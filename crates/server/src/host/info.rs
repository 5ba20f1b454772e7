//! What the library says of a model, as the interfaces want it.

use serde_json::{Map, Value};
use troika_engine::chat::AnswerFormat;
use troika_library::{Entry, metadata_json};

use crate::job::{Capabilities, ModelInfo};
use crate::{ApiError, ErrorKind, ModelDetails};

pub(super) fn info(entry: &Entry) -> Result<ModelInfo, ApiError> {
    let summary = entry.summary().map_err(|error| from_library(&error))?;
    let template = entry
        .manifest
        .template
        .as_ref()
        .or(summary.template.as_ref());
    let format = template.map(|source| AnswerFormat::of(source));
    Ok(ModelInfo {
        name: entry.name.clone(),
        modified: entry.modified,
        file_bytes: entry.bytes(),
        digest: entry.digest(),
        architecture: summary.architecture.clone(),
        n_parameter: summary.n_parameter,
        quantization: summary.quantization.clone(),
        n_ctx_train: summary.n_ctx_train,
        n_embd: summary.n_embd,
        capabilities: Capabilities {
            chat: template.is_some(),
            tools: format.as_ref().is_some_and(AnswerFormat::knows_tools),
            thinking: format.as_ref().is_some_and(AnswerFormat::knows_thinking),
        },
    })
}

pub(super) fn details(entry: &Entry) -> Result<ModelDetails, ApiError> {
    let info = info(entry)?;
    let file = entry.open().map_err(|error| from_library(&error))?;
    let values = file.metadata().iter();
    let values = values.map(|(key, value)| (key.to_owned(), metadata_json(value)));
    let metadata: Map<String, Value> = values.collect();
    let in_file = file.metadata().opt_str("tokenizer.chat_template");
    let in_file = in_file.ok().flatten().map(str::to_owned);
    let tensors = file.tensors().iter();
    Ok(ModelDetails {
        info,
        manifest: entry.manifest.clone(),
        template: entry.manifest.template.clone().or(in_file),
        metadata,
        tensors: tensors
            .map(|tensor| {
                (
                    tensor.name.clone(),
                    tensor.dtype.to_string(),
                    tensor.shape.clone(),
                )
            })
            .collect(),
    })
}

pub(super) fn from_library(error: &troika_library::Error) -> ApiError {
    use troika_library::Error;
    let kind = match error {
        Error::NotFound { .. } => ErrorKind::ModelNotFound,
        Error::NoBlob { .. } => ErrorKind::NotFound,
        Error::Damaged { .. } | Error::Conflict(_) | Error::Model { .. } => ErrorKind::Conflict,
        Error::TooLarge { .. } => ErrorKind::TooLarge,
        Error::Io { .. } => {
            tracing::error!(?error, "the library cannot be read or written");
            ErrorKind::Internal
        }
        _ => ErrorKind::Invalid,
    };
    let told = ApiError::new(kind, error.to_string());
    match kind {
        ErrorKind::ModelNotFound => told.at("model"),
        _ => told,
    }
}
