//! Filters that look at how likely tokens are beside each other: typical and XTC.

use super::rank::{Candidate, order, share, weight};
use super::softmax;

/// The entropy of the candidates' softmax, in nats. `max` is the largest logit.
pub(super) fn entropy(max: f32, candidates: &[Candidate]) -> f64 {
    // -Σ p ln p with p = e^x / total is ln total - Σ x e^x / total.
    let weights = candidates.iter().map(|it| it.logit - max);
    let (total, moment) = weights.fold((0.0, 0.0), |(total, moment), x| {
        let weight = f64::from(softmax::exp(x));
        // What weighs nothing may be infinitely far below.
        let part = if weight > 0.0 {
            weight * f64::from(x)
        } else {
            0.0
        };
        (total + weight, moment + part)
    });
    softmax::ln(total) - moment / total
}

/// Keeps the tokens whose surprise is nearest to the expected one, the entropy, until they have this share together: at least
/// one. The order of what is left is by that distance.
pub(super) fn typical(typical_p: f32, max: f32, kept: &mut Vec<Candidate>) {
    let expected = entropy(max, kept);
    let total: u64 = kept.iter().map(|it| weight(it.logit - max)).sum();
    let log_total = softmax::ln(
        kept.iter()
            .map(|it| f64::from(softmax::exp(it.logit - max)))
            .sum(),
    );
    let distance = |it: &Candidate| (log_total - f64::from(it.logit - max) - expected).abs();
    kept.sort_unstable_by(|a, b| {
        distance(a)
            .total_cmp(&distance(b))
            .then_with(|| order(a, b))
    });
    let mut wanted = share(typical_p, total);
    let last = kept.iter().position(|it| {
        let weight = weight(it.logit - max);
        let is_enough = weight >= wanted;
        wanted = wanted.saturating_sub(weight);
        is_enough
    });
    kept.truncate(last.map_or(kept.len(), |last| last + 1));
}

/// Leaves out the tokens that are at least this likely, but for the least likely of them.
pub(super) fn leave_out_likely(threshold: f32, max: f32, kept: &mut Vec<Candidate>) {
    let total: u64 = kept.iter().map(|it| weight(it.logit - max)).sum();
    let bar = share(threshold, total);
    let is_likely = |it: &Candidate| weight(it.logit - max) >= bar;
    let Some(last) = kept.iter().copied().filter(is_likely).max_by(order) else {
        return;
    };
    kept.retain(|it| *it == last || !is_likely(it));
}
