//! Products with F32, F16 and BF16 weights: f32 arithmetic, nothing is rounded to the weights' format.

use troika_base::DType;

use crate::lanes::Lanes;
use crate::packed::PANEL_ROWS;

const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;

/// Panels that one or two tokens are multiplied with side by side: each output is one chain of additions, and the chains
/// of a single panel are too few to hide their latency.
const SIDE_BY_SIDE: usize = 2;

/// Bytes ahead of the column at hand that are asked for where memory is what limits.
const AHEAD_BYTES: usize = 4096;

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
    debug_assert!(panels.len().is_multiple_of(count) && out.len() == count * n_tok * PANEL_ROWS);
    // SAFETY: forwarded from the caller.
    unsafe {
        match dtype {
            DType::F32 => all_panels::<L, F32>(panels, count, n_in, x, n_tok, out),
            DType::F16 => all_panels::<L, F16>(panels, count, n_in, x, n_tok, out),
            _ => all_panels::<L, BF16>(panels, count, n_in, x, n_tok, out),
        }
    }
}

#[inline(always)]
unsafe fn all_panels<L: Lanes, const KIND: u8>(
    panels: &[u8],
    count: usize,
    n_in: usize,
    x: &[f32],
    n_tok: usize,
    out: &mut [f32],
) {
    let bytes = panels.len() / count;
    let together = if n_tok <= 2 { SIDE_BY_SIDE } else { 1 };
    let panels = panels.chunks(together * bytes);
    for (panels, out) in panels.zip(out.chunks_mut(together * n_tok * PANEL_ROWS)) {
        // SAFETY: forwarded from the caller.
        unsafe {
            match (panels.len() / bytes, n_tok) {
                (SIDE_BY_SIDE, 1) => tile::<L, KIND, SIDE_BY_SIDE, 1>(panels, n_in, x, 1, out),
                (SIDE_BY_SIDE, 2) => tile::<L, KIND, SIDE_BY_SIDE, 2>(panels, n_in, x, 2, out),
                _ => tokens::<L, KIND>(panels, n_in, x, n_tok, out),
            }
        }
    }
}

/// One panel times a tile, as many tokens at a time as fit the registers.
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
                16 => tile::<L, KIND, 1, 16>(panel, n_in, x, n_tok, out),
                8 => tile::<L, KIND, 1, 8>(panel, n_in, x, n_tok, out),
                4 => tile::<L, KIND, 1, 4>(panel, n_in, x, n_tok, out),
                2 => tile::<L, KIND, 1, 2>(panel, n_in, x, n_tok, out),
                _ => tile::<L, KIND, 1, 1>(panel, n_in, x, n_tok, out),
            }
        }
    }
}

/// `P` panels times `T` tokens of a tile of `n_tok`: `out` `[P][T][16]`.
///
/// A column of weights is loaded once for all tokens; each token has one accumulator, so each output is one chain of
/// fused multiply-adds in the order of the columns. The tokens' values of a column lie together: apart by a row of
/// `n_in`, often a multiple of 4 KiB, they would fight for the same few lines of the cache.
#[inline(always)]
unsafe fn tile<L: Lanes, const KIND: u8, const P: usize, const T: usize>(
    panels: &[u8],
    n_in: usize,
    x: &[f32],
    n_tok: usize,
    out: &mut [f32],
) {
    debug_assert!(x.len() >= (n_in - 1) * n_tok + T && out.len() >= P * T * PANEL_ROWS);
    let column_bytes = PANEL_ROWS * if KIND == F32 { 4 } else { 2 };
    // SAFETY: sizes as asserted, and the panels have `n_in` columns.
    unsafe {
        let starts: [*const u8; P] =
            std::array::from_fn(|p| panels.as_ptr().add(p * (panels.len() / P)));
        let mut acc = [[L::splat(0.0); T]; P];
        for k in 0..n_in {
            for (start, acc) in starts.iter().zip(&mut acc) {
                let column = start.add(k * column_bytes);
                if P > 1 {
                    L::prefetch(column.wrapping_add(AHEAD_BYTES));
                }
                let w = match KIND {
                    F32 => L::load(column.cast()),
                    F16 => L::load_f16(column.cast()),
                    _ => L::load_bf16(column.cast()),
                };
                for (t, acc) in acc.iter_mut().enumerate() {
                    *acc = w.mul_add(L::splat(*x.get_unchecked(k * n_tok + t)), *acc);
                }
            }
        }
        let acc = acc.as_flattened();
        for (acc, out) in acc.iter().zip(out.as_chunks_mut::<PANEL_ROWS>().0) {
            acc.store(out.as_mut_ptr());
        }
    }
}
