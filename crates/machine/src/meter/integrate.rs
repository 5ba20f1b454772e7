//! From readings to joules: differences of counters that start again from 0, areas under powers.

use std::time::Instant;

use super::{EnergyBasis, MeterError, Reading};

/// No machine that is metered as one draws more.
const WATTS_MAX: f64 = 10_000.0;

/// Counters may lag by so much, and then catch up at once.
const LAG_S: f64 = 0.1;

/// The energy of one meter, summed up reading by reading.
#[derive(Debug, Default)]
pub(super) struct Integrator {
    last: Option<(Instant, Reading)>,
    joules: f64,
}

impl Integrator {
    /// Goes on from this reading; what was used since the last one does not count.
    pub(super) fn restart(&mut self, at: Instant, reading: Reading) {
        self.last = Some((at, reading));
    }

    /// Forgets the last reading, since what comes next does not follow on it.
    pub(super) fn interrupt(&mut self) {
        self.last = None;
    }

    /// Adds what was used since the last reading, of which there may be none yet.
    ///
    /// # Errors
    /// [`MeterError::Reset`] if a counter without a range went backwards.
    pub(super) fn add(&mut self, at: Instant, reading: Reading) -> Result<(), MeterError> {
        let last = self.last.replace((at, reading));
        match (last, reading) {
            (None, _) => Ok(()),
            (Some((then, from)), reading) => {
                let seconds = at.saturating_duration_since(then).as_secs_f64();
                self.joules += between(from, reading, seconds)?;
                Ok(())
            }
        }
    }

    /// Whether there is a reading to go on from.
    pub(super) fn is_running(&self) -> bool {
        self.last.is_some()
    }

    /// Since the beginning of time, as far as it counted.
    pub(super) fn joules(&self) -> f64 {
        self.joules
    }

    /// How the last reading came about.
    pub(super) fn basis(&self) -> EnergyBasis {
        match self.last {
            Some((_, Reading::Watts(_))) => EnergyBasis::Sampled,
            _ => EnergyBasis::Counted,
        }
    }
}

/// The joules between two readings that are so many seconds apart; never less than 0, and always a number.
///
/// # Errors
/// [`MeterError::Reset`] if a counter went backwards, and [`MeterError::Impossible`] for what no machine draws.
pub(super) fn between(from: Reading, to: Reading, seconds: f64) -> Result<f64, MeterError> {
    let joules = match (from, to) {
        (Reading::Counter { joules: from, .. }, Reading::Counter { joules, range }) => {
            counted(from, joules, range).ok_or(MeterError::Reset)?
        }
        (Reading::Watts(from), Reading::Watts(to)) => f64::midpoint(from, to) * seconds,
        _ => return Err(MeterError::Reset),
    };
    // A counter that was set back looks like one that went round, but for the power that this would have taken.
    let joules_max = WATTS_MAX * (seconds + LAG_S);
    match joules {
        joules if (0.0..=joules_max).contains(&joules) => Ok(joules),
        joules => Err(MeterError::Impossible { joules, seconds }),
    }
}

/// What was counted between two readings, of which the second may be of the next round. Readings are so close together that
/// a counter cannot have gone round twice.
fn counted(from: f64, to: f64, range: Option<f64>) -> Option<f64> {
    if to >= from {
        return Some(to - from);
    }
    let range = range.filter(|&range| range >= from)?;
    Some(range - from + to)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counters_go_round() {
        for (from, to, range, want) in [
            (10.0, 12.5, None, Some(2.5)),
            (10.0, 10.0, Some(100.0), Some(0.0)),
            (99.0, 3.0, Some(100.0), Some(4.0)),
            (99.0, 3.0, None, None),
            // A range below what was counted is not one.
            (99.0, 3.0, Some(50.0), None),
        ] {
            assert_eq!(counted(from, to, range), want, "{from} {to}");
        }
    }

    #[test]
    fn what_cannot_be_is_no_energy() {
        let counter = |joules| Reading::Counter {
            joules,
            range: Some(262_143.3),
        };
        let round = between(counter(262_143.0), counter(1.0), 0.02).expect("goes round");
        assert!((round - 1.3).abs() < 1e-6, "{round}");
        for (from, to) in [
            // Set back by a sleep of the machine, and by a little.
            (counter(200_000.0), counter(1_000.0)),
            (counter(100.5), counter(100.4)),
            (counter(0.0), counter(f64::NAN)),
            (counter(f64::NAN), counter(1.0)),
            (Reading::Watts(-3.0), Reading::Watts(-3.0)),
            (Reading::Watts(f64::INFINITY), Reading::Watts(1.0)),
            (Reading::Watts(1.0), counter(1.0)),
        ] {
            let error = between(from, to, 0.02);
            assert!(error.is_err(), "{from:?} {to:?} {error:?}");
        }
    }

    #[test]
    fn power_is_summed_over_time() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut sum = Integrator::default();
        for (ms, watts) in [(0, 10.0), (500, 20.0), (1500, 20.0)] {
            sum.add(after(ms), Reading::Watts(watts)).expect("goes on");
        }
        assert!((sum.joules() - (7.5 + 20.0)).abs() < 1e-9);
        assert_eq!(sum.basis(), EnergyBasis::Sampled);
        // Nobody looked for an hour.
        sum.restart(after(3_600_000), Reading::Watts(5.0));
        sum.add(after(3_601_000), Reading::Watts(5.0))
            .expect("goes on");
        assert!((sum.joules() - 32.5).abs() < 1e-9);
        sum.interrupt();
        sum.add(after(9_999_000), Reading::Watts(5.0))
            .expect("begins again");
        assert!((sum.joules() - 32.5).abs() < 1e-9);
    }

    #[test]
    fn a_counter_that_was_set_back_is_told_and_goes_on() {
        let now = Instant::now();
        let counter = |joules| Reading::Counter {
            joules,
            range: None,
        };
        let mut sum = Integrator::default();
        sum.add(now, counter(50.0)).expect("begins");
        assert!(matches!(sum.add(now, counter(1.0)), Err(MeterError::Reset)));
        sum.add(now, counter(3.0)).expect("goes on");
        assert_eq!(sum.joules(), 2.0);
    }
}
