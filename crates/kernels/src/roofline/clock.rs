//! The clock of a core, by a chain of operations that take one cycle each.
//!
//! Systems tell the clock in many ways, and guests are told nothing at all.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Operations in a row between two looks at the loop's counter, which runs beside the chain.
const PAIRS: usize = 16;

/// Chains between two looks at the time: some 10 µs.
const LOOPS: u64 = 1000;

/// Cycles per second of the core that this thread runs on, over `time` at least.
///
/// Counts cycles in which the thread had the core and time in which it may not have had it, so that the largest of some
/// samples is the clock.
pub fn clock_hz(time: Duration) -> f64 {
    let (mut x, a, b) = (black_box(1u64), black_box(0x9e37_79b9u64), black_box(3u64));
    let start = Instant::now();
    let mut loops = 0;
    loop {
        x = chain(x, a, b, LOOPS);
        loops += LOOPS;
        let elapsed = start.elapsed();
        if elapsed >= time {
            black_box(x);
            let cycles = loops as f64 * (2 * PAIRS) as f64;
            return cycles / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        }
    }
}

/// Each operation waits for the one before. Of two kinds, so that they cannot be merged into one, and with operands that
/// the compiler does not know: some processors add constants at no cost at all.
fn chain(mut x: u64, a: u64, b: u64, loops: u64) -> u64 {
    for _ in 0..loops {
        for _ in 0..PAIRS {
            x = (x ^ a).wrapping_add(b);
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_one_that_processors_have() {
        let samples = (0..20).map(|_| clock_hz(Duration::from_millis(1)));
        let hz = samples.fold(0.0, f64::max);
        assert!((2e8..8e9).contains(&hz), "{hz:e}");
    }
}
