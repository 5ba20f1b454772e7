//! Q2_K: 256 weights of 2 bits, with 4-bit scales and minima per 16; 2.625 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, F16Le, search, two_level};
use crate::lanes::{ArrayLanes, Lanes};

/// 256 weights in 16 sub-blocks of 16: `(d · scale) · q - dmin · min`, `q` in `0..=3`, `scale` and `min` in `0..=15`.
///
/// | bytes | content |
/// |---|---|
/// | 0..16 | `scales`: of sub-block `j`, the scale below the minimum |
/// | 16..80 | `qs`: weight `32 g + i` of half `h` is in byte `32 h + i`, shifted by `2 g` |
/// | 80..82 | `d`, f16 |
/// | 82..84 | `dmin`, f16 |
///
/// Source: ggml `block_q2_K`, docs/formats/k.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ2_K {
    /// Scales and minima of the sub-blocks.
    pub scales: [u8; 16],
    /// Four codes per byte.
    pub qs: [u8; 64],
    /// Scale of the scales.
    pub d: F16Le,
    /// Scale of the minima.
    pub dmin: F16Le,
}

const _: () = assert!(size_of::<BlockQ2_K>() == 84 && align_of::<BlockQ2_K>() == 1);

/// The two bits of each weight: weight `32 g + i` of half `h` is in byte `32 h + i`, shifted by `2 g`.
pub(super) fn two_bits(qs: &[u8; 64], n: usize) -> u8 {
    qs[n / 128 * 32 + n % 32] >> (n / 32 % 4 * 2) & 3
}

/// The inverse of [`two_bits`] for all weights.
pub(super) fn pack_two_bits(codes: impl Iterator<Item = u8>) -> [u8; 64] {
    let mut qs = [0; 64];
    for (n, code) in codes.enumerate() {
        qs[n / 128 * 32 + n % 32] |= (code & 3) << (n / 32 % 4 * 2);
    }
    qs
}

impl Block<256> for BlockQ2_K {
    const DTYPE: DType = DType::Q2_K;

    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (n, out) in out.iter_mut().enumerate() {
            let scales = self.scales[n / 16];
            let (scale, min) = (f32::from(scales & 0xf), f32::from(scales >> 4));
            *out = d * scale * f32::from(two_bits(&self.qs, n)) - dmin * min;
        }
    }

    fn quantize(x: &[f32; 256]) -> Self {
        Self::quantize_weighted(x, None)
    }

    fn quantize_weighted(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        // SAFETY: arrays ask for no features.
        unsafe { Self::quantize_in::<ArrayLanes>(x, importance) }
    }

    /// Fits a scale and a minimum to each sub-block, then chooses their 4-bit forms and the codes.
    #[inline(always)]
    unsafe fn quantize_in<L: Lanes>(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let subs: &[[f32; 16]; 16] = bytemuck::cast_ref(x);
        let importance = search::importance(x, importance);
        let weights = bytemuck::cast_ref(&importance);
        // SAFETY: forwarded from the caller.
        let fit = unsafe { two_level::with_minima::<L, _, _>(subs, weights, 3, 15) };
        let Some(fit) = fit else {
            return Self {
                d: F16Le::NAN,
                ..Self::zeroed()
            };
        };
        Self {
            scales: fit.scale_mins.map(|(scale, min)| scale | min << 4),
            qs: pack_two_bits(fit.codes.as_flattened().iter().map(|&code| code as u8)),
            d: fit.d,
            dmin: fit.dmin,
        }
    }
}
