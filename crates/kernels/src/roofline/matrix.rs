//! Multiplying: the inner loop of a kernel set on operands that lie in the cache.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use troika_base::DType;

use super::together;
use crate::activations::{QuantizedActivations, TILE_TOKENS, Tile};
use crate::dispatch::Kernels;
use crate::matmul::{GEMM_PANELS, Rows};
use crate::packed::{PANEL_ROWS, PackedMatrix};
use crate::pool::Pool;
use crate::quant;
use crate::tiled::{self, Tiled};
use crate::unpacked::Unpacked;

/// Columns of the matrix that is multiplied: it and a tile of activations lie in the cache nearest to the core.
const N_IN: usize = 1024;

/// How long the inner loop runs at a time, and how often that is tried.
const PEAK_TIME: Duration = Duration::from_millis(20);
const PEAK_ROUNDS: usize = 5;

/// Operations per second (a multiplication and an addition are two) that the inner loop of this kernel set reaches
/// with weights of this format, on all threads, when everything lies in the cache. `None` if the format is not
/// computed.
pub fn matrix_peak(kernels: &Kernels, pool: &Pool, dtype: DType) -> Option<f64> {
    let test = MatrixTest::new(kernels, dtype)?;
    let rounds = (0..PEAK_ROUNDS).map(|_| test.round(pool, pool.threads(), PEAK_TIME));
    Some(rounds.fold(0.0, f64::max))
}

/// A small product to be computed over and over.
#[derive(Debug)]
pub struct MatrixTest<'k> {
    kernels: &'k Kernels,
    /// Two panels.
    w: PackedMatrix,
}

impl<'k> MatrixTest<'k> {
    /// With weights of this format; `None` if it is not computed.
    pub fn new(kernels: &'k Kernels, dtype: DType) -> Option<Self> {
        if !quant::is_computed(dtype) {
            return None;
        }
        // One block, over and over: some formats take long to make.
        let values: Vec<f32> = wave(dtype.block_len()).collect();
        let mut block = vec![0; dtype.block_bytes()];
        quant::quantize_row(dtype, &values, &mut block).ok()?;
        let row = block.repeat(N_IN / dtype.block_len());
        let n_out = GEMM_PANELS * PANEL_ROWS;
        let w = PackedMatrix::from_rows(&Pool::new(1), dtype, n_out, N_IN, &row.repeat(n_out));
        Some(Self { kernels, w })
    }

    /// Whether prompts are multiplied with weights of this format by a matrix unit, and so is this.
    pub fn on_matrix_unit(&self) -> bool {
        self.unit().is_some()
    }

