//! The block formats as the integer kernels see them: where a panel keeps its weights and scales (see `packed`).

use std::arch::x86_64::*;

use super::dot::Words;
use crate::packed::in_pairs;

/// What a format's sums need.
pub(super) trait Shape {
    /// What is added to every weight.
    const OFFSET: i32;
    /// Scales per block: one, or one for each half of it.
    const SCALES: usize;
    /// Whether there are minima, as many as scales, which are subtracted from every weight.
    const MIN: bool;
}

/// A packed format.
///
/// # Safety
/// Of all functions: the CPU has AVX2 and F16C, and `panel` points to a panel that has the block.
pub(super) trait Format: Shape {
    /// Blocks whose scales are kept together.
    const SUPER: usize;
    /// Bytes that a block takes in a panel, with its scales.
    const BLOCK_BYTES: usize;
    /// Blocks after which the way repeats in which weights are packed. Divides [`SUPER`](Self::SUPER).
    const CYCLE: usize;

    /// Lane `step` of block `block`, the `AT`-th of its cycle, for rows `half * 8 ..`.
    unsafe fn weights<const AT: usize>(
        panel: *const u8,
        block: usize,
        step: usize,
        half: usize,
    ) -> __m256i;

    /// Writes the scales `[SUPER * SCALES][16]` of super-block `index`, and its minima `[SUPER][16]` if there are any.
    ///
    /// # Safety
    /// There is room.
    unsafe fn scales(panel: *const u8, index: usize, scale: *mut f32, min: *mut f32);
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

/// 16 f16 scales as f32.
#[inline(always)]
unsafe fn widen_scales(p: *const u8, scale: *mut f32) {
    // SAFETY: forwarded from the caller.
    unsafe {
        _mm256_storeu_ps(scale, load_f16(p));
        _mm256_storeu_ps(scale.add(8), load_f16(p.add(16)));
    }
}

#[inline(always)]
unsafe fn mask(bytes: __m256i, mask: i8) -> __m256i {
    // SAFETY: features as in the callers.
    unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(mask)) }
}

/// The low or the high nibble of every byte.
#[inline(always)]
unsafe fn nibbles(bytes: __m256i, high: bool) -> __m256i {
    // SAFETY: features as in the callers.
    unsafe {
        if high {
            mask(_mm256_srli_epi16::<4>(bytes), 15)
        } else {
            mask(bytes, 15)
        }
    }
}

pub(super) struct Q4_0;

impl Shape for Q4_0 {
    const OFFSET: i32 = 8;
    const SCALES: usize = 1;
    const MIN: bool = false;
}

impl Format for Q4_0 {
    const SUPER: usize = 1;
    const BLOCK_BYTES: usize = 288;
    const CYCLE: usize = 1;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(
        panel: *const u8,
        block: usize,
        step: usize,
        half: usize,
    ) -> __m256i {
        // The first four steps are the low nibbles, the last four the high nibbles of the same bytes.
        // SAFETY: forwarded from the caller.
        unsafe {
            let bytes = load(panel.add(in_pairs(block, 256).1 + step % 4 * 64 + half * 32));
            nibbles(bytes, step >= 4)
        }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, index: usize, scale: *mut f32, _: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe { widen_scales(panel.add(in_pairs(index, 256).0), scale) }
    }
}

/// Q8_0 as it is stored, in unsigned bytes.
pub(super) struct Q8_0;

impl Shape for Q8_0 {
    const OFFSET: i32 = 128;
    const SCALES: usize = 1;
    const MIN: bool = false;
}

impl Format for Q8_0 {
    const SUPER: usize = 1;
    const BLOCK_BYTES: usize = 544;
    const CYCLE: usize = 1;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(
        panel: *const u8,
        block: usize,
        step: usize,
        half: usize,
    ) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { load(panel.add(in_pairs(block, 512).1 + step * 64 + half * 32)) }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, index: usize, scale: *mut f32, _: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe { widen_scales(panel.add(in_pairs(index, 512).0), scale) }
    }
}

/// Q8_0 as signed 16-bit numbers, in the order of [`Words`].
pub(super) struct Q8_0Words;

impl Shape for Q8_0Words {
    const OFFSET: i32 = 0;
    const SCALES: usize = Q8_0::SCALES;
    const MIN: bool = Q8_0::MIN;
}

impl Format for Q8_0Words {
    const SUPER: usize = Q8_0::SUPER;
    const BLOCK_BYTES: usize = Q8_0::BLOCK_BYTES;
    const CYCLE: usize = Q8_0::CYCLE;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(
        panel: *const u8,
        block: usize,
        step: usize,
        half: usize,
    ) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe {
            let unsigned = Q8_0::weights::<AT>(panel, block, step % 8, half);
            let signed = _mm256_xor_si256(unsigned, _mm256_set1_epi8(i8::MIN));
            Words::<1>::extend(signed, step / 8)
        }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, index: usize, scale: *mut f32, min: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe { Q8_0::scales(panel, index, scale, min) }
    }
}

