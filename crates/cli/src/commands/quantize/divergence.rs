//! What a text shows of a quantized model: how far its predictions are from the source's, with all of its tensors and with each
//! alone.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use troika_device::{Cancelled, Device as _, LoadOptions, Resident};
use troika_engine::tokenizer::Tokenizer;
use troika_engine::{CpuDevice, Divergence, Predictions, Text};
use troika_gguf::ModelFile;
use troika_quantize::Plan;

use crate::commands::perplexity::read;
use crate::exit::Interrupted;
use crate::interrupt::Interrupt;
use crate::output::Console;
use crate::progress::{Progress, Unit};

/// Tokens that are read at most: so many give two digits.
const TOKENS: usize = 2048;

/// Tokens that are read at most for each tensor, whose logits are kept: 128 MiB of a vocabulary of 128 000.
const TOKENS_EACH: usize = 256;

/// What was found.
pub(super) struct Found {
    /// With all tensors.
    pub(super) all: Divergence,
    /// The mean KL divergence with one tensor rounded and all others as in the source, in nats a token; empty if it was not
    /// asked for.
    pub(super) of_tensor: BTreeMap<String, f64>,
}

/// The source, what was written, and the text that both read.
pub(super) struct Comparison<'c> {
    source: &'c ModelFile,
    quantized: ModelFile,
    text: Text,
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
            device,
            console,
            interrupt,
        })
    }

    /// Compares the models; with a plan, also one tensor of it at a time.
    pub(super) fn run(&self, each: Option<&Plan>) -> anyhow::Result<Found> {
        let mut source = self.load(self.source)?;
        let all = self.whole(source.as_mut())?;
        let of_tensor = match each {
            Some(plan) => self.each(source, plan)?,
            None => BTreeMap::new(),
        };
        Ok(Found { all, of_tensor })
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
    fn whole(&self, source: &mut dyn Resident) -> anyhow::Result<Divergence> {
        let mut quantized = self.load(&self.quantized)?;
        let mut bar = Progress::new(self.console, "comparing", Unit::Tokens);
        let mut tell = |done, of| {
            bar.update(done as u64, of as u64);
            self.interrupt.flow(())
        };
        let found = troika_engine::divergence(source, quantized.as_mut(), &self.text, &mut tell);
        bar.clear();
        self.check()?;
        found.context("cannot compare the models")
    }

    /// Reads the beginning of the text once for each tensor that was rounded.
    fn each(
        &self,
        mut source: Box<dyn Resident>,
        plan: &Plan,
    ) -> anyhow::Result<BTreeMap<String, f64>> {
        const FAILED: &str = "cannot compare the models";
        let text = self.text.clone().first(TOKENS_EACH);
        let predictions = Predictions::of(source.as_mut(), text).context(FAILED)?;
        // Room for the others.
        drop(source);
        let rounded = plan
            .tensors
            .iter()
            .filter(|tensor| tensor.from != tensor.to);
        let rounded: Vec<&str> = rounded.map(|tensor| &*tensor.name).collect();
        let mut bar = Progress::new(self.console, "comparing", Unit::Tensors);
        let mut found = BTreeMap::new();
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
