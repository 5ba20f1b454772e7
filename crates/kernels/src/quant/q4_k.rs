//! Q4_K: 256 weights of 4 bits, with 6-bit scales and minima per 32; 4.5 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, F16Le, search};

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

    /// A block of which every weight is `d`: zero or NaN.
    fn uniform(d: F16Le) -> Self {
        Self {
            d,
            ..Self::zeroed()
        }
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

    /// Fits a scale and a minimum to each sub-block, then chooses their 6-bit forms and the codes once `d` and `dmin`
    /// are known with the rounding that the file gives them.
    fn quantize(x: &[f32; 256]) -> Self {
        if search::largest(x).is_none() {
            return Self::uniform(F16Le::NAN);
        }
        let subs: &[[f32; 32]; 8] = bytemuck::cast_ref(x);
        let fits = subs.map(|x| search::fit_scale_min(&x, &search::importance(&x), 15));
        let d = F16Le::from_f32_away(fits.iter().fold(0.0, |max, fit| fit.0.max(max)) / 63.0);
        let dmin = F16Le::from_f32_away(fits.iter().fold(0.0, |max, fit| fit.1.max(max)) / 63.0);
        if !d.to_f32().is_finite() || !dmin.to_f32().is_finite() {
            return Self::uniform(F16Le::NAN);
        }
        let mut scale_mins = [(0, 0); 8];
        let mut qs = [0; 128];
        for (j, (x, fit)) in subs.iter().zip(fits).enumerate() {
            let (scale_min, codes) = choose(x, fit, d.to_f32(), dmin.to_f32());
            scale_mins[j] = scale_min;
            for (q, code) in qs[j / 2 * 32..].iter_mut().zip(codes) {
                *q |= (code as u8) << (4 * (j % 2));
            }
        }
        Self {
            d,
            dmin,
            scales: Self::pack_scales(&scale_mins),
            qs,
        }
    }
}

/// The 6-bit scale and minimum next to `fit`, and the codes, with the least error when scaled by `d` and `dmin`.
fn choose(x: &[f32; 32], fit: (f32, f32), d: f32, dmin: f32) -> ((u8, u8), [i8; 32]) {
    let importance = search::importance(x);
    let mut best = (f32::INFINITY, (0, 0), [0; 32]);
    for scale in around(fit.0, d) {
        for min in around(fit.1, dmin) {
            let (step, offset) = (d * f32::from(scale), dmin * f32::from(min));
            let codes = match 1.0 / step {
                inverse if inverse.is_finite() => {
                    search::codes(&x.map(|x| x + offset), inverse, 0, 15)
                }
                _ => [0; 32],
            };
            let error = search::error(x, &importance, &codes, step, offset);
            if error < best.0 {
                best = (error, (scale, min), codes);
            }
        }
    }
    (best.1, best.2)
}

/// The multiples of `unit` next to `value`, at most 63 of them.
fn around(value: f32, unit: f32) -> impl Iterator<Item = u8> {
    // 0 / 0 is NaN, which becomes 0.
    let nearest = (value / unit + 0.5) as u8;
    nearest.saturating_sub(1).min(63)..=nearest.saturating_add(1).min(63)
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
