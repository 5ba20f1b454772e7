//! A model that is ready: tokenizer, chat template, weights on a device, and the KV cache with its owners.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use troika_base::{Bytes, ModelSpec, TokenId};
use troika_device::{
    Batch, Cancelled, Device, ExpertsInFile, Interrupt, KvShape, LoadOptions, LoadProgress, Output,
    Outputs, PAGE_TOKENS, Resident, f16,
};
use troika_gguf::ModelFile;

use crate::chat::{ChatTemplate, TemplateError};
use crate::constraint::{ConstraintError, ConstraintFactory};
use crate::kv_cache::{self, KvCache, Sequence};
use crate::kv_file::Origin;
use crate::tokenizer::Tokenizer;
use crate::{Error, Fingerprint, Opened, Pooling};

/// A model that is ready to run.
pub struct Model {
    opened: Arc<Opened>,
    fingerprint: Fingerprint,
    resident: Box<dyn Resident>,
    cache: KvCache,
}

/// What one sequence contributes to a step.
#[derive(Debug)]
pub struct Step<'s> {
    /// The sequence that goes on.
    pub sequence: &'s mut Sequence,
    /// Its next tokens, at least one.
    pub tokens: &'s [TokenId],
    /// What the caller wants to know of them.
    pub output: Output,
}

