//! Graphics processors: cards and those in a processor, on PCI or on a board.

use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};

use crate::model::{Found, Processor};

use super::board::Soc;
use super::nodes;
use super::notes::Notes;
use super::pci::{self, Identity, PciDevice};
use super::root::Root;

/// Drivers of graphics that stand on a board and not on a bus.
const BOARD_DRIVERS: [&str; 15] = [
    "v3d",
    "panthor",
    "panfrost",
    "lima",
    "msm",
    "msm-mdss",
    "msm_mdss",
    "msm_dpu",
    "msm_dpu1",
    "adreno",
    "asahi",
    "apple-drm",
    "etnaviv",
    "powervr",
    "nvgpu",
];

/// A graphics processor on the bus. The number in its name is given later.
pub(super) fn on_bus(
    root: &Root,
    device: &PciDevice,
    identity: Identity,
    notes: &mut Notes,
) -> Processor {
    let told = nvidia_name(root, device);
    let mut profile = DeviceProfile::unknown(told.unwrap_or(identity.name), DeviceKind::Gpu);
    pci::vendor_word(device.vendor).clone_into(&mut profile.vendor);
    let memory = Memory::read(root, device);
    if identity.is_in_soc {
        profile.memory_pool = MemoryPool::Shared;
        profile.link = Some("soc".to_owned());
        // What firmware sets aside and what the driver may take of the rest.
        profile.memory = memory.shared();
    } else {
        profile.memory = memory.own;
        profile.link = pci::link(root, device);
    }
    profile.watts_limit = power_cap(root, device);
    if !identity.is_known && profile.name.contains(&device.id()) {
        notes.add(
            &format!("pci {}", device.id()),
            "no table names this device",
            "describe it in TROIKA_HOME/catalogue, or tell us its name",
        );
    }
    Processor {
        id: String::new(),
        profile,
        found: found(root, device),
        driver: device.driver.clone(),
        pci_id: Some(device.id()),
        bus_address: Some(device.address.clone()),
    }
}

/// The name that NVIDIA's driver tells; it knows variants that share a number.
fn nvidia_name(root: &Root, device: &PciDevice) -> Option<String> {
    let path = format!("/proc/driver/nvidia/gpus/{}/information", device.address);
    let text = root.text(&path).ok()?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("Model:"))?
        .trim();
    match name {
        "" | "Unknown" => None,
        name if name.starts_with("NVIDIA") => Some(name.to_owned()),
        name => Some(format!("NVIDIA {name}")),
    }
}

/// Memory as drivers tell it.
struct Memory {
    /// The device's own, or what firmware sets aside for it.
    own: Option<Bytes>,
    /// What it may take of the machine's.
    borrowed: Option<Bytes>,
}

impl Memory {
    fn read(root: &Root, device: &PciDevice) -> Self {
        let number = |name: &str| root.number(&device.file(name)).map(Bytes);
        Self {
            // amdgpu; some versions of i915 for its cards.
            own: number("mem_info_vram_total").or_else(|| number("lmem_total_bytes")),
            borrowed: number("mem_info_gtt_total"),
        }
    }

    fn shared(&self) -> Option<Bytes> {
        let sum = self.own?.0.checked_add(self.borrowed?.0)?;
        Some(Bytes(sum))
    }
}

/// The power that the card is limited to.
fn power_cap(root: &Root, device: &PciDevice) -> Option<f64> {
    let sensors = device.file("hwmon");
    let limit = |directory: String| root.number::<u64>(&format!("{directory}/power1_cap"));
    let own = root.list(&sensors).into_iter();
    let mut microwatts = own.filter_map(|name| limit(format!("{sensors}/{name}")));
    let found = microwatts.next().or_else(|| {
        let listed = root.list("/sys/class/hwmon").into_iter();
        let mut of_device = listed
            .map(|name| format!("/sys/class/hwmon/{name}"))
            .filter(|sensor| {
                root.canonical(&format!("{sensor}/device")).as_deref() == Some(&*device.directory)
            });
        limit(of_device.next()?)
    })?;
    (found > 0).then_some(found as f64 / 1e6)
}

