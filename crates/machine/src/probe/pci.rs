//! Devices on the PCI bus, and the names of those that compute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;
use troika_base::DeviceKind;

use super::root::Root;

/// Devices that are looked at.
const DEVICES_MAX: usize = 4096;

/// A device on the bus.
#[derive(Clone, Debug)]
pub(super) struct PciDevice {
    /// `0000:01:00.0`.
    pub(super) address: String,
    /// Its directory, without links.
    pub(super) directory: String,
    pub(super) vendor: u32,
    pub(super) device: u32,
    revision: u32,
    /// Class, subclass and interface.
    class: u32,
    pub(super) driver: Option<String>,
}

/// What a device on the bus is to us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    /// The chip, as the catalogue has it.
    pub(super) name: String,
    pub(super) kind: DeviceKind,
    /// It is a part of the processor, and shares its memory.
    pub(super) is_in_soc: bool,
    /// The name is one of the table's, not made of numbers.
    pub(super) is_known: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    display_only: BTreeSet<String>,
    gpu: BTreeMap<String, String>,
    gpu_soc: BTreeMap<String, String>,
    npu_soc: BTreeMap<String, String>,
    npu: BTreeMap<String, String>,
    accelerator: BTreeMap<String, String>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    toml::from_str(include_str!("../../data/pci.toml"))
        .expect("the table of devices is TOML. This is a bug.")
});

impl PciDevice {
    /// Vendor and device as `10de:2204`.
    pub(super) fn id(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.device)
    }

    /// A file of the device's.
    pub(super) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// What the device is, if it computes.
    pub(super) fn identity(&self) -> Option<Identity> {
        identity(self.vendor, self.device, Some(self.revision)).or_else(|| self.by_class())
    }

    /// What its class says of a device that no table knows.
    fn by_class(&self) -> Option<Identity> {
        const DISPLAYS: [u32; 3] = [0x0300, 0x0302, 0x0380];
        const PROCESSING_ACCELERATOR: u32 = 0x1200;
        // On the first bus stands what is built in.
        let is_in_soc =
            self.address.starts_with("0000:00:") && matches!(self.vendor, 0x8086 | 0x1022);
        let class = self.class >> 8;
        let (kind, what) = if DISPLAYS.contains(&class) {
            if TABLE.display_only.contains(&format!("{:04x}", self.vendor)) {
                return None;
            }
            (DeviceKind::Gpu, "GPU")
        } else if class == PROCESSING_ACCELERATOR && is_in_soc {
            (DeviceKind::Npu, "NPU")
        } else if class == PROCESSING_ACCELERATOR {
            (DeviceKind::Accelerator, "accelerator")
        } else {
            return None;
        };
        let vendor = vendor_name(self.vendor).unwrap_or("Unknown");
        Some(Identity {
            name: format!("{vendor} {what} {}", self.id()),
            kind,
            is_in_soc,
            is_known: false,
        })
    }
}

/// What the table says of a device.
pub(crate) fn identity(vendor: u32, device: u32, revision: Option<u32>) -> Option<Identity> {
    let plain = format!("{vendor:04x}:{device:04x}");
    let exact = revision.map(|revision| format!("{plain}:{revision:02x}"));
    let sections = [
        (&TABLE.gpu, DeviceKind::Gpu, false),
        (&TABLE.gpu_soc, DeviceKind::Gpu, true),
        (&TABLE.npu_soc, DeviceKind::Npu, true),
        (&TABLE.npu, DeviceKind::Npu, false),
        (&TABLE.accelerator, DeviceKind::Accelerator, false),
    ];
    // A name for this revision before one for all.
    let keys = exact.iter().chain([&plain]);
    keys.flat_map(|key| sections.iter().map(move |section| (key, section)))
        .find_map(|(key, &(names, kind, is_in_soc))| {
            Some(Identity {
                name: names.get(key)?.clone(),
                kind,
                is_in_soc,
                is_known: true,
            })
        })
}

