//! Q8_0: 32 weights of 8 bits under one f16 scale; 8.5 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, F16Le};

/// 32 weights `d · q`, `q` in `-128..=127`.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..34 | `qs`: weight `i` is byte `i`, signed |
///
/// [`Block::quantize`] never writes -128; a file may.
///
/// Source: ggml `block_q8_0`, docs/formats/q8_0.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// The scale.
    pub d: F16Le,
    /// The codes in order.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34 && align_of::<BlockQ8_0>() == 1);

impl BlockQ8_0 {
    /// Weights per block.
    pub const LEN: usize = 32;
}

impl Block<32> for BlockQ8_0 {
    const DTYPE: DType = DType::Q8_0;

    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, q) in out.iter_mut().zip(self.qs) {
            *out = d * f32::from(q);
        }
    }

    /// The largest magnitude becomes ±127; the rest round to nearest, ties away from zero.
    fn quantize(x: &[f32; 32]) -> Self {
        let Some(largest) = super::search::largest(x) else {
            return Self {
                d: F16Le::NAN,
                qs: [0; 32],
            };
        };
        let scale = largest.abs() / 127.0;
        let d = F16Le::from_f32(scale);
        // Below f16's smallest step every weight is zero; the inverse would overflow and reach -128.
        if d.to_f32() == 0.0 {
            return Self::zeroed();
        }
        if !d.to_f32().is_finite() {
            return Self {
                d: F16Le::NAN,
                qs: [0; 32],
            };
        }
        // The codes come from the scale before its rounding to f16, as in ggml.
        let inverse = 1.0 / scale;
        Self {
            d,
            qs: x.map(|x| (x * inverse).round() as i8),
        }
    }
}
