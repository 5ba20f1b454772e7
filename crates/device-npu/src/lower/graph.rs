//! A decoder as a graph: what is computed, in no format's terms.
//!
//! The operations are those that a layer is spoken of in, no smaller. How each is spelt, and where tokens, positions and
//! what came before come from, is the affair of an [emitter](super::emit). There are no shapes but the model's.

use troika_base::ModelSpec;

use super::rotation::Rotation;
use super::weights::Matrix;

/// What a node gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value(usize);

impl Value {
    /// The node that gives it.
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// What is kept of each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// `n` tokens are computed, after `past` others. The batch is written `b`.
#[derive(Debug)]
pub(super) enum Op<'m> {
    /// The tokens' rows of the embedding table: `[b, n, n_embd]`.
    Embed,
    /// `x / rms(x) * weight` over the last axis.
    RmsNorm { weight: Vec<f32>, eps: f32 },
    /// `x · Wᵀ + bias`.
    Linear {
        weight: Matrix<'m>,
        bias: Option<Vec<f32>>,
    },
    /// `[b, n, heads * head_dim]` to `[b, heads, n, head_dim]`.
    Heads { count: usize },
    /// Turns every head by its token's position. The pairs are the two halves' values.
    Rotate,
    /// What came before, and the input behind it: `[b, n_head_kv, past + n, head_dim]`. The input is kept.
    Remember { layer: usize, part: Part },
    /// Of queries, keys and values: `[b, n, n_head * head_dim]`.
    Attend,
    /// Of two of the same shape.
    Add,
    /// `silu(gate) * up`, of gate and up.
    SwiGlu,
}

/// An operation, and what it is computed from.
#[derive(Debug)]
pub(super) struct Node<'m> {
    /// Tells it from all others.
    pub(super) name: String,
    pub(super) op: Op<'m>,
    pub(super) inputs: Vec<Value>,
}

/// A decoder.
#[derive(Debug)]
pub(super) struct Graph<'m> {
    pub(super) spec: ModelSpec,
    pub(super) rotation: Rotation,
    /// In an order in which they can be computed.
    pub(super) nodes: Vec<Node<'m>>,
    /// The embedding table `[n_vocab, n_embd]`.
    pub(super) table: Matrix<'m>,
    /// The residual stream behind the last layer and the output norm: `[b, n, n_embd]`.
    pub(super) hidden: Value,
    /// Hidden states to logits, `[n_vocab, n_embd]`. `None` where the embedding table serves.
    pub(super) head: Option<Matrix<'m>>,
}

/// Nodes, as they come.
#[derive(Debug, Default)]
pub(super) struct Nodes<'m>(Vec<Node<'m>>);

impl<'m> Nodes<'m> {
    /// Appends an operation on what is there.
    pub(super) fn push(
        &mut self,
        name: impl Into<String>,
        op: Op<'m>,
        inputs: impl Into<Vec<Value>>,
    ) -> Value {
        let inputs = inputs.into();
        assert!(
            inputs.iter().all(|input| input.0 < self.0.len()),
            "inputs come before what is computed from them. This is a bug."
        );
        self.0.push(Node {
            name: name.into(),
            op,
            inputs,
        });
        Value(self.0.len() - 1)
    }

    /// All of them.
    pub(super) fn finish(self) -> Vec<Node<'m>> {
        self.0
    }
}

impl<'m> Graph<'m> {
    /// The matrices of the layers, in order.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix<'m>> {
        self.nodes.iter().filter_map(|node| match &node.op {
            Op::Linear { weight, .. } => Some(weight),
            _ => None,
        })
    }
}
