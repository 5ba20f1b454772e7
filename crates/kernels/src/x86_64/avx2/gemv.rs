//! Packed panels times one token: decoding, which reads every weight once and is as fast as memory.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::block::{Scales, Weights, block, store};
use super::dot::Dot;
use super::format::Format;
use crate::activations::{BLOCK, QuantizedTile};

/// Bytes ahead of the current block that are asked for: about what arrives while a block is multiplied.
const PREFETCH_BYTES: usize = 8192;

/// The most scales of a super-block, all rows: 16 of Q6_K.
const SUPER_SCALES: usize = 16 * 16;

/// A block of a packed panel.
struct Packed<F, const AT: usize>(*const u8, usize, PhantomData<F>);
impl<F, const AT: usize> Clone for Packed<F, AT> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F, const AT: usize> Copy for Packed<F, AT> {}

impl<F: Format, const AT: usize> Weights for Packed<F, AT> {
    #[inline(always)]
    unsafe fn load(self, step: usize, half: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { F::weights::<AT>(self.0, self.1, step, half) }
    }
}

/// Asks for a block's bytes ahead of time.
///
/// # Safety
/// The CPU has SSE.
#[inline(always)]
pub(super) unsafe fn prefetch<F: Format>(panel: *const u8, block: usize) {
    for line in (0..F::BYTES).step_by(64) {
        let p = panel.wrapping_add(block * F::BYTES + PREFETCH_BYTES + line);
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}

/// `count` panels times one token, four panels at a time so that four streams of memory are read.
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
    let panel_bytes = panels.len() / count;
    let mut panel = 0;
    // SAFETY: forwarded from the caller; each call stays inside its panels.
    unsafe {
        while panel + 4 <= count {
            let (w, out) = (&panels[panel * panel_bytes..], &mut out[panel * 16..]);
            side_by_side::<F, D, 4>(w, panel_bytes, n_in, x, out);
            panel += 4;
        }
        while panel < count {
            let (w, out) = (&panels[panel * panel_bytes..], &mut out[panel * 16..]);
            side_by_side::<F, D, 1>(w, panel_bytes, n_in, x, out);
            panel += 1;
        }
    }
}

#[inline(always)]
unsafe fn side_by_side<F: Format, D: Dot, const P: usize>(
    w: &[u8],
    panel_bytes: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let blocks = n_in / BLOCK;
    let mut scale = [[0.0f32; SUPER_SCALES]; P];
    let mut min = [[0.0f32; SUPER_SCALES]; P];
    // SAFETY: `w` holds P panels; scales of a super-block fit the arrays.
    unsafe {
        let panels: [*const u8; P] = std::array::from_fn(|p| w.as_ptr().add(p * panel_bytes));
        let mut acc = [[[_mm256_setzero_ps(); 2]; 1]; P];
        for index in 0..blocks / F::SUPER {
            for p in 0..P {
                let (scale, min) = (scale[p].as_mut_ptr(), min[p].as_mut_ptr());
                F::scales(panels[p], blocks, index, scale, min);
            }
            for sub in (0..F::SUPER).step_by(F::CYCLE) {
                step::<F, D, P, 0>(&panels, &scale, &min, sub, index * F::SUPER + sub, x, &mut acc);
                if F::CYCLE > 1 {
                    step::<F, D, P, 1>(&panels, &scale, &min, sub + 1, index * F::SUPER + sub + 1, x, &mut acc);
                }
                if F::CYCLE > 2 {
                    step::<F, D, P, 2>(&panels, &scale, &min, sub + 2, index * F::SUPER + sub + 2, x, &mut acc);
                    step::<F, D, P, 3>(&panels, &scale, &min, sub + 3, index * F::SUPER + sub + 3, x, &mut acc);
                }
            }
        }
        store(acc.as_flattened(), out);
    }
}

#[inline(always)]
unsafe fn step<F: Format, D: Dot, const P: usize, const AT: usize>(
    panels: &[*const u8; P], scale: &[[f32; SUPER_SCALES]; P],  min: &[[f32; SUPER_SCALES]; P], sub: usize, at: usize, x: QuantizedTile<'_>,
    acc: &mut [[[__m256; 2]; 1]; P]) {
    unsafe {
                for p in 0..P {
                    prefetch::<F>(panels[p], at);
                    let scales = Scales {
                        scale: scale[p].as_ptr().add(sub * F::SCALES * 16),
                        min: min[p].as_ptr().add(sub * 16),
                    };
                    let weights = Packed::<F, AT>(panels[p], at, PhantomData);
                    block::<F, D, 1>(weights, scales, x, at, &mut acc[p], 0);
                }
    }
}
