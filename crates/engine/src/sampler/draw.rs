//! Temperature and the draw.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use super::rank::{Candidate, weight};

/// Writes what each candidate weighs at this temperature.
pub(super) fn weigh(candidates: &[Candidate], max: f32, temperature: f32, weights: &mut Vec<u64>) {
    weights.clear();
    let scaled = candidates
        .iter()
        .map(|candidate| (candidate.logit - max) / temperature);
    weights.extend(scaled.map(weight));
}

/// Draws an index with a probability in proportion to its weight. Takes one number of the generator.
pub(super) fn draw(weights: &[u64], rng: &mut Pcg64) -> usize {
    let total: u64 = weights.iter().sum();
    // Scales 64 random bits to 0..total.
    let mut left = ((u128::from(rng.next_u64()) * u128::from(total)) >> 64) as u64;
    for (index, &weight) in weights.iter().enumerate() {
        if left < weight {
            return index;
        }
        left -= weight;
    }
    unreachable!(
        "the likeliest candidate has a weight, and what is left is less than all. This is a bug."
    )
}
