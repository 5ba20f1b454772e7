//! Texts to vectors by an encoder (BERT) in a folder or an ONNX file, on an NPU if there is one.
//!
//! For the always-on `embed`; models in GGUF files are the engine's.

mod error;
mod folder;

use std::path::Path;

use tempfile::TempDir;
use troika_device_npu::exec::{Executor, Tensor, Wish};
use troika_device_npu::lower::bert::Pooling;
use troika_engine::tokenizer::{EncodeOptions, Tokenizer};

pub use error::Error;

use folder::Folder;

/// A text's vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Tokens of the text, with those that the model wants around it.
    pub tokens: usize,
    /// Of length 1.
    pub vector: Vec<f32>,
}

/// An encoder that is ready.
pub struct Model {
    executor: Box<dyn Executor>,
    tokenizer: Tokenizer,
    pooling: Pooling,
    tokens_max: usize,
    /// The length of all texts, if the network takes one only.
    fixed: Option<usize>,
    output: usize,
    lost: Vec<(String, String)>,
    /// Dropped after what reads from them.
    _files: Option<TempDir>,
}

impl Model {
    /// Opens a folder (`config.json`, `vocab.txt`, and `model.safetensors` or `model.onnx`), or an ONNX file in one.
    ///
    /// # Errors
    /// If files are lacking or damaged, or nothing runs the network as wished.
    pub fn open(path: &Path, wish: &Wish) -> Result<Self, Error> {
        let folder = Folder::open(path)?;
        let network = folder.network(wish)?;
        let executor = network.executor;
        const KNOWN: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
        let inputs = executor.inputs();
        if let Some(other) = inputs.iter().find(|port| !KNOWN.contains(&&*port.name)) {
            return Err(Error::NoModel {
                path: path.to_owned(),
                reason: format!("has an input `{}`, which is none of texts", other.name),
            });
        }
        let ids = inputs.iter().find(|port| port.name == "input_ids");
        let length = ids.and_then(|port| port.shape.get(1).copied());
        let Some(fixed) = length else {
            return Err(Error::NoModel {
                path: path.to_owned(),
                reason: "has no input `input_ids` of texts and tokens".to_owned(),
            });
        };
        // The network's own pooling, if it has one.
        let pooled = ["embedding", "sentence_embedding"];
        let outputs = executor.outputs();
        let output = outputs
            .iter()
            .position(|port| pooled.contains(&&*port.name));
        Ok(Self {
            output: output.unwrap_or(0),
            tokens_max: folder.tokens_max.min(fixed.unwrap_or(usize::MAX)),
            fixed,
            tokenizer: folder.tokenizer,
            pooling: folder.pooling,
            executor,
            lost: network.lost,
            _files: network.files,
        })
    }

    /// Which device runs it: `npu0`, `cpu0`.
    pub fn device(&self) -> &str {
        self.executor.device()
    }

    /// By what: `rten 0.27`.
    pub fn library(&self) -> &str {
        self.executor.library()
    }

    /// What would have been better, and why it was not to be had.
    pub fn lost(&self) -> &[(String, String)] {
        &self.lost
    }

    /// What runs it.
    pub fn executor(&self) -> &dyn Executor {
        &*self.executor
    }

    /// Tokens of a text, at most.
    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// A text's vector. Texts go one by one: a short one need not wait for a long one.
    ///
    /// # Errors
    /// If the text is too long, or the network does not run.
    pub fn embed(&mut self, text: &str) -> Result<Embedding, Error> {
        let options = EncodeOptions {
            add_special: true,
            parse_special: false,
        };
        let tokens = self.tokenizer.encode(text, options);
        if tokens.len() > self.tokens_max {
            return Err(Error::TooLong {
                tokens: tokens.len(),
                max: self.tokens_max,
            });
        }
        let n = self.fixed.unwrap_or(tokens.len());
        let filled = |values: Vec<i64>| {
            let mut values = values;
            values.resize(n, 0);
            Tensor::i64([1, n], values)
        };
        let ids: Vec<i64> = tokens.iter().map(|token| i64::from(token.0)).collect();
        let ports = self.executor.inputs().iter();
        let names: Vec<String> = ports.map(|port| port.name.clone()).collect();
        let inputs = names.iter().map(|name| {
            let values = match &**name {
                "input_ids" => ids.clone(),
                "attention_mask" => vec![1; ids.len()],
                _ => Vec::new(),
            };
            (&**name, filled(values))
        });
        let mut outputs = self.executor.run(inputs.collect())?;
        let vector = self.vector(outputs.swap_remove(self.output), tokens.len())?;
        Ok(Embedding {
            tokens: tokens.len(),
            vector: unit(vector),
        })
    }

    /// One vector of an output: the network's own, or its tokens' pooled.
    fn vector(&self, output: Tensor, n_tok: usize) -> Result<Vec<f32>, Error> {
        let refused = |reason: String| {
            Err(Error::Output {
                output: self.executor.outputs()[self.output].name.clone(),
                reason,
            })
        };
        let shape = output.shape.clone();
        let values = output.into_f32()?;
        let vector = match shape[..] {
            [1, _] => values,
            [1, n, n_embd] if n >= n_tok && n_embd > 0 => {
                pooled(&values[..n_tok * n_embd], n_embd, self.pooling)
            }
            _ => return refused(format!("is of shape {shape:?}, not of texts and tokens")),
        };
        match vector.iter().all(|value| value.is_finite()) {
            true => Ok(vector),
            false => refused("has values that are no numbers".to_owned()),
        }
    }
}

/// The vectors of a text's tokens, `[n_tok, n_embd]`, made one.
fn pooled(rows: &[f32], n_embd: usize, pooling: Pooling) -> Vec<f32> {
    match pooling {
        Pooling::First => rows[..n_embd].to_vec(),
        Pooling::Mean => {
            let mut mean = vec![0f64; n_embd];
            let n_row = (rows.len() / n_embd) as f64;
            for row in rows.chunks_exact(n_embd) {
                for (sum, value) in mean.iter_mut().zip(row) {
                    *sum += f64::from(*value) / n_row;
                }
            }
            mean.into_iter().map(|value| value as f32).collect()
        }
    }
}

/// Of length 1.
fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    let length = square.sqrt().max(f64::MIN_POSITIVE);
    for value in &mut vector {
        *value = (f64::from(*value) / length) as f32;
    }
    vector
}
