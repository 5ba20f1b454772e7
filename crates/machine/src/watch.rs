//! What changes around a server while it runs: power, heat, memory of other programs, days, sleep.
//!
//! [`Watcher::start`] looks every second and tells [`Change`]s, and only these; the first look tells all there is. What a
//! reading means is decided by `changes.rs`, which has neither clock nor files; `sensors.rs`, `heat.rs` and `memory.rs`
//! read. A meter's joules are not watched here, see [`crate::meter`].

mod changes;

mod heat;
mod memory;
mod sensors;

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use jiff::Zoned;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use troika_base::Bytes;

use self::changes::{Changes, Moment};
use self::sensors::Sensors;
use crate::model::Machine;
use crate::probe::Root;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Looks of which one is at the power's source: firmware answers for the battery, and takes its time.
const POWER_EVERY: u32 = 5;

/// How warm a device is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Heat {
    /// It runs as fast as it can.
    Normal,
    /// Near to where it slows down.
    Warm,
    /// It slows down, or is about to.
    Hot,
}

/// Where the power comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PowerState {
    /// The mains.
    Mains,
    /// A battery.
    Battery {
        /// What is left, from 0 to 100; of several batteries, of all together.
        percent: Option<f64>,
    },
}

/// How much of a pool of memory is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolUse {
    /// All there is.
    pub total: Bytes,
    /// What cannot be had.
    pub used: Bytes,
    /// How much of that is this program's; unknown where the driver does not tell programs apart.
    pub ours: Option<Bytes>,
}

impl PoolUse {
    /// What other programs take. Where it is not known what is ours, the caller may know what it has taken.
    pub fn others(&self) -> Option<Bytes> {
        let ours = self.ours?;
        Some(Bytes(self.used.0.saturating_sub(ours.0)))
    }
}

/// Something is not as it was.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// Where the power comes from. A battery is told anew with every percent.
    Power {
        /// `None` if it is not known.
        power: Option<PowerState>,
        /// Why it is not known; empty if it is.
        why: String,
    },
    /// How warm a device is.
    Heat {
        /// `gpu0`.
        device: String,
        /// `None` if it is not known.
        heat: Option<Heat>,
        /// Why it is not known; empty if it is.
        why: String,
    },
    /// The use of a pool of memory has changed by enough to matter.
    Memory {
        /// `ram`, or the device whose memory it is: `gpu0`.
        pool: String,
        /// `None` if it is not known.
        memory: Option<PoolUse>,
        /// Why it is not known; empty if it is.
        why: String,
    },
    /// It was midnight here, or the clock was put to another day.
    NewDay(Date),
    /// The machine slept, or this program was stopped, or the clock was put forward: what was measured before is old.
    Resumed {
        /// For so long.
        asleep: Duration,
    },
}

/// How much of each pool of memory is in use at this moment: of `ram`, and of each card that has its own; or why that is
/// not known.
pub fn pools(machine: &Machine) -> Vec<(String, Result<PoolUse, String>)> {
    let root = Root::real();
    Sensors::find(&root, machine).read(&root, false).memory
}

/// A thread that looks, until this is dropped.
#[derive(Debug)]
pub struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to look. `on_change` is called by the thread that looks, which waits for it; first for everything as it is.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start(
        machine: &Machine,
        root: Root,
        mut on_change: impl FnMut(Change) + Send + 'static,
    ) -> io::Result<Self> {
        let machine = machine.clone();
        let (stop, stopped) = mpsc::channel();
        let look = move || {
            let sensors = Sensors::find(&root, &machine);
            let mut changes = Changes::default();
            let begin = Instant::now();
            for round in 0_u32.. {
                let moment = Moment {
                    running: begin.elapsed(),
                    wall: SystemTime::now(),
                    date: Zoned::now().date(),
                };
                let readings = sensors.read(&root, round.is_multiple_of(POWER_EVERY));
                changes.tell(moment, readings, &mut on_change);
                match stopped.recv_timeout(PERIOD) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("troika-watcher".to_owned())
            .spawn(look)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A callback that panics has told so; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// What is known, or why it is not.
type Known<T> = Result<T, String>;

/// What one look found. What was not looked at this time is absent.
#[derive(Debug, Default)]
struct Readings {
    power: Option<Known<PowerState>>,
    /// By device.
    heat: Vec<(String, Known<Felt>)>,
    /// By pool.
    memory: Vec<(String, Known<PoolUse>)>,
}

/// How warm a device's warmest sensors are.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Felt {
    /// Degrees beyond the point where it is [`Heat::Warm`]; below 0 short of it.
    beyond_warm: f64,
    /// Degrees beyond the point where it is [`Heat::Hot`].
    beyond_hot: f64,
    /// The driver says that it slows down for its heat.
    slows_down: bool,
}

impl Felt {
    /// Far from everything.
    const COLD: Self = Self {
        beyond_warm: -100.0,
        beyond_hot: -100.0,
        slows_down: false,
    };

    /// The warmer of both, by each limit.
    fn or(self, other: Self) -> Self {
        Self {
            beyond_warm: self.beyond_warm.max(other.beyond_warm),
            beyond_hot: self.beyond_hot.max(other.beyond_hot),
            slows_down: self.slows_down || other.slows_down,
        }
    }
}

#[cfg(test)]
mod tests;
