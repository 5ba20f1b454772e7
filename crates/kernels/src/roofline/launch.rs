//! What it costs that the threads meet.

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use super::meet;
use crate::pool::Pool;

/// Long enough for the workers to stop spinning and park.
const REST: Duration = Duration::from_millis(3);

/// A step without work, right after another: all threads come in, and the caller goes on when they have left. The mean of
/// `count` in a row.
///
/// # Panics
/// If `count` is 0.
pub fn empty_step(pool: &Pool, count: u32) -> Duration {
    assert!(count > 0, "at least one step");
    step(pool);
    let start = Instant::now();
    for _ in 0..count {
        step(pool);
    }
    start.elapsed() / count
}

/// The same after a rest, when the system has to wake the threads first.
pub fn wake(pool: &Pool) -> Duration {
    std::thread::sleep(REST);
    let start = Instant::now();
    step(pool);
    start.elapsed()
}

/// A region ends without workers that come late; one that has work for all does not.
fn step(pool: &Pool) {
    let entered = AtomicUsize::new(0);
    pool.run(|_| meet(&entered, pool.threads()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meeting_takes_some_time_but_not_long() {
        for threads in [1, 2] {
            let pool = Pool::new(threads);
            assert!(empty_step(&pool, 10) < Duration::from_millis(100));
            assert!(wake(&pool) < Duration::from_secs(1));
        }
    }
}