#[expect(non_camel_case_types, reason = "spelled as GGUF spells it")]
pub(super) struct Q4_K;

impl Shape for Q4_K {
    const OFFSET: i32 = 0;
    const SCALES: usize = 1;
    const MIN: bool = true;
}

impl Format for Q4_K {
    const SUPER: usize = 8;
    const BLOCK_BYTES: usize = 288;
    const CYCLE: usize = 2;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(
        panel: *const u8,
        block: usize,
        step: usize,
        half: usize,
    ) -> __m256i {
        // Two neighbouring blocks are the low and the high nibbles of the same bytes.
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = panel.add(block / 8 * 2304 + block % 8 / 2 * 512);
            nibbles(load(start.add(step * 64 + half * 32)), AT == 1)
        }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, index: usize, scale: *mut f32, min: *mut f32) {
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
        let top_a = mask(_mm256_srli_epi16::<2>(a), 0x30);
        let top_b = mask(_mm256_srli_epi16::<2>(b), 0x30);
        (
            [mask(a, 63), _mm256_or_si256(nibbles(c, false), top_a)],
            [mask(b, 63), _mm256_or_si256(nibbles(c, true), top_b)],
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

#[expect(non_camel_case_types, reason = "spelled as GGUF spells it")]
pub(super) struct Q6_K;

impl Shape for Q6_K {
    const OFFSET: i32 = 32;
    const SCALES: usize = 2;
    const MIN: bool = false;
}

impl Format for Q6_K {
    const SUPER: usize = 8;
    const BLOCK_BYTES: usize = 420;
    const CYCLE: usize = 4;

    #[inline(always)]
    unsafe fn weights<const AT: usize>(
        panel: *const u8,
        block: usize,
        step: usize,
        half: usize,
    ) -> __m256i {
        // A cycle is the low nibbles of bytes 0..32, of 32..64, the high nibbles of 0..32, of 32..64; the two high
        // bits of all four blocks lie in the same 32 bytes.
        // SAFETY: forwarded from the caller.
        unsafe {
            let start = panel.add(in_pairs(block / 8, 3328).1 + step * 64 + half * 32);
            let cycle = block % 8 / 4;
            let low = load(start.add(cycle * 1024 + AT % 2 * 512));
            let high = load(start.add(2048 + cycle * 512));
            let high = match AT {
                0 => _mm256_slli_epi16::<4>(high),
                1 => _mm256_slli_epi16::<2>(high),
                2 => high,
                _ => _mm256_srli_epi16::<2>(high),
            };
            _mm256_or_si256(nibbles(low, AT >= 2), mask(high, 0x30))
        }
    }

    #[inline(always)]
    unsafe fn scales(panel: *const u8, index: usize, scale: *mut f32, _: *mut f32) {
        // SAFETY: forwarded from the caller.
        unsafe {
            let (d, body) = in_pairs(index, 3328);
            let (d, bytes) = (panel.add(d), panel.add(body + 3072));
            for half in 0..2 {
                let d = load_f16(d.add(half * 16));
                for i in 0..16 {
                    let lanes = load(bytes.add(i / 4 * 64 + half * 32));
                    // The byte goes to the top of its lane and comes down with its sign.
                    let up = _mm256_sllv_epi32(lanes, _mm256_set1_epi32(24 - 8 * (i % 4) as i32));
                    let signed = _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(up));
                    _mm256_storeu_ps(scale.add(i * 16 + half * 8), _mm256_mul_ps(d, signed));
                }
            }
        }
    }
}

/// Runs `body` for blocks `first .. first + SUPER`, compiled for each place in the format's cycle:
/// `each_block!(format, first, |block, AT| body)`.
macro_rules! each_block {
    ($format:ty, $first:expr, |$block:ident, $at:ident| $body:expr) => {
        for block in ($first..$first + <$format>::SUPER).step_by(<$format>::CYCLE) {
            each_block!(@ 0, block, $block, $at, $body);
            if <$format>::CYCLE > 1 {
                each_block!(@ 1, block, $block, $at, $body);
            }
            if <$format>::CYCLE > 2 {
                each_block!(@ 2, block, $block, $at, $body);
                each_block!(@ 3, block, $block, $at, $body);
            }
        }
    };
    (@ $place:literal, $first:ident, $block:ident, $at:ident, $body:expr) => {{
        const $at: usize = $place;
        let $block = $first + $place;
        $body
    }};
}
pub(super) use each_block;
