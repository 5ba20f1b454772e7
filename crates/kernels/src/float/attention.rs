//! Fused attention over a paged KV cache: scores, softmax and the weighted sum of values page by page, so that
//! neither the score matrix nor f32 copies of keys and values are ever stored ("flash attention").
//!
//! Within a page keys lie transposed, `[head_dim][32 tokens]`: scores of 16 tokens are built side by side without a
//! sum across lanes. Values lie as `[32 tokens][head_dim]`, for the same reason.

use troika_base::KvType;

use super::cache::{F16, Format, Q4_0, Q8_0};
use crate::kv::{BLOCK, HeadLayout, PAGE_TOKENS};
use crate::lanes::{LANES, Lanes};

/// Queries that share a KV head, against some pages.
#[derive(Debug)]
pub(crate) struct Attend<'a> {
    /// `[n_query][head_dim]`, scaled by `1/sqrt(head_dim)`.
    pub(crate) q: &'a [f32],
    /// Per query, which tokens of the sequence it sees: from the first one, up to but without the second.
    pub(crate) visible: &'a [(usize, usize)],
    /// Bends scores to between minus and plus this: `cap * tanh(score / cap)`.
    pub(crate) soft_cap: Option<f32>,
    pub(crate) layout: HeadLayout,
    /// The head's keys and values in each page.
    pub(crate) pages: &'a [&'a [u8]],
    /// Position of the first token of the first page.
    pub(crate) start: usize,
}

/// What the softmax has seen so far, per query: start from `max = -inf`, the rest 0.
#[derive(Debug)]
pub(crate) struct State<'a> {
    /// The largest score.
    pub(crate) max: &'a mut [f32],
    /// Sum of `e^(score - max)`.
    pub(crate) sum: &'a mut [f32],
    /// `[n_query][padded_head_dim]`: sum of `e^(score - max) * value`.
    pub(crate) out: &'a mut [f32],
}

/// Values per row of the V pages and of [`State::out`]: whole vectors.
pub(crate) fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(LANES)
}

/// Adds the job's pages to the state.
///
/// # Safety
/// The features of `L` are there; `q`, `visible` and the state agree in the number of queries, pages are of the layout, and
/// the state has rows of `padded(head_dim)` values.
#[inline(always)]
pub(crate) unsafe fn attend<L: Lanes>(job: &Attend<'_>, state: State<'_>) {
    let state = StatePtr {
        max: state.max.as_mut_ptr(),
        sum: state.sum.as_mut_ptr(),
        out: state.out.as_mut_ptr(),
    };
    // SAFETY: forwarded from the caller.
    unsafe {
        match job.layout.kv_type {
            KvType::F16 => pages::<L, F16>(job, &state),
            KvType::Q8_0 => pages::<L, Q8_0>(job, &state),
            KvType::Q4_0 => pages::<L, Q4_0>(job, &state),
        }
    }
}

/// [`attend`], of a cache in the format `F`.
#[inline(always)]
unsafe fn pages<L: Lanes, F: Format>(job: &Attend<'_>, state: &StatePtr) {
    let n_query = job.visible.len();
    for (i, bytes) in job.pages.iter().enumerate() {
        let page = Page {
            start: job.start + i * PAGE_TOKENS,
            here: Parts::of(job.layout, bytes),
            next: Parts::of(job.layout, job.pages.get(i + 1).unwrap_or(bytes)),
        };
        let mut first = 0;
        // Groups of queries share every load of keys and values.
        // SAFETY: groups stay inside the queries; the rest is forwarded from the caller.
        unsafe {
            while L::QUERIES >= 8 && first + 8 <= n_query {
                group::<L, F, 8>(job, &page, first, state);
                first += 8;
            }
            while L::QUERIES >= 4 && first + 4 <= n_query {
                group::<L, F, 4>(job, &page, first, state);
                first += 4;
            }
            while first + 2 <= n_query {
                group::<L, F, 2>(job, &page, first, state);
                first += 2;
            }
            if first < n_query {
                group::<L, F, 1>(job, &page, first, state);
            }
        }
    }
}

/// [`State`] by pointers, so that the loops over groups can pass it on.
struct StatePtr {
    max: *mut f32,
    sum: *mut f32,
    out: *mut f32,
}

/// A page that is read, and the one after it, which is asked for meanwhile.
struct Page {
    /// Position of its first token.
    start: usize,
    here: Parts,
    next: Parts,
}

