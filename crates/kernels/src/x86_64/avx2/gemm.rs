//! A panel taken apart times a tile of tokens: reading a prompt.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::block::{Weights, block, store};
use super::dot::Dot;
use super::format::{Format, Shape, each_block};
use crate::activations::{BLOCK, QuantizedTile};
use crate::unpacked::Unpacked;

/// Takes a panel apart into f32 scales and weights `[n_in/32][STEPS][16]` lanes, as `D` takes them.
///
/// # Safety
/// The CPU has the features; `panel` is a panel of `n_in` columns of the format and `out` has room for it.
#[inline(always)]
pub(super) unsafe fn unpack<F: Format, D: Dot>(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    let (scale, min) = (
        out.scale.as_mut_ptr().cast::<f32>(),
        out.min.as_mut_ptr().cast::<f32>(),
    );
    let (panel, q) = (panel.as_ptr(), out.q.as_mut_ptr());
    for index in 0..n_in / (BLOCK * F::SUPER) {
        let first = index * F::SUPER;
        // SAFETY: forwarded from the caller; the lanes of a block have a place each.
        unsafe {
            let (scale, min) = (
                scale.add(first * F::SCALES * 16),
                min.add(first * F::SCALES * 16),
            );
            F::scales(panel, index, scale, min);
            each_block!(F, first, |block, AT| for step in 0..D::STEPS {
                for half in 0..2 {
                    let to = q.add(((block * D::STEPS + step) * 2 + half) * 32);
                    let weights = F::weights::<AT>(panel, block, step, half);
                    _mm256_storeu_si256(to.cast(), weights);
                }
            });
        }
    }
}

/// A block of a panel taken apart.
#[derive(Clone, Copy)]
struct Apart {
    lanes: *const u8,
    scale: *const f32,
    min: *const f32,
}

impl Weights for Apart {
    #[inline(always)]
    unsafe fn lane(self, step: usize, half: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { _mm256_loadu_si256(self.lanes.add(step * 64 + half * 32).cast()) }
    }
    #[inline(always)]
    fn scale(self) -> *const f32 {
        self.scale
    }
    #[inline(always)]
    fn min(self) -> *const f32 {
        self.min
    }
}

/// One panel taken apart times a tile of tokens: `out` `[len][16]`.
///
/// # Safety
/// The CPU has the features; `w` holds `n_in` columns, `x` a tile of `n_in` columns, `out` 16 values per token.
#[inline(always)]
pub(super) unsafe fn gemm<F: Shape, D: Dot>(
    w: &Unpacked,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match x.len {
            16 => tile::<F, D, 4, 4>(w, n_in, x, out),
            8 => tile::<F, D, 4, 2>(w, n_in, x, out),
            4 => tile::<F, D, 4, 1>(w, n_in, x, out),
            2 => tile::<F, D, 2, 1>(w, n_in, x, out),
            _ => tile::<F, D, 1, 1>(w, n_in, x, out),
        }
    }
}

/// `GROUPS` times `T` tokens. The sums of a group of four stay in eight registers while a block of weights passes by;
/// its f32 accumulators do not fit beside them and wait in memory.
#[inline(always)]
unsafe fn tile<F: Shape, D: Dot, const T: usize, const GROUPS: usize>(
    w: &Unpacked,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    debug_assert!(x.len == T * GROUPS && x.q.len() == x.len * n_in && out.len() >= x.len * 16);
    let (scale, min) = (w.scale.as_ptr().cast::<f32>(), w.min.as_ptr().cast::<f32>());
    // The compiler would unroll the loop over a block and mix its steps until registers run out: 10 to 25 % slower.
    let steps = black_box(D::STEPS / F::SCALES);
    // SAFETY: sizes as the caller guarantees; block `b` of token `t` is at `b * x.len + t`.
    unsafe {
        let mut acc = [[[_mm256_setzero_ps(); 2]; T]; GROUPS];
        for at in 0..n_in / BLOCK {
            let weights = Apart {
                lanes: w.q.as_ptr().add(at * D::STEPS * 64),
                scale: scale.add(at * F::SCALES * 16),
                min: min.add(at * F::SCALES * 16),
            };
            for (group, acc) in acc.iter_mut().enumerate() {
                block::<F, D, T>(weights, steps, x, (at * GROUPS + group) * T, acc);
            }
        }
        store(acc.as_flattened(), out);
    }
}
