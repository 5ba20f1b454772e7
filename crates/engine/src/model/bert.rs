//! BERT and Nomic BERT: encoders. Every token sees the whole text, and norms stand behind each half of a layer. BERT adds a
//! learned vector for each position; Nomic BERT turns heads by their positions, and has gates in place of GELU. They give
//! hidden states and no scores.
//!
//! Devlin et al. 2018, arXiv:1810.04805; Nussbaum et al. 2024, arXiv:2402.01613.

use troika_base::TokenId;
use troika_device::hyperparameters::{Keys, rope};
use troika_device::{
    Attending, Batch, Error, Feature, Gating, Interrupt, Logits, Ops, Outputs, Rope, RopePairs,
};

use super::Forward;
use super::loader::Loader;

pub(super) struct Encoder<O: Ops> {
    token_embd: O::Matrix,
    /// That of a text's first part, which all tokens are of. Distilled models have none.
    token_type: Option<O::Vector>,
    positions: Option<Positions<O>>,
    norm: LayerNorm<O>,
    /// Turns nothing where positions are learned.
    rope: Rope,
    layers: Vec<Layer<O>>,
    head_dim: usize,
}

/// A learned vector for each position, `[n_ctx, n_embd]`.
struct Positions<O: Ops> {
    table: O::Matrix,
    n_ctx: usize,
}

struct Layer<O: Ops> {
    qkv: [Linear<O>; 3],
    attn_output: Linear<O>,
    attn_norm: LayerNorm<O>,
    ffn: FeedForward<O>,
    ffn_norm: LayerNorm<O>,
}

enum FeedForward<O: Ops> {
    /// `down(gelu(up(x)))`
    Gelu { up: Linear<O>, down: Linear<O> },
    /// `down(silu(gate(x)) * up(x))`
    Gated {
        gate: Linear<O>,
        up: Linear<O>,
        down: Linear<O>,
    },
}

/// A matrix, and its bias if the file has one.
struct Linear<O: Ops> {
    weight: O::Matrix,
    bias: Option<O::Vector>,
}

/// A weight and a bias.
struct LayerNorm<O: Ops> {
    rows: [O::Vector; 2],
    eps: f32,
}

/// BERT: learned positions.
pub(super) fn load_bert<O: Ops>(loader: &Loader<'_, O>) -> Result<Encoder<O>, Error> {
    loader.need(Feature::ExactGelu)?;
    let unturned = Rope {
        pairs: RopePairs::Halves,
        frequencies: Vec::new(),
        magnitude: 1.0,
    };
    let encoder = load(loader, unturned, FeedForward::load)?;
    let n_ctx = loader.spec.n_ctx;
    let table = loader.matrix("position_embd.weight", n_ctx, loader.spec.n_embd)?;
    Ok(Encoder {
        positions: Some(Positions { table, n_ctx }),
        ..encoder
    })
}

/// Nomic BERT: rotations and gates.
pub(super) fn load_nomic_bert<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Encoder<O>, Error> {
    let rope = rope(keys, loader.spec, RopePairs::Halves, None)?;
    load(loader, rope, FeedForward::load_gated)
}

