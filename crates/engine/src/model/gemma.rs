//! Gemma 2 and 3: norms before and behind each half of a layer, GeGLU, scaled embeddings, and layers that see a window in
//! turn with layers that see all.
//!
//! Gemma 2 bends scores between caps; Gemma 3 norms the heads of queries and keys instead, and turns them faster in
//! layers with a window. Files have 1 added to the weights of norms already. Gemma Team 2024, arXiv:2408.00118; 2025,
//! arXiv:2503.19786.

use troika_base::ModelSpec;
use troika_device::hyperparameters::{Keys, rope, rope_unscaled};
use troika_device::{Error, Feature, Gating, Ops, RopePairs};

use super::blocks::{Ends, FeedForward, Parts, Scope, Scores, SelfAttention};
use super::decoder::{At, Decoder, Layer};
use super::loader::Loader;

/// The last of so many layers sees all: of Gemma 2 and 3. Files have no key for it.
const GLOBAL_EVERY: [usize; 2] = [2, 6];
/// What the rotation of Gemma 3's layers with a window is based on, where the file does not say.
const LOCAL_BASE: f64 = 10_000.0;

pub(super) struct Gemma<O: Ops> {
    attention: SelfAttention<O>,
    attention_norm: O::Vector,
    feed_forward: FeedForward<O>,
    feed_forward_norm: O::Vector,
    eps: f32,
}

pub(super) fn load_gemma2<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Decoder<O, Gemma<O>>, Error> {
    let spec = loader.spec;
    let scores = Scores {
        soft_cap: keys
            .opt_float("final_logit_softcapping")?
            .map(|cap| cap as f32),
        ..Scores::default()
    };
    let all = Scope {
        scale: scale(keys, spec, 46)?,
        soft_cap: keys
            .opt_float("attn_logit_softcapping")?
            .map(|cap| cap as f32),
        ..Scope::default()
    };
    let window = Scope {
        window: keys.window()?,
        ..all
    };
    let ropes = vec![rope(keys, spec, RopePairs::Halves, None)?];
    let scope = |i: usize| match (i + 1).is_multiple_of(GLOBAL_EVERY[0]) {
        true => all,
        false => window,
    };
    let decoder = decoder(loader, Parts::default(), scope, scores)?;
    Ok(Decoder { ropes, ..decoder })
}

pub(super) fn load_gemma3<O: Ops>(
    keys: &Keys<'_>,
    loader: &Loader<'_, O>,
) -> Result<Decoder<O, Gemma<O>>, Error> {
    let spec = loader.spec;
    let scores = Scores {
        soft_cap: keys
            .opt_float("final_logit_softcapping")?
            .map(|cap| cap as f32),
        ..Scores::default()
    };
    let local_base = keys.opt_float("rope.freq_base_swa")?.unwrap_or(LOCAL_BASE);
    let ropes = vec![
        rope(keys, spec, RopePairs::Halves, None)?,
        rope_unscaled(keys, spec, RopePairs::Halves, local_base)?,
    ];
    let all = Scope {
        scale: scale(keys, spec, 62)?,
        ..Scope::default()
    };
    let window = Scope {
        window: keys.window()?,
        rope: 1,
        ..all
    };
    let parts = Parts {
        head_norms: true,
        ..Parts::default()
    };
    let scope = |i: usize| match (i + 1).is_multiple_of(GLOBAL_EVERY[1]) {
        true => all,
        false => window,
    };
    let decoder = decoder(loader, parts, scope, scores)?;
    Ok(Decoder { ropes, ..decoder })
}

/// What scores are multiplied by, if it is not the usual. Most files of the 27B models do not say: they have `n_layer_27b`
/// layers, and the heads are not as wide as they would be if they filled the embedding, for which they are scaled.
fn scale(keys: &Keys<'_>, spec: &ModelSpec, n_layer_27b: usize) -> Result<Option<f32>, Error> {
    if let Some(scale) = keys.opt_float("attention.scale")? {
        return Ok(Some(scale as f32));
    }
    let width = (spec.n_embd / spec.n_head) as f32;
    Ok((spec.n_layer == n_layer_27b).then(|| 1.0 / width.sqrt()))
}

/// All but the rotations.
fn decoder<O: Ops>(
    loader: &Loader<'_, O>,
    parts: Parts,
    scope: impl Fn(usize) -> Scope,
    scores: Scores,
) -> Result<Decoder<O, Gemma<O>>, Error> {
    let ModelSpec {
        n_embd,
        n_layer,
        norm_eps: eps,
        ..
    } = *loader.spec;
    loader.need(Feature::Add)?;
    let layer = |i: usize| {
        let norm = |name| loader.vector(&format!("blk.{i}.{name}.weight"), n_embd);
        Ok(Gemma {
            attention: SelfAttention::load(loader, i, parts, scope(i))?,
            attention_norm: norm("post_attention_norm")?,
            feed_forward: FeedForward::load(loader, i, "ffn_norm", Gating::Gelu)?,
            feed_forward_norm: norm("post_ffw_norm")?,
            eps,
        })
    };
    let scores = Scores {
        embedding_scale: Some((n_embd as f32).sqrt()),
        ..scores
    };
    Ok(Decoder {
        ropes: Vec::new(),
        ends: Ends::load(loader, scores)?,
        layers: (0..n_layer).map(layer).collect::<Result<_, Error>>()?,
    })
}

impl<O: Ops> Layer<O> for Gemma<O> {
    fn attend(&self, ops: &mut O, at: &mut At<'_, O>, x: &O::Tensor) -> O::Tensor {
        let [mut q, mut k, v] = self.attention.project(ops, x);
        self.attention.norm_heads(ops, [&mut q, &mut k]);
        self.attention.rope(ops, at, [&mut q, &mut k]);
        self.attention.attend(ops, at, [&q, &k, &v])
    }

    fn add(&self, ops: &mut O, x: &mut O::Tensor, attended: O::Tensor) {
        let h = self.attention.output(ops, &attended);
        let h = ops.rms_norm(&h, &self.attention_norm, self.eps);
        ops.add(x, &h);
        let h = self.feed_forward.output(ops, x);
        let h = ops.rms_norm(&h, &self.feed_forward_norm, self.eps);
        ops.add(x, &h);
    }
}
