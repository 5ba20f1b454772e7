//! Packed panels times one token: decoding, which reads every weight once and should be as fast as memory.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::block::{QUARTERS, Weights, block, store};
use super::dot::Dot;
use super::prefetch;
use super::rows::Quarter;
use crate::activations::{BLOCK, QuantizedTile};
use crate::panel::{Panel, PanelFormat, Rows};

/// Bytes that are asked for ahead of the block at hand.
const AHEAD_BYTES: usize = 4096;

/// `count` panels times one token: `out` `[count][16]`.
///
/// # Safety
/// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` one token, `out` `count * 16`.
#[inline(always)]
pub(super) unsafe fn gemv<F: PanelFormat, D: Dot>(
    panels: &[u8],
    count: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let panels = panels.chunks_exact(panels.len() / count);
    for (panel, out) in panels.zip(out.chunks_exact_mut(16)) {
        let panel = panel.as_ptr();
        // SAFETY: the panel has `n_in` columns, as the caller guarantees.
        unsafe {
            let mut acc = [[vdupq_n_f32(0.0); QUARTERS]];
            for at in 0..n_in / BLOCK {
                let ahead = panel.wrapping_add(AHEAD_BYTES + at * F::BLOCK_BYTES);
                for line in (0..F::BLOCK_BYTES).step_by(64) {
                    prefetch(ahead.wrapping_add(line));
                }
                block::<_, D, 1>(Packed::<F>::new(panel, at), x, at, &mut acc);
            }
            store(&acc, out);
        }
    }
}

/// A block of a packed panel.
pub(super) struct Packed<F> {
    panel: *const u8,
    block: usize,
    format: PhantomData<F>,
}

impl<F> Packed<F> {
    #[inline(always)]
    pub(super) fn new(panel: *const u8, block: usize) -> Self {
        Self {
            panel,
            block,
            format: PhantomData,
        }
    }

    #[inline(always)]
    fn rows(self, quarter: usize) -> Panel {
        Panel {
            start: self.panel,
            row: quarter * Quarter::COUNT,
        }
    }
}

impl<F> Clone for Packed<F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Packed<F> {}

impl<F: PanelFormat> Packed<F> {
    /// Whether bytes have 128 on top, and lose it as they become signed.
    const RAISED: bool = F::MAX > i8::MAX as u8;
}

impl<F: PanelFormat> Weights for Packed<F> {
    const OFFSET: i32 = if Self::RAISED {
        F::OFFSET - 128
    } else {
        F::OFFSET
    };
    const SIZE: i32 = if Self::RAISED { 128 } else { F::MAX as i32 };
    const HALVES: bool = F::HALVES;
    const MIN: bool = F::MIN;

    #[inline(always)]
    unsafe fn lane(self, step: usize, quarter: usize) -> int8x16_t {
        // SAFETY: forwarded from the caller.
        unsafe {
            let quants = F::quants::<Quarter>(self.rows(quarter), self.block, step);
            let bytes = vreinterpretq_s8_u32(quants.0);
            match Self::RAISED {
                true => veorq_s8(bytes, vdupq_n_s8(i8::MIN)),
                false => bytes,
            }
        }
    }
    #[inline(always)]
    unsafe fn scale(self, half: usize, quarter: usize) -> float32x4_t {
        // SAFETY: forwarded from the caller.
        unsafe { F::scale::<Quarter>(self.rows(quarter), self.block, half) }
    }
    #[inline(always)]
    unsafe fn min(self, half: usize, quarter: usize) -> float32x4_t {
        // SAFETY: forwarded from the caller.
        unsafe { F::min::<Quarter>(self.rows(quarter), self.block, half) }
    }
}
