//! The formats of [`panel`](crate::panel) as the loops here take them: packed, and taken apart.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::dot::Words;
use super::format::{Format, Shape};
use super::rows::YmmRows;
use crate::panel::{Panel, PanelFormat, Rows, raise};

#[inline(always)]
fn rows(panel: *const u8, half: usize) -> Panel {
    Panel {
        start: panel,
        row: half * YmmRows::COUNT,
    }
}

/// Scales and minima of a block.
#[inline(always)]
unsafe fn scales<F: PanelFormat>(panel: *const u8, block: usize, scale: *mut f32, min: *mut f32) {
    for half in 0..2 {
        let panel = rows(panel, half);
        for part in 0..if F::HALVES { 2 } else { 1 } {
            // SAFETY: forwarded from the caller.
            unsafe {
                let at = part * 16 + half * 8;
                let value = F::scale::<YmmRows>(panel, block, part);
                YmmRows::store_float(value, scale.add(at));
                if F::MIN {
                    let value = F::min::<YmmRows>(panel, block, part);
                    YmmRows::store_float(value, min.add(at));
                }
            }
        }
    }
}

/// Unsigned bytes as the format gives them, or `RAISED` to have 128 on top.
pub(super) struct Bytes<F, const RAISED: bool = false>(PhantomData<F>);

impl<F: PanelFormat, const RAISED: bool> Shape for Bytes<F, RAISED> {
    const OFFSET: i32 = if RAISED && !F::MIN { 128 } else { F::OFFSET };
    const SCALES: usize = if F::HALVES { 2 } else { 1 };
    const MIN: bool = F::MIN;
}

impl<F: PanelFormat, const RAISED: bool> Format for Bytes<F, RAISED> {
    const SUPER: usize = 1;
    const BLOCK_BYTES: usize = F::BLOCK_BYTES;
    const CYCLE: usize = 1;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(
        panel: *const u8,
        block: usize,
        step: usize,
        half: usize,
    ) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe {
            let quants = F::quants::<YmmRows>(rows(panel, half), block, step);
            match RAISED {
                true => quants.add(YmmRows::splat(raise::<F>())).0,
                false => quants.0,
            }
        }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, index: usize, scale: *mut f32, min: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe { scales::<F>(panel, index, scale, min) }
    }
}

/// [`Words::place`], by the number of scales.
#[inline(always)]
const fn place<F: PanelFormat>(step: usize) -> (usize, usize) {
    match F::HALVES {
        true => Words::<2>::place(step),
        false => Words::<1>::place(step),
    }
}

/// Signed 16-bit numbers, in the order of [`Words`], of a format without minima.
pub(super) struct Signed<F>(PhantomData<F>);

impl<F: PanelFormat> Shape for Signed<F> {
    const OFFSET: i32 = 0;
    const SCALES: usize = if F::HALVES { 2 } else { 1 };
    const MIN: bool = false;
}

impl<F: PanelFormat> Format for Signed<F> {
    const SUPER: usize = 1;
    const BLOCK_BYTES: usize = F::BLOCK_BYTES;
    const CYCLE: usize = 1;

    /// Lanes of 16 columns, first the even columns and then the odd ones; so that halves of a block, which may differ in
    /// scale, stay apart.
    #[inline(always)]
    unsafe fn weights<const AT: usize>(
        panel: *const u8,
        block: usize,
        step: usize,
        half: usize,
    ) -> __m256i {
        let (step, odd) = place::<F>(step);
        // SAFETY: forwarded from the caller.
        unsafe {
            let quants = F::quants::<YmmRows>(rows(panel, half), block, step);
            let raised = quants.add(YmmRows::splat(raise::<F>()));
            let signed = raised.xor(YmmRows::splat(0x8080_8080));
            Words::<1>::extend(signed.0, odd)
        }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, index: usize, scale: *mut f32, min: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe { scales::<F>(panel, index, scale, min) }
    }
}

/// A panel taken apart.
pub(super) struct Apart<const OFFSET: i32, const SCALES: usize, const MIN: bool>;

impl<const OFFSET: i32, const SCALES: usize, const MIN: bool> Shape for Apart<OFFSET, SCALES, MIN> {
    const OFFSET: i32 = OFFSET;
    const SCALES: usize = SCALES;
    const MIN: bool = MIN;
}

/// The arithmetic of AVX2 alone: bytes while they are small, else words.
pub(super) mod plain {
    use super::super::dot::{Nibbles, SixBits, Words};
    use super::super::{gemm as matrix, gemv as vector};
    use super::{Apart, Bytes, Signed};
    use crate::activations::QuantizedTile;
    use crate::panel::PanelFormat;
    use crate::unpacked::{Correction, Unpacked};

