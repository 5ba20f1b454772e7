//! What a text shows of a quantized model: how far its predictions are from the source's, with all of its tensors and with each
//! alone.

use std::path::Path;

use anyhow::Context as _;
use troika_device::{Cancelled, Device as _, LoadOptions, Resident};
use troika_engine::tokenizer::Tokenizer;
use troika_engine::{CpuDevice, Divergence, Predictions, Text};
use troika_gguf::ModelFile;
use troika_quantize::{Harms, Plan};

use crate::commands::perplexity::read;
use crate::exit::Interrupted;
use crate::interrupt::Interrupt;
use crate::output::Console;
use crate::progress::{Progress, Unit};

/// Tokens that are read at most: so many give two digits.
const TOKENS: usize = 2048;

/// Logits that are kept at most for comparing each tensor's: 128 MiB, or 262 tokens of a vocabulary of 128 000.
const LOGITS_EACH: usize = 32 << 20;

/// What was found.
pub(super) struct Found {
    /// With all tensors.
    pub(super) all: Divergence,
    /// The mean KL divergence with one tensor rounded and all others as in the source, in nats a token; empty if it was not
    /// asked for.
    pub(super) of_tensor: Harms,
}

/// The source, what was written, and the text that both read.
pub(super) struct Comparison<'c> {
    source: &'c ModelFile,
    quantized: ModelFile,
    text: Text,
    /// Tokens of it that are read for each tensor.
    n_tok_each: usize,
    device: &'c CpuDevice,
    console: &'c Console,
    interrupt: &'c Interrupt,
}

impl<'c> Comparison<'c> {
    /// Opens what was written, and reads the text.
    pub(super) fn new(
        source: &'c ModelFile,
        quantized: &Path,
        text: &Path,
        device: &'c CpuDevice,
        (console, interrupt): (&'c Console, &'c Interrupt),
    ) -> anyhow::Result<Self> {
        let spec = troika_engine::model_spec(source).context("cannot load the model")?;
        let tokenizer =
            Tokenizer::from_metadata(source.metadata()).context("cannot load the model")?;
        let text = Text::new(&tokenizer, &read(text)?).first(TOKENS.min(spec.n_ctx));
        Ok(Self {
            source,
            quantized: ModelFile::open(quantized).context("cannot open what was written")?,
            text,
            n_tok_each: (LOGITS_EACH / tokenizer.n_vocab().max(1)).max(1),
            device,
            console,
            interrupt,
        })
    }

    /// Compares the models; with a plan, also one tensor of it at a time.
    pub(super) fn run(&self, each: Option<&Plan>) -> anyhow::Result<Found> {
        Ok(Found {
            all: self.whole()?,
            of_tensor: match each {
                Some(plan) => self.each(plan)?,
                None => Harms::new(),
            },
        })
    }

    fn load(&self, file: &ModelFile) -> anyhow::Result<Box<dyn Resident>> {
        let options = LoadOptions::new(self.text.len());
        let tell = &mut |_| self.interrupt.flow(Cancelled);
        let loaded = self.device.load(file, options, tell);
        self.check()?;
        loaded.context("cannot load the models")
    }

    fn check(&self) -> Result<(), Interrupted> {
        match self.interrupt.is_set() {
            true => Err(Interrupted),
            false => Ok(()),
        }
    }

    /// Reads the text with both models, side by side.
    fn whole(&self) -> anyhow::Result<Divergence> {
        let mut source = self.load(self.source)?;
        let mut quantized = self.load(&self.quantized)?;
        let mut bar = Progress::new(self.console, "comparing", Unit::Tokens);
        let mut tell = |done, of| {
            bar.update(done as u64, of as u64);
            self.interrupt.flow(())
        };
        let found =
            troika_engine::divergence(source.as_mut(), quantized.as_mut(), &self.text, &mut tell);
        bar.clear();
        self.check()?;
        found.context("cannot compare the models")
    }

    /// Reads the beginning of the text once for each tensor that was rounded, with all others as in the source.
    pub(super) fn each(&self, plan: &Plan) -> anyhow::Result<Harms> {
        const FAILED: &str = "cannot compare the models";
        let mut source = self.load(self.source)?;
        let text = self.text.clone().first(self.n_tok_each);
        let predictions = Predictions::of(source.as_mut(), text).context(FAILED)?;
        // Room for the others.
        drop(source);
        let rounded = plan
            .tensors
            .iter()
            .filter(|tensor| tensor.from != tensor.to);
        let rounded: Vec<&str> = rounded.map(|tensor| &*tensor.name).collect();
        let mut bar = Progress::new(self.console, "comparing", Unit::Tensors);
        let mut found = Harms::new();
        for (done, name) in rounded.iter().enumerate() {
            bar.update(done as u64, rounded.len() as u64);
            bar.remark(name);
            let mixed = self.source.with_tensor_of(&self.quantized, name);
            let mixed = mixed.context("what was written is another model")?;
            let mut mixed = self.load(&mixed)?;
            let divergence = predictions.divergence_of(mixed.as_mut()).context(FAILED)?;
            found.insert((*name).to_owned(), divergence.kl_mean);
        }
        Ok(found)
    }
}
