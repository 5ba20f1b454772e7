//! MXFP4 and NVFP4: floats of 4 bits (E2M1); 4.25 and 4.5 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, search};

/// Twice what the codes stand for: a sign, two bits of exponent, one of mantissa.
pub(crate) const MXFP4_DOUBLED: [i8; 16] =
    [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 weights `2^(e - 127) · value(q)`.
///
/// | bytes | content |
/// |---|---|
/// | 0 | `e`: E8M0, a power of two |
/// | 1..17 | `qs`: the low nibble of byte `i` is weight `i`, the high nibble weight `i + 16` |
///
/// Source: OCP Microscaling Formats 1.0; ggml `block_mxfp4`, docs/formats/fp4.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockMXFP4 {
    /// The scale's exponent, 127 for 1.
    pub e: u8,
    /// Two codes per byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockMXFP4>() == 17 && align_of::<BlockMXFP4>() == 1);

impl BlockMXFP4 {
    /// Half of the scale, for doubled values.
    fn half_scale(e: u8) -> f32 {
        // 2^(e - 128); the lowest two are subnormal.
        match e {
            0 | 1 => f32::from_bits(0x0020_0000 << e),
            _ => f32::from_bits((u32::from(e) - 1) << 23),
        }
    }
}

/// The code of the value next to `x`, which is doubled; of two the smaller.
fn nearest(x: f32) -> u8 {
    const BETWEEN: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];
    let magnitude: u8 = BETWEEN.iter().map(|&limit| u8::from(x.abs() > limit)).sum();
    // Zero has no sign.
    magnitude | u8::from(x < 0.0 && magnitude > 0) << 3
}

/// The codes for this half of a scale, above 0, and their squared error.
fn choose<const N: usize>(x: &[f32; N], half_scale: f32) -> (f32, [u8; N]) {
    let inverse = 1.0 / half_scale;
    let codes = x.map(|x| nearest(x * inverse));
    let error = |(x, code): (&f32, &u8)| {
        let diff = half_scale * f32::from(MXFP4_DOUBLED[usize::from(*code)]) - x;
        diff * diff
    };
    (x.iter().zip(&codes).map(error).sum(), codes)
}

impl Block<32> for BlockMXFP4 {
    const DTYPE: DType = DType::MXFP4;

    fn dequantize(&self, out: &mut [f32; 32]) {
        let scale = Self::half_scale(self.e);
        for (i, out) in out.iter_mut().enumerate() {
            let q = self.qs[i % 16] >> (i / 16 * 4) & 0xf;
            *out = scale * f32::from(MXFP4_DOUBLED[usize::from(q)]);
        }
    }

    /// Of the power of two that the standard asks for, which may cut the largest weight by a quarter, and the next, the one
    /// with less error. There is no NaN; what cannot be quantized gets the largest weights, which are infinite.
    fn quantize(x: &[f32; 32]) -> Self {
        let Some(largest) = search::largest(x) else {
            return Self {
                e: u8::MAX,
                qs: [0x77; 16],
            };
        };
        if largest == 0.0 {
            return Self::zeroed();
        }
        // The exponent of the largest weight less that of the largest value, 4.
        let exponent = (largest.abs().to_bits() >> 23).saturating_sub(2) as u8;
        let mut best = (f32::INFINITY, 0, [0; 32]);
        for e in exponent..=exponent + 1 {
            let half_scale = Self::half_scale(e);
            if !(1.0 / half_scale).is_finite() {
                continue;
            }
            let (error, codes) = choose(x, half_scale);
            if error < best.0 {
                best = (error, e, codes);
            }
        }
        Self {
            e: best.1,
            qs: std::array::from_fn(|i| best.2[i] | best.2[i + 16] << 4),
        }
    }
}

/// 64 weights in 4 sub-blocks of 16: `scale · value(q)`.
///
/// | bytes | content |
/// |---|---|
/// | 0..4 | `d`: the scale of each sub-block, E4M3 without sign |
/// | 4..36 | `qs`: 8 bytes for each sub-block; the low nibble of byte `i` is weight `i`, the high nibble weight `i + 8` |
///
/// A file has a further scale for a whole tensor; see docs/formats/fp4.md.
///
/// Source: ggml `block_nvfp4`, docs/formats/fp4.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockNVFP4 {
    /// Scales.
    pub d: [u8; 4],
    /// Two codes per byte.
    pub qs: [u8; 32],
}

const _: () = assert!(size_of::<BlockNVFP4>() == 36 && align_of::<BlockNVFP4>() == 1);

impl BlockNVFP4 {
    /// The largest scale, 448: the code above is no number.
    const LARGEST: u8 = 0x7e;

    /// Half of a scale, for doubled values: 4 bits of exponent, 3 of mantissa.
    fn half_scale(d: u8) -> f32 {
        let (exponent, mantissa) = (i32::from(d >> 3 & 0xf), f32::from(d & 7));
        match (exponent, d) {
            (_, 0x7f) => 0.0,
            (0, _) => mantissa * 2f32.powi(-10),
            _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 8),
        }
    }
}

impl Block<64> for BlockNVFP4 {
    const DTYPE: DType = DType::NVFP4;

    fn dequantize(&self, out: &mut [f32; 64]) {
        for (n, out) in out.iter_mut().enumerate() {
            let (sub, i) = (n / 16, n % 16);
            let q = self.qs[sub * 8 + i % 8] >> (i / 8 * 4) & 0xf;
            *out = Self::half_scale(self.d[sub]) * f32::from(MXFP4_DOUBLED[usize::from(q)]);
        }
    }

    /// Of the scales that bring the largest weight of a sub-block next to one of the two largest values, the one with the
    /// least error. Weights beyond 6 times 448 do not fit, and are cut. There is no NaN; what cannot be quantized gets the largest weights.
    fn quantize(x: &[f32; 64]) -> Self {
        let mut block = Self::zeroed();
        let subs: &[[f32; 16]; 4] = bytemuck::cast_ref(x);
        for (sub, x) in subs.iter().enumerate() {
            let Some(largest) = search::largest(x) else {
                block.d[sub] = Self::LARGEST;
                block.qs[sub * 8..][..8].fill(0x77);
                continue;
            };
            let mut best = (f32::INFINITY, 0, [0; 16]);
            // 12 and 8 are the doubled values.
            let (low, high) = (largest.abs() / 13.0, largest.abs() / 7.0);
            let fits = |&d: &u8| (low..=high).contains(&Self::half_scale(d));
            let nearest = (1..=Self::LARGEST).find(|&d| Self::half_scale(d) >= low);
            let ends = [nearest.unwrap_or(Self::LARGEST)];
            for d in (1..=Self::LARGEST).filter(fits).chain(ends) {
                let (error, codes) = choose(x, Self::half_scale(d));
                if error < best.0 {
                    best = (error, d, codes);
                }
            }
            block.d[sub] = best.1;
            for i in 0..8 {
                block.qs[sub * 8 + i] = best.2[i] | best.2[i + 8] << 4;
            }
        }
        block
    }
}
