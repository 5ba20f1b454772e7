//! Q3_K: 256 weights of 3 bits, with 6-bit scales per 16; 3.4375 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::q2_k::{pack_two_bits, two_bits};
use super::{Block, F16Le, search, two_level};
use crate::lanes::{ArrayLanes, Lanes};

/// 256 weights in 16 sub-blocks of 16: `(d · (scale - 32)) · (q - 4)`, `q` in `0..=7`, `scale` in `0..=63`.
///
/// | bytes | content |
/// |---|---|
/// | 0..32 | `hmask`: bit `g` of byte `i` is the third bit of weight `32 g + i` |
/// | 32..96 | `qs`: the low two bits, as in [`BlockQ2_K`](super::BlockQ2_K) |
/// | 96..108 | `scales`, see [`scale`](Self::scale) |
/// | 108..110 | `d`, f16 |
///
/// Source: ggml `block_q3_K`, docs/formats/k.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ3_K {
    /// High bits.
    pub hmask: [u8; 32],
    /// Low bits, four codes per byte.
    pub qs: [u8; 64],
    /// Scales of the sub-blocks, packed.
    pub scales: [u8; 12],
    /// Scale of the scales.
    pub d: F16Le,
}

const _: () = assert!(size_of::<BlockQ3_K>() == 110 && align_of::<BlockQ3_K>() == 1);

impl BlockQ3_K {
    /// The scale of sub-block `j`, `j < 16`, in `-32..=31`.
    ///
    /// Its low 4 bits are a nibble of byte `j % 8`, the high one from `j = 8` on. The top 2 bits are in byte `8 + j % 4`,
    /// shifted by `j / 4 * 2`.
    pub fn scale(&self, j: usize) -> i8 {
        let low = self.scales[j % 8] >> (j / 8 * 4) & 0xf;
        let high = self.scales[8 + j % 4] >> (j / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    }

    /// The inverse of [`scale`](Self::scale) for all sub-blocks.
    fn pack_scales(scales: &[i8; 16]) -> [u8; 12] {
        let mut packed = [0; 12];
        for (j, scale) in scales.iter().enumerate() {
            let scale = (scale + 32) as u8;
            packed[j % 8] |= (scale & 0xf) << (j / 8 * 4);
            packed[8 + j % 4] |= scale >> 4 << (j / 4 * 2);
        }
        packed
    }
}

impl Block<256> for BlockQ3_K {
    const DTYPE: DType = DType::Q3_K;

    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (n, out) in out.iter_mut().enumerate() {
            let high = self.hmask[n % 32] >> (n / 32) & 1;
            let q = two_bits(&self.qs, n) | high << 2;
            *out = d * f32::from(self.scale(n / 16)) * (f32::from(q) - 4.0);
        }
    }

    fn quantize(x: &[f32; 256]) -> Self {
        Self::quantize_weighted(x, None)
    }

    fn quantize_weighted(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        // SAFETY: arrays ask for no features.
        unsafe { Self::quantize_in::<ArrayLanes>(x, importance) }
    }

    /// Fits a scale to each sub-block, then chooses their 6-bit forms and the codes.
    #[inline(always)]
    unsafe fn quantize_in<L: Lanes>(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let subs: &[[f32; 16]; 16] = bytemuck::cast_ref(x);
        let importance = search::importance(x, importance);
        let weights = bytemuck::cast_ref(&importance);
        // SAFETY: forwarded from the caller.
        let fit = unsafe { two_level::whole::<L, _, _>(subs, weights, (-4, 3), -32) };
        let Some(fit) = fit else {
            return Self {
                d: F16Le::NAN,
                ..Self::zeroed()
            };
        };
        let codes = fit.codes.as_flattened().iter().map(|code| (code + 4) as u8);
        let mut hmask = [0; 32];
        for (n, code) in codes.clone().enumerate() {
            hmask[n % 32] |= (code >> 2) << (n / 32);
        }
        Self {
            hmask,
            qs: pack_two_bits(codes),
            scales: Self::pack_scales(&fit.scales),
            d: fit.d,
        }
    }
}
