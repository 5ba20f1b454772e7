//! F16: IEEE half precision, as weights and as the scales of quantized blocks.

use bytemuck::{Pod, Zeroable};
use half::f16;
use half::slice::HalfFloatSliceExt;
use troika_base::DType;

use super::Block;

/// An IEEE half as it lies in a file: two bytes, the low one first, at any address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct F16Le(pub [u8; 2]);

impl F16Le {
    /// Not a number: the scale of a block that could not be quantized.
    pub const NAN: Self = Self(f16::NAN.to_le_bytes());

    /// Rounds to nearest, ties to even. Beyond 65504 + half a step it is infinite, below 2⁻²⁵ zero.
    pub fn from_f32(x: f32) -> Self {
        Self(f16::from_f32(x).to_le_bytes())
    }

    /// Rounds away from zero: the smallest half whose magnitude is not below that of `x`.
    ///
    /// So what is divided by it never exceeds what it was divided for, even among the coarse steps near zero.
    pub fn from_f32_away(x: f32) -> Self {
        let nearest = f16::from_f32(x);
        if nearest.to_f32().abs() < x.abs() {
            // The next magnitude is the next bit pattern, from zero up to infinity.
            Self((nearest.to_bits() + 1).to_le_bytes())
        } else {
            Self(nearest.to_le_bytes())
        }
    }

    /// The value, which f32 holds exactly.
    pub fn to_f32(self) -> f32 {
        f16::from_le_bytes(self.0).to_f32()
    }

    /// The number type of the `half` crate.
    pub fn to_f16(self) -> f16 {
        f16::from_le_bytes(self.0)
    }
}

impl Block<1> for F16Le {
    const DTYPE: DType = DType::F16;

    fn dequantize(&self, out: &mut [f32; 1]) {
        out[0] = self.to_f32();
    }

    fn quantize(x: &[f32; 1]) -> Self {
        Self::from_f32(x[0])
    }
}

/// Converts many halves at once. `x` and `out` are equally long.
///
/// The `half` crate asks for the CPU's conversion instruction on every call; so a call converts more than one value.
pub(super) fn dequantize(x: &[F16Le], out: &mut [f32]) {
    const AT_ONCE: usize = 256;
    let mut halves = [f16::ZERO; AT_ONCE];
    for (x, out) in x.chunks(AT_ONCE).zip(out.chunks_mut(AT_ONCE)) {
        let halves = &mut halves[..x.len()];
        for (half, x) in halves.iter_mut().zip(x) {
            *half = x.to_f16();
        }
        halves.convert_to_f32_slice(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of the format, in f64, without the `half` crate.
    fn value(bits: u16) -> f64 {
        let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
        let fraction = f64::from(bits & 0x3ff);
        match i32::from(bits >> 10 & 0x1f) {
            0 => sign * fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => sign * f64::INFINITY,
            31 => f64::NAN,
            exponent => sign * (1024.0 + fraction) * 2f64.powi(exponent - 25),
        }
    }

    #[test]
    fn every_half_has_its_value_and_comes_back() {
        let halves: Vec<F16Le> = (0..=u16::MAX)
            .map(|bits| F16Le(bits.to_le_bytes()))
            .collect();
        let mut values = vec![0.0; halves.len()];
        dequantize(&halves, &mut values);
        for (bits, (half, x)) in (0..=u16::MAX).zip(halves.iter().zip(&values)) {
            let want = value(bits);
            assert!(
                f64::from(*x) == want || x.is_nan() && want.is_nan(),
                "{bits:#06x}: {x} {want}"
            );
            assert!(half.to_f32() == *x || x.is_nan(), "{bits:#06x}");
            assert!(F16Le::from_f32(*x) == *half || x.is_nan(), "{bits:#06x}");
        }
    }

    #[test]
    fn conversion_rounds_to_nearest_even_and_overflows_to_infinity() {
        for (x, want) in [
            (1.0 + 1.0 / 2048.0, 1.0),
            (1.0 + 3.0 / 2048.0, 1.0 + 2.0 / 1024.0),
            (65519.0, 65504.0),
            (65520.0, f32::INFINITY),
            (2f32.powi(-25), 0.0),
            (2f32.powi(-25) * 1.001, 2f32.powi(-24)),
        ] {
            assert_eq!(F16Le::from_f32(x).to_f32(), want, "{x}");
        }
        assert!(F16Le::NAN.to_f32().is_nan());
    }

    #[test]
    fn rounding_away_gives_the_next_magnitude() {
        for (x, want) in [
            (0.0, 0.0),
            (1.0, 1.0),
            (1e-30, 2f32.powi(-24)),
            (-1e-30, -(2f32.powi(-24))),
            (-1.000_001, -1.0 - 1.0 / 1024.0),
            (2047.5 / 1024.0, 2.0),
            (65505.0, f32::INFINITY),
        ] {
            assert_eq!(F16Le::from_f32_away(x).to_f32(), want, "{x}");
        }
    }
}
