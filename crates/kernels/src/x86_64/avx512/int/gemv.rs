//! Packed panels times one token: decoding, which reads every weight once and should be as fast as memory.
//!
//! A panel is one stream, read from front to back with a prefetch of our own. Several panels side by side would use each
//! broadcast activation more than once, but that is not what limits: loads are cheap beside memory, and one stream is
//! what the prefetchers follow best.

use std::arch::x86_64::*;

use super::gemm::start;
use super::source::{Read, Source};
use super::{
    accumulate, broadcast4, byte_f32, load, load_f16, prefetch, q4_k_scales, q6_k_quants,
    q6_k_scale, store, subtract_halves,
};
use crate::activations::{BLOCK, QuantizedTile};
use crate::packed::in_pairs;
use crate::panel::PanelFormat;

/// Defines the product of `count` panels of a format with one token from that of one panel.
macro_rules! gemv {
    ($name:ident, $panel:ident) => {
        /// # Safety
        /// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` one token, `out` `count * 16`.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
        pub(super) unsafe fn $name(
            panels: &[u8],
            count: usize,
            n_in: usize,
            x: QuantizedTile<'_>,
            out: &mut [f32],
        ) {
            let panels = panels.chunks_exact(panels.len() / count);
            for (panel, out) in panels.zip(out.as_chunks_mut::<16>().0) {
                // SAFETY: forwarded from the caller.
                unsafe { store([$panel(panel.as_ptr(), n_in, x)], out) }
            }
        }
    };
}

gemv!(q4_0, q4_0_panel);
gemv!(q8_0, q8_0_panel);
gemv!(q4_k, q4_k_panel);
gemv!(q6_k, q6_k_panel);

/// `count` panels of a format that is read by rows times one token.
///
/// # Safety
/// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` one token, `out` `count * 16`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn read<F: PanelFormat>(
    panels: &[u8],
    count: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let panels = panels.chunks_exact(panels.len() / count);
    for (panel, out) in panels.zip(out.as_chunks_mut::<16>().0) {
        // SAFETY: forwarded from the caller.
        unsafe { store([read_panel(Read::<F>::new(panel.as_ptr()), n_in, x)], out) }
    }
}

#[inline(always)]
unsafe fn read_panel<S: Source>(w: S, n_in: usize, x: QuantizedTile<'_>) -> __m512 {
    // SAFETY: as in `paired`.
    unsafe {
        let mut acc = _mm512_setzero_ps();
        for block in 0..n_in / BLOCK {
            let weights = w.quants(block);
            let q = x.q.as_ptr().add(block * BLOCK);
            let scale_x = *x.scale.get_unchecked(block);
            // Two sums: those of the halves, or for one scale two that wait less for each other.
            let mut sums = [start::<S>(x, block, 0), _mm512_setzero_si512()];
            if S::HALVES {
                sums[1] = start::<S>(x, block, 1);
            }
            for j in 0..4 {
                sums[0] = _mm512_dpbusd_epi32(sums[0], weights[j], broadcast4(q, j));
                sums[1] = _mm512_dpbusd_epi32(sums[1], weights[j + 4], broadcast4(q, j + 4));
            }
            if S::HALVES {
                acc = accumulate(acc, sums[0], w.scale(block, 0), scale_x);
                acc = accumulate(acc, sums[1], w.scale(block, 1), scale_x);
            } else {
                let sum = _mm512_add_epi32(sums[0], sums[1]);
                acc = accumulate(acc, sum, w.scale(block, 0), scale_x);
            }
            if S::MIN && S::HALVES {
                let min = [w.min(block, 0), w.min(block, 1)];
                acc = subtract_halves(acc, min, *x.neg_sum.get_unchecked(block), scale_x);
            } else if S::MIN {
                let scaled_sum = _mm512_set1_ps(*x.scaled_sum.get_unchecked(block));
                acc = _mm512_fnmadd_ps(w.min(block, 0), scaled_sum, acc);
            }
        }
        acc
    }
}

/// Minus the sum of a block's activations, in every lane, to start a sum with that takes an offset of
/// `2^SHIFT` off every weight.
#[inline(always)]
unsafe fn offset<const SHIFT: u32>(x: QuantizedTile<'_>, block: usize) -> __m512i {
    // SAFETY: the caller's block is in the tile; features as in the callers.
    unsafe {
        let [low, high] = *x.neg_sum.get_unchecked(block);
        _mm512_set1_epi32((low + high) << SHIFT)
    }
}

/// Defines the product of one panel of a format whose blocks go in pairs (see [`in_pairs`]) with one token, from that of
/// one block: `$block(quants, activations, start)`.
macro_rules! paired {
    ($panel:ident, $block:ident, $bytes:literal, $shift:literal) => {
        #[inline(always)]
        unsafe fn $panel(w: *const u8, n_in: usize, x: QuantizedTile<'_>) -> __m512 {
            // SAFETY: `w` is a panel of `n_in` columns, `x` one token.
            unsafe {
                let mut acc = _mm512_setzero_ps();
                for block in 0..n_in / BLOCK {
                    let (scales, quants) = in_pairs(block, $bytes);
                    if block % 2 == 0 {
                        prefetch(w.add(scales), 1 + 2 * $bytes / 64);
                    }
                    let q = x.q.as_ptr().add(block * BLOCK);
                    let sum = $block(w.add(quants), q, offset::<$shift>(x, block));
                    acc = accumulate(
                        acc,
                        sum,
                        load_f16(w.add(scales)),
                        *x.scale.get_unchecked(block),
                    );
                }
                acc
            }
        }
    };
}

