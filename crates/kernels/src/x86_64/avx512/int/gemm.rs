//! Panels taken apart times a tile of tokens: reading a prompt, which should be as fast as the multipliers.

use std::arch::x86_64::*;

use super::{accumulate, load};
use crate::activations::{BLOCK, QuantizedTile};
use crate::unpacked::{Correction, Unpacked};

/// Panels taken apart times a tile of tokens: `out` `[w.len()][x.len][16]`.
///
/// # Safety
/// The CPU has the features; `w` hold `n_in` columns, `x` a tile of `n_in` columns, `out` 16 values per panel and token.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) unsafe fn gemm(
    w: &[Unpacked],
    correction: Correction,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let (pairs, rest) = w.as_chunks::<2>();
    let (out_pairs, out_rest) = out.split_at_mut(pairs.len() * 2 * x.len * 16);
    // SAFETY: forwarded from the caller.
    unsafe {
        for (w, out) in pairs.iter().zip(out_pairs.chunks_exact_mut(2 * x.len * 16)) {
            panels::<2>(w, correction, n_in, x, out);
        }
        if let [w] = rest {
            panels::<1>(std::array::from_ref(w), correction, n_in, x, out_rest);
        }
    }
}

#[inline(always)]
unsafe fn panels<const P: usize>(
    w: &[Unpacked; P],
    correction: Correction,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match correction {
            Correction::Offset(8) => blocks::<P, 3, false, false>(w, n_in, x, out),
            Correction::Offset(_) => blocks::<P, 7, false, false>(w, n_in, x, out),
            Correction::Offset32Half => blocks::<P, 5, true, false>(w, n_in, x, out),
            Correction::Minimum => blocks::<P, 0, false, true>(w, n_in, x, out),
        }
    }
}

/// A block of P panels stays in 8 P registers while the tile's tokens pass by; a token's four activations are broadcast
/// once for all panels. With two panels the multipliers are the limit; with one it would be the loads. The sums of 16
/// tokens do not fit the registers that are left, and wait in `out`, which stays in the first-level cache.
///
/// `2^SHIFT` is what weights are stored with on top (0: nothing); `HALVES`: one scale per 16 weights; `MIN`: minima.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "indices name registers: the loops are unrolled"
)]
unsafe fn blocks<const P: usize, const SHIFT: u32, const HALVES: bool, const MIN: bool>(
    w: &[Unpacked; P],
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    debug_assert!(x.q.len() == x.len * n_in && out.len() >= P * x.len * 16);
    let n_tok = x.len;
    let out = out.as_mut_ptr();
    // SAFETY: sizes as the caller guarantees; block `b` of token `t` is at `b * n_tok + t`.
    unsafe {
        for i in 0..P * n_tok {
            _mm512_storeu_ps(out.add(i * 16), _mm512_setzero_ps());
        }
        for block in 0..n_in / BLOCK {
            let weights: [[__m512i; 8]; P] = std::array::from_fn(|p| {
                std::array::from_fn(|j| load(w[p].q.as_ptr().add(block * 512), j))
            });
            for t in 0..n_tok {
                let at = block * n_tok + t;
                let q = x.q.as_ptr().add(at * BLOCK).cast::<i32>();
                let mut sums = [[_mm512_setzero_si512(); 2]; P];
                for half in 0..2 {
                    if HALVES || half == 0 {
                        let start = start::<SHIFT, HALVES>(x, at, half);
                        sums.iter_mut().for_each(|sum| sum[half] = start);
                    }
                    for j in half * 4..half * 4 + 4 {
                        let four = _mm512_set1_epi32(q.add(j).read_unaligned());
                        for p in 0..P {
                            let sum = &mut sums[p][if HALVES { half } else { 0 }];
                            *sum = _mm512_dpbusd_epi32(*sum, weights[p][j], four);
                        }
                    }
                }
                let scale_x = *x.scale.get_unchecked(at);
                for p in 0..P {
                    let to = out.add((p * n_tok + t) * 16);
                    let scale = w[p].scale.as_ptr().cast::<f32>();
                    let mut acc = _mm512_loadu_ps(to);
                    if HALVES {
                        let scale = scale.add(block * 32);
                        acc = accumulate(acc, sums[p][0], _mm512_loadu_ps(scale), scale_x);
                        acc = accumulate(acc, sums[p][1], _mm512_loadu_ps(scale.add(16)), scale_x);
                    } else {
                        acc = accumulate(
                            acc,
                            sums[p][0],
                            _mm512_loadu_ps(scale.add(block * 16)),
                            scale_x,
                        );
                    }
                    if MIN {
                        let min = _mm512_loadu_ps(w[p].min.as_ptr().cast::<f32>().add(block * 16));
                        acc = _mm512_fnmadd_ps(
                            min,
                            _mm512_set1_ps(*x.scaled_sum.get_unchecked(at)),
                            acc,
                        );
                    }
                    _mm512_storeu_ps(to, acc);
                }
            }
        }
    }
}

/// What a sum starts from, so that the offset of the stored weights is taken off.
#[inline(always)]
unsafe fn start<const SHIFT: u32, const HALVES: bool>(
    x: QuantizedTile<'_>,
    at: usize,
    half: usize,
) -> __m512i {
    // SAFETY: the caller's block is in the tile; features as in the callers.
    unsafe {
        if SHIFT == 0 {
            return _mm512_setzero_si512();
        }
        let [low, high] = *x.neg_sum.get_unchecked(at);
        let sum = match (HALVES, half) {
            (false, _) => low + high,
            (true, 0) => low,
            (true, _) => high,
        };
        _mm512_set1_epi32(sum << SHIFT)
    }
}
