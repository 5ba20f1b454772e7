//! Operations of a device, with adapters beside its matrices. What is computed is the device's own products.

use std::ops::Range;

use troika_base::{Bytes, TokenId};
use troika_device::{
    Ahead, Attending, Batch, Error, Feature, Gating, Hidden, KvShape, Logits, Mixture, Ops, Rope,
    f16,
};
use troika_gguf::{ModelFile, TensorInfo};

use super::{A, B};

/// A device's operations on a model with an adapter.
pub(crate) struct Adapted<O> {
    inner: O,
    /// Whether the output matrix is changed too.
    changes_output: bool,
}

/// A matrix, and what is added to it.
pub(crate) struct Changed<M> {
    base: M,
    /// `[rank, n_in]` and `[n_out, rank]`.
    pair: Option<[M; 2]>,
}

impl<O: Ops> Adapted<O> {
    /// Operations for this file, which has an adapter.
    pub(crate) fn new(inner: O, file: &ModelFile) -> Self {
        let output = file.adapter().map(ModelFile::tensors).unwrap_or_default();
        let is_output = |tensor: &TensorInfo| tensor.name.starts_with("output.weight");
        Self {
            inner,
            changes_output: output.iter().any(is_output),
        }
    }

    /// Adds to `y` what the adapter makes of `x`.
    fn add_change(&mut self, y: &mut O::Tensor, x: &O::Tensor, w: &Changed<O::Matrix>) {
        if let Some([a, b]) = &w.pair {
            let [h] = self.inner.matmul(x, [a]); // [n_tok, rank]
            self.inner.add_matmul(y, &h, b);
        }
    }
}

/// The rows of `whole` that `part` is, of a second matrix of a pair: a matrix may be one of several that are one tensor.
fn rows_of(whole: &TensorInfo, part: &TensorInfo, b: &TensorInfo) -> TensorInfo {
    let first = (part.offset - whole.offset) / (whole.bytes / whole.n_rows());
    let row_bytes = b.bytes / b.n_rows();
    TensorInfo {
        shape: vec![b.row_len(), part.n_rows()],
        offset: b.offset + first * row_bytes,
        bytes: part.n_rows() * row_bytes,
        ..b.clone()
    }
}

impl<O: Ops> Ops for Adapted<O> {
    type Tensor = O::Tensor;
    type Matrix = Changed<O::Matrix>;
    type Vector = O::Vector;
    type Experts = O::Experts;
    type Kv = O::Kv;
    type Step = O::Step;

    fn load_matrix(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Self::Matrix, Error> {
        let find = |end: &str| {
            let adapter = file.adapter()?;
            Some((adapter, adapter.tensor(&format!("{}{end}", tensor.name))?))
        };
        let pair = match (find(A), find(B), file.tensor(&tensor.name)) {
            (Some((adapter, a)), Some((_, b)), Some(whole)) => Some([
                self.inner.load_matrix(adapter, a)?,
                self.inner
                    .load_matrix(adapter, &rows_of(whole, tensor, b))?,
            ]),
            _ => None,
        };
        Ok(Changed {
            base: self.inner.load_matrix(file, tensor)?,
            pair,
        })
    }

    fn load_vector(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Self::Vector, Error> {
        self.inner.load_vector(file, tensor)
    }

    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize {
        let pair = matrix.pair.iter().flatten();
        let all = pair.chain([&matrix.base]);
        all.map(|matrix| self.inner.matrix_bytes(matrix)).sum()
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
        self.inner.embed(&table.base, tokens)
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
        let mut y = self.inner.matmul(x, w.map(|w| &w.base));
        for (y, w) in y.iter_mut().zip(w) {
            self.add_change(y, x, w);
        }
        y
    }

    fn add_matmul(&mut self, residual: &mut Self::Tensor, x: &Self::Tensor, w: &Self::Matrix) {
        self.inner.add_matmul(residual, x, &w.base);
        self.add_change(residual, x, w);
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
        if output.pair.is_none() {
            return self.inner.logits(x, &output.base);
        }
        let [y] = self.matmul(x, [output]); // [n_tok, n_vocab]
        let Hidden { n_embd, values } = self.inner.hidden(&y)?;
        Ok(Logits {
            n_vocab: n_embd,
            values,
        })
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

    /// Scores that something is added to do not stay on the device.
    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        match self.changes_output {
            true => None,
            false => self.inner.ahead(),
        }
    }
}
