//! Qwen 2 and 2.5: Llama's layers with biases on queries, keys and values, and rotary pairs by halves.
//!
//! Yang et al. 2024, arXiv:2407.10671.

use troika_device::hyperparameters::{Keys, rope};
use troika_device::{Error, Gating, Ops, RopePairs};

use super::blocks::{Ends, FeedForward, Parts, Scope, Scores, SelfAttention};
use super::decoder::{At, Decoder, Layer};
use super::loader::Loader;

pub(super) struct Qwen2<O: Ops> {
    attention: SelfAttention<O>,
    feed_forward: FeedForward<O>,
}

pub(super) fn load<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Decoder<O, Qwen2<O>>, Error> {
    let spec = loader.spec;
    let parts = Parts {
        biases: true,
        ..Parts::default()
    };
    let layer = |i: usize| {
        Ok(Qwen2 {
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

impl<O: Ops> Layer<O> for Qwen2<O> {
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
