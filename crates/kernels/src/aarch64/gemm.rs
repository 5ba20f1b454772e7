//! A panel taken apart times a tile of tokens: reading a prompt.

use std::arch::aarch64::*;

use super::block::{QUARTERS, Weights, block, store};
use super::dot::Dot;
use super::gemv::Packed;
use crate::activations::{BLOCK, QuantizedTile};
use crate::panel::PanelFormat;
use crate::unpacked::Unpacked;

/// Whether sums of a format's weights, without its offset, times activations fit 16 bits, as [`Dot`] adds them there.
pub(super) const fn are_small<F: PanelFormat>() -> bool {
    let above = F::MAX as i32 - F::OFFSET;
    let size = if above > F::OFFSET { above } else { F::OFFSET };
    size <= small(F::HALVES)
}

/// The largest small weight: a half of a block adds four products, a block eight.
const fn small(halves: bool) -> i32 {
    if halves { 63 } else { 31 }
}

/// Takes a panel apart into f32 scales and signed weights `[n_in/4][4 quarters]`, without offset, as `D` takes them.
///
/// # Safety
/// The CPU has the features; `panel` is a panel of `n_in` columns of the format and `out` has room for it.
#[inline(always)]
pub(super) unsafe fn unpack<F: PanelFormat, D: Dot>(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    let (scale, min) = (
        out.scale.as_mut_ptr().cast::<f32>(),
        out.min.as_mut_ptr().cast::<f32>(),
    );
    let q = out.q.as_mut_ptr().cast::<i8>();
    let parts = if F::HALVES { 2 } else { 1 };
    for block in 0..n_in / BLOCK {
        let weights = Packed::<F>::new(panel.as_ptr(), block);
        for quarter in 0..QUARTERS {
            // SAFETY: forwarded from the caller; each register of a block has its place.
            unsafe {
                let offset = vdupq_n_s8(Packed::<F>::OFFSET as i8);
                let lane = |step| vsubq_s8(weights.lane(step, quarter), offset);
                for step in (0..8).step_by(2) {
                    let lanes = D::arranged([lane(step), lane(step + 1)]);
                    for (side, lane) in lanes.into_iter().enumerate() {
                        vst1q_s8(
                            q.add(((block * 8 + step + side) * QUARTERS + quarter) * 16),
                            lane,
                        );
                    }
                }
                for half in 0..parts {
                    let at = (block * parts + half) * 16 + quarter * 4;
                    vst1q_f32(scale.add(at), weights.scale(half, quarter));
                    if F::MIN {
                        vst1q_f32(min.add(at), weights.min(half, quarter));
                    }
                }
            }
        }
    }
}

/// A block of a panel taken apart.
#[derive(Clone, Copy)]
struct Apart<const SMALL: bool, const HALVES: bool, const MIN: bool> {
    lanes: *const i8,
    scale: *const f32,
    min: *const f32,
}

impl<const SMALL: bool, const HALVES: bool, const MIN: bool> Weights for Apart<SMALL, HALVES, MIN> {
    const OFFSET: i32 = 0;
    const SIZE: i32 = if SMALL { small(HALVES) } else { 128 };
    const HALVES: bool = HALVES;
    const MIN: bool = MIN;

    #[inline(always)]
    unsafe fn lane(self, step: usize, quarter: usize) -> int8x16_t {
        // SAFETY: forwarded from the caller.
        unsafe { vld1q_s8(self.lanes.add((step * QUARTERS + quarter) * 16)) }
    }
    #[inline(always)]
    unsafe fn scale(self, half: usize, quarter: usize) -> float32x4_t {
        // SAFETY: forwarded from the caller.
        unsafe { vld1q_f32(self.scale.add(half * 16 + quarter * 4)) }
    }
    #[inline(always)]
    unsafe fn min(self, half: usize, quarter: usize) -> float32x4_t {
        // SAFETY: forwarded from the caller.
        unsafe { vld1q_f32(self.min.add(half * 16 + quarter * 4)) }
    }
}

/// One panel taken apart times a tile of tokens: `out` `[len][16]`.
///
/// # Safety
/// The CPU has the features; `w` holds `n_in` columns, `x` a tile of `n_in` columns, `out` 16 values per token.
#[inline(always)]
pub(super) unsafe fn gemm<const SMALL: bool, const HALVES: bool, const MIN: bool, D: Dot>(
    w: &Unpacked,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match (x.len, D::TOKENS) {
            (16, 4) => tile::<SMALL, HALVES, MIN, D, 4, 4>(w, n_in, x, out),
            (8, 4) => tile::<SMALL, HALVES, MIN, D, 4, 2>(w, n_in, x, out),
            (4, 4) => tile::<SMALL, HALVES, MIN, D, 4, 1>(w, n_in, x, out),
            (16, _) => tile::<SMALL, HALVES, MIN, D, 2, 8>(w, n_in, x, out),
            (8, _) => tile::<SMALL, HALVES, MIN, D, 2, 4>(w, n_in, x, out),
            (4, _) => tile::<SMALL, HALVES, MIN, D, 2, 2>(w, n_in, x, out),
            (2, _) => tile::<SMALL, HALVES, MIN, D, 2, 1>(w, n_in, x, out),
            _ => tile::<SMALL, HALVES, MIN, D, 1, 1>(w, n_in, x, out),
        }
    }
}

/// `GROUPS` times `T` tokens. The sums of a group stay in registers while a block of weights passes by; its f32
/// accumulators wait in memory.
#[inline(always)]
unsafe fn tile<
    const SMALL: bool,
    const HALVES: bool,
    const MIN: bool,
    D: Dot,
    const T: usize,
    const GROUPS: usize,
>(
    w: &Unpacked,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    debug_assert!(x.len == T * GROUPS && x.q.len() == x.len * n_in && out.len() >= x.len * 16);
    let parts = if HALVES { 2 } else { 1 };
    let lanes = w.q.as_ptr().cast::<i8>();
    let (scale, min) = (w.scale.as_ptr().cast::<f32>(), w.min.as_ptr().cast::<f32>());
    // SAFETY: sizes as the caller guarantees; block `b` of token `t` is at `b * x.len + t`.
    unsafe {
        let mut acc = [[[vdupq_n_f32(0.0); QUARTERS]; T]; GROUPS];
        for at in 0..n_in / BLOCK {
            let weights = Apart::<SMALL, HALVES, MIN> {
                lanes: lanes.add(at * BLOCK * 16),
                scale: scale.add(at * parts * 16),
                min: min.add(at * parts * 16),
            };
            for (group, acc) in acc.iter_mut().enumerate() {
                block::<_, D, T>(weights, x, (at * GROUPS + group) * T, acc);
            }
        }
        store(acc.as_flattened(), out);
    }
}
