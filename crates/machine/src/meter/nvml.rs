//! NVIDIA's management library, loaded when a meter asks for it: machines without the driver run the same program.

use std::sync::Arc;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::{Gauge, MeterError, Reading};

/// The library, loaded once for all its meters.
#[derive(Clone, Debug)]
pub(crate) struct Library(Arc<Nvml>);

impl Library {
    pub(crate) fn load() -> Result<Self, MeterError> {
        match Nvml::init() {
            Ok(nvml) => Ok(Self(Arc::new(nvml))),
            Err(error) => Err(refused(&error)),
        }
    }

    /// The meter of the device that the library knows by this number, or by this address on the bus.
    pub(super) fn gauge(&self, place: &str) -> Result<NvmlGauge, MeterError> {
        let device = match place.parse() {
            Ok(index) => self.0.device_by_index(index),
            Err(_) => self.0.device_by_pci_bus_id(place),
        };
        let device = device.map_err(|error| refused(&error))?;
        Ok(NvmlGauge {
            index: device.index().map_err(|error| refused(&error))?,
            // From Volta on there is a counter; before, power alone.
            counts: device.total_energy_consumption().is_ok(),
            library: self.clone(),
        })
    }
}

/// The meter of one board.
#[derive(Debug)]
pub(super) struct NvmlGauge {
    library: Library,
    index: u32,
    counts: bool,
}

impl Gauge for NvmlGauge {
    fn read(&mut self) -> Result<Reading, MeterError> {
        let read = || -> Result<Reading, NvmlError> {
            let device = self.library.0.device_by_index(self.index)?;
            Ok(if self.counts {
                Reading::Counter {
                    joules: device.total_energy_consumption()? as f64 / 1e3,
                    range: None,
                }
            } else {
                Reading::Watts(f64::from(device.power_usage()?) / 1e3)
            })
        };
        read().map_err(|error| refused(&error))
    }
}

fn refused(error: &NvmlError) -> MeterError {
    MeterError::Nvml(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_it_says_so() {
        match Library::load() {
            Ok(library) => assert!(library.gauge("4000000").is_err()),
            Err(error) => assert!(error.remedy().contains("driver"), "{error}"),
        }
    }
}
