//! Q4_0, Q8_0, Q4_K and Q6_K, which most files have. The kernels for x86-64 and the reference read them with code of their
//! own; this is how all others do.

use super::blocks::nibbles;
use super::super_blocks::six_bits;
use super::{Panel, PanelFormat, Rows, bits, part};
use crate::packed::{Field, in_pairs};

/// Per two blocks `[2][16]` f16 d, `[2][4][16] dword` of nibble bytes.
pub(crate) struct Q4_0;

impl PanelFormat for Q4_0 {
    const BLOCK_BYTES: usize = 288;
    const OFFSET: i32 = 8;
    const MAX: u8 = 15;
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
        unsafe { nibbles(panel, in_pairs(block, 256).1, step) }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { panel.half::<V>(in_pairs(block, 256).0) }
    }
}

/// Per two blocks `[2][16]` f16 d, `[2][8][16] dword`, stored as `q + 128`.
pub(crate) struct Q8_0;

impl PanelFormat for Q8_0 {
    const BLOCK_BYTES: usize = 544;
    const OFFSET: i32 = 128;
    const MAX: u8 = u8::MAX;
    const HALVES: bool = false;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 2, 2, |block| in_pairs(block, 512).0),
            Field::flipped(2, 32, |block| in_pairs(block, 512).1),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe { panel.dword(in_pairs(block, 512).1, step) }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe { panel.half::<V>(in_pairs(block, 512).0) }
    }
}

/// `[32][16] dword` of nibble bytes, `[3][16] dword` of 6-bit scales and minima, `[16]` f16 d, `[16]` f16 dmin.
pub(crate) struct Q4K;

impl PanelFormat for Q4K {
    const BLOCK_BYTES: usize = 288;
    const OFFSET: i32 = 0;
    const MAX: u8 = 15;
    const HALVES: bool = false;
    const MIN: bool = true;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(16, 128, 4, |block| block * 2304),
            Field::new(4, 12, 4, |block| block * 2304 + 2048),
            Field::new(0, 2, 2, |block| block * 2304 + 2240),
            Field::new(2, 2, 2, |block| block * 2304 + 2272),
        ]
    }

    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (start, sub) = (block / 8 * 2304, block % 8);
            bits(panel.dword(start, sub / 2 * 8 + step), sub % 2 * 4, 4)
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = block / 8 * 2304;
            let scale = six_bits::<V>(panel, start + 2048, block % 8, 0);
            V::mul(panel.half::<V>(start + 2240), scale)
        }
    }
    #[inline(always)]
    unsafe fn min<V: Rows>(panel: Panel, block: usize, _: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = block / 8 * 2304;
            let min = six_bits::<V>(panel, start + 2048, block % 8, 1);
            V::mul(panel.half::<V>(start + 2272), min)
        }
    }
}

/// Per two super-blocks `[2][16]` f16 d, and for each `[32][16] dword` of low nibbles, `[16][16] dword` of high bits,
/// `[4][16] dword` of signed scales.
pub(crate) struct Q6K;

impl PanelFormat for Q6K {
    const BLOCK_BYTES: usize = 420;
    const OFFSET: i32 = 32;
    const MAX: u8 = 63;
    const HALVES: bool = true;
    const MIN: bool = false;

    fn fields() -> Vec<Field> {
        vec![
            Field::new(0, 128, 4, |block| in_pairs(block, 3328).1),
            Field::new(128, 64, 4, |block| in_pairs(block, 3328).1 + 2048),
            Field::new(192, 16, 4, |block| in_pairs(block, 3328).1 + 3072),
            Field::new(208, 2, 2, |block| in_pairs(block, 3328).0),
        ]
    }

    /// Four blocks are the low nibbles of 32 bytes, of the next 32, and the high nibbles of both; the two high bits of all
    /// four lie in the same 32 bytes.
    #[inline(always)]
    unsafe fn quants<V: Rows>(panel: Panel, block: usize, step: usize) -> V {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = in_pairs(block / 8, 3328).1;
            let (four, within) = (block % 8 / 4, block % 4);
            let low = panel.dword(start, four * 16 + within % 2 * 8 + step);
            let high: V = panel.dword(start + 2048, four * 8 + step);
            bits::<V>(low, within / 2 * 4, 4).or(bits(high, within * 2, 2).shl(4))
        }
    }
    #[inline(always)]
    unsafe fn scale<V: Rows>(panel: Panel, block: usize, half: usize) -> V::Float {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (d, start) = in_pairs(block / 8, 3328);
            let index = block % 8 * 2 + half;
            let byte: V = part(panel.dword(start + 3072, index / 4), index % 4 * 8, 8);
            let signed = byte.xor(V::splat(0x80)).sub(V::splat(0x80));
            V::mul(panel.half::<V>(d), signed.float())
        }
    }
}

#[cfg(test)]
mod tests {
    use troika_base::DType;

    use crate::panel::{ArrayRows, raise, unpack, with_any_format};
    use crate::scalar;
    use crate::unpacked::Unpacked;

    /// Bits, with one NaN as good as another.
    fn floats(bytes: &[u8]) -> Vec<u32> {
        let floats: &[f32] = bytemuck::cast_slice(bytes);
        let canonical = |x: &f32| if x.is_nan() { f32::NAN } else { *x };
        floats.iter().map(canonical).map(f32::to_bits).collect()
    }

    /// Any bytes are a panel. An odd number of blocks, since the last of them has its scales to itself.
    #[test]
    fn panels_read_by_rows_are_those_that_the_reference_reads() {
        for dtype in [DType::Q4_0, DType::Q8_0, DType::Q4_K, DType::Q6_K] {
            let n_in = 3 * dtype.block_len();
            let bytes = crate::packed::panel_bytes(dtype, n_in).expect("whole blocks");
            let panel: Vec<u8> = (0..bytes).map(|i| (i * i * 31 % 65521) as u8).collect();
            let (mut want, mut have) = (Unpacked::new(n_in, 1), Unpacked::new(n_in, 1));
            scalar::int::unpack(dtype, &panel, n_in, &mut want);
            let raised = with_any_format!(dtype, F => {
                // SAFETY: arrays need no features; the panel is whole, and there is room for it.
                unsafe { unpack::<F, ArrayRows>(&panel, n_in, &mut have) };
                raise::<F>() as u8
            });
            want.q.iter_mut().for_each(|byte| *byte += raised);
            assert_eq!(have.q[..], want.q[..], "{dtype}");
            assert_eq!(floats(&have.scale), floats(&want.scale), "{dtype}");
            assert_eq!(floats(&have.min), floats(&want.min), "{dtype}");
        }
    }
}
