//! Fused attention over a paged KV cache: scores, softmax and the weighted sum of values page by page, so that
//! neither the score matrix nor f32 copies of keys and values are ever stored ("flash attention").
//!
//! Within a page keys lie transposed, `[head_dim][32 tokens]`: scores of 16 tokens are built side by side without a
//! sum across lanes. Values lie as `[32 tokens][head_dim]`, for the same reason.

use crate::kv::PAGE_TOKENS;
use crate::lanes::{LANES, Lanes};

/// Keys and values of one page, for one layer and one KV head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadPage<'a> {
    /// `[head_dim][PAGE_TOKENS]` f16.
    pub(crate) k: &'a [u16],
    /// `[PAGE_TOKENS][padded_head_dim]` f16.
    pub(crate) v: &'a [u16],
}

/// Queries that share a KV head, against some pages.
#[derive(Debug)]
pub(crate) struct Attend<'a> {
    /// `[n_query][head_dim]`, scaled by `1/sqrt(head_dim)`.
    pub(crate) q: &'a [f32],
    /// Per query, which tokens of the sequence it sees: from the first one, up to but without the second.
    pub(crate) visible: &'a [(usize, usize)],
    /// Bends scores to between minus and plus this: `cap * tanh(score / cap)`.
    pub(crate) soft_cap: Option<f32>,
    pub(crate) head_dim: usize,
    pub(crate) pages: &'a [HeadPage<'a>],
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
/// The features of `L` are there; `q`, `visible` and the state agree in the number of queries, and pages and state
/// have rows of `padded(head_dim)` values.
#[inline(always)]
pub(crate) unsafe fn attend<L: Lanes>(job: &Attend<'_>, state: State<'_>) {
    let n_query = job.visible.len();
    let state = StatePtr {
        max: state.max.as_mut_ptr(),
        sum: state.sum.as_mut_ptr(),
        out: state.out.as_mut_ptr(),
    };
    for page in 0..job.pages.len() {
        let mut first = 0;
        // Groups of queries share every load of keys and values.
        // SAFETY: groups stay inside the queries; the rest is forwarded from the caller.
        unsafe {
            while L::QUERIES >= 8 && first + 8 <= n_query {
                group::<L, 8>(job, page, first, &state);
                first += 8;
            }
            while L::QUERIES >= 4 && first + 4 <= n_query {
                group::<L, 4>(job, page, first, &state);
                first += 4;
            }
            while first + 2 <= n_query {
                group::<L, 2>(job, page, first, &state);
                first += 2;
            }
            if first < n_query {
                group::<L, 1>(job, page, first, &state);
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

/// Queries `first..first + Q` against one page.
#[inline(always)]
unsafe fn group<L: Lanes, const Q: usize>(
    job: &Attend<'_>,
    page: usize,
    first: usize,
    state: &StatePtr,
) {
    let start = job.start + page * PAGE_TOKENS;
    let in_page = |position: usize| position.saturating_sub(start).min(PAGE_TOKENS);
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
    let next = job.pages.get(page + 1).unwrap_or(&job.pages[page]);
    // SAFETY: forwarded from the caller.
    unsafe {
        let mut p = [[0.0f32; PAGE_TOKENS]; Q];
        scores::<L, Q>(job, page, first, next, &mut p);
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
        weighted_values::<L, Q>(job, page, first, next, &p, rescale, tokens, state.out);
    }
}

/// `p[i][token] = q[first + i] · k[token]`.
#[inline(always)]
unsafe fn scores<L: Lanes, const Q: usize>(
    job: &Attend<'_>,
    page: usize,
    first: usize,
    next: &HeadPage<'_>,
    p: &mut [[f32; PAGE_TOKENS]; Q],
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        let (k, q) = (
            job.pages[page].k.as_ptr(),
            job.q.as_ptr().add(first * job.head_dim),
        );
        let mut sums = [[L::splat(0.0); 2]; Q];
        for d in 0..job.head_dim {
            let row = k.add(d * PAGE_TOKENS);
            L::prefetch(next.k.as_ptr().add(d * PAGE_TOKENS).cast());
            let keys = [L::load_f16(row), L::load_f16(row.add(LANES))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let q = L::splat(*q.add(i * job.head_dim + d));
                sums[0] = keys[0].mul_add(q, sums[0]);
                sums[1] = keys[1].mul_add(q, sums[1]);
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

/// `out[first + i] = out[first + i] * rescale[i] + sum over tokens of p[i][token] * v[token]`.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    clippy::needless_range_loop,
    reason = "an inner step of one loop, kept apart to be read apart; tokens count more than `p`"
)]
unsafe fn weighted_values<L: Lanes, const Q: usize>(
    job: &Attend<'_>,
    page: usize,
    first: usize,
    next: &HeadPage<'_>,
    p: &[[f32; PAGE_TOKENS]; Q],
    rescale: [f32; Q],
    tokens: usize,
    out: *mut f32,
) {
    let width = padded(job.head_dim);
    // SAFETY: forwarded from the caller.
    unsafe {
        let v = job.pages[page].v.as_ptr();
        for chunk in (0..width).step_by(LANES) {
            let out: [*mut f32; Q] = std::array::from_fn(|i| out.add((first + i) * width + chunk));
            let mut sums: [L; Q] =
                std::array::from_fn(|i| L::load(out[i]).mul(L::splat(rescale[i])));
            for token in 0..tokens {
                if chunk % 32 == 0 {
                    L::prefetch(next.v.as_ptr().add(token * width + chunk).cast());
                }
                let values = L::load_f16(v.add(token * width + chunk));
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = values.mul_add(L::splat(p[i][token]), *sum);
                }
            }
            for (sum, out) in sums.into_iter().zip(out) {
                sum.store(out);
            }
        }
    }
}
