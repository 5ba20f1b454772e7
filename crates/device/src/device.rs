//! The contract of a device: load a model, run steps of it.

use std::ops::ControlFlow;

use troika_base::{Bytes, ModelSpec};
use troika_gguf::ModelFile;

use crate::{Batch, Error, KvShape};

/// How far a load has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of weights that are ready.
    pub done: Bytes,
    /// Bytes of weights in all.
    pub total: Bytes,
}

/// The answer of a progress callback that ends the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// What the caller asks of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Tokens that the KV cache holds, over all sequences.
    pub n_ctx: usize,
}

/// A processor that can hold a model and run steps of it.
pub trait Device: Send + Sync {
    /// The device's short name: `cpu0`.
    fn name(&self) -> &str;

    /// One line for people: processor, kernel set, threads.
    fn description(&self) -> String;

    /// Makes a model ready to run. May take long; `progress` is told how far it is and may end it.
    ///
    /// # Errors
    /// If the file is damaged, the model is not supported, memory is short, or `progress` breaks.
    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error>;
}

/// A model that is ready on a device, with its KV cache.
pub trait Resident: Send {
    /// The model's shape.
    fn spec(&self) -> &ModelSpec;

    /// Pages in the KV cache.
    fn n_page(&self) -> usize;

    /// Memory that the weights take.
    fn weights_bytes(&self) -> Bytes;

    /// The shape of the KV cache.
    fn kv_shape(&self) -> KvShape;

    /// Runs the batch: writes its keys and values to the cache and returns what it asks for.
    ///
    /// # Errors
    /// If the batch is empty, has a token outside the vocabulary, or a sequence without its pages. Nothing was
    /// computed then.
    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error>;

    /// Copies a page of the KV cache.
    ///
    /// # Panics
    /// If a page is outside the cache.
    fn copy_page(&mut self, from: usize, to: usize);
}

/// What a step returns, in the order of the batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// Of the sequences that ask for logits.
    pub logits: Logits,
    /// Of the sequences that ask for hidden states.
    pub hidden: Hidden,
}

/// Scores of every token of the vocabulary, for some rows of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    /// Row length.
    pub n_vocab: usize,
    /// `[rows, n_vocab]`
    pub values: Vec<f32>,
}

impl Logits {
    /// Row by row.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.n_vocab.max(1))
    }

    /// The last row.
    pub fn last(&self) -> Option<&[f32]> {
        self.rows().last()
    }
}

/// What the network makes of a text up to some token, for some rows of a batch: the residual stream behind the last
/// layer and the output norm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hidden {
    /// Row length.
    pub n_embd: usize,
    /// `[rows, n_embd]`
    pub values: Vec<f32>,
}

impl Hidden {
    /// Row by row.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.n_embd.max(1))
    }
}