    /// See [`vector::gemv`].
    #[inline(always)]
    pub(in super::super) unsafe fn gemv<F: PanelFormat>(
        panels: &[u8],
        count: usize,
        n_in: usize,
        x: QuantizedTile<'_>,
        out: &mut [f32],
    ) {
        // SAFETY: forwarded from the caller.
        unsafe {
            match (F::MAX, F::HALVES) {
                (0..16, _) => vector::gemv::<Bytes<F>, Nibbles>(panels, count, n_in, x, out),
                (16..64, _) => vector::gemv::<Bytes<F>, SixBits>(panels, count, n_in, x, out),
                (_, false) => vector::gemv::<Signed<F>, Words<1>>(panels, count, n_in, x, out),
                (_, true) => vector::gemv::<Signed<F>, Words<2>>(panels, count, n_in, x, out),
            }
        }
    }

    /// See [`matrix::unpack`].
    #[inline(always)]
    pub(in super::super) unsafe fn unpack<F: PanelFormat>(
        panel: &[u8],
        n_in: usize,
        out: &mut Unpacked,
    ) {
        // SAFETY: forwarded from the caller.
        unsafe {
            match (F::MIN, F::HALVES) {
                (true, _) => matrix::unpack::<Bytes<F>, SixBits>(panel, n_in, out),
                (false, false) => matrix::unpack::<Signed<F>, Words<1>>(panel, n_in, out),
                (false, true) => matrix::unpack::<Signed<F>, Words<2>>(panel, n_in, out),
            }
        }
    }

    /// See [`matrix::gemm`].
    #[inline(always)]
    pub(in super::super) unsafe fn gemm(
        correction: Correction,
        w: &Unpacked,
        n_in: usize,
        x: QuantizedTile<'_>,
        out: &mut [f32],
    ) {
        // SAFETY: forwarded from the caller.
        unsafe {
            match correction {
                Correction::Minimum => matrix::gemm::<Apart<0, 1, true>, SixBits>(w, n_in, x, out),
                Correction::MinimumHalf => {
                    matrix::gemm::<Apart<0, 2, true>, SixBits>(w, n_in, x, out)
                }
                Correction::Offset128Half => {
                    matrix::gemm::<Apart<0, 2, false>, Words<2>>(w, n_in, x, out)
                }
                _ => matrix::gemm::<Apart<0, 1, false>, Words<1>>(w, n_in, x, out),
            }
        }
    }
}

/// The arithmetic of AVX-VNNI: bytes of any size.
pub(super) mod quads {
    use super::super::dot::Quads;
    use super::super::{gemm as matrix, gemv as vector};
    use super::{Apart, Bytes};
    use crate::activations::QuantizedTile;
    use crate::panel::PanelFormat;
    use crate::unpacked::{Correction, Unpacked};

    /// See [`vector::gemv`].
    #[inline(always)]
    pub(in super::super) unsafe fn gemv<F: PanelFormat>(
        panels: &[u8],
        count: usize,
        n_in: usize,
        x: QuantizedTile<'_>,
        out: &mut [f32],
    ) {
        // SAFETY: forwarded from the caller.
        unsafe { vector::gemv::<Bytes<F>, Quads>(panels, count, n_in, x, out) }
    }

    /// See [`matrix::unpack`].
    #[inline(always)]
    pub(in super::super) unsafe fn unpack<F: PanelFormat>(
        panel: &[u8],
        n_in: usize,
        out: &mut Unpacked,
    ) {
        // SAFETY: forwarded from the caller.
        unsafe { matrix::unpack::<Bytes<F, true>, Quads>(panel, n_in, out) }
    }

    /// See [`matrix::gemm`].
    #[inline(always)]
    pub(in super::super) unsafe fn gemm(
        correction: Correction,
        w: &Unpacked,
        n_in: usize,
        x: QuantizedTile<'_>,
        out: &mut [f32],
    ) {
        // SAFETY: forwarded from the caller.
        unsafe {
            match correction {
                Correction::Minimum => matrix::gemm::<Apart<0, 1, true>, Quads>(w, n_in, x, out),
                Correction::MinimumHalf => {
                    matrix::gemm::<Apart<0, 2, true>, Quads>(w, n_in, x, out)
                }
                Correction::Offset128Half => {
                    matrix::gemm::<Apart<128, 2, false>, Quads>(w, n_in, x, out)
                }
                _ => matrix::gemm::<Apart<128, 1, false>, Quads>(w, n_in, x, out),
            }
        }
    }
}
