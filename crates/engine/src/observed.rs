//! Operations of a device, with an observer of what goes into products. What they compute is the device's.

use troika_base::TokenId;
use troika_device::{Error, Logits, Ops};
use troika_gguf::{ModelFile, TensorInfo};

use crate::importance::Observer;
use crate::wrapped::pass_on_to_inner;

/// A device's operations, observed. Which rows an expert gets is known to the device alone, which tells of those itself.
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

    pass_on_to_inner!();

    fn load_matrix(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Self::Matrix, Error> {
        Ok(Named {
            name: tensor.name.clone(),
            matrix: self.inner.load_matrix(file, tensor)?,
        })
    }

    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize {
        self.inner.matrix_bytes(&matrix.matrix)
    }

    fn embed(&mut self, table: &Self::Matrix, tokens: &[TokenId]) -> Self::Tensor {
        self.inner.embed(&table.matrix, tokens)
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

    fn logits(&mut self, x: &Self::Tensor, output: &Self::Matrix) -> Result<Logits, Error> {
        self.observe(x, &[output])?;
        self.inner.logits(x, &output.matrix)
    }
}
