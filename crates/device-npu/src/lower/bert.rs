//! Encoders that give a text's vector: BERT in a folder as Hugging Face lays it out, to ONNX.
//!
//! The network comes as `config.json` and `model.safetensors`, and what becomes of its tokens' vectors as
//! `1_Pooling/config.json`. Tokens are the caller's affair. These models are small, and read whole.

use std::path::Path;

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::emit::onnx::bert::{self as spelt, Encoder};
use super::emit::write_file;
use super::weights::{DataFile, Extent};
use super::write::ONNX_DATA;
use crate::Error;

/// How many texts and tokens a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// Any number of texts, of any number of tokens that the model has positions for.
    Any,
    /// One text of so many tokens, those included that only fill up. NPUs want it so.
    Fixed(usize),
}

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one's.
    First,
}

/// What `config.json` says, as far as it decides over the network.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "eps")]
    layer_norm_eps: f32,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn eps() -> f32 {
    1e-12
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// What sentence-transformers' `1_Pooling/config.json` says.
#[derive(Debug, Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

/// An encoder, read from its folder.
pub struct Bert {
    name: String,
    config: Config,
    pooling: Pooling,
    /// Of `model.safetensors`.
    bytes: Vec<u8>,
}

impl Bert {
    /// Reads a folder. Its weights are looked at when they are [written](Self::write_onnx).
    ///
    /// # Errors
    /// If a file is lacking or damaged, or the model is of another kind.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let config: Config = json(&directory.join("config.json"))?;
        let name = directory.display().to_string();
        config.check(&name)?;
        Ok(Self {
            pooling: Pooling::read(directory)?,
            bytes: read(&directory.join("model.safetensors"))?,
            name,
            config,
        })
    }

    /// Numbers in a vector.
    pub fn n_embd(&self) -> usize {
        self.config.hidden_size
    }

    /// Tokens of a text, at most.
    pub fn n_ctx(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// Writes a `{name}.onnx` for each of `graphs` and, beside them, one file with weights for all of them.
    ///
    /// Inputs: `input_ids` and `attention_mask`, i64 `[texts, tokens]`, the mask 1 for tokens that are the text's, which
    /// come first. Output: `embedding`, f32 `[texts, n_embd]`, pooled and of length 1. Weights are in 16 bits, and
    /// computed with in 32.
    ///
    /// # Errors
    /// If a tensor is lacking or of another shape, a weight is no number, or a file cannot be written.
    ///
    /// # Panics
    /// If a fixed length is none, or more than the model has positions for.
    pub fn write_onnx(&self, graphs: &[(&str, Lengths)], directory: &Path) -> Result<(), Error> {
        let mut data = DataFile::create(&directory.join(ONNX_DATA))?;
        let encoder = self.encoder(&mut data)?;
        data.persist()?;
        for &(name, lengths) in graphs {
            if let Lengths::Fixed(n) = lengths {
                assert!(
                    (1..=self.n_ctx()).contains(&n),
                    "the fixed length is {n} tokens"
                );
            }
            let model = spelt::model(&encoder, lengths, ONNX_DATA);
            write_file(&directory.join(format!("{name}.onnx")), &model)?;
        }
        Ok(())
    }

    fn encoder(&self, data: &mut DataFile) -> Result<Encoder, Error> {
        let file = SafeTensors::deserialize(&self.bytes)
            .map_err(|error| self.invalid("model.safetensors", error.to_string()))?;
        let of_bert = file.names().iter().any(|name| name.starts_with("bert."));
        let mut reader = Reader {
            model: self,
            prefix: if of_bert { "bert." } else { "" },
            file,
            data,
        };
        let config = &self.config;
        let (n_embd, n_ctx) = (config.hidden_size, config.max_position_embeddings);
        let words = [config.vocab_size, n_embd];
        Ok(Encoder {
            n_vocab: config.vocab_size,
            n_ctx,
            n_embd,
            n_head: config.num_attention_heads,
            eps: config.layer_norm_eps,
            pooling: self.pooling,
            tokens: reader.halves("embeddings.word_embeddings.weight", words)?,
            positions: reader.positions()?,
            norm: reader.norm("embeddings.LayerNorm")?,
            layers: (0..config.num_hidden_layers)
                .map(|i| reader.layer(i))
                .collect::<Result<_, _>>()?,
        })
    }

    fn invalid(&self, what: &str, reason: String) -> Error {
        Error::Invalid {
            what: format!("{}, {what}", self.name),
            reason,
        }
    }
}

impl Config {
    /// Whether all of it is what is lowered here.
    fn check(&self, name: &str) -> Result<(), Error> {
        let refused = |reason| {
            Err(Error::Unsupported {
                model: name.to_owned(),
                reason,
            })
        };
        for (key, have, want) in [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &self.hidden_act, "gelu"),
            (
                "position_embedding_type",
                &self.position_embedding_type,
                "absolute",
            ),
        ] {
            if have != want {
                return refused(format!(
                    "`{key}` is `{have}`, and `{want}` alone is lowered"
                ));
            }
        }
        let sizes = [
            self.hidden_size,
            self.num_attention_heads,
            self.intermediate_size,
            self.vocab_size,
            self.max_position_embeddings,
        ];
        // Far beyond any real model; so that no product of two is too large for an address.
        let sound = sizes.iter().all(|size| (1..1 << 24).contains(size));
        if !sound || !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return refused(format!("sizes in its config.json make no sense: {self:?}"));
        }
        Ok(())
    }
}

