//! The time that measuring takes, and who watches it.

use std::time::{Duration, Instant};

use troika_device::Error;

use super::{Series, Watch};

/// Samples of a series, at least and at most.
const SAMPLES_MIN: usize = 3;
const SAMPLES_MAX: usize = 15;

/// A sample is long enough for any clock, and far from where a driver takes a kernel for one that hangs.
const SAMPLE_MAX: Duration = Duration::from_millis(20);

/// Rounds of a sample, at most: what kernels count stays within 32 bits.
const ROUNDS_MAX: u32 = 1 << 14;

/// A way through parts that share the time.
pub(super) struct Course<'p, 'w> {
    until: Instant,
    n_part: usize,
    done: usize,
    watch: &'p mut Watch<'w>,
}

impl<'p, 'w> Course<'p, 'w> {
    /// So many parts in so much time.
    pub(super) fn new(time: Duration, n_part: usize, watch: &'p mut Watch<'w>) -> Self {
        Self {
            until: Instant::now() + time,
            n_part,
            done: 0,
            watch,
        }
    }

    /// One part: `once` does so many rounds and says how long that took; `value` makes a sample of rounds and seconds.
    pub(super) fn series(
        &mut self,
        what: &str,
        mut once: impl FnMut(u32) -> Result<Duration, Error>,
        value: impl Fn(f64, f64) -> f64,
    ) -> Result<Series, Error> {
        self.tick(what)?;
        let left = self.until.saturating_duration_since(Instant::now());
        let parts = u32::try_from(self.n_part - self.done).unwrap_or(1).max(1);
        let share = left / parts;
        let until = Instant::now() + share;
        let rounds = enough(&mut once, (share / 8).min(SAMPLE_MAX))?;
        let mut samples = Vec::new();
        while samples.len() < SAMPLES_MIN || (samples.len() < SAMPLES_MAX && Instant::now() < until)
        {
            self.tick(what)?;
            // A clock that stood still would make the sample infinite.
            let took = once(rounds)?.max(Duration::from_nanos(1));
            samples.push(value(f64::from(rounds), took.as_secs_f64()));
        }
        self.done += 1;
        Ok(Series(samples))
    }

    fn tick(&mut self, what: &str) -> Result<(), Error> {
        let done = self.done as f64 / self.n_part as f64;
        match (self.watch)(done, what).is_continue() {
            true => Ok(()),
            false => Err(Error::Interrupted),
        }
    }
}

/// Rounds that take about so long; trying them warms up.
fn enough(
    once: &mut impl FnMut(u32) -> Result<Duration, Error>,
    time: Duration,
) -> Result<u32, Error> {
    let mut rounds = 1;
    loop {
        let took = once(rounds)?;
        if took * 2 >= time || rounds >= ROUNDS_MAX {
            return Ok(rounds);
        }
        // A first try tells little, so that no step is large.
        let factor = time.as_secs_f64() / took.as_secs_f64().max(1e-9);
        rounds = (rounds * factor.clamp(2.0, 8.0) as u32).min(ROUNDS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use troika_device::Cancelled;

    use super::*;

    #[test]
    fn rounds_grow_until_they_take_long_enough() {
        for nanos in [10, 1_000, 100_000, 50_000_000] {
            let mut once = |rounds: u32| Ok(Duration::from_nanos(nanos) * rounds);
            let rounds = enough(&mut once, SAMPLE_MAX).expect("no failure");
            let took = Duration::from_nanos(nanos) * rounds;
            let is_long = took * 2 >= SAMPLE_MAX || rounds == ROUNDS_MAX;
            let is_short = took <= SAMPLE_MAX * 2 || rounds == 1;
            assert!(is_long && is_short, "{rounds} rounds of {nanos} ns");
        }
    }

    #[test]
    fn samples_are_of_rounds_and_seconds() {
        let mut watch = |_: f64, _: &str| ControlFlow::Continue(());
        let mut course = Course::new(Duration::ZERO, 1, &mut watch);
        let once = |rounds| Ok(Duration::from_millis(2) * rounds);
        let series = course.series("", once, |rounds, seconds| rounds / seconds);
        let series = series.expect("no failure");
        assert_eq!(series.samples().len(), SAMPLES_MIN);
        assert!((series.median() - 500.0).abs() < 1e-6);
    }

    #[test]
    fn whoever_watches_may_stop() {
        let mut calls = 0;
        let mut watch = |_: f64, _: &str| {
            calls += 1;
            match calls {
                3 => ControlFlow::Break(Cancelled),
                _ => ControlFlow::Continue(()),
            }
        };
        let mut course = Course::new(Duration::from_secs(100), 1, &mut watch);
        let once = |_| Ok(Duration::from_secs(1));
        let ended = course.series("", once, |_, seconds| seconds);
        assert!(matches!(ended, Err(Error::Interrupted)));
        assert_eq!(calls, 3);
    }
}
