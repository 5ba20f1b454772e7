//! Architectures: one file each, written once over [`Ops`] for every device.
//!
//! A forward pass is a function that reads like the paper. There is no `if` on a device here, and none on an
//! architecture anywhere else.

mod bert;
mod decoder;
mod gemma;
mod gpt_oss;
mod granite;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

mod blocks;
mod loader;

use troika_base::{Bytes, ModelSpec};
use troika_device::hyperparameters::Keys;
use troika_device::{Batch, Error, Interrupt, Ops, Outputs};
use troika_gguf::ModelFile;

use loader::Loader;
pub(crate) use loader::Progress;

/// A loaded model's forward pass.
pub(crate) trait Forward<O: Ops>: Send {
    /// Runs the batch: writes keys and values to `kv`, returns what the batch asks for.
    ///
    /// # Errors
    /// If it was interrupted, which is asked once a layer, or the device failed.
    fn forward(
        &self,
        ops: &mut O,
        kv: &mut O::Kv,
        batch: &Batch<'_>,
        interrupt: &Interrupt,
    ) -> Result<Outputs, Error>;
}

/// Weights on a device, and the memory that they take.
pub(crate) struct Loaded<O: Ops> {
    pub(crate) spec: ModelSpec,
    pub(crate) forward: Box<dyn Forward<O>>,
    pub(crate) bytes: Bytes,
}

/// The architectures that run, as GGUF names them.
pub fn architectures() -> &'static [&'static str] {
    &[
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "qwen3moe",
        "smollm3",
        "granite",
        "granitemoe",
        "gemma2",
        "gemma3",
        "phi3",
        "gpt-oss",
        "bert",
        "nomic-bert",
    ]
}

/// A model's shape.
///
/// # Errors
/// If the architecture is not one of [`architectures`], or a hyperparameter is missing or makes no sense.
pub fn model_spec(file: &ModelFile) -> Result<ModelSpec, Error> {
    let keys = Keys::new(file)?;
    if !architectures().contains(&keys.architecture()) {
        return Err(Error::UnsupportedArchitecture {
            model: file.name().to_owned(),
            architecture: keys.architecture().to_owned(),
            known: architectures().join(", "),
        });
    }
    let spec = keys.spec()?;
    let is_encoder = matches!(keys.architecture(), "bert" | "nomic-bert");
    let expected = match is_encoder {
        true => "expected false: this architecture is an encoder",
        false => "expected true: this architecture is computed as a decoder",
    };
    let key = keys.key("attention.causal");
    keys.expect(spec.is_causal != is_encoder, &key, spec.is_causal, expected)?;
    refuse_roberta(&keys, file)?;
    Ok(spec)
}

/// RoBERTa and its kin are `bert` in GGUF too, and tell themselves apart by their tokens alone.
fn refuse_roberta(keys: &Keys<'_>, file: &ModelFile) -> Result<(), Error> {
    let key = "tokenizer.ggml.model";
    match file.metadata().opt_str(key)? {
        Some(tokens) if keys.architecture() == "bert" => {
            let expected = "expected bert, whose tokens are WordPiece's; RoBERTa is not computed";
            keys.expect(tokens == "bert", key, tokens, expected)
        }
        _ => Ok(()),
    }
}

/// Brings a file's model to the device behind `ops`. Its cache will hold `n_ctx` tokens.
pub(crate) fn load<O: Ops + 'static>(
    ops: &O,
    file: &ModelFile,
    n_ctx: usize,
    progress: &mut Progress<'_>,
) -> Result<Loaded<O>, Error> {
    let spec = model_spec(file)?;
    let keys = Keys::new(file)?;
    let loader = Loader::new(ops, file, &spec, n_ctx, progress);
    let forward: Box<dyn Forward<O>> = match keys.architecture() {
        "qwen2" => Box::new(qwen2::load(&keys, &loader)?),
        "qwen3" | "qwen3moe" => Box::new(qwen3::load(&keys, &loader)?),
        "smollm3" => Box::new(smollm3::load(&keys, &loader)?),
        "granite" | "granitemoe" => Box::new(granite::load(&keys, &loader)?),
        "gemma2" => Box::new(gemma::load_gemma2(&keys, &loader)?),
        "gemma3" => Box::new(gemma::load_gemma3(&keys, &loader)?),
        "phi3" => Box::new(phi3::load(&keys, &loader)?),
        "gpt-oss" => Box::new(gpt_oss::load(&keys, &loader)?),
        "bert" => Box::new(bert::load_bert(&loader)?),
        "nomic-bert" => Box::new(bert::load_nomic_bert(&keys, &loader)?),
        _ => Box::new(llama::load(&keys, &loader)?),
    };
    let bytes = loader.finish()?;
    Ok(Loaded {
        spec,
        forward,
        bytes,
    })
}

/// The rows of a batch that something is wanted of. Past the last layer's attention no other row is needed.
struct OutputRows {
    rows: Vec<usize>,
    /// Which of `rows` logits are wanted for.
    logits: Vec<usize>,
    /// Which of `rows` hidden states are wanted for: all others.
    hidden: Vec<usize>,
    n_tok: usize,
    last_layer: usize,
}

impl OutputRows {
    fn new(batch: &Batch<'_>, n_layer: usize) -> Self {
        let (logits, hidden) = (batch.logit_rows(), batch.hidden_rows());
        let mut rows = [&logits[..], &hidden].concat();
        rows.sort_unstable();
        let place = |row: &usize| rows.binary_search(row).expect("is one of them");
        Self {
            logits: logits.iter().map(place).collect(),
            hidden: hidden.iter().map(place).collect(),
            rows,
            n_tok: batch.n_tok(),
            last_layer: n_layer - 1,
        }
    }

    /// In the last layer, reduces `x` and `attended` to the output rows; `None` if there are none.
    fn keep<O: Ops>(
        &self,
        ops: &mut O,
        layer: usize,
        x: &mut O::Tensor,
        attended: O::Tensor,
    ) -> Option<O::Tensor> {
        if layer < self.last_layer || self.rows.len() == self.n_tok {
            return Some(attended);
        }
        if self.rows.is_empty() {
            return None;
        }
        *x = ops.rows(x, &self.rows);
        Some(ops.rows(&attended, &self.rows))
    }
}
