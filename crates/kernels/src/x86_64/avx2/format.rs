//! The block formats as the integer kernels see them: where a panel keeps weights and scales (see `packed`).

use std::arch::x86_64::*;

use super::dot::Words;
use crate::packed::in_pairs;

/// A packed format.
///
/// # Safety
/// Of all functions: the CPU has AVX2 and F16C, and `panel` points to a panel of `blocks` blocks of 32 columns.
pub(super) trait Format {
    /// What is added to every weight.
    const OFFSET: i32;
    /// Scales per block of 32: one, or one per 16.
    const SCALES: usize;
    /// Whether each block has a minimum, which is subtracted from every weight.
    const MIN: bool;
    /// Blocks whose scales are stored together.
    const SUPER: usize;
    /// Blocks after which the way that bits are packed repeats.
    const CYCLE: usize;
    /// Bytes per block of a panel, rounded down: the pace at which the panel is read.
    const BYTES: usize;

    /// The weights of step `step` of block `block`, rows `half * 8 ..`, as the format's arithmetic takes them.
    unsafe fn weights<const AT: usize>(panel: *const u8, block: usize, step: usize, half: usize) -> __m256i;

    /// Writes the scales `[SUPER * SCALES][16]`, and minima `[SUPER][16]` if there are any, of super-block `index`.
    ///
    /// # Safety
    /// There is room.
    unsafe fn scales(panel: *const u8, blocks: usize, index: usize, scale: *mut f32, min: *mut f32);
}

#[inline(always)]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: the caller guarantees 32 readable bytes.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// Eight f16 values as f32.
#[inline(always)]
unsafe fn load_f16(p: *const u8) -> __m256 {
    // SAFETY: the caller guarantees 16 readable bytes.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
}

/// 16 f16 scales, widened.
#[inline(always)]
unsafe fn widen_scales(p: *const u8, scale: *mut f32) {
    // SAFETY: forwarded from the caller.
    unsafe {
        _mm256_storeu_ps(scale, load_f16(p));
        _mm256_storeu_ps(scale.add(8), load_f16(p.add(16)));
    }
}

/// The low or the high nibble of every byte.
#[inline(always)]
unsafe fn nibbles(bytes: __m256i, high: bool) -> __m256i {
    // SAFETY: features as in the callers.
    unsafe {
        let bytes = if high {
            _mm256_srli_epi16::<4>(bytes)
        } else {
            bytes
        };
        _mm256_and_si256(bytes, _mm256_set1_epi8(15))
    }
}

/// Bits `shift..` of every byte that `mask` leaves. The shift moves whole lanes; the mask removes what crossed over.
#[inline(always)]
unsafe fn bits(bytes: __m256i, shift: usize, mask: i8) -> __m256i {
    // SAFETY: features as in the callers.
    unsafe {
        let shifted = _mm256_srlv_epi32(bytes, _mm256_set1_epi32(shift as i32));
        _mm256_and_si256(shifted, _mm256_set1_epi8(mask))
    }
}

pub(super) struct Q4_0;

impl Format for Q4_0 {
    const OFFSET: i32 = 8;
    const SCALES: usize = 1;
    const MIN: bool = false;
    const SUPER: usize = 1;
    const CYCLE: usize = 1;
    const BYTES: usize = 288;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(panel: *const u8, block: usize, step: usize, half: usize) -> __m256i {
        // The even steps are the low nibbles, the odd ones the high nibbles of the same bytes.
        // SAFETY: forwarded from the caller.
        unsafe {
            let bytes = load(panel.add(in_pairs(block, 256).1 + step % 4 * 64 + half * 32));
            nibbles(bytes, step >= 4)
        }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, blocks: usize, index: usize, scale: *mut f32, _: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe { widen_scales(panel.add(in_pairs(index, 256).0), scale) }
    }
}

/// Q8_0 as it is stored: unsigned bytes.
pub(super) struct Q8_0;

impl Format for Q8_0 {
    const OFFSET: i32 = 128;
    const SCALES: usize = 1;
    const MIN: bool = false;
    const SUPER: usize = 1;
    const CYCLE: usize = 1;
    const BYTES: usize = 544;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(panel: *const u8, block: usize, step: usize, half: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { load(panel.add(in_pairs(block, 512).1 + step * 64 + half * 32)) }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, blocks: usize, index: usize, scale: *mut f32, _: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe { widen_scales(panel.add(in_pairs(index, 512).0), scale) }
    }
}

/// Q8_0 in the order of [`Words`].
pub(super) struct Q8_0Words;

impl Format for Q8_0Words {
    const OFFSET: i32 = 0;
    const SCALES: usize = Q8_0::SCALES;
    const MIN: bool = Q8_0::MIN;
    const SUPER: usize = Q8_0::SUPER;
    const CYCLE: usize = 1;
    const BYTES: usize = Q8_0::BYTES;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(panel: *const u8, block: usize, step: usize, half: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe {
            let unsigned = Q8_0::weights::<AT>(panel, block, step % 8, half);
            Words::extend(_mm256_xor_si256(unsigned, _mm256_set1_epi8(-128)), step % 2)
        }
    }

