//! What a model's file says of it in short, remembered: a list of models would open every file each time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use troika_gguf::{Metadata, ModelFile};

use crate::{Error, Formats};

/// Files that are remembered at most.
const REMEMBERED_MAX: usize = 256;

/// A longer template is not remembered: no real one is, and it would stay in memory for good.
const TEMPLATE_BYTES_MAX: usize = 1 << 20;

/// What a model's file says of it in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// `llama`, `qwen3`, ...; empty if the file does not say.
    pub architecture: String,
    /// How many weights it has.
    pub n_parameter: u64,
    /// The format of most weights, as GGUF spells it; empty if there are none.
    pub quantization: String,
    /// Tokens of context that it was trained for; 0 if the file does not say.
    pub n_ctx_train: usize,
    /// Length of its embeddings; 0 if the file does not say.
    pub n_embd: usize,
    /// The file's chat template.
    pub template: Option<String>,
}

impl Summary {
    /// Of an open file.
    pub fn of(file: &ModelFile) -> Self {
        let metadata = file.metadata();
        let formats = Formats::of(file);
        let architecture = metadata.str("general.architecture").unwrap_or_default();
        let template = metadata.str("tokenizer.chat_template").ok();
        Self {
            architecture: architecture.to_owned(),
            n_parameter: formats.parameters(),
            quantization: formats
                .main()
                .map_or_else(String::new, |dtype| dtype.name().to_owned()),
            n_ctx_train: count(metadata, &format!("{architecture}.context_length")),
            n_embd: count(metadata, &format!("{architecture}.embedding_length")),
            template: template
                .filter(|template| template.len() <= TEMPLATE_BYTES_MAX)
                .map(str::to_owned),
        }
    }
}

fn count(metadata: &Metadata, key: &str) -> usize {
    metadata.u32(key).map_or(0, |n| n as usize)
}

/// One state of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Its path, or the name of a model inside the program.
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
}

/// The summaries of files that were opened before.
#[derive(Debug, Default)]
pub(crate) struct Summaries(Mutex<HashMap<State, Arc<Summary>>>);

impl Summaries {
    /// The summary of this state, which is read if it is not known.
    pub(crate) fn get(
        &self,
        state: State,
        open: impl FnOnce() -> Result<ModelFile, Error>,
    ) -> Result<Arc<Summary>, Error> {
        if let Some(known) = self.lock().get(&state) {
            return Ok(Arc::clone(known));
        }
        // Read without the lock: one slow disk must not stop the others.
        let summary = Arc::new(Summary::of(&open()?));
        let mut known = self.lock();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(state, Arc::clone(&summary));
        Ok(summary)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<State, Arc<Summary>>> {
        // Nothing in there is ever half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
