//! Formats with blocks of 32, and NVFP4 with blocks of 64.

use super::{Panel, PanelFormat, Rows, bit, bits, part};
use crate::packed::{Field, in_pairs};
use crate::quant::{IQ4_VALUES, MXFP4_DOUBLED};

/// What is added to the doubled E2M1 numbers.
const E2M1_OFFSET: i32 = 12;

/// The doubled E2M1 numbers, without sign.
const E2M1: [u8; 16] = raised(MXFP4_DOUBLED, E2M1_OFFSET as i8);

/// The numbers of IQ4 with 128 on top.
pub(super) const IQ4: [u8; 16] = raised(IQ4_VALUES, i8::MIN);

/// `by` added to all.
const fn raised(values: [i8; 16], by: i8) -> [u8; 16] {
    let mut raised = [0; 16];
    let mut i = 0;
    while i < 16 {
        raised[i] = values[i].wrapping_add(by).cast_unsigned();
        i += 1;
    }
    raised
}

/// Step `step` of 16 bytes at `offset`, whose low nibbles are the first 16 columns and whose high ones the last.
#[inline(always)]
pub(super) unsafe fn nibbles<V: Rows>(panel: Panel, offset: usize, step: usize) -> V {
    // SAFETY: forwarded from the caller.
    unsafe { bits(panel.dword(offset, step % 4), step / 4 * 4, 4) }
}

/// Step `step` of the fifth bits at `offset`; [`Field::bits`] has spread them.
#[inline(always)]
unsafe fn fifth<V: Rows>(panel: Panel, offset: usize, step: usize) -> V {
    // SAFETY: forwarded from the caller.
    unsafe { bit(panel.dword(offset, 0), step, 4) }
}

/// Per block `[16]` f16 d, `[16]` f16 m, `[4][16] dword` of nibble bytes.
pub(crate) struct Q4_1;

impl PanelFormat for Q4_1 {
    const BLOCK_BYTES: usize = 320;
    const OFFSET: i32 = 0;
    const MAX: u8 = 15;
    const HALVES: bool = false;
    const MIN: bool = true;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| block * 320),
            Field::new(2, 2, 2, |block| block * 320 + 32),
            Field::new(4, 16, 4, |block| block * 320 + 64),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe { nibbles(panel, block * 320 + 64, step) }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { panel.half::<V>(block * 320) }
    }
    #[inline(always)]
    unsafe fn min<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { negated::<V>(panel, block * 320 + 32) }
    }
}

/// The f16 at `offset` with the other sign: a file adds what is subtracted here.
#[inline(always)]
unsafe fn negated<V: Rows>(panel: Panel, offset: usize) -> V::Float {
    // SAFETY: forwarded from the caller.
    unsafe { panel.word::<V>(offset).xor(V::splat(0x8000)).half() }
}

/// Per two blocks `[2][16]` f16 d, and for each `[16] dword` of fifth bits, `[4][16] dword` of nibble bytes.
pub(crate) struct Q5_0;

impl PanelFormat for Q5_0 {
    const BLOCK_BYTES: usize = 352;
    const OFFSET: i32 = 16;
    const MAX: u8 = 31;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| in_pairs(block, 320).0),
            Field::bits(2, 4, |block| in_pairs(block, 320).1),
            Field::new(6, 16, 4, |block| in_pairs(block, 320).1 + 64),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = in_pairs(block, 320).1;
            nibbles::<V>(panel, start + 64, step).or(fifth(panel, start, step))
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { panel.half::<V>(in_pairs(block, 320).0) }
    }
}

/// Per block `[16]` f16 d, `[16]` f16 m, `[16] dword` of fifth bits, `[4][16] dword` of nibble bytes.
pub(crate) struct Q5_1;

