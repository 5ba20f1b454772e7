//! Sixteen lanes in four 128-bit registers.

use std::arch::aarch64::*;

use crate::lanes::Lanes;

/// Four 128-bit registers: lanes 0..4, 4..8, 8..12 and 12..16.
#[derive(Clone, Copy)]
pub(crate) struct FourRegisters([float32x4_t; 4]);

// The features of closures are those that every aarch64 has, NEON among them: the intrinsics are inlined.
impl FourRegisters {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn map(self, f: impl Fn(float32x4_t) -> float32x4_t) -> Self {
        Self(self.0.map(f))
    }
}

// SAFETY: of every block below: the trait's callers guarantee the features and the pointers.
impl Lanes for FourRegisters {
    const QUERIES: usize = 2;
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        super::prefetch(p);
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: see above.
        Self([unsafe { vdupq_n_f32(v) }; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: see above.
        Self(std::array::from_fn(|i| unsafe { vld1q_f32(p.add(4 * i)) }))
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        // SAFETY: see above.
        Self(std::array::from_fn(|i| unsafe {
            widen_f16(vld1_u16(p.add(4 * i)))
        }))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: see above.
        Self(std::array::from_fn(|i| unsafe {
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p.add(4 * i))))
        }))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: see above.
        unsafe { widen(vld1q_s8(p)) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(p: *const u8) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let (bytes, eight) = (vld1q_u8(p), vdupq_n_u8(8));
            let less_eight = |half| widen(vreinterpretq_s8_u8(vsubq_u8(half, eight)));
            (
                less_eight(vandq_u8(bytes, vdupq_n_u8(15))),
                less_eight(vshrq_n_u8::<4>(bytes)),
            )
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        for (i, v) in self.0.into_iter().enumerate() {
            // SAFETY: see above.
            unsafe { vst1q_f32(p.add(4 * i), v) }
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        self.zip(other, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        self.zip(other, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        self.zip(other, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        self.zip(other, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // Not `fmax`, which passes NaN on: the second operand when either is.
        // SAFETY: see above.
        self.zip(other, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        self.zip(other, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: see above.
        self.map(|v| unsafe { vabsq_f32(v) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        Self(std::array::from_fn(|i| unsafe {
            vfmaq_f32(c.0[i], self.0[i], b.0[i])
        }))
    }
    #[inline(always)]
    unsafe fn neg_mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        Self(std::array::from_fn(|i| unsafe {
            vfmsq_f32(c.0[i], self.0[i], b.0[i])
        }))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: see above.
        self.map(|v| unsafe { vrndnq_f32(v) })
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        // SAFETY: see above.
        self.map(|v| unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(v), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        })
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8) {
        // SAFETY: see above.
        unsafe {
            let words = self.0.map(|v| vqmovn_s32(vcvtq_s32_f32(v)));
            let low = vqmovn_s16(vcombine_s16(words[0], words[1]));
            let high = vqmovn_s16(vcombine_s16(words[2], words[3]));
            vst1q_s8(p, vcombine_s8(low, high));
        }
    }
}

/// Sixteen bytes as f32.
#[inline(always)]
unsafe fn widen(bytes: int8x16_t) -> FourRegisters {
    // SAFETY: features as in the callers.
    unsafe {
        let halves = [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)];
        let quarter = |i: usize| match i % 2 {
            0 => vmovl_s16(vget_low_s16(halves[i / 2])),
            _ => vmovl_high_s16(halves[i / 2]),
        };
        FourRegisters(std::array::from_fn(|i| vcvtq_f32_s32(quarter(i))))
    }
}

/// Four f16 as f32.
#[inline(always)]
pub(super) unsafe fn widen_f16(halves: uint16x4_t) -> float32x4_t {
    // SAFETY: features as in the callers.
    unsafe { vcvt_f32_f16(vreinterpret_f16_u16(halves)) }
}
