//! Q5_1: 32 weights of 5 bits with an f16 scale and minimum; 6 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::q5_0::{fifth_bits, five_bits, low_nibbles};
use super::{Block, F16Le, lines};

/// 32 weights `d · q + m`, `q` in `0..=31`.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..4 | `m`, f16 |
/// | 4..8 | `qh`: bit `i` is the fifth bit of weight `i`'s code |
/// | 8..24 | `qs`: the low nibble of byte `i` is weight `i`, the high nibble weight `i + 16` |
///
/// Source: ggml `block_q5_1`, docs/formats/blocks.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// The scale, not negative.
    pub d: F16Le,
    /// The smallest weight.
    pub m: F16Le,
    /// Fifth bits.
    pub qh: [u8; 4],
    /// The low bits of two codes per byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == 24 && align_of::<BlockQ5_1>() == 1);

impl Block<32> for BlockQ5_1 {
    const DTYPE: DType = DType::Q5_1;

    fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (out, q) in out.iter_mut().zip(five_bits(self.qh, &self.qs)) {
            *out = d * f32::from(q) + m;
        }
    }

    /// The smallest weight becomes 0, the largest 31, the rest round to nearest.
    fn quantize(x: &[f32; 32]) -> Self {
        Self::of(lines::extremes(x, 31))
    }

    fn quantize_weighted(x: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        Self::of(lines::fit_line(x, importance, 31))
    }
}

impl BlockQ5_1 {
    fn of(line: lines::Line) -> Self {
        Self {
            d: line.d,
            m: line.m,
            qh: fifth_bits(&line.codes),
            qs: low_nibbles(&line.codes),
        }
    }
}