impl PanelFormat for Q5_1 {
    const BLOCK_BYTES: usize = 384;
    const OFFSET: i32 = 0;
    const MAX: u8 = 31;
    const HALVES: bool = false;
    const MIN: bool = true;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| block * 384),
            Field::new(2, 2, 2, |block| block * 384 + 32),
            Field::bits(4, 4, |block| block * 384 + 64),
            Field::new(8, 16, 4, |block| block * 384 + 128),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = block * 384;
            nibbles::<V>(panel, start + 128, step).or(fifth(panel, start + 64, step))
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { panel.half::<V>(block * 384) }
    }
    #[inline(always)]
    unsafe fn min<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { negated::<V>(panel, block * 384 + 32) }
    }
}

/// As Q4_0: per two blocks `[2][16]` f16 d, `[2][4][16] dword` of nibble bytes.
pub(crate) struct Iq4Nl;

impl PanelFormat for Iq4Nl {
    const BLOCK_BYTES: usize = 288;
    const OFFSET: i32 = 128;
    const MAX: u8 = u8::MAX;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| in_pairs(block, 256).0),
            Field::new(2, 16, 4, |block| in_pairs(block, 256).1),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe { nibbles::<V>(panel, in_pairs(block, 256).1, step).lookup(&IQ4) }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { panel.half::<V>(in_pairs(block, 256).0) }
    }
}

/// Per four blocks `[16] dword` of a scale byte for each block, `[4][4][16] dword` of nibble bytes.
pub(crate) struct Mxfp4;

impl PanelFormat for Mxfp4 {
    const BLOCK_BYTES: usize = 272;
    const OFFSET: i32 = E2M1_OFFSET;
    const MAX: u8 = 24;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::lanes(0, |block| block / 4 * 1088 + block % 4),
            Field::new(1, 16, 4, |block| block / 4 * 1088 + 64 + block % 4 * 256),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = block / 4 * 1088 + 64 + block % 4 * 256;
            nibbles::<V>(panel, start, step).lookup(&E2M1)
        }
    }
    /// `2^(e - 128)`, half of what the file says, since the numbers are doubled: two factors with half of the exponent
    /// each, which are normal numbers for every `e`.
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let e: V = part(panel.dword(block / 4 * 1088, 0), block % 4 * 8, 8);
            let low = e.shr(1);
            V::mul(power(low), power(e.sub(low)))
        }
    }
}

/// `2^(e - 64)`.
#[inline(always)]
unsafe fn power<V: Rows>(e: V) -> V::Float {
    // SAFETY: forwarded from the caller.
    unsafe { e.add(V::splat(63)).shl(23).bits() }
}

/// Per block of 64 `[16] dword` of a scale byte for each 16, `[8][16] dword` of nibble bytes, two for each 16.
pub(crate) struct Nvfp4;

impl PanelFormat for Nvfp4 {
    const BLOCK_BYTES: usize = 288;
    const OFFSET: i32 = E2M1_OFFSET;
    const MAX: u8 = 24;
    const HALVES: bool = true;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 4, 4, |block| block * 576),
            Field::new(4, 32, 4, |block| block * 576 + 64),
        ]
    }

    /// Of each 16 the low nibbles of 8 bytes are the first 8 columns, the high ones the last.
    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let at = block % 2 * 4 + step / 4 * 2 + step % 2;
            let bytes: V = panel.dword(block / 2 * 576 + 64, at);
            bits(bytes, step / 2 % 2 * 4, 4).lookup(&E2M1)
        }
    }
    /// Half of an E4M3 number without sign, since the numbers are doubled. Its bits are those of an f32 with another bias.
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, half: usize) -> V::Float {
        const BIAS: f32 = f32::from_bits((127 + 119) << 23);
        // SAFETY: forwarded from the caller.
        unsafe {
            let at = (block % 2 * 2 + half) * 8;
            let byte: V = part(panel.dword(block / 2 * 576, 0), at, 8);
            // 0x7f is no number, and read as zero.
            let number = part(byte.zero_if(0x7f), 0, 7);
            V::mul_f32(number.shl(20).bits(), BIAS)
        }
    }
}
