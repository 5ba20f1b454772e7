//! Qwen 2 and 2.5: Llama's layers with biases on queries, keys and values, and rotary pairs by halves.
//!
//! Yang et al. 2024, arXiv:2407.10671.

use troika_base::ModelSpec;
use troika_device::hyperparameters::{Keys, rope};
use troika_device::{Batch, Error, Interrupt, Ops, Outputs, Rope, RopePairs};

use super::blocks::{Ends, FeedForward, SelfAttention};
use super::loader::Loader;
use super::{Forward, OutputRows};

pub(super) struct Qwen2<O: Ops> {
    spec: ModelSpec,
    rope: Rope,
    ends: Ends<O>,
    layers: Vec<Layer<O>>,
}

struct Layer<O: Ops> {
    attention: SelfAttention<O>,
    feed_forward: FeedForward<O>,
}

impl<O: Ops> Qwen2<O> {
    pub(super) fn load(keys: &Keys<'_>, loader: &Loader<'_, O>) -> Result<Self, Error> {
        let spec = loader.spec;
        let layer = |i: usize| {
            Ok(Layer {
                attention: SelfAttention::load(loader, i, true)?,
                feed_forward: FeedForward::load(loader, i)?,
            })
        };
        Ok(Self {
            rope: rope(keys, spec, RopePairs::Halves, None)?,
            ends: Ends::load(loader)?,
            layers: (0..spec.n_layer).map(layer).collect::<Result<_, Error>>()?,
            spec: spec.clone(),
        })
    }
}

impl<O: Ops> Forward<O> for Qwen2<O> {
    fn forward(
        &self,
        ops: &mut O,
        kv: &mut O::Kv,
        batch: &Batch<'_>,
        interrupt: &Interrupt,
    ) -> Result<Outputs, Error> {
        let eps = self.spec.norm_eps;
        let step = ops.begin(batch, &self.rope)?;
        let outputs = OutputRows::new(batch, self.spec.n_layer);
        let mut x = self.ends.embed(ops, batch);
        for (i, layer) in self.layers.iter().enumerate() {
            interrupt.check()?;
            let attended = {
                let [mut q, mut k, v] = layer.attention.project(ops, &x, eps);
                ops.rope(&step, &mut q, self.spec.head_dim);
                ops.rope(&step, &mut k, self.spec.head_dim);
                ops.attention(&step, kv, i, &q, &k, &v)
            };
            let Some(attended) = outputs.keep(ops, i, &mut x, attended) else {
                return Ok(Outputs::default());
            };
            layer.attention.add(ops, &mut x, attended);
            layer.feed_forward.add(ops, &mut x, eps);
        }
        self.ends.outputs(ops, &x, eps, &outputs)
    }
}
