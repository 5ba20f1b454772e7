//! The operations that architectures are written over.

use std::ops::Range;

use half::f16;
use troika_base::{Bytes, TokenId};
use troika_gguf::{ModelFile, TensorInfo};

use crate::{
    Attending, Batch, Error, Feature, Gating, Hidden, KvShape, Logits, Mixture, RopePairs,
};

/// A model's rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which values of a head are paired.
    pub pairs: RopePairs,
    /// Radians per position of each pair, scaling included.
    pub frequencies: Vec<f64>,
    /// Multiplies the rotated values: 1, but for YaRN.
    pub magnitude: f64,
}

/// A transformer's operations on one device.
///
/// Activations are `[n_tok, width]` f32 and stay on the device; weights are in whatever layout it reads best. Shapes
/// are checked when weights are loaded, so that a mismatch here is a bug and panics.
///
/// An operation between `begin` and what is brought back may only note down what is to be done: a device's failure
/// shows where something comes back to the host, and there at the latest.
pub trait Ops {
    /// Activations.
    type Tensor;
    /// A weight matrix `[n_out, n_in]`.
    type Matrix: Send;
    /// A row of f32 weights: a norm or a bias.
    type Vector: Send;
    /// A weight matrix `[n_out, n_in]` of every expert.
    type Experts: Send;
    /// Keys and values of all sequences.
    type Kv: Send;
    /// What one step needs everywhere: positions, rotations, slots in the cache.
    type Step;

