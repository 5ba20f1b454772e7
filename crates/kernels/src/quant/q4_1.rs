//! Q4_1: 32 weights of 4 bits with an f16 scale and minimum; 5 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, F16Le, lines};

/// 32 weights `d · q + m`, `q` in `0..=15`.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..4 | `m`, f16 |
/// | 4..20 | `qs`: the low nibble of byte `i` is weight `i`, the high nibble weight `i + 16` |
///
/// Source: ggml `block_q4_1`, docs/formats/blocks.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// The scale, not negative.
    pub d: F16Le,
    /// The smallest weight.
    pub m: F16Le,
    /// Two codes per byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == 20 && align_of::<BlockQ4_1>() == 1);

impl Block<32> for BlockQ4_1 {
    const DTYPE: DType = DType::Q4_1;

    fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (i, out) in out.iter_mut().enumerate() {
            let q = self.qs[i % 16] >> (i / 16 * 4) & 0xf;
            *out = d * f32::from(q) + m;
        }
    }

    /// The smallest weight becomes 0, the largest 15, the rest round to nearest.
    fn quantize(x: &[f32; 32]) -> Self {
        Self::of(lines::extremes(x, 15))
    }

    fn quantize_weighted(x: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        Self::of(lines::fit_line(x, importance, 15))
    }
}

impl BlockQ4_1 {
    fn of(line: lines::Line) -> Self {
        Self {
            d: line.d,
            m: line.m,
            qs: std::array::from_fn(|i| line.codes[i] | line.codes[i + 16] << 4),
        }
    }
}
