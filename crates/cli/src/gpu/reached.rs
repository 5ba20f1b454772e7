//! Which GPUs of this computer can be reached, and by what.

use serde::Serialize;
use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};
use troika_device_gpu::{Found, Offered};
use troika_machine::{self as machine, Machine, Processor, watch};

use crate::exit::WrongUse;

/// The variable that says which GPUs are looked for.
const CHOICE: &str = "TROIKA_GPU";

/// Which GPUs are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Those that are hardware.
    Hardware,
    /// Programs on the CPU that play one, too.
    Software,
    /// None: no driver is asked.
    Off,
}

impl Choice {
    fn from_env() -> Result<Self, WrongUse> {
        match std::env::var(CHOICE).as_deref() {
            Err(_) | Ok("") => Ok(Self::Hardware),
            Ok("software") => Ok(Self::Software),
            Ok("off") => Ok(Self::Off),
            Ok(word) => Err(WrongUse(format!(
                "{CHOICE}: {word:?} means nothing; `software` offers programs on the CPU as GPUs, `off` asks no driver"
            ))),
        }
    }
}

/// A GPU that can be reached.
#[derive(Debug, Serialize)]
pub(crate) struct Reached {
    /// Its name in every other command.
    pub(crate) id: String,
    /// As its driver names it.
    pub(crate) name: String,
    /// Driver and its version.
    pub(crate) driver: String,
    /// `vulkan`, `metal`, `dx12`.
    pub(crate) interface: &'static str,
    /// Whether it is a program on the CPU.
    pub(crate) software: bool,
    /// Threads that work in step, at least and at most.
    pub(crate) subgroup: Option<(u32, u32)>,
    /// Whether it computes in half precision.
    pub(crate) f16: bool,
    /// Cooperative matrices.
    pub(crate) matrices: Vec<String>,
    #[serde(skip)]
    found: Found,
}

impl Reached {
    /// A GPU under its name in this program.
    pub(crate) fn new(id: String, found: Found) -> Self {
        Self {
            id,
            name: found.name.clone(),
            driver: found.driver.clone(),
            interface: found.interface,
            software: found.caps.software,
            subgroup: found.caps.subgroup,
            f16: found.caps.f16,
            matrices: found.caps.tiles.iter().map(ToString::to_string).collect(),
            found,
        }
    }

    /// The GPU, to be opened.
    pub(crate) fn found(&self) -> &Found {
        &self.found
    }

    /// The GPU, to load models on.
    pub(super) fn offered(self) -> Offered {
        Offered::new(self.id, self.found)
    }
}

/// The GPUs of this computer.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Gpus {
    /// Those that can be reached.
    pub(crate) reached: Vec<Reached>,
    /// Programs on the CPU that nobody asked for.
    pub(crate) not_offered: Vec<String>,
    /// The id of each that is in the computer and cannot be reached, and why.
    pub(crate) lacking: Vec<[String; 2]>,
}

impl Gpus {
    /// Asks the drivers, which takes them a moment. What the machine does not know of yet is added to it, with the
    /// memory of cards that only their drivers tell.
    ///
    /// # Errors
    /// [`WrongUse`] if the variable has a word that means nothing.
    pub(crate) fn find(machine: &mut Machine) -> Result<Self, WrongUse> {
        let choice = Choice::from_env()?;
        if choice == Choice::Off {
            return Ok(Self::default());
        }
        let mut gpus = Self::default();
        for found in troika_device_gpu::find() {
            if found.caps.software && choice != Choice::Software {
                gpus.not_offered.push(found.name);
                continue;
            }
            if let Some(id) = place(machine, &gpus.placed(), &Look::at(&found)) {
                gpus.reached.push(Reached::new(id, found));
            }
        }
        gpus.lacking = lacking(machine, &gpus.placed());
        add_memory(machine);
        Ok(gpus)
    }

    fn placed(&self) -> Vec<(&str, Look<'_>)> {
        let reached = self.reached.iter();
        let placed = reached.map(|gpu| (gpu.id.as_str(), Look::at(&gpu.found)));
        placed.collect()
    }
}

