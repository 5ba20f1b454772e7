//! From what the user wrote to a model: a path, the name of an installed file, or the model inside the program.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use troika_gguf::ModelFile;

use crate::home::{self, Home};

/// The story model that is part of the program.
static STORIES: &[u8] = include_bytes!("../assets/stories.gguf");

/// The name that asks for it.
pub(crate) const BUILT_IN: &str = "stories";

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The story model inside the program.
    BuiltIn,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// Opens the file and checks its header.
    ///
    /// # Errors
    /// If it is damaged or no model.
    pub(crate) fn open(&self) -> anyhow::Result<ModelFile> {
        let file = match self {
            Self::BuiltIn => ModelFile::from_bytes("stories (built in)", STORIES),
            Self::File(path) => ModelFile::open(path),
        };
        file.context("cannot open the model")
    }

    pub(crate) fn is_built_in(&self) -> bool {
        *self == Self::BuiltIn
    }
}

/// What a word on the command line turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A model.
    Model(Source),
    /// It looks like a path, and nothing is there.
    NoSuchFile,
    /// Neither a path nor the name of a model.
    Other,
}

/// Looks for a model of this name. A file in reach goes before an installed one, and that before the one inside.
pub(crate) fn find(word: &str, home: &Home) -> Found {
    let path = Path::new(word);
    // What is no regular file is refused when it is opened.
    if path.is_file() || (looks_like_path(word) && path.exists() && !path.is_dir()) {
        return Found::Model(Source::File(path.to_owned()));
    }
    if let Some(path) = home.model(word) {
        return Found::Model(Source::File(path));
    }
    if word == BUILT_IN {
        return Found::Model(Source::BuiltIn);
    }
    if looks_like_path(word) {
        return Found::NoSuchFile;
    }
    Found::Other
}

/// The model of this name, which has to be one.
///
/// # Errors
/// If there is none; the message says what there is.
pub(crate) fn need(word: &str, home: &Home) -> anyhow::Result<Source> {
    match find(word, home) {
        Found::Model(source) => Ok(source),
        Found::NoSuchFile => Err(no_such_file(word)),
        Found::Other => Err(not_installed(word, home)),
    }
}

/// The error for a path where nothing is.
pub(crate) fn no_such_file(word: &str) -> anyhow::Error {
    let path = Path::new(word);
    let advice = if path.is_dir() {
        "that is a directory; name the .gguf file in it"
    } else {
        "check the path; `troika list` shows the models that can be named without one"
    };
    anyhow!("there is no model file {word:?}: {advice}")
}

fn not_installed(word: &str, home: &Home) -> anyhow::Error {
    const NAMES_SHOWN: usize = 8;
    let mut names: Vec<_> = home
        .models()
        .unwrap_or_default()
        .iter()
        .map(|path| home::model_name(path))
        .collect();
    names.push(BUILT_IN.to_owned());
    let more = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    let mut known = names.join(", ");
    if more > 0 {
        known.push_str(&format!(" and {more} more"));
    }
    let directory = home.models_dir();
    anyhow!(
        "no model {word:?} is installed; there is {known}. Name a .gguf file, or put one into {}",
        directory.display()
    )
}

/// Whether a word that names no file was meant to. A prompt may have a slash in it, as in "and/or".
fn looks_like_path(word: &str) -> bool {
    let one_word = !word.contains(char::is_whitespace);
    let rooted = ["/", "./", "../", "~/"]
        .iter()
        .any(|start| word.starts_with(start))
        || matches!(word, "." | "..");
    home::is_model_path(Path::new(word))
        || rooted
        || (one_word && word.contains(std::path::is_separator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        let directory = std::env::temp_dir().join(format!("troika-find-{}", std::process::id()));
        let models = directory.join("models");
        std::fs::create_dir_all(&models).expect("a directory");
        std::fs::write(models.join("tiny.gguf"), b"").expect("a file");
        let home = Home::at(&directory);
        let installed = Found::Model(Source::File(models.join("tiny.gguf")));
        for (word, want) in [
            ("tiny", &installed),
            ("tiny.gguf", &installed),
            ("stories", &Found::Model(Source::BuiltIn)),
            ("no/such", &Found::NoSuchFile),
            ("../models/tiny", &Found::NoSuchFile),
            ("my models/nothing.GGUF", &Found::NoSuchFile),
            ("/no such/file", &Found::NoSuchFile),
            ("Once upon a time", &Found::Other),
            ("cats and/or dogs", &Found::Other),
            ("llama3", &Found::Other),
            ("", &Found::Other),
            ("..", &Found::NoSuchFile),
        ] {
            assert_eq!(&find(word, &home), want, "{word:?}");
        }
        let error = need("llama3", &home).expect_err("is not installed");
        assert!(
            error.to_string().contains("there is tiny, stories."),
            "{error}"
        );
        std::fs::remove_dir_all(&directory).expect("still there");
    }

    #[test]
    fn the_built_in_model_is_sound() {
        let file = Source::BuiltIn.open().expect("opens");
        assert!(!file.tensors().is_empty());
    }
}
