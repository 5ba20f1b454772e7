//! What the architectures have in common: the two ends of the network, projections, and the feed-forward layer.

use troika_device::{Batch, Error, Hidden, Logits, Ops, Outputs};

use super::OutputRows;
use super::loader::Loader;

/// Embedding table, final norm and output matrix.
pub(super) struct Ends<O: Ops> {
    token_embd: O::Matrix,
    output_norm: O::Vector,
    /// Absent when the embedding table serves as output matrix too.
    output: Option<O::Matrix>,
}

impl<O: Ops> Ends<O> {
    pub(super) fn load(loader: &Loader<'_, O>) -> Result<Self, Error> {
        let (n_vocab, n_embd) = (loader.spec.n_vocab, loader.spec.n_embd);
        Ok(Self {
            token_embd: loader.matrix("token_embd.weight", n_vocab, n_embd)?,
            output_norm: loader.vector("output_norm.weight", n_embd)?,
            output: if loader.has("output.weight") {
                Some(loader.matrix("output.weight", n_vocab, n_embd)?)
            } else {
                None
            },
        })
    }

    /// Tokens to the residual stream `[n_tok, n_embd]`.
    pub(super) fn embed(&self, ops: &mut O, batch: &Batch<'_>) -> O::Tensor {
        ops.embed(&self.token_embd, &batch.tokens())
    }

    /// The residual stream of the output rows to what is wanted of each.
    pub(super) fn outputs(
        &self,
        ops: &mut O,
        x: &O::Tensor,
        eps: f32,
        rows: &OutputRows,
    ) -> Result<Outputs, Error> {
        let h = ops.rms_norm(x, &self.output_norm, eps); // [rows, n_embd]
        let output = self.output.as_ref().unwrap_or(&self.token_embd);
        if rows.hidden.is_empty() {
            return Ok(Outputs {
                logits: ops.logits(&h, output)?,
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
            logits: ops.logits(&scored, output)?,
            hidden: ops.hidden(&read)?,
        })
    }
}

/// The weights around attention: the norm before it, projections with or without biases, and the output matrix.
pub(super) struct SelfAttention<O: Ops> {
    norm: O::Vector,
    qkv: [O::Matrix; 3],
    biases: Option<[O::Vector; 3]>,
    output: O::Matrix,
}

impl<O: Ops> SelfAttention<O> {
    pub(super) fn load(loader: &Loader<'_, O>, layer: usize, biased: bool) -> Result<Self, Error> {
        let (n_embd, head_dim) = (loader.spec.n_embd, loader.spec.head_dim);
        let (q, kv) = (
            loader.spec.n_head * head_dim,
            loader.spec.n_head_kv * head_dim,
        );
        let name = |part| format!("blk.{layer}.attn_{part}");
        let matrix = |part, n_out, n_in| loader.matrix(&(name(part) + ".weight"), n_out, n_in);
        let bias = |part, n| loader.vector(&(name(part) + ".bias"), n);
        Ok(Self {
            norm: loader.vector(&(name("norm") + ".weight"), n_embd)?,
            qkv: [
                matrix("q", q, n_embd)?,
                matrix("k", kv, n_embd)?,
                matrix("v", kv, n_embd)?,
            ],
            biases: if biased {
                Some([bias("q", q)?, bias("k", kv)?, bias("v", kv)?])
            } else {
                None
            },
            output: matrix("output", n_embd, q)?,
        })
    }

    /// The residual stream to queries, keys and values.
    pub(super) fn project(&self, ops: &mut O, x: &O::Tensor, eps: f32) -> [O::Tensor; 3] {
        let h = ops.rms_norm(x, &self.norm, eps);
        let mut projected = ops.matmul(&h, self.qkv.each_ref());
        for (x, bias) in projected.iter_mut().zip(self.biases.iter().flatten()) {
            ops.add_bias(x, bias);
        }
        projected
    }

    /// Adds what was attended to, `[n_tok, n_head * head_dim]`, to the residual stream. Takes it, so that its memory is
    /// free for the layer's larger half.
    pub(super) fn add(&self, ops: &mut O, x: &mut O::Tensor, attended: O::Tensor) {
        ops.add_matmul(x, &attended, &self.output);
    }
}

/// SwiGLU: `down(silu(gate(h)) * up(h))` of the normed input, added to the residual stream.
pub(super) struct FeedForward<O: Ops> {
    norm: O::Vector,
    gate: O::Matrix,
    up: O::Matrix,
    down: O::Matrix,
}

impl<O: Ops> FeedForward<O> {
    pub(super) fn load(loader: &Loader<'_, O>, layer: usize) -> Result<Self, Error> {
        let (n_embd, n_ff) = (loader.spec.n_embd, loader.spec.n_ff);
        let name = |part| format!("blk.{layer}.ffn_{part}.weight");
        Ok(Self {
            norm: loader.vector(&name("norm"), n_embd)?,
            gate: loader.matrix(&name("gate"), n_ff, n_embd)?,
            up: loader.matrix(&name("up"), n_ff, n_embd)?,
            down: loader.matrix(&name("down"), n_embd, n_ff)?,
        })
    }

    pub(super) fn add(&self, ops: &mut O, x: &mut O::Tensor, eps: f32) {
        let h = ops.rms_norm(x, &self.norm, eps);
        let [gate, up] = ops.matmul(&h, [&self.gate, &self.up]);
        drop(h);
        let h = ops.swiglu(gate, &up);
        drop(up);
        ops.add_matmul(x, &h, &self.down);
    }
}
