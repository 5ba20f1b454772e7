//! Products with F32, F16 and BF16 weights: f32 arithmetic, nothing is rounded to the weights' format.

use troika_base::DType;

use crate::lanes::Lanes;
use crate::packed::PANEL_ROWS;

const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;

/// `count` panels times a tile of `n_tok` tokens (1, 2, 4, 8 or 16): `out` `[count][n_tok][16]`.
///
/// # Safety
/// The features of `L` are there; `panels` are `count` panels of `n_in` columns, `x` is `[n_in, n_tok]`.
#[inline(always)]
pub(crate) unsafe fn product<L: Lanes>(
    dtype: DType,
    panels: &[u8],
    count: usize,
    n_in: usize,
    x: &[f32],
    n_tok: usize,
    out: &mut [f32],
) {
    let panel_bytes = panels.len() / count;
    for (panel, out) in panels
        .chunks_exact(panel_bytes)
        .zip(out.chunks_exact_mut(n_tok * PANEL_ROWS))
    {
        // SAFETY: forwarded from the caller.
        unsafe {
            match dtype {
                DType::F32 => tokens::<L, F32>(panel, n_in, x, n_tok, out),
                DType::F16 => tokens::<L, F16>(panel, n_in, x, n_tok, out),
                _ => tokens::<L, BF16>(panel, n_in, x, n_tok, out),
            }
        }
    }
}

#[inline(always)]
unsafe fn tokens<L: Lanes, const KIND: u8>(
    panel: &[u8],
    n_in: usize,
    x: &[f32],
    n_tok: usize,
    out: &mut [f32],
) {
    let together = n_tok.min(L::TOKENS);
    for first in (0..n_tok).step_by(together) {
        let (x, out) = (&x[first..], &mut out[first * PANEL_ROWS..]);
        // SAFETY: forwarded from the caller; numbers of tokens are powers of two.
        unsafe {
            match together {
                16 => tile::<L, KIND, 16>(panel, n_in, x, n_tok, out),
                8 => tile::<L, KIND, 8>(panel, n_in, x, n_tok, out),
                4 => tile::<L, KIND, 4>(panel, n_in, x, n_tok, out),
                2 => tile::<L, KIND, 2>(panel, n_in, x, n_tok, out),
                _ => tile::<L, KIND, 1>(panel, n_in, x, n_tok, out),
            }
        }
    }
}

/// A column of weights is loaded once for `T` tokens of a tile of `n_tok`; each token has one accumulator, so each output is one chain of
/// fused multiply-adds in the order of the columns. The tokens' values of a column lie together: apart by a row of
/// `n_in`, often a multiple of 4 KiB, they would fight for the same few lines of the cache.
#[inline(always)]
unsafe fn tile<L: Lanes, const KIND: u8, const T: usize>(
    panel: &[u8],
    n_in: usize,
    x: &[f32],
    n_tok: usize,
    out: &mut [f32],
) {
    debug_assert!(x.len() >= (n_in - 1) * n_tok + T && out.len() >= T * PANEL_ROWS);
    // SAFETY: sizes as asserted, and the panel has `n_in` columns.
    unsafe {
        let mut acc = [L::splat(0.0); T];
        for k in 0..n_in {
            let w = match KIND {
                F32 => L::load(panel.as_ptr().cast::<f32>().add(k * PANEL_ROWS)),
                F16 => L::load_f16(panel.as_ptr().cast::<u16>().add(k * PANEL_ROWS)),
                _ => L::load_bf16(panel.as_ptr().cast::<u16>().add(k * PANEL_ROWS)),
            };
            for (t, acc) in acc.iter_mut().enumerate() {
                *acc = w.mul_add(L::splat(*x.get_unchecked(k * n_tok + t)), *acc);
            }
        }
        for (acc, out) in acc.into_iter().zip(out.as_chunks_mut::<PANEL_ROWS>().0) {
            acc.store(out.as_mut_ptr());
        }
    }
}
