//! Whether to ask an endpoint at all: a circuit breaker, and a rest where it asked for one.
//!
//! Closed, it lets all pass. Failures within a short time open it; after a while one request may try (half open), which
//! closes it, or opens it for twice as long. Pure: the time is given.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// So many failures,
const FAILURES: usize = 5;
/// within this time and without an answer between them, open it,
const WINDOW: Duration = Duration::from_secs(60);
/// for so long at first,
const OPEN_FIRST: Duration = Duration::from_secs(15);
/// and at most.
const OPEN_MAX: Duration = Duration::from_secs(300);

/// The breaker of one endpoint.
#[derive(Debug)]
pub(crate) struct Breaker {
    failures: VecDeque<Instant>,
    state: State,
    /// How long it opens next.
    open_for: Duration,
    /// The endpoint wants to be left alone until then.
    rest_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// One request tries.
    HalfOpen,
}

/// Why not to ask, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// It failed too often.
    Failed(Duration),
    /// It failed too often, and one request is trying whether it still does.
    Trying,
    /// It asked to be left alone.
    Resting(Duration),
}

impl Shut {
    /// When to ask again, if that is known.
    pub(crate) fn wait(self) -> Option<Duration> {
        match self {
            Self::Failed(wait) | Self::Resting(wait) => Some(wait),
            Self::Trying => None,
        }
    }
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |wait: &Duration| wait.as_secs_f64().ceil();
        match self {
            Self::Failed(wait) => {
                write!(
                    f,
                    "it failed too often, and is tried again in {} s",
                    seconds(wait)
                )
            }
            Self::Trying => f.write_str("it failed too often, and one request is trying it"),
            Self::Resting(wait) => {
                write!(
                    f,
                    "it asked to be left alone for another {} s",
                    seconds(wait)
                )
            }
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: VecDeque::new(),
            state: State::Closed,
            open_for: OPEN_FIRST,
            rest_until: None,
        }
    }
}

impl Breaker {
    /// Whether a request would pass.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn look(&self, now: Instant) -> Result<(), Shut> {
        if let Some(until) = self.rest_until.filter(|&until| until > now) {
            return Err(Shut::Resting(until - now));
        }
        match self.state {
            State::Closed => Ok(()),
            State::Open { until } if until > now => Err(Shut::Failed(until - now)),
            State::Open { .. } => Ok(()),
            State::HalfOpen => Err(Shut::Trying),
        }
    }

    /// Lets a request pass. It must be followed by [`Self::answered`], [`Self::failed`] or [`Self::left`].
    ///
    /// # Errors
    /// Why it does not pass.
    pub(crate) fn pass(&mut self, now: Instant) -> Result<(), Shut> {
        self.look(now)?;
        if matches!(self.state, State::Open { .. }) {
            self.state = State::HalfOpen;
        }
        Ok(())
    }

    /// The endpoint answered, be it with a refusal of the request.
    pub(crate) fn answered(&mut self) {
        *self = Self {
            rest_until: self.rest_until,
            ..Self::default()
        };
    }

    /// The endpoint failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures.push_back(now);
        while self
            .failures
            .front()
            .is_some_and(|&at| now.duration_since(at) > WINDOW)
        {
            self.failures.pop_front();
        }
        let opens = match self.state {
            State::Closed => self.failures.len() >= FAILURES,
            State::HalfOpen => true,
            // A request that began before.
            State::Open { .. } => false,
        };
        if opens {
            let until = now + self.open_for;
            self.state = State::Open { until };
            self.open_for = (self.open_for * 2).min(OPEN_MAX);
            self.failures.clear();
        }
    }

    /// The request was given up before it told anything: the next one may try.
    pub(crate) fn left(&mut self, now: Instant) {
        if self.state == State::HalfOpen {
            self.state = State::Open { until: now };
        }
    }

    /// The endpoint wants to be left alone for so long.
    pub(crate) fn rest(&mut self, now: Instant, time: Duration) {
        let until = now + time.min(OPEN_MAX);
        self.rest_until = self.rest_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_opens_tries_and_closes() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        for i in 0..FAILURES as u32 {
            assert_eq!(breaker.pass(start + SECOND * i), Ok(()));
            breaker.failed(start + SECOND * i);
        }
        let opened = start + SECOND * (FAILURES as u32 - 1);
        assert_eq!(
            breaker.pass(opened + SECOND),
            Err(Shut::Failed(OPEN_FIRST - SECOND))
        );
        let later = opened + OPEN_FIRST;
        assert_eq!(breaker.pass(later), Ok(()), "one tries");
        assert_eq!(breaker.pass(later), Err(Shut::Trying), "one alone");
        breaker.failed(later);
        assert_eq!(
            breaker.look(later),
            Err(Shut::Failed(OPEN_FIRST * 2)),
            "twice as long"
        );
        let later = later + OPEN_FIRST * 2;
        assert_eq!(breaker.pass(later), Ok(()));
        breaker.answered();
        assert_eq!(breaker.look(later), Ok(()));
        breaker.failed(later);
        assert_eq!(breaker.look(later), Ok(()), "it counts from the beginning");
    }

    #[test]
    fn failures_far_apart_or_with_answers_between_do_not_open_it() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        for i in 0..20 {
            breaker.failed(start + WINDOW * i);
        }
        let now = start + WINDOW * 20;
        for _ in 0..20 {
            for _ in 1..FAILURES {
                breaker.failed(now);
            }
            breaker.answered();
        }
        assert_eq!(breaker.look(now), Ok(()));
    }

    #[test]
    fn a_try_that_is_given_up_leaves_the_next_one_its_turn() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        (0..FAILURES).for_each(|_| breaker.failed(start));
        let later = start + OPEN_FIRST;
        breaker.pass(later).unwrap();
        breaker.left(later);
        assert_eq!(breaker.pass(later), Ok(()));
    }

    #[test]
    fn a_rest_is_kept_and_an_answer_does_not_end_it() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        breaker.rest(start, SECOND * 7);
        breaker.rest(start, SECOND);
        breaker.answered();
        assert_eq!(breaker.pass(start + SECOND), Err(Shut::Resting(SECOND * 6)));
        assert_eq!(breaker.pass(start + SECOND * 7), Ok(()));
        breaker.rest(start, SECOND * 100_000);
        assert_eq!(
            breaker.look(start + OPEN_MAX),
            Ok(()),
            "nobody rests for a day"
        );
    }

    #[test]
    fn it_never_stays_shut_for_ever() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        (0..FAILURES).for_each(|_| breaker.failed(now));
        for _ in 0..20 {
            now += OPEN_MAX;
            assert_eq!(breaker.pass(now), Ok(()));
            breaker.failed(now);
        }
    }
}
