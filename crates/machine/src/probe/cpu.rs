//! The processor: its names, cores, caches and instruction sets.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Cache, CoreKind, Cpu};

use super::board::Soc;
use super::notes::Notes;
use super::root::Root;
use super::{arm, topology};

/// Processors that are looked at; the largest machines have a few thousand.
const PROCESSORS_MAX: usize = 8192;

/// Instruction sets that matter to us, as Linux spells them: of x86, then of Arm.
const FEATURES: [&str; 28] = [
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
    "asimd",
    "asimdhp",
    "asimdfhm",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "svei8mm",
    "svebf16",
    "sme",
    "sme2",
    "smei16i64",
];

/// The blocks of `/proc/cpuinfo`, one for each processor.
#[derive(Debug)]
pub(super) struct CpuInfo(Vec<BTreeMap<String, String>>);

impl CpuInfo {
    pub(super) fn parse(text: &str) -> Self {
        let mut blocks: Vec<BTreeMap<String, String>> = Vec::new();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let key = key.trim();
            if key == "processor" {
                if blocks.len() == PROCESSORS_MAX {
                    break;
                }
                blocks.push(BTreeMap::new());
            }
            if let Some(block) = blocks.last_mut() {
                block.insert(key.to_owned(), value.trim().to_owned());
            }
        }
        Self(blocks)
    }

    /// A value of the first processor that tells it.
    pub(super) fn first(&self, key: &str) -> Option<&str> {
        let mut values = self.0.iter().filter_map(|block| block.get(key));
        values.find(|value| !value.is_empty()).map(|value| &**value)
    }

    /// The processors by number, with what is told of each.
    pub(super) fn processors(&self) -> impl Iterator<Item = (u32, &BTreeMap<String, String>)> {
        let number =
            |block: &BTreeMap<String, String>| block.get("processor").and_then(|n| n.parse().ok());
        self.0
            .iter()
            .filter_map(move |block| Some((number(block)?, block)))
    }

    fn architecture(&self) -> &'static str {
        if self.first("flags").is_some() {
            "x86_64"
        } else if self.first("CPU implementer").is_some() {
            "aarch64"
        } else if self.first("isa").is_some() {
            "riscv64"
        } else {
            "unknown"
        }
    }
}

/// Reads the processor.
pub(super) fn read(root: &Root, soc: Option<&Soc>, notes: &mut Notes) -> Cpu {
    let info = CpuInfo::parse(&root.text("/proc/cpuinfo").unwrap_or_default());
    let topology = topology::read(root, &info);
    if topology.kinds.is_empty() {
        notes.add(
            "cpu.cores",
            "neither /proc/cpuinfo nor /sys/devices/system/cpu can be read",
            "",
        );
    }
    let architecture = match info.architecture() {
        "unknown" if root.is_real() => std::env::consts::ARCH,
        architecture => architecture,
    };
    let model = match info.first("model name") {
        Some(name) => Some(name.to_owned()),
        None => arm_model(&info, soc),
    };
    if model.is_none() {
        notes.add("cpu.model", "the processor does not name itself", "");
    }
    let caches = caches(root, &topology.numbers);
    if caches.is_empty() {
        notes.add("cpu.caches", "the kernel does not describe them", "");
    }
    Cpu {
        model,
        vendor: vendor(&info),
        architecture: architecture.to_owned(),
        packages: topology.packages,
        cores: topology.kinds,
        caches,
        features: features(&info),
        virtual_machine: hypervisor(root, &info),
    }
}

fn vendor(info: &CpuInfo) -> Option<String> {
    if let Some(vendor) = info.first("vendor_id") {
        return Some(vendor.to_owned());
    }
    arm::designer(hex(info.first("CPU implementer")?)?).map(str::to_owned)
}

