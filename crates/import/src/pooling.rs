//! How a text's tokens become one vector: what sentence-transformers keeps beside a checkpoint that was made for embeddings.

use std::path::Path;

use serde_json::Value;
use troika_gguf::Metadata;

use crate::checkpoint::opt_json;
use crate::config::refuse;
use crate::{Error, encoder};

/// The ways that GGUF has a number for.
const MODES: [(&str, u32); 3] = [
    ("pooling_mode_mean_tokens", 1),
    ("pooling_mode_cls_token", 2),
    ("pooling_mode_lasttoken", 3),
];

/// Writes `{architecture}.pooling_type`, if the directory says it.
///
/// # Errors
/// If it is another way, or something is done to vectors that is not known here.
pub(crate) fn write(
    directory: &Path,
    architecture: &str,
    metadata: &mut Metadata,
) -> Result<(), Error> {
    let modules = opt_json(&directory.join("modules.json"))?;
    let modules = modules.as_ref().and_then(Value::as_array);
    let mut folder = "1_Pooling";
    for module in modules.into_iter().flatten() {
        let kind = module["type"].as_str().unwrap_or_default();
        match kind.rsplit('.').next() {
            Some("Transformer" | "Normalize") => {}
            Some("Pooling") => folder = module["path"].as_str().unwrap_or(folder),
            _ => {
                let expected = "expected Transformer, Pooling and Normalize in modules.json";
                return Err(refuse("type", &module["type"], expected));
            }
        }
    }
    let key = format!("{architecture}.pooling_type");
    let Some(config) = opt_json(&directory.join(folder).join("config.json"))? else {
        if encoder::is_encoder(architecture) {
            // Nomic's own code takes the mean, and so does sentence-transformers where nothing is said.
            metadata.insert(key, 1u32);
        }
        return Ok(());
    };
    let settings = config.as_object().into_iter().flatten();
    let set: Vec<&str> = settings
        .filter(|(name, value)| name.starts_with("pooling_mode_") && **value == true)
        .map(|(name, _)| name.as_str())
        .collect();
    let known = MODES.iter().find(|(name, _)| set == [*name]);
    let (_, number) = known.ok_or_else(|| {
        let expected = "expected one of mean_tokens, cls_token and lasttoken";
        refuse("pooling_mode", &Value::from(set.clone()), expected)
    })?;
    metadata.insert(key, *number);
    Ok(())
}