/// [`HeadLayout::parts`] by pointers.
struct Parts {
    keys: *const u8,
    key_scales: *const u16,
    values: *const u8,
    value_scales: *const u16,
}

impl Parts {
    #[inline(always)]
    fn of(layout: HeadLayout, page: &[u8]) -> Self {
        let [keys, key_scales, values, value_scales] = layout.parts(page).map(<[u8]>::as_ptr);
        Self {
            keys,
            key_scales: key_scales.cast(),
            values,
            value_scales: value_scales.cast(),
        }
    }
}

/// Queries `first..first + Q` against one page.
#[inline(always)]
unsafe fn group<L: Lanes, F: Format, const Q: usize>(
    job: &Attend<'_>,
    page: &Page,
    first: usize,
    state: &StatePtr,
) {
    let in_page = |position: usize| position.saturating_sub(page.start).min(PAGE_TOKENS);
    let seen: [(usize, usize); Q] = std::array::from_fn(|i| {
        let (from, end) = job.visible[first + i];
        (in_page(from), in_page(end))
    });
    let sees_some = |(from, end): &(usize, usize)| from < end;
    let tokens = seen.iter().filter(|seen| sees_some(seen));
    let tokens = tokens.map(|&(_, end)| end).max().unwrap_or(0);
    if tokens == 0 {
        return;
    }
    // SAFETY: forwarded from the caller.
    unsafe {
        let mut p = [[0.0f32; PAGE_TOKENS]; Q];
        scores::<L, F, Q>(job, page, first, &mut p);
        if let Some(cap) = job.soft_cap {
            p.iter_mut().for_each(|p| bend::<L>(p, cap));
        }
        let mut rescale = [0.0f32; Q];
        for i in 0..Q {
            let query = first + i;
            rescale[i] = softmax::<L>(
                &mut p[i],
                seen[i],
                &mut *state.max.add(query),
                &mut *state.sum.add(query),
            );
        }
        let out = state.out.add(first * padded(job.layout.head_dim));
        weighted_values::<L, F, Q>(job.layout, page, &p, rescale, tokens, out);
    }
}

/// `p[i][token] = q[first + i] · k[token]`. Of quantized keys, the whole numbers of a block are summed first, then scaled.
#[inline(always)]
unsafe fn scores<L: Lanes, F: Format, const Q: usize>(
    job: &Attend<'_>,
    page: &Page,
    first: usize,
    p: &mut [[f32; PAGE_TOKENS]; Q],
) {
    let head_dim = job.layout.head_dim;
    // SAFETY: rows and scales are inside their parts; the rest is forwarded from the caller.
    unsafe {
        let q = job.q.as_ptr().add(first * head_dim);
        let zero = [[L::splat(0.0); 2]; Q];
        let mut sums = zero;
        for block in 0..job.layout.n_block() {
            let mut part = if F::SCALED { zero } else { sums };
            for d in block * BLOCK..head_dim.min((block + 1) * BLOCK) {
                L::prefetch(page.next.keys.add(d * F::ROW_BYTES));
                let keys = F::row::<L>(page.here.keys.add(d * F::ROW_BYTES));
                for (i, part) in part.iter_mut().enumerate() {
                    let q = L::splat(*q.add(i * head_dim + d));
                    part[0] = keys[0].mul_add(q, part[0]);
                    part[1] = keys[1].mul_add(q, part[1]);
                }
            }
            if !F::SCALED {
                sums = part;
                continue;
            }
            L::prefetch(page.next.key_scales.add(block * PAGE_TOKENS).cast());
            let scales = page.here.key_scales.add(block * PAGE_TOKENS);
            let scales = [L::load_f16(scales), L::load_f16(scales.add(LANES))];
            for (sums, part) in sums.iter_mut().zip(part) {
                sums[0] = part[0].mul_add(scales[0], sums[0]);
                sums[1] = part[1].mul_add(scales[1], sums[1]);
            }
        }
        for (sums, p) in sums.into_iter().zip(p) {
            sums[0].store(p.as_mut_ptr());
            sums[1].store(p.as_mut_ptr().add(LANES));
        }
    }
}

