//! Eight rows in one 256-bit register.

use std::arch::x86_64::*;

use crate::panel::Rows;

/// A number for each of eight rows.
#[derive(Clone, Copy)]
pub(super) struct YmmRows(pub(super) __m256i);

#[inline(always)]
unsafe fn count(bits: usize) -> __m256i {
    // SAFETY: features as in the callers.
    unsafe { _mm256_set1_epi32(bits as i32) }
}

// SAFETY: of every block below: the trait's callers guarantee the features and the pointers.
impl Rows for YmmRows {
    const COUNT: usize = 8;
    type Float = __m256;

    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_loadu_si256(p.cast()) })
    }
    #[inline(always)]
    unsafe fn load_words(p: *const u8) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_si256(p.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: u32) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_set1_epi32(value.cast_signed()) })
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_and_si256(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_or_si256(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_xor_si256(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_add_epi32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_sub_epi32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn shl(self, bits: usize) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_sllv_epi32(self.0, count(bits)) })
    }
    #[inline(always)]
    unsafe fn shr(self, bits: usize) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_srlv_epi32(self.0, count(bits)) })
    }
    #[inline(always)]
    unsafe fn times(self, by: u16) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_mullo_epi16(self.0, _mm256_set1_epi16(by.cast_signed())) })
    }
    #[inline(always)]
    unsafe fn zero_if(self, value: u32) -> Self {
        // SAFETY: see above.
        Self(unsafe {
            let equal = _mm256_cmpeq_epi32(self.0, Self::splat(value).0);
            _mm256_andnot_si256(equal, self.0)
        })
    }
    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16]) -> Self {
        // SAFETY: see above.
        Self(unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), self.0)
        })
    }
    #[inline(always)]
    unsafe fn gather(self, table: &[u32]) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_i32gather_epi32::<4>(table.as_ptr().cast(), self.0) })
    }
    #[inline(always)]
    unsafe fn float(self) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtepi32_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn half(self) -> __m256 {
        // SAFETY: see above.
        unsafe {
            // Words go to the low half of each side, and the sides together.
            let words = _mm256_packus_epi32(self.0, self.0);
            let words = _mm256_permute4x64_epi64::<0b1000>(words);
            _mm256_cvtph_ps(_mm256_castsi256_si128(words))
        }
    }
    #[inline(always)]
    unsafe fn bits(self) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_castsi256_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_f32(a: __m256, b: f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, _mm256_set1_ps(b)) }
    }
    #[inline(always)]
    unsafe fn store_float(a: __m256, p: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(p, a) }
    }
}
