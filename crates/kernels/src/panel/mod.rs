//! How packed panels of most formats are read: for 16 rows at a time, with the same code in every kernel set.
//!
//! All formats come down to unsigned bytes with a scale, and perhaps a minimum, for each 32 columns or each 16. What a row
//! needs for four columns lies in 32-bit lanes of its own, so reading a format is written once, over [`Rows`]: arrays for
//! the reference, registers for the others. Q4_0, Q8_0, Q4_K and Q6_K are here too, but the reference and the sets for
//! x86-64 have code of their own for them. Start at [`PanelFormat`].

mod blocks;
mod grids;
mod rows;
mod super_blocks;
mod usual;

use crate::activations::BLOCK;
use crate::packed::{Field, PANEL_ROWS};
use crate::unpacked::Unpacked;

pub(crate) use blocks::{Iq4Nl, Mxfp4, Nvfp4, Q4_1, Q5_0, Q5_1};
pub(crate) use grids::{Iq1M, Iq1S, Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs};
pub(crate) use rows::{ArrayRows, Rows};
pub(crate) use super_blocks::{Iq4Xs, Q2K, Q3K, Q5K, Tq1_0, Tq2_0};
pub(crate) use usual::{Q4_0, Q4K, Q6K, Q8_0};

/// A format as it lies in panels.
///
/// # Safety
/// Of its unsafe functions: as [`Rows`] asks, and the panel has the block.
pub(crate) trait PanelFormat {
    /// Bytes that a block of 32 columns takes in a panel, on average.
    const BLOCK_BYTES: usize;
    /// What is added to every weight to make it unsigned; 0 if there are minima.
    const OFFSET: i32;
    /// The largest unsigned weight.
    const MAX: u8;
    /// Whether scales and minima are those of 16 columns, not of 32.
    const HALVES: bool;
    /// Whether there are minima, which are subtracted.
    const MIN: bool;

    /// Where the parts of a block of the file lie in a panel.
    fn fields() -> Vec<Field>;

    /// The unsigned weights of columns `4 step ..` of a block.
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V;

    /// The scale of a block, or of a half of it.
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, half: usize) -> V::Float;

    /// The minimum of a block, or of a half of it; zero if there are none.
    #[inline(always)]
    unsafe fn min<V: Rows>(_panel: Panel, _block: usize, _half: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { V::splat(0).bits() }
    }
}

/// Some rows of a packed panel, from row `row` on.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    pub(crate) start: *const u8,
    pub(crate) row: usize,
}

impl Panel {
    /// Dword `index` of the rows' dwords at `offset`.
    #[inline(always)]
    unsafe fn dword<V: Rows>(self, offset: usize, index: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe { V::load(self.start.add(offset + (index * PANEL_ROWS + self.row) * 4)) }
    }

    /// The rows' 16-bit numbers at `offset`.
    #[inline(always)]
    unsafe fn word<V: Rows>(self, offset: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe { V::load_words(self.start.add(offset + self.row * 2)) }
    }

    /// The rows' f16 at `offset`.
    #[inline(always)]
    unsafe fn half<V: Rows>(self, offset: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { self.word::<V>(offset).half() }
    }
}

/// The same byte four times.
const fn bytes(byte: u8) -> u32 {
    u32::from_le_bytes([byte; 4])
}

/// Bits `at .. at + count` of every byte.
#[inline(always)]
unsafe fn bits<V: Rows>(v: V, at: usize, count: usize) -> V {
    // SAFETY: forwarded from the caller.
    unsafe { v.shr(at).and(V::splat(bytes((1 << count) - 1))) }
}

/// Bit `at` of every byte, as bit `to`.
#[inline(always)]
unsafe fn bit<V: Rows>(v: V, at: usize, to: usize) -> V {
    // SAFETY: forwarded from the caller.
    unsafe {
        let v = if at < to {
            v.shl(to - at)
        } else {
            v.shr(at - to)
        };
        v.and(V::splat(bytes(1 << to)))
    }
}

