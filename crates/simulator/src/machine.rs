//! A machine that nobody has to own: devices and pools of memory, as the catalogue or a measurement knows them.
//!
//! What stands here is what a scheduler is told of it and what the cost model asks for. How the devices behave, faster or
//! slower than they should, is the affair of [`crate::world`].

mod model;
mod name;

use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};
use troika_planner::catalogue::{self, Catalogue};
use troika_planner::cost::{FIT, Setup, Slot, Software, watts_at_work};
use troika_scheduler::{DeviceFacts, DeviceId, PoolFacts, PoolId};

pub use model::QUANTIZATION;

/// A machine as a simulation drives it.
#[derive(Clone, PartialEq, Debug)]
pub struct VirtualMachine {
    /// What it was asked for by.
    pub name: String,
    /// Its devices, composite ones last.
    pub devices: Vec<DeviceFacts>,
    /// What is behind each device.
    pub hardware: Vec<Hardware>,
    /// Its pools of memory.
    pub pools: Vec<PoolFacts>,
    /// 10⁹ bytes a second that all devices of a pool can draw together; absent where nobody knows.
    pub pool_gbs: Vec<Option<f64>>,
    /// Watts of all that is neither processor nor card, whatever is done: assumed, nobody has measured them.
    pub watts_rest: f64,
    /// What was assumed of it, for people.
    pub notes: Vec<String>,
}

/// What is behind a device.
#[derive(Clone, PartialEq, Debug)]
pub struct Hardware {
    /// Its profile, or those of a composite device's parts in the order in which they get layers.
    pub profiles: Vec<DeviceProfile>,
    /// Weights that one model may have there, at most.
    pub session_max: Option<Bytes>,
    /// 10⁹ bytes a second that it draws while it waits for memory.
    pub draw_gbs: f64,
}