/// `Rockchip RK3588 (4 × Cortex-A55, 4 × Cortex-A76)`; Arm's processors have no name of their own.
fn arm_model(info: &CpuInfo, soc: Option<&Soc>) -> Option<String> {
    let mut cores: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, block) in info.processors() {
        let number = |key: &str| hex(block.get(key)?);
        if let (Some(designer), Some(part)) = (number("CPU implementer"), number("CPU part"))
            && let Some(name) = arm::core(designer, part)
        {
            *cores.entry(name).or_default() += 1;
        }
    }
    let cores: Vec<_> = cores
        .iter()
        .map(|(name, count)| format!("{count} × {name}"))
        .collect();
    match (soc, cores.is_empty()) {
        (Some(soc), true) => Some(soc.name.clone()),
        (Some(soc), false) => Some(format!("{} ({})", soc.name, cores.join(", "))),
        (None, true) => None,
        (None, false) => Some(cores.join(", ")),
    }
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

fn features(info: &CpuInfo) -> Vec<String> {
    let told = info.first("flags").or_else(|| info.first("Features"));
    let told: BTreeSet<&str> = told.unwrap_or_default().split_whitespace().collect();
    FEATURES
        .iter()
        .filter(|feature| told.contains(*feature))
        .map(|&feature| feature.to_owned())
        .collect()
}

/// The caches of the machine, equal ones counted.
fn caches(root: &Root, processors: &[u32]) -> Vec<Cache> {
    // A cache that several processors share is described by each of them.
    let mut instances: BTreeMap<(u32, String, u64), BTreeSet<String>> = BTreeMap::new();
    for number in processors {
        let directory = format!("/sys/devices/system/cpu/cpu{number}/cache");
        for index in root.list(&directory) {
            let file = |name: &str| format!("{directory}/{index}/{name}");
            let (Some(level), Some(kind), Some(bytes)) = (
                root.number(&file("level")),
                root.line(&file("type")),
                root.line(&file("size")).and_then(|size| cache_bytes(&size)),
            ) else {
                continue;
            };
            let shared = root.line(&file("shared_cpu_list"));
            instances
                .entry((level, kind.to_lowercase(), bytes))
                .or_default()
                .insert(shared.unwrap_or_else(|| number.to_string()));
        }
    }
    let caches = instances
        .into_iter()
        .map(|((level, kind, bytes), shared)| Cache {
            level,
            kind,
            bytes,
            count: shared.len().try_into().unwrap_or(u32::MAX),
        });
    caches.collect()
}

