//! A meter as a clock of joules: asked at any moment, it tells what was used since it was asked last.
//!
//! What it tells never runs backwards, and adds up to what the meter saw. A [`Direct`] clock reads its meter whenever it is
//! asked, for files that take microseconds. A [`Curve`] is fed by a thread and goes on between two readings as fast as it
//! went before them; where that was too fast, it stands still until the meter has caught up.

use std::time::{Duration, Instant};

use super::integrate::between;
use super::{Gauge, MeterError, Reading};

/// Counters go round within minutes under full load, so a rest that is longer tells nothing.
const REST_MAX: Duration = Duration::from_secs(60);

/// Readings closer together tell no power: the counters themselves are updated less often.
const SLOPE_S_MIN: f64 = 0.01;

/// A meter that is read when it is asked.
pub(super) struct Direct {
    gauge: Box<dyn Gauge>,
    last: Option<(Instant, Reading)>,
}

impl Direct {
    pub(super) fn new(gauge: Box<dyn Gauge>) -> Self {
        Self { gauge, last: None }
    }

    /// The joules since it was asked last.
    ///
    /// # Errors
    /// If the meter cannot be read, or shows what cannot be. What was used in this time is lost.
    pub(super) fn advance(&mut self, now: Instant) -> Result<f64, String> {
        let reading = self.gauge.read().map_err(|error| {
            self.last = None;
            told(&error)
        })?;
        let Some((then, from)) = self.last.replace((now, reading)) else {
            return Ok(0.0);
        };
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        between(from, reading, seconds).map_err(|error| told(&error))
    }

    /// Whether there is a reading to go on from.
    pub(super) fn is_running(&self) -> bool {
        self.last.is_some()
    }

    /// Forgets the last reading if it is too old to go on from, which only matters after a rest.
    pub(super) fn rest(&mut self, now: Instant) {
        self.last
            .take_if(|(then, _)| now.saturating_duration_since(*then) > REST_MAX);
    }
}

/// A meter whose readings come now and then, and that goes on as before between them.
#[derive(Debug)]
pub(super) struct Curve {
    last: Option<(Instant, Reading)>,
    /// Joules up to the last reading.
    sum: f64,
    /// Joules that were told.
    told: f64,
    /// The power at the last reading; unknown after the first one of a counter.
    watts: Option<f64>,
    /// When it was last asked in vain; what was used until then is nobody's.
    in_vain: Option<Instant>,
    /// A reading that is older tells nothing.
    stale: Duration,
    /// Why there is no reading.
    why: String,
}

impl Curve {
    pub(super) fn new(stale: Duration) -> Self {
        Self {
            last: None,
            sum: 0.0,
            told: 0.0,
            watts: None,
            in_vain: None,
            stale,
            why: "it was not read yet".to_owned(),
        }
    }

    /// Whether there is a reading to go on from.
    pub(super) fn is_running(&self) -> bool {
        self.last.is_some()
    }

    /// Takes in a reading.
    pub(super) fn sample(&mut self, at: Instant, read: Result<Reading, MeterError>) {
        let outcome = read.and_then(|reading| match self.last {
            None => {
                between(reading, reading, 0.0)?;
                // What was told beyond the last reading of an earlier time is not made up for now.
                self.told = self.sum;
                self.watts = match reading {
                    Reading::Watts(watts) => Some(watts),
                    Reading::Counter { .. } => None,
                };
                self.last = Some((at, reading));
                Ok(())
            }
            Some((then, from)) => self.go_on(then, from, at, reading),
        });
        if let Err(error) = outcome {
            self.interrupt(&told(&error));
        }
    }

