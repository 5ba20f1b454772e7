//! What a text shows of a quantized model: how far its predictions are from the source's.

use std::path::Path;

use anyhow::Context as _;
use troika_device::{Cancelled, Device as _, LoadOptions};
use troika_engine::tokenizer::Tokenizer;
use troika_engine::{CpuDevice, Divergence, Text};
use troika_gguf::ModelFile;

use crate::commands::perplexity::read;
use crate::exit::Interrupted;
use crate::interrupt::Interrupt;
use crate::output::Console;
use crate::progress::{Progress, Unit};

/// Tokens that are read at most: so many give two digits.
const TOKENS: usize = 2048;

/// Reads a text with both models, side by side.
pub(super) fn measure(
    source: &ModelFile,
    quantized: &Path,
    text: &Path,
    device: &CpuDevice,
    (console, interrupt): (&Console, &Interrupt),
) -> anyhow::Result<Divergence> {
    let spec = troika_engine::model_spec(source).context("cannot load the model")?;
    let tokenizer = Tokenizer::from_metadata(source.metadata()).context("cannot load the model")?;
    let text = Text::new(&tokenizer, &read(text)?).first(TOKENS.min(spec.n_ctx));
    let quantized = ModelFile::open(quantized).context("cannot open what was written")?;
    let load = |file: &ModelFile| {
        let options = LoadOptions::new(text.len());
        device.load(file, options, &mut |_| interrupt.flow(Cancelled))
    };
    let loaded = load(source).and_then(|source| Ok((source, load(&quantized)?)));
    if interrupt.is_set() {
        return Err(Interrupted.into());
    }
    let (mut source, mut quantized) = loaded.context("cannot load the models")?;
    let mut bar = Progress::new(console, "comparing", Unit::Tokens);
    let mut tell = |done, of| {
        bar.update(done as u64, of as u64);
        interrupt.flow(())
    };
    let found = troika_engine::divergence(source.as_mut(), quantized.as_mut(), &text, &mut tell);
    bar.clear();
    match interrupt.is_set() {
        true => Err(Interrupted.into()),
        false => found.context("cannot compare the models"),
    }
}
