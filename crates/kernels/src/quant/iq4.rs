//! IQ4_NL and IQ4_XS: 4-bit codes into a table that is finer around zero; 4.5 and 4.25 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::two_level::Codes;
use super::{Block, F16Le, search, two_level};

/// What the codes stand for.
pub(crate) const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// 32 weights `d · value(q)`.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..18 | `qs`: the low nibble of byte `i` is weight `i`, the high nibble weight `i + 16` |
///
/// Source: ggml `block_iq4_nl`, docs/formats/iq4.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ4_NL {
    /// The scale, of either sign.
    pub d: F16Le,
    /// Two codes per byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIQ4_NL>() == 18 && align_of::<BlockIQ4_NL>() == 1);

/// Codes into [`IQ4_VALUES`].
struct Table;

impl Codes<32> for Table {
    fn fit(&self, x: &[f32; 32], weights: &[f32; 32]) -> f32 {
        const TURNS: usize = 2;
        let largest = search::largest(x).unwrap_or(0.0);
        // A magnitude whose inverse overflows is zero in every format.
        if largest.abs() < f32::MIN_POSITIVE * 256.0 {
            return 0.0;
        }
        let mut best = (f32::INFINITY, 0.0);
        // The largest weight goes next to either end of the table.
        let ends = (-6..=6)
            .step_by(2)
            .flat_map(|step| [-127 + step, 113 + step]);
        for end in ends {
            let mut scale = largest / end as f32;
            for _ in 0..TURNS {
                let codes = self.choose(x, weights, scale).1;
                let (mut xq, mut qq) = (0.0, 0.0);
                for ((x, weight), code) in x.iter().zip(weights).zip(codes) {
                    let q = f32::from(IQ4_VALUES[code as usize]);
                    xq += weight * x * q;
                    qq += weight * q * q;
                }
                // Tiny weights may underflow.
                if !(xq / qq).is_normal() {
                    break;
                }
                scale = xq / qq;
                let (error, _) = self.choose(x, weights, scale);
                if error < best.0 {
                    best = (error, scale);
                }
            }
        }
        best.1
    }

    fn choose(&self, x: &[f32; 32], weights: &[f32; 32], scale: f32) -> (f32, [i8; 32]) {
        let inverse = 1.0 / scale;
        let codes = x.map(|x| nearest(x * inverse));
        let error = |i: usize| {
            let diff = scale * f32::from(IQ4_VALUES[codes[i] as usize]) - x[i];
            weights[i] * diff * diff
        };
        ((0..32).map(error).sum(), codes)
    }
}

/// The code of the value next to `x`.
fn nearest(x: f32) -> i8 {
    let above = |pair: &[i8; 2]| x > 0.5 * (f32::from(pair[0]) + f32::from(pair[1]));
    let pairs = IQ4_VALUES.array_windows();
    pairs.map(|pair| i8::from(above(pair))).sum()
}

/// The codes of 32 weights from 16 bytes, first the low nibbles.
fn values(qs: &[u8]) -> [f32; 32] {
    std::array::from_fn(|i| {
        let q = qs[i % 16] >> (i / 16 * 4) & 0xf;
        f32::from(IQ4_VALUES[usize::from(q)])
    })
}

fn pack(codes: &[i8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| codes[i] as u8 | (codes[i + 16] as u8) << 4)
}

impl Block<32> for BlockIQ4_NL {
    const DTYPE: DType = DType::IQ4_NL;

    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        *out = values(&self.qs).map(|value| d * value);
    }

    fn quantize(x: &[f32; 32]) -> Self {
        Self::quantize_weighted(x, None)
    }

    /// The scale of the least weighted error; the codes are those next to the scale as the file has it.
    fn quantize_weighted(x: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        let weights = search::importance(x, importance);
        let d = match search::largest(x) {
            Some(_) => F16Le::from_f32(Table.fit(x, &weights)),
            None => F16Le::NAN,
        };
        let scale = d.to_f32();
        let codes = match scale {
            0.0 => [8; 32],
            scale if scale.is_finite() => Table.choose(x, &weights, scale).1,
            _ => {
                return Self {
                    d: F16Le::NAN,
                    qs: [0; 16],
                };
            }
        };
        Self {
            d,
            qs: pack(&codes),
        }
    }
}

/// 256 weights in 8 sub-blocks of 32: `(d · (scale - 32)) · value(q)`, `scale` in `0..=63`.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..4 | `scales_h`: bits `2 j ..` are the top 2 bits of the scale of sub-block `j` |
/// | 4..8 | `scales_l`: nibble `j`, the low one first, is the rest of it |
/// | 8..136 | `qs`: 16 bytes for each sub-block, as in [`BlockIQ4_NL`] |
///
/// Source: ggml `block_iq4_xs`, docs/formats/iq4.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ4_XS {
    /// Scale of the scales.
    pub d: F16Le,
    /// High bits of the scales.
    pub scales_h: [u8; 2],
    /// Low bits of the scales.
    pub scales_l: [u8; 4],
    /// Two codes per byte.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockIQ4_XS>() == 136 && align_of::<BlockIQ4_XS>() == 1);

impl BlockIQ4_XS {
    /// The scale of sub-block `j`, `j < 8`, in `-32..=31`.
    pub fn scale(&self, j: usize) -> i8 {
        let low = self.scales_l[j / 2] >> (j % 2 * 4) & 0xf;
        let high = self.scales_h[j / 4] >> (j % 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    }
}

impl Block<256> for BlockIQ4_XS {
    const DTYPE: DType = DType::IQ4_XS;

    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let subs = out.as_chunks_mut::<32>().0.iter_mut();
        for (j, (out, qs)) in subs.zip(self.qs.as_chunks::<16>().0).enumerate() {
            let scale = d * f32::from(self.scale(j));
            *out = values(qs).map(|value| scale * value);
        }
    }

    fn quantize(x: &[f32; 256]) -> Self {
        Self::quantize_weighted(x, None)
    }

    /// Fits a scale to each sub-block, then chooses their 6-bit forms and the codes.
    fn quantize_weighted(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let subs: &[[f32; 32]; 8] = bytemuck::cast_ref(x);
        let importance = search::importance(x, importance);
        let weights = bytemuck::cast_ref(&importance);
        let Some(fit) = two_level::scaled(subs, weights, &Table, 32) else {
            return Self {
                d: F16Le::NAN,
                ..Self::zeroed()
            };
        };
        let mut block = Self {
            d: fit.d,
            qs: bytemuck::cast(fit.codes.map(|codes| pack(&codes))),
            ..Self::zeroed()
        };
        for (j, scale) in fit.scales.iter().enumerate() {
            let scale = (scale + 32) as u8;
            block.scales_l[j / 2] |= (scale & 0xf) << (j % 2 * 4);
            block.scales_h[j / 4] |= scale >> 4 << (j % 4 * 2);
        }
        block
    }
}
