//! Q6_K: 256 weights of 6 bits, with 8-bit scales per 16; 6.5625 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, F16Le, search};

/// 256 weights in 16 sub-blocks of 16: `(d · scale) · (q - 32)`, `q` in `0..=63`, `scale` a signed byte.
///
/// | bytes | content |
/// |---|---|
/// | 0..128 | `ql`: the low 4 bits of the codes |
/// | 128..192 | `qh`: the high 2 bits of the codes |
/// | 192..208 | `scales`: of sub-block `j`, signed |
/// | 208..210 | `d`, f16 |
///
/// The two halves of 128 weights are alike. Weight `32 g + i` of half `h`, with `g < 4` and `i < 32`, has
/// - its low bits in byte `64 h + 32 (g % 2) + i` of `ql`: the low nibble for `g < 2`, else the high nibble;
/// - its high bits in byte `32 h + i` of `qh`, shifted by `2 g`.
///
/// Source: ggml `block_q6_K`, docs/formats/q6_k.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ6_K {
    /// Low bits, two codes per byte.
    pub ql: [u8; 128],
    /// High bits, four codes per byte.
    pub qh: [u8; 64],
    /// Scales of the sub-blocks.
    pub scales: [i8; 16],
    /// Scale of the scales.
    pub d: F16Le,
}

const _: () = assert!(size_of::<BlockQ6_K>() == 210 && align_of::<BlockQ6_K>() == 1);

impl BlockQ6_K {
    /// Weights per block.
    pub const LEN: usize = 256;
    /// Weights that share a scale.
    pub const SUB_LEN: usize = 16;

    /// The integer weights in order, `-32..=31`.
    pub fn codes(&self) -> [i8; Self::LEN] {
        std::array::from_fn(|n| {
            let (h, g, i) = (n / 128, n / 32 % 4, n % 32);
            let low = self.ql[64 * h + 32 * (g % 2) + i] >> (4 * (g / 2)) & 0xf;
            let high = self.qh[32 * h + i] >> (2 * g) & 0x3;
            (low | high << 4) as i8 - 32
        })
    }

    /// The block that holds these integer weights, `-32..=31`.
    fn pack(codes: &[i8; Self::LEN], scales: [i8; 16], d: F16Le) -> Self {
        let mut block = Self {
            scales,
            d,
            ..Self::zeroed()
        };
        for (n, code) in codes.iter().enumerate() {
            let (h, g, i) = (n / 128, n / 32 % 4, n % 32);
            let q = (code + 32) as u8;
            block.ql[64 * h + 32 * (g % 2) + i] |= (q & 0xf) << (4 * (g / 2));
            block.qh[32 * h + i] |= q >> 4 << (2 * g);
        }
        block
    }
}

impl Block<256> for BlockQ6_K {
    const DTYPE: DType = DType::Q6_K;

    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (n, (out, code)) in out.iter_mut().zip(self.codes()).enumerate() {
            *out = d * f32::from(self.scales[n / Self::SUB_LEN]) * f32::from(code);
        }
    }

    /// Fits a scale to each sub-block, then chooses its 8-bit form and the codes once `d` is known with the rounding
    /// that the file gives it. The scale of largest magnitude becomes -128, or less where f16's steps are coarse.
    fn quantize(x: &[f32; 256]) -> Self {
        if search::largest(x).is_none() {
            return Self::pack(&[0; 256], [0; 16], F16Le::NAN);
        }
        let subs: &[[f32; 16]; 16] = bytemuck::cast_ref(x);
        let fits = subs.map(|x| search::fit_scale(&x, &search::importance(&x), -32, 31));
        let largest = fits.iter().fold(
            0.0f32,
            |max, &fit| if fit.abs() > max.abs() { fit } else { max },
        );
        let d = F16Le::from_f32_away(largest / -128.0);
        if !d.to_f32().is_finite() {
            return Self::pack(&[0; 256], [0; 16], F16Le::NAN);
        }
        let mut scales = [0; 16];
        let mut codes = [[0; 16]; 16];
        for (j, (x, fit)) in subs.iter().zip(fits).enumerate() {
            (scales[j], codes[j]) = choose(x, fit, d.to_f32());
        }
        Self::pack(bytemuck::cast_ref(&codes), scales, d)
    }
}

/// The 8-bit scale next to `fit`, and the codes, with the least error when scaled by `d`.
fn choose(x: &[f32; 16], fit: f32, d: f32) -> (i8, [i8; 16]) {
    let importance = search::importance(x);
    // Saturates at both ends; 0 / 0 is NaN, which becomes 0.
    let nearest = (fit / d).round() as i8;
    let mut best = (f32::INFINITY, 0, [0; 16]);
    for scale in nearest.saturating_sub(1)..=nearest.saturating_add(1) {
        let step = d * f32::from(scale);
        let codes = match 1.0 / step {
            inverse if inverse.is_finite() => search::codes(x, inverse, -32, 31),
            _ => [0; 16],
        };
        let error = search::error(x, &importance, &codes, step, 0.0);
        if error < best.0 {
            best = (error, scale, codes);
        }
    }
    (best.1, best.2)
}
