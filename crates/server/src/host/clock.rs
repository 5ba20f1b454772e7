//! What happens by the clock alone: the scheduler's own time, and looking around once a second.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::driver::Driver;
use super::models::lock;

/// How often memory and devices are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
        let mut day = jiff::Zoned::now().date();
        while let Some(alarm) = alarm.wait(look_at) {
            let Some(driver) = driver.upgrade() else {
                return;
            };
            if alarm {
                driver.wake();
            }
            if look_at <= Instant::now() {
                look_at = Instant::now() + LOOK_EVERY;
                let today = jiff::Zoned::now().date();
                driver.look_around(std::mem::replace(&mut day, today) != today);
            }
        }
    };
    thread.spawn(run).map(drop)
}
