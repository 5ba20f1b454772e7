//! One model of the library.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use troika_gguf::ModelFile;

use crate::digest::hex;
use crate::summary::{State, Summaries, Summary};
use crate::{Error, Manifest};

/// Where a model's weights are.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// In the program.
    BuiltIn(&'static [u8]),
    /// In this file.
    File(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(bytes) => write!(f, "BuiltIn({} bytes)", bytes.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// A LoRA adapter over a model's file.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFile {
    /// Its file.
    pub path: PathBuf,
    /// What it is called: its digest, as `sha256:...`.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// Multiplies it.
    pub scale: f32,
}

impl AdapterFile {
    /// Opens the file, under the name of its digest, and checks its header.
    ///
    /// # Errors
    /// [`Error::Adapter`] if it is damaged or gone.
    pub fn open(&self) -> Result<ModelFile, Error> {
        let file = ModelFile::open(&self.path).map_err(|source| Error::Adapter {
            digest: self.digest.clone(),
            source: Box::new(source),
        })?;
        Ok(file.with_name(&self.digest))
    }
}

/// One model.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where its weights are.
    pub source: Source,
    /// What stands beside its weights, the first one first.
    pub adapters: Vec<AdapterFile>,
    /// Its settings; of a model that was not created, none.
    pub manifest: Manifest,
    /// Whether it was created: settings over a file that may have a name of its own.
    pub is_created: bool,
    /// When it changed last. A model inside the program has the time of the program.
    pub modified: SystemTime,
    /// The size of the file with its weights.
    pub file_bytes: u64,
    /// When that changed last.
    pub(crate) file_modified: SystemTime,
    pub(crate) summaries: Arc<Summaries>,
}

impl Entry {
    /// Opens the file and checks its header. Its adapters are not applied: who computes with it has to.
    ///
    /// # Errors
    /// [`Error::Model`] if it is damaged, no model or gone.
    pub fn open(&self) -> Result<ModelFile, Error> {
        let file = match &self.source {
            Source::BuiltIn(bytes) => {
                ModelFile::from_bytes(&format!("{} (built in)", self.manifest.from), *bytes)
            }
            Source::File(path) => ModelFile::open(path),
        };
        file.map_err(|source| Error::Model {
            name: self.name.clone(),
            source: Box::new(source),
        })
    }

    /// Names this state of the model: 64 hexadecimal digits over its settings and its file's name, size and time. The
    /// file is not read, so two equal files have two digests.
    pub fn digest(&self) -> String {
        let manifest =
            serde_json::to_vec(&self.manifest).expect("a manifest is JSON. This is a bug.");
        let state = self.state();
        let time = state.modified.duration_since(UNIX_EPOCH);
        let mut hash = Sha256::new();
        // Lengths between the parts, so that no two sequences of parts run together to the same bytes.
        for part in [&*manifest, state.path.as_os_str().as_encoded_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(state.bytes.to_le_bytes());
        hash.update(time.map_or(0, |time| time.as_nanos()).to_le_bytes());
        hex(&hash.finalize())
    }

    /// The size of the file with its weights and of its adapters.
    pub fn bytes(&self) -> u64 {
        let adapters = self.adapters.iter().map(|adapter| adapter.bytes);
        self.file_bytes + adapters.sum::<u64>()
    }

    /// What the file says of it in short. The file is opened if that was not asked for in its present state before.
    ///
    /// # Errors
    /// As [`Entry::open`].
    pub fn summary(&self) -> Result<Arc<Summary>, Error> {
        self.summaries.get(self.state(), || self.open())
    }

    fn state(&self) -> State {
        let (path, modified) = match &self.source {
            // The same in each program that has these bytes.
            Source::BuiltIn(_) => (PathBuf::from(&self.manifest.from), UNIX_EPOCH),
            Source::File(path) => (path.clone(), self.file_modified),
        };
        State {
            path,
            bytes: self.file_bytes,
            modified,
        }
    }
}