/// What both have.
fn load<O: Ops>(
    loader: &Loader<'_, O>,
    rope: Rope,
    ffn: impl Fn(&Loader<'_, O>, usize) -> Result<FeedForward<O>, Error>,
) -> Result<Encoder<O>, Error> {
    for feature in [Feature::BothWays, Feature::LayerNorm, Feature::Add] {
        loader.need(feature)?;
    }
    let (spec, types) = (loader.spec, "token_types.weight");
    Ok(Encoder {
        token_embd: loader.matrix("token_embd.weight", spec.n_vocab, spec.n_embd)?,
        token_type: match loader.has(types) {
            true => Some(loader.first_row(types, spec.n_embd)?),
            false => None,
        },
        positions: None,
        norm: LayerNorm::load(loader, "token_embd_norm")?,
        rope,
        layers: (0..spec.n_layer)
            .map(|i| Layer::load(loader, i, ffn(loader, i)?))
            .collect::<Result<_, Error>>()?,
        head_dim: spec.head_dim,
    })
}

impl<O: Ops> Layer<O> {
    fn load(loader: &Loader<'_, O>, i: usize, ffn: FeedForward<O>) -> Result<Self, Error> {
        let spec = loader.spec;
        let (q, kv) = (spec.n_head * spec.head_dim, spec.n_head_kv * spec.head_dim);
        let name = |part: &str| format!("blk.{i}.{part}");
        Ok(Self {
            qkv: Linear::load_qkv(loader, &name("attn"), [q, kv, kv])?,
            attn_output: Linear::load(loader, &name("attn_output"), spec.n_embd, q)?,
            attn_norm: LayerNorm::load(loader, &name("attn_output_norm"))?,
            ffn,
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
        let [mut q, mut k, v] = Linear::apply(ops, x, self.qkv.each_ref());
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
        self.attn_output.add(ops, x, &attended);
        self.attn_norm.apply(ops, x);
        self.ffn.add(ops, x);
        self.ffn_norm.apply(ops, x);
    }
}

impl<O: Ops> FeedForward<O> {
    fn load(loader: &Loader<'_, O>, i: usize) -> Result<Self, Error> {
        let (n_embd, n_ff) = (loader.spec.n_embd, loader.spec.n_ff);
        Ok(Self::Gelu {
            up: Linear::load(loader, &format!("blk.{i}.ffn_up"), n_ff, n_embd)?,
            down: Linear::load(loader, &format!("blk.{i}.ffn_down"), n_embd, n_ff)?,
        })
    }

    fn load_gated(loader: &Loader<'_, O>, i: usize) -> Result<Self, Error> {
        let (n_embd, n_ff) = (loader.spec.n_embd, loader.spec.n_ff);
        Ok(Self::Gated {
            gate: Linear::load(loader, &format!("blk.{i}.ffn_gate"), n_ff, n_embd)?,
            up: Linear::load(loader, &format!("blk.{i}.ffn_up"), n_ff, n_embd)?,
            down: Linear::load(loader, &format!("blk.{i}.ffn_down"), n_embd, n_ff)?,
        })
    }

    /// Adds it to `x` `[n_tok, n_embd]`.
    fn add(&self, ops: &mut O, x: &mut O::Tensor) {
        match self {
            Self::Gelu { up, down } => {
                let [mut h] = Linear::apply(ops, x, [up]); // [n_tok, n_ff]
                ops.gelu(&mut h);
                down.add(ops, x, &h);
            }
            Self::Gated { gate, up, down } => {
                let [gate, up] = Linear::apply(ops, x, [gate, up]); // [n_tok, n_ff]
                let h = ops.gate(Gating::Silu, gate, &up);
                down.add(ops, x, &h);
            }
        }
    }
}

impl<O: Ops> Linear<O> {
    fn load(loader: &Loader<'_, O>, name: &str, n_out: usize, n_in: usize) -> Result<Self, Error> {
        let bias = format!("{name}.bias");
        Ok(Self {
            weight: loader.matrix(&format!("{name}.weight"), n_out, n_in)?,
            bias: match loader.has(&bias) {
                true => Some(loader.vector(&bias, n_out)?),
                false => None,
            },
        })
    }

    /// Queries, keys and values: one tensor, or three.
    fn load_qkv(loader: &Loader<'_, O>, name: &str, n_out: [usize; 3]) -> Result<[Self; 3], Error> {
        let (n_embd, whole) = (loader.spec.n_embd, format!("{name}_qkv.weight"));
        if loader.has(&whole) {
            let parts = loader.matrices(&whole, n_out, n_embd)?;
            return Ok(parts.map(|weight| Self { weight, bias: None }));
        }
        let part = |part: &str, n_out| Self::load(loader, &format!("{name}_{part}"), n_out, n_embd);
        let [q, k, v] = n_out;
        Ok([part("q", q)?, part("k", k)?, part("v", v)?])
    }

    /// What several of them make of `x`.
    fn apply<const N: usize>(ops: &mut O, x: &O::Tensor, all: [&Self; N]) -> [O::Tensor; N] {
        let mut made = ops.matmul(x, all.map(|linear| &linear.weight));
        for (y, linear) in made.iter_mut().zip(all) {
            linear.add_bias(ops, y);
        }
        made
    }

    /// Adds what it makes of `h` to `x`.
    fn add(&self, ops: &mut O, x: &mut O::Tensor, h: &O::Tensor) {
        ops.add_matmul(x, h, &self.weight);
        self.add_bias(ops, x);
    }

    fn add_bias(&self, ops: &mut O, y: &mut O::Tensor) {
        if let Some(bias) = &self.bias {
            ops.add_bias(y, bias);
        }
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

impl<O: Ops> Positions<O> {
    /// Adds each token's to `x` `[n_tok, n_embd]`.
    ///
    /// # Errors
    /// If a text is longer than the model has positions for: a cache may hold more, for several texts.
    fn add(&self, ops: &mut O, x: &mut O::Tensor, batch: &Batch<'_>) -> Result<(), Error> {
        let positions = batch.positions();
        if let Some(last) = positions.iter().max().filter(|&&last| last >= self.n_ctx) {
            let (n_tok, n_ctx) = (last + 1, self.n_ctx);
            return Err(Error::Batch {
                reason: format!("a text has {n_tok} tokens, and the model positions for {n_ctx}"),
            });
        }
        // A table of rows is a table of rows: positions are looked up as tokens are.
        let rows: Vec<TokenId> = positions.iter().map(|&at| TokenId(at as u32)).collect();
        let learned = ops.embed(&self.table, &rows);
        ops.add(x, &learned);
        Ok(())
    }
}

impl<O: Ops> Forward<O> for Encoder<O> {
    fn forward(
        &self,
        ops: &mut O,
        kv: &mut O::Kv,
        batch: &Batch<'_>,
        interrupt: &Interrupt,
    ) -> Result<Outputs, Error> {
        let step = ops.begin(batch, &self.rope)?;
        let mut x = ops.embed(&self.token_embd, &batch.tokens()); // [n_tok, n_embd]
        if let Some(token_type) = &self.token_type {
            ops.add_bias(&mut x, token_type);
        }
        if let Some(positions) = &self.positions {
            positions.add(ops, &mut x, batch)?;
        }
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
