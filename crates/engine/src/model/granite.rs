//! Granite 3, dense and with experts: Llama's layers with four scales, of embeddings, scores of attention, what layers
//! add, and scores at the end.
//!
//! Granite Team 2024, <https://github.com/ibm-granite/granite-3.0-language-models>; scales: Yang et al. 2022,
//! arXiv:2203.03466.

use troika_device::hyperparameters::{Keys, rope};
use troika_device::{Error, Feature, Gating, Ops, RopePairs};

use super::blocks::{Ends, FeedForward, Parts, Scope, Scores, SelfAttention};
use super::decoder::{At, Decoder, Layer};
use super::loader::Loader;

pub(super) struct Granite<O: Ops> {
    attention: SelfAttention<O>,
    feed_forward: FeedForward<O>,
    /// Multiplies what each half of a layer adds.
    residual_scale: f32,
}

pub(super) fn load<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Decoder<O, Granite<O>>, Error> {
    let spec = loader.spec;
    let float = |key| Ok::<_, Error>(keys.opt_float(key)?.map(|value| value as f32));
    let residual_scale = float("residual_scale")?.unwrap_or(1.0);
    loader.need(Feature::Scale)?;
    loader.need(Feature::Add)?;
    let scope = Scope {
        scale: float("attention.scale")?,
        ..Scope::default()
    };
    let layer = |i: usize| {
        Ok(Granite {
            attention: SelfAttention::load(loader, i, Parts::default(), scope)?,
            feed_forward: FeedForward::load(loader, i, "ffn_norm", Gating::Silu)?,
            residual_scale,
        })
    };
    let scores = Scores {
        embedding_scale: float("embedding_scale")?,
        // What scores are divided by.
        scale: float("logit_scale")?.map(f32::recip),
        soft_cap: None,
    };
    Ok(Decoder {
        ropes: vec![rope(keys, spec, RopePairs::Adjacent, None)?],
        ends: Ends::load(loader, scores)?,
        layers: (0..spec.n_layer).map(layer).collect::<Result<_, Error>>()?,
    })
}

impl<O: Ops> Layer<O> for Granite<O> {
    fn attend(&self, ops: &mut O, at: &mut At<'_, O>, x: &O::Tensor) -> O::Tensor {
        let [mut q, mut k, v] = self.attention.project(ops, x);
        self.attention.rope(ops, at, [&mut q, &mut k]);
        self.attention.attend(ops, at, [&q, &k, &v])
    }

    fn add(&self, ops: &mut O, x: &mut O::Tensor, attended: O::Tensor) {
        let mut h = self.attention.output(ops, &attended);
        ops.scale(&mut h, self.residual_scale);
        ops.add(x, &h);
        let mut h = self.feed_forward.output(ops, x);
        ops.scale(&mut h, self.residual_scale);
        ops.add(x, &h);
    }
}