/// Why there is no such machine, or why it does not know a model.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// A name that the catalogue does not have.
    #[error("{0}")]
    Unknown(String),
    /// What is known of a device does not do for a simulation.
    #[error("{device}: {what}; {remedy}")]
    Profile {
        /// Its name.
        device: String,
        /// What is missing or impossible.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// A device that a machine is put together from.
#[derive(Clone, PartialEq, Debug)]
struct Part {
    profile: DeviceProfile,
    session_max: Option<Bytes>,
    /// The package that it is a block of, by number; none of a card.
    package: Option<usize>,
}

impl Part {
    fn is_of_laptop(&self) -> bool {
        self.package.is_some() && self.profile.class.as_deref() == Some("laptop")
    }
}

/// Share of the peak that all blocks of a package reach together: the best of the shares that single ones do.
const POOL_SHARE: f64 = 0.9;
/// What a card's memory keeps for display and driver, as the cost model has it: one part in so many.
const CARD_RESERVE: u64 = 40;
/// 10⁹ bytes a second that a cache is copied at where no link is known: PCIe 3 with eight lanes.
const LINK_GBS: f64 = 7.88;
/// Reading and writing the same memory, and changing the layout: a copy within it runs at this share of its bandwidth.
const COPY_SHARE: f64 = 0.25;
/// Watts of board, memory, disk and network of a laptop and of a desktop computer, the display left out. Assumptions.
const REST_WATTS: [f64; 2] = [3.0, 25.0];
/// Models that an NPU holds at a time: its compiled graphs and contexts are scarce.
const NPU_RESIDENTS: usize = 2;
/// Models that other devices hold at a time.
const RESIDENTS: usize = 8;

impl VirtualMachine {
    /// The machine of a name: `core-ultra-258v`, `dual-3090`, `ryzen-ai-370+4090:32gb`.
    ///
    /// Parts are joined by `+`, `dual-` and `2x` count them, `:32gb` says how much memory the processor has.
    ///
    /// # Errors
    /// If a part is unknown, or too little is known of it.
    pub fn named(name: &str, catalogue: &Catalogue) -> Result<Self, MachineError> {
        let described = name::describe(name, catalogue)?;
        let reserve = catalogue.thresholds().memory_reserve;
        Self::assemble(
            name,
            described.parts,
            described.ram,
            reserve,
            described.notes,
        )
    }

    /// A machine of measured devices. Those that share memory share `ram`.
    ///
    /// # Errors
    /// If too little is known of a device.
    pub fn measured(
        name: &str,
        profiles: Vec<DeviceProfile>,
        ram: Bytes,
        catalogue: &Catalogue,
    ) -> Result<Self, MachineError> {
        let of_package = |profile: &DeviceProfile| {
            profile.kind == DeviceKind::Cpu || profile.memory_pool == MemoryPool::Shared
        };
        let parts = profiles.into_iter().map(|profile| Part {
            package: of_package(&profile).then_some(0),
            profile,
            session_max: None,
        });
        let reserve = catalogue.thresholds().memory_reserve;
        Self::assemble(name, parts.collect(), ram, reserve, Vec::new())
    }

    /// Gives the parts numbers, names and pools.
    fn assemble(
        name: &str,
        parts: Vec<Part>,
        ram: Bytes,
        reserve: f64,
        notes: Vec<String>,
    ) -> Result<Self, MachineError> {
        let mut machine = Self {
            name: name.to_owned(),
            devices: Vec::new(),
            hardware: Vec::new(),
            pools: vec![PoolFacts {
                name: "ram".to_owned(),
                capacity: ram,
                reserve: Bytes((ram.0 as f64 * reserve) as u64),
            }],
            pool_gbs: vec![None],
            watts_rest: REST_WATTS[usize::from(!parts.iter().any(Part::is_of_laptop))],
            notes,
        };
        let shared = parts.iter().filter(|part| part.package.is_some()).count();
        for kind in [
            DeviceKind::Cpu,
            DeviceKind::Gpu,
            DeviceKind::Npu,
            DeviceKind::Accelerator,
        ] {
            let of_kind = parts.iter().filter(|part| part.profile.kind == kind);
            for (index, part) in of_kind.enumerate() {
                check(&part.profile)?;
                machine.add(part, index, shared);
            }
        }
        machine.combine();
        Ok(machine)
    }

    /// Adds a device; `shared` is how many share the package.
    fn add(&mut self, part: &Part, index: usize, shared: usize) {
        let profile = &part.profile;
        let prefix = match profile.kind {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
            DeviceKind::Npu => "npu",
            DeviceKind::Accelerator => "acc",
        };
        let name = format!("{prefix}{index}");
        let peak = bandwidth_gbs(profile).unwrap_or_default();
        let pool = match part.package {
            Some(_) => {
                let together = self.pool_gbs[0].get_or_insert(0.0);
                *together = together.max(peak * POOL_SHARE);
                PoolId(0)
            }
            None => {
                let capacity = profile.memory.unwrap_or_default();
                self.pools.push(PoolFacts {
                    name: name.clone(),
                    capacity,
                    reserve: Bytes(capacity.0 / CARD_RESERVE),
                });
                self.pool_gbs.push(None);
                PoolId(self.pools.len() as u16 - 1)
            }
        };
        let link_gbs = match part.package {
            Some(_) => peak * COPY_SHARE,
            None => self.card_link_gbs(profile),
        };
        let idle = profile
            .watts_idle
            .or_else(|| idle_watts(profile))
            .unwrap_or(0.0);
        let is_npu = profile.kind == DeviceKind::Npu;
        let busy = watts_at_work(profile);
        let assumed = match busy {
            Some(_) => None,
            None => Catalogue::builtin().typical_watts(profile.kind, profile.class.as_deref()),
        };
        self.devices.push(DeviceFacts {
            name,
            chip: profile.name.clone(),
            kind: profile.kind,
            pools: vec![pool],
            parts: Vec::new(),
            // A package rests as a whole: its blocks share the one figure.
            watts_idle: match part.package {
                Some(_) => idle / shared as f64,
                None => idle,
            },
            watts_busy: busy.map(|watts| watts.value),
            watts_assumed: assumed.map(|watts| watts.high),
            link_gbs,
            residents_max: if is_npu { NPU_RESIDENTS } else { RESIDENTS },
            batch_max: if is_npu { 1 } else { usize::MAX },
            moves: true,
            embeds: true,
        });
        self.hardware.push(Hardware {
            draw_gbs: peak * bandwidth_share(profile),
            profiles: vec![profile.clone()],
            session_max: part.session_max,
        });
        if profile.watts_limit.is_none() && profile.watts_busy.is_none() {
            self.notes.push(format!(
                "no power of {} is known: its joules count as none",
                profile.name
            ));
        }
    }

    fn card_link_gbs(&mut self, profile: &DeviceProfile) -> f64 {
        let known = profile.link.as_deref().and_then(catalogue::link_gbs);
        known.unwrap_or_else(|| {
            self.notes.push(format!(
                "how {} is connected is not known: taken to be PCIe 3 with 8 lanes",
                profile.name
            ));
            LINK_GBS
        })
    }

    /// Adds the devices that are made of several: all cards of one chip together, and the first card with the processor.
    fn combine(&mut self) {
        let ids = || (0u16..).map(DeviceId);
        let cards: Vec<DeviceId> = ids()
            .zip(&self.devices)
            .filter(|(_, device)| device.pools[0] != PoolId(0) && device.kind == DeviceKind::Gpu)
            .map(|(id, _)| id)
            .collect();
        let processor = ids()
            .zip(&self.devices)
            .find(|(_, device)| device.kind == DeviceKind::Cpu)
            .map(|(id, _)| id);
        if cards.len() > 1 {
            self.join(&cards);
        }
        if let (Some(&card), Some(processor)) = (cards.first(), processor) {
            self.join(&[card, processor]);
        }
    }

    fn join(&mut self, parts: &[DeviceId]) {
        let of = |id: &DeviceId| usize::from(id.0);
        let facts = parts.iter().map(|id| (*id, &self.devices[of(id)]));
        let composite = DeviceFacts {
            residents_max: RESIDENTS,
            ..DeviceFacts::of_parts(&facts.collect::<Vec<_>>())
        };
        let profiles = parts
            .iter()
            .flat_map(|id| self.hardware[of(id)].profiles.clone());
        let hardware = Hardware {
            profiles: profiles.collect(),
            session_max: None,
            // Its parts work one after the other, mostly on their own memory.
            draw_gbs: 0.0,
        };
        self.devices.push(composite);
        self.hardware.push(hardware);
    }

    /// The number of a device by its name.
    pub fn device(&self, name: &str) -> Option<DeviceId> {
        let found = self.devices.iter().position(|device| device.name == name);
        found.map(|at| DeviceId(at as u16))
    }
}

/// 10⁹ bytes a second: measured, else from the data sheet.
fn bandwidth_gbs(profile: &DeviceProfile) -> Option<f64> {
    profile
        .bandwidth_measured_gbs
        .or(profile.bandwidth_peak_gbs)
}

/// The share of its bandwidth that reading weights reaches there.
fn bandwidth_share(profile: &DeviceProfile) -> f64 {
    if profile.bandwidth_measured_gbs.is_some() {
        return 1.0;
    }
    let setup = Setup::by_layers([Slot::all_of(profile)], None);
    Software::of(&FIT, &setup, profile)
        .class
        .bandwidth_share
        .min(1.0)
}

/// Share of its limit that a chip draws at rest, as the cost model estimates it.
fn idle_watts(profile: &DeviceProfile) -> Option<f64> {
    profile.watts_limit.map(|limit| limit * 0.06)
}

/// Whether a simulation can be made of what is known.
fn check(profile: &DeviceProfile) -> Result<(), MachineError> {
    let wrong = |what: String, remedy| {
        Err(MachineError::Profile {
            device: profile.name.clone(),
            what,
            remedy,
        })
    };
    let remedy = "say it in a catalogue file of your own, or measure the device";
    match bandwidth_gbs(profile) {
        None => return wrong("its memory bandwidth is not known".to_owned(), remedy),
        Some(gbs) if !(gbs.is_finite() && gbs > 0.0) => {
            return wrong(format!("a memory bandwidth of {gbs} GB/s"), remedy);
        }
        Some(_) => {}
    }
    match profile.memory {
        None => return wrong("how much memory it has is not known".to_owned(), remedy),
        Some(Bytes(0)) => return wrong("a memory of no bytes".to_owned(), remedy),
        Some(_) => {}
    }
    let figures = [
        ("watts at rest", profile.watts_idle),
        ("watts under load", profile.watts_busy),
        ("a limit of watts", profile.watts_limit),
        ("microseconds to launch", profile.launch_us),
    ];
    for (what, value) in figures {
        if let Some(value) = value.filter(|value| !(value.is_finite() && *value >= 0.0)) {
            return wrong(format!("{what} of {value}"), "correct its profile");
        }
    }
    let rates = profile.rates.iter().chain(&profile.rates_measured);
    for tops in rates.filter_map(|rate| rate.dense_tops) {
        if !(tops.is_finite() && tops > 0.0) {
            return wrong(format!("a rate of {tops} TOPS"), "correct its profile");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