/// Bits `at .. at + count` of every row's number.
#[inline(always)]
unsafe fn part<V: Rows>(v: V, at: usize, count: usize) -> V {
    // SAFETY: forwarded from the caller.
    unsafe { v.shr(at).and(V::splat((1 << count) - 1)) }
}

/// What is added to the weights of formats with an offset as a panel is taken apart: then all have 128 on top.
pub(crate) const fn raise<F: PanelFormat>() -> u32 {
    if F::MIN {
        0
    } else {
        bytes((128 - F::OFFSET) as u8)
    }
}

/// Takes a panel apart into unsigned bytes `[n_in/4][16][4]`, of formats with an offset all with 128 on top, and f32
/// scales and minima.
///
/// # Safety
/// As [`Rows`] asks; `panel` is a panel of `n_in` columns of the format and `out` has room for it.
#[inline(always)]
pub(crate) unsafe fn unpack<F: PanelFormat, V: Rows>(
    panel: &[u8],
    n_in: usize,
    out: &mut Unpacked,
) {
    let (scale, min) = (
        out.scale.as_mut_ptr().cast::<f32>(),
        out.min.as_mut_ptr().cast::<f32>(),
    );
    let q = out.q.as_mut_ptr();
    let parts = if F::HALVES { 2 } else { 1 };
    for block in 0..n_in / BLOCK {
        for row in (0..PANEL_ROWS).step_by(V::COUNT) {
            let panel = Panel {
                start: panel.as_ptr(),
                row,
            };
            // SAFETY: forwarded from the caller; each block has its place.
            unsafe {
                for step in 0..8 {
                    let quants = F::quants::<V>(panel, block, step).add(V::splat(raise::<F>()));
                    quants.store(q.add(((block * 8 + step) * PANEL_ROWS + row) * 4));
                }
                for half in 0..parts {
                    let at = (block * parts + half) * PANEL_ROWS + row;
                    V::store_float(F::scale::<V>(panel, block, half), scale.add(at));
                    if F::MIN {
                        V::store_float(F::min::<V>(panel, block, half), min.add(at));
                    }
                }
            }
        }
    }
}

/// `with_format!(dtype, F => expression)`: the expression with `F` as the [`PanelFormat`] of `dtype`, which is none of the
/// four with code of their own.
macro_rules! with_format {
    ($dtype:expr, $format:ident => $then:expr) => {
        $crate::panel::with_format!(@ $dtype, $format, $then;
            Q4_1 => Q4_1, Q5_0 => Q5_0, Q5_1 => Q5_1, Q2_K => Q2K, Q3_K => Q3K, Q5_K => Q5K, IQ4_NL => Iq4Nl,
            IQ4_XS => Iq4Xs, MXFP4 => Mxfp4, NVFP4 => Nvfp4, TQ1_0 => Tq1_0, TQ2_0 => Tq2_0, IQ1_S => Iq1S,
            IQ1_M => Iq1M, IQ2_XXS => Iq2Xxs, IQ2_XS => Iq2Xs, IQ2_S => Iq2S, IQ3_XXS => Iq3Xxs, IQ3_S => Iq3S)
    };
    (@ $dtype:expr, $format:ident, $then:expr; $($name:ident => $type:ident),*) => {
        match $dtype {
            $(troika_base::DType::$name => {
                type $format = $crate::panel::$type;
                $then
            })*
            other => unreachable!("{other} is not read by rows. This is a bug."),
        }
    };
}
pub(crate) use with_format;

/// As [`with_format`], of every integer format.
macro_rules! with_any_format {
    ($dtype:expr, $format:ident => $then:expr) => {
        $crate::panel::with_any_format!(@ $dtype, $format, $then; Q4_0 => Q4_0, Q8_0 => Q8_0, Q4_K => Q4K, Q6_K => Q6K)
    };
    (@ $dtype:expr, $format:ident, $then:expr; $($name:ident => $type:ident),*) => {
        match $dtype {
            $(troika_base::DType::$name => {
                type $format = $crate::panel::$type;
                $then
            })*
            other => $crate::panel::with_format!(other, $format => $then),
        }
    };
}
pub(crate) use with_any_format;
