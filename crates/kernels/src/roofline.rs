//! What this machine could do at best: bytes read per second from memory and caches, operations per second of the
//! kernels' inner loops on operands that lie in the cache, the clock, and what a meeting of the threads costs.
//!
//! Measurements and not kernels: no step runs any of this. Reports hold what a step reached against it. Each function
//! takes one sample; how many are wanted, and what to make of them, is the caller's business.

mod clock;
mod launch;
mod matrix;
mod read;

pub use clock::clock_hz;
pub use launch::{empty_step, wake};
pub use matrix::{MatrixTest, matrix_peak};
pub use read::{Bandwidth, ReadTest, ReadWay, read_bandwidth};

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::pool::Pool;

/// Spins before a thread that waits for the others lets one of them have its core: some 30 µs, far more than a meeting takes
/// where each has a core of its own.
const POLITE_SPINS: u32 = 1_000;

/// 1, 2, 4, ... and all.
pub fn thread_counts(all: usize) -> impl Iterator<Item = usize> {
    let powers = std::iter::successors(Some(1), |n| Some(n * 2));
    powers.take_while(move |&n| n < all).chain([all])
}

/// Runs `work(thread)` on every thread of the pool at the same time, and returns how long that took from the moment on
/// at which all had come in. Without that, a thread that the system wakes late would be taken for one that works fast.
fn together(pool: &Pool, work: impl Fn(usize) + Sync) -> Duration {
    let entered = AtomicUsize::new(0);
    let started = OnceLock::new();
    pool.run(|thread| {
        meet(&entered, pool.threads());
        // Whoever goes on first starts the clock: another may lose its core right here.
        started.get_or_init(Instant::now);
        work(thread);
    });
    started.get().map_or(Duration::ZERO, Instant::elapsed)
}

/// Waits until `count` threads have come to this point.
fn meet(entered: &AtomicUsize, count: usize) {
    entered.fetch_add(1, Ordering::AcqRel);
    let mut spins = 0;
    while entered.load(Ordering::Acquire) < count {
        spins += 1;
        if spins < POLITE_SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_double_up_to_all() {
        assert_eq!(thread_counts(1).collect::<Vec<_>>(), [1]);
        assert_eq!(thread_counts(6).collect::<Vec<_>>(), [1, 2, 4, 6]);
        assert_eq!(thread_counts(8).collect::<Vec<_>>(), [1, 2, 4, 8]);
    }

    #[test]
    fn all_threads_take_part() {
        // More threads than most machines have cores, and a task that is over before a thread wakes.
        let pool = Pool::new(5);
        for _ in 0..20 {
            let seen = AtomicUsize::new(0);
            together(&pool, |thread| {
                seen.fetch_or(1 << thread, Ordering::Relaxed);
            });
            assert_eq!(seen.into_inner(), 0b11111);
        }
    }
}
