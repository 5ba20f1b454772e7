//! Q5_0: 32 weights of 5 bits under one f16 scale; 5.5 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, F16Le, lines};

/// 32 weights `d · (q - 16)`, `q` in `0..=31`.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..6 | `qh`: bit `i` is the fifth bit of weight `i`'s code |
/// | 6..22 | `qs`: the low nibble of byte `i` is weight `i`, the high nibble weight `i + 16` |
///
/// Source: ggml `block_q5_0`, docs/formats/blocks.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// The scale; negative where the largest weight is positive.
    pub d: F16Le,
    /// Fifth bits.
    pub qh: [u8; 4],
    /// The low bits of two codes per byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == 22 && align_of::<BlockQ5_0>() == 1);

/// The codes of 32 weights, in order.
pub(super) fn five_bits(qh: [u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|i| {
        let fifth = qh[i / 8] >> (i % 8) & 1;
        qs[i % 16] >> (i / 16 * 4) & 0xf | fifth << 4
    })
}

/// The fifth bits of codes, as they are stored.
pub(super) fn fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    std::array::from_fn(|byte| (0..8).fold(0, |bits, i| bits | (codes[byte * 8 + i] >> 4) << i))
}

/// The low bits of codes, as they are stored.
pub(super) fn low_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| codes[i] & 0xf | codes[i + 16] << 4)
}

impl Block<32> for BlockQ5_0 {
    const DTYPE: DType = DType::Q5_0;

    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, q) in out.iter_mut().zip(five_bits(self.qh, &self.qs)) {
            *out = d * (f32::from(q) - 16.0);
        }
    }

    /// The weight of largest magnitude becomes -16 exactly, up to the scale's rounding; the rest round to nearest. As in
    /// Q4_0, so that the scale's sign is free and the step smaller.
    fn quantize(x: &[f32; 32]) -> Self {
        Self::of(lines::largest_at(x, 16))
    }

    fn quantize_weighted(x: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        Self::of(lines::fit_scale(x, importance, 16))
    }
}

impl BlockQ5_0 {
    fn of((d, codes): (F16Le, [u8; 32])) -> Self {
        Self {
            d,
            qh: fifth_bits(&codes),
            qs: low_nibbles(&codes),
        }
    }
}
