//! Meters: what tells watts or joules, read while something runs.
//!
//! [`MeterSet::open`] opens the meters of a [`Machine`](crate::Machine); [`MeterSet::span`] begins to count and
//! [`Span::finish`] tells how many joules each meter saw since. Spans may overlap, and while there is none, no meter is read.
//! A meter covers a part of the machine and not a program: what else runs there is counted too.
//!
//! That is for measuring. [`DeviceMeters`] is for serving: it stays open, tells the energy of every step of every device in
//! microseconds, and divides a meter that covers several devices among those that work.
//!
//! Start at `set.rs` and `devices.rs`, whose inside is `live.rs`; `cover.rs` says which meter covers which device. `files.rs`,
//! `nvml.rs` and `log.rs` are the meters, `sampler.rs` is the thread that looks at them, `integrate.rs`, `clock.rs` and
//! `ledger.rs` the arithmetic.

mod set;

mod devices;
mod live;
mod sampler;

mod cover;
mod parts;

mod clock;
mod integrate;
mod ledger;

mod files;
mod log;
pub(crate) mod nvml;

mod day;

pub use cover::Coverage;
pub use day::{DayError, EnergyDay, EnergyMonth};
pub use devices::{Counters, DeviceEnergy, DeviceMeters, Metered, Work};
pub use log::{LogGauge, WattsOf};
pub use set::{Energy, MeterSet, Span};

use std::path::PathBuf;

/// What a meter shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Energy counted from some moment on.
    Counter {
        /// The count.
        joules: f64,
        /// Where it starts again from 0; `None` if it does not.
        range: Option<f64>,
    },
    /// Power at this moment, or on average over the last one.
    Watts(f64),
}

/// How a span's energy was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnergyBasis {
    /// The meter counts energy itself.
    Counted,
    /// The meter tells power, which was looked at some times a second.
    Sampled,
}

/// Something that can be read again and again.
pub trait Gauge: Send {
    /// What it shows now.
    ///
    /// # Errors
    /// If it cannot be read, now or ever.
    fn read(&mut self) -> Result<Reading, MeterError>;
}

/// Why a meter shows nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeterError {
    /// The system says no.
    #[error("the system lets only some users read {}", path.display())]
    Denied {
        /// The file.
        path: PathBuf,
    },
    /// There is no such meter, or it does not answer.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It does not show a number.
    #[error("{} holds {text:?}, which is no number", path.display())]
    Nonsense {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
    /// A counter went backwards.
    #[error("the counter was set back")]
    Reset,
    /// No machine draws so much, or less than nothing.
    #[error("it showed {joules:.1} J more after {seconds:.3} s, which cannot be")]
    Impossible {
        /// The difference of its readings.
        joules: f64,
        /// The time between them.
        seconds: f64,
    },
    /// Its file was not written to of late.
    #[error("{} was last written to {seconds:.0} s ago", path.display())]
    Stale {
        /// The file.
        path: PathBuf,
        /// How long ago.
        seconds: f64,
    },
    /// It works at other times.
    #[error(
        "the battery is {status}, and tells what the machine draws only while it is discharging"
    )]
    NotDischarging {
        /// As the battery says.
        status: String,
    },
    /// NVIDIA's library is missing or refuses.
    #[error("NVIDIA's management library: {0}")]
    Nvml(String),
}

impl MeterError {
    /// What would help; empty where nothing does.
    pub fn remedy(&self) -> String {
        match self {
            Self::Denied { path } => format!(
                "run as root, or let everyone read it until the next start: sudo chmod a+r {}",
                path.display()
            ),
            Self::NotDischarging { .. } => "unplug the machine".to_owned(),
            Self::Nvml(_) => "install NVIDIA's driver, which brings libnvidia-ml".to_owned(),
            Self::Stale { .. } => "see whether the meter's program still runs".to_owned(),
            Self::Unreadable { .. }
            | Self::Nonsense { .. }
            | Self::Impossible { .. }
            | Self::Reset => String::new(),
        }
    }

    /// Whether the same meter may well work later.
    fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::NotDischarging { .. }
                | Self::Reset
                | Self::Impossible { .. }
                | Self::Stale { .. }
        )
    }
}
