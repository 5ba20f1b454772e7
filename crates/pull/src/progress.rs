//! How far a pull is.

use std::time::{Duration, Instant};

/// What a pull is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// It asks what is there.
    #[default]
    Looking,
    /// Bytes are on their way.
    Downloading,
    /// All are here; their digest is summed and they are brought to disk.
    Verifying,
    /// The library has the model.
    Done,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// What it does.
    pub stage: Stage,
    /// Bytes in all; 0 before they are known.
    pub bytes: u64,
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Bytes a second of late.
    pub bytes_per_second: f64,
}

/// How fast bytes come, over the last seconds.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
    before: u64,
    per_second: f64,
}

impl Pace {
    /// A half of what is told is of the last two seconds.
    const HALF_S: f64 = 2.0;

    pub(crate) fn from(bytes: u64) -> Self {
        Self {
            since: Instant::now(),
            before: bytes,
            per_second: 0.0,
        }
    }

    /// So many bytes are here now.
    pub(crate) fn at(&mut self, bytes: u64) -> f64 {
        let took = self.since.elapsed();
        if took < Duration::from_millis(20) {
            return self.per_second;
        }
        let took_s = took.as_secs_f64();
        let now = bytes.saturating_sub(self.before) as f64 / took_s;
        let weight = match self.per_second {
            0.0 => 1.0,
            _ => 1.0 - 0.5f64.powf(took_s / Self::HALF_S),
        };
        self.per_second += (now - self.per_second) * weight;
        (self.since, self.before) = (Instant::now(), bytes);
        self.per_second
    }
}