impl Model {
    /// Loads a file's model on a device. `progress` is told how far it is, and may end it.
    ///
    /// # Errors
    /// If the file is damaged or not supported, memory is short, or the device does not keep keys and values as is asked.
    pub fn load(
        file: &ModelFile,
        device: &dyn Device,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Self, Error> {
        // The vocabulary is checked first: it is read in no time, and weights are not.
        Self::load_opened(
            &Arc::new(Opened::new(file)?),
            file,
            device,
            options,
            progress,
        )
    }

    /// Loads a model whose file was opened before, perhaps for another device. What is known without weights is shared.
    ///
    /// # Errors
    /// As [`Self::load`], and [`Error::OtherFile`] if the file holds another model now than another device has of it.
    pub fn load_opened(
        opened: &Arc<Opened>,
        file: &ModelFile,
        device: &dyn Device,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Self, Error> {
        let fingerprint = opened.identify(file)?;
        let LoadOptions { kv_type, .. } = options;
        if !device.keeps(kv_type) {
            return Err(Error::Device(troika_device::Error::Unsupported {
                model: file.name().to_owned(),
                device: device.name().to_owned(),
                reason: format!("it keeps keys and values in f16, not in {kv_type}"),
            }));
        }
        let resident = device.load(file, options, progress)?;
        Ok(Self {
            opened: Arc::clone(opened),
            fingerprint,
            cache: KvCache::new(resident.n_page()),
            resident,
        })
    }

    /// What is known of the model without its weights.
    pub fn opened(&self) -> &Arc<Opened> {
        &self.opened
    }

    /// Which model it is.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The model's own name, or its file's.
    pub fn name(&self) -> &str {
        self.opened.name()
    }

    /// The model's shape.
    pub fn spec(&self) -> &ModelSpec {
        self.resident.spec()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.opened.tokenizer()
    }

    /// What compiles grammars for the model's vocabulary. Made when it is first asked for, which takes part of a second.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] if the vocabulary is too large for it.
    pub fn constraints(&self) -> Result<&Arc<ConstraintFactory>, ConstraintError> {
        self.opened.constraints()
    }

    /// The model's chat template: `None` if the file has none, an error if it is broken.
    pub fn chat_template(&self) -> Option<Result<&ChatTemplate, &TemplateError>> {
        self.opened.chat_template()
    }

    /// How the model's hidden states become an embedding.
    pub fn pooling(&self) -> Pooling {
        self.opened.pooling()
    }

    /// Memory that the weights take.
    pub fn weights_bytes(&self) -> Bytes {
        self.resident.weights_bytes()
    }

    /// What stays in the file, if experts do.
    pub fn experts_in_file(&self) -> Option<ExpertsInFile> {
        self.resident.experts_in_file()
    }

    /// Memory that the KV cache takes when it is full.
    pub fn kv_bytes(&self) -> Bytes {
        kv_bytes(self.resident.kv_shape(), self.n_ctx())
    }

    /// Bytes of a file of keys and values beyond which it holds more than this model's cache could: twice as they travel,
    /// since what stands around them is less in any model.
    pub fn kv_file_bytes_max(&self) -> Bytes {
        let values = self.resident.kv_shape().token_values() as u64 * self.n_ctx() as u64;
        Bytes(values.saturating_mul(2 * size_of::<troika_device::f16>() as u64))
    }

    /// What breaks off a step from another thread; `None` if the device cannot be broken off.
    pub fn interrupt(&self) -> Option<Interrupt> {
        self.resident.interrupt()
    }

    /// Tokens that the KV cache holds, over all sequences.
    pub fn n_ctx(&self) -> usize {
        self.resident.n_page() * PAGE_TOKENS
    }

    /// Tokens that still fit into the KV cache in pages that nobody owns.
    pub fn n_free(&self) -> usize {
        self.cache.n_free() * PAGE_TOKENS
    }

    /// Pages of the KV cache that nobody owns.
    pub fn n_page_free(&self) -> usize {
        self.cache.n_free()
    }

    /// How many free pages a step takes that adds so many tokens to these sequences: new ones, and copies of those that
    /// are shared and would be written to. Exact, so that what is lacking can be [evicted](crate::PrefixCache::evict)
    /// first.
    pub fn pages_wanted<'s>(
        &self,
        steps: impl IntoIterator<Item = (&'s Sequence, usize)>,
    ) -> usize {
        kv_cache::pages_wanted(steps)
    }

    pub(crate) fn kv_cache(&self) -> &KvCache {
        &self.cache
    }

    /// Whether it pays to [guess tokens](crate::PromptLookup) on its device.
    pub fn drafts(&self) -> bool {
        self.resident.abilities().drafts
    }

    /// Whether [`Self::step_ahead`] gains anything: whether the device begins with the step after it.
    pub fn runs_ahead(&mut self) -> bool {
        self.resident.runs_ahead()
    }

    /// One forward pass. Every sequence is longer by its tokens afterwards. Returns what the steps ask for, in their
    /// order.
    ///
    /// # Errors
    /// If the cache is full or a step has no tokens or unknown ones. No sequence has changed then.
    pub fn step(&mut self, steps: &mut [Step<'_>]) -> Result<Outputs, Error> {
        self.take(steps, false)
    }

    /// [`Self::step`], after which each of these sequences goes on with its likeliest token, and no other one does: as far
    /// as the caller can tell. A device that can begins with that already; what comes back is the same. No pages are taken
    /// for it, so it waits to be asked where a page ends.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn step_ahead(&mut self, steps: &mut [Step<'_>]) -> Result<Outputs, Error> {
        self.take(steps, true)
    }

    fn take(&mut self, steps: &mut [Step<'_>], ahead: bool) -> Result<Outputs, Error> {
        let result = self.run(steps, ahead);
        for step in steps {
            match &result {
                Ok(_) => step.sequence.written(step.tokens),
                // Lets go of pages that were reserved.
                Err(_) => step.sequence.truncate(step.sequence.tokens().len()),
            }
        }
        result
    }

    fn run(&mut self, steps: &mut [Step<'_>], ahead: bool) -> Result<Outputs, Error> {
        let wishes = steps
            .iter_mut()
            .map(|step| (&mut *step.sequence, step.tokens.len()));
        for copy in self.cache.reserve_all(wishes)? {
            self.resident.copy_page(copy.from, copy.to);
        }
        let pages: Vec<Vec<usize>> = steps.iter().map(|step| step.sequence.pages()).collect();
        let sequences: Vec<troika_device::Sequence<'_>> = steps
            .iter()
            .zip(&pages)
            .map(|(step, pages)| troika_device::Sequence {
                tokens: step.tokens,
                position: step.sequence.tokens().len(),
                pages,
                output: step.output,
            })
            .collect();
        let batch = Batch {
            sequences: &sequences,
        };
        Ok(match ahead {
            true => self.resident.step_ahead(&batch)?,
            false => self.resident.step(&batch)?,
        })
    }
}

/// What moving sequences is made of.
impl Model {
    /// Which model's keys and values these are.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            fingerprint: self.fingerprint,
            shape: self.resident.kv_shape(),
            n_vocab: self.spec().n_vocab,
        }
    }

    pub(crate) fn read_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        Ok(self.resident.read_kv(pages, tokens, out)?)
    }

    /// Adds tokens to a sequence whose keys and values are known already.
    ///
    /// # Errors
    /// If the cache is full, or the device fails. The sequence is as before then.
    pub(crate) fn append(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[TokenId],
        values: &[f16],
    ) -> Result<(), Error> {
        let held = sequence.tokens().len();
        for copy in self.cache.reserve_all([(&mut *sequence, tokens.len())])? {
            self.resident.copy_page(copy.from, copy.to);
        }
        let range = held..held + tokens.len();
        match self.resident.write_kv(&sequence.pages(), range, values) {
            Ok(()) => sequence.written(tokens),
            // Lets go of pages that were reserved.
            Err(error) => {
                sequence.truncate(held);
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// Memory that keys and values of `n_ctx` tokens take.
pub(crate) fn kv_bytes(shape: KvShape, n_ctx: usize) -> Bytes {
    Bytes(shape.page_bytes() as u64 * n_ctx.div_ceil(PAGE_TOKENS) as u64)
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({}, {})", self.name(), self.weights_bytes())
    }
}
