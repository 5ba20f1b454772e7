//! What a reference turns out to be.

use http::Uri;
use troika_gguf::PartName;
use troika_library::{Digest, Manifest};

/// Another file that could be had in place of the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its name in the repository.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// How its weights are stored, as its name says.
    pub quantization: Option<String>,
}

/// A file that is elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct FoundFile {
    /// Where it is.
    pub(crate) uri: Uri,
    /// What it is called there.
    pub(crate) name: String,
    /// How long it is, where that was announced.
    pub(crate) bytes: Option<u64>,
    /// What it is, where that was announced.
    pub(crate) digest: Option<Digest>,
}

/// A model that is elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Its file, the first of several.
    pub(crate) file: FoundFile,
    /// Those that follow.
    pub(crate) later: Vec<FoundFile>,
    /// What the model shall be called, if nobody says otherwise.
    pub(crate) name: String,
    pub(crate) licence: Option<String>,
    /// Every file that could be had, the one among them; of several that are one model, the first.
    pub(crate) choices: Vec<Choice>,
    /// Settings that come with it; of a file alone, `None`.
    pub(crate) manifest: Option<Manifest>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// What a model is called after its file, or its first one.
pub(crate) fn model_name(file: &str) -> &str {
    let stem = stem(file);
    PartName::of(stem).map_or(stem, |part| part.base)
}

/// A file's name without its folder and its ending.
pub(crate) fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name
        .len()
        .checked_sub(5)
        .and_then(|at| name.split_at_checked(at))
    {
        Some((stem, ending)) if ending.eq_ignore_ascii_case(".gguf") => stem,
        _ => name,
    }
}

/// The quantization that a file's name tells: what begins like one after a `-`, `_` or `.`, up to the next `-` or `.`.
pub(crate) fn quantization(path: &str) -> Option<String> {
    let stem = stem(path).to_ascii_uppercase();
    let bounds = stem.match_indices(['-', '_', '.']).map(|(at, _)| at + 1);
    let starts: Vec<_> = std::iter::once(0).chain(bounds).collect();
    let mut words = starts.into_iter().rev().map(|start| {
        let rest = &stem[start..];
        &rest[..rest.find(['-', '.']).unwrap_or(rest.len())]
    });
    words.find(|word| is_quantization(word)).map(str::to_owned)
}

fn is_quantization(word: &str) -> bool {
    if matches!(
        word,
        "F16" | "FP16" | "BF16" | "F32" | "FP32" | "MXFP4" | "NVFP4"
    ) {
        return true;
    }
    let digits = ["IQ", "TQ", "Q"]
        .iter()
        .find_map(|it| word.strip_prefix(it));
    digits.is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()) && it.len() >= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_quantization() {
        for (name, want) in [
            ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", Some("Q4_K_M")),
            ("sub/qwen2.5-0.5b.q8_0.gguf", Some("Q8_0")),
            ("model_IQ2_XXS.gguf", Some("IQ2_XXS")),
            ("gemma-UD-Q4_K_XL.GGUF", Some("Q4_K_XL")),
            ("gpt-oss-20b-mxfp4.gguf", Some("MXFP4")),
            ("a-bf16.gguf", Some("BF16")),
            ("Qwen3-8B.gguf", None),
            ("q.gguf", None),
        ] {
            assert_eq!(quantization(name).as_deref(), want, "{name}");
        }
        assert_eq!(stem("a/b/c.GGUF"), "c");
        assert_eq!(stem("é.gg"), "é.gg");
    }
}
