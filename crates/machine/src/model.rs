//! The types of `machine.json`.

use serde::{Deserialize, Serialize};
use troika_base::DeviceProfile;

use crate::measure::Measurement;

/// A fact that could not be had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unknown {
    /// `npu0.watts`, `memory.channels`.
    pub what: String,
    /// `the driver has no meter`, `reading needs root`.
    pub why: String,
    /// What would help; empty where nothing does.
    pub remedy: String,
}

/// A kind of core in a processor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CoreKind {
    /// `performance`, `efficiency`, `low-power`, or `core` where all are alike.
    pub name: String,
    /// Physical cores.
    pub cores: u32,
    /// Hardware threads.
    pub threads: u32,
    /// Highest clock.
    pub mhz_max: Option<f64>,
}

/// A cache level.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cache {
    /// 1, 2, 3.
    pub level: u32,
    /// `data`, `instruction`, `unified`.
    pub kind: String,
    /// Of one instance.
    pub bytes: u64,
    /// Instances in the machine.
    pub count: u32,
}

/// The processor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cpu {
    /// As it names itself.
    pub model: Option<String>,
    /// `GenuineIntel`, `AuthenticAMD`, `ARM`, ...
    pub vendor: Option<String>,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// Sockets.
    pub packages: u32,
    /// Kinds of cores, the fastest first.
    pub cores: Vec<CoreKind>,
    /// Caches, the smallest level first.
    pub caches: Vec<Cache>,
    /// Instruction sets that matter: `avx2`, `avx512f`, `avx512_vnni`, `amx_int8`, `asimddp`, `i8mm`, `sve`, `sme`.
    pub features: Vec<String>,
    /// The hypervisor, if this is a guest.
    pub virtual_machine: Option<String>,
}

/// Main memory.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MemoryFacts {
    /// All that the system has.
    pub total_bytes: u64,
    /// What a program can have now.
    pub available_bytes: Option<u64>,
    /// Channels in use.
    pub channels: Option<u32>,
    /// `DDR5`, `LPDDR5X`.
    pub kind: Option<String>,
    /// Transfers a second and channel, in 10⁶.
    pub mega_transfers: Option<u32>,
}

/// Whether a processor that was found can be used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Found {
    /// Yes, as far as can be told without asking it to work.
    Ready,
    /// It is there, but something is missing.
    Blocked {
        /// `no permission on /dev/accel/accel0`.
        why: String,
        /// `join the group render`.
        remedy: String,
    },
}

/// A device of the machine: `cpu0`, `gpu0`, `npu0`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Processor {
    /// Its name in every other command.
    pub id: String,
    /// What is known of it: the catalogue's facts where it is recognised, with what was read or measured here on top.
    pub profile: DeviceProfile,
    /// The kernel's driver.
    pub driver: Option<String>,
    /// Vendor and device number on the bus, as `8086:7d1d`.
    pub pci_id: Option<String>,
    /// Address on the bus: `0000:00:0b.0`.
    pub bus_address: Option<String>,
    /// Usable or not.
    pub found: Found,
}

/// A battery.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Battery {
    /// `BAT0`.
    pub name: String,
    /// `charging`, `discharging`, `full`, ...
    pub status: String,
    /// 0 to 100.
    pub charge_percent: Option<f64>,
    /// What it holds when full, now.
    pub capacity_wh: Option<f64>,
    /// What it gives or takes now.
    pub watts: Option<f64>,
}

/// Where the power comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerSource {
    /// The wall.
    Mains,
    /// A battery.
    Battery,
}

/// What a meter is read by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterKind {
    /// Intel's and AMD's energy counters.
    Rapl,
    /// NVIDIA's management library.
    Nvml,
    /// A sensor of the kernel's.
    Hwmon,
    /// The battery's own.
    Battery,
}

/// Something that tells watts or joules.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Meter {
    /// How it is read.
    pub kind: MeterKind,
    /// What it covers: `package-0`, `gpu0`, `system`.
    pub covers: String,
    /// Where it is: a path, or a device's number.
    pub place: String,
    /// Whether we may read it.
    pub found: Found,
}

/// Everything known of this computer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Version of this form; see [`Machine::VERSION`].
    pub version: u32,
    /// Linux, Windows, macOS, with the kernel's version.
    pub system: String,
    /// As the maker named it: `Framework Laptop 13`.
    pub product: Option<String>,
    /// The processor.
    pub cpu: Cpu,
    /// The memory.
    pub memory: MemoryFacts,
    /// Devices, `cpu0` first.
    pub processors: Vec<Processor>,
    /// Mains or battery; absent on machines that do not tell.
    pub power_source: Option<PowerSource>,
    /// Batteries.
    pub batteries: Vec<Battery>,
    /// Meters.
    pub meters: Vec<Meter>,
    /// What could not be had, with the reason.
    pub unknown: Vec<Unknown>,
    /// What was measured here; the newest of its kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
}

impl Machine {
    /// The version of the form that this program writes and reads.
    pub const VERSION: u32 = 1;
}
