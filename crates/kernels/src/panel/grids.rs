//! Formats whose codes are points of a grid: a gather for each four columns, then their signs.
//!
//! Blocks of 32 columns are counted through. A block has four groups of 8 columns, and a group two steps.

use super::{Panel, PanelFormat, Rows, bit, bytes, part};
use crate::packed::{Field, in_pairs};
use crate::quant::grids;

/// Step `step` of the group's point in a grid of 8 columns.
#[inline(always)]
unsafe fn point<V: Rows>(grid: &[u32], index: V, step: usize) -> V {
    // SAFETY: forwarded from the caller.
    unsafe {
        let at = index.shl(1);
        if step.is_multiple_of(2) {
            at.gather(grid)
        } else {
            at.or(V::splat(1)).gather(grid)
        }
    }
}

/// Four magnitudes with 128 on top, below it where a byte of `negative` is 1.
#[inline(always)]
unsafe fn signed<V: Rows>(magnitudes: V, negative: V) -> V {
    // SAFETY: forwarded from the caller.
    unsafe {
        // 255 for each 1, and `x ^ 255` is `255 - x`: no sum leaves its byte.
        let mask = negative.shl(8).sub(negative);
        magnitudes.or(V::splat(bytes(0x80))).xor(mask).add(negative)
    }
}

/// The signs of a step: of 8 columns 7 bits are stored, from bit `at` on; the last makes their number even.
#[inline(always)]
unsafe fn even_signs<V: Rows>(v: V, at: usize, step: usize) -> V {
    // SAFETY: forwarded from the caller.
    unsafe {
        let seven = part(v, at, 7);
        let four = if step.is_multiple_of(2) {
            seven
        } else {
            let x = seven.xor(seven.shr(4));
            let x = x.xor(x.shr(2));
            let odd = x.xor(x.shr(1)).and(V::splat(1));
            seven.shr(4).or(odd.shl(3))
        };
        let spread = four.or(four.shl(7)).or(four.shl(14)).or(four.shl(21));
        spread.and(V::splat(bytes(1)))
    }
}

/// `d · (1 + 2 code) · unit` of a block with d at `d` and the code in the low bits.
#[inline(always)]
unsafe fn odd_scale<V: Rows>(d: V::Float, code: V, unit: f32) -> V::Float {
    // SAFETY: forwarded from the caller.
    unsafe {
        let odd = code.shl(1).or(V::splat(1)).float();
        V::mul(d, V::mul_f32(odd, unit))
    }
}

/// Per two super-blocks `[2][16]` f16 d, and for each `[8][2][16] dword` of indices, and of signs below a scale.
pub(crate) struct Iq2Xxs;

impl PanelFormat for Iq2Xxs {
    const BLOCK_BYTES: usize = 132;
    const OFFSET: i32 = 128;
    const MAX: u8 = u8::MAX;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| in_pairs(block, 1024).0),
            Field::new(2, 64, 4, |block| in_pairs(block, 1024).1),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub, group) = (in_pairs(block / 8, 1024).1, block % 8, step / 2);
            let index: V = part(panel.dword(start, sub * 2), group * 8, 8);
            let signs = even_signs(panel.dword(start, sub * 2 + 1), group * 7, step);
            signed(point(&grids::IQ2_XXS, index, step), signs)
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (d, start) = in_pairs(block / 8, 1024);
            let code: V = panel.dword::<V>(start, block % 8 * 2 + 1).shr(28);
            odd_scale(panel.half::<V>(d), code, 0.125)
        }
    }
}

/// Per two super-blocks `[2][16]` f16 d, and for each `[16][16] dword` of two indices with signs, `[2][16] dword` of scales.
pub(crate) struct Iq2Xs;