    fn go_on(
        &mut self,
        then: Instant,
        from: Reading,
        at: Instant,
        reading: Reading,
    ) -> Result<(), MeterError> {
        let seconds = at.saturating_duration_since(then).as_secs_f64();
        let joules = between(from, reading, seconds)?;
        self.last = Some((at, reading));
        self.sum += joules;
        self.watts = match reading {
            Reading::Watts(watts) => Some(watts),
            Reading::Counter { .. } if seconds < SLOPE_S_MIN => self.watts,
            // Some counters are updated about as often as they are read, and then seem to stand still and jump.
            Reading::Counter { .. } => {
                let watts = joules / seconds;
                Some(self.watts.map_or(watts, |was| f64::midpoint(was, watts)))
            }
        };
        if let Some(vain) = self.in_vain.take() {
            let share =
                vain.saturating_duration_since(then).as_secs_f64() / seconds.max(f64::MIN_POSITIVE);
            let until = self.sum - joules * (1.0 - share.min(1.0));
            self.told = self.told.max(until);
        }
        Ok(())
    }

    /// There is no reading any more, for this reason.
    pub(super) fn interrupt(&mut self, why: &str) {
        self.last = None;
        self.in_vain = None;
        why.clone_into(&mut self.why);
    }

    /// The joules since it was asked last.
    ///
    /// # Errors
    /// If there is no reading to go on from, or it is too old.
    pub(super) fn advance(&mut self, now: Instant) -> Result<f64, String> {
        let Some((then, _)) = self.last else {
            return Err(self.why.clone());
        };
        let ahead = now.saturating_duration_since(then);
        if ahead > self.stale {
            self.in_vain = Some(now);
            return Err(format!("it was last read {:.0?} ago", ahead));
        }
        let beyond = match self.watts {
            Some(watts) => watts * ahead.as_secs_f64(),
            None if ahead.is_zero() => 0.0,
            None => {
                self.in_vain = Some(now);
                return Err("it was read only once so far".to_owned());
            }
        };
        let joules = (self.sum + beyond - self.told).max(0.0);
        self.told += joules;
        Ok(joules)
    }
}

