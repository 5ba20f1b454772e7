//! Operations of a device, with adapters beside its matrices. What is computed is the device's own products.

use troika_base::TokenId;
use troika_device::{Ahead, Error, Hidden, Logits, Ops};
use troika_gguf::{ModelFile, TensorInfo};

use super::{A, B};
use crate::wrapped::pass_on_to_inner;

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

    pass_on_to_inner!();

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

    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize {
        let pair = matrix.pair.iter().flatten();
        let all = pair.chain([&matrix.base]);
        all.map(|matrix| self.inner.matrix_bytes(matrix)).sum()
    }

    fn embed(&mut self, table: &Self::Matrix, tokens: &[TokenId]) -> Self::Tensor {
        self.inner.embed(&table.base, tokens)
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

    /// Scores that something is added to do not stay on the device.
    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        match self.changes_output {
            true => None,
            false => self.inner.ahead(),
        }
    }
}
