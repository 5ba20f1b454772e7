//! One block of 32 columns of 16 rows times a few tokens: what all integer products are made of.

use std::arch::x86_64::*;

use super::dot::Dot;
use super::format::Shape;
use crate::activations::{BLOCK, QuantizedTile};

/// A block's weights, packed or taken apart.
pub(super) trait Weights: Copy {
    /// Lane `step` of rows `half * 8 ..`.
    ///
    /// # Safety
    /// The CPU has AVX2, and the block is there.
    unsafe fn lane(self, step: usize, half: usize) -> __m256i;
    /// Its scales `[SCALES][16]`.
    fn scale(self) -> *const f32;
    /// Its minima `[SCALES][16]`, if the format has any.
    fn min(self) -> *const f32;
}

/// Adds the products of a block with blocks `at .. at + T` of `x`, which are those of `T` tokens, to `acc`.
///
/// Sums of integers are exact, and each is added by one fused multiply-add, in the same order as in every kernel set:
/// so results agree to the bit. `steps` is `STEPS / SCALES`: a constant if the loop is to be unrolled.
///
/// # Safety
/// The CPU has the features of `D` and FMA; `weights` are those of format `F`, and `x` has the blocks.
#[inline(always)]
pub(super) unsafe fn block<F: Shape, D: Dot, const T: usize>(
    weights: impl Weights,
    steps: usize,
    x: QuantizedTile<'_>,
    at: usize,
    acc: &mut [[__m256; 2]; T],
) {
    debug_assert!((at + T) * BLOCK <= x.q.len() && at + T <= x.scale.len());
    debug_assert_eq!(steps, D::STEPS / F::SCALES);
    // SAFETY: in bounds as asserted; the rest is forwarded from the caller.
    unsafe {
        let q = D::activations::<T>(x.q.as_ptr().add(at * BLOCK));
        for part in 0..F::SCALES {
            let mut start = [_mm256_setzero_si256(); T];
            if F::OFFSET != 0 {
                for (t, start) in start.iter_mut().enumerate() {
                    let neg_sum = *x.neg_sum.get_unchecked(at + t);
                    let neg_sum = match F::SCALES {
                        1 => neg_sum[0] + neg_sum[1],
                        _ => neg_sum[part],
                    };
                    *start = _mm256_set1_epi32(neg_sum * F::OFFSET);
                }
            }
            let mut run = [[_mm256_setzero_si256(); 2]; T];
            for t in 0..T {
                run[t] = [D::begin(start[t]), D::begin(start[t])];
            }
            for step in (part * steps..(part + 1) * steps).step_by(2) {
                let w = [
                    [weights.lane(step, 0), weights.lane(step + 1, 0)],
                    [weights.lane(step, 1), weights.lane(step + 1, 1)],
                ];
                for (t, run) in run.iter_mut().enumerate() {
                    let x = [D::broadcast(&q, t, step), D::broadcast(&q, t, step + 1)];
                    run[0] = D::step(run[0], w[0], x);
                    run[1] = D::step(run[1], w[1], x);
                }
            }
            for (t, acc) in acc.iter_mut().enumerate() {
                let scale_x = _mm256_set1_ps(*x.scale.get_unchecked(at + t));
                for (half, acc) in acc.iter_mut().enumerate() {
                    let sum = D::finish(run[t][half], start[t]);
                    let scale_w = _mm256_loadu_ps(weights.scale().add(part * 16 + half * 8));
                    let scale = _mm256_mul_ps(scale_w, scale_x);
                    *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, *acc);
                }
            }
        }
        if F::MIN && F::SCALES == 2 {
            for (t, acc) in acc.iter_mut().enumerate() {
                let scale_x = _mm256_set1_ps(*x.scale.get_unchecked(at + t));
                for part in 0..2 {
                    let neg_sum = x.neg_sum.get_unchecked(at + t)[part];
                    let neg_sum = _mm256_set1_ps(neg_sum as f32);
                    for (half, acc) in acc.iter_mut().enumerate() {
                        let min = _mm256_loadu_ps(weights.min().add(part * 16 + half * 8));
                        *acc = _mm256_fmadd_ps(neg_sum, _mm256_mul_ps(min, scale_x), *acc);
                    }
                }
            }
        } else if F::MIN {
            for (t, acc) in acc.iter_mut().enumerate() {
                let scaled_sum = _mm256_set1_ps(*x.scaled_sum.get_unchecked(at + t));
                for (half, acc) in acc.iter_mut().enumerate() {
                    let min = _mm256_loadu_ps(weights.min().add(half * 8));
                    *acc = _mm256_fnmadd_ps(min, scaled_sum, *acc);
                }
            }
        }
    }
}

/// Writes the 16 outputs of each pair of accumulators.
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
