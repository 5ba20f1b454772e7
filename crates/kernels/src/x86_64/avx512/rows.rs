//! Sixteen rows in one 512-bit register.

use std::arch::x86_64::*;

use crate::panel::Rows;

/// A number for each row of a panel.
#[derive(Clone, Copy)]
pub(crate) struct ZmmRows(pub(crate) __m512i);

#[inline(always)]
unsafe fn count(bits: usize) -> __m512i {
    // SAFETY: features as in the callers.
    unsafe { _mm512_set1_epi32(bits as i32) }
}

// SAFETY: of every block below: the trait's callers guarantee the features and the pointers.
impl Rows for ZmmRows {
    const COUNT: usize = 16;
    type Float = __m512;

    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_loadu_si512(p.cast()) })
    }
    #[inline(always)]
    unsafe fn load_words(p: *const u8) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(p.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: u32) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_set1_epi32(value.cast_signed()) })
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_and_si512(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_or_si512(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_add_epi32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_sub_epi32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn shl(self, bits: usize) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_sllv_epi32(self.0, count(bits)) })
    }
    #[inline(always)]
    unsafe fn shr(self, bits: usize) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_srlv_epi32(self.0, count(bits)) })
    }
    #[inline(always)]
    unsafe fn times(self, by: u16) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_mullo_epi16(self.0, _mm512_set1_epi16(by.cast_signed())) })
    }
    #[inline(always)]
    unsafe fn zero_if(self, value: u32) -> Self {
        // SAFETY: see above.
        Self(unsafe {
            let others = _mm512_cmpneq_epi32_mask(self.0, Self::splat(value).0);
            _mm512_maskz_mov_epi32(others, self.0)
        })
    }
    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16]) -> Self {
        // SAFETY: see above.
        Self(unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), self.0)
        })
    }
    #[inline(always)]
    unsafe fn gather(self, table: &[u32]) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_i32gather_epi32::<4>(self.0, table.as_ptr().cast()) })
    }
    #[inline(always)]
    unsafe fn float(self) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn half(self) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(self.0)) }
    }
    #[inline(always)]
    unsafe fn bits(self) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_f32(a: __m512, b: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, _mm512_set1_ps(b)) }
    }
    #[inline(always)]
    unsafe fn store_float(a: __m512, p: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(p, a) }
    }
}
