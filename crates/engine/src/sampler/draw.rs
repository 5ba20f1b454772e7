//! The draw.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// Whether what has this probability happens. Takes one number of the generator.
pub(super) fn happens(probability: f32, rng: &mut Pcg64) -> bool {
    // 24 bits are as many as a float between 0 and 1 has.
    ((rng.next_u64() >> 40) as f32) < probability * (1u32 << 24) as f32
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
