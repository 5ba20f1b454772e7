//! Where the weights of a block of 32 columns and 16 rows come from: a panel that was taken apart, or a packed one that is
//! taken apart in registers.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{byte_f32, load, load_f16, prefetch, q4_k_scales, q6_k_scale};
use crate::packed::in_pairs;
use crate::panel::{Panel, PanelFormat};
use crate::unpacked::Unpacked;
use crate::x86_64::avx512::rows::ZmmRows;

/// Eight registers, each by its number. Not `array::from_fn`: a closure has none of the features of the function around it,
/// and where it is not inlined, neither are the intrinsics in it.
macro_rules! each {
    ($j:ident => $value:expr) => {{
        let mut registers = [_mm512_setzero_si512(); 8];
        let mut $j = 0;
        while $j < 8 {
            registers[$j] = $value;
            $j += 1;
        }
        registers
    }};
}

/// A panel, block by block.
pub(super) trait Source: Copy {
    /// What weights are stored with on top.
    const OFFSET: i32;
    /// Whether the halves of a block have scales, and minima, of their own.
    const HALVES: bool;
    /// Whether there are minima.
    const MIN: bool;

    /// The unsigned weights of a block: register `j` holds columns `4 j ..` of 16 rows.
    ///
    /// # Safety
    /// The CPU has the features of this set, and the panel has the block.
    unsafe fn quants(self, block: usize) -> [__m512i; 8];

    /// The rows' scales; `half` tells the halves of a block apart where they differ.
    ///
    /// # Safety
    /// As [`Source::quants`].
    unsafe fn scale(self, block: usize, half: usize) -> __m512;

    /// The rows' minima, of formats that have them; `half` as for scales.
    ///
    /// # Safety
    /// As [`Source::quants`].
    #[inline(always)]
    unsafe fn min(self, _block: usize, _half: usize) -> __m512 {
        // SAFETY: features as in the callers.
        unsafe { _mm512_setzero_ps() }
    }
}

/// A panel that was taken apart.
#[derive(Clone, Copy)]
pub(super) struct Apart<'w, const OFFSET: i32, const HALVES: bool, const MIN: bool>(
    pub(super) &'w Unpacked,
);

impl<const OFFSET: i32, const HALVES: bool, const MIN: bool> Apart<'_, OFFSET, HALVES, MIN> {
    const SCALES: usize = if HALVES { 2 } else { 1 };
}

impl<const OFFSET: i32, const HALVES: bool, const MIN: bool> Source
    for Apart<'_, OFFSET, HALVES, MIN>
{
    const OFFSET: i32 = OFFSET;
    const HALVES: bool = HALVES;
    const MIN: bool = MIN;

    #[inline(always)]
    unsafe fn quants(self, block: usize) -> [__m512i; 8] {
        // SAFETY: a block is 512 bytes.
        unsafe { each!(j => load(self.0.q.as_ptr().add(block * 512), j)) }
    }

    #[inline(always)]
    unsafe fn scale(self, block: usize, half: usize) -> __m512 {
        let scale = self.0.scale.as_ptr().cast::<f32>();
        // SAFETY: 16 scales for each block or half of one.
        unsafe { _mm512_loadu_ps(scale.add((block * Self::SCALES + half) * 16)) }
    }

    #[inline(always)]
    unsafe fn min(self, block: usize, half: usize) -> __m512 {
        let min = self.0.min.as_ptr().cast::<f32>();
        // SAFETY: 16 minima for each block or half of one.
        unsafe { _mm512_loadu_ps(min.add((block * Self::SCALES + half) * 16)) }
    }
}

/// A packed panel of Q4_0.
#[derive(Clone, Copy)]
pub(super) struct Q4_0(pub(super) *const u8);

impl Source for Q4_0 {
    const OFFSET: i32 = 8;
    const HALVES: bool = false;
    const MIN: bool = false;

    #[inline(always)]
    unsafe fn quants(self, block: usize) -> [__m512i; 8] {
        // SAFETY: a block is 256 bytes of nibbles.
        unsafe {
            let from = self.0.add(in_pairs(block, 256).1);
            prefetch(from, 5);
            let low = _mm512_set1_epi8(15);
            each!(j => {
                let bytes = load(from, j % 4);
                let shifted = match j < 4 {
                    true => bytes,
                    false => _mm512_srli_epi16::<4>(bytes),
                };
                _mm512_and_si512(shifted, low)
            })
        }
    }

    #[inline(always)]
    unsafe fn scale(self, block: usize, _half: usize) -> __m512 {
        // SAFETY: 16 f16 for each block.
        unsafe { load_f16(self.0.add(in_pairs(block, 256).0)) }
    }
}

/// A packed panel of Q8_0.
#[derive(Clone, Copy)]
pub(super) struct Q8_0(pub(super) *const u8);

impl Source for Q8_0 {
    const OFFSET: i32 = 128;
    const HALVES: bool = false;
    const MIN: bool = false;

    #[inline(always)]
    unsafe fn quants(self, block: usize) -> [__m512i; 8] {
        // SAFETY: a block is 512 bytes.
        unsafe {
            let from = self.0.add(in_pairs(block, 512).1);
            prefetch(from, 9);
            each!(j => load(from, j))
        }
    }

    #[inline(always)]
    unsafe fn scale(self, block: usize, _half: usize) -> __m512 {
        // SAFETY: 16 f16 for each block.
        unsafe { load_f16(self.0.add(in_pairs(block, 512).0)) }
    }
}

/// A packed panel of Q4_K: super-blocks of 2304 bytes, in which two neighbouring blocks are the low and the high nibbles of
/// the same bytes.
#[derive(Clone, Copy)]
pub(super) struct Q4K(pub(super) *const u8);

