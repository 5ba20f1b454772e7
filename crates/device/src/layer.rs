//! What a layer asks of an operation: how it attends, and how it mixes experts.

use std::fmt;

use troika_kernels::Gating;

/// How a layer attends.
#[derive(Debug)]
pub struct Attending<'a, V> {
    /// Which layer of the cache.
    pub layer: usize,
    /// Multiplies every score, usually `1/sqrt(head_dim)`.
    pub scale: f32,
    /// Whether a token sees all of its sequence's tokens in the step, those behind it too.
    pub both_ways: bool,
    /// The last so many tokens are seen, itself included; all of them where it is `None`.
    pub window: Option<usize>,
    /// Bends scores to between minus and plus this: `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// A score for each query head that takes a share of the softmax and gives nothing.
    pub sinks: Option<&'a V>,
}

impl<V> Attending<'_, V> {
    /// The same in another layer, with other weights.
    pub(crate) fn with<'b, W>(&self, layer: usize, sinks: Option<&'b W>) -> Attending<'b, W> {
        Attending {
            layer,
            scale: self.scale,
            both_ways: self.both_ways,
            window: self.window,
            soft_cap: self.soft_cap,
            sinks,
        }
    }
}

/// A feed-forward layer of experts, of which each token goes to a few: `sum of weight * down(gate(h) joined with up(h))`.
///
/// The weights are the softmax over the scores of the chosen alone.
#[derive(Debug)]
pub struct Mixture<'a, E, V> {
    /// Experts of each token: those with the highest scores; among equals, the first.
    pub n_used: usize,
    /// How gate and up become one.
    pub gating: Gating,
    /// Of every expert, `[n_ff, n_embd]`.
    pub gate: &'a E,
    /// Likewise.
    pub up: &'a E,
    /// Of every expert, `[n_embd, n_ff]`.
    pub down: &'a E,
    /// Added to what gate, up and down give: `[n_expert, n_ff]` twice, and `[n_expert, n_embd]`.
    pub biases: Option<[&'a V; 3]>,
}

/// What not every device computes, and not every model asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// [`Attending::scale`], where it is not `1/sqrt(head_dim)`.
    AttentionScale,
    /// [`Attending::both_ways`].
    BothWays,
    /// [`Attending::window`].
    SlidingWindow,
    /// [`Attending::soft_cap`].
    SoftCap,
    /// [`Attending::sinks`].
    Sinks,
    /// [`Gating::Gelu`].
    Gelu,
    /// [`Ops::gelu`](crate::Ops::gelu).
    ExactGelu,
    /// [`Ops::experts`](crate::Ops::experts).
    Experts,
    /// [`Ops::scale`](crate::Ops::scale).
    Scale,
    /// [`Ops::add`](crate::Ops::add).
    Add,
    /// [`Ops::layer_norm`](crate::Ops::layer_norm).
    LayerNorm,
    /// A [scale](crate::hyperparameters::scale_name) beside a matrix or experts: the device finds it in the file.
    TensorScale,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AttentionScale => "attention with a scale of its own",
            Self::BothWays => "attention in both directions",
            Self::SlidingWindow => "sliding windows of attention",
            Self::SoftCap => "soft caps on scores",
            Self::Sinks => "attention sinks",
            Self::Gelu => "GELU gates",
            Self::ExactGelu => "GELU layers without gates",
            Self::Experts => "mixtures of experts",
            Self::Scale => "scaled activations",
            Self::Add => "norms behind a layer",
            Self::LayerNorm => "layer norms",
            Self::TensorScale => "scales of whole tensors",
        })
    }
}