/// A size such as `2048K`.
fn cache_bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix('K') {
        Some(number) => (number, 1 << 10),
        None => match text.strip_suffix('M') {
            Some(number) => (number, 1 << 20),
            None => (text, 1),
        },
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The hypervisor, if this is a guest.
fn hypervisor(root: &Root, info: &CpuInfo) -> Option<String> {
    let is_guest = info
        .first("flags")
        .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    let clocks = root.line("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    let vendor = root.line("/sys/class/dmi/id/sys_vendor");
    let told = [
        root.line("/sys/hypervisor/type"),
        root.line("/proc/device-tree/hypervisor/compatible"),
        root.line("/proc/device-tree/compatible"),
        root.line("/sys/class/dmi/id/product_name"),
        vendor,
        clocks,
    ];
    const SIGNS: [(&str, &str); 13] = [
        ("kvm", "KVM"),
        ("QEMU", "KVM"),
        ("linux,dummy-virt", "KVM"),
        ("Firecracker", "KVM"),
        ("Google Compute Engine", "KVM"),
        ("Amazon EC2", "KVM"),
        ("OpenStack", "KVM"),
        ("VMware", "VMware"),
        ("VirtualBox", "VirtualBox"),
        ("Parallels", "Parallels"),
        ("Virtual Machine", "Hyper-V"),
        ("hyperv", "Hyper-V"),
        ("xen", "Xen"),
    ];
    let known = told.iter().flatten().find_map(|text| {
        let sign = SIGNS.iter().find(|(sign, _)| text.contains(sign));
        sign.map(|&(_, name)| name.to_owned())
    });
    match (is_guest, known) {
        (_, Some(name)) if is_guest || info.architecture() != "x86_64" => Some(name),
        (true, None) => Some("an unknown hypervisor".to_owned()),
        _ => None,
    }
}

/// A processor's name as the catalogue has it: without marks, clock, and the graphics that it has.
///
/// `Intel(R) Core(TM) Ultra 7 155H` is `Intel Core Ultra 7 155H`; `AMD RYZEN AI MAX+ 395 w/ Radeon 8060S` is
/// `AMD RYZEN AI MAX+ 395`, which the catalogue finds whatever its case.
pub(crate) fn plain_name(model: &str) -> String {
    let mut name = model.to_owned();
    for mark in ["(R)", "(TM)", "(r)", "(tm)", "®", "™"] {
        name = name.replace(mark, " ");
    }
    for end in [" w/ ", " with Radeon", " @ ", " ("] {
        if let Some(at) = name.find(end) {
            name.truncate(at);
        }
    }
    let words: Vec<&str> = name
        .split_whitespace()
        .filter(|word| !matches!(*word, "CPU" | "Processor" | "processor"))
        .filter(|word| !word.ends_with("-Core") && !word.ends_with("-Cores"))
        .collect();
    // `13th Gen Intel Core i7-1360P`.
    match words.as_slice() {
        [number, "Gen", rest @ ..] if number.ends_with("th") => rest.join(" "),
        words => words.join(" "),
    }
}

/// All physical cores.
pub(super) fn core_count(kinds: &[CoreKind]) -> u32 {
    kinds
        .iter()
        .fold(0, |sum, kind| sum.saturating_add(kind.cores))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_without_marks() {
        for (model, want) in [
            ("Intel(R) Core(TM) Ultra 7 155H", "Intel Core Ultra 7 155H"),
            (
                "AMD Ryzen AI 9 HX 370 w/ Radeon 890M",
                "AMD Ryzen AI 9 HX 370",
            ),
            ("13th Gen Intel(R) Core(TM) i7-1360P", "Intel Core i7-1360P"),
            ("AMD Ryzen 9 7950X 16-Core Processor", "AMD Ryzen 9 7950X"),
            (
                "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz",
                "Intel Xeon E5-2680 v4",
            ),
            (
                "AMD Ryzen 7 5700G with Radeon Graphics",
                "AMD Ryzen 7 5700G",
            ),
            ("Rockchip RK3588 (4 × Cortex-A55)", "Rockchip RK3588"),
            ("", ""),
        ] {
            assert_eq!(plain_name(model), want);
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, want) in [
            ("48K", Some(48 << 10)),
            ("24M", Some(24 << 20)),
            ("512", Some(512)),
            ("K", None),
            ("99999999999999999999K", None),
            ("18446744073709551615M", None),
        ] {
            assert_eq!(cache_bytes(text), want, "{text}");
        }
    }

    #[test]
    fn guests_are_told_from_hosts() {
        let guest = |files: &str| {
            let root = Root::recorded(files);
            read(&root, None, &mut Notes::default()).virtual_machine
        };
        let flags = "== /proc/cpuinfo\nprocessor : 0\nflags : fpu hypervisor avx2\n";
        let clock = "== /sys/devices/system/clocksource/clocksource0/available_clocksource\nkvm-clock tsc\n";
        assert_eq!(guest(&format!("{flags}{clock}")).as_deref(), Some("KVM"));
        assert_eq!(guest(flags).as_deref(), Some("an unknown hypervisor"));
        let host = "== /proc/cpuinfo\nprocessor : 0\nflags : fpu avx2\n";
        assert_eq!(
            guest(&format!("{host}== /sys/hypervisor/type\nxen\n")),
            None
        );
    }
}
