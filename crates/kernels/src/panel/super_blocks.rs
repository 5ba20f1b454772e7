//! Formats with blocks of 256 and codes of their own. Blocks of 32 columns are counted through: eight of them make a
//! super-block.

use super::blocks::{IQ4, nibbles};
use super::{Panel, PanelFormat, Rows, bit, bits, part};
use crate::packed::{Field, in_pairs};

/// Step `step` of two-bit codes at `offset`: each half of a super-block has 32 bytes, with the codes of its four blocks.
#[inline(always)]
unsafe fn two_bits<V: Rows>(panel: Panel, offset: usize, sub: usize, step: usize) -> V {
    // SAFETY: forwarded from the caller.
    unsafe { bits(panel.dword(offset, sub / 4 * 8 + step), sub % 4 * 2, 2) }
}

/// `[16][16] dword` of two-bit codes, `[4][16] dword` of scales and minima, `[16]` f16 d, `[16]` f16 dmin.
pub(crate) struct Q2K;

impl PanelFormat for Q2K {
    const BLOCK_BYTES: usize = 168;
    const OFFSET: i32 = 0;
    const MAX: u8 = 3;
    const HALVES: bool = true;
    const MIN: bool = true;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(16, 64, 4, |block| block * 1344),
            Field::new(0, 16, 4, |block| block * 1344 + 1024),
            Field::new(80, 2, 2, |block| block * 1344 + 1280),
            Field::new(82, 2, 2, |block| block * 1344 + 1312),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe { two_bits(panel, block / 8 * 1344, block % 8, step) }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, half: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let d = panel.half::<V>(block / 8 * 1344 + 1280);
            V::mul(d, q2_k_scale::<V>(panel, block, half, 0))
        }
    }
    #[inline(always)]
    unsafe fn min<V: Rows>(panel: Panel, block: usize, half: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let dmin = panel.half::<V>(block / 8 * 1344 + 1312);
            V::mul(dmin, q2_k_scale::<V>(panel, block, half, 4))
        }
    }
}

/// The scale of 16 columns, or from bit 4 the minimum.
#[inline(always)]
unsafe fn q2_k_scale<V: Rows>(panel: Panel, block: usize, half: usize, bit: usize) -> V::Float {
    // SAFETY: forwarded from the caller.
    unsafe {
        let index = block % 8 * 2 + half;
        let scales: V = panel.dword(block / 8 * 1344 + 1024, index / 4);
        part(scales, index % 4 * 8 + bit, 4).float()
    }
}

/// Per two super-blocks `[2][16]` f16 d, and for each `[8][16] dword` of high bits, `[16][16] dword` of two-bit codes,
/// `[3][16] dword` of scales.
pub(crate) struct Q3K;

impl PanelFormat for Q3K {
    const BLOCK_BYTES: usize = 220;
    const OFFSET: i32 = 4;
    const MAX: u8 = 7;
    const HALVES: bool = true;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 32, 4, |block| in_pairs(block, 1728).1),
            Field::new(32, 64, 4, |block| in_pairs(block, 1728).1 + 512),
            Field::new(96, 12, 4, |block| in_pairs(block, 1728).1 + 1536),
            Field::new(108, 2, 2, |block| in_pairs(block, 1728).0),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub) = (in_pairs(block / 8, 1728).1, block % 8);
            let high: V = bit(panel.dword(start, step), sub, 2);
            two_bits::<V>(panel, start + 512, sub, step).or(high)
        }
    }
    /// Scales `4 g ..` are the low or high nibbles of the first or second dword, with two bits from the third.
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, half: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (d, start) = in_pairs(block / 8, 1728);
            let index = block % 8 * 2 + half;
            let (group, byte) = (index / 4, index % 4 * 8);
            let low: V = panel.dword(start + 1536, group % 2);
            let low = part(low, byte + group / 2 * 4, 4);
            let high = part(panel.dword::<V>(start + 1536, 2), byte + group * 2, 2);
            let scale = low.or(high.shl(4)).sub(V::splat(32));
            V::mul(panel.half::<V>(d), scale.float())
        }
    }
}

/// `[32][16] dword` of nibble bytes, `[8][16] dword` of fifth bits, `[3][16] dword` of 6-bit scales and minima, `[16]` f16
/// d, `[16]` f16 dmin.
pub(crate) struct Q5K;

impl PanelFormat for Q5K {
    const BLOCK_BYTES: usize = 352;
    const OFFSET: i32 = 0;
    const MAX: u8 = 31;
    const HALVES: bool = false;
    const MIN: bool = true;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(48, 128, 4, |block| block * 2816),
            Field::new(16, 32, 4, |block| block * 2816 + 2048),
            Field::new(4, 12, 4, |block| block * 2816 + 2560),
            Field::new(0, 2, 2, |block| block * 2816 + 2752),
            Field::new(2, 2, 2, |block| block * 2816 + 2784),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub) = (block / 8 * 2816, block % 8);
            let low: V = bits(panel.dword(start, sub / 2 * 8 + step), sub % 2 * 4, 4);
            low.or(bit(panel.dword(start + 2048, step), sub, 4))
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = block / 8 * 2816;
            let scale = six_bits::<V>(panel, start + 2560, block % 8, 0);
            V::mul(panel.half::<V>(start + 2752), scale)
        }
    }
    #[inline(always)]
    unsafe fn min<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = block / 8 * 2816;
            let min = six_bits::<V>(panel, start + 2560, block % 8, 1);
            V::mul(panel.half::<V>(start + 2784), min)
        }
    }
}

