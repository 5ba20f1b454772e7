//! Four rows in one 128-bit register: a quarter of a panel.

use std::arch::aarch64::*;

use super::lanes::widen_f16;
use crate::panel::Rows;

/// A number for each of four rows.
#[derive(Clone, Copy)]
pub(super) struct Quarter(pub(super) uint32x4_t);

// SAFETY: of every block below: the trait's callers guarantee the features and the pointers.
impl Rows for Quarter {
    const COUNT: usize = 4;
    type Float = float32x4_t;

    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above.
        Self(unsafe { vreinterpretq_u32_u8(vld1q_u8(p)) })
    }
    #[inline(always)]
    unsafe fn load_words(p: *const u8) -> Self {
        // SAFETY: see above.
        Self(unsafe { vmovl_u16(vreinterpret_u16_u8(vld1_u8(p))) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        // SAFETY: see above.
        unsafe { vst1q_u8(p, vreinterpretq_u8_u32(self.0)) }
    }
    #[inline(always)]
    unsafe fn splat(value: u32) -> Self {
        // SAFETY: see above.
        Self(unsafe { vdupq_n_u32(value) })
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vandq_u32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vorrq_u32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { veorq_u32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vaddq_u32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vsubq_u32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn shl(self, bits: usize) -> Self {
        // SAFETY: see above.
        Self(unsafe { vshlq_u32(self.0, vdupq_n_s32(bits as i32)) })
    }
    #[inline(always)]
    unsafe fn shr(self, bits: usize) -> Self {
        // The instruction shifts to the left; to the right if told a negative number.
        // SAFETY: see above.
        Self(unsafe { vshlq_u32(self.0, vdupq_n_s32(-(bits as i32))) })
    }
    #[inline(always)]
    unsafe fn times(self, by: u16) -> Self {
        // SAFETY: see above.
        Self(unsafe {
            let words = vreinterpretq_u16_u32(self.0);
            vreinterpretq_u32_u16(vmulq_n_u16(words, by))
        })
    }
    #[inline(always)]
    unsafe fn zero_if(self, value: u32) -> Self {
        // SAFETY: see above.
        Self(unsafe { vbicq_u32(self.0, vceqq_u32(self.0, vdupq_n_u32(value))) })
    }
    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16]) -> Self {
        // SAFETY: see above.
        Self(unsafe {
            let table = vld1q_u8(table.as_ptr());
            vreinterpretq_u32_u8(vqtbl1q_u8(table, vreinterpretq_u8_u32(self.0)))
        })
    }
    #[inline(always)]
    unsafe fn gather(self, table: &[u32]) -> Self {
        // SAFETY: see above.
        unsafe {
            let (mut index, mut found) = ([0; 4], [0; 4]);
            vst1q_u32(index.as_mut_ptr(), self.0);
            for (found, index) in found.iter_mut().zip(index) {
                *found = *table.get_unchecked(index as usize);
            }
            Self(vld1q_u32(found.as_ptr()))
        }
    }
    #[inline(always)]
    unsafe fn float(self) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vcvtq_f32_s32(vreinterpretq_s32_u32(self.0)) }
    }
    #[inline(always)]
    unsafe fn half(self) -> float32x4_t {
        // SAFETY: see above.
        unsafe { widen_f16(vmovn_u32(self.0)) }
    }
    #[inline(always)]
    unsafe fn bits(self) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_u32(self.0) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_f32(a: float32x4_t, b: f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vmulq_n_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn store_float(a: float32x4_t, p: *mut f32) {
        // SAFETY: see above.
        unsafe { vst1q_f32(p, a) }
    }
}
