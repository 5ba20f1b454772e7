//! Nomic BERT: an encoder. Every token sees the whole text, norms stand behind each half of a layer, positions are rotations,
//! and gates stand in place of BERT's GELU. It gives hidden states and no scores.
//!
//! Nussbaum et al. 2024, arXiv:2402.01613; BERT: Devlin et al. 2018, arXiv:1810.04805.

use troika_device::hyperparameters::{Keys, rope};
use troika_device::{
    Attending, Batch, Error, Feature, Gating, Interrupt, Logits, Ops, Outputs, Rope, RopePairs,
};

use super::Forward;
use super::loader::Loader;

pub(super) struct NomicBert<O: Ops> {
    token_embd: O::Matrix,
    /// That of a text's first part: all tokens are of it.
    token_type: O::Vector,
    norm: LayerNorm<O>,
    rope: Rope,
    layers: Vec<Layer<O>>,
    head_dim: usize,
}

struct Layer<O: Ops> {
    qkv: [O::Matrix; 3],
    attn_output: O::Matrix,
    attn_norm: LayerNorm<O>,
    ffn_gate: O::Matrix,
    ffn_up: O::Matrix,
    ffn_down: O::Matrix,
    ffn_norm: LayerNorm<O>,
}

/// A weight and a bias.
struct LayerNorm<O: Ops> {
    rows: [O::Vector; 2],
    eps: f32,
}

pub(super) fn load<O: Ops>(keys: &Keys<'_>, loader: &Loader<'_, O>) -> Result<NomicBert<O>, Error> {
    for feature in [Feature::BothWays, Feature::LayerNorm, Feature::Add] {
        loader.need(feature)?;
    }
    let spec = loader.spec;
    Ok(NomicBert {
        token_embd: loader.matrix("token_embd.weight", spec.n_vocab, spec.n_embd)?,
        token_type: loader.first_row("token_types.weight", spec.n_embd)?,
        norm: LayerNorm::load(loader, "token_embd_norm")?,
        rope: rope(keys, spec, RopePairs::Halves, None)?,
        layers: (0..spec.n_layer)
            .map(|i| Layer::load(loader, i))
            .collect::<Result<_, Error>>()?,
        head_dim: spec.head_dim,
    })
}

impl<O: Ops> Layer<O> {
    fn load(loader: &Loader<'_, O>, i: usize) -> Result<Self, Error> {
        let spec = loader.spec;
        let (n_embd, n_ff) = (spec.n_embd, spec.n_ff);
        let (q, kv) = (spec.n_head * spec.head_dim, spec.n_head_kv * spec.head_dim);
        let name = |part: &str| format!("blk.{i}.{part}");
        let matrix = |part, n_out, n_in| loader.matrix(&name(part), n_out, n_in);
        Ok(Self {
            qkv: loader.matrices(&name("attn_qkv.weight"), [q, kv, kv], n_embd)?,
            attn_output: matrix("attn_output.weight", n_embd, q)?,
            attn_norm: LayerNorm::load(loader, &name("attn_output_norm"))?,
            ffn_gate: matrix("ffn_gate.weight", n_ff, n_embd)?,
            ffn_up: matrix("ffn_up.weight", n_ff, n_embd)?,
            ffn_down: matrix("ffn_down.weight", n_embd, n_ff)?,
            ffn_norm: LayerNorm::load(loader, &name("layer_output_norm"))?,
        })
    }

    /// One layer: `x` is `[n_tok, n_embd]`, in place.
    fn forward(
        &self,
        ops: &mut O,
        x: &mut O::Tensor,
        (step, kv): (&O::Step, &mut O::Kv),
        (layer, head_dim): (usize, usize),
    ) {
        let [mut q, mut k, v] = ops.matmul(x, self.qkv.each_ref());
        ops.rope(step, &mut q, head_dim);
        ops.rope(step, &mut k, head_dim);
        let attending = Attending {
            layer,
            scale: 1.0 / (head_dim as f32).sqrt(),
            both_ways: true,
            window: None,
            soft_cap: None,
            sinks: None,
        };
        let attended = ops.attention(step, kv, &attending, [&q, &k, &v]); // [n_tok, n_head * head_dim]
        ops.add_matmul(x, &attended, &self.attn_output);
        self.attn_norm.apply(ops, x);
        let [gate, up] = ops.matmul(x, [&self.ffn_gate, &self.ffn_up]); // [n_tok, n_ff]
        let h = ops.gate(Gating::Silu, gate, &up);
        ops.add_matmul(x, &h, &self.ffn_down);
        self.ffn_norm.apply(ops, x);
    }
}

impl<O: Ops> LayerNorm<O> {
    fn load(loader: &Loader<'_, O>, name: &str) -> Result<Self, Error> {
        let row = |part: &str| loader.vector(&format!("{name}.{part}"), loader.spec.n_embd);
        Ok(Self {
            rows: [row("weight")?, row("bias")?],
            eps: loader.spec.norm_eps,
        })
    }

    fn apply(&self, ops: &mut O, x: &mut O::Tensor) {
        ops.layer_norm(x, self.rows.each_ref(), self.eps);
    }
}

impl<O: Ops> Forward<O> for NomicBert<O> {
    fn forward(
        &self,
        ops: &mut O,
        kv: &mut O::Kv,
        batch: &Batch<'_>,
        interrupt: &Interrupt,
    ) -> Result<Outputs, Error> {
        let step = ops.begin(batch, &self.rope)?;
        let mut x = ops.embed(&self.token_embd, &batch.tokens()); // [n_tok, n_embd]
        ops.add_bias(&mut x, &self.token_type);
        self.norm.apply(ops, &mut x);
        for (i, layer) in self.layers.iter().enumerate() {
            interrupt.check()?;
            layer.forward(ops, &mut x, (&step, &mut *kv), (i, self.head_dim));
        }
        let read = ops.rows(&x, &batch.hidden_rows());
        Ok(Outputs {
            logits: Logits::default(),
            hidden: ops.hidden(&read)?,
        })
    }
}
