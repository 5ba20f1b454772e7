//! Activations in host memory, whose buffers are used again.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use troika_kernels::Pool;

type FreeList = Arc<Mutex<Vec<Vec<f32>>>>;

/// Buffers that are not in use. A step needs the same few sizes again and again, and fresh memory of megabytes would
/// be mapped, zeroed and unmapped by the system each time.
#[derive(Debug, Default)]
pub(super) struct TensorPool {
    free: FreeList,
}

impl TensorPool {
    /// A tensor `[n_tok, width]` with unspecified contents.
    pub(super) fn take(&self, n_tok: usize, width: usize) -> Tensor {
        let len = n_tok * width;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest buffer that is large enough, so that a row does not take a batch's place.
        let fitting = (0..free.len())
            .filter(|&i| free[i].capacity() >= len)
            .min_by_key(|&i| free[i].capacity());
        let mut values = fitting.map(|i| free.swap_remove(i)).unwrap_or_default();
        drop(free);
        // Never shrunk: growing again would zero what is about to be overwritten.
        if values.len() < len {
            values.resize(len, 0.0);
        }
        Tensor {
            n_tok,
            width,
            values,
            free: Arc::clone(&self.free),
        }
    }
}

/// Activations `[n_tok, width]` f32, row-major.
#[derive(Debug)]
pub struct Tensor {
    n_tok: usize,
    width: usize,
    /// At least `n_tok * width` of them.
    values: Vec<f32>,
    free: FreeList,
}

impl Tensor {
    /// Rows.
    pub fn n_tok(&self) -> usize {
        self.n_tok
    }

    /// Row length.
    pub fn width(&self) -> usize {
        self.width
    }

    pub(super) fn row(&self, token: usize) -> &[f32] {
        &self[token * self.width..][..self.width]
    }

    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let width = self.width;
        self.chunks_exact_mut(width)
    }

    /// Calls `f(token, row)` for every row, `grain` rows a task, on the pool's threads.
    pub(super) fn for_each_row(
        &mut self,
        pool: &Pool,
        grain: usize,
        f: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let width = self.width;
        pool.for_each_chunk(self, width * grain, |first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                f(first / width + i, row);
            }
        });
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(std::mem::take(&mut self.values));
    }
}

impl Deref for Tensor {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.n_tok * self.width]
    }
}

impl DerefMut for Tensor {
    fn deref_mut(&mut self) -> &mut [f32] {
        let len = self.n_tok * self.width;
        &mut self.values[..len]
    }
}