impl PanelFormat for Iq2Xs {
    const BLOCK_BYTES: usize = 148;
    const OFFSET: i32 = 128;
    const MAX: u8 = u8::MAX;
    const HALVES: bool = true;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| in_pairs(block, 1152).0),
            Field::new(2, 72, 4, |block| in_pairs(block, 1152).1),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, group) = (in_pairs(block / 8, 1152).1, step / 2);
            let codes: V = panel.dword(start, block % 8 * 2 + group / 2);
            let at = group % 2 * 16;
            let index = part(codes, at, 9);
            let signs = even_signs(codes, at + 9, step);
            signed(point(&grids::IQ2_XS, index, step), signs)
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, half: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (d, start) = in_pairs(block / 8, 1152);
            let scales: V = panel.dword(start + 1024, block % 8 / 4);
            let code = part(scales, block % 4 * 8 + half * 4, 4);
            odd_scale(panel.half::<V>(d), code, 0.125)
        }
    }
}

/// Per two super-blocks `[2][16]` f16 d, and for each `[8][16] dword` of low index bytes, `[8][16] dword` of signs,
/// `[2][16] dword` of high index bits, `[2][16] dword` of scales.
pub(crate) struct Iq2S;

impl PanelFormat for Iq2S {
    const BLOCK_BYTES: usize = 164;
    const OFFSET: i32 = 128;
    const MAX: u8 = u8::MAX;
    const HALVES: bool = true;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| in_pairs(block, 1280).0),
            Field::new(2, 32, 4, |block| in_pairs(block, 1280).1),
            Field::bits(34, 32, |block| in_pairs(block, 1280).1 + 512),
            Field::new(66, 16, 4, |block| in_pairs(block, 1280).1 + 1024),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub, group) = (in_pairs(block / 8, 1280).1, block % 8, step / 2);
            let low: V = part(panel.dword(start, sub), group * 8, 8);
            let high = panel.dword::<V>(start + 1024, sub / 4);
            let index = low.or(part(high, sub % 4 * 8 + group * 2, 2).shl(8));
            let signs = bit(panel.dword(start + 512, sub), step, 0);
            signed(point(&grids::IQ2_S, index, step), signs)
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, half: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (d, start) = in_pairs(block / 8, 1280);
            let scales: V = panel.dword(start + 1152, block % 8 / 4);
            let code = part(scales, block % 4 * 8 + half * 4, 4);
            odd_scale(panel.half::<V>(d), code, 0.125)
        }
    }
}

/// Per two super-blocks `[2][16]` f16 d, and for each `[16][16] dword` of indices, `[8][16] dword` of signs below a scale.
pub(crate) struct Iq3Xxs;

impl PanelFormat for Iq3Xxs {
    const BLOCK_BYTES: usize = 196;
    const OFFSET: i32 = 128;
    const MAX: u8 = u8::MAX;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| in_pairs(block, 1536).0),
            Field::new(2, 96, 4, |block| in_pairs(block, 1536).1),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub) = (in_pairs(block / 8, 1536).1, block % 8);
            let indices: V = panel.dword(start, sub * 2 + step / 4);
            let index = part(indices, step % 4 * 8, 8);
            let signs = even_signs(panel.dword(start + 1024, sub), step / 2 * 7, step);
            signed(index.gather(&grids::IQ3_XXS), signs)
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (d, start) = in_pairs(block / 8, 1536);
            let code: V = panel.dword::<V>(start + 1024, block % 8).shr(28);
            odd_scale(panel.half::<V>(d), code, 0.25)
        }
    }
}

/// Per two super-blocks `[2][16]` f16 d, and for each `[16][16] dword` of low index bytes, `[2][16] dword` of high index
/// bits, `[8][16] dword` of signs, `[16] dword` of scales.
pub(crate) struct Iq3S;

