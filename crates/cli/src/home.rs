//! Where Troika keeps its things: `TROIKA_HOME`, else the platform's data directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use etcetera::BaseStrategy as _;

/// The ending of model files.
const EXTENSION: &str = "gguf";

/// The directory of Troika's state. It need not exist.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// The home that the environment names.
    ///
    /// # Errors
    /// If the user has no home directory and `TROIKA_HOME` is not set.
    pub(crate) fn from_env() -> anyhow::Result<Self> {
        match std::env::var_os("TROIKA_HOME") {
            Some(home) if !home.is_empty() => Ok(Self(home.into())),
            _ => {
                let platform = etcetera::base_strategy::choose_native_strategy().context(
                    "no home directory is known; set TROIKA_HOME to where models shall be",
                )?;
                Ok(Self(platform.data_dir().join("troika")))
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where installed models are.
    pub(crate) fn models_dir(&self) -> PathBuf {
        self.0.join("models")
    }

    /// The file of an installed model: its name with or without `.gguf`. Names with directories in them are no names.
    pub(crate) fn model(&self, name: &str) -> Option<PathBuf> {
        let mut parts = Path::new(name).components();
        let (Some(std::path::Component::Normal(_)), None) = (parts.next(), parts.next()) else {
            return None;
        };
        let directory = self.models_dir();
        [
            directory.join(name),
            directory.join(format!("{name}.{EXTENSION}")),
        ]
        .into_iter()
        .find(|path| path.is_file())
    }

    /// The files of all installed models, by name. No directory is no models.
    ///
    /// # Errors
    /// If the directory is there and cannot be read.
    pub(crate) fn models(&self) -> anyhow::Result<Vec<PathBuf>> {
        let directory = self.models_dir();
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", directory.display()));
            }
        };
        let mut models = Vec::new();
        for entry in entries {
            let path = entry
                .with_context(|| format!("cannot read {}", directory.display()))?
                .path();
            if is_model_path(&path) && path.is_file() {
                models.push(path);
            }
        }
        models.sort();
        Ok(models)
    }
}

/// Whether the path ends in `.gguf`, in upper or lower case.
pub(crate) fn is_model_path(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

/// The name under which an installed file is asked for.
pub(crate) fn model_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_else(|| OsStr::new(""));
    stem.to_string_lossy().into_owned()
}
