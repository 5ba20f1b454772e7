//! The metadata of a quantized file: what the source has, and what has changed.

use std::collections::BTreeMap;

use troika_base::DType;
use troika_gguf::{Metadata, Value};

use crate::importance::Importance;
use crate::mix::Mix;
use crate::plan::Planned;

/// The version of the block formats. It has been 2 since 2023.
const QUANTIZATION_VERSION: u32 = 2;

/// Keys of a file in parts: what is written is in one.
const SPLIT: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];

pub(crate) fn quantized(
    source: &Metadata,
    mix: Option<Mix>,
    tensors: &[Planned],
    importance: Option<&Importance>,
) -> Metadata {
    let mut metadata = source.clone();
    for key in SPLIT {
        metadata.remove(key);
    }
    metadata.insert("general.quantization_version", QUANTIZATION_VERSION);
    let file_type = match mix {
        Some(mix) => mix.file_type(),
        None => nearest(tensors).file_type(),
    };
    metadata.insert("general.file_type", file_type);
    if let Some(importance) = importance {
        let origin = &importance.origin;
        let entries = importance.columns.len() as u32;
        let texts: [(&str, Option<&String>); 2] = [
            ("quantize.imatrix.file", origin.file.as_ref()),
            ("quantize.imatrix.dataset", origin.datasets.first()),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                metadata.insert(key, Value::String(text.clone()));
            }
        }
        metadata.insert("quantize.imatrix.entries_count", entries);
        metadata.insert("quantize.imatrix.chunks_count", origin.chunk_count);
    }
    metadata
}

/// The recipe that goes by the format that most weights have: what readers take for a file of no recipe.
fn nearest(tensors: &[Planned]) -> Mix {
    let mut weights = BTreeMap::<DType, u64>::new();
    for tensor in tensors {
        *weights.entry(tensor.to).or_default() += tensor.n_elements();
    }
    let most = weights.into_iter().max_by_key(|&(_, weights)| weights);
    let dtype = most.map_or(DType::F32, |(dtype, _)| dtype);
    let of = |mix: &&Mix| mix.base() == dtype && !mix.name().ends_with("_S");
    let found = Mix::ALL.iter().find(of);
    found
        .or_else(|| Mix::ALL.iter().find(|mix| mix.base() == dtype))
        .copied()
        .unwrap_or(Mix::F32)
}
