//! The contract of a way to an NPU: compile a model's graph, and open what was compiled.

use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use troika_device::{Abilities, Cancelled, Resident};
use troika_gguf::ModelFile;

use crate::{Error, WeightFormat};

/// What a compiled model is to be able to do. Part of the key in the cache: whatever changes the result stands here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileOptions {
    /// How weights are written.
    pub weights: WeightFormat,
    /// Tokens of prompt and answer together, at most.
    pub n_ctx: usize,
    /// Tokens of a prompt that one run reads: the static shape of prefill.
    pub chunk: usize,
}

/// What a compilation is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Weights are written as the chip wants them, and the graph with them.
    Lower,
    /// The maker's compiler runs; it says nothing of how far it is.
    Compile,
    /// The result goes to its file.
    Write,
    /// Its logits are compared with the CPU's.
    Compare,
}

/// How far a compilation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileProgress {
    /// What it is at.
    pub phase: Phase,
    /// Of [`Self::total`]; both 0 where nobody knows.
    pub done: u64,
    /// Bytes of weights, or what else is counted.
    pub total: u64,
}

/// A way to run language models on one device of one maker's library.
///
/// What it compiles lies in a directory of its own; which files these are is the backend's affair.
pub trait Backend: Send + Sync {
    /// `openvino-npu`, `openvino-cpu`, `qnn-htp-v73`, `rten`. A name for directories, too.
    fn name(&self) -> String;

    /// Versions of all that takes part in a compilation, driver and compiler included. Another text, another key.
    fn version(&self) -> String;

    /// One line for people: chip, library, its version.
    fn description(&self) -> String;

    /// Sequences that one step may hold at the same time without computing any of them anew.
    fn slots(&self) -> usize;

    /// What its residents can do besides telling what comes next.
    fn abilities(&self) -> Abilities {
        Abilities::ALL
    }

    /// Compiles a model into an empty directory. May take minutes, may crash: callers run it in a
    /// [process of its own](crate::compile).
    ///
    /// # Errors
    /// If the model is not supported, the library refuses it, a file cannot be written, or `progress` breaks.
    fn compile(
        &self,
        file: &ModelFile,
        options: &CompileOptions,
        directory: &Path,
        progress: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<(), Error>;

    /// Opens what [`Self::compile`] has written, for sequences of at most `options.n_ctx` tokens.
    ///
    /// # Errors
    /// If files are lacking or damaged, or the library refuses them.
    fn open(
        &self,
        file: &ModelFile,
        options: &CompileOptions,
        directory: &Path,
    ) -> Result<Box<dyn Resident>, Error>;
}
