//! The scheduler's time, and what happens by the clock alone.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use troika_scheduler::Time;

use super::driver::Driver;
use super::models::lock;

/// How often memory, meters and devices are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks come so much later only if this program did not run: the machine slept, or somebody had stopped it.
const ASLEEP_MIN: Duration = Duration::from_secs(10);

/// The scheduler's time: that in which this program ran.
///
/// Most systems' clocks stand still while the machine sleeps; some do not, and none does while a program is stopped. A
/// step that was under way then is none that hangs.
#[derive(Debug)]
pub(super) struct Clock {
    began: Instant,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    /// When somebody looked last.
    looked: Instant,
    /// Time that does not count.
    slept: Duration,
}

impl Clock {
    pub(super) fn new(began: Instant) -> Self {
        let pace = Mutex::new(Pace {
            looked: began,
            slept: Duration::ZERO,
        });
        Self { began, pace }
    }

    /// Now. Never earlier than it was before.
    pub(super) fn now(&self) -> Time {
        // Under the lock, so that nobody's moment is older than one that was looked at.
        let mut pace = lock(&self.pace);
        let now = Instant::now();
        pace.look(now);
        pace.time(now, self.began)
    }

    /// A moment that was.
    pub(super) fn of(&self, at: Instant) -> Time {
        lock(&self.pace).time(at, self.began)
    }

    /// When it will be that time, if nobody sleeps until then.
    pub(super) fn when(&self, at: Time) -> Instant {
        self.began + lock(&self.pace).slept + Duration::from_micros(at.0)
    }
}

impl Pace {
    fn look(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.looked);
        if since >= ASLEEP_MIN {
            let slept = since - LOOK_EVERY;
            tracing::info!(
                seconds = slept.as_secs(),
                "the machine slept, or this program was stopped; that time does not count"
            );
            self.slept += slept;
        }
        self.looked = self.looked.max(now);
    }

    fn time(&self, at: Instant, began: Instant) -> Time {
        let ran = at
            .saturating_duration_since(began)
            .saturating_sub(self.slept);
        Time(u64::try_from(ran.as_micros()).unwrap_or(u64::MAX))
    }
}

/// When the clock's thread is to wake.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    at: Option<Instant>,
    has_stopped: bool,
}

impl Alarm {
    /// Wake then, rather than at the time that was set before.
    pub(super) fn set(&self, at: Option<Instant>) {
        let mut state = lock(&self.state);
        let is_sooner = at.is_some_and(|at| state.at.is_none_or(|before| at < before));
        state.at = at;
        if is_sooner {
            self.changed.notify_one();
        }
    }

    /// The thread ends.
    pub(super) fn stop(&self) {
        lock(&self.state).has_stopped = true;
        self.changed.notify_one();
    }

    /// Waits until `look_at` or the alarm. Whether the alarm came; `None` when all is over.
    fn wait(&self, look_at: Instant) -> Option<bool> {
        let mut state = lock(&self.state);
        loop {
            if state.has_stopped {
                return None;
            }
            let now = Instant::now();
            let alarm = state.at.is_some_and(|at| at <= now);
            if alarm || look_at <= now {
                if alarm {
                    state.at = None;
                }
                return Some(alarm);
            }
            let until = state.at.map_or(look_at, |at| at.min(look_at));
            let waited = self.changed.wait_timeout(state, until - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Starts the clock of a driver; it stops with it.
///
/// # Errors
/// If the system has no thread left.
pub(super) fn start(alarm: Arc<Alarm>, driver: Weak<Driver>) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("troika-clock".to_owned());
    let run = move || {
        let mut look_at = Instant::now();
        while let Some(alarm) = alarm.wait(look_at) {
            let Some(driver) = driver.upgrade() else {
                return;
            };
            if alarm {
                driver.wake();
            }
            if look_at <= Instant::now() {
                look_at = Instant::now() + LOOK_EVERY;
                driver.look_around();
            }
        }
    };
    thread.spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_no_time() {
        let began = Instant::now();
        let clock = Clock::new(began);
        let second = |s: u64| began + Duration::from_secs(s);
        let at = |s: u64| {
            let mut pace = lock(&clock.pace);
            pace.look(second(s));
            pace.time(second(s), began)
        };
        let seconds = |s: u64| Time::default() + Duration::from_secs(s);
        assert_eq!(at(1), seconds(1));
        // Late, since others have the processor.
        assert_eq!(at(9), seconds(9));
        // A night.
        assert_eq!(at(30_009), seconds(10));
        assert_eq!(at(30_010), seconds(11));
        assert_eq!(clock.of(second(30_000)), seconds(1));
        assert_eq!(clock.when(seconds(12)), second(30_011));
    }
}
