//! How long endpoints are waited for, and when they are asked again.

use std::time::Duration;

/// Waits, in one place so that tests can be quick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until there is a connection, encryption included.
    pub(crate) connect: Duration,
    /// Until the first byte of an answer, where the endpoint has no limit of its own.
    pub(crate) first_byte: Duration,
    /// Between two pieces of an answer.
    pub(crate) stall: Duration,
    /// Before the first repetition, about; twice as long before each later one.
    pub(crate) backoff: Duration,
    /// Before any of them.
    pub(crate) backoff_max: Duration,
    /// Longer than this an endpoint's own wish to be left alone is not waited out: the job is better off elsewhere.
    pub(crate) retry_after_max: Duration,
    /// Repetitions.
    pub(crate) retries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(8),
            retry_after_max: Duration::from_secs(20),
            retries: 3,
        }
    }
}

impl Patience {
    /// How long to wait before the `n`th repetition, from 0; `None` if it is not worth it. `luck` is from 0 to 1: clients
    /// that failed together do not come back together.
    pub(crate) fn again(&self, n: u32, wish: Option<Duration>, luck: f64) -> Option<Duration> {
        if n >= self.retries {
            return None;
        }
        let backoff = self
            .backoff
            .saturating_mul(1 << n.min(16))
            .min(self.backoff_max);
        match wish {
            Some(wish) if wish > self.retry_after_max => None,
            // Never before that time.
            Some(wish) => Some(wish + self.backoff.mul_f64(luck / 2.0)),
            None => Some(backoff.mul_f64(0.5 + luck / 2.0)),
        }
    }
}

/// A number from 0 to 1, without 1.
pub(crate) fn luck() -> f64 {
    let number = getrandom::u32().expect("the system has random numbers");
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let patience = Patience::default();
        let waits = |luck| (0..5).map(move |n| Patience::default().again(n, None, luck));
        let ms = |it: Option<Duration>| it.map(|it| it.as_millis());
        assert_eq!(
            waits(0.0).map(ms).collect::<Vec<_>>(),
            [Some(250), Some(500), Some(1000), None, None]
        );
        assert!(waits(0.999).flatten().all(|it| it <= patience.backoff_max));
        let wish = Some(Duration::from_secs(3));
        assert_eq!(patience.again(0, wish, 0.0), wish);
        assert!(patience.again(0, wish, 0.9) > wish);
        assert_eq!(patience.again(0, Some(Duration::from_secs(21)), 0.0), None);
        assert!((0..1000).map(|_| luck()).all(|it| (0.0..1.0).contains(&it)));
    }
}