impl PanelFormat for Iq3S {
    const BLOCK_BYTES: usize = 220;
    const OFFSET: i32 = 128;
    const MAX: u8 = u8::MAX;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| in_pairs(block, 1728).0),
            Field::new(2, 72, 4, |block| in_pairs(block, 1728).1),
            Field::bits(74, 32, |block| in_pairs(block, 1728).1 + 1152),
            Field::new(106, 4, 4, |block| in_pairs(block, 1728).1 + 1664),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub) = (in_pairs(block / 8, 1728).1, block % 8);
            let low: V = panel.dword(start, sub * 2 + step / 4);
            let high = panel.dword::<V>(start + 1024, sub / 4);
            let high = part(high, sub % 4 * 8 + step, 1);
            let index = part(low, step % 4 * 8, 8).or(high.shl(8));
            let signs = bit(panel.dword(start + 1152, sub), step, 0);
            signed(index.gather(&grids::IQ3_S), signs)
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (d, start) = in_pairs(block / 8, 1728);
            let code: V = part(panel.dword(start + 1664, 0), block % 8 * 4, 4);
            odd_scale(panel.half::<V>(d), code, 1.0)
        }
    }
}

/// What is added to eight times the weights of IQ1, which are -1, 0 or 1 and an eighth up or down.
const IQ1_OFFSET: i32 = 9;

/// Step `step` of a point: with 9 on top, eight times the digit and 1 up, or down where `lowered` is 1.
#[inline(always)]
unsafe fn shifted<V: Rows>(index: V, lowered: V, step: usize) -> V {
    // SAFETY: forwarded from the caller.
    unsafe {
        let point = point(&grids::IQ1, index, step);
        point.add(lowered.sub(V::splat(1)).and(V::splat(bytes(2))))
    }
}

/// Per two super-blocks `[2][16]` f16 d, and for each `[8][16] dword` of low index bytes, `[4][16] dword` of two blocks' high
/// index bits, scale and shift.
pub(crate) struct Iq1S;

impl PanelFormat for Iq1S {
    const BLOCK_BYTES: usize = 100;
    const OFFSET: i32 = IQ1_OFFSET;
    const MAX: u8 = 18;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| in_pairs(block, 768).0),
            Field::new(2, 48, 4, |block| in_pairs(block, 768).1),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub, group) = (in_pairs(block / 8, 768).1, block % 8, step / 2);
            let low: V = part(panel.dword(start, sub), group * 8, 8);
            let high = panel.dword::<V>(start + 512, sub / 2);
            let at = sub % 2 * 16;
            let index = low.or(part(high, at + group * 3, 3).shl(8));
            shifted(index, part(high, at + 15, 1), step)
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (d, start) = in_pairs(block / 8, 768);
            let high: V = panel.dword(start + 512, block % 8 / 2);
            let code = part(high, block % 2 * 16 + 12, 3);
            odd_scale(panel.half::<V>(d), code, 0.125)
        }
    }
}

/// `[8][16] dword` of low index bytes, `[4][16] dword` of nibbles with high index bits and shift, `[2][16] dword` of scales.
pub(crate) struct Iq1M;

impl PanelFormat for Iq1M {
    const BLOCK_BYTES: usize = 112;
    const OFFSET: i32 = IQ1_OFFSET;
    const MAX: u8 = 18;
    const HALVES: bool = true;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![Field::new(0, 56, 4, |block| block * 896)]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub, group) = (block / 8 * 896, block % 8, step / 2);
            let low: V = part(panel.dword(start, sub), group * 8, 8);
            let high = panel.dword::<V>(start + 512, sub / 2);
            let at = sub % 2 * 16 + group * 4;
            let index = low.or(part(high, at, 3).shl(8));
            shifted(index, part(high, at + 3, 1), step)
        }
    }
    /// The f16 d is the top nibbles of four words of scales.
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, half: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = block / 8 * 896 + 768;
            let (a, b): (V, V) = (panel.dword(start, 0), panel.dword(start, 1));
            let low = part(a, 12, 4).or(part(a, 28, 4).shl(4));
            let high = part(b, 12, 4).or(part(b, 28, 4).shl(4));
            let d = low.or(high.shl(8)).half();
            let index = block % 8 * 2 + half;
            let at = index / 4 % 2 * 16 + index % 4 * 3;
            let code = part(if index < 8 { a } else { b }, at, 3);
            odd_scale::<V>(d, code, 0.125)
        }
    }
}
