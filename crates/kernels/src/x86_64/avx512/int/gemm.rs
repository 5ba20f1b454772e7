//! Panels times a tile of tokens: reading a prompt, which should be as fast as the multipliers, and writing several answers
//! side by side.

use std::arch::x86_64::*;

use troika_base::DType;

use super::source::{Apart, Q4_0, Q4K, Q6K, Q8_0, Read, Source};
use super::{accumulate, subtract_halves};
use crate::activations::{BLOCK, QuantizedTile};
use crate::panel::PanelFormat;
use crate::unpacked::{Correction, Unpacked, correction};

/// Panels taken apart times a tile of tokens: `out` `[w.len()][x.len][16]`.
///
/// # Safety
/// The CPU has the features; `w` hold `n_in` columns, `x` a tile of `n_in` columns, `out` 16 values per panel and token.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) unsafe fn gemm(
    dtype: DType,
    w: &[Unpacked],
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let per_pair = 2 * x.len * 16;
    let correction = correction(dtype);
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
    // SAFETY: forwarded from the caller.
    unsafe {
        match correction {
            Correction::Offset(8) => blocks(w.map(Apart::<8, false, false>), n_in, x, out),
            Correction::Offset(_) => blocks(w.map(Apart::<128, false, false>), n_in, x, out),
            Correction::Offset32Half => blocks(w.map(Apart::<32, true, false>), n_in, x, out),
            Correction::Offset128Half => blocks(w.map(Apart::<128, true, false>), n_in, x, out),
            Correction::Minimum => blocks(w.map(Apart::<0, false, true>), n_in, x, out),
            Correction::MinimumHalf => blocks(w.map(Apart::<0, true, true>), n_in, x, out),
        }
    }
}

/// Defines the product of `count` packed panels of a format with a tile of tokens. For few tokens: taking a panel apart in
/// memory first would cost more than it saves.
macro_rules! packed {
    ($name:ident, $source:ident) => {
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
                        blocks(w, n_in, x, out);
                    } else {
                        blocks([first], n_in, x, out);
                    }
                }
            }
        }
    };
}

packed!(q4_0, Q4_0);
packed!(q8_0, Q8_0);
packed!(q4_k, Q4K);
packed!(q6_k, Q6K);

/// As [`q4_0`], of the formats that are read by rows.
///
/// # Safety
/// As [`q4_0`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn read<F: PanelFormat>(
    panels: &[u8],
    count: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let bytes = panels.len() / count;
    let out = out.chunks_mut(2 * x.len * 16);
    for (panels, out) in panels.chunks(2 * bytes).zip(out) {
        let first = Read::<F>::new(panels.as_ptr());
        // SAFETY: forwarded from the caller.
        unsafe {
            if panels.len() > bytes {
                blocks([first, Read::new(panels.as_ptr().add(bytes))], n_in, x, out);
            } else {
                blocks([first], n_in, x, out);
            }
        }
    }
}

/// A block of P panels stays in 8 P registers while the tile's tokens pass by; a token's four activations are broadcast
/// once for all panels. With two panels the multipliers are the limit; with one it would be the loads. The sums of 16
/// tokens do not fit the registers that are left, and wait in `out`, which stays in the first-level cache.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "indices name registers: the loops are unrolled"
)]
unsafe fn blocks<S: Source, const P: usize>(
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
            let mut mins = [[_mm512_setzero_ps(); 2]; P];
            for p in 0..P {
                weights[p] = w[p].quants(block);
                scales[p][0] = w[p].scale(block, 0);
                if S::HALVES {
                    scales[p][1] = w[p].scale(block, 1);
                }
                if S::MIN {
                    mins[p][0] = w[p].min(block, 0);
                }
                if S::MIN && S::HALVES {
                    mins[p][1] = w[p].min(block, 1);
                }
            }
            for t in 0..n_tok {
                let at = block * n_tok + t;
                let q = x.q.as_ptr().add(at * BLOCK).cast::<i32>();
                let mut sums = [[_mm512_setzero_si512(); 2]; P];
                for half in 0..2 {
                    if S::HALVES || half == 0 {
                        let start = start::<S>(x, at, half);
                        sums.iter_mut().for_each(|sum| sum[half] = start);
                    }
                    for j in half * 4..half * 4 + 4 {
                        let four = _mm512_set1_epi32(q.add(j).read_unaligned());
                        for p in 0..P {
                            let sum = &mut sums[p][if S::HALVES { half } else { 0 }];
                            *sum = _mm512_dpbusd_epi32(*sum, weights[p][j], four);
                        }
                    }
                }
                let scale_x = *x.scale.get_unchecked(at);
                for p in 0..P {
                    let to = out.add((p * n_tok + t) * 16);
                    let mut acc = _mm512_loadu_ps(to);
                    acc = accumulate(acc, sums[p][0], scales[p][0], scale_x);
                    if S::HALVES {
                        acc = accumulate(acc, sums[p][1], scales[p][1], scale_x);
                    }
                    if S::MIN && S::HALVES {
                        let neg_sum = *x.neg_sum.get_unchecked(at);
                        acc = subtract_halves(acc, mins[p], neg_sum, scale_x);
                    } else if S::MIN {
                        let scaled_sum = _mm512_set1_ps(*x.scaled_sum.get_unchecked(at));
                        acc = _mm512_fnmadd_ps(mins[p][0], scaled_sum, acc);
                    }
                    _mm512_storeu_ps(to, acc);
                }
            }
        }
    }
}

/// What a sum starts from, so that the offset of the stored weights is taken off.
#[inline(always)]
pub(super) unsafe fn start<S: Source>(x: QuantizedTile<'_>, at: usize, half: usize) -> __m512i {
    // SAFETY: the caller's block is in the tile; features as in the callers.
    unsafe {
        if S::OFFSET == 0 {
            return _mm512_setzero_si512();
        }
        let [low, high] = *x.neg_sum.get_unchecked(at);
        let sum = match (S::HALVES, half) {
            (false, _) => low + high,
            (true, 0) => low,
            (true, _) => high,
        };
        _mm512_set1_epi32(sum * S::OFFSET)
    }
}
