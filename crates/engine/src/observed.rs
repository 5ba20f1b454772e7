//! Operations of a device, with an observer of what goes into products. What they compute is the device's.

use std::ops::Range;

use troika_base::{Bytes, TokenId};
use troika_device::{
    Attending, Batch, Error, Feature, Gating, Hidden, KvShape, Logits, Mixture, Ops, Rope, f16,
};
use troika_gguf::{ModelFile, TensorInfo};

use crate::importance::Observer;

/// A device's operations, observed.
pub(crate) struct Observed<O> {
    inner: O,
    observer: Observer,
}

impl<O: Ops> Observed<O> {
    pub(crate) fn new(inner: O, observer: Observer) -> Self {
        Self { inner, observer }
    }

    fn observe(&mut self, x: &O::Tensor, w: &[&Named<O::Matrix>]) -> Result<(), Error> {
        let rows = self.inner.hidden(x)?;
        let names = w.iter().map(|w| w.name.as_str());
        self.observer.add(&rows.values, rows.n_embd, names);
        Ok(())
    }
}

/// A matrix, and what its tensor is called.
pub(crate) struct Named<M> {
    name: String,
    matrix: M,
}

/// The CPU brings its activations to the host without fail, and only it is observed.
const ON_HOST: &str = "activations are on the host. This is a bug.";

impl<O: Ops> Ops for Observed<O> {
    type Tensor = O::Tensor;
    type Matrix = Named<O::Matrix>;
    type Vector = O::Vector;
    type Experts = O::Experts;
    type Kv = O::Kv;
    type Step = O::Step;

    fn load_matrix(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Self::Matrix, Error> {
        Ok(Named {
            name: tensor.name.clone(),
            matrix: self.inner.load_matrix(file, tensor)?,
        })
    }

    fn load_vector(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Self::Vector, Error> {
        self.inner.load_vector(file, tensor)
    }

    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize {
        self.inner.matrix_bytes(&matrix.matrix)
    }

    fn lacks(&self, feature: Feature) -> Option<String> {
        self.inner.lacks(feature)
    }

    fn experts_kept(&self) -> Option<Bytes> {
        self.inner.experts_kept()
    }

    fn load_experts(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Self::Experts, Error> {
        self.inner.load_experts(file, tensor)
    }

    fn experts_bytes(&self, experts: &Self::Experts) -> usize {
        self.inner.experts_bytes(experts)
    }

    fn new_kv(&self, shape: KvShape, n_page: usize) -> Result<Self::Kv, Error> {
        self.inner.new_kv(shape, n_page)
    }

    fn copy_page(&mut self, kv: &mut Self::Kv, from: usize, to: usize) {
        self.inner.copy_page(kv, from, to);
    }

    fn read_kv(
        &mut self,
        kv: &Self::Kv,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        self.inner.read_kv(kv, pages, tokens, out)
    }

    fn write_kv(
        &mut self,
        kv: &mut Self::Kv,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        self.inner.write_kv(kv, pages, tokens, values)
    }

    fn begin(&mut self, batch: &Batch<'_>, rope: &Rope) -> Result<Self::Step, Error> {
        self.inner.begin(batch, rope)
    }

    fn embed(&mut self, table: &Self::Matrix, tokens: &[TokenId]) -> Self::Tensor {
        self.inner.embed(&table.matrix, tokens)
    }

    fn rms_norm(&mut self, x: &Self::Tensor, weight: &Self::Vector, eps: f32) -> Self::Tensor {
        self.inner.rms_norm(x, weight, eps)
    }

    fn head_norm(&mut self, x: &mut Self::Tensor, weight: &Self::Vector, eps: f32) {
        self.inner.head_norm(x, weight, eps);
    }

    fn matmul<const N: usize>(
        &mut self,
        x: &Self::Tensor,
        w: [&Self::Matrix; N],
    ) -> [Self::Tensor; N] {
        self.observe(x, &w).expect(ON_HOST);
        self.inner.matmul(x, w.map(|w| &w.matrix))
    }

    fn add_matmul(&mut self, residual: &mut Self::Tensor, x: &Self::Tensor, w: &Self::Matrix) {
        self.observe(x, &[w]).expect(ON_HOST);
        self.inner.add_matmul(residual, x, &w.matrix);
    }

    fn add_bias(&mut self, x: &mut Self::Tensor, bias: &Self::Vector) {
        self.inner.add_bias(x, bias);
    }

    fn rope(&mut self, step: &Self::Step, x: &mut Self::Tensor, head_dim: usize) {
        self.inner.rope(step, x, head_dim);
    }

    fn attention(
        &mut self,
        step: &Self::Step,
        kv: &mut Self::Kv,
        attending: &Attending<'_, Self::Vector>,
        qkv: [&Self::Tensor; 3],
    ) -> Self::Tensor {
        self.inner.attention(step, kv, attending, qkv)
    }

    fn gate(&mut self, gating: Gating, gate: Self::Tensor, up: &Self::Tensor) -> Self::Tensor {
        self.inner.gate(gating, gate, up)
    }

    /// Which rows an expert gets is known to the device alone, so what goes into experts is not observed.
    fn experts(
        &mut self,
        x: &Self::Tensor,
        scores: &Self::Tensor,
        mixture: &Mixture<'_, Self::Experts, Self::Vector>,
    ) -> Self::Tensor {
        self.inner.experts(x, scores, mixture)
    }

    fn scale(&mut self, x: &mut Self::Tensor, factor: f32) {
        self.inner.scale(x, factor);
    }

    fn add(&mut self, x: &mut Self::Tensor, y: &Self::Tensor) {
        self.inner.add(x, y);
    }

    fn rows(&mut self, x: &Self::Tensor, rows: &[usize]) -> Self::Tensor {
        self.inner.rows(x, rows)
    }

    fn logits(&mut self, x: &Self::Tensor, output: &Self::Matrix) -> Result<Logits, Error> {
        self.observe(x, &[output])?;
        self.inner.logits(x, &output.matrix)
    }

    fn hidden(&mut self, x: &Self::Tensor) -> Result<Hidden, Error> {
        self.inner.hidden(x)
    }

    fn upload(&mut self, x: &Hidden) -> Self::Tensor {
        self.inner.upload(x)
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.inner.finish()
    }
}