/// An error and what caused it, in a line.
pub(super) fn told(error: &MeterError) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(joules: f64) -> Reading {
        Reading::Counter {
            joules,
            range: None,
        }
    }

    /// Readings in turn.
    struct Script(std::vec::IntoIter<Option<Reading>>);

    impl Gauge for Script {
        fn read(&mut self) -> Result<Reading, MeterError> {
            self.0.next().flatten().ok_or(MeterError::Reset)
        }
    }

    fn ms(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_direct_clock_tells_differences_and_survives_failures() {
        let round = |joules| {
            Some(Reading::Counter {
                joules,
                range: Some(100.0),
            })
        };
        let readings = vec![
            round(90.0),
            round(95.0),
            round(5.0),
            None,
            round(50.0),
            round(51.0),
            Some(counter(9.0)),
            Some(counter(9.0)),
        ];
        let mut clock = Direct::new(Box::new(Script(readings.into_iter())));
        let start = Instant::now();
        let told: Vec<_> = (0..8)
            .map(|i| clock.advance(ms(start, i * 20)).ok())
            .collect();
        // After the failure it begins again, and a counter that lost its range and went backwards is not followed.
        assert_eq!(
            told,
            [
                Some(0.0),
                Some(5.0),
                Some(10.0),
                None,
                Some(0.0),
                Some(1.0),
                None,
                Some(0.0)
            ]
        );
    }

    #[test]
    fn a_long_rest_is_not_counted() {
        let readings = vec![Some(counter(1.0)), Some(counter(500.0))];
        let mut clock = Direct::new(Box::new(Script(readings.into_iter())));
        let start = Instant::now();
        clock.advance(start).expect("is read");
        clock.rest(ms(start, 61_000));
        assert_eq!(clock.advance(ms(start, 61_000)), Ok(0.0));
    }

    #[test]
    fn a_curve_goes_on_between_readings_and_adds_up() {
        let start = Instant::now();
        let mut curve = Curve::new(Duration::from_secs(1));
        assert!(curve.advance(start).is_err());
        curve.sample(start, Ok(counter(1000.0)));
        assert_eq!(curve.advance(start), Ok(0.0));
        curve.sample(ms(start, 100), Ok(counter(1010.0)));
        let mut sum = curve.advance(ms(start, 100)).expect("is known");
        assert!((sum - 10.0).abs() < 1e-9);
        // 100 W go on; the load ends at once, so the meter is behind what was told.
        let ahead = curve.advance(ms(start, 150)).expect("is known");
        assert!((ahead - 5.0).abs() < 1e-9, "{ahead}");
        sum += ahead;
        curve.sample(ms(start, 200), Ok(counter(1012.0)));
        let stands = curve.advance(ms(start, 200)).expect("is known");
        assert_eq!(stands, 0.0, "15 J were told and 12 J used");
        for i in 3..40_u32 {
            let joules = 1012.0 + f64::from(i - 2);
            curve.sample(ms(start, u64::from(i) * 100), Ok(counter(joules)));
            let told = curve
                .advance(ms(start, u64::from(i) * 100))
                .expect("is known");
            assert!(told >= 0.0);
            sum += told;
        }
        assert!((sum - 49.0).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn what_was_asked_in_vain_is_nobodys() {
        let start = Instant::now();
        let mut curve = Curve::new(Duration::from_secs(1));
        curve.sample(start, Ok(counter(0.0)));
        // A counter that was read once tells no power: a step that ends here has no energy, ...
        assert!(curve.advance(ms(start, 40)).is_err());
        curve.sample(ms(start, 100), Ok(counter(10.0)));
        // ... and the next one does not get it as well.
        let rest = curve.advance(ms(start, 100)).expect("is known");
        assert!((rest - 6.0).abs() < 1e-9, "{rest}");
    }

    #[test]
    fn power_is_integrated_until_it_is_stale() {
        let start = Instant::now();
        let mut curve = Curve::new(Duration::from_secs(10));
        curve.sample(start, Ok(Reading::Watts(20.0)));
        assert_eq!(curve.advance(ms(start, 500)), Ok(10.0));
        curve.sample(ms(start, 1000), Ok(Reading::Watts(20.0)));
        assert_eq!(curve.advance(ms(start, 1000)), Ok(10.0));
        let stale = curve.advance(ms(start, 12_000)).expect_err("is old");
        assert!(stale.contains("11s ago"), "{stale}");
        curve.sample(ms(start, 12_500), Err(MeterError::Reset));
        let gone = curve.advance(ms(start, 12_600)).expect_err("is gone");
        assert_eq!(gone, MeterError::Reset.to_string());
        // It comes back, and begins anew.
        curve.sample(ms(start, 13_000), Ok(Reading::Watts(f64::NAN)));
        assert!(curve.advance(ms(start, 13_000)).is_err());
        curve.sample(ms(start, 14_000), Ok(Reading::Watts(30.0)));
        assert_eq!(curve.advance(ms(start, 14_100)), Ok(3.0));
    }

    proptest::proptest! {
        /// Whatever a meter shows, and whenever it is asked.
        #[test]
        fn energy_is_never_negative_and_never_more_than_was_seen(
            events in proptest::collection::vec((0_u64..400, -1_i32..200, 0_u8..8), 1..80),
        ) {
            let start = Instant::now();
            let mut curve = Curve::new(Duration::from_secs(1));
            let (mut at, mut shown, mut sum) = (0, 1000.0, 0.0);
            let mut watts_max: f64 = 0.0;
            for (pause, joules, what) in events {
                at += pause;
                let now = ms(start, at);
                match what {
                    0 => curve.sample(now, Err(MeterError::Reset)),
                    1 => curve.sample(now, Ok(Reading::Watts(f64::from(joules)))),
                    2 => curve.sample(now, Ok(counter(f64::NAN))),
                    3..=5 => {
                        shown += f64::from(joules);
                        curve.sample(now, Ok(counter(shown)));
                    }
                    _ => match curve.advance(now) {
                        Ok(told) => {
                            proptest::prop_assert!(told >= 0.0 && told.is_finite());
                            sum += told;
                        }
                        Err(why) => proptest::prop_assert!(!why.is_empty()),
                    },
                }
                watts_max = watts_max.max(curve.watts.unwrap_or(0.0));
                // Readings that end over and over may each be continued for a while, and that is all.
                proptest::prop_assert!(sum <= curve.sum + watts_max * (1.0 + at as f64 / 1e3));
            }
        }
    }
}