impl Q4K {
    #[inline(always)]
    unsafe fn super_block(self, block: usize) -> *const u8 {
        // SAFETY: the caller's block is in the panel.
        unsafe { self.0.add(block / 8 * 2304) }
    }
}

impl Source for Q4K {
    const OFFSET: i32 = 0;
    const HALVES: bool = false;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn quants(self, block: usize) -> [__m512i; 8] {
        // SAFETY: two blocks are 512 bytes of nibbles.
        unsafe {
            let start = self.super_block(block);
            // 2304 bytes in eight steps.
            prefetch(start.add(block % 8 * 288), 5);
            let from = start.add(block % 8 / 2 * 512);
            let low = _mm512_set1_epi8(15);
            each!(j => {
                let bytes = load(from, j);
                let shifted = match block.is_multiple_of(2) {
                    true => bytes,
                    false => _mm512_srli_epi16::<4>(bytes),
                };
                _mm512_and_si512(shifted, low)
            })
        }
    }

    #[inline(always)]
    unsafe fn scale(self, block: usize, _half: usize) -> __m512 {
        // SAFETY: the super-block has its scales behind its quants.
        unsafe {
            let start = self.super_block(block);
            let (scales, _) = q4_k_scales(start.add(2048));
            let sub = block % 8;
            _mm512_mul_ps(
                load_f16(start.add(2240)),
                byte_f32(scales[sub / 4], sub % 4),
            )
        }
    }

    #[inline(always)]
    unsafe fn min(self, block: usize, _half: usize) -> __m512 {
        // SAFETY: as in `scale`.
        unsafe {
            let start = self.super_block(block);
            let (_, mins) = q4_k_scales(start.add(2048));
            let sub = block % 8;
            _mm512_mul_ps(load_f16(start.add(2272)), byte_f32(mins[sub / 4], sub % 4))
        }
    }
}

/// A packed panel of Q6_K; see [`q6_k_quants`](super::q6_k_quants) for the layout of a super-block.
#[derive(Clone, Copy)]
pub(super) struct Q6K(pub(super) *const u8);

impl Source for Q6K {
    const OFFSET: i32 = 32;
    const HALVES: bool = true;
    const MIN: bool = false;

    #[inline(always)]
    unsafe fn quants(self, block: usize) -> [__m512i; 8] {
        // SAFETY: the caller's block is in the panel.
        unsafe {
            let (_, body) = in_pairs(block / 8, 3328);
            let start = self.0.add(body);
            // 3328 bytes in eight steps.
            prefetch(start.add(block % 8 * 416), 7);
            let (half, within) = (block % 8 / 4, block % 4);
            let nibble = _mm512_set1_epi8(0x0f);
            let two = _mm512_set1_epi8(0x30);
            each!(j => {
                let low = load(start, half * 16 + within % 2 * 8 + j);
                let top = load(start, 32 + half * 8 + j);
                let (low, top) = match within {
                    0 => (low, _mm512_slli_epi16::<4>(top)),
                    1 => (low, _mm512_slli_epi16::<2>(top)),
                    2 => (_mm512_srli_epi16::<4>(low), top),
                    _ => (_mm512_srli_epi16::<4>(low), _mm512_srli_epi16::<2>(top)),
                };
                _mm512_or_si512(_mm512_and_si512(low, nibble), _mm512_and_si512(top, two))
            })
        }
    }

    #[inline(always)]
    unsafe fn scale(self, block: usize, half: usize) -> __m512 {
        // SAFETY: as in `quants`.
        unsafe {
            let (d, body) = in_pairs(block / 8, 3328);
            let start = self.0.add(body);
            let i = block % 8 * 2 + half;
            // Four scales to a register; only this one is needed.
            let scales = [load(start, 48 + i / 4); 4];
            let scale = q6_k_scale(&scales, i);
            _mm512_mul_ps(load_f16(self.0.add(d)), scale)
        }
    }
}

/// A packed panel of a format that is read by rows.
pub(super) struct Read<F> {
    panel: *const u8,
    format: PhantomData<F>,
}

impl<F> Read<F> {
    #[inline(always)]
    pub(super) fn new(panel: *const u8) -> Self {
        Self {
            panel,
            format: PhantomData,
        }
    }

    #[inline(always)]
    fn rows(self) -> Panel {
        Panel {
            start: self.panel,
            row: 0,
        }
    }
}

impl<F> Clone for Read<F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Read<F> {}

impl<F: PanelFormat> Source for Read<F> {
    const OFFSET: i32 = F::OFFSET;
    const HALVES: bool = F::HALVES;
    const MIN: bool = F::MIN;

    #[inline(always)]
    unsafe fn quants(self, block: usize) -> [__m512i; 8] {
        // SAFETY: forwarded from the caller.
        unsafe {
            let from = self.panel.wrapping_add(block * F::BLOCK_BYTES);
            prefetch(from, F::BLOCK_BYTES.div_ceil(64));
            each!(j => F::quants::<ZmmRows>(self.rows(), block, j).0)
        }
    }

    #[inline(always)]
    unsafe fn scale(self, block: usize, half: usize) -> __m512 {
        // SAFETY: forwarded from the caller.
        unsafe { F::scale::<ZmmRows>(self.rows(), block, half) }
    }

    #[inline(always)]
    unsafe fn min(self, block: usize, half: usize) -> __m512 {
        // SAFETY: forwarded from the caller.
        unsafe { F::min::<ZmmRows>(self.rows(), block, half) }
    }
}
