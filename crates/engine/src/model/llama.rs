//! Llama 1, 2 and 3, Mistral, Mixtral, and the many models of their shape.
//!
//! Pre-norm transformer: RMS norm, grouped-query attention with rotary positions, SwiGLU. Touvron et al. 2023,
//! arXiv:2302.13971; grouped queries: arXiv:2307.09288; experts in place of SwiGLU: Jiang et al. 2024, arXiv:2401.04088.

use troika_device::hyperparameters::{Keys, rope};
use troika_device::{Error, Gating, Ops, RopePairs};

use super::blocks::{Ends, FeedForward, Parts, Scope, Scores, SelfAttention};
use super::decoder::{At, Decoder, Layer};
use super::loader::Loader;

pub(super) struct Llama<O: Ops> {
    attention: SelfAttention<O>,
    feed_forward: FeedForward<O>,
}

pub(super) fn load<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Decoder<O, Llama<O>>, Error> {
    let spec = loader.spec;
    let factors = loader.opt_values("rope_freqs.weight")?;
    // Mistral's first model has one.
    let scope = Scope {
        window: keys.window()?,
        ..Scope::default()
    };
    let layer = |i: usize| {
        let parts = Parts {
            // Some descendants have biases here.
            biases: loader.has(&format!("blk.{i}.attn_q.bias")),
            ..Parts::default()
        };
        Ok(Llama {
            attention: SelfAttention::load(loader, i, parts, scope)?,
            feed_forward: FeedForward::load(loader, i, "ffn_norm", Gating::Silu)?,
        })
    };
    Ok(Decoder {
        ropes: vec![rope(keys, spec, RopePairs::Adjacent, factors.as_deref())?],
        ends: Ends::load(loader, Scores::default())?,
        layers: (0..spec.n_layer).map(layer).collect::<Result<_, Error>>()?,
    })
}

impl<O: Ops> Layer<O> for Llama<O> {
    fn attend(&self, ops: &mut O, at: &mut At<'_, O>, x: &O::Tensor) -> O::Tensor {
        let [mut q, mut k, v] = self.attention.project(ops, x);
        self.attention.rope(ops, at, [&mut q, &mut k]);
        self.attention.attend(ops, at, [&q, &k, &v])
    }

    fn add(&self, ops: &mut O, x: &mut O::Tensor, attended: O::Tensor) {
        self.attention.add(ops, x, attended);
        self.feed_forward.add(ops, x);
    }
}
