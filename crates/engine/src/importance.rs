//! What goes into a model's matrices while it reads a text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use troika_base::TokenId;
use troika_device::Device;
use troika_device::cpu::CpuOps;

use crate::observed::Observed;
use crate::{CpuDevice, Error, Model, OpsDevice, Session};

/// Sums of the squares of what a matrix was multiplied with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnSums {
    /// Of each column, over all rows of activations.
    pub squares: Vec<f64>,
    /// Rows of activations.
    pub rows: u64,
}

/// Sees what goes into the matrices of the models that are loaded on its device.
#[derive(Clone, Debug, Default)]
pub struct Observer(Arc<Mutex<BTreeMap<String, ColumnSums>>>);

impl Observer {
    /// The CPU, with this observer beside it.
    pub fn device(&self, cpu: &CpuDevice) -> impl Device + use<> {
        let (observer, kernels, pool) = (self.clone(), cpu.kernels(), Arc::clone(cpu.pool()));
        OpsDevice::new(cpu.name().to_owned(), cpu.description(), move |_: &_, _| {
            let ops = CpuOps::new(kernels, Arc::clone(&pool));
            Ok((Observed::new(ops, observer.clone()), None))
        })
    }

    /// What was seen so far, by the names of the tensors.
    pub fn seen(&self) -> BTreeMap<String, ColumnSums> {
        self.lock().clone()
    }

    /// Adds rows `[n_tok, n_in]` that go into matrices of these names.
    pub(crate) fn add<'n>(&self, rows: &[f32], n_in: usize, names: impl Iterator<Item = &'n str>) {
        let mut squares = vec![0.0; n_in];
        for row in rows.chunks_exact(n_in) {
            for (sum, x) in squares.iter_mut().zip(row) {
                *sum += f64::from(x * x);
            }
        }
        let mut seen = self.lock();
        for name in names {
            let sums = seen.entry(name.to_owned()).or_default();
            sums.squares.resize(n_in, 0.0);
            for (sum, squares) in sums.squares.iter_mut().zip(&squares) {
                *sum += squares;
            }
            sums.rows += (rows.len() / n_in) as u64;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ColumnSums>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Model {
    /// Reads a text in windows of `n_ctx` tokens, each token with its logits, for an [`Observer`] to see. Returns how many
    /// windows were read; `progress` is told how many of how many are done, and may break it off.
    ///
    /// # Errors
    /// If there is not one whole window, or the model cannot run.
    pub fn read_windows(
        &mut self,
        tokens: &[TokenId],
        n_ctx: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<usize, Error> {
        let windows = self.windows(tokens, n_ctx)?;
        for (done, window) in (1..).zip(&windows) {
            let mut session = Session::new(self);
            // A step's logits are kept small.
            for tokens in window.chunks(128) {
                session.score(tokens)?;
            }
            if progress(done, windows.len()).is_break() {
                return Ok(done);
            }
        }
        Ok(windows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_summed_by_column() {
        let observer = Observer::default();
        observer.add(&[1.0, 2.0, 3.0, 4.0], 2, ["a", "b"].into_iter());
        observer.add(&[1.0, 0.0], 2, ["a"].into_iter());
        let seen = observer.seen();
        assert_eq!(
            (&seen["a"].squares[..], seen["a"].rows),
            (&[11.0, 20.0][..], 3)
        );
        assert_eq!(
            (&seen["b"].squares[..], seen["b"].rows),
            (&[10.0, 20.0][..], 2)
        );
    }
}
