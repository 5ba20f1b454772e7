//! One block of 32 columns of 16 rows times a few tokens: what all integer products are made of.

use std::arch::x86_64::*;

use super::dot::Dot;
use super::format::Format;
use crate::activations::{BLOCK, QuantizedTile};

/// A block's scales `[SCALES][16]` and minima `[16]`.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) scale: *const f32,
    pub(super) min: *const f32,
}

/// Where a block's weights come from.
///
/// # Safety
/// The CPU has AVX2, and the block is there.
pub(super) trait Weights: Copy {
    /// Those of step `step`, rows `half * 8 ..`.
    unsafe fn load(self, step: usize, half: usize) -> __m256i;
}

/// Adds the products with blocks `at..at + T` of `x`, which are those of `T` tokens, to `acc` `[T][2]`.
///
/// Sums of integers are exact and each is added by one fused multiply-add, in the same order as in every kernel set,
/// so results agree to the bit.
///
/// # Safety
/// The CPU has the features of `D` and FMA; `x` has the blocks and `scales` are those of format `F`.
#[inline(always)]
pub(super) unsafe fn block<F: Format, D: Dot, const T: usize>(
    weights: impl Weights,
    scales: Scales,
    x: QuantizedTile<'_>,
    at: usize,
    acc: &mut [[__m256; 2]; T],
    opaque: usize,
) {
    debug_assert!((at + T) * BLOCK <= x.q.len() && at + T <= x.scale.len());
    // SAFETY: in bounds as asserted; the rest is forwarded from the caller.
    unsafe {
        let q = D::activations::<T>(x.q.as_ptr().add(at * BLOCK));
        let steps = if T > 1 { opaque } else { D::STEPS / F::SCALES };
        for part in 0..F::SCALES {
            let mut sum = [[_mm256_setzero_si256(); 2]; T];
            if F::OFFSET != 0 {
                for t in 0..T {
                    let [n0, n1] = *x.neg_sum.get_unchecked(at + t);
                    let neg_sum = if F::SCALES == 1 {
                        n0 + n1
                    } else if part == 0 {
                        n0
                    } else {
                        n1
                    };
                    let start = _mm256_set1_epi32(neg_sum * F::OFFSET);
                    sum[t] = [start, start];
                }
            }
            let mut run = sum;
            for t in 0..T {
                run[t] = [D::begin(sum[t][0]), D::begin(sum[t][1])];
            }
            let end = (part + 1) * steps;
            let mut step = part * steps;
            while step < end {
                let w = [
                    [weights.load(step, 0), weights.load(step, 1)],
                    [weights.load(step + 1, 0), weights.load(step + 1, 1)],
                ];
                for t in 0..T {
                    let x = [D::broadcast(&q, t, step), D::broadcast(&q, t, step + 1)];
                    run[t][0] = D::step(run[t][0], [w[0][0], w[1][0]], x);
                    run[t][1] = D::step(run[t][1], [w[0][1], w[1][1]], x);
                }
                step += 2;
            }
            for t in 0..T {
                sum[t][0] = D::finish(run[t][0], sum[t][0]);
                sum[t][1] = D::finish(run[t][1], sum[t][1]);
            }
            for t in 0..T {
                let scale_x = _mm256_set1_ps(*x.scale.get_unchecked(at + t));
                for half in 0..2 {
                    let scale_w = _mm256_loadu_ps(scales.scale.add(part * 16 + half * 8));
                    acc[t][half] = _mm256_fmadd_ps(
                        _mm256_cvtepi32_ps(sum[t][half]),
                        _mm256_mul_ps(scale_w, scale_x),
                        acc[t][half],
                    );
                }
            }
        }
        if F::MIN {
            for t in 0..T {
                let scaled_sum = _mm256_set1_ps(*x.scaled_sum.get_unchecked(at + t));
                for half in 0..2 {
                    let min = _mm256_loadu_ps(scales.min.add(half * 8));
                    acc[t][half] = _mm256_fnmadd_ps(min, scaled_sum, acc[t][half]);
                }
            }
        }
    }
}

/// Writes the 16 outputs of each accumulator pair.
///
/// # Safety
/// The CPU has AVX.
#[inline(always)]
pub(super) unsafe fn store(acc: &[[__m256; 2]], out: &mut [f32]) {
    for (acc, out) in acc.iter().zip(out.as_chunks_mut::<16>().0) {
        // SAFETY: 16 floats are there.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), acc[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), acc[1]);
        }
    }
}