/// The 6-bit scale (`which` 0) or minimum (1) of block `sub` of a super-block with three dwords of them at `scales`; see
/// docs/formats/q4_k.md.
#[inline(always)]
pub(super) unsafe fn six_bits<V: Rows>(
    panel: Panel,
    scales: usize,
    sub: usize,
    which: usize,
) -> V::Float {
    // SAFETY: forwarded from the caller.
    unsafe {
        let byte = sub % 4 * 8;
        let own: V = panel.dword(scales, which);
        let six = if sub < 4 {
            part(own, byte, 6)
        } else {
            let low = part(panel.dword::<V>(scales, 2), byte + which * 4, 4);
            low.or(part(own, byte + 6, 2).shl(4))
        };
        six.float()
    }
}

/// `[32][16] dword` of nibble bytes, `[16] dword` of low scale bits, `[16]` f16 d, `[16]` words of high scale bits.
pub(crate) struct Iq4Xs;

impl PanelFormat for Iq4Xs {
    const BLOCK_BYTES: usize = 272;
    const OFFSET: i32 = 128;
    const MAX: u8 = u8::MAX;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(8, 128, 4, |block| block * 2176),
            Field::new(4, 4, 4, |block| block * 2176 + 2048),
            Field::new(0, 2, 2, |block| block * 2176 + 2112),
            Field::new(2, 2, 2, |block| block * 2176 + 2144),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = block / 8 * 2176 + block % 8 * 256;
            nibbles::<V>(panel, start, step).lookup(&IQ4)
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub) = (block / 8 * 2176, block % 8);
            let low: V = part(panel.dword(start + 2048, 0), sub * 4, 4);
            let high = part(panel.word::<V>(start + 2144), sub * 2, 2);
            let scale = low.or(high.shl(4)).sub(V::splat(32));
            V::mul(panel.half::<V>(start + 2112), scale.float())
        }
    }
}

/// Per two super-blocks `[2][16]` f16 d, `[2][16][16] dword` of two-bit codes.
pub(crate) struct Tq2_0;

impl PanelFormat for Tq2_0 {
    const BLOCK_BYTES: usize = 132;
    const OFFSET: i32 = 1;
    const MAX: u8 = 3;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 64, 4, |block| in_pairs(block, 1024).1),
            Field::new(64, 2, 2, |block| in_pairs(block, 1024).0),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe { two_bits(panel, in_pairs(block / 8, 1024).1, block % 8, step) }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { panel.half::<V>(in_pairs(block / 8, 1024).0) }
    }
}

/// Per two super-blocks `[2][16]` f16 d, and for each `[13][16] dword` of five, the last of four, ternary digits a byte.
pub(crate) struct Tq1_0;

impl PanelFormat for Tq1_0 {
    const BLOCK_BYTES: usize = 108;
    const OFFSET: i32 = 1;
    const MAX: u8 = 2;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 52, 4, |block| in_pairs(block, 832).1),
            Field::new(52, 2, 2, |block| in_pairs(block, 832).0),
        ]
    }

    /// A byte is a fraction of 256: times three, its whole part is the first digit. 32 bytes have the digits of five
    /// blocks, 16 those of five halves, and the last 4 of four steps.
    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        const POWERS: [u16; 5] = [1, 3, 9, 27, 81];
        let sub = block % 8;
        let (dword, digit) = match (sub, step) {
            (0..5, _) => (step, sub),
            (7, 4..) => (12, step - 4),
            _ => (8 + step % 4, (sub - 5) * 2 + step / 4),
        };
        // SAFETY: forwarded from the caller.
        unsafe {
            let bytes: V = panel.dword(in_pairs(block / 8, 832).1, dword);
            let (even, odd) = (
                ternary(bytes, POWERS[digit]),
                ternary(bytes.shr(8), POWERS[digit]),
            );
            even.or(odd.shl(8))
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { panel.half::<V>(in_pairs(block / 8, 832).0) }
    }
}

/// The first digit of every other byte, which is multiplied by a power of three before.
#[inline(always)]
unsafe fn ternary<V: Rows>(bytes: V, power: u16) -> V {
    // SAFETY: forwarded from the caller.
    unsafe {
        let every_other = V::splat(0x00ff_00ff);
        let rest = bytes.and(every_other).times(power).and(every_other);
        rest.times(3).shr(8).and(every_other)
    }
}
