//! What the host does for a static graph: looks tokens up, turns positions into tables, and knows the order of keys.

use half::f16;
use troika_base::{DType, ModelSpec, TokenId};
use troika_gguf::ModelFile;
use troika_kernels::quant;

use super::decoder::Outline;
use super::rotation::Rotation;
use crate::Error;

/// A model's part that stays with the host.
#[derive(Debug)]
pub struct Host {
    spec: ModelSpec,
    rotation: Rotation,
    dtype: DType,
    /// The embedding table, as it stands in the file.
    table: Vec<u8>,
}

impl Host {
    /// Of a model that is lowered. Keeps a copy of its embedding table.
    ///
    /// # Errors
    /// If the model is not supported, or cannot be read.
    pub fn new(file: &ModelFile) -> Result<Self, Error> {
        // Checks what the outline does not tell: tensors and their formats.
        super::decoder::graph(file)?;
        let Outline { spec, rotation, .. } = Outline::read(file)?;
        let tensor = file.tensor("token_embd.weight");
        let tensor = tensor.expect("the graph has it. This is a bug.");
        Ok(Self {
            spec,
            rotation,
            dtype: tensor.dtype,
            table: file.read_all(tensor).map_err(troika_device::Error::from)?,
        })
    }

    /// The model's shape.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Memory that the embedding table takes.
    pub fn table_bytes(&self) -> usize {
        self.table.len()
    }

    /// Writes the tokens' rows of the embedding table to `out`, `[tokens, n_embd]`.
    ///
    /// # Panics
    /// If a token is outside the vocabulary, or `out` has another length.
    pub fn embed(&self, tokens: &[TokenId], out: &mut [f32]) {
        let n_embd = self.spec.n_embd;
        assert_eq!(out.len(), tokens.len() * n_embd, "a row per token");
        let row_bytes = self.table.len() / self.spec.n_vocab;
        for (token, out) in tokens.iter().zip(out.chunks_exact_mut(n_embd)) {
            let row = &self.table[token.index() * row_bytes..][..row_bytes];
            quant::dequantize_row(self.dtype, row, out)
                .expect("the format was checked with the graph. This is a bug.");
        }
    }

    /// Writes cosines and sines of the positions, `[positions, head_dim]` each.
    ///
    /// # Panics
    /// If a table has another length.
    pub fn rotations(&self, positions: &[usize], cos: &mut [f32], sin: &mut [f32]) {
        self.rotation.tables(positions, cos, sin);
    }

    /// Puts a head's key, `[head_dim]`, from the graph's order of values into the one in which caches travel.
    ///
    /// # Panics
    /// If a key has another length.
    pub fn key_from_graph(&self, graph: &[f16], out: &mut [f16]) {
        match self.rotation.order() {
            None => out.copy_from_slice(graph),
            Some(order) => {
                for (value, &to) in graph.iter().zip(order) {
                    out[to] = *value;
                }
            }
        }
    }

    /// Puts a head's key, `[head_dim]`, from the order in which caches travel into the graph's.
    ///
    /// # Panics
    /// If a key has another length.
    pub fn key_to_graph(&self, key: &[f16], out: &mut [f16]) {
        match self.rotation.order() {
            None => out.copy_from_slice(key),
            Some(order) => {
                for (out, &from) in out.iter_mut().zip(order) {
                    *out = key[from];
                }
            }
        }
    }
}
