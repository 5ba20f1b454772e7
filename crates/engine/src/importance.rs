//! What goes into a model's matrices while it reads a text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use troika_base::TokenId;
use troika_device::Device;
use troika_device::cpu::{CpuOps, ExpertRows, ExpertWatch};

use crate::observed::Observed;
use crate::{CpuDevice, Error, Model, OpsDevice, Session};

/// Sums of the squares of what a matrix was multiplied with, or each of some experts' matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnSums {
    /// Of each column, over all rows of activations: `[n_matrix, n_in]`.
    pub squares: Vec<f64>,
    /// Rows of activations that went into each matrix.
    pub rows: Vec<u64>,
}

/// Sees what goes into the matrices of the models that are loaded on its device.
#[derive(Clone, Debug, Default)]
pub struct Observer(Arc<Mutex<BTreeMap<String, ColumnSums>>>);

impl Observer {
    /// The CPU, with this observer beside it.
    pub fn device(&self, cpu: &CpuDevice) -> impl Device + use<> {
        let (observer, kernels, pool) = (self.clone(), cpu.kernels(), Arc::clone(cpu.pool()));
        OpsDevice::new(cpu.name().to_owned(), cpu.description(), move |_: &_, _| {
            let of_experts = observer.clone();
            let watch = ExpertWatch::new(move |rows| of_experts.add_expert(rows));
            let ops = CpuOps::new(kernels, Arc::clone(&pool)).with_expert_watch(watch);
            Ok((Observed::new(ops, observer.clone()), None))
        })
    }

    /// What was seen so far, by the names of the tensors.
    pub fn seen(&self) -> BTreeMap<String, ColumnSums> {
        self.lock().clone()
    }

    /// Adds rows `[n_tok, n_in]` that go into matrices of these names.
    pub(crate) fn add<'n>(&self, rows: &[f32], n_in: usize, names: impl Iterator<Item = &'n str>) {
        let squares = squares(rows, n_in);
        let mut seen = self.lock();
        for name in names {
            let sums = seen.entry(name.to_owned()).or_default();
            sums.add((0, 1), &squares, rows.len() / n_in);
        }
    }

    fn add_expert(&self, seen: &ExpertRows<'_>) {
        let squares = squares(seen.rows, seen.n_in);
        let n_row = seen.rows.len() / seen.n_in;
        let mut all = self.lock();
        let sums = all.entry(seen.tensor.to_owned()).or_default();
        sums.add((seen.expert, seen.n_expert), &squares, n_row);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ColumnSums>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ColumnSums {
    /// Adds rows of the matrix `at` of `n`.
    fn add(&mut self, (at, n): (usize, usize), squares: &[f64], n_row: usize) {
        self.squares.resize(n * squares.len(), 0.0);
        self.rows.resize(n, 0);
        let sums = &mut self.squares[at * squares.len()..][..squares.len()];
        for (sum, squares) in sums.iter_mut().zip(squares) {
            *sum += squares;
        }
        self.rows[at] += n_row as u64;
    }
}

/// The sum of each column's squares over rows `[n_row, n_in]`.
fn squares(rows: &[f32], n_in: usize) -> Vec<f64> {
    let mut squares = vec![0.0; n_in];
    for row in rows.chunks_exact(n_in) {
        for (sum, x) in squares.iter_mut().zip(row) {
            *sum += f64::from(x * x);
        }
    }
    squares
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
            (&seen["a"].squares[..], &seen["a"].rows[..]),
            (&[11.0, 20.0][..], &[3][..])
        );
        assert_eq!(
            (&seen["b"].squares[..], &seen["b"].rows[..]),
            (&[10.0, 20.0][..], &[2][..])
        );
    }

    #[test]
    fn experts_have_sums_of_their_own() {
        let observer = Observer::default();
        let see = |expert, rows: &[f32]| {
            observer.add_expert(&ExpertRows {
                tensor: "e",
                n_expert: 3,
                expert,
                n_in: 2,
                rows,
            });
        };
        see(2, &[1.0, 2.0, 3.0, 4.0]);
        see(0, &[5.0, 0.0]);
        see(2, &[0.0, 1.0]);
        let seen = &observer.seen()["e"];
        assert_eq!(seen.squares, [25.0, 0.0, 0.0, 0.0, 10.0, 21.0]);
        assert_eq!(seen.rows, [1, 0, 3]);
    }
}