fn found(root: &Root, device: &PciDevice) -> Found {
    let blocked = |why: String, remedy: &str| Found::Blocked {
        why,
        remedy: remedy.to_owned(),
    };
    let Some(driver) = device.driver.as_deref() else {
        let remedy = match device.vendor {
            0x10de => "install NVIDIA's driver, or load the module `nvidia`",
            0x1002 => "load the module `amdgpu`; it comes with Linux",
            0x8086 => "load the module `xe` or `i915`; they come with Linux",
            _ => "install the maker's driver",
        };
        return blocked("no driver is bound to it".to_owned(), remedy);
    };
    if driver.starts_with("vfio") || driver == "pci-stub" {
        return blocked(
            format!("it is set aside for a virtual machine ({driver})"),
            "bind it to its own driver again",
        );
    }
    let mut needed = nodes::of_device(root, "drm", "renderD", &device.directory);
    match driver {
        // The proprietary driver's own nodes; what is rendered goes through others.
        "nvidia" => needed = vec!["/dev/nvidiactl".to_owned()],
        "amdgpu" if root.is_real() && root.exists("/dev/kfd") => needed.push("/dev/kfd".to_owned()),
        _ => {}
    }
    nodes::all(needed.iter().map(|node| nodes::found(root, node)))
}

/// The graphics processor of a board, if there is one.
pub(super) fn on_board(root: &Root, soc: Option<&Soc>) -> Option<Processor> {
    let (driver, node) = board_driver(root)?;
    let name = match soc.and_then(|soc| soc.gpu.clone()) {
        Some(name) => name,
        None => format!("GPU ({driver})"),
    };
    let mut profile = DeviceProfile::unknown(name, DeviceKind::Gpu);
    vendor_of_board(&driver).clone_into(&mut profile.vendor);
    profile.memory_pool = MemoryPool::Shared;
    profile.link = Some("soc".to_owned());
    Some(Processor {
        id: String::new(),
        profile,
        found: node.map_or(Found::Ready, |node| nodes::found(root, &node)),
        driver: Some(driver),
        pci_id: None,
        bus_address: None,
    })
}

/// The driver of a board's graphics, and the node to use them by.
fn board_driver(root: &Root) -> Option<(String, Option<String>)> {
    let nodes = root.list("/sys/class/drm").into_iter();
    for name in nodes.filter(|name| nodes::is_numbered(name, "renderD")) {
        let device = format!("/sys/class/drm/{name}/device");
        let Some(driver) = root.link_name(&format!("{device}/driver")) else {
            continue;
        };
        // Cards on the bus have been seen; they are no part of the board.
        if BOARD_DRIVERS.contains(&&*driver) && !root.exists(&format!("{device}/vendor")) {
            let driver = if driver.starts_with("msm") {
                "msm".to_owned()
            } else {
                driver
            };
            return Some((driver, Some(format!("/dev/dri/{name}"))));
        }
    }
    // NVIDIA's boards have a driver of their own, which is none of the kernel's graphics drivers.
    let drivers = ["nvgpu", "gk20a"];
    drivers.iter().find_map(|driver| {
        let bound = root.list(&format!("/sys/bus/platform/drivers/{driver}"));
        let is_bound = bound
            .iter()
            .any(|name| name.contains("gpu") || name.contains("gv11b"));
        let node = root
            .exists("/dev/nvhost-gpu")
            .then(|| "/dev/nvhost-gpu".to_owned());
        is_bound.then(|| ((*driver).to_owned(), node))
    })
}

fn vendor_of_board(driver: &str) -> &'static str {
    match driver {
        "v3d" => "broadcom",
        "panthor" | "panfrost" | "lima" => "arm",
        "msm" | "adreno" => "qualcomm",
        "asahi" | "apple-drm" => "apple",
        "nvgpu" | "gk20a" => "nvidia",
        "etnaviv" => "vivante",
        "powervr" => "imagination",
        _ => "",
    }
}
