//! Q4_0: 32 weights of 4 bits under one f16 scale; 4.5 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, F16Le};

/// 32 weights `d · (q - 8)`, `q` in `0..=15`.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..18 | `qs`: the low nibble of byte `i` is weight `i`, the high nibble weight `i + 16` |
///
/// Source: ggml `block_q4_0`, docs/formats/q4_0.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// The scale; negative where the largest weight is positive.
    pub d: F16Le,
    /// Two codes per byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18 && align_of::<BlockQ4_0>() == 1);

impl BlockQ4_0 {
    /// Weights per block.
    pub const LEN: usize = 32;

    /// The integer weights in order, `-8..=7`.
    pub fn codes(&self) -> [i8; Self::LEN] {
        let mut codes = [0; Self::LEN];
        let (low, high) = codes.split_at_mut(16);
        for ((low, high), q) in low.iter_mut().zip(high).zip(self.qs) {
            *low = (q & 0xf) as i8 - 8;
            *high = (q >> 4) as i8 - 8;
        }
        codes
    }
}

impl Block<32> for BlockQ4_0 {
    const DTYPE: DType = DType::Q4_0;

    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, code) in out.iter_mut().zip(self.codes()) {
            *out = d * f32::from(code);
        }
    }

    /// The weight of largest magnitude becomes -8 exactly, up to the scale's rounding; the rest round to nearest.
    ///
    /// -8 and not 7, because the codes reach one step further down than up: so the scale's sign is free, and the step
    /// smaller.
    fn quantize(x: &[f32; 32]) -> Self {
        let Some(largest) = super::search::largest(x) else {
            return Self {
                d: F16Le::NAN,
                qs: [0x88; 16],
            };
        };
        let scale = largest / -8.0;
        let d = F16Le::from_f32(scale);
        if d.to_f32() == 0.0 {
            return Self { d, qs: [0x88; 16] };
        }
        if !d.to_f32().is_finite() {
            return Self {
                d: F16Le::NAN,
                qs: [0x88; 16],
            };
        }
        // The codes come from the scale before its rounding to f16, as in ggml.
        let inverse = 1.0 / scale;
        let code = |x: f32| ((x * inverse + 8.5) as u8).min(15);
        Self {
            d,
            qs: std::array::from_fn(|i| code(x[i]) | code(x[i + 16]) << 4),
        }
    }
}
