//! A machine as Linux tells of it, by the files of `/proc` and `/sys`.

use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};

use crate::model::{Cpu, Found, Machine, Processor};

use super::board::{self, Soc};
use super::memory::{self, Memory};
use super::notes::Notes;
use super::root::Root;
use super::{cpu, gpu, npu, pci, power};

/// Reads everything.
pub(super) fn read(root: &Root) -> Machine {
    let mut notes = Notes::default();
    let soc = board::soc(root);
    let cpu = cpu::read(root, soc, &mut notes);
    let memory = memory::read(root, &mut notes);
    let processors = processors(root, soc, &cpu, &memory, &mut notes);
    let supplies = power::supplies(root);
    let meters = power::meters(root, &processors, &supplies.batteries, &mut notes);
    Machine {
        version: Machine::VERSION,
        system: match root.line("/proc/sys/kernel/osrelease") {
            Some(release) => format!("Linux {release}"),
            None => "Linux".to_owned(),
        },
        product: board::product(root),
        cpu,
        memory: memory.facts,
        processors,
        power_source: supplies.source,
        batteries: supplies.batteries,
        meters,
        unknown: notes.into_list(),
    }
}

/// All devices: the processor, then those with the most memory of their own, then those that share.
fn processors(
    root: &Root,
    soc: Option<&Soc>,
    cpu: &Cpu,
    memory: &Memory,
    notes: &mut Notes,
) -> Vec<Processor> {
    let mut gpus = Vec::new();
    let mut npus = Vec::new();
    let mut accelerators = Vec::new();
    for device in pci::devices(root) {
        let Some(identity) = device.identity() else {
            continue;
        };
        match identity.kind {
            DeviceKind::Gpu => gpus.push(gpu::on_bus(root, &device, identity, notes)),
            DeviceKind::Accelerator => {
                accelerators.push(npu::on_bus(root, &device, identity, notes));
            }
            DeviceKind::Npu | DeviceKind::Cpu => {
                npus.push(npu::on_bus(root, &device, identity, notes));
            }
        }
    }
    gpus.extend(gpu::on_board(root, soc));
    npus.extend(npu::on_board(root, soc));
    npus.extend(npu::on_usb(root));
    // A card is what people mean by their GPU, wherever the one in the processor stands on the bus.
    gpus.sort_by_key(|gpu| gpu.profile.memory_pool == MemoryPool::Shared);
    let mut processors = vec![central(soc, cpu, memory)];
    for (name, mut found) in [("gpu", gpus), ("npu", npus), ("acc", accelerators)] {
        for (number, processor) in found.iter_mut().enumerate() {
            processor.id = format!("{name}{number}");
        }
        processors.extend(found);
    }
    share(&mut processors, memory, notes);
    processors
}

/// The processor as a device.
fn central(soc: Option<&Soc>, cpu: &Cpu, memory: &Memory) -> Processor {
    let name = match (soc, &cpu.model) {
        (Some(soc), _) => soc.name.clone(),
        (None, Some(model)) => cpu::plain_name(model),
        (None, None) => "unknown processor".to_owned(),
    };
    let mut profile = DeviceProfile::unknown(name, DeviceKind::Cpu);
    profile.vendor = cpu_vendor(cpu, &profile.name).to_owned();
    profile.memory = known(memory.facts.total_bytes);
    profile.memory_pool = MemoryPool::Shared;
    profile.bandwidth_peak_gbs = memory.peak_gbs;
    profile.cores = Some(cpu::core_count(&cpu.cores)).filter(|&cores| cores > 0);
    Processor {
        id: "cpu0".to_owned(),
        profile,
        driver: None,
        pci_id: None,
        bus_address: None,
        found: Found::Ready,
    }
}

fn known(bytes: u64) -> Option<Bytes> {
    (bytes > 0).then_some(Bytes(bytes))
}

/// The vendor's word in the catalogue.
fn cpu_vendor(cpu: &Cpu, name: &str) -> &'static str {
    let first = name.split_whitespace().next().unwrap_or_default();
    match (cpu.vendor.as_deref(), first) {
        (Some("GenuineIntel"), _) => "intel",
        (Some("AuthenticAMD"), _) => "amd",
        (Some("Apple"), _) | (_, "Apple") => "apple",
        (Some("Qualcomm"), _) | (_, "Qualcomm") => "qualcomm",
        (Some("Ampere"), _) => "ampere",
        (Some("NVIDIA"), _) | (_, "NVIDIA") => "nvidia",
        (_, "Rockchip") => "rockchip",
        (_, "Raspberry") => "broadcom",
        (Some("ARM"), _) => "arm",
        _ => "",
    }
}

/// Tells those that share the machine's memory how much that is, and notes whose memory is not known.
fn share(processors: &mut [Processor], memory: &Memory, notes: &mut Notes) {
    for processor in processors {
        let profile = &mut processor.profile;
        match profile.memory_pool {
            MemoryPool::Shared => {
                let all = known(memory.facts.total_bytes);
                profile.memory = profile.memory.or(all);
                profile.bandwidth_peak_gbs = profile.bandwidth_peak_gbs.or(memory.peak_gbs);
            }
            MemoryPool::Own if profile.memory.is_none() && profile.kind == DeviceKind::Gpu => {
                let why = match processor.driver.as_deref() {
                    Some("nvidia") => "NVIDIA's driver tells it by its library only",
                    Some(_) => "the driver does not tell it",
                    None => "without a driver nobody tells it",
                };
                notes.add(&format!("{}.memory", processor.id), why, "");
            }
            MemoryPool::Own => {}
        }
    }
}
