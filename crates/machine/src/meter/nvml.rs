//! NVIDIA's management library, loaded when a meter asks for it: machines without the driver run the same program.

use std::sync::Arc;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use troika_base::Bytes;

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

/// What the library tells of a board besides its meter; the errors say why it does not.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) heat: Result<BoardHeat, String>,
    pub(crate) memory: Result<BoardMemory, String>,
}

/// How warm a board is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoardHeat {
    pub(crate) celsius: f64,
    /// Where its clocks go down.
    pub(crate) slows_down_at: f64,
    /// Whether they are down for the heat now.
    pub(crate) slows_down: bool,
}

/// A board's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoardMemory {
    pub(crate) total: Bytes,
    pub(crate) used: Bytes,
    /// This program's; unknown where the library does not list it, as it may not in a container.
    pub(crate) ours: Option<Bytes>,
}

impl Library {
    /// Looks at the board at an address on the bus.
    pub(crate) fn look(&self, address: &str) -> Result<Seen, MeterError> {
        let device = self.0.device_by_pci_bus_id(address);
        let device = device.map_err(|error| refused(&error))?;
        Ok(Seen {
            heat: heat(&device).map_err(|error| refused(&error).to_string()),
            memory: memory(&device).map_err(|error| refused(&error).to_string()),
        })
    }
}

fn heat(device: &Device<'_>) -> Result<BoardHeat, NvmlError> {
    let celsius = device.temperature(TemperatureSensor::Gpu)?;
    let limit = device
        .temperature_threshold(TemperatureThreshold::GpuMax)
        .or_else(|_| device.temperature_threshold(TemperatureThreshold::Slowdown))?;
    let thermal = ThrottleReasons::SW_THERMAL_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN;
    // Some boards do not tell the reasons; then the temperature decides.
    let reasons = device.current_throttle_reasons();
    Ok(BoardHeat {
        celsius: f64::from(celsius),
        slows_down_at: f64::from(limit),
        slows_down: reasons.is_ok_and(|reasons| reasons.intersects(thermal)),
    })
}

fn memory(device: &Device<'_>) -> Result<BoardMemory, NvmlError> {
    let info = device.memory_info()?;
    let own = std::process::id();
    let compute = device.running_compute_processes().unwrap_or_default();
    let graphics = device.running_graphics_processes().unwrap_or_default();
    // A program may be in both lists, with the same memory.
    let ours = compute
        .iter()
        .chain(&graphics)
        .filter(|process| process.pid == own)
        .filter_map(|process| match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(Bytes(bytes)),
            UsedGpuMemory::Unavailable => None,
        })
        .max();
    Ok(BoardMemory {
        total: Bytes(info.total),
        // What the driver keeps for itself cannot be had either.
        used: Bytes(info.total.saturating_sub(info.free)),
        ours,
    })
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