/// The vendor's word in the catalogue.
pub(super) fn vendor_word(vendor: u32) -> &'static str {
    match vendor {
        0x10de => "nvidia",
        0x1002 | 0x1022 => "amd",
        0x8086 | 0x1da3 => "intel",
        0x17cb => "qualcomm",
        0x1e60 => "hailo",
        0x1ac1 => "google",
        0x1e52 => "tenstorrent",
        0x1f9d => "axelera",
        0x1ed5 => "moorethreads",
        _ => "",
    }
}

fn vendor_name(vendor: u32) -> Option<&'static str> {
    Some(match vendor {
        0x10de => "NVIDIA",
        0x1002 | 0x1022 => "AMD",
        0x8086 | 0x1da3 => "Intel",
        0x17cb => "Qualcomm",
        0x1e60 => "Hailo",
        0x1ed5 => "Moore Threads",
        0x10ee => "Xilinx",
        0x19e5 => "Huawei",
        _ => return None,
    })
}

/// The devices on the bus, by address.
pub(super) fn devices(root: &Root) -> Vec<PciDevice> {
    const BUS: &str = "/sys/bus/pci/devices";
    let mut addresses = root.list(BUS);
    addresses.sort();
    let devices = addresses
        .into_iter()
        .take(DEVICES_MAX)
        .filter_map(|address| {
            let directory = root.canonical(&format!("{BUS}/{address}"))?;
            let hex = |name: &str| root.hex(&format!("{directory}/{name}"));
            // A slice of a device that is lent to guests is the device once more.
            if root.exists(&format!("{directory}/physfn")) {
                return None;
            }
            Some(PciDevice {
                vendor: hex("vendor")?,
                device: hex("device")?,
                revision: hex("revision").unwrap_or(0),
                class: hex("class").unwrap_or(0),
                driver: root.link_name(&format!("{directory}/driver")),
                address,
                directory,
            })
        });
    devices.collect()
}

/// How a card hangs on the machine: `pcie4x16`. The slowest and narrowest part of the way counts.
///
/// A card at rest lowers its clock, so the speed is the one that both ends are able to; lanes stay as they were trained.
pub(super) fn link(root: &Root, device: &PciDevice) -> Option<String> {
    let mut directory = &*device.directory;
    let mut generation: Option<u32> = None;
    let mut width: Option<u32> = None;
    // Above the last bridge stands the bus itself, which has no link.
    for _ in 0..32 {
        let file = |name: &str| format!("{directory}/{name}");
        let speed = root
            .line(&file("max_link_speed"))
            .as_deref()
            .and_then(pcie_generation);
        let lanes = root
            .number(&file("current_link_width"))
            .filter(|&lanes| lanes > 0);
        generation = least(generation, speed);
        width = least(width, lanes);
        directory = directory.rsplit_once('/')?.0;
        if !directory.contains("/pci") || !root.exists(&format!("{directory}/vendor")) {
            break;
        }
    }
    Some(format!(
        "pcie{}x{}",
        generation?,
        width.filter(|&lanes| lanes <= 32)?
    ))
}