    /// Brings a matrix to the device. The caller has checked its shape.
    ///
    /// # Errors
    /// If its format is not computed, or the file cannot be read.
    fn load_matrix(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Self::Matrix, Error>;

    /// Brings a row of F32 (or F16, BF16) weights to the device.
    ///
    /// # Errors
    /// If its format is not a float, or the file cannot be read.
    fn load_vector(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Self::Vector, Error>;

    /// Memory that a matrix takes.
    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize;

    /// The device's name, if it does not compute this. A model that asks for it is refused then when it is loaded, and the
    /// operations behind it are never called.
    fn lacks(&self, feature: Feature) -> Option<String> {
        let _ = feature;
        None
    }

    /// Brings a tensor `[n_expert, n_out, n_in]` to the device. The caller has checked its shape.
    ///
    /// # Errors
    /// As [`Self::load_matrix`].
    fn load_experts(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Self::Experts, Error>;

    /// Memory that the experts' matrices take.
    fn experts_bytes(&self, experts: &Self::Experts) -> usize;

    /// Where experts stay in the file and are read when they are wanted: memory for those that are kept.
    fn experts_kept(&self) -> Option<Bytes> {
        None
    }

    /// A KV cache of `n_page` pages.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the device has no room for it.
    fn new_kv(&self, shape: KvShape, n_page: usize) -> Result<Self::Kv, Error>;

    /// Copies a page of the cache.
    fn copy_page(&mut self, kv: &mut Self::Kv, from: usize, to: usize);

    /// Copies some tokens of a sequence to `out`, as [`Resident::read_kv`](crate::Resident::read_kv), which has checked
    /// its arguments.
    ///
    /// # Errors
    /// If the device fails.
    fn read_kv(
        &mut self,
        kv: &Self::Kv,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error>;

    /// Takes some tokens of a sequence from `values`, as [`Resident::write_kv`](crate::Resident::write_kv), which has
    /// checked its arguments.
    ///
    /// # Errors
    /// If the device fails.
    fn write_kv(
        &mut self,
        kv: &mut Self::Kv,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error>;

    /// Prepares a step. A model with several rotations prepares one for each, of the same batch.
    ///
    /// # Errors
    /// If the device has no room for what the step needs, or failed.
    fn begin(&mut self, batch: &Batch<'_>, rope: &Rope) -> Result<Self::Step, Error>;

    /// Looks tokens up in the embedding table: `[n_tok, n_embd]`.
    fn embed(&mut self, table: &Self::Matrix, tokens: &[TokenId]) -> Self::Tensor;

    /// `x / rms(x) * weight`, row by row.
    fn rms_norm(&mut self, x: &Self::Tensor, weight: &Self::Vector, eps: f32) -> Self::Tensor;

    /// `(x - mean(x)) / deviation(x) * weight + bias`, row by row, in place. `norm` is the weight and the bias.
    ///
    /// Only called on a device that does not [lack](Self::lacks) it.
    fn layer_norm(&mut self, x: &mut Self::Tensor, norm: [&Self::Vector; 2], eps: f32) {
        let _ = (x, norm, eps);
        unreachable!("models with layer norms are refused when they are loaded. This is a bug.")
    }

    /// RMS norm of every head on its own, in place: `weight` is `[head_dim]`.
    fn head_norm(&mut self, x: &mut Self::Tensor, weight: &Self::Vector, eps: f32);

    /// `x · Wᵀ` for several matrices that share `x`.
    fn matmul<const N: usize>(
        &mut self,
        x: &Self::Tensor,
        w: [&Self::Matrix; N],
    ) -> [Self::Tensor; N];

    /// `residual += x · Wᵀ`.
    fn add_matmul(&mut self, residual: &mut Self::Tensor, x: &Self::Tensor, w: &Self::Matrix);

    /// Adds a bias to every row.
    fn add_bias(&mut self, x: &mut Self::Tensor, bias: &Self::Vector);

    /// Rotates the heads of `x` `[n_tok, n_head * head_dim]` by their positions, in place. A rotation without frequencies
    /// leaves them as they are.
    fn rope(&mut self, step: &Self::Step, x: &mut Self::Tensor, head_dim: usize);

    /// Stores `k` and `v` `[n_tok, n_head_kv * head_dim]` in a layer of the cache, and attends with `q`
    /// `[n_tok, n_head * head_dim]` to what each token's sequence has there up to the token itself, or up to the sequence's
    /// last token in this step.
    fn attention(
        &mut self,
        step: &Self::Step,
        kv: &mut Self::Kv,
        attending: &Attending<'_, Self::Vector>,
        qkv: [&Self::Tensor; 3],
    ) -> Self::Tensor;

    /// GELU in its exact form: `x * Φ(x)`, with the normal distribution's `Φ`, element by element, in place.
    ///
    /// Only called on a device that does not [lack](Self::lacks) it.
    fn gelu(&mut self, x: &mut Self::Tensor) {
        let _ = x;
        unreachable!("models with exact GELU are refused when they are loaded. This is a bug.")
    }

    /// A gate and its other half, joined.
    fn gate(&mut self, gating: Gating, gate: Self::Tensor, up: &Self::Tensor) -> Self::Tensor;

    /// Sends each row of `x` `[n_tok, n_embd]` to the experts that `scores` `[n_tok, n_expert]` prefer: `[n_tok, n_embd]`.
    fn experts(
        &mut self,
        x: &Self::Tensor,
        scores: &Self::Tensor,
        mixture: &Mixture<'_, Self::Experts, Self::Vector>,
    ) -> Self::Tensor;

    /// `x * factor`, in place.
    fn scale(&mut self, x: &mut Self::Tensor, factor: f32);

    /// `x += y`.
    fn add(&mut self, x: &mut Self::Tensor, y: &Self::Tensor);

    /// Some rows of `x`.
    fn rows(&mut self, x: &Self::Tensor, rows: &[usize]) -> Self::Tensor;

    /// `x · Wᵀ`, brought back to the host.
    ///
    /// # Errors
    /// If the device failed, now or in anything that led here.
    fn logits(&mut self, x: &Self::Tensor, output: &Self::Matrix) -> Result<Logits, Error>;

    /// `x`, brought back to the host.
    ///
    /// # Errors
    /// As [`Self::logits`].
    fn hidden(&mut self, x: &Self::Tensor) -> Result<Hidden, Error>;

    /// Takes activations from the host, which [`Self::hidden`] has brought there: from this device or from another.
    fn upload(&mut self, x: &Hidden) -> Self::Tensor;

    /// Ends a step, whether or not something was brought back: what was only noted down so far is on its way after it.
    ///
    /// # Errors
    /// If the device failed.
    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// What notes steps down before those before them have come back, on a device that can.
    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        None
    }
}

/// Steps that are noted down while the one before them still runs, so that the device need not wait for the host between
/// tokens: it finds the likeliest ones itself.
pub trait Ahead {
    /// From here to [`Ops::finish`], logits are left on the device: [`Ops::logits`] returns none, and the likeliest token of
    /// each row is found beside them. Where the step `follows`, [`Ops::embed`] takes what the step before it has found so,
    /// row by row, in place of the tokens that it is given.
    ///
    /// # Panics
    /// If it follows a step that has left none.
    fn leave(&mut self, follows: bool);

    /// Waits for the earliest step that has left its logits, and for none after it.
    ///
    /// # Errors
    /// If the device failed, now or in anything that led here.
    ///
    /// # Panics
    /// If none has left any.
    fn arrive(&mut self) -> Result<Arrival, Error>;

    /// Lets go of all that was left: nobody will ask for it.
    fn forget(&mut self);
}

/// What a step has left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrival {
    /// The logits.
    pub logits: Logits,
    /// The likeliest token of each row: of equals, the first one.
    pub likeliest: Vec<TokenId>,
}
