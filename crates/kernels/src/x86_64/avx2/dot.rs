//! How a block's weights are multiplied with its activations, and summed, exactly.
//!
//! Registers hold eight rows; each 32-bit lane holds a few neighbouring weights of its row, and every lane of the other
//! operand the same few activations. None of the ways has room for an error: activations may be -128, though
//! quantization never writes it, which rules out moving signs from one operand to the other by `vpsignb`.

use std::arch::x86_64::*;

use crate::activations::BLOCK;

const TREE: bool = true;
/// An arithmetic. A block's sum is made of runs: `begin`, [`RUN`](Self::RUN) times `step`, `finish`.
///
/// # Safety
/// Of all functions: the CPU has the instructions of the implementation.
pub(super) trait Dot {
    /// Lanes of weights that make a block of 32.
    const STEPS: usize;
    /// Steps whose sum fits between `begin` and `finish`. Divides half of [`STEPS`](Self::STEPS).
    const RUN: usize;
    /// Tokens that a matrix product takes side by side.
    const TOKENS: usize;
    /// A block of 32 activations of `T` tokens, ready to be broadcast.
    type Activations<const T: usize>;

    /// # Safety
    /// `q` points to `[T][32]` activations, which outlive the result.
    unsafe fn activations<const T: usize>(q: *const i8) -> Self::Activations<T>;
    /// The activations of token `t` for step `step`, in every lane.
    unsafe fn broadcast<const T: usize>(x: &Self::Activations<T>, t: usize, step: usize)
    -> __m256i;
    /// A run that will be added to `sum`.
    unsafe fn begin(sum: __m256i) -> __m256i;
    unsafe fn step(run: __m256i, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i;
    /// `sum`, from which the run began, with the run added.
    unsafe fn finish(run: __m256i, sum: __m256i) -> __m256i;
}

/// Lane `step` of a block of bytes.
#[inline(always)]
unsafe fn broadcast4(q: *const i8, step: usize) -> __m256i {
    // SAFETY: the caller's block has 32 values; unaligned reads are meant.
    unsafe { _mm256_set1_epi32(q.cast::<i32>().add(step).read_unaligned()) }
}

/// Unsigned weight bytes by `vpmaddubsw`: 16-bit sums of two products, which saturate.
///
/// So weights are small: with 4 bits a sum of two is at most 2 * 15 * 128 and eight of them fit; with 6 bits it is
/// 2 * 63 * 128 and two fit. Only then are they widened.
pub(super) struct Pairs<const RUN: usize>;

impl<const RUN: usize> Dot for Pairs<RUN> {
    const STEPS: usize = 8;
    const RUN: usize = RUN;
    const TOKENS: usize = 4;
    type Activations<const T: usize> = *const i8;

    #[inline(always)]
    unsafe fn activations<const T: usize>(q: *const i8) -> *const i8 {
        q
    }
    #[inline(always)]
    unsafe fn broadcast<const T: usize>(x: &*const i8, t: usize, step: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { broadcast4(x.add(t * BLOCK), step) }
    }
    #[inline(always)]
    unsafe fn begin(sum: __m256i) -> __m256i {
        if RUN == 2 {
            return sum;
        }
        // SAFETY: forwarded from the caller.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn step(run: __m256i, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe {
            if RUN == 2 {
                let run2 = _mm256_add_epi16(
                    _mm256_maddubs_epi16(w[0], x[0]),
                    _mm256_maddubs_epi16(w[1], x[1]),
                );
                _mm256_add_epi32(run, _mm256_madd_epi16(run2, _mm256_set1_epi16(1)))
            } else if TREE {
                let run2 = _mm256_add_epi16(
                    _mm256_maddubs_epi16(w[0], x[0]),
                    _mm256_maddubs_epi16(w[1], x[1]),
                );
                _mm256_add_epi16(run, run2)
            } else {
                let run = _mm256_add_epi16(run, _mm256_maddubs_epi16(w[0], x[0]));
                _mm256_add_epi16(run, _mm256_maddubs_epi16(w[1], x[1]))
            }
        }
    }
    #[inline(always)]
    unsafe fn finish(run: __m256i, sum: __m256i) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe {
            if RUN == 2 {
                run
            } else {
                _mm256_add_epi32(sum, _mm256_madd_epi16(run, _mm256_set1_epi16(1)))
            }
        }
    }
}

