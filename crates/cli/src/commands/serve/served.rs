//! What `troika serve` serves models on: this machine's devices, or those of one that it poses as.

use std::sync::Arc;

use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};
use troika_device::Device;
use troika_device_gpu::Offered;
use troika_device_npu::{NpuDevice, NpuOptions, Offer};
use troika_engine::CpuDevice;
use troika_machine::Machine;
use troika_machine::meter::{DeviceMeters, LogGauge};
use troika_planner::catalogue::Catalogue;
use troika_planner::import::MeterRows;
use troika_scheduler::{DeviceId, PoolFacts, PoolId};
use troika_server::{Around, HostDevice, Settings, ram_shared};
use troika_simulator::VirtualMachine;

use crate::commands::devices;
use crate::exit::WrongUse;
use crate::gpu::{self, GpuDevice, Layers};
use crate::home::Home;
use crate::machine::memory;
use crate::npu;
use crate::output::Console;

/// Of the machine's memory, one part in so many is for what models have cached that are away.
const PREFIX_SHARE: u64 = 16;

/// Devices, their memory, and what is around them.
pub(super) type Served = (Vec<HostDevice>, Vec<PoolFacts>, Around);

/// The processor and the NPUs, in the machine's memory, and GPUs in theirs.
///
/// # Errors
/// [`WrongUse`] if a variable about NPUs or GPUs has a word that means nothing.
pub(super) fn real(
    cpu: Arc<CpuDevice>,
    settings: &Settings,
    home: &Home,
    console: &Console,
) -> anyhow::Result<Served> {
    let mut machine = devices::known(home, console);
    let profile = profile(&machine, cpu.name(), DeviceKind::Cpu, || cpu.description());
    let (budget, reserve) = (settings.memory_budget, settings.reserve);
    let (pool, spare) = ram_shared(budget.map(Bytes), reserve.map(Bytes));
    let mut pools = vec![pool];
    let mut served = vec![HostDevice::new(
        Arc::clone(&cpu) as Arc<dyn Device>,
        profile,
        PoolId(0),
    )];
    if settings.gpu_models {
        gpus(
            &mut served,
            &mut pools,
            &cpu,
            &mut machine,
            (settings, home),
            console,
        )?;
    }
    if settings.npu_models {
        served.extend(npus(&machine, home, console)?);
    }
    let meters = meters(&machine, &served, settings);
    let around = Around {
        machine: Some(machine),
        meters: Some(Arc::new(meters)),
        spare,
        ..around(settings, home)
    };
    Ok((served, pools, around))
}

/// What is known of a processor of the machine.
fn profile(
    machine: &Machine,
    id: &str,
    kind: DeviceKind,
    description: impl FnOnce() -> String,
) -> DeviceProfile {
    let found = machine.processors.iter().find(|found| found.id == id);
    found.map_or_else(
        || DeviceProfile::unknown(description(), kind),
        |found| found.profile.clone(),
    )
}

/// Of a card's memory, one part in so many is for its driver and what is on the screen.
const CARD_RESERVE: u64 = 16;

/// The GPUs that have a driver, each with its memory; and one device of all cards and the processor, for models that
/// no card has room for.
fn gpus(
    served: &mut Vec<HostDevice>,
    pools: &mut Vec<PoolFacts>,
    cpu: &Arc<CpuDevice>,
    machine: &mut Machine,
    (settings, home): (&Settings, &Home),
    console: &Console,
) -> anyhow::Result<()> {
    let mut cards = Vec::new();
    for offered in gpu::offered(machine)? {
        let mut profile = profile(machine, offered.name(), DeviceKind::Gpu, || {
            offered.found().name.clone()
        });
        let is_card = !offered.found().caps.unified;
        profile.memory_pool = match is_card {
            true => MemoryPool::Own,
            false => MemoryPool::Shared,
        };
        let told = offered.memory().map(|memory| memory.total);
        profile.memory = profile.memory.or(told);
        let pool = match is_card {
            true => {
                pools.push(memory_of(&offered, &profile));
                PoolId(pools.len() as u16 - 1)
            }
            false => PoolId(0),
        };
        console.note(format_args!(
            "{}: {}",
            offered.name(),
            offered.description()
        ));
        let device = GpuDevice::alone(Arc::clone(&offered)).at_home(home);
        served.push(HostDevice::new(Arc::new(device), profile, pool));
        if is_card {
            cards.push((DeviceId(served.len() as u16 - 1), offered));
        }
    }
    if !cards.is_empty() {
        let layers = settings.gpu_layers.map_or(Layers::Auto, Layers::Count);
        let gpus = cards.iter().map(|(_, gpu)| Arc::clone(gpu)).collect();
        let whole = GpuDevice::with_cpu(gpus, Arc::clone(cpu), layers).at_home(home);
        let ids = cards.iter().map(|&(id, _)| id).chain([DeviceId(0)]);
        let parts = ids.map(|id| (id, &served[usize::from(id.0)]));
        let together = HostDevice::of_parts(Arc::new(whole), &parts.collect::<Vec<_>>());
        served.push(together);
    }
    Ok(())
}

/// A card's memory. Where neither driver nor data sheet tells it, whatever is loaded there finds out.
fn memory_of(gpu: &Offered, profile: &DeviceProfile) -> PoolFacts {
    let capacity = profile.memory.unwrap_or(Bytes(u64::MAX));
    PoolFacts {
        name: gpu.name().to_owned(),
        capacity,
        reserve: Bytes(capacity.0 / CARD_RESERVE),
    }
}

