//! From what the user wrote to a model: a path, the name of an installed file, or the model inside the program.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use troika_engine::{Adapter, with_adapters};
use troika_gguf::ModelFile;
use troika_library::{self as library, AdapterFile, Entry, Manifest, is_model_path};

use crate::home::Home;

/// The story model that is part of the program.
pub(crate) static STORIES: &[u8] = include_bytes!("../assets/stories.gguf");

/// The name that asks for it.
pub(crate) const BUILT_IN: &str = "stories";

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// The story model inside the program.
    BuiltIn,
    /// A file.
    File(PathBuf),
    /// Settings over one of these.
    Created {
        base: Box<Self>,
        adapters: Vec<AdapterFile>,
        manifest: Box<Manifest>,
    },
}

impl Source {
    /// Opens the file, checks its header and applies its adapters.
    ///
    /// # Errors
    /// If it or an adapter is damaged, or the adapter is none of this model.
    pub(crate) fn open(&self) -> anyhow::Result<ModelFile> {
        let file = match self {
            Self::BuiltIn => ModelFile::from_bytes("stories (built in)", STORIES),
            Self::File(path) => ModelFile::open(path),
            Self::Created { base, adapters, .. } => {
                let adapters = adapters.iter().map(|adapter| {
                    Ok(Adapter {
                        file: adapter.open()?,
                        scale: adapter.scale,
                    })
                });
                let adapters = adapters.collect::<Result<Vec<_>, library::Error>>()?;
                return with_adapters(base.open()?, &adapters).context("cannot apply the adapter");
            }
        };
        file.context("cannot open the model")
    }

    pub(crate) fn is_built_in(&self) -> bool {
        match self {
            Self::BuiltIn => true,
            Self::File(_) => false,
            Self::Created { base, .. } => base.is_built_in(),
        }
    }

    /// The file, unless it is the program.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::BuiltIn => None,
            Self::File(path) => Some(path),
            Self::Created { base, .. } => base.path(),
        }
    }

    /// The settings that were given to it when it was created.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::Created { manifest, .. } => Some(manifest),
            Self::BuiltIn | Self::File(_) => None,
        }
    }
}

impl From<Entry> for Source {
    fn from(entry: Entry) -> Self {
        let base = match entry.source {
            library::Source::BuiltIn(_) => Self::BuiltIn,
            library::Source::File(path) => Self::File(path),
        };
        if !entry.is_created {
            return base;
        }
        Self::Created {
            base: Box::new(base),
            adapters: entry.adapters,
            manifest: Box::new(entry.manifest),
        }
    }
}

/// What a word on the command line turns out to be.
#[derive(Debug)]
pub(crate) enum Found {
    /// A model.
    Model(Source),
    /// It looks like a path, and nothing is there.
    NoSuchFile,
    /// Neither a path nor the name of a model, or of one that is damaged: the reason.
    Other(library::Error),
}

/// Looks for a model of this name. A file in reach goes before an installed one, and that before the one inside.
pub(crate) fn find(word: &str, home: &Home) -> Found {
    let path = Path::new(word);
    // What is no regular file is refused when it is opened.
    if path.is_file() || (looks_like_path(word) && path.exists() && !path.is_dir()) {
        return Found::Model(Source::File(path.to_owned()));
    }
    match home.library().find(word) {
        Ok(entry) => Found::Model(entry.into()),
        Err(library::Error::NotFound { .. }) if looks_like_path(word) => Found::NoSuchFile,
        Err(error) => Found::Other(error),
    }
}

/// The model of this name, which has to be one.
///
/// # Errors
/// If there is none; the message says what there is.
pub(crate) fn need(word: &str, home: &Home) -> anyhow::Result<Source> {
    match find(word, home) {
        Found::Model(source) => Ok(source),
        Found::NoSuchFile => Err(no_such_file(word)),
        Found::Other(library::Error::NotFound { known, .. }) => Err(anyhow!(
            "no model {word:?} is installed; there is {known}. Name a .gguf file, or put one into {}",
            home.models_dir().display()
        )),
        Found::Other(error) => Err(error.into()),
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

/// Whether a word that names no file was meant to. A prompt may have a slash in it, as in "and/or".
fn looks_like_path(word: &str) -> bool {
    let one_word = !word.contains(char::is_whitespace);
    let rooted = ["/", "./", "../", "~/"]
        .iter()
        .any(|start| word.starts_with(start))
        || matches!(word, "." | "..");
    is_model_path(Path::new(word)) || rooted || (one_word && word.contains(std::path::is_separator))
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
        let installed = Some(Source::File(models.join("tiny.gguf")));
        for (word, want) in [
            ("tiny", &installed),
            ("tiny.gguf", &installed),
            ("stories", &Some(Source::BuiltIn)),
            ("Once upon a time", &None),
            ("cats and/or dogs", &None),
            ("llama3", &None),
            ("", &None),
        ] {
            let found = match find(word, &home) {
                Found::Model(source) => Some(source),
                Found::Other(library::Error::NotFound { .. }) => None,
                other => panic!("{word:?}: {other:?}"),
            };
            assert_eq!(&found, want, "{word:?}");
        }
        for word in [
            "no/such",
            "../models/tiny",
            "my models/nothing.GGUF",
            "/no such/file",
            "..",
        ] {
            let found = find(word, &home);
            assert!(matches!(found, Found::NoSuchFile), "{word:?}: {found:?}");
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