/// Signed weights of 16 bits by `vpmaddwd`: what weights of 8 bits need.
///
/// A lane holds two columns. Those of a lane of bytes come apart by shifts alone as the even two and the odd two, so
/// steps `2i` and `2i + 1` are columns `4i, 4i + 2` and `4i + 1, 4i + 3`.
pub(super) struct Words;

impl Words {
    /// The even (`odd` = 0) or odd (1) bytes of each lane, sign-extended.
    #[inline(always)]
    pub(super) unsafe fn extend(bytes: __m256i, odd: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe {
            let high = if odd == 1 {
                bytes
            } else {
                _mm256_slli_epi16::<8>(bytes)
            };
            _mm256_srai_epi16::<8>(high)
        }
    }
}

/// Blocks of activations as 16-bit numbers, even ones of each four first.
#[repr(align(32))]
pub(super) struct WordBlocks<const T: usize>([[[i32; 8]; 2]; T]);

impl Dot for Words {
    const STEPS: usize = 16;
    const RUN: usize = 8;
    const TOKENS: usize = 4;
    type Activations<const T: usize> = WordBlocks<T>;

    #[inline(always)]
    unsafe fn activations<const T: usize>(q: *const i8) -> WordBlocks<T> {
        let mut words = WordBlocks([[[0; 8]; 2]; T]);
        // SAFETY: the caller's blocks have 32 values each.
        unsafe {
            for t in 0..T {
                let bytes = _mm256_loadu_si256(q.add(t * BLOCK).cast());
                for odd in 0..2 {
                    let to = words.0[t][odd].as_mut_ptr();
                    _mm256_store_si256(to.cast(), Self::extend(bytes, odd));
                }
            }
        }
        words
    }
    #[inline(always)]
    unsafe fn broadcast<const T: usize>(x: &WordBlocks<T>, t: usize, step: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { _mm256_set1_epi32(x.0.as_ptr().cast::<i32>().add(t * 16 + step).read()) }
    }
    #[inline(always)]
    unsafe fn begin(sum: __m256i) -> __m256i {
        sum
    }
    #[inline(always)]
    unsafe fn step(run: __m256i, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe {
            if TREE {
                _mm256_add_epi32(
                    run,
                    _mm256_add_epi32(_mm256_madd_epi16(w[0], x[0]), _mm256_madd_epi16(w[1], x[1])),
                )
            } else {
                let run = _mm256_add_epi32(run, _mm256_madd_epi16(w[0], x[0]));
                _mm256_add_epi32(run, _mm256_madd_epi16(w[1], x[1]))
            }
        }
    }
    #[inline(always)]
    unsafe fn finish(run: __m256i, _: __m256i) -> __m256i {
        run
    }
}

/// Unsigned weight bytes by `vpdpbusd`: 32-bit sums of four products.
pub(super) struct Quads;

impl Dot for Quads {
    const STEPS: usize = 8;
    const RUN: usize = 4;
    const TOKENS: usize = 4;
    type Activations<const T: usize> = *const i8;

    #[inline(always)]
    unsafe fn activations<const T: usize>(q: *const i8) -> *const i8 {
        q
    }
    #[inline(always)]
    unsafe fn broadcast<const T: usize>(x: &*const i8, t: usize, step: usize) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { broadcast4(x.add(t * BLOCK), step) }
    }
    #[inline(always)]
    unsafe fn begin(sum: __m256i) -> __m256i {
        sum
    }
    #[inline(always)]
    unsafe fn step(run: __m256i, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe {
            let run = _mm256_dpbusd_avx_epi32(run, w[0], x[0]);
            _mm256_dpbusd_avx_epi32(run, w[1], x[1])
        }
    }
    #[inline(always)]
    unsafe fn finish(run: __m256i, _: __m256i) -> __m256i {
        run
    }
}
