//! Attention and the weights around it.

use troika_device::{Attending, Error, Feature, Ops};

use crate::model::decoder::At;
use crate::model::loader::Loader;

/// Which weights a layer's attention has beside its matrices.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::model) struct Parts {
    /// Biases of queries, keys and values.
    pub(in crate::model) biases: bool,
    /// Also of the output.
    pub(in crate::model) output_bias: bool,
    /// Norms of every head of queries and keys.
    pub(in crate::model) head_norms: bool,
    /// One matrix for queries, keys and values, in this order.
    pub(in crate::model) fused: bool,
    /// A score for each head that takes a share of the softmax and gives nothing.
    pub(in crate::model) sinks: bool,
}

/// What a layer attends to.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::model) struct Scope {
    /// The last so many tokens; all of them where it is `None`.
    pub(in crate::model) window: Option<usize>,
    /// Multiplies every score; `1/sqrt(head_dim)` where it is `None`.
    pub(in crate::model) scale: Option<f32>,
    /// Bends scores.
    pub(in crate::model) soft_cap: Option<f32>,
    /// Which of the model's rotations turns queries and keys.
    pub(in crate::model) rope: usize,
}

/// The weights around attention: the norm before it, projections with or without biases, and the output matrix.
pub(in crate::model) struct SelfAttention<O: Ops> {
    norm: O::Vector,
    qkv: [O::Matrix; 3],
    biases: Option<[O::Vector; 3]>,
    head_norms: Option<[O::Vector; 2]>,
    sinks: Option<O::Vector>,
    output: O::Matrix,
    output_bias: Option<O::Vector>,
    head_dim: usize,
    scale: f32,
    scope: Scope,
    eps: f32,
}

impl<O: Ops> SelfAttention<O> {
    pub(in crate::model) fn load(
        loader: &Loader<'_, O>,
        layer: usize,
        parts: Parts,
        scope: Scope,
    ) -> Result<Self, Error> {
        let spec = loader.spec;
        let (n_embd, head_dim) = (spec.n_embd, spec.head_dim);
        let usual_scale = 1.0 / (head_dim as f32).sqrt();
        let scale = scope.scale.unwrap_or(usual_scale);
        let asks = [
            (scale != usual_scale, Feature::AttentionScale),
            (scope.window.is_some(), Feature::SlidingWindow),
            (scope.soft_cap.is_some(), Feature::SoftCap),
            (parts.sinks, Feature::Sinks),
        ];
        for (_, feature) in asks.iter().filter(|(asks, _)| *asks) {
            loader.need(*feature)?;
        }
        let (q, kv) = (spec.n_head * head_dim, spec.n_head_kv * head_dim);
        let name = |part: &str| format!("blk.{layer}.attn_{part}");
        let matrix = |part, n_out, n_in| loader.matrix(&(name(part) + ".weight"), n_out, n_in);
        let vector = |part, n| loader.vector(&name(part), n);
        Ok(Self {
            norm: vector("norm.weight", n_embd)?,
            qkv: match parts.fused {
                true => loader.matrices(&name("qkv.weight"), [q, kv, kv], n_embd)?,
                false => [
                    matrix("q", q, n_embd)?,
                    matrix("k", kv, n_embd)?,
                    matrix("v", kv, n_embd)?,
                ],
            },
            biases: match parts.biases {
                true => Some([
                    vector("q.bias", q)?,
                    vector("k.bias", kv)?,
                    vector("v.bias", kv)?,
                ]),
                false => None,
            },
            head_norms: match parts.head_norms {
                true => Some([
                    vector("q_norm.weight", head_dim)?,
                    vector("k_norm.weight", head_dim)?,
                ]),
                false => None,
            },
            sinks: match parts.sinks {
                true => Some(vector("sinks.weight", spec.n_head)?),
                false => None,
            },
            output: matrix("output", n_embd, q)?,
            output_bias: match parts.output_bias {
                true => Some(vector("output.bias", n_embd)?),
                false => None,
            },
            head_dim,
            scale,
            scope,
            eps: spec.norm_eps,
        })
    }

    /// The residual stream to queries, keys and values.
    pub(in crate::model) fn project(&self, ops: &mut O, x: &O::Tensor) -> [O::Tensor; 3] {
        let h = ops.rms_norm(x, &self.norm, self.eps);
        let mut projected = ops.matmul(&h, self.qkv.each_ref());
        for (x, bias) in projected.iter_mut().zip(self.biases.iter().flatten()) {
            ops.add_bias(x, bias);
        }
        projected
    }

    /// Norms every head of queries and keys, where the layer has the weights for it.
    pub(in crate::model) fn norm_heads(&self, ops: &mut O, heads: [&mut O::Tensor; 2]) {
        for (x, norm) in heads.into_iter().zip(self.head_norms.iter().flatten()) {
            ops.head_norm(x, norm, self.eps);
        }
    }

    /// Turns the heads of queries and keys by their positions.
    pub(in crate::model) fn rope(&self, ops: &mut O, at: &At<'_, O>, heads: [&mut O::Tensor; 2]) {
        for x in heads {
            ops.rope(&at.steps[self.scope.rope], x, self.head_dim);
        }
    }

    /// Attends: `[n_tok, n_head * head_dim]`.
    pub(in crate::model) fn attend(
        &self,
        ops: &mut O,
        at: &mut At<'_, O>,
        qkv: [&O::Tensor; 3],
    ) -> O::Tensor {
        let how = Attending {
            layer: at.layer,
            scale: self.scale,
            both_ways: false,
            window: self.scope.window,
            soft_cap: self.scope.soft_cap,
            sinks: self.sinks.as_ref(),
        };
        ops.attention(&at.steps[self.scope.rope], at.kv, &how, qkv)
    }

    /// Adds what was attended to, `[n_tok, n_head * head_dim]`, to the residual stream. Takes it, so that its memory is
    /// free for the layer's larger half.
    pub(in crate::model) fn add(&self, ops: &mut O, x: &mut O::Tensor, attended: O::Tensor) {
        ops.add_matmul(x, &attended, &self.output);
        if let Some(bias) = &self.output_bias {
            ops.add_bias(x, bias);
        }
    }

    /// What [`Self::add`] adds, for layers that do something with it first.
    pub(in crate::model) fn output(&self, ops: &mut O, attended: &O::Tensor) -> O::Tensor {
        let [y] = ops.matmul(attended, [&self.output]);
        y
    }
}
