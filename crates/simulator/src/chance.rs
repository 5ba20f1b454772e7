//! Chance that follows from a seed.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng as _;

/// A source of chance.
pub(crate) trait Chance {
    /// Evenly from 0 to 1, without 1.
    fn unit(&mut self) -> f64;

    /// Evenly from 0 to `n`, without `n`.
    fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// Whether something happens that does so with this share.
    fn happens(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A time until the next of many independent things, 1 on the average.
    fn waiting(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// A factor from `1 / most` to `most`, as often below 1 as above.
    fn factor(&mut self, most: f64) -> f64 {
        most.powf(2.0 * self.unit() - 1.0)
    }

    /// One of several.
    fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }
}

impl Chance for Pcg64Mcg {
    fn unit(&mut self) -> f64 {
        // 53 bits are what a double holds.
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The source that follows from a seed; `stream` tells those apart that are used beside each other.
pub(crate) fn chance(seed: u64, stream: u64) -> Pcg64Mcg {
    let mixed = seed
        .wrapping_add(0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        ^ stream.wrapping_mul(0x94d0_49bb_1331_11eb);
    let mut rng = Pcg64Mcg::new(u128::from(mixed) << 64 | u128::from(!mixed) | 1);
    // Neighbouring seeds differ in few bits at first.
    for _ in 0..4 {
        rng.next_u64();
    }
    rng
}
