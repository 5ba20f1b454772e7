//! Where Troika keeps its things: `TROIKA_HOME`, else the platform's data directory.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use etcetera::BaseStrategy as _;
use troika_library::Library;

use crate::model::{BUILT_IN, STORIES};

/// The models inside the program.
static INSIDE: [(&str, &[u8]); 1] = [(BUILT_IN, STORIES)];

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

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where installed models are.
    pub(crate) fn models_dir(&self) -> PathBuf {
        self.0.join("models")
    }

    /// The models: those installed and the one inside.
    pub(crate) fn library(&self) -> Library {
        Self::library_in(self.models_dir())
    }

    /// The same, with those installed elsewhere.
    pub(crate) fn library_in(models_dir: PathBuf) -> Library {
        Library::open(models_dir, &INSIDE)
    }
}

/// The folder that a file is in; of a bare name, the one that the program runs in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
