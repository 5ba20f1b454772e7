//! TQ1_0 and TQ2_0: weights -1, 0 and 1 under one f16 scale per 256; 1.6875 and 2.0625 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::q2_k::{pack_two_bits, two_bits};
use super::{Block, F16Le, search};

/// The scale and the digits, 0 to 2; with a NaN scale if the block cannot be quantized.
fn digits(x: &[f32; 256]) -> (F16Le, [u8; 256]) {
    let largest = search::largest(x).map_or(f32::NAN, f32::abs);
    let d = F16Le::from_f32(largest);
    if !d.to_f32().is_finite() {
        return (F16Le::NAN, [1; 256]);
    }
    // Below f16's smallest step every weight is zero; and the inverse may overflow.
    let inverse = if d.to_f32() == 0.0 {
        0.0
    } else {
        1.0 / largest
    };
    (d, x.map(|x| ((x * inverse).round() + 1.0) as u8))
}

/// 256 weights `d · (q - 1)`, `q` in `0..=2`; a file may hold 3 too.
///
/// | bytes | content |
/// |---|---|
/// | 0..64 | `qs`: weight `32 g + i` of half `h` is in byte `32 h + i`, shifted by `2 g` |
/// | 64..66 | `d`, f16 |
///
/// Source: ggml `block_tq2_0`, docs/formats/ternary.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockTQ2_0 {
    /// Four codes per byte.
    pub qs: [u8; 64],
    /// The scale.
    pub d: F16Le,
}

const _: () = assert!(size_of::<BlockTQ2_0>() == 66 && align_of::<BlockTQ2_0>() == 1);

impl Block<256> for BlockTQ2_0 {
    const DTYPE: DType = DType::TQ2_0;

    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (n, out) in out.iter_mut().enumerate() {
            *out = d * (f32::from(two_bits(&self.qs, n)) - 1.0);
        }
    }

    /// The largest magnitude becomes 1; the rest round to nearest, ties away from zero.
    fn quantize(x: &[f32; 256]) -> Self {
        let (d, digits) = digits(x);
        Self {
            qs: pack_two_bits(digits.into_iter()),
            d,
        }
    }
}

/// 256 weights `d · (q - 1)`, `q` in `0..=2`.
///
/// | bytes | content |
/// |---|---|
/// | 0..32 | `qs`: digits `g` of byte `i`: weight `32 g + i`, `g < 5` |
/// | 32..48 | digit `g` of byte `32 + i`: weight `160 + 16 g + i`, `g < 5` |
/// | 48..52 | `qh`: digit `g` of byte `48 + i`: weight `240 + 4 g + i`, `g < 4` |
/// | 52..54 | `d`, f16 |
///
/// A byte is `ceil(n · 256 / 243)`, where the digits of `n` to the base 3 are those of the weights, digit 0 the highest.
/// So it is a fraction of 256: times three, what overflows is the first digit, and the rest is a fraction again.
///
/// Source: ggml `block_tq1_0`, docs/formats/ternary.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockTQ1_0 {
    /// Five digits per byte.
    pub qs: [u8; 48],
    /// Four digits per byte.
    pub qh: [u8; 4],
    /// The scale.
    pub d: F16Le,
}

const _: () = assert!(size_of::<BlockTQ1_0>() == 54 && align_of::<BlockTQ1_0>() == 1);

/// Byte and digit of weight `n` of a TQ1_0 block.
fn place(n: usize) -> (usize, u32) {
    let (byte, digit) = match n {
        0..160 => (n % 32, n / 32),
        160..240 => (32 + n % 16, (n - 160) / 16),
        _ => (48 + n % 4, (n - 240) / 4),
    };
    (byte, digit as u32)
}

impl Block<256> for BlockTQ1_0 {
    const DTYPE: DType = DType::TQ1_0;

    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let bytes = [&self.qs[..], &self.qh].concat();
        for (n, out) in out.iter_mut().enumerate() {
            let (byte, digit) = place(n);
            let fraction = bytes[byte].wrapping_mul(3u8.pow(digit));
            let q = (u16::from(fraction) * 3) >> 8;
            *out = d * (f32::from(q) - 1.0);
        }
    }

    /// As [`BlockTQ2_0`].
    fn quantize(x: &[f32; 256]) -> Self {
        let (d, digits) = digits(x);
        let mut numbers = [0u16; 52];
        for (n, digit) in digits.into_iter().enumerate() {
            let (byte, place) = place(n);
            numbers[byte] += u16::from(digit) * 3u16.pow(4 - place);
        }
        let byte = |i: usize| (numbers[i] * 256).div_ceil(243) as u8;
        Self {
            qs: std::array::from_fn(byte),
            qh: std::array::from_fn(|i| byte(48 + i)),
            d,
        }
    }
}
