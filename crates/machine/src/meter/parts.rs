//! Which meters of a machine open, and for whom.

use std::path::Path;

use super::cover::{self, Coverage};
use super::files::{Batteries, BatteryDrain};
use super::nvml::Library;
use super::{EnergyBasis, Gauge, Reading, set};
use crate::model::{Machine, Meter, MeterKind};

/// How a meter is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speed {
    /// Whenever its energy is asked for.
    Fast,
    /// By the thread.
    Slow,
}

/// The meters that opened, and the devices.
pub(super) struct Parts {
    pub(super) gauges: Vec<(String, Speed, Box<dyn Gauge>)>,
    pub(super) devices: Vec<Device>,
    pub(super) system: Option<(String, Box<dyn Gauge>)>,
}

/// A device and its meters.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) gauges: Vec<usize>,
    pub(super) basis: EnergyBasis,
    pub(super) why: String,
    pub(super) remedy: String,
}

impl Parts {
    /// Opens for each device the first set of meters of which all open.
    pub(super) fn open(machine: &Machine) -> Self {
        let mut nvml: Option<Library> = None;
        let mut parts = Self {
            gauges: Vec::new(),
            devices: Vec::new(),
            system: None,
        };
        // What was tried, by the meter's number in the machine: its number here, or why it did not open.
        let mut tried: Vec<Option<Result<usize, (String, String)>>> =
            vec![None; machine.meters.len()];
        for processor in &machine.processors {
            let (why, remedy) = cover::reason(machine, processor);
            let mut device = Device {
                name: processor.id.clone(),
                gauges: Vec::new(),
                basis: EnergyBasis::Counted,
                why,
                remedy,
            };
            let mut refusal = None;
            for set in cover::candidates(machine, processor) {
                let opened = set.iter().map(|&number| {
                    let tried = &mut tried[number];
                    let open = || parts.add(&machine.meters[number], &mut nvml);
                    tried.get_or_insert_with(open).clone()
                });
                match opened.collect::<Result<Vec<_>, _>>() {
                    Ok(gauges) => {
                        device.gauges = gauges;
                        break;
                    }
                    Err(why) => refusal = refusal.or(Some(why)),
                }
            }
            if let (true, Some((why, remedy))) = (device.gauges.is_empty(), refusal) {
                (device.why, device.remedy) = (why, remedy);
            }
            parts.devices.push(device);
        }
        parts.note_bases();
        parts
    }

    /// Opens a meter; the error is why it does not, and what would help.
    fn add(
        &mut self,
        meter: &Meter,
        nvml: &mut Option<Library>,
    ) -> Result<usize, (String, String)> {
        let gauge = set::open(meter, nvml).map_err(|error| {
            let unknown = set::unknown(meter, &error);
            (unknown.why, unknown.remedy)
        })?;
        let speed = match meter.kind {
            MeterKind::Rapl => Speed::Fast,
            MeterKind::Nvml | MeterKind::Hwmon | MeterKind::Battery => Speed::Slow,
        };
        self.gauges.push((cover::name(meter), speed, gauge));
        Ok(self.gauges.len() - 1)
    }

    /// Asks each meter once how it tells energy.
    pub(super) fn note_bases(&mut self) {
        let bases: Vec<EnergyBasis> = self
            .gauges
            .iter_mut()
            .map(|(_, _, gauge)| match gauge.read() {
                Ok(Reading::Watts(_)) => EnergyBasis::Sampled,
                Ok(Reading::Counter { .. }) | Err(_) => EnergyBasis::Counted,
            })
            .collect();
        for device in &mut self.devices {
            let is_sampled = |&gauge: &usize| bases[gauge] == EnergyBasis::Sampled;
            if device.gauges.iter().any(is_sampled) {
                device.basis = EnergyBasis::Sampled;
            }
        }
    }

    pub(super) fn coverage(&self, covered: &[Vec<usize>]) -> Vec<Coverage> {
        let device = |(number, device): (usize, &Device)| {
            let has_meter = !device.gauges.is_empty();
            let mut shared: Vec<usize> = Vec::new();
            for &gauge in &device.gauges {
                shared.extend(covered[gauge].iter().filter(|&&other| other != number));
            }
            shared.sort_unstable();
            shared.dedup();
            let names = |gauge: &usize| self.gauges[*gauge].0.clone();
            Coverage {
                device: device.name.clone(),
                meters: device.gauges.iter().map(names).collect(),
                basis: has_meter.then_some(device.basis),
                shared_with: shared
                    .into_iter()
                    .map(|other| self.devices[other].name.clone())
                    .collect(),
                why: if has_meter {
                    String::new()
                } else {
                    device.why.clone()
                },
                remedy: if has_meter {
                    String::new()
                } else {
                    device.remedy.clone()
                },
            }
        };
        let mut coverage: Vec<_> = self.devices.iter().enumerate().map(device).collect();
        let has_system = self.system.is_some();
        let told = |text: &str| {
            if has_system {
                String::new()
            } else {
                text.to_owned()
            }
        };
        coverage.push(Coverage {
            device: "system".to_owned(),
            meters: self.system.iter().map(|(name, _)| name.clone()).collect(),
            basis: has_system.then_some(EnergyBasis::Sampled),
            shared_with: Vec::new(),
            why: told("there is neither a battery that tells watts nor an external meter"),
            remedy: told("give the file that a smart plug's program writes"),
        });
        coverage
    }
}

/// All batteries as one meter of the machine.
pub(super) fn batteries(machine: &Machine) -> Option<(String, Box<dyn Gauge>)> {
    let batteries = machine
        .meters
        .iter()
        .filter(|meter| meter.kind == MeterKind::Battery);
    let open = |meter: &Meter| BatteryDrain::open(Path::new(&meter.place));
    let gauges: Vec<_> = batteries.map(open).collect();
    (!gauges.is_empty()).then(|| ("battery".to_owned(), Box::new(Batteries(gauges)) as _))
}
