//! How a block's weights are multiplied with its activations, and summed, exactly.
//!
//! A register of weights holds four columns of four rows, one of activations 16 columns of a token. Activations may be
//! -128, though quantization never writes it.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::block::{QUARTERS, Weights};
use crate::activations::BLOCK;

/// Sums of `T` tokens: for each those of all rows.
type Sums<const T: usize> = [[int32x4_t; QUARTERS]; T];

/// An arithmetic.
///
/// # Safety
/// Of all functions: the CPU has the instructions of the implementation.
pub(super) trait Dot {
    /// Tokens whose sums the registers hold side by side: 2 or 4.
    const TOKENS: usize;

    /// The sums of products over some halves of a block.
    ///
    /// # Safety
    /// The block is there, and `q` points to `[T][32]` activations.
    unsafe fn sums<W: Weights, const T: usize>(
        weights: W,
        q: *const i8,
        halves: Range<usize>,
    ) -> Sums<T>;

    /// The lanes of steps `2 i` and `2 i + 1` as they lie in a panel taken apart.
    #[inline(always)]
    unsafe fn arranged(lanes: [int8x16_t; 2]) -> [int8x16_t; 2] {
        lanes
    }
}

/// Products of one register of weights at a time with the activations of one token: `LANE` tells which four of 16.
trait ByLane {
    /// What products are added to.
    type Sum: Copy;

    unsafe fn zero() -> Self::Sum;
    unsafe fn add<const LANE: i32>(sum: Self::Sum, w: int8x16_t, x: int8x16_t) -> Self::Sum;
    unsafe fn total(sum: Self::Sum) -> int32x4_t;
}

/// `each_lane!(|LANE| body)`: the body, compiled for each lane.
macro_rules! each_lane {
    (|$lane:ident| $body:expr) => {
        each_lane!(@ 0, $lane, $body);
        each_lane!(@ 1, $lane, $body);
        each_lane!(@ 2, $lane, $body);
        each_lane!(@ 3, $lane, $body);
    };
    (@ $index:literal, $lane:ident, $body:expr) => {{
        const $lane: i32 = $index;
        $body
    }};
}

#[inline(always)]
unsafe fn by_lane<L: ByLane, W: Weights, const T: usize>(
    weights: W,
    q: *const i8,
    halves: Range<usize>,
) -> Sums<T> {
    // SAFETY: forwarded from the caller.
    unsafe {
        let mut sums = [[L::zero(); QUARTERS]; T];
        for half in halves {
            let mut x = [vdupq_n_s8(0); T];
            for (t, x) in x.iter_mut().enumerate() {
                *x = vld1q_s8(q.add(t * BLOCK + half * 16));
            }
            each_lane!(|LANE| for quarter in 0..QUARTERS {
                let w = weights.lane(half * 4 + LANE as usize, quarter);
                for (sums, x) in sums.iter_mut().zip(x) {
                    sums[quarter] = L::add::<LANE>(sums[quarter], w, x);
                }
            });
        }
        let mut totals = [[vdupq_n_s32(0); QUARTERS]; T];
        for (totals, sums) in totals.iter_mut().zip(sums) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = L::total(sum);
            }
        }
        totals
    }
}

/// Four activations in every row's lane.
#[inline(always)]
unsafe fn broadcast<const LANE: i32>(x: int8x16_t) -> int8x16_t {
    // SAFETY: forwarded from the caller.
    unsafe { vreinterpretq_s8_s32(vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(x))) }
}

/// NEON alone: products have 16 bits, and their sums too where weights are small enough.
pub(super) struct Widened;

impl Dot for Widened {
    const TOKENS: usize = 2;

    #[inline(always)]
    unsafe fn sums<W: Weights, const T: usize>(
        weights: W,
        q: *const i8,
        halves: Range<usize>,
    ) -> Sums<T> {
        // A 16-bit lane takes one product of each step, and a half of a block has four.
        let steps = if W::HALVES { 4 } else { 8 };
        // SAFETY: forwarded from the caller.
        unsafe {
            if W::SIZE * 128 * steps <= i16::MAX.into() {
                by_lane::<Words, W, T>(weights, q, halves)
            } else {
                by_lane::<Pairs, W, T>(weights, q, halves)
            }
        }
    }
}

/// Sums of 16 bits: of two rows, and of two.
struct Words;

impl ByLane for Words {
    type Sum = [int16x8_t; 2];

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        // SAFETY: forwarded from the caller.
        [unsafe { vdupq_n_s16(0) }; 2]
    }
    #[inline(always)]
    unsafe fn add<const LANE: i32>(sum: Self::Sum, w: int8x16_t, x: int8x16_t) -> Self::Sum {
        // SAFETY: forwarded from the caller.
        unsafe {
            let x = broadcast::<LANE>(x);
            [
                vmlal_s8(sum[0], vget_low_s8(w), vget_low_s8(x)),
                vmlal_high_s8(sum[1], w, x),
            ]
        }
    }
    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> int32x4_t {
        // SAFETY: forwarded from the caller.
        unsafe { vpaddq_s32(vpaddlq_s16(sum[0]), vpaddlq_s16(sum[1])) }
    }
}