paired!(q4_0_panel, q4_0_block, 256, 3);
paired!(q8_0_panel, q8_0_block, 512, 7);

#[inline(always)]
unsafe fn q4_0_block(quants: *const u8, q: *const i8, start: __m512i) -> __m512i {
    // SAFETY: 256 bytes of weights and 32 activations, as the caller guarantees.
    unsafe {
        let low = _mm512_set1_epi8(15);
        let (mut even, mut odd) = (start, _mm512_setzero_si512());
        for j in 0..4 {
            let bytes = load(quants, j);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low);
            even = _mm512_dpbusd_epi32(even, _mm512_and_si512(bytes, low), broadcast4(q, j));
            odd = _mm512_dpbusd_epi32(odd, high, broadcast4(q, j + 4));
        }
        _mm512_add_epi32(even, odd)
    }
}

#[inline(always)]
unsafe fn q8_0_block(quants: *const u8, q: *const i8, start: __m512i) -> __m512i {
    // SAFETY: 512 bytes of weights and 32 activations, as the caller guarantees.
    unsafe {
        let (mut even, mut odd) = (start, _mm512_setzero_si512());
        for j in 0..4 {
            even = _mm512_dpbusd_epi32(even, load(quants, j), broadcast4(q, j));
            odd = _mm512_dpbusd_epi32(odd, load(quants, j + 4), broadcast4(q, j + 4));
        }
        _mm512_add_epi32(even, odd)
    }
}

#[inline(always)]
unsafe fn q4_k_panel(w: *const u8, n_in: usize, x: QuantizedTile<'_>) -> __m512 {
    // SAFETY: as in `paired`.
    unsafe {
        let low = _mm512_set1_epi8(15);
        let mut acc = _mm512_setzero_ps();
        for sb in 0..n_in / 256 {
            let start = w.add(sb * 2304);
            let (scales, mins) = q4_k_scales(start.add(2048));
            let (d, dmin) = (load_f16(start.add(2240)), load_f16(start.add(2272)));
            for pair in 0..4 {
                let block = sb * 8 + pair * 2;
                let quants = start.add(pair * 512);
                let q = x.q.as_ptr().add(block * BLOCK);
                // 2304 bytes in four steps.
                prefetch(start.add(pair * 576), 9);
                // Two neighbouring blocks are the low and the high nibbles of the same bytes.
                let mut sums = [_mm512_setzero_si512(); 2];
                for j in 0..8 {
                    let bytes = load(quants, j);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low);
                    sums[0] = _mm512_dpbusd_epi32(
                        sums[0],
                        _mm512_and_si512(bytes, low),
                        broadcast4(q, j),
                    );
                    sums[1] = _mm512_dpbusd_epi32(sums[1], high, broadcast4(q, j + 8));
                }
                for (half, sum) in sums.into_iter().enumerate() {
                    let sub = pair * 2 + half;
                    let scale = _mm512_mul_ps(d, byte_f32(scales[sub / 4], sub % 4));
                    let min = _mm512_mul_ps(dmin, byte_f32(mins[sub / 4], sub % 4));
                    acc = accumulate(acc, sum, scale, *x.scale.get_unchecked(block + half));
                    let scaled_sum = _mm512_set1_ps(*x.scaled_sum.get_unchecked(block + half));
                    acc = _mm512_fnmadd_ps(min, scaled_sum, acc);
                }
            }
        }
        acc
    }
}

#[inline(always)]
unsafe fn q6_k_panel(w: *const u8, n_in: usize, x: QuantizedTile<'_>) -> __m512 {
    // SAFETY: as in `paired`.
    unsafe {
        let mut acc = _mm512_setzero_ps();
        for sb in 0..n_in / 256 {
            let (d, body) = in_pairs(sb, 3328);
            let start = w.add(body);
            prefetch(w.add(d), 1);
            let d = load_f16(w.add(d));
            let scales: [__m512i; 4] = std::array::from_fn(|i| load(start, 48 + i));
            for half in 0..2 {
                let at = sb * 8 + half * 4;
                let q = x.q.as_ptr().add(at * BLOCK);
                // `[side][block]`: a side is 16 columns, which share a scale.
                let mut sums = [[_mm512_setzero_si512(); 4]; 2];
                for side in 0..2 {
                    let sums = &mut sums[side];
                    for (block, sum) in sums.iter_mut().enumerate() {
                        let neg_sum = x.neg_sum.get_unchecked(at + block)[side];
                        *sum = _mm512_set1_epi32(neg_sum << 5);
                    }
                    for j in side * 4..side * 4 + 4 {
                        // 3328 bytes in sixteen steps.
                        prefetch(start.add(half * 1664 + j * 208), 4);
                        let quants = q6_k_quants(start, half, j);
                        for block in 0..4 {
                            let four = broadcast4(q, block * 8 + j);
                            sums[block] = _mm512_dpbusd_epi32(sums[block], quants[block], four);
                        }
                    }
                }
                for i in 0..8 {
                    let (sum, scale_x) = (sums[i % 2][i / 2], *x.scale.get_unchecked(at + i / 2));
                    let scale = _mm512_mul_ps(d, q6_k_scale(&scales, half * 8 + i));
                    acc = accumulate(acc, sum, scale, scale_x);
                }
            }
        }
        acc
    }
}
