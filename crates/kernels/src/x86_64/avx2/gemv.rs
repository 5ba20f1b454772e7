//! Packed panels times one token: decoding, which reads every weight once and should be as fast as memory.
//!
//! A panel is one stream, read from front to back with a prefetch of our own.

use std::arch::x86_64::*;
use std::hint::black_box;
use std::marker::PhantomData;

use super::block::{Weights, block, store};
use super::dot::Dot;
use super::format::{Format, each_block};
use crate::activations::{BLOCK, QuantizedTile};

/// Bytes that are asked for ahead of the super-block at hand, which is begun with the scales at its end.
const AHEAD_BYTES: usize = 4096;

/// The most scales of a super-block, and room for as many minima, of all rows: 16 each of Q6_K.
const SUPER_SCALES: usize = 16 * 16;

/// `count` panels times one token: `out` `[count][16]`.
///
/// # Safety
/// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` one token, `out` `count * 16`.
#[inline(always)]
pub(super) unsafe fn gemv<F: Format, D: Dot>(
    panels: &[u8],
    count: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let panels = panels.chunks_exact(panels.len() / count);
    let mut scale = [0.0f32; SUPER_SCALES];
    let mut min = [0.0f32; SUPER_SCALES];
    // Unrolled, the four blocks of a cycle would be mixed until registers run out, and memory read out of order.
    let steps = match F::CYCLE {
        4 => black_box(D::STEPS / F::SCALES),
        _ => D::STEPS / F::SCALES,
    };
    for (panel, out) in panels.zip(out.chunks_exact_mut(16)) {
        let panel = panel.as_ptr();
        // SAFETY: the panel has `n_in` columns, as the caller guarantees; the scales of a super-block fit the arrays.
        unsafe {
            let mut acc = [[_mm256_setzero_ps(); 2]];
            for index in 0..n_in / (BLOCK * F::SUPER) {
                let first = index * F::SUPER;
                F::scales(panel, index, scale.as_mut_ptr(), min.as_mut_ptr());
                each_block!(F, first, |at, AT| {
                    let ahead = AHEAD_BYTES + (F::SUPER + at) * F::BLOCK_BYTES;
                    prefetch(panel.wrapping_add(ahead), F::BLOCK_BYTES);
                    let weights = Packed::<F, AT> {
                        panel,
                        block: at,
                        scale: scale[(at - first) * F::SCALES * 16..].as_ptr(),
                        min: min[(at - first) * F::SCALES * 16..].as_ptr(),
                        format: PhantomData,
                    };
                    block::<F, D, 1>(weights, steps, x, at, &mut acc);
                });
            }
            store(&acc, out);
        }
    }
}

/// Asks for the cache lines of `len` bytes at `p`, which may be any address.
#[inline(always)]
fn prefetch(p: *const u8, len: usize) {
    for line in (0..len).step_by(64) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(line).cast()) }
    }
}

/// A block of a packed panel.
struct Packed<F, const AT: usize> {
    panel: *const u8,
    block: usize,
    scale: *const f32,
    min: *const f32,
    format: PhantomData<F>,
}

impl<F, const AT: usize> Clone for Packed<F, AT> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F, const AT: usize> Copy for Packed<F, AT> {}

impl<F: Format, const AT: usize> Weights for Packed<F, AT> {
    #[inline(always)]
    unsafe fn lane(self, step: usize, half: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { F::weights::<AT>(self.panel, self.block, step, half) }
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
