//! Phi 3 and 4: Llama's layers with queries, keys and values in one matrix, gate and up in one matrix, a window in some
//! models, and rotations that are stretched pair by pair for long contexts (LongRoPE).
//!
//! Abdin et al. 2024, arXiv:2404.14219; LongRoPE: Ding et al. 2024, arXiv:2402.13753.

use troika_device::hyperparameters::{Keys, longrope};
use troika_device::{Error, Gating, Ops, RopePairs};

use super::blocks::{Ends, FeedForward, Parts, Scope, Scores, SelfAttention};
use super::decoder::{At, Decoder, Layer};
use super::loader::Loader;

pub(super) struct Phi3<O: Ops> {
    attention: SelfAttention<O>,
    feed_forward: FeedForward<O>,
}

pub(super) fn load<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Decoder<O, Phi3<O>>, Error> {
    let spec = loader.spec;
    // The cache's keys are turned once, so what it can hold decides, and not what it holds at a time.
    let long = loader.opt_values("rope_factors_long.weight")?;
    let short = loader.opt_values("rope_factors_short.weight")?;
    let factors = long.as_deref().zip(short.as_deref());
    let parts = Parts {
        fused: true,
        ..Parts::default()
    };
    let scope = Scope {
        window: keys.window()?,
        ..Scope::default()
    };
    let layer = |i: usize| {
        Ok(Phi3 {
            attention: SelfAttention::load(loader, i, parts, scope)?,
            feed_forward: FeedForward::load(loader, i, "ffn_norm", Gating::Silu)?,
        })
    };
    Ok(Decoder {
        ropes: vec![longrope(
            keys,
            spec,
            RopePairs::Halves,
            factors,
            loader.n_ctx,
        )?],
        ends: Ends::load(loader, Scores::default())?,
        layers: (0..spec.n_layer).map(layer).collect::<Result<_, Error>>()?,
    })
}

impl<O: Ops> Layer<O> for Phi3<O> {
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