/// `p = cap * tanh(p / cap)`.
#[inline(always)]
unsafe fn bend<L: Lanes>(p: &mut [f32; PAGE_TOKENS], cap: f32) {
    for at in [0, LANES] {
        // SAFETY: forwarded from the caller; the array is two vectors.
        unsafe {
            let p = p.as_mut_ptr().add(at);
            // tanh(x) = 1 - 2 / (e^2x + 1).
            let e = L::load(p).mul(L::splat(2.0 / cap)).exp();
            let tanh = L::splat(1.0).sub(L::splat(2.0).div(e.add(L::splat(1.0))));
            tanh.mul(L::splat(cap)).store(p);
        }
    }
}

/// Turns scores into weights `e^(score - max)`, hidden tokens into 0; returns what earlier weights are scaled by.
#[inline(always)]
unsafe fn softmax<L: Lanes>(
    p: &mut [f32; PAGE_TOKENS],
    (from, end): (usize, usize),
    max: &mut f32,
    sum: &mut f32,
) -> f32 {
    if from >= end {
        *p = [0.0; PAGE_TOKENS];
        return 1.0;
    }
    p[..from].fill(f32::NEG_INFINITY);
    p[end..].fill(f32::NEG_INFINITY);
    // SAFETY: forwarded from the caller; the array is two vectors.
    unsafe {
        let (low, high) = (L::load(p.as_ptr()), L::load(p.as_ptr().add(LANES)));
        let new_max = low.max(high).max_lane().max(*max);
        let rescale = L::splat(*max - new_max).exp().to_array()[0];
        let rescale = if *max == f32::NEG_INFINITY {
            0.0
        } else {
            rescale
        };
        low.sub(L::splat(new_max)).exp().store(p.as_mut_ptr());
        high.sub(L::splat(new_max))
            .exp()
            .store(p.as_mut_ptr().add(LANES));
        p[..from].fill(0.0);
        p[end..].fill(0.0);
        let total = L::load(p.as_ptr())
            .add(L::load(p.as_ptr().add(LANES)))
            .sum();
        *max = new_max;
        *sum = sum.mul_add(rescale, total);
        rescale
    }
}

/// `out[i] = out[i] * rescale[i] + sum over tokens of p[i][token] * v[token]`. Quantized values are whole numbers, and
/// weights take their scales.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "tokens count more than `p`")]
unsafe fn weighted_values<L: Lanes, F: Format, const Q: usize>(
    layout: HeadLayout,
    page: &Page,
    p: &[[f32; PAGE_TOKENS]; Q],
    rescale: [f32; Q],
    tokens: usize,
    out: *mut f32,
) {
    let width = padded(layout.head_dim);
    let token_bytes = layout.value_row_bytes();
    let mut scaled = *p;
    // SAFETY: rows and scales are inside their parts; the rest is forwarded from the caller.
    unsafe {
        for chunk in (0..width).step_by(LANES) {
            let (block, is_upper) = (chunk / BLOCK, chunk % BLOCK != 0);
            if F::SCALED && !is_upper {
                L::prefetch(page.next.value_scales.add(block * PAGE_TOKENS).cast());
                let scales = page.here.value_scales.add(block * PAGE_TOKENS);
                scale::<L, Q>(p, scales, &mut scaled);
            }
            let out: [*mut f32; Q] = std::array::from_fn(|i| out.add(i * width + chunk));
            let mut sums: [L; Q] =
                std::array::from_fn(|i| L::load(out[i]).mul(L::splat(rescale[i])));
            for token in 0..tokens {
                let row = token * token_bytes + block * F::ROW_BYTES;
                if !is_upper {
                    L::prefetch(page.next.values.add(row));
                }
                let values = F::half::<L>(page.here.values.add(row), is_upper);
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = values.mul_add(L::splat(scaled[i][token]), *sum);
                }
            }
            for (sum, out) in sums.into_iter().zip(out) {
                sum.store(out);
            }
        }
    }
}

/// `scaled[i][token] = p[i][token] * scales[token]`.
#[inline(always)]
unsafe fn scale<L: Lanes, const Q: usize>(
    p: &[[f32; PAGE_TOKENS]; Q],
    scales: *const u16,
    scaled: &mut [[f32; PAGE_TOKENS]; Q],
) {
    for at in [0, LANES] {
        // SAFETY: forwarded from the caller; an array is two vectors.
        unsafe {
            let scale = L::load_f16(scales.add(at));
            for (p, scaled) in p.iter().zip(&mut *scaled) {
                let product = L::load(p.as_ptr().add(at)).mul(scale);
                product.store(scaled.as_mut_ptr().add(at));
            }
        }
    }
}