/// As much of a GPU that a driver shows as tells which one it is.
#[derive(Clone, Copy)]
struct Look<'f> {
    name: &'f str,
    driver: &'f str,
    interface: &'f str,
    pci: Option<&'f str>,
    unified: bool,
    software: bool,
}

impl<'f> Look<'f> {
    fn at(found: &'f Found) -> Self {
        Self {
            name: &found.name,
            driver: &found.driver,
            interface: found.interface,
            pci: found.pci.as_deref(),
            unified: found.caps.unified,
            software: found.caps.software,
        }
    }
}

/// The id of the processor that a driver shows; a new one if the system knows of none. `None` if it is a processor that
/// is reached by another interface already.
fn place(machine: &mut Machine, placed: &[(&str, Look<'_>)], look: &Look<'_>) -> Option<String> {
    let again = |other: &Look<'_>| {
        let same = match (other.pci, look.pci) {
            (Some(a), Some(b)) => a == b,
            _ => other.name == look.name,
        };
        same && other.interface != look.interface
    };
    if placed.iter().any(|(_, other)| again(other)) {
        return None;
    }
    let known = match look.software {
        true => None,
        false => known(machine, placed, look),
    };
    Some(known.unwrap_or_else(|| add(machine, look)))
}

/// The processor that it is: by its address on the bus, by its name, or since no other is left.
fn known(machine: &Machine, placed: &[(&str, Look<'_>)], look: &Look<'_>) -> Option<String> {
    let is_free = |found: &&Processor| {
        found.profile.kind == DeviceKind::Gpu && placed.iter().all(|(id, _)| *id != found.id)
    };
    let free: Vec<&Processor> = machine.processors.iter().filter(is_free).collect();
    let at = |found: &&&Processor| {
        let address = found.bus_address.as_deref();
        address.is_some_and(|at| look.pci.is_some_and(|pci| pci.eq_ignore_ascii_case(at)))
    };
    // An address on one side only tells nothing; two that differ tell that it is another.
    let maybe = |found: &&&Processor| found.bus_address.is_none() || look.pci.is_none();
    let by_name = |found: &&&Processor| maybe(found) && found.profile.name == look.name;
    let alike = |found: &&&Processor| {
        let shared = found.profile.memory_pool == MemoryPool::Shared;
        maybe(found) && shared == look.unified
    };
    let only = || {
        let mut alike = free.iter().filter(alike);
        alike.next().filter(|_| alike.next().is_none())
    };
    let found = free.iter().find(at);
    let found = found.or_else(|| free.iter().find(by_name)).or_else(only)?;
    Some(found.id.clone())
}

/// Adds a GPU that the system did not tell of.
fn add(machine: &mut Machine, look: &Look<'_>) -> String {
    let n_gpu = machine.processors.iter();
    let n_gpu = n_gpu.filter(|found| found.profile.kind == DeviceKind::Gpu);
    let id = format!("gpu{}", n_gpu.count());
    let mut profile = DeviceProfile::unknown(look.name, DeviceKind::Gpu);
    if look.unified {
        profile.memory_pool = MemoryPool::Shared;
        profile.memory = Some(Bytes(machine.memory.total_bytes)).filter(|all| all.0 > 0);
    }
    machine.processors.push(Processor {
        id: id.clone(),
        profile,
        driver: Some(look.driver.to_owned()),
        pci_id: None,
        bus_address: look.pci.map(str::to_owned),
        found: machine::Found::Ready,
    });
    id
}

/// GPUs that the system has a driver for, and that no interface shows.
fn lacking(machine: &Machine, placed: &[(&str, Look<'_>)]) -> Vec<[String; 2]> {
    let unseen = machine.processors.iter().filter(|found| {
        found.profile.kind == DeviceKind::Gpu
            && found.found == machine::Found::Ready
            && placed.iter().all(|(id, _)| *id != found.id)
    });
    let remedy = match std::env::consts::OS {
        "linux" => {
            "no Vulkan driver shows it; install the loader and its driver (Debian, Ubuntu: libvulkan1 and mesa-vulkan-drivers; NVIDIA's own comes with its driver)"
        }
        "macos" => "Metal does not show it",
        _ => "neither Vulkan nor DX12 shows it; install the maker's driver",
    };
    unseen
        .map(|found| [found.id.clone(), remedy.to_owned()])
        .collect()
}

/// The memory of cards, where neither the system nor a data sheet has told it.
fn add_memory(machine: &mut Machine) {
    let is_unknown = |found: &Processor| {
        let profile = &found.profile;
        profile.kind == DeviceKind::Gpu
            && profile.memory_pool == MemoryPool::Own
            && profile.memory.is_none()
    };
    if !machine.processors.iter().any(is_unknown) {
        return;
    }
    for (id, pool) in watch::pools(machine) {
        let mut unknown = machine.processors.iter_mut().filter(|of| is_unknown(of));
        if let (Some(processor), Ok(pool)) = (unknown.find(|of| of.id == id), pool) {
            processor.profile.memory = Some(pool.total);
            let what = format!("{id}.memory");
            machine.unknown.retain(|unknown| unknown.what != what);
        }
    }
}

#[cfg(test)]
mod tests {
    use troika_machine::probe::{self, Root};

    use super::*;

    fn recorded(name: &str) -> Machine {
        let path = format!(
            "{}/../machine/fixtures/{name}.tree",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        probe::read(&Root::recorded(&text))
    }

    fn look<'f>(name: &'f str, pci: Option<&'f str>) -> Look<'f> {
        Look {
            name,
            driver: "a driver",
            interface: "vulkan",
            pci,
            unified: false,
            software: false,
        }
    }

    fn address(machine: &Machine, id: &str) -> String {
        let found = machine.processors.iter().find(|found| found.id == id);
        found
            .and_then(|found| found.bus_address.clone())
            .expect("an address")
    }

    #[test]
    fn cards_are_told_apart_by_their_addresses() {
        let mut machine = recorded("desktop-2x-rtx-3090");
        let n = machine.processors.len();
        let (first, second) = (address(&machine, "gpu0"), address(&machine, "gpu1"));
        let name = "NVIDIA GeForce RTX 3090";
        // The driver need not show them in the bus's order.
        let one = look(name, Some(&second));
        assert_eq!(place(&mut machine, &[], &one).as_deref(), Some("gpu1"));
        let placed = [("gpu1", one)];
        let other = look(name, Some(&first));
        assert_eq!(
            place(&mut machine, &placed, &other).as_deref(),
            Some("gpu0")
        );
        // DX12 shows the same cards again.
        let again = Look {
            interface: "dx12",
            ..one
        };
        assert_eq!(place(&mut machine, &placed, &again), None);
        assert_eq!(lacking(&machine, &placed)[0][0], "gpu0");
        assert_eq!(machine.processors.len(), n);
    }

    #[test]
    fn what_tells_no_address_is_told_by_its_kind() {
        let mut machine = recorded("ryzen-ai-hx-370");
        let radeon = Look {
            unified: true,
            ..look("AMD Radeon 890M (RADV GFX1150)", None)
        };
        assert_eq!(place(&mut machine, &[], &radeon).as_deref(), Some("gpu0"));
        assert!(lacking(&machine, &[("gpu0", radeon)]).is_empty());
        // A card that the system did not tell of is none of those that it did.
        let card = look("Some card", Some("0000:99:00.0"));
        let id = place(&mut machine, &[("gpu0", radeon)], &card);
        assert_eq!(id.as_deref(), Some("gpu1"));
        assert_eq!(address(&machine, "gpu1"), "0000:99:00.0");
    }

    #[test]
    fn a_program_is_never_taken_for_hardware() {
        let mut machine = recorded("ryzen-ai-hx-370");
        let program = Look {
            unified: true,
            software: true,
            ..look("llvmpipe", None)
        };
        let id = place(&mut machine, &[], &program).expect("is new");
        assert_eq!(id, "gpu1");
        let added = machine.processors.last().expect("was added");
        assert_eq!(added.profile.memory_pool, MemoryPool::Shared);
    }
}
