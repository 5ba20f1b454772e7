//! How a block's weights are multiplied with its activations, and summed, exactly.
//!
//! Registers hold eight rows; each 32-bit lane holds a few neighbouring weights of its row, and every lane of the other
//! operand the same few activations. No way here has room for an error: activations may be -128, though quantization
//! never writes it, which rules out the usual trick of moving signs from one operand to the other by `vpsignb`.

use std::arch::x86_64::*;

use crate::activations::BLOCK;

/// An arithmetic. A sum is made by `begin`, some `step`s, and `finish`.
///
/// # Safety
/// Of all functions: the CPU has the instructions of the implementation.
pub(super) trait Dot {
    /// Lanes of weights that make a block of 32. Half of it is even.
    const STEPS: usize;
    /// Blocks of 32 activations of `T` tokens, ready to be broadcast.
    type Activations<const T: usize>;

    /// # Safety
    /// `q` points to `[T][32]` activations, which outlive the result.
    unsafe fn activations<const T: usize>(q: *const i8) -> Self::Activations<T>;
    /// The activations of token `t` for lane `step`, in every lane.
    unsafe fn broadcast<const T: usize>(x: &Self::Activations<T>, t: usize, step: usize)
    -> __m256i;
    /// What the steps add to, for a total that starts from `sum`.
    unsafe fn begin(sum: __m256i) -> __m256i;
    /// Adds two lanes of products.
    unsafe fn step(run: __m256i, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i;
    /// The total.
    unsafe fn finish(run: __m256i, sum: __m256i) -> __m256i;
}

/// Implements the part of [`Dot`] that is common to weights of one byte.
macro_rules! bytes {
    () => {
        const STEPS: usize = 8;
        type Activations<const T: usize> = *const i8;

        #[inline(always)]
        unsafe fn activations<const T: usize>(q: *const i8) -> *const i8 {
            q
        }
        #[inline(always)]
        unsafe fn broadcast<const T: usize>(x: &*const i8, t: usize, step: usize) -> __m256i {
            // SAFETY: the caller's blocks have 32 values each; unaligned reads are meant.
            unsafe {
                let four = x.add(t * BLOCK).cast::<i32>().add(step);
                _mm256_set1_epi32(four.read_unaligned())
            }
        }
    };
}

/// 16-bit sums of two products, of each of two lanes, added. Exact for unsigned weights of at most 6 bits, since
/// `2 * 2 * 63 * 128` fits.
#[inline(always)]
unsafe fn pairs(w: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
    // SAFETY: forwarded from the caller.
    unsafe {
        _mm256_add_epi16(
            _mm256_maddubs_epi16(w[0], x[0]),
            _mm256_maddubs_epi16(w[1], x[1]),
        )
    }
}

/// 16-bit sums widened to 32 bits by adding neighbours.
#[inline(always)]
unsafe fn widen(pairs: __m256i) -> __m256i {
    // SAFETY: forwarded from the caller.
    unsafe { _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)) }
}

/// Unsigned weights of 4 bits by `vpmaddubsw`. A whole block fits into 16-bit sums: `8 * 2 * 15 * 128 = 30720`.
pub(super) struct Nibbles;

impl Dot for Nibbles {
    bytes!();

    #[inline(always)]
    unsafe fn begin(_: __m256i) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn step(run: __m256i, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { _mm256_add_epi16(run, pairs(w, x)) }
    }
    #[inline(always)]
    unsafe fn finish(run: __m256i, sum: __m256i) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { _mm256_add_epi32(sum, widen(run)) }
    }
}

/// Unsigned weights of 6 bits by `vpmaddubsw`. Two lanes fit into 16-bit sums.
pub(super) struct SixBits;

impl Dot for SixBits {
    bytes!();

    #[inline(always)]
    unsafe fn begin(sum: __m256i) -> __m256i {
        sum
    }
    #[inline(always)]
    unsafe fn step(run: __m256i, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe { _mm256_add_epi32(run, widen(pairs(w, x))) }
    }
    #[inline(always)]
    unsafe fn finish(run: __m256i, _: __m256i) -> __m256i {
        run
    }
}

/// Unsigned weights of up to 8 bits by `vpdpbusd`, whose sums of four products have 32 bits.
pub(super) struct Quads;

impl Dot for Quads {
    bytes!();

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

/// Signed weights of 16 bits by `vpmaddwd`: what weights of 8 bits need, since `vpmaddubsw` would saturate.
///
/// A lane holds two columns. A lane of four bytes comes apart by shifts alone into its even and its odd bytes; so the
/// first lanes are the even columns of a block, and the last the odd ones; or so in each half, if there are two scales.
pub(super) struct Words<const SCALES: usize>;

impl<const SCALES: usize> Words<SCALES> {
    /// Which four columns of a block a lane is of, and whether of the odd (1) or the even (0) ones among them.
    #[inline(always)]
    pub(super) const fn place(step: usize) -> (usize, usize) {
        match SCALES {
            1 => (step % 8, step / 8),
            _ => (step / 8 * 4 + step % 4, step % 8 / 4),
        }
    }

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

/// Blocks of 32 activations as 16-bit numbers, two to a lane: the even ones, then the odd ones.
#[repr(align(32))]
pub(super) struct WordBlocks<const T: usize>([[i32; 16]; T]);

impl<const SCALES: usize> Dot for Words<SCALES> {
    const STEPS: usize = 16;
    type Activations<const T: usize> = WordBlocks<T>;

    #[inline(always)]
    unsafe fn activations<const T: usize>(q: *const i8) -> WordBlocks<T> {
        let mut words = WordBlocks([[0; 16]; T]);
        for (t, words) in words.0.iter_mut().enumerate() {
            let to = words.as_mut_ptr().cast::<__m256i>();
            // SAFETY: the caller's blocks have 32 values each, which become two aligned registers.
            unsafe {
                let bytes = _mm256_loadu_si256(q.add(t * BLOCK).cast());
                _mm256_store_si256(to, Self::extend(bytes, 0));
                _mm256_store_si256(to.add(1), Self::extend(bytes, 1));
            }
        }
        words
    }
    #[inline(always)]
    unsafe fn broadcast<const T: usize>(x: &WordBlocks<T>, t: usize, step: usize) -> __m256i {
        let (lane, odd) = Self::place(step);
        // SAFETY: the caller's step is below STEPS.
        unsafe { _mm256_set1_epi32(*x.0[t].get_unchecked(odd * 8 + lane)) }
    }
    #[inline(always)]
    unsafe fn begin(sum: __m256i) -> __m256i {
        sum
    }
    #[inline(always)]
    unsafe fn step(run: __m256i, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        // SAFETY: forwarded from the caller.
        unsafe {
            let run = _mm256_add_epi32(run, _mm256_madd_epi16(w[0], x[0]));
            _mm256_add_epi32(run, _mm256_madd_epi16(w[1], x[1]))
        }
    }
    #[inline(always)]
    unsafe fn finish(run: __m256i, _: __m256i) -> __m256i {
        run
    }
}
