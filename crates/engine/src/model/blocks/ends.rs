//! The two ends of the network: tokens to the residual stream, and that to scores.

use troika_device::{Batch, Error, Feature, Hidden, Logits, Ops, Outputs};

use crate::model::OutputRows;
use crate::model::loader::Loader;

/// What scores go through behind the output matrix, and embeddings before the first layer.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::model) struct Scores {
    /// Multiplies embeddings.
    pub(in crate::model) embedding_scale: Option<f32>,
    /// Multiplies scores.
    pub(in crate::model) scale: Option<f32>,
    /// Bends scores to between minus and plus this: `cap * tanh(score / cap)`.
    pub(in crate::model) soft_cap: Option<f32>,
}

/// Embedding table, final norm and output matrix.
pub(in crate::model) struct Ends<O: Ops> {
    token_embd: O::Matrix,
    output_norm: O::Vector,
    /// Absent when the embedding table serves as output matrix too.
    output: Option<O::Matrix>,
    scores: Scores,
    eps: f32,
}

impl<O: Ops> Ends<O> {
    pub(in crate::model) fn load(loader: &Loader<'_, O>, scores: Scores) -> Result<Self, Error> {
        let (n_vocab, n_embd) = (loader.spec.n_vocab, loader.spec.n_embd);
        if scores.embedding_scale.or(scores.scale).is_some() {
            loader.need(Feature::Scale)?;
        }
        if scores.soft_cap.is_some() {
            loader.need(Feature::SoftCap)?;
        }
        Ok(Self {
            token_embd: loader.matrix("token_embd.weight", n_vocab, n_embd)?,
            output_norm: loader.vector("output_norm.weight", n_embd)?,
            output: if loader.has("output.weight") {
                Some(loader.matrix("output.weight", n_vocab, n_embd)?)
            } else {
                None
            },
            scores,
            eps: loader.spec.norm_eps,
        })
    }

    /// Tokens to the residual stream `[n_tok, n_embd]`.
    pub(in crate::model) fn embed(&self, ops: &mut O, batch: &Batch<'_>) -> O::Tensor {
        let mut x = ops.embed(&self.token_embd, &batch.tokens());
        if let Some(factor) = self.scores.embedding_scale {
            ops.scale(&mut x, factor);
        }
        x
    }

    /// The residual stream of the output rows to what is wanted of each.
    pub(in crate::model) fn outputs(
        &self,
        ops: &mut O,
        x: &O::Tensor,
        rows: &OutputRows,
    ) -> Result<Outputs, Error> {
        let h = ops.rms_norm(x, &self.output_norm, self.eps); // [rows, n_embd]
        if rows.hidden.is_empty() {
            return Ok(Outputs {
                logits: self.logits(ops, h)?,
                hidden: Hidden::default(),
            });
        }
        if rows.logits.is_empty() {
            return Ok(Outputs {
                logits: Logits::default(),
                hidden: ops.hidden(&h)?,
            });
        }
        let (scored, read) = (ops.rows(&h, &rows.logits), ops.rows(&h, &rows.hidden));
        Ok(Outputs {
            logits: self.logits(ops, scored)?,
            hidden: ops.hidden(&read)?,
        })
    }

    fn logits(&self, ops: &mut O, mut h: O::Tensor) -> Result<Logits, Error> {
        if let Some(factor) = self.scores.scale {
            ops.scale(&mut h, factor);
        }
        let output = self.output.as_ref().unwrap_or(&self.token_embd);
        let mut logits = ops.logits(&h, output)?;
        if let Some(cap) = self.scores.soft_cap {
            let bend = |x: &mut f32| *x = cap * (*x / cap).tanh();
            logits.values.iter_mut().for_each(bend);
        }
        Ok(logits)
    }
}