/// The NPUs that models can be compiled for; why another one is not among them is said.
fn npus(machine: &Machine, home: &Home, console: &Console) -> anyhow::Result<Vec<HostDevice>> {
    let backends = npu::backends(home, machine)?;
    for refused in &backends.refused {
        if let Some(name) = &refused.npu {
            let remedy = match &*refused.remedy {
                "" => String::new(),
                remedy => format!("; {remedy}"),
            };
            console.note(format_args!("{name} is not used: {}{remedy}", refused.why));
        }
    }
    // One NPU may be reached in several ways; the first is the best.
    let mut served: Vec<HostDevice> = Vec::new();
    for offer in &backends.offers {
        let Some(name) = &offer.npu else {
            continue;
        };
        if served.iter().all(|other| other.facts.name != *name) {
            served.push(npu(name, offer, machine, home)?);
            console.note(format_args!("{name}: {}", offer.description()));
        }
    }
    Ok(served)
}

fn npu(name: &str, offer: &Offer, machine: &Machine, home: &Home) -> anyhow::Result<HostDevice> {
    let backend = Arc::clone(&offer.backend);
    let (store, worker) = (npu::store(home)?, npu::worker()?);
    let options = NpuOptions::default();
    let n_ctx = options.n_ctx;
    let (slots, abilities) = (backend.slots(), backend.abilities());
    let device = NpuDevice::new(name, backend, store, worker, options);
    let profile = profile(machine, name, DeviceKind::Npu, || device.description());
    let mut device = HostDevice::new(Arc::new(device), profile, PoolId(0));
    device.n_ctx_max = Some(n_ctx);
    device.facts.batch_max = slots;
    device.facts.moves = abilities.kv;
    device.facts.embeds = abilities.hidden;
    Ok(device)
}

/// What is around devices wherever they are: a home, and memory for what models have cached.
fn around(settings: &Settings, home: &Home) -> Around {
    Around {
        home: Some(home.path().to_owned()),
        prefix_files: settings.prefix_files,
        prefixes: Bytes(memory().map_or(0, |memory| memory.total.0 / PREFIX_SHARE)),
        ..Around::default()
    }
}

/// The machine's meters, those of the devices among them.
fn meters(machine: &Machine, devices: &[HostDevice], settings: &Settings) -> DeviceMeters {
    let log = settings.energy_log.as_deref().map(|path| {
        let mut rows = MeterRows::default();
        LogGauge::follow(path, Box::new(move |line| rows.watts(line)))
    });
    let meters = DeviceMeters::open(machine, log);
    for device in devices {
        tell_of_energy(device, &meters, settings);
    }
    meters
}

/// Says whether a device's energy is measured, estimated or unknown.
fn tell_of_energy(device: &HostDevice, meters: &DeviceMeters, settings: &Settings) {
    let name = &*device.facts.name;
    let mut coverage = meters.coverage().iter();
    let Some(found) = coverage.find(|coverage| coverage.device == name) else {
        return;
    };
    if found.basis.is_some() {
        let by = found.meters.join(", ");
        tracing::info!(device = name, %by, "energy is measured");
        return;
    }
    let (why, remedy) = (&*found.why, &*found.remedy);
    let profile = device.profiles.first();
    let has_watts =
        profile.is_some_and(|profile| profile.watts_busy.or(profile.watts_limit).is_some());
    if has_watts {
        tracing::info!(
            device = name,
            why,
            remedy,
            "energy is estimated from watts and seconds"
        );
    } else if settings.energy_budget_wh.is_some() {
        tracing::warn!(
            device = name,
            why,
            remedy,
            "`energy_budget_wh` has no effect: nobody knows what the device uses"
        );
    } else {
        tracing::info!(device = name, why, remedy, "energy is not known");
    }
}

/// The devices of a machine of the catalogue, whose answers this one's processor computes.
///
/// # Errors
/// [`WrongUse`] if there is none of this name.
pub(super) fn posing(
    name: &str,
    cpu: &Arc<dyn Device>,
    settings: &Settings,
    home: &Home,
    console: &Console,
) -> anyhow::Result<Served> {
    let catalogue = Catalogue::with_user_rows(&home.path().join("catalogue"))?;
    let machine = VirtualMachine::named(name, &catalogue);
    let machine = machine.map_err(|error| WrongUse(format!("--virtual {name}: {error}")))?;
    let shown = machine
        .devices
        .iter()
        .filter(|facts| facts.parts.is_empty());
    let shown: Vec<_> = shown
        .map(|facts| format!("{} ({})", facts.name, facts.chip))
        .collect();
    console.note(format_args!(
        "Poses as {name}: {}. These devices are virtual: this computer's processor computes their answers, which come \
         when they would come there, or later where it is slower. Joules are estimates.",
        shown.join(", ")
    ));
    for note in &machine.notes {
        console.note(format_args!("Note: {note}"));
    }
    let devices = machine.devices.into_iter().zip(machine.hardware);
    let devices = devices
        .map(|(facts, hardware)| HostDevice::posing(Arc::clone(cpu), hardware.profiles, facts));
    let mut pools = machine.pools;
    if let Some(first) = pools.first_mut() {
        first.capacity = Bytes(settings.memory_budget.unwrap_or(u64::MAX)).min(first.capacity);
        first.reserve = settings.reserve.map_or(first.reserve, Bytes);
    }
    let around = Around {
        posing: Some(name.to_owned()),
        // What a machine uses that is not there is nothing of this one's day.
        home: None,
        ..around(settings, home)
    };
    Ok((devices.collect(), pools, around))
}