impl Pooling {
    /// How a folder's tokens are pooled; models that do not say it were made for the mean.
    ///
    /// # Errors
    /// If it is another way, or the file that says it is damaged.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("1_Pooling/config.json");
        if !path.exists() {
            return Ok(Self::Mean);
        }
        let config: PoolingConfig = json(&path)?;
        match (
            config.pooling_mode_mean_tokens,
            config.pooling_mode_cls_token,
        ) {
            (true, false) => Ok(Self::Mean),
            (false, true) => Ok(Self::First),
            _ => Err(Error::Unsupported {
                model: directory.display().to_string(),
                reason: "its vectors are neither the mean of its tokens' nor the first one's"
                    .to_owned(),
            }),
        }
    }
}

/// Tensors by name, and where they go.
struct Reader<'r> {
    model: &'r Bert,
    /// Before all names.
    prefix: &'static str,
    file: SafeTensors<'r>,
    data: &'r mut DataFile,
}

impl Reader<'_> {
    fn layer(&mut self, i: usize) -> Result<spelt::Layer, Error> {
        let config = &self.model.config;
        let (n_embd, n_ff) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{i}.{part}");
        let square = [n_embd, n_embd];
        Ok(spelt::Layer {
            query: self.linear(&name("attention.self.query"), square)?,
            key: self.linear(&name("attention.self.key"), square)?,
            value: self.linear(&name("attention.self.value"), square)?,
            output: self.linear(&name("attention.output.dense"), square)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"))?,
            up: self.linear(&name("intermediate.dense"), [n_ff, n_embd])?,
            down: self.linear(&name("output.dense"), [n_embd, n_ff])?,
            output_norm: self.norm(&name("output.LayerNorm"))?,
        })
    }

    fn linear(&mut self, name: &str, shape: [usize; 2]) -> Result<spelt::Linear, Error> {
        Ok(spelt::Linear {
            name: name.to_owned(),
            shape,
            weight: self.halves(&format!("{name}.weight"), shape)?,
            bias: self.floats(&format!("{name}.bias"), &shape[..1])?,
        })
    }

    /// Older files call weight and bias by letters.
    fn norm(&self, name: &str) -> Result<spelt::Norm, Error> {
        let old = format!("{}{name}.gamma", self.prefix);
        let [weight, bias] = match self.file.tensor(&old).is_ok() {
            true => ["gamma", "beta"],
            false => ["weight", "bias"],
        };
        let n = [self.model.config.hidden_size];
        Ok(spelt::Norm {
            weight: self.floats(&format!("{name}.{weight}"), &n)?,
            bias: self.floats(&format!("{name}.{bias}"), &n)?,
        })
    }

    /// Positions' vectors. All tokens are of a text's first part, so its vector is added here.
    fn positions(&mut self) -> Result<Extent, Error> {
        let config = &self.model.config;
        let (n_embd, n_ctx) = (config.hidden_size, config.max_position_embeddings);
        let mut table = self.floats("embeddings.position_embeddings.weight", &[n_ctx, n_embd])?;
        let parts = "embeddings.token_type_embeddings.weight";
        let shape = [self.tensor(parts)?.shape()[0], n_embd];
        let parts = self.floats(parts, &shape)?;
        for row in table.chunks_exact_mut(n_embd) {
            for (position, part) in row.iter_mut().zip(&parts) {
                *position += part;
            }
        }
        let bytes: Vec<u8> = table.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.data.append(&bytes)
    }

    /// A matrix, written in f16.
    fn halves(&mut self, name: &str, shape: [usize; 2]) -> Result<Extent, Error> {
        let values = self.floats(name, &shape)?;
        let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
        if halves.iter().any(|value| !value.is_finite()) {
            let reason = "it has weights that are too large for 16 bits".to_owned();
            return Err(self.model.invalid(&format!("tensor `{name}`"), reason));
        }
        let bytes: Vec<u8> = halves
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.data.append(&bytes)
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(name)?;
        let refused = |reason| Err(self.model.invalid(&format!("tensor `{name}`"), reason));
        if tensor.shape() != shape {
            return refused(format!(
                "its shape is {:?}, and by config.json it is {shape:?}",
                tensor.shape()
            ));
        }
        let bytes = tensor.data();
        let pairs = || bytes.as_chunks().0.iter().copied();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => {
                let fours = bytes.as_chunks().0.iter().copied();
                fours.map(f32::from_le_bytes).collect()
            }
            Dtype::F16 => pairs()
                .map(|pair| f16::from_le_bytes(pair).to_f32())
                .collect(),
            Dtype::BF16 => pairs()
                .map(|pair| half::bf16::from_le_bytes(pair).to_f32())
                .collect(),
            other => return refused(format!("weights in {other:?} are not read here")),
        };
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => refused("it has weights that are no numbers".to_owned()),
        }
    }

    fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let full = format!("{}{name}", self.prefix);
        let tensor = self.file.tensor(&full);
        tensor.map_err(|error| self.model.invalid("model.safetensors", error.to_string()))
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_slice(&read(path)?).map_err(|error| Error::Invalid {
        what: path.display().to_string(),
        reason: error.to_string(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
