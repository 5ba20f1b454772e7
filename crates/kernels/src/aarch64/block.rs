//! One block of 32 columns of 16 rows times a few tokens: what all integer products are made of.

use std::arch::aarch64::*;

use super::dot::Dot;
use crate::activations::{BLOCK, QuantizedTile};

/// Quarters of a panel: registers for one number of each row.
pub(super) const QUARTERS: usize = 4;

/// A block's weights, packed or taken apart: signed bytes.
///
/// # Safety
/// Of all functions: the CPU has NEON, and the block is there.
pub(super) trait Weights: Copy {
    /// What is added to every weight.
    const OFFSET: i32;
    /// No byte is further from 0.
    const SIZE: i32;
    /// Whether scales and minima are those of 16 columns, not of 32.
    const HALVES: bool;
    /// Whether there are minima, which are subtracted from every weight.
    const MIN: bool;

    /// Columns `4 * step ..` of rows `4 * quarter ..`; taken apart, as [`Dot::arranged`] has left them.
    unsafe fn lane(self, step: usize, quarter: usize) -> int8x16_t;
    /// The scales of rows `4 * quarter ..`; `half` tells the halves of a block apart where they differ.
    unsafe fn scale(self, half: usize, quarter: usize) -> float32x4_t;
    /// The minima, likewise, of formats that have them.
    unsafe fn min(self, half: usize, quarter: usize) -> float32x4_t;
}

/// Accumulators of `T` tokens: for each the outputs of all rows.
pub(super) type Outputs<const T: usize> = [[float32x4_t; QUARTERS]; T];

/// Adds the products of a block with blocks `at .. at + T` of `x`, which are those of `T` tokens, to `acc`.
///
/// Sums of integers are exact, and each is added by one fused multiply-add, in the same order as in every kernel set:
/// so results agree to the bit.
///
/// # Safety
/// The CPU has the features of `D`; `x` has the blocks.
#[inline(always)]
pub(super) unsafe fn block<W: Weights, D: Dot, const T: usize>(
    weights: W,
    x: QuantizedTile<'_>,
    at: usize,
    acc: &mut Outputs<T>,
) {
    debug_assert!((at + T) * BLOCK <= x.q.len() && at + T <= x.scale.len());
    // SAFETY: in bounds as asserted; the rest is forwarded from the caller.
    unsafe {
        let q = x.q.as_ptr().add(at * BLOCK);
        if W::HALVES {
            for half in 0..2 {
                let sums = D::sums::<W, T>(weights, q, half..half + 1);
                let neg_sum = |t: usize| x.neg_sum.get_unchecked(at + t)[half];
                add_scaled(weights, half, sums, neg_sum, x, at, acc);
            }
        } else {
            let sums = D::sums::<W, T>(weights, q, 0..2);
            let neg_sum = |t: usize| x.neg_sum.get_unchecked(at + t).iter().sum();
            add_scaled(weights, 0, sums, neg_sum, x, at, acc);
        }
        if W::MIN {
            subtract_minima(weights, x, at, acc);
        }
    }
}

/// Adds sums of integers, without what the offset has added to them, times their scales.
#[inline(always)]
unsafe fn add_scaled<W: Weights, const T: usize>(
    weights: W,
    half: usize,
    sums: [[int32x4_t; QUARTERS]; T],
    neg_sum: impl Fn(usize) -> i32,
    x: QuantizedTile<'_>,
    at: usize,
    acc: &mut Outputs<T>,
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        for quarter in 0..QUARTERS {
            let scale_w = weights.scale(half, quarter);
            for (t, acc) in acc.iter_mut().enumerate() {
                let mut sum = sums[t][quarter];
                if W::OFFSET != 0 {
                    sum = vaddq_s32(sum, vdupq_n_s32(neg_sum(t) * W::OFFSET));
                }
                let scale = vmulq_n_f32(scale_w, *x.scale.get_unchecked(at + t));
                acc[quarter] = vfmaq_f32(acc[quarter], vcvtq_f32_s32(sum), scale);
            }
        }
    }
}

#[inline(always)]
unsafe fn subtract_minima<W: Weights, const T: usize>(
    weights: W,
    x: QuantizedTile<'_>,
    at: usize,
    acc: &mut Outputs<T>,
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        for (t, acc) in acc.iter_mut().enumerate() {
            let (scale_x, neg_sum) = (
                *x.scale.get_unchecked(at + t),
                x.neg_sum.get_unchecked(at + t),
            );
            let scaled_sum = vdupq_n_f32(*x.scaled_sum.get_unchecked(at + t));
            for (quarter, acc) in acc.iter_mut().enumerate() {
                if W::HALVES {
                    for (half, neg_sum) in neg_sum.iter().enumerate() {
                        let min = vmulq_n_f32(weights.min(half, quarter), scale_x);
                        *acc = vfmaq_f32(*acc, vdupq_n_f32(*neg_sum as f32), min);
                    }
                } else {
                    *acc = vfmsq_f32(*acc, weights.min(0, quarter), scaled_sum);
                }
            }
        }
    }
}

/// Writes the 16 outputs of each token.
///
/// # Safety
/// The CPU has NEON.
#[inline(always)]
pub(super) unsafe fn store(acc: &[[float32x4_t; QUARTERS]], out: &mut [f32]) {
    for (acc, out) in acc.iter().zip(out.as_chunks_mut::<16>().0) {
        for (acc, out) in acc.iter().zip(out.as_chunks_mut::<4>().0) {
            // SAFETY: 4 floats are there.
            unsafe { vst1q_f32(out.as_mut_ptr(), *acc) }
        }
    }
}
