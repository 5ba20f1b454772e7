//! Q5_K: 256 weights of 5 bits, with 6-bit scales and minima per 32; 5.5 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, BlockQ4_K, F16Le, search, two_level};
use crate::lanes::{ArrayLanes, Lanes};

/// 256 weights in 8 sub-blocks of 32: `(d · scale) · q - dmin · min`, `q` in `0..=31`, `scale` and `min` in `0..=63`.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..4 | `dmin`, f16 |
/// | 4..16 | `scales`: as in [`BlockQ4_K`] |
/// | 16..48 | `qh`: bit `j` of byte `i` is the fifth bit of weight `i` of sub-block `j` |
/// | 48..176 | `qs`: the low bits, as in [`BlockQ4_K`] |
///
/// Source: ggml `block_q5_K`, docs/formats/k.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_K {
    /// Scale of the scales.
    pub d: F16Le,
    /// Scale of the minima.
    pub dmin: F16Le,
    /// Scales and minima of the sub-blocks, packed.
    pub scales: [u8; 12],
    /// Fifth bits.
    pub qh: [u8; 32],
    /// The low bits of two codes per byte.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5_K>() == 176 && align_of::<BlockQ5_K>() == 1);

impl Block<256> for BlockQ5_K {
    const DTYPE: DType = DType::Q5_K;

    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let low = BlockQ4_K {
            d: self.d,
            dmin: self.dmin,
            scales: self.scales,
            qs: self.qs,
        };
        for (n, (out, code)) in out.iter_mut().zip(low.codes()).enumerate() {
            let (scale, min) = low.scale_min(n / 32);
            let fifth = self.qh[n % 32] >> (n / 32) & 1;
            let q = f32::from(code | fifth << 4);
            *out = d * f32::from(scale) * q - dmin * f32::from(min);
        }
    }

    fn quantize(x: &[f32; 256]) -> Self {
        Self::quantize_weighted(x, None)
    }

    fn quantize_weighted(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        // SAFETY: arrays ask for no features.
        unsafe { Self::quantize_in::<ArrayLanes>(x, importance) }
    }

    /// As in [`BlockQ4_K`], with one more bit.
    #[inline(always)]
    unsafe fn quantize_in<L: Lanes>(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let subs: &[[f32; 32]; 8] = bytemuck::cast_ref(x);
        let importance = search::importance(x, importance);
        let weights = bytemuck::cast_ref(&importance);
        // SAFETY: forwarded from the caller.
        let fit = unsafe { two_level::with_minima::<L, _, _>(subs, weights, 31, 63) };
        let Some(fit) = fit else {
            return Self {
                d: F16Le::NAN,
                ..Self::zeroed()
            };
        };
        let mut block = Self {
            d: fit.d,
            dmin: fit.dmin,
            scales: BlockQ4_K::pack_scales(&fit.scale_mins),
            ..Self::zeroed()
        };
        for (n, code) in fit.codes.as_flattened().iter().enumerate() {
            let (j, i, code) = (n / 32, n % 32, *code as u8);
            block.qs[j / 2 * 32 + i] |= (code & 0xf) << (j % 2 * 4);
            block.qh[i] |= (code >> 4) << j;
        }
        block
    }
}
