//! The feed-forward half of a layer: one network for all tokens, or experts.

use troika_device::{Error, Feature, Gating, Mixture, Ops};

use crate::model::loader::Loader;

/// `down(gate(h) joined with up(h))` of the normed input.
pub(in crate::model) struct FeedForward<O: Ops> {
    norm: O::Vector,
    gating: Gating,
    kind: Kind<O>,
    eps: f32,
}

enum Kind<O: Ops> {
    Dense {
        gate: O::Matrix,
        up: O::Matrix,
        down: O::Matrix,
    },
    Experts(Experts<O>),
}

/// A router, and the experts that it chooses from.
struct Experts<O: Ops> {
    router: O::Matrix,
    router_bias: Option<O::Vector>,
    n_used: usize,
    gate: O::Experts,
    up: O::Experts,
    down: O::Experts,
    biases: Option<[O::Vector; 3]>,
}

impl<O: Ops> FeedForward<O> {
    /// Experts where the model has some. `norm` is the norm's name in the file.
    pub(in crate::model) fn load(
        loader: &Loader<'_, O>,
        layer: usize,
        norm: &str,
        gating: Gating,
    ) -> Result<Self, Error> {
        let spec = loader.spec;
        if gating == Gating::Gelu {
            loader.need(Feature::Gelu)?;
        }
        let (n_embd, n_ff) = (spec.n_embd, spec.n_ff);
        let name = |part| format!("blk.{layer}.ffn_{part}.weight");
        Ok(Self {
            norm: loader.vector(&format!("blk.{layer}.{norm}.weight"), n_embd)?,
            gating,
            kind: if spec.experts.is_some() {
                Kind::Experts(Experts::load(loader, layer)?)
            } else if loader.has(&name("gate")) {
                Kind::Dense {
                    gate: loader.matrix(&name("gate"), n_ff, n_embd)?,
                    up: loader.matrix(&name("up"), n_ff, n_embd)?,
                    down: loader.matrix(&name("down"), n_embd, n_ff)?,
                }
            } else {
                let [gate, up] = loader.matrices(&name("up"), [n_ff, n_ff], n_embd)?;
                let down = loader.matrix(&name("down"), n_embd, n_ff)?;
                Kind::Dense { gate, up, down }
            },
            eps: spec.norm_eps,
        })
    }

    /// Adds it to the residual stream.
    pub(in crate::model) fn add(&self, ops: &mut O, x: &mut O::Tensor) {
        let h = ops.rms_norm(x, &self.norm, self.eps);
        match &self.kind {
            Kind::Dense { down, .. } => {
                let h = self.gated(ops, h);
                ops.add_matmul(x, &h, down);
            }
            Kind::Experts(experts) => {
                let y = experts.mix(ops, &h, self.gating);
                ops.add(x, &y);
            }
        }
    }

    /// What [`Self::add`] adds, for layers that do something with it first.
    pub(in crate::model) fn output(&self, ops: &mut O, x: &O::Tensor) -> O::Tensor {
        let h = ops.rms_norm(x, &self.norm, self.eps);
        match &self.kind {
            Kind::Dense { down, .. } => {
                let h = self.gated(ops, h);
                let [y] = ops.matmul(&h, [down]);
                y
            }
            Kind::Experts(experts) => experts.mix(ops, &h, self.gating),
        }
    }

    /// Gate and up of the normed input, joined: `[n_tok, n_ff]`. Takes it, so that its memory is free.
    fn gated(&self, ops: &mut O, h: O::Tensor) -> O::Tensor {
        let Kind::Dense { gate, up, .. } = &self.kind else {
            unreachable!("experts join their own. This is a bug.")
        };
        let [gate, up] = ops.matmul(&h, [gate, up]);
        drop(h);
        ops.gate(self.gating, gate, &up)
    }
}

impl<O: Ops> Experts<O> {
    fn load(loader: &Loader<'_, O>, layer: usize) -> Result<Self, Error> {
        let spec = loader.spec;
        let experts = spec.experts.expect("asked before. This is a bug.");
        loader.need(Feature::Experts)?;
        let (n_embd, n_ff, n) = (spec.n_embd, experts.n_ff, experts.n);
        let name = |part: &str| format!("blk.{layer}.ffn_{part}");
        let matrices = |part: &str, n_out, n_in| {
            loader.experts(&name(&format!("{part}_exps.weight")), n, n_out, n_in)
        };
        let biases =
            |part: &str, n_out| loader.vectors(&name(&format!("{part}_exps.bias")), n, n_out);
        let router_bias = name("gate_inp.bias");
        Ok(Self {
            router: loader.matrix(&name("gate_inp.weight"), n, n_embd)?,
            router_bias: match loader.has(&router_bias) {
                true => Some(loader.vector(&router_bias, n)?),
                false => None,
            },
            n_used: experts.n_used,
            gate: matrices("gate", n_ff, n_embd)?,
            up: matrices("up", n_ff, n_embd)?,
            down: matrices("down", n_embd, n_ff)?,
            biases: match loader.has(&name("gate_exps.bias")) {
                true => Some([
                    biases("gate", n_ff)?,
                    biases("up", n_ff)?,
                    biases("down", n_embd)?,
                ]),
                false => None,
            },
        })
    }

    /// The experts' answers to the normed input `h`, weighed: `[n_tok, n_embd]`.
    fn mix(&self, ops: &mut O, h: &O::Tensor, gating: Gating) -> O::Tensor {
        let [mut scores] = ops.matmul(h, [&self.router]); // [n_tok, n_expert]
        if let Some(bias) = &self.router_bias {
            ops.add_bias(&mut scores, bias);
        }
        let mixture = Mixture {
            n_used: self.n_used,
            gating,
            gate: &self.gate,
            up: &self.up,
            down: &self.down,
            biases: self.biases.as_ref().map(|biases| biases.each_ref()),
        };
        ops.experts(h, &scores, &mixture)
    }
}
