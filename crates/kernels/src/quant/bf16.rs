//! BF16: the upper half of an f32, so f32's range with 8 bits of precision.

use bytemuck::{Pod, Zeroable};
use half::bf16;
use troika_base::DType;

use super::Block;

/// A bfloat16 as it lies in a file: two bytes, the low one first, at any address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct Bf16Le(pub [u8; 2]);

impl Bf16Le {
    /// Rounds to nearest, ties to even; NaN stays NaN.
    pub fn from_f32(x: f32) -> Self {
        Self(bf16::from_f32(x).to_le_bytes())
    }

    /// The value, which f32 holds exactly.
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(self.0)) << 16)
    }
}

impl Block<1> for Bf16Le {
    const DTYPE: DType = DType::BF16;

    fn dequantize(&self, out: &mut [f32; 1]) {
        out[0] = self.to_f32();
    }

    fn quantize(x: &[f32; 1]) -> Self {
        Self::from_f32(x[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bf16_comes_back() {
        for bits in 0..=u16::MAX {
            let x = Bf16Le(bits.to_le_bytes()).to_f32();
            assert!(
                Bf16Le::from_f32(x) == Bf16Le(bits.to_le_bytes()) || x.is_nan(),
                "{bits:#06x}"
            );
        }
    }

    #[test]
    fn conversion_rounds_to_nearest_even() {
        for (x, want) in [
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 2.0 / 128.0),
            (-1.0 - 1.5 / 256.0, -1.0 - 1.0 / 128.0),
            (f32::MAX, f32::INFINITY),
        ] {
            assert_eq!(Bf16Le::from_f32(x).to_f32(), want, "{x}");
        }
        // The payload sits in the half that is cut off.
        assert!(
            Bf16Le::from_f32(f32::from_bits(0x7f80_0001))
                .to_f32()
                .is_nan()
        );
    }
}
