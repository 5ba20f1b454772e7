//! The contract of a device: load a model, run steps of it.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use half::f16;

use troika_base::{Bytes, KvType, ModelSpec};
use troika_gguf::ModelFile;

use crate::{Batch, Error, KvShape};

/// How far a load has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of weights that are ready.
    pub done: Bytes,
    /// Bytes of weights in all.
    pub total: Bytes,
}

/// What a device needs before it can load a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// Nothing, or nothing more.
    Ready,
    /// [`Device::prepare`] has to run first.
    Needed,
    /// The model does not run there, for the reason given.
    Impossible(String),
}

/// The answer of a progress callback that ends the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// What the caller asks of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Tokens that the KV cache holds, over all sequences.
    pub n_ctx: usize,
    /// How it keeps them.
    pub kv_type: KvType,
}

impl LoadOptions {
    /// A cache in f16 for `n_ctx` tokens.
    pub fn new(n_ctx: usize) -> Self {
        Self {
            n_ctx,
            kv_type: KvType::F16,
        }
    }

    /// With keys and values kept otherwise.
    #[must_use]
    pub fn with_kv_type(self, kv_type: KvType) -> Self {
        Self { kv_type, ..self }
    }
}

/// Breaks off a resident's step from another thread. Clones are of the same resident.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Ends the step that runs as soon as may be, or the next one if none runs, with [`Error::Interrupted`].
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes it back, should it not have been heard yet.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// For a device to ask where it can break off. Who has heard it need not hear it again.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if it was raised.
    pub fn check(&self) -> Result<(), Error> {
        match self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}

/// A processor that can hold a model and run steps of it.
pub trait Device: Send + Sync {
    /// The device's short name: `cpu0`.
    fn name(&self) -> &str;

    /// One line for people: processor, kernel set, threads.
    fn description(&self) -> String;

    /// Whether KV caches are kept so. All devices keep f16.
    fn keeps(&self, kv_type: KvType) -> bool {
        kv_type == KvType::F16
    }

    /// Whether this device must compile a model before it can load it.
    ///
    /// # Errors
    /// If the file cannot be read.
    fn preparation(&self, _file: &ModelFile) -> Result<Preparation, Error> {
        Ok(Preparation::Ready)
    }

    /// Compiles a model and keeps what comes of it, so that a load is short. May take minutes, in which the model runs
    /// elsewhere; `progress` is told how far it is and may end it.
    ///
    /// # Errors
    /// If the model is not supported here, the compiler fails, or `progress` breaks.
    fn prepare(
        &self,
        _file: &ModelFile,
        _progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<(), Error> {
        Ok(())
    }

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

/// Experts that are read from the model's file when tokens go to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertsInFile {
    /// All of them.
    pub all: Bytes,
    /// What of them is in memory at most: those that were used last.
    pub kept: Bytes,
}

/// What a resident can do beside giving logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Its keys and values can be read and written. Where they cannot, [`Error::Cache`] says so, and a sequence goes on
    /// elsewhere by being read anew from its tokens.
    pub kv: bool,
    /// It gives hidden states. Where it does not, a batch that asks for them is refused with [`Error::Batch`].
    pub hidden: bool,
    /// Logits of a handful of tokens of a sequence take it hardly longer than of one, so that it pays to guess some. Where
    /// they do, it gives them all the same.
    pub drafts: bool,
}

impl Abilities {
    /// All of them.
    pub const ALL: Self = Self {
        kv: true,
        hidden: true,
        drafts: true,
    };
}

/// A model that is ready on a device, with its KV cache.
pub trait Resident: Send {
    /// The model's shape.
    fn spec(&self) -> &ModelSpec;

    /// Pages in the KV cache.
    fn n_page(&self) -> usize;

    /// Memory that the weights take.
    fn weights_bytes(&self) -> Bytes;

    /// What stays in the file, if experts do.
    fn experts_in_file(&self) -> Option<ExpertsInFile> {
        None
    }

    /// The shape of the KV cache.
    fn kv_shape(&self) -> KvShape;

    /// Runs the batch: writes its keys and values to the cache and returns what it asks for.
    ///
    /// # Errors
    /// If the batch is empty, has a token outside the vocabulary, or a sequence without its pages. Nothing was
    /// computed then. Or if the step was [interrupted](Self::interrupt): what the cache holds before the batch's tokens
    /// is as it was.
    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error>;

    /// [`Self::step`], of a batch that goes on, as far as the caller can tell: after it, each of its sequences with the
    /// likeliest token, and nothing else. A device that can begins with that before it is asked to, so that it need not wait
    /// for the caller. What comes back is the same, and the next step may be any other.
    ///
    /// It is begun only if every sequence asks for its last logits and has a page for one token more, which may be written
    /// to from now on until another step is taken.
    ///
    /// # Errors
    /// As [`Self::step`].
    fn step_ahead(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.step(batch)
    }

    /// Whether it begins with the step after one that goes on.
    fn runs_ahead(&mut self) -> bool {
        false
    }

    /// Copies a page of the KV cache.
    ///
    /// # Panics
    /// If a page is outside the cache.
    fn copy_page(&mut self, from: usize, to: usize);

    /// Copies keys and values of some tokens of a sequence that has these pages to `out`,
    /// `[tokens][layer][key, value][kv head][head_dim]`: the one layout in which they travel between devices, see
    /// docs/formats/kv.md.
    ///
    /// # Errors
    /// [`Error::Cache`] if pages are lacking or outside the cache, or `out` has another length.
    fn read_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error>;

    /// Takes keys and values of some tokens of a sequence that has these pages from `values`, where
    /// [`Self::read_kv`] of a resident of the same model has put them. Other tokens of the pages stay as they are.
    ///
    /// # Errors
    /// As [`Self::read_kv`]; nothing was written then.
    fn write_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error>;

    /// What it can do that not every resident can.
    fn abilities(&self) -> Abilities {
        Abilities::ALL
    }

    /// What breaks off a step, if this resident can do that.
    fn interrupt(&self) -> Option<Interrupt> {
        None
    }
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
