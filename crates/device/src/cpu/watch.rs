//! Who watches what goes into experts. A device alone knows which rows an expert gets, and what goes into its last matrix.

use std::fmt;
use std::sync::Arc;

use super::expert_store::ExpertMatrices;
use super::experts::Routes;
use super::{CpuOps, Tensor};

/// Rows `[n_row, n_in]` that go into a matrix of one expert.
#[derive(Debug)]
pub struct ExpertRows<'a> {
    /// The tensor `[n_expert, n_out, n_in]`.
    pub tensor: &'a str,
    /// Experts of it.
    pub n_expert: usize,
    /// Which of them.
    pub expert: usize,
    /// Values of a row.
    pub n_in: usize,
    /// The rows, one behind the other.
    pub rows: &'a [f32],
}

/// Is told of every expert's rows in every step.
#[derive(Clone)]
pub struct ExpertWatch(Arc<dyn Fn(&ExpertRows<'_>) + Send + Sync>);

impl ExpertWatch {
    /// What `tell` makes of the rows.
    pub fn new(tell: impl Fn(&ExpertRows<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for ExpertWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExpertWatch")
    }
}

impl CpuOps {
    /// Has every expert's rows told.
    #[must_use]
    pub fn with_expert_watch(self, watch: ExpertWatch) -> Self {
        Self {
            watch: Some(watch),
            ..self
        }
    }

    /// Tells of the rows of `x` that stand at each place of `rows`, which go into these matrices of that place's expert.
    pub(super) fn tell(
        &self,
        routes: &Routes,
        x: &Tensor,
        rows: &[usize],
        into: &[&ExpertMatrices],
    ) {
        let Some(ExpertWatch(tell)) = &self.watch else {
            return;
        };
        for (expert, places) in routes.runs() {
            let of_expert = rows[places].iter().map(|&row| x.row(row));
            let gathered: Vec<f32> = of_expert.flatten().copied().collect();
            for matrices in into {
                let (tensor, n_expert) = matrices.tensor();
                tell(&ExpertRows {
                    tensor,
                    n_expert,
                    expert,
                    n_in: x.width(),
                    rows: &gathered,
                });
            }
        }
    }
}