    #[inline(always)]
    unsafe fn scales(
        panel: *const u8,
        blocks: usize,
        index: usize,
        scale: *mut f32,
        min: *mut f32,
    ) {
        // SAFETY: forwarded from the caller.
        unsafe { Q8_0::scales(panel, blocks, index, scale, min) }
    }
}

#[expect(non_camel_case_types, reason = "spelled as GGUF does")]
pub(super) struct Q4_K;

impl Format for Q4_K {
    const OFFSET: i32 = 0;
    const SCALES: usize = 1;
    const MIN: bool = true;
    const SUPER: usize = 8;
    const CYCLE: usize = 2;
    const BYTES: usize = 288;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(panel: *const u8, block: usize, step: usize, half: usize) -> __m256i {
        // Two neighbouring blocks are the low and the high nibbles of the same bytes.
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = panel.add(block / 8 * 2304 + block % 8 / 2 * 512);
            let bytes = load(start.add(step * 64 + half * 32));
            nibbles(bytes, AT == 1)
        }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, _: usize, index: usize, scale: *mut f32, min: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = panel.add(index * 2304);
            for half in 0..2 {
                let bytes = start.add(2048 + half * 32);
                let (scales, mins) =
                    q4_k_scales(load(bytes), load(bytes.add(64)), load(bytes.add(128)));
                let d = load_f16(start.add(2240 + half * 16));
                let dmin = load_f16(start.add(2272 + half * 16));
                for i in 0..8 {
                    let at = i * 16 + half * 8;
                    let s = byte_f32(scales[i / 4], i % 4);
                    let m = byte_f32(mins[i / 4], i % 4);
                    _mm256_storeu_ps(scale.add(at), _mm256_mul_ps(d, s));
                    _mm256_storeu_ps(min.add(at), _mm256_mul_ps(dmin, m));
                }
            }
        }
    }
}

/// The 6-bit scales and minima from the 12 bytes that hold them: byte `i % 4` of `[i / 4]` is that of block `i`.
#[inline(always)]
unsafe fn q4_k_scales(a: __m256i, b: __m256i, c: __m256i) -> ([__m256i; 2], [__m256i; 2]) {
    // SAFETY: features as in the caller.
    unsafe {
        // The upper two bits of the first eight bytes are those of the last four scales and minima.
        let top_a = _mm256_slli_epi16::<4>(bits(a, 6, 3));
        let top_b = _mm256_slli_epi16::<4>(bits(b, 6, 3));
        (
            [bits(a, 0, 63), _mm256_or_si256(bits(c, 0, 15), top_a)],
            [bits(b, 0, 63), _mm256_or_si256(bits(c, 4, 15), top_b)],
        )
    }
}

/// Byte `i` of each lane (unsigned) as f32.
#[inline(always)]
unsafe fn byte_f32(lanes: __m256i, i: usize) -> __m256 {
    // SAFETY: features as in the caller.
    unsafe {
        let shifted = _mm256_srlv_epi32(lanes, _mm256_set1_epi32(8 * i as i32));
        _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(0xff)))
    }
}

#[expect(non_camel_case_types, reason = "spelled as GGUF does")]
pub(super) struct Q6_K;

impl Format for Q6_K {
    const OFFSET: i32 = 32;
    const SCALES: usize = 2;
    const MIN: bool = false;
    const SUPER: usize = 8;
    const CYCLE: usize = 4;
    const BYTES: usize = 420;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(panel: *const u8, block: usize, step: usize, half: usize) -> __m256i {
        // Each half of 128 columns has four blocks: low nibbles of bytes 0..32, of 32..64, high nibbles of 0..32, of
        // 32..64; the two high bits of all four lie in the same 32 bytes.
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = panel.add(in_pairs(block / 8, 3328).1);
            let side = block % 8 / 4;
            let lane = step * 64 + half * 32;
            let low = load(start.add(side * 1024 + AT % 2 * 512 + lane));
            let high = load(start.add(2048 + side * 512 + lane));
            let high = match AT {
                0 => _mm256_slli_epi16::<4>(high),
                1 => _mm256_slli_epi16::<2>(high),
                2 => high,
                _ => _mm256_srli_epi16::<2>(high),
            };
            let high = _mm256_and_si256(high, _mm256_set1_epi8(0x30));
            _mm256_or_si256(nibbles(low, AT >= 2), high)
        }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, blocks: usize, index: usize, scale: *mut f32, _: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = panel.add(in_pairs(index, 3328).1);
            let d = panel.add(in_pairs(index, 3328).0);
            for half in 0..2 {
                let d = load_f16(d.add(half * 16));
                for i in 0..16 {
                    let bytes = load(start.add(3072 + i / 4 * 64 + half * 32));
                    let up = _mm256_sllv_epi32(bytes, _mm256_set1_epi32(24 - 8 * (i % 4) as i32));
                    let signed = _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(up));
                    _mm256_storeu_ps(scale.add(i * 16 + half * 8), _mm256_mul_ps(d, signed));
                }
            }
        }
    }
}