fn least(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The generation of a speed such as `16.0 GT/s PCIe`.
fn pcie_generation(speed: &str) -> Option<u32> {
    let number = speed.split_whitespace().next()?;
    match number.parse::<f64>().ok()? {
        2.5 => Some(1),
        5.0 => Some(2),
        8.0 => Some(3),
        16.0 => Some(4),
        32.0 => Some(5),
        64.0 => Some(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_devices() {
        for (vendor, device, revision, want) in [
            (0x10de, 0x2204, None, "NVIDIA GeForce RTX 3090"),
            (0x10de, 0x2684, Some(0xa1), "NVIDIA GeForce RTX 4090"),
            (0x10de, 0x2757, None, "NVIDIA GeForce RTX 4090 Laptop GPU"),
            (0x10de, 0x2b85, None, "NVIDIA GeForce RTX 5090"),
            (0x1002, 0x744c, Some(0xc8), "AMD Radeon RX 7900 XTX"),
            (0x1002, 0x744c, Some(0xcc), "AMD Radeon RX 7900 XT"),
            (0x1002, 0x7550, Some(0xc0), "AMD Radeon RX 9070 XT"),
            (0x1002, 0x1586, Some(0xc1), "AMD Radeon 8060S"),
            (0x1002, 0x150e, Some(0xc1), "AMD Radeon 890M"),
            (0x1002, 0x150e, Some(0xd2), "AMD Radeon 880M"),
            (0x8086, 0xe20b, None, "Intel Arc B580"),
            (0x8086, 0x643e, None, "Intel NPU 4000 (Lunar Lake)"),
            (0x1022, 0x17f0, Some(0x11), "AMD XDNA 2 (Strix Halo)"),
            (0x1e60, 0x2864, None, "Hailo-8"),
        ] {
            let found = identity(vendor, device, revision).expect("is in the table");
            assert_eq!(found.name, want);
        }
        assert_eq!(identity(0x10de, 0xffff, None), None);
        // Which of several cards it is, an unknown revision does not tell.
        assert_eq!(identity(0x1002, 0x744c, Some(0x01)), None);
    }

    #[test]
    fn keys_are_as_they_are_asked_for() {
        let sections = [
            &TABLE.gpu,
            &TABLE.gpu_soc,
            &TABLE.npu_soc,
            &TABLE.npu,
            &TABLE.accelerator,
        ];
        let mut seen = BTreeSet::new();
        for key in sections.into_iter().flat_map(BTreeMap::keys) {
            let parts: Vec<&str> = key.split(':').collect();
            assert!(matches!(parts.len(), 2 | 3), "{key}");
            assert!(
                parts[..2].iter().all(|part| part.len() == 4)
                    && parts
                        .iter()
                        .all(|part| u32::from_str_radix(part, 16).is_ok())
                    && *key == key.to_lowercase(),
                "{key}"
            );
            assert!(seen.insert(key), "{key} stands twice");
        }
        assert!(seen.len() > 250);
    }

    #[test]
    fn links_are_as_fast_as_their_slowest_part() {
        let root = Root::recorded(
            "== /sys/bus/pci/devices/0000:01:00.0 -> ../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0\n\
             == /sys/devices/pci0000:00/0000:00:01.0/vendor\n0x8086\n\
             == /sys/devices/pci0000:00/0000:00:01.0/max_link_speed\n8.0 GT/s PCIe\n\
             == /sys/devices/pci0000:00/0000:00:01.0/current_link_width\n16\n\
             == /sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/vendor\n0x10de\n\
             == /sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/device\n0x2204\n\
             == /sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/class\n0x030000\n\
             == /sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/max_link_speed\n16.0 GT/s PCIe\n\
             == /sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/current_link_speed\n2.5 GT/s PCIe\n\
             == /sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/current_link_width\n4\n",
        );
        let devices = devices(&root);
        assert_eq!(devices.len(), 1);
        assert_eq!(link(&root, &devices[0]).as_deref(), Some("pcie3x4"));
        assert_eq!(pcie_generation("Unknown"), None);
    }

    #[test]
    fn unknown_devices_go_by_their_class() {
        let mut device = PciDevice {
            address: "0000:01:00.0".to_owned(),
            directory: String::new(),
            vendor: 0x10de,
            device: 0xffff,
            revision: 0,
            class: 0x03_02_00,
            driver: None,
        };
        let found = device.identity().expect("is a display");
        assert_eq!(
            (&*found.name, found.is_known),
            ("NVIDIA GPU 10de:ffff", false)
        );
        device.class = 0x02_00_00;
        assert_eq!(device.identity(), None);
        (device.vendor, device.class) = (0x1af4, 0x03_80_00);
        assert_eq!(
            device.identity(),
            None,
            "a guest's display computes nothing"
        );
        (device.vendor, device.class) = (0x10ee, 0x12_00_00);
        assert_eq!(
            device.identity().expect("computes").kind,
            DeviceKind::Accelerator
        );
    }
}
