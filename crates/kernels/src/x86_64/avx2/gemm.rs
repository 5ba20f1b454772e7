//! A panel taken apart times a tile of tokens: reading a prompt.

use std::arch::x86_64::*;

use super::block::{Scales, Weights, block, store};
use super::dot::Dot;
use super::format::Format;
use super::gemv::prefetch;
use crate::activations::{BLOCK, QuantizedTile};
use crate::unpacked::Unpacked;

/// Takes a panel apart into f32 scales and weights `[n_in/32][STEPS][16]` lanes, as `D` takes them.
///
/// # Safety
/// The CPU has the features; `panel` is a panel of `n_in` columns of the format and `out` has room for it.
#[inline(always)]
pub(super) unsafe fn unpack<F: Format, D: Dot>(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    let (blocks, panel) = (n_in / BLOCK, panel.as_ptr());
    let (scale, min) = (
        out.scale.as_mut_ptr().cast::<f32>(),
        out.min.as_mut_ptr().cast::<f32>(),
    );
    let mut to = out.q.as_mut_ptr();
    // SAFETY: forwarded from the caller.
    unsafe {
        for index in 0..blocks / F::SUPER {
            let first = index * F::SUPER;
            let (scale, min) = (scale.add(first * F::SCALES * 16), min.add(first * 16));
            F::scales(panel, blocks, index, scale, min);
            for at in (first..first + F::SUPER).step_by(F::CYCLE) {
                lanes::<F, D, 0>(panel, at, to);
                if F::CYCLE > 1 {
                    lanes::<F, D, 1>(panel, at + 1, to.add(D::STEPS * 64));
                }
                if F::CYCLE > 2 {
                    lanes::<F, D, 2>(panel, at + 2, to.add(2*D::STEPS * 64));
                    lanes::<F, D, 3>(panel, at + 3, to.add(3*D::STEPS * 64));
                }
                to = to.add(F::CYCLE * D::STEPS * 64);
            }
        }
    }
}

#[inline(always)]
unsafe fn lanes<F: Format, D: Dot, const AT: usize>(panel: *const u8, at: usize, to: *mut u8) {
    unsafe {
    prefetch::<F>(panel, at);
    for step in 0..D::STEPS {
        for half in 0..2 {
            let weights = F::weights::<AT>(panel, at, step, half);
            _mm256_storeu_si256(to.add(step * 64 + half * 32).cast(), weights);
        }
    }
    }
}

/// A block of a panel taken apart.
#[derive(Clone, Copy)]
struct Lanes(*const u8);

impl Weights for Lanes {
    #[inline(always)]
    unsafe fn load(self, step: usize, half: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { _mm256_loadu_si256(self.0.add(step * 64 + half * 32).cast()) }
    }
}

/// One panel taken apart times a tile of tokens: `out` `[len][16]`.
///
/// # Safety
/// The CPU has the features; `w` holds `n_in` columns, `x` a tile of `n_in` columns, `out` 16 values per token.
#[inline(always)]
pub(super) unsafe fn gemm<F: Format, D: Dot>(
    w: &Unpacked,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match x.len {
            16 if D::TOKENS == 2 => tile::<F, D, 2, 8>(w, n_in, x, out),
            16 if D::TOKENS == 8 => tile::<F, D, 8, 2>(w, n_in, x, out),
            16 => tile::<F, D, 4, 4>(w, n_in, x, out),
            8 => tile::<F, D, 4, 2>(w, n_in, x, out),
            4 => tile::<F, D, 4, 1>(w, n_in, x, out),
            2 => tile::<F, D, 2, 1>(w, n_in, x, out),
            _ => tile::<F, D, 1, 1>(w, n_in, x, out),
        }
    }
}

/// `GROUPS` times `T` tokens: those of a group stay in registers while a block of weights passes by.
#[inline(always)]
unsafe fn tile<F: Format, D: Dot, const T: usize, const GROUPS: usize>(
    w: &Unpacked,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    debug_assert!(x.len == T * GROUPS && x.q.len() == x.len * n_in && out.len() >= x.len * 16);
    // SAFETY: sizes as the caller guarantees; block `b` of token `t` is at `b * x.len + t`.
    unsafe {
        let (scale, min) = (w.scale.as_ptr().cast::<f32>(), w.min.as_ptr().cast::<f32>());
        let opaque = std::hint::black_box(D::STEPS / F::SCALES);
        let mut acc = [[[_mm256_setzero_ps(); 2]; T]; GROUPS];
        for at in 0..n_in / BLOCK {
            let quants = w.q.as_ptr().add(at * D::STEPS * 64);
            let weights = Lanes(quants);
            let scales = Scales {
                scale: scale.add(at * F::SCALES * 16),
                min: min.add(at * 16),
            };
            for (group, acc) in acc.iter_mut().enumerate() {
                let first = (at * GROUPS + group) * T;
                block::<F, D, T>(weights, scales, x, first, acc, opaque);
            }
        }
        store(acc.as_flattened(), out);
    }
}
