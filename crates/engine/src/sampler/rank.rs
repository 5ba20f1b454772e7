//! Which tokens may be drawn: top-k, top-p, min-p; typical between the first two.
//!
//! Each keeps the first of all tokens in order of likelihood, so none needs more than that beginning in order, and no
//! vocabulary is ever sorted whole.

use std::cmp::Ordering;

use troika_base::TokenId;

use super::params::SamplingParams;
use super::{narrow, softmax};

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: TokenId,
    pub(super) logit: f32,
}

/// Likeliest first; of equals, the lowest id. No logit is NaN.
pub(super) fn order(a: &Candidate, b: &Candidate) -> Ordering {
    let by_logit = b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal);
    by_logit.then(a.token.cmp(&b.token))
}

/// Logits that are looked at together: few chunks hold one that is good enough.
const CHUNK: usize = 64;

/// Top-p sorts logits roughly first, into so many bins per unit. Those that are further below the largest than all
/// bins together share the last: they weigh nothing.
const BINS_PER_UNIT: f32 = 32.0;
const BINS: usize = 32 * 32;

/// Writes the tokens that the filters leave to `kept`, in an order that depends on nothing but the logits.
///
/// `max` is the largest of `logits`, and finite.
pub(super) fn filter(params: &SamplingParams, logits: &[f32], max: f32, kept: &mut Vec<Candidate>) {
    let top_k = match params.top_k as usize {
        0 => logits.len(),
        top_k => top_k,
    };
    if top_k < logits.len() || params.typical_p < 1.0 {
        best(logits, top_k, kept);
        if params.typical_p < 1.0 {
            narrow::typical(params.typical_p, max, kept);
            kept.sort_unstable_by(order);
        }
        if params.top_p < 1.0 {
            let total = kept
                .iter()
                .map(|candidate| weight(candidate.logit - max))
                .sum();
            kept.truncate(nucleus_of_ranked(kept, share(params.top_p, total), max));
        }
    } else if params.top_p < 1.0 {
        nucleus(logits, params.top_p, max, kept);
    } else {
        // The bar is a little below what min-p asks for, which is then looked at exactly.
        above(logits, max + params.min_p.ln() - 0.01, kept);
    }
    if params.min_p > 0.0 {
        // The likeliest token need not be typical.
        let max = kept.iter().map(|it| it.logit).fold(f32::MIN, f32::max);
        kept.retain(|candidate| softmax::exp(candidate.logit - max) >= params.min_p);
    }
}

/// How likely a token is whose logit is `-x` below the largest: a whole number, so that sums are the same in any
/// order. The likeliest weighs 2^40, and there may be millions of them.
pub(super) fn weight(x: f32) -> u64 {
    whole(softmax::exp(x))
}

fn whole(exp: f32) -> u64 {
    // The cast to a signed number is one instruction where the other is several.
    (exp * (1i64 << 40) as f32) as i64 as u64
}

/// The weight that the kept must have together.
pub(super) fn share(top_p: f32, total: u64) -> u64 {
    (f64::from(top_p) * total as f64).ceil() as u64
}

/// How many of the first weigh `wanted` together, at least one; all if all weigh less.
fn nucleus_of_ranked(ranked: &[Candidate], mut wanted: u64, max: f32) -> usize {
    for (index, candidate) in ranked.iter().enumerate() {
        let weight = weight(candidate.logit - max);
        if weight >= wanted {
            return index + 1;
        }
        wanted -= weight;
    }
    ranked.len()
}

/// Writes the fewest of the likeliest tokens that have the share `top_p` together: by id, but for the last few.
fn nucleus(logits: &[f32], top_p: f32, max: f32, kept: &mut Vec<Candidate>) {
    // The cast saturates, and what is beyond the bins falls into the last.
    let bin = |logit: f32| (((max - logit) * BINS_PER_UNIT) as i32 as usize).min(BINS - 1);
    let mut bins = [0u64; BINS];
    for chunk in logits.chunks(CHUNK) {
        let mut exps = [0.0; CHUNK];
        for (exp, &logit) in exps.iter_mut().zip(chunk) {
            *exp = softmax::exp(logit - max);
        }
        for (&exp, &logit) in exps.iter().zip(chunk) {
            bins[bin(logit)] += whole(exp);
        }
    }
    let mut wanted = share(top_p, bins.iter().sum());
    let mut last = 0;
    while last + 1 < BINS && bins[last] < wanted {
        wanted -= bins[last];
        last += 1;
    }
    // All bins before the last are kept whole. The last is ranked.
    let bar = max - (last + 1) as f32 / BINS_PER_UNIT - 0.01;
    kept.clear();
    gather(logits, bar, |logit| bin(logit) < last, kept);
    let whole_bins = kept.len();
    gather(logits, bar, |logit| bin(logit) == last, kept);
    kept[whole_bins..].sort_unstable_by(order);
    let ranked = nucleus_of_ranked(&kept[whole_bins..], wanted, max);
    kept.truncate(whole_bins + ranked);
}

/// The tokens whose logit is above `bar`, by id.
pub(super) fn above(logits: &[f32], bar: f32, kept: &mut Vec<Candidate>) {
    kept.clear();
    gather(logits, bar, |_| true, kept);
}

/// Appends the tokens above `bar` whose logit is wanted, by id.
fn gather(logits: &[f32], bar: f32, wanted: impl Fn(f32) -> bool, kept: &mut Vec<Candidate>) {
    for (index, chunk) in logits.chunks(CHUNK).enumerate() {
        gather_chunk(index, chunk, bar, &wanted, kept);
    }
}

/// [`gather`] for one chunk of the logits.
fn gather_chunk(
    index: usize,
    chunk: &[f32],
    bar: f32,
    wanted: impl Fn(f32) -> bool,
    kept: &mut Vec<Candidate>,
) {
    if softmax::max(chunk) <= bar {
        return;
    }
    let first = (index * CHUNK) as u32;
    for (id, &logit) in (first..).zip(chunk) {
        if logit > bar && wanted(logit) {
            let token = TokenId(id);
            kept.push(Candidate { token, logit });
        }
    }
}

/// The `count` likeliest tokens in order, without those that are ruled out.
pub(super) fn best<'k>(
    logits: &[f32],
    count: usize,
    kept: &'k mut Vec<Candidate>,
) -> &'k [Candidate] {
    kept.clear();
    if count == 0 {
        return kept;
    }
    // Candidates gather until there are many more than wanted; then the worst of the best is the bar for the rest.
    // Equals of the bar that come later have higher ids, so they lose.
    let room = count.saturating_mul(2).max(4 * CHUNK);
    let mut bar = f32::NEG_INFINITY;
    for (index, chunk) in logits.chunks(CHUNK).enumerate() {
        gather_chunk(index, chunk, bar, |_| true, kept);
        if kept.len() >= room {
            kept.select_nth_unstable_by(count - 1, order);
            kept.truncate(count);
            bar = kept[count - 1].logit;
        }
    }
    if kept.len() > count {
        kept.select_nth_unstable_by(count - 1, order);
        kept.truncate(count);
    }
    kept.sort_unstable_by(order);
    kept
}
