//! Qwen 3, dense and with experts: queries and keys are normed head by head before they are rotated, and heads need not
//! fill the embedding.
//!
//! Yang et al. 2025, arXiv:2505.09388.

use troika_device::hyperparameters::{Keys, rope};
use troika_device::{Error, Gating, Ops, RopePairs};

use super::blocks::{Ends, FeedForward, Parts, Scope, Scores, SelfAttention};
use super::decoder::{At, Decoder, Layer};
use super::loader::Loader;

pub(super) struct Qwen3<O: Ops> {
    attention: SelfAttention<O>,
    feed_forward: FeedForward<O>,
}

pub(super) fn load<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Decoder<O, Qwen3<O>>, Error> {
    let spec = loader.spec;
    let parts = Parts {
        head_norms: true,
        ..Parts::default()
    };
    let layer = |i: usize| {
        Ok(Qwen3 {
            attention: SelfAttention::load(loader, i, parts, Scope::default())?,
            feed_forward: FeedForward::load(loader, i, "ffn_norm", Gating::Silu)?,
        })
    };
    Ok(Decoder {
        ropes: vec![rope(keys, spec, RopePairs::Halves, None)?],
        ends: Ends::load(loader, Scores::default())?,
        layers: (0..spec.n_layer).map(layer).collect::<Result<_, Error>>()?,
    })
}

impl<O: Ops> Layer<O> for Qwen3<O> {
    fn attend(&self, ops: &mut O, at: &mut At<'_, O>, x: &O::Tensor) -> O::Tensor {
        let [mut q, mut k, v] = self.attention.project(ops, x);
        self.attention.norm_heads(ops, [&mut q, &mut k]);
        self.attention.rope(ops, at, [&mut q, &mut k]);
        self.attention.attend(ops, at, [&q, &k, &v])
    }

    fn add(&self, ops: &mut O, x: &mut O::Tensor, attended: O::Tensor) {
        self.attention.add(ops, x, attended);
        self.feed_forward.add(ops, x);
    }
}