/// Sums of 32 bits, two for each row: even two products of bytes may not fit 16.
struct Pairs;

impl ByLane for Pairs {
    type Sum = [int32x4_t; 2];

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        // SAFETY: forwarded from the caller.
        [unsafe { vdupq_n_s32(0) }; 2]
    }
    #[inline(always)]
    unsafe fn add<const LANE: i32>(sum: Self::Sum, w: int8x16_t, x: int8x16_t) -> Self::Sum {
        // SAFETY: forwarded from the caller.
        unsafe {
            let x = broadcast::<LANE>(x);
            [
                vpadalq_s16(sum[0], vmull_s8(vget_low_s8(w), vget_low_s8(x))),
                vpadalq_s16(sum[1], vmull_high_s8(w, x)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> int32x4_t {
        // SAFETY: forwarded from the caller.
        unsafe { vpaddq_s32(sum[0], sum[1]) }
    }
}

/// `sdot`: four products of bytes are added to a lane of 32 bits.
pub(super) struct Sdot;

impl Dot for Sdot {
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn sums<W: Weights, const T: usize>(
        weights: W,
        q: *const i8,
        halves: Range<usize>,
    ) -> Sums<T> {
        // SAFETY: forwarded from the caller.
        unsafe { by_lane::<Self, W, T>(weights, q, halves) }
    }
}

impl ByLane for Sdot {
    type Sum = int32x4_t;

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: forwarded from the caller.
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn add<const LANE: i32>(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: forwarded from the caller. (The intrinsic is not stable.)
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
                sum = inout(vreg) sum, w = in(vreg) w, x = in(vreg) x, lane = const LANE,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }
    #[inline(always)]
    unsafe fn total(sum: int32x4_t) -> int32x4_t {
        sum
    }
}

/// `smmla`: eight columns of two tokens times those of two rows.
pub(super) struct Smmla;

impl Smmla {
    /// `[token][row]`, two of each.
    #[inline(always)]
    unsafe fn add(mut sum: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
        // SAFETY: forwarded from the caller. (The intrinsic is not stable.)
        unsafe {
            asm!(
                "smmla {sum:v}.4s, {x:v}.16b, {w:v}.16b",
                sum = inout(vreg) sum, x = in(vreg) x, w = in(vreg) w,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }
}

impl Dot for Smmla {
    const TOKENS: usize = 4;

    #[inline(always)]
    #[expect(
        clippy::needless_range_loop,
        reason = "indices name registers: the loops are unrolled"
    )]
    unsafe fn sums<W: Weights, const T: usize>(
        weights: W,
        q: *const i8,
        halves: Range<usize>,
    ) -> Sums<T> {
        // SAFETY: forwarded from the caller.
        unsafe {
            // Of two tokens at the first one's place, for each quarter its first two rows and its last two.
            let mut sums = [[[vdupq_n_s32(0); 2]; QUARTERS]; T];
            for eight in halves.start * 2..halves.end * 2 {
                let columns = |t: usize| vld1_s8(q.add(t * BLOCK + eight * 8));
                let mut x = [vdupq_n_s8(0); T];
                for t in (0..T).step_by(2) {
                    // A single token is its own neighbour.
                    x[t] = vcombine_s8(columns(t), columns((t + 1).min(T - 1)));
                }
                for quarter in 0..QUARTERS {
                    for side in 0..2 {
                        let w = weights.lane(eight * 2 + side, quarter);
                        for t in (0..T).step_by(2) {
                            let sum = &mut sums[t][quarter][side];
                            *sum = Self::add(*sum, x[t], w);
                        }
                    }
                }
            }
            let mut totals = [[vdupq_n_s32(0); QUARTERS]; T];
            for t in (0..T).step_by(2) {
                for quarter in 0..QUARTERS {
                    let [first, last] = sums[t][quarter].map(|sum| vreinterpretq_s64_s32(sum));
                    totals[t][quarter] = vreinterpretq_s32_s64(vzip1q_s64(first, last));
                    if t + 1 < T {
                        totals[t + 1][quarter] = vreinterpretq_s32_s64(vzip2q_s64(first, last));
                    }
                }
            }
            totals
        }
    }

    /// Eight columns of two rows, and of the other two.
    #[inline(always)]
    unsafe fn arranged(lanes: [int8x16_t; 2]) -> [int8x16_t; 2] {
        // SAFETY: forwarded from the caller.
        unsafe {
            let [a, b] = lanes.map(|lane| vreinterpretq_s32_s8(lane));
            [
                vreinterpretq_s8_s32(vzip1q_s32(a, b)),
                vreinterpretq_s8_s32(vzip2q_s32(a, b)),
            ]
        }
    }
}
