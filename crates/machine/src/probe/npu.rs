//! Neural processors: in processors, on cards, on boards and on USB.

use troika_base::{DeviceKind, DeviceProfile, MemoryPool};

use crate::model::{Found, Processor};

use super::board::Soc;
use super::nodes;
use super::notes::Notes;
use super::pci::{self, Identity, PciDevice};
use super::root::Root;

/// A neural processor or accelerator on the bus.
pub(super) fn on_bus(
    root: &Root,
    device: &PciDevice,
    identity: Identity,
    notes: &mut Notes,
) -> Processor {
    if !identity.is_known {
        notes.add(
            &format!("pci {}", device.id()),
            "no table names this device",
            "describe it in TROIKA_HOME/catalogue, or tell us its name",
        );
    }
    let mut profile = DeviceProfile::unknown(identity.name, identity.kind);
    pci::vendor_word(device.vendor).clone_into(&mut profile.vendor);
    if identity.is_in_soc {
        profile.memory_pool = MemoryPool::Shared;
        profile.link = Some("soc".to_owned());
    } else {
        profile.link = pci::link(root, device);
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

fn found(root: &Root, device: &PciDevice) -> Found {
    let Some(driver) = device.driver.as_deref() else {
        let remedy = match (device.vendor, device.device) {
            (0x8086, _) => "load the module `intel_vpu`; it comes with Linux 6.3 and later",
            (0x1022, _) => {
                "load the module `amdxdna`; it comes with Linux 6.14 and later, or with AMD's XDNA driver"
            }
            (0x1e60, _) => "install Hailo's driver: the module `hailo_pci`",
            (0x1ac1, _) => "install Coral's driver: the modules `gasket` and `apex`",
            _ => "install the maker's driver",
        };
        return Found::Blocked {
            why: "no driver is bound to it".to_owned(),
            remedy: remedy.to_owned(),
        };
    };
    let nodes = match driver {
        "hailo" | "hailo_pci" | "hailo1x" => of_class(root, "hailo_chardev", "hailo", device),
        "apex" => of_class(root, "apex", "apex_", device),
        _ => {
            let nodes = nodes::of_device(root, "accel", "accel", &device.directory);
            if nodes.is_empty() && matches!(driver, "intel_vpu" | "amdxdna") {
                return Found::Blocked {
                    why: format!("{driver} is bound to it, but made no /dev/accel node"),
                    remedy: "the firmware may be missing: install linux-firmware, and see `dmesg`"
                        .to_owned(),
                };
            }
            nodes
        }
    };
    nodes::all(nodes.iter().map(|node| nodes::found(root, node)))
}

/// The nodes of a class of the driver's own: of this device, as far as that is told.
fn of_class(root: &Root, class: &str, prefix: &str, device: &PciDevice) -> Vec<String> {
    nodes::of_device(root, class, prefix, &device.directory)
}

/// The neural processor of a board, if there is one.
pub(super) fn on_board(root: &Root, soc: Option<&Soc>) -> Option<Processor> {
    let part = part_of_board(root)?;
    let known = soc.and_then(|soc| soc.npu.clone());
    let mut profile = DeviceProfile::unknown(known.unwrap_or(part.name), DeviceKind::Npu);
    part.vendor.clone_into(&mut profile.vendor);
    profile.memory_pool = MemoryPool::Shared;
    profile.link = Some("soc".to_owned());
    Some(Processor {
        id: String::new(),
        profile,
        driver: Some(part.driver.to_owned()),
        pci_id: None,
        bus_address: None,
        found: nodes::all(part.nodes.iter().map(|node| nodes::found(root, node))),
    })
}

/// A neural processor that stands on no bus.
struct Part {
    name: String,
    vendor: &'static str,
    driver: &'static str,
    nodes: Vec<String>,
}

fn part_of_board(root: &Root) -> Option<Part> {
    // Links of a driver's directory are the devices that it is bound to.
    let bound = |driver: &str| {
        let names = root.list(&format!("/sys/bus/platform/drivers/{driver}"));
        names.iter().any(|name| name.contains(".npu"))
    };
    if bound("rocket") {
        // One node for all cores; the device it hangs on is made up by the driver.
        let nodes = root.list("/sys/class/accel").into_iter();
        let nodes = nodes.filter(|name| nodes::is_numbered(name, "accel"));
        return Some(Part {
            name: "Rockchip NPU".to_owned(),
            vendor: "rockchip",
            driver: "rocket",
            nodes: nodes
                .take(1)
                .map(|name| format!("/dev/accel/{name}"))
                .collect(),
        });
    }
    if bound("RKNPU") {
        return Some(Part {
            name: "Rockchip NPU".to_owned(),
            vendor: "rockchip",
            driver: "RKNPU",
            nodes: Vec::new(),
        });
    }
    // The compute DSP takes jobs by remote calls. The audio DSP does too, but is none of ours.
    root.exists("/sys/class/misc/fastrpc-cdsp").then(|| Part {
        name: "Qualcomm Hexagon NPU".to_owned(),
        vendor: "qualcomm",
        driver: "fastrpc",
        nodes: vec!["/dev/fastrpc-cdsp".to_owned()],
    })
}

/// Neural processors on USB: Coral's, before and after its firmware is loaded.
pub(super) fn on_usb(root: &Root) -> Vec<Processor> {
    const BUS: &str = "/sys/bus/usb/devices";
    const CORAL: [(u32, u32); 2] = [(0x1a6e, 0x089a), (0x18d1, 0x9302)];
    let devices = root.list(BUS).into_iter().filter(|name| {
        let hex = |file: &str| root.hex(&format!("{BUS}/{name}/{file}"));
        match (hex("idVendor"), hex("idProduct")) {
            (Some(vendor), Some(product)) => CORAL.contains(&(vendor, product)),
            _ => false,
        }
    });
    let processors = devices.map(|name| {
        let mut profile = DeviceProfile::unknown("Google Coral USB Accelerator", DeviceKind::Npu);
        "google".clone_into(&mut profile.vendor);
        profile.link = Some("usb".to_owned());
        Processor {
            id: String::new(),
            profile,
            driver: None,
            pci_id: None,
            bus_address: Some(format!("usb {name}")),
            found: usb_found(root, &name),
        }
    });
    processors.collect()
}

fn usb_found(root: &Root, name: &str) -> Found {
    let number = |file: &str| root.number::<u32>(&format!("/sys/bus/usb/devices/{name}/{file}"));
    match (number("busnum"), number("devnum")) {
        (Some(bus), Some(device)) => {
            nodes::found(root, &format!("/dev/bus/usb/{bus:03}/{device:03}"))
        }
        _ => Found::Ready,
    }
}
