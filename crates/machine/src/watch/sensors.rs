//! Everything that is read of a machine again and again, found once.

use super::heat::{self, Thermometer};
use super::memory;
use super::{Felt, Known, PoolUse, PowerState, Readings};
use crate::meter::nvml::{Library, Seen};
use crate::model::{Battery, Machine, PowerSource};
use crate::probe::{self, Root};
use troika_base::{DeviceKind, MemoryPool};

/// What is read.
#[derive(Debug)]
pub(super) struct Sensors {
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    id: String,
    address: Option<String>,
    thermometers: Known<Vec<Thermometer>>,
    /// The management library, for a card of NVIDIA's.
    nvml: Option<Known<Library>>,
    /// Whether it has memory of its own.
    has_pool: bool,
}

impl Sensors {
    /// Finds what there is of a machine.
    pub(super) fn find(root: &Root, machine: &Machine) -> Self {
        let mut library: Option<Known<Library>> = None;
        let mut devices: Vec<Device> = Vec::new();
        for processor in &machine.processors {
            let is_nvidia = processor.driver.as_deref() == Some("nvidia");
            let load = || match root.is_real() {
                true => Library::load().map_err(|error| error.to_string()),
                false => Err("a recorded machine has no library".to_owned()),
            };
            let nvml = is_nvidia.then(|| library.get_or_insert_with(load).clone());
            let mut thermometers = heat::find(root, machine, processor);
            let in_soc = processor.profile.link.as_deref() == Some("soc");
            // One piece of silicon: the processor's sensors are near to all its parts.
            if let (true, Err(_), Some(processor)) = (in_soc, &thermometers, devices.first()) {
                thermometers = processor.thermometers.clone();
            }
            let is_cpu = processor.profile.kind == DeviceKind::Cpu;
            devices.push(Device {
                id: processor.id.clone(),
                address: processor.bus_address.clone(),
                thermometers,
                nvml,
                has_pool: !is_cpu && processor.profile.memory_pool == MemoryPool::Own,
            });
        }
        Self { devices }
    }

    /// Reads it, and the source of power if that is wanted as well.
    pub(super) fn read(&self, root: &Root, with_power: bool) -> Readings {
        let mut readings = Readings {
            power: with_power.then(|| power(root)),
            ..Readings::default()
        };
        readings.memory.push(("ram".to_owned(), memory::ram(root)));
        for device in &self.devices {
            let (heat, pool) = device.read(root);
            readings.heat.push((device.id.clone(), heat));
            if let Some(pool) = pool {
                readings.memory.push((device.id.clone(), pool));
            }
        }
        readings
    }
}

impl Device {
    fn read(&self, root: &Root) -> (Known<Felt>, Option<Known<PoolUse>>) {
        if self.sleeps(root) {
            return (Ok(Felt::COLD), None);
        }
        if let Some(library) = &self.nvml {
            return self.ask(library);
        }
        let heat = match &self.thermometers {
            Ok(thermometers) => heat::read(root, thermometers),
            Err(why) => Err(why.clone()),
        };
        let pool = self.has_pool.then(|| match &self.address {
            Some(address) => memory::card(root, address),
            None => Err("its driver does not tell how much of its memory is in use".to_owned()),
        });
        (heat, pool)
    }

    /// Whether the kernel has switched it off since nobody uses it. Reading its sensors would switch it on.
    fn sleeps(&self, root: &Root) -> bool {
        let Some(address) = &self.address else {
            return false;
        };
        let status = format!("/sys/bus/pci/devices/{address}/power/runtime_status");
        root.line(&status).as_deref() == Some("suspended")
    }

    fn ask(&self, library: &Known<Library>) -> (Known<Felt>, Option<Known<PoolUse>>) {
        let seen = library.clone().and_then(|library| match &self.address {
            Some(address) => library.look(address).map_err(|error| error.to_string()),
            None => Err("its address on the bus is not known".to_owned()),
        });
        let Seen { heat, memory } = match seen {
            Ok(seen) => seen,
            Err(why) => return (Err(why.clone()), self.has_pool.then_some(Err(why))),
        };
        let felt = heat.map(|heat| {
            let warm_at = heat.slows_down_at - heat::WARM_BEFORE_C;
            Felt {
                slows_down: heat.slows_down,
                ..heat::felt(heat.celsius, warm_at, heat.slows_down_at)
            }
        });
        let pool = memory.map(|memory| PoolUse {
            total: memory.total,
            used: memory.used,
            ours: memory.ours,
        });
        (felt, self.has_pool.then_some(pool))
    }
}

fn power(root: &Root) -> Known<PowerState> {
    let (source, batteries) = probe::power_now(root)?;
    match source {
        Some(PowerSource::Mains) => Ok(PowerState::Mains),
        Some(PowerSource::Battery) => Ok(PowerState::Battery {
            percent: percent(&batteries),
        }),
        None => Err("the system tells of neither mains nor batteries".to_owned()),
    }
}

/// What is left in all batteries: by their capacities where all tell these, else the mean.
fn percent(batteries: &[Battery]) -> Option<f64> {
    let charges: Vec<f64> = batteries.iter().filter_map(|b| b.charge_percent).collect();
    if charges.is_empty() || charges.len() < batteries.len() {
        return charges.first().copied();
    }
    let capacity = |battery: &Battery| battery.capacity_wh.filter(|&wh| wh > 0.0);
    let capacities: Option<Vec<f64>> = batteries.iter().map(capacity).collect();
    let weights = capacities.unwrap_or_else(|| vec![1.0; batteries.len()]);
    let left: f64 = charges.iter().zip(&weights).map(|(c, w)| c * w).sum();
    Some(left / weights.iter().sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batteries_are_weighed() {
        let battery = |charge_percent, capacity_wh| Battery {
            name: "BAT0".to_owned(),
            status: "discharging".to_owned(),
            charge_percent,
            capacity_wh,
            watts: None,
        };
        for (batteries, want) in [
            (vec![], None),
            (vec![battery(None, Some(50.0))], None),
            (vec![battery(Some(40.0), None)], Some(40.0)),
            (
                vec![
                    battery(Some(100.0), Some(20.0)),
                    battery(Some(0.0), Some(60.0)),
                ],
                Some(25.0),
            ),
            (
                vec![
                    battery(Some(100.0), Some(20.0)),
                    battery(Some(0.0), Some(0.0)),
                ],
                Some(50.0),
            ),
            (
                vec![battery(Some(30.0), Some(20.0)), battery(None, None)],
                Some(30.0),
            ),
        ] {
            assert_eq!(percent(&batteries), want, "{batteries:?}");
        }
    }
}
