//! What all decoders are: an embedding table, layers that attend and feed forward, and scores at the end.

use troika_device::{Batch, Error, Interrupt, Ops, Outputs, Rope};

use super::blocks::Ends;
use super::{Forward, OutputRows};

/// One layer of an architecture, in two halves: between them, rows that nothing is wanted of are left behind.
pub(super) trait Layer<O: Ops>: Send {
    /// What the tokens `x` `[n_tok, n_embd]` attend to: `[n_tok, n_head * head_dim]`.
    fn attend(&self, ops: &mut O, at: &mut At<'_, O>, x: &O::Tensor) -> O::Tensor;

    /// Adds that, and what the feed-forward half makes of it, to the residual stream `x`.
    fn add(&self, ops: &mut O, x: &mut O::Tensor, attended: O::Tensor);
}

/// Where a step is: its positions, and the layer's place in the cache.
pub(super) struct At<'a, O: Ops> {
    /// One for each of the model's rotations.
    pub(super) steps: &'a [O::Step],
    pub(super) kv: &'a mut O::Kv,
    pub(super) layer: usize,
}

/// A decoder whose layers are `L`.
pub(super) struct Decoder<O: Ops, L> {
    pub(super) ends: Ends<O>,
    /// One for most models; at least one.
    pub(super) ropes: Vec<Rope>,
    pub(super) layers: Vec<L>,
}

impl<O: Ops, L: Layer<O>> Forward<O> for Decoder<O, L> {
    fn forward(
        &self,
        ops: &mut O,
        kv: &mut O::Kv,
        batch: &Batch<'_>,
        interrupt: &Interrupt,
    ) -> Result<Outputs, Error> {
        let steps = self.ropes.iter().map(|rope| ops.begin(batch, rope));
        let steps = steps.collect::<Result<Vec<_>, Error>>()?;
        let outputs = OutputRows::new(batch, self.layers.len());
        let mut x = self.ends.embed(ops, batch); // [n_tok, n_embd]
        for (i, layer) in self.layers.iter().enumerate() {
            interrupt.check()?;
            let mut at = At {
                steps: &steps,
                kv: &mut *kv,
                layer: i,
            };
            let attended = layer.attend(ops, &mut at, &x); // [n_tok, n_head * head_dim]
            let Some(attended) = outputs.keep(ops, i, &mut x, attended) else {
                return Ok(Outputs::default());
            };
            layer.add(ops, &mut x, attended);
        }
        self.ends.outputs(ops, &x, &outputs)
    }
}
