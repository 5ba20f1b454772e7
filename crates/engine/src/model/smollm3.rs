//! SmolLM 3: Llama's layers, of which every fourth has no positions (NoPE).
//!
//! Bakouch et al. 2025, <https://huggingface.co/blog/smollm3>; layers without positions: Yang et al. 2025,
//! arXiv:2501.18795.

use troika_device::hyperparameters::{Keys, rope};
use troika_device::{Error, Gating, Ops, RopePairs};

use super::blocks::{Ends, FeedForward, Parts, Scope, Scores, SelfAttention};
use super::decoder::{At, Decoder, Layer};
use super::loader::Loader;

/// The last of so many layers has no positions; files have no key for it.
const NOPE_EVERY: usize = 4;

pub(super) struct SmolLm3<O: Ops> {
    attention: SelfAttention<O>,
    feed_forward: FeedForward<O>,
    rotates: bool,
}

pub(super) fn load<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Decoder<O, SmolLm3<O>>, Error> {
    let spec = loader.spec;
    let layer = |i: usize| {
        Ok(SmolLm3 {
            attention: SelfAttention::load(loader, i, Parts::default(), Scope::default())?,
            feed_forward: FeedForward::load(loader, i, "ffn_norm", Gating::Silu)?,
            rotates: !(i + 1).is_multiple_of(NOPE_EVERY),
        })
    };
    Ok(Decoder {
        ropes: vec![rope(keys, spec, RopePairs::Adjacent, None)?],
        ends: Ends::load(loader, Scores::default())?,
        layers: (0..spec.n_layer).map(layer).collect::<Result<_, Error>>()?,
    })
}

impl<O: Ops> Layer<O> for SmolLm3<O> {
    fn attend(&self, ops: &mut O, at: &mut At<'_, O>, x: &O::Tensor) -> O::Tensor {
        let [mut q, mut k, v] = self.attention.project(ops, x);
        if self.rotates {
            self.attention.rope(ops, at, [&mut q, &mut k]);
        }
        self.attention.attend(ops, at, [&q, &k, &v])
    }

    fn add(&self, ops: &mut O, x: &mut O::Tensor, attended: O::Tensor) {
        self.attention.add(ops, x, attended);
        self.feed_forward.add(ops, x);
    }
}
