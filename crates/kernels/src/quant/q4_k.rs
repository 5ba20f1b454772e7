//! Q4_K: 256 weights of 4 bits, with 6-bit scales and minima per 32; 4.5 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, F16Le, search, two_level};
use crate::lanes::{ArrayLanes, Lanes};

/// 256 weights in 8 sub-blocks of 32: `(d · scale) · q - dmin · min`, `q` in `0..=15`, `scale` and `min` in `0..=63`.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..4 | `dmin`, f16 |
/// | 4..16 | `scales`: 8 scales and 8 minima of 6 bits, see [`scale_min`](Self::scale_min) |
/// | 16..144 | `qs`: byte `32 p + i` holds weight `i` of sub-blocks `2 p` (low nibble) and `2 p + 1` (high nibble) |
///
/// Source: ggml `block_q4_K`, docs/formats/q4_k.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_K {
    /// Scale of the scales.
    pub d: F16Le,
    /// Scale of the minima.
    pub dmin: F16Le,
    /// Scales and minima of the sub-blocks, packed.
    pub scales: [u8; 12],
    /// Two codes per byte.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ4_K>() == 144 && align_of::<BlockQ4_K>() == 1);

impl BlockQ4_K {
    /// Weights per block.
    pub const LEN: usize = 256;
    /// Weights that share a scale and a minimum.
    pub const SUB_LEN: usize = 32;

    /// The scale and the minimum of sub-block `j`, `j < 8`, each in `0..=63`.
    ///
    /// Those of sub-blocks 0 to 3 are the low 6 bits of bytes `j` and `j + 4`. Of the others, byte `j + 4` holds the
    /// low 4 bits, scale below minimum, and the top 2 bits fill those that bytes `j - 4` and `j` have to spare.
    pub fn scale_min(&self, j: usize) -> (u8, u8) {
        let s = &self.scales;
        if j < 4 {
            (s[j] & 0x3f, s[j + 4] & 0x3f)
        } else {
            (
                s[j + 4] & 0xf | s[j - 4] >> 6 << 4,
                s[j + 4] >> 4 | s[j] >> 6 << 4,
            )
        }
    }

    /// The unsigned codes in order of the weights, `0..=15`.
    pub fn codes(&self) -> [u8; Self::LEN] {
        let mut codes = [0; Self::LEN];
        for (codes, qs) in codes
            .as_chunks_mut::<64>()
            .0
            .iter_mut()
            .zip(self.qs.as_chunks::<32>().0)
        {
            for (i, q) in qs.iter().enumerate() {
                codes[i] = q & 0xf;
                codes[i + 32] = q >> 4;
            }
        }
        codes
    }

    /// The inverse of [`scale_min`](Self::scale_min) for all sub-blocks.
    pub(super) fn pack_scales(scale_mins: &[(u8, u8); 8]) -> [u8; 12] {
        let mut packed = [0; 12];
        for j in 0..4 {
            let ((scale, min), (scale_4, min_4)) = (scale_mins[j], scale_mins[j + 4]);
            packed[j] = scale | scale_4 >> 4 << 6;
            packed[j + 4] = min | min_4 >> 4 << 6;
            packed[j + 8] = scale_4 & 0xf | min_4 << 4;
        }
        packed
    }
}

impl Block<256> for BlockQ4_K {
    const DTYPE: DType = DType::Q4_K;

    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let codes = self.codes();
        let subs = out
            .as_chunks_mut::<{ Self::SUB_LEN }>()
            .0
            .iter_mut()
            .zip(codes.as_chunks::<{ Self::SUB_LEN }>().0);
        for (j, (out, codes)) in subs.enumerate() {
            let (scale, min) = self.scale_min(j);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (out, q) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(*q) - min;
            }
        }
    }

    fn quantize(x: &[f32; 256]) -> Self {
        Self::quantize_weighted(x, None)
    }

    fn quantize_weighted(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        // SAFETY: arrays ask for no features.
        unsafe { Self::quantize_in::<ArrayLanes>(x, importance) }
    }

    /// Fits a scale and a minimum to each sub-block, then chooses their 6-bit forms and the codes once `d` and `dmin`
    /// are known with the rounding that the file gives them.
    #[inline(always)]
    unsafe fn quantize_in<L: Lanes>(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let subs: &[[f32; 32]; 8] = bytemuck::cast_ref(x);
        let importance = search::importance(x, importance);
        let weights = bytemuck::cast_ref(&importance);
        // SAFETY: forwarded from the caller.
        let fit = unsafe { two_level::with_minima::<L, _, _>(subs, weights, 15, 63) };
        let Some(fit) = fit else {
            return Self {
                d: F16Le::NAN,
                ..Self::zeroed()
            };
        };
        let mut qs = [0; 128];
        for (j, codes) in fit.codes.iter().enumerate() {
            for (q, code) in qs[j / 2 * 32..].iter_mut().zip(codes) {
                *q |= (*code as u8) << (4 * (j % 2));
            }
        }
        Self {
            d: fit.d,
            dmin: fit.dmin,
            scales: Self::pack_scales(&fit.scale_mins),
            qs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_scales_come_back() {
        let scale_mins = std::array::from_fn(|j| (63 - 7 * j as u8, (21 * j as u8 + 5) % 64));
        let block = BlockQ4_K {
            scales: BlockQ4_K::pack_scales(&scale_mins),
            ..BlockQ4_K::zeroed()
        };
        assert_eq!(std::array::from_fn(|j| block.scale_min(j)), scale_mins);
    }
}
