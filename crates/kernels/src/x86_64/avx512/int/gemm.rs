//! Panels times a tile of tokens: reading a prompt, which should be as fast as the multipliers, and writing several answers
//! side by side.

use std::arch::x86_64::*;

use super::accumulate;
use super::source::{Apart, Q4_0, Q4K, Q6K, Q8_0, Source};
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
    let per_pair = 2 * x.len * 16;
    for (w, out) in w.chunks(2).zip(out.chunks_mut(per_pair)) {
        // SAFETY: forwarded from the caller.
        unsafe {
            match w {
                [a, b] => panels([a, b], correction, n_in, x, out),
                [a, ..] => panels([a], correction, n_in, x, out),
                [] => {}
            }
        }
    }
}

#[inline(always)]
unsafe fn panels<const P: usize>(
    w: [&Unpacked; P],
    correction: Correction,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let (whole, halves) = (w.map(Apart::<1>), w.map(Apart::<2>));
    // SAFETY: forwarded from the caller.
    unsafe {
        match correction {
            Correction::Offset(8) => blocks::<_, P, 3, false, false>(whole, n_in, x, out),
            Correction::Offset(_) => blocks::<_, P, 7, false, false>(whole, n_in, x, out),
            Correction::Offset32Half => blocks::<_, P, 5, true, false>(halves, n_in, x, out),
            Correction::Minimum => blocks::<_, P, 0, false, true>(whole, n_in, x, out),
        }
    }
}

/// Defines the product of `count` packed panels of a format with a tile of tokens; see [`blocks`] for the constants. For
/// few tokens: taking a panel apart in memory first would cost more than it saves.
macro_rules! packed {
    ($name:ident, $source:ident, $shift:literal, $halves:literal, $min:literal) => {
        /// # Safety
        /// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` a tile, `out` 16 values per panel
        /// and token.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
        pub(super) unsafe fn $name(
            panels: &[u8],
            count: usize,
            n_in: usize,
            x: QuantizedTile<'_>,
            out: &mut [f32],
        ) {
            let bytes = panels.len() / count;
            let out = out.chunks_mut(2 * x.len * 16);
            for (panels, out) in panels.chunks(2 * bytes).zip(out) {
                let first = $source(panels.as_ptr());
                // SAFETY: forwarded from the caller.
                unsafe {
                    if panels.len() > bytes {
                        let w = [first, $source(panels.as_ptr().add(bytes))];
                        blocks::<_, 2, $shift, $halves, $min>(w, n_in, x, out);
                    } else {
                        blocks::<_, 1, $shift, $halves, $min>([first], n_in, x, out);
                    }
                }
            }
        }
    };
}

packed!(q4_0, Q4_0, 3, false, false);
packed!(q8_0, Q8_0, 7, false, false);
packed!(q4_k, Q4K, 0, false, true);
packed!(q6_k, Q6K, 5, true, false);

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
pub(super) unsafe fn blocks<
    S: Source,
    const P: usize,
    const SHIFT: u32,
    const HALVES: bool,
    const MIN: bool,
>(
    w: [S; P],
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
            let mut weights = [[_mm512_setzero_si512(); 8]; P];
            let mut scales = [[_mm512_setzero_ps(); 2]; P];
            let mut mins = [_mm512_setzero_ps(); P];
            for p in 0..P {
                weights[p] = w[p].quants(block);
                scales[p][0] = w[p].scale(block, 0);
                if HALVES {
                    scales[p][1] = w[p].scale(block, 1);
                }
                if MIN {
                    mins[p] = w[p].min(block);
                }
            }
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
                    let mut acc = _mm512_loadu_ps(to);
                    acc = accumulate(acc, sums[p][0], scales[p][0], scale_x);
                    if HALVES {
                        acc = accumulate(acc, sums[p][1], scales[p][1], scale_x);
                    }
                    if MIN {
                        let scaled_sum = _mm512_set1_ps(*x.scaled_sum.get_unchecked(at));
                        acc = _mm512_fnmadd_ps(mins[p], scaled_sum, acc);
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
