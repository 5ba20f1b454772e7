//! A share that fills up again with time.

use std::time::{Duration, Instant};

/// So many a minute; what was saved up in a minute may be spent at once.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    per_minute: f64,
    /// What is left; below zero after a charge that was larger than that.
    level: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        let per_minute = f64::from(per_minute);
        Self {
            per_minute,
            level: per_minute,
            at: now,
        }
    }

    /// Takes `amount`, if there is as much.
    ///
    /// # Errors
    /// If there is not: how long it takes until there is.
    pub(super) fn take(&mut self, amount: f64, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        let missing = amount - self.level;
        if missing <= 0.0 {
            self.level -= amount;
            return Ok(());
        }
        let seconds = 60.0 * missing / self.per_minute;
        // A share of nothing never fills; an hour is as good as never, and fits a header.
        Err(Duration::from_secs_f64(seconds.clamp(0.0, 3600.0)))
    }

    /// Takes `amount` of what was used already, there or not.
    pub(super) fn charge(&mut self, amount: f64, now: Instant) {
        self.refill(now);
        self.level -= amount;
    }

    /// Gives back what was taken for nothing.
    pub(super) fn refund(&mut self, amount: f64) {
        self.level = (self.level + amount).min(self.per_minute);
    }

    /// Whether nothing was taken of late, so that a new one would be the same.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.level >= self.per_minute
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_minute / 60.0).min(self.per_minute);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_share_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(6, start);
        for _ in 0..6 {
            bucket.take(1.0, start).unwrap();
        }
        assert_eq!(bucket.take(1.0, start), Err(Duration::from_secs(10)));
        let later = start + Duration::from_secs(10);
        bucket.take(1.0, later).unwrap();
        assert!(bucket.take(1.0, later).is_err());
        let much_later = start + Duration::from_secs(100_000);
        assert!(bucket.is_full(much_later));
        assert!(bucket.take(7.0, much_later).is_err(), "more than it holds");
    }

    #[test]
    fn debts_are_paid_by_waiting() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, start);
        bucket.charge(90.0, start);
        assert_eq!(bucket.take(0.0, start), Err(Duration::from_secs(30)));
        bucket.take(0.0, start + Duration::from_secs(30)).unwrap();
        let mut nothing = Bucket::new(0, start);
        assert_eq!(nothing.take(1.0, start), Err(Duration::from_secs(3600)));
    }
}
