//! gpt-oss: experts with biases and clamped gates, attention with sinks, and a window in every other layer.
//!
//! OpenAI 2025, arXiv:2508.10925; sinks: Xiao et al. 2023, arXiv:2309.17453.

use troika_device::hyperparameters::{Keys, rope};
use troika_device::{Error, Gating, Ops, RopePairs};

use super::blocks::{Ends, FeedForward, Parts, Scope, Scores, SelfAttention};
use super::decoder::{At, Decoder, Layer};
use super::loader::Loader;

/// The last of so many layers sees all; files have no key for it, nor for the gates' numbers.
const GLOBAL_EVERY: usize = 2;
const GATING: Gating = Gating::ClampedSilu {
    alpha: 1.702,
    limit: 7.0,
};

pub(super) struct GptOss<O: Ops> {
    attention: SelfAttention<O>,
    feed_forward: FeedForward<O>,
}

pub(super) fn load<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Decoder<O, GptOss<O>>, Error> {
    let spec = loader.spec;
    keys.expect(
        spec.experts.is_some(),
        &keys.key("expert_count"),
        "absent",
        "this architecture is a mixture of experts",
    )?;
    let parts = Parts {
        biases: true,
        output_bias: true,
        sinks: true,
        ..Parts::default()
    };
    let window = keys.window()?;
    let layer = |i: usize| {
        let scope = Scope {
            window: window.filter(|_| !(i + 1).is_multiple_of(GLOBAL_EVERY)),
            ..Scope::default()
        };
        Ok(GptOss {
            attention: SelfAttention::load(loader, i, parts, scope)?,
            feed_forward: FeedForward::load(loader, i, "post_attention_norm", GATING)?,
        })
    };
    Ok(Decoder {
        ropes: vec![rope(keys, spec, RopePairs::Halves, None)?],
        ends: Ends::load(loader, Scores::default())?,
        layers: (0..spec.n_layer).map(layer).collect::<Result<_, Error>>()?,
    })
}

impl<O: Ops> Layer<O> for GptOss<O> {
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
