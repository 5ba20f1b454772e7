//! Q6_K: 256 weights of 6 bits, with 8-bit scales per 16; 6.5625 bits per weight.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::{Block, F16Le, search, two_level};
use crate::lanes::{ArrayLanes, Lanes};

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

    fn quantize(x: &[f32; 256]) -> Self {
        Self::quantize_weighted(x, None)
    }

    fn quantize_weighted(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        // SAFETY: arrays ask for no features.
        unsafe { Self::quantize_in::<ArrayLanes>(x, importance) }
    }

    /// Fits a scale to each sub-block, then chooses its 8-bit form and the codes once `d` is known with the rounding
    /// that the file gives it. The scale of largest magnitude becomes -128, or less where f16's steps are coarse.
    #[inline(always)]
    unsafe fn quantize_in<L: Lanes>(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let subs: &[[f32; 16]; 16] = bytemuck::cast_ref(x);
        let importance = search::importance(x, importance);
        let weights = bytemuck::cast_ref(&importance);
        // SAFETY: forwarded from the caller.
        let fit = unsafe { two_level::whole::<L, _, _>(subs, weights, (-32, 31), -128) };
        match fit {
            Some(fit) => Self::pack(bytemuck::cast_ref(&fit.codes), fit.scales, fit.d),
            None => Self::pack(&[0; 256], [0; 16], F16Le::NAN),
        }
    }
}