    fn unit(&self) -> Option<&'k Tiled> {
        let unit = self.kernels.tiled.as_ref()?;
        tiled::fits(self.w.dtype(), N_IN, tiled::CHUNK_TOKENS).then_some(unit)
    }

    /// Computes for about `time` on the first `threads` threads of the pool, and returns their operations per second
    /// together.
    pub fn round(&self, pool: &Pool, threads: usize, time: Duration) -> f64 {
        let rate = Mutex::new(0.0);
        together(pool, |thread| {
            if thread < threads {
                let mine = self.ops_per_s(time);
                *rate.lock().unwrap_or_else(PoisonError::into_inner) += mine;
            }
        });
        rate.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// On this thread.
    fn ops_per_s(&self, time: Duration) -> f64 {
        match (self.unit(), self.w.dtype()) {
            (Some(unit), _) => self.on_unit(unit, time),
            (None, DType::F32 | DType::F16 | DType::BF16) => self.in_floats(time),
            (None, _) => self.in_integers(time),
        }
    }

    /// Panels taken apart, times a full tile.
    fn in_integers(&self, time: Duration) -> f64 {
        let unpacked = [(); GEMM_PANELS].map(|()| {
            let mut unpacked = Unpacked::new(N_IN, self.kernels.unpacked_weight_bytes);
            let panel = self.w.panels(0, 1);
            self.kernels
                .unpack(self.w.dtype(), panel, N_IN, &mut unpacked);
            unpacked
        });
        let mut x = QuantizedActivations::default();
        x.resize(TILE_TOKENS, N_IN);
        for (q, value) in x.q.iter_mut().zip(wave(TILE_TOKENS * N_IN)) {
            *q = (value * 127.0) as i8;
        }
        x.scale.fill(0.01);
        let tile = x.tile(Tile {
            start: 0,
            len: TILE_TOKENS,
        });
        let mut out = [0.0; GEMM_PANELS * TILE_TOKENS * PANEL_ROWS];
        ops_per_s(GEMM_PANELS, TILE_TOKENS, time, || {
            self.kernels
                .gemm(self.w.dtype(), &unpacked, N_IN, tile, &mut out);
            black_box(&mut out);
        })
    }

    /// A panel of floats, times a full tile.
    fn in_floats(&self, time: Duration) -> f64 {
        let x: Vec<f32> = wave(TILE_TOKENS * N_IN).collect();
        let mut out = [0.0; TILE_TOKENS * PANEL_ROWS];
        let (dtype, panel) = (self.w.dtype(), self.w.panels(0, 1));
        ops_per_s(1, TILE_TOKENS, time, || {
            self.kernels
                .product(dtype, panel, 1, N_IN, &x, TILE_TOKENS, &mut out);
            black_box(&mut out);
        })
    }

    /// Two panels times a chunk of tokens on the matrix unit, rounding the weights included, as products are computed.
    fn on_unit(&self, unit: &Tiled, time: Duration) -> f64 {
        let n_tok = tiled::CHUNK_TOKENS;
        let values: Vec<f32> = wave(n_tok * N_IN).collect();
        let mut x = tiled::Activations::default();
        let rows: Vec<usize> = (0..n_tok).collect();
        let input = Rows {
            x: &values,
            n_in: N_IN,
            rows: &rows,
        };
        x.fill(unit, &Pool::new(1), input);
        let job = tiled::Job {
            dtype: self.w.dtype(),
            n_in: N_IN,
            panels: self.w.panels(0, GEMM_PANELS),
            count: GEMM_PANELS,
            x: x.chunk(&(0..n_tok)),
            n_tok,
        };
        let mut scratch = tiled::Scratch::EMPTY;
        ops_per_s(GEMM_PANELS, n_tok, time, || {
            unit.product(&job, &mut scratch, |_, _, sums| {
                black_box(sums);
            });
        })
    }
}

/// Values of all sizes, as weights have them.
fn wave(len: usize) -> impl Iterator<Item = f32> {
    (0..len).map(|i| ((i * 31 % 97) as f32 - 48.0) / 48.0)
}

/// Repeats `work`, a product of some panels with some tokens, for about `time`.
fn ops_per_s(panels: usize, n_tok: usize, time: Duration, mut work: impl FnMut()) -> f64 {
    let ops_per_loop = (2 * panels * PANEL_ROWS * n_tok * N_IN) as f64;
    // Looking at the clock takes as long as some thousand operations.
    let between_looks = if n_tok > TILE_TOKENS { 1 } else { 8 };
    let start = Instant::now();
    let mut loops = 0u32;
    loop {
        for _ in 0..between_looks {
            work();
        }
        loops += between_looks;
        let elapsed = start.elapsed();
        if elapsed >= time {
            let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
            return f64::from(loops) * ops_per_loop / seconds;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_computed_format_has_a_peak() {
        let pool = Pool::new(1);
        let kernels = Kernels::all();
        let kernels = kernels.last().expect("the scalar set is always there");
        for &dtype in DType::ALL {
            let peak = matrix_peak(kernels, &pool, dtype);
            assert_eq!(peak.is_some(), quant::is_computed(dtype), "{dtype}");
            assert!(peak.is_none_or(|peak| peak > 0.0), "{dtype}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_matrix_unit_takes_what_prompts_give_it() {
        let Some(kernels) = Kernels::amx_on_any_unit() else {
            return;
        };
        for (dtype, want) in [
            (DType::BF16, true),
            (DType::Q8_0, true),
            (DType::F32, false),
        ] {
            let test = MatrixTest::new(&kernels, dtype).expect("is computed");
            assert_eq!(test.on_matrix_unit(), want, "{dtype}");
            assert!(test.round(&Pool::new(1), 1, Duration::ZERO) > 0.0);
        }
    }
}
