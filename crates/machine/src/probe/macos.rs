//! A machine as macOS tells of it, by its own commands: `sysctl`, `system_profiler`, `pmset`, `vm_stat`.
//!
//! What the commands print is parsed by [`machine`], which runs and is tested everywhere; [`read`] runs them.

use serde_json::Value as Json;
use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};

use crate::model::{
    Battery, Cache, CoreKind, Cpu, Found, Machine, MemoryFacts, PowerSource, Processor,
};

use super::cpu::plain_name;
use super::notes::Notes;

/// What the commands printed; empty where one failed.
#[derive(Debug, Default)]
struct Printed {
    /// `sysctl -a`: `hw.memsize: 38654705664`.
    sysctl: String,
    /// `system_profiler -json SPHardwareDataType SPDisplaysDataType`.
    profiler: String,
    /// `pmset -g batt`.
    power: String,
    /// `vm_stat`.
    pages: String,
}

/// Asks the system.
#[cfg(target_os = "macos")]
pub(super) fn read() -> Machine {
    let run = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    machine(&Printed {
        sysctl: run("/usr/sbin/sysctl", &["-a"]),
        profiler: run(
            "/usr/sbin/system_profiler",
            &["-json", "SPHardwareDataType", "SPDisplaysDataType"],
        ),
        power: run("/usr/bin/pmset", &["-g", "batt"]),
        pages: run("/usr/bin/vm_stat", &[]),
    })
}

/// Where the power comes from now.
#[cfg(target_os = "macos")]
pub(super) fn power_now() -> (Option<PowerSource>, Vec<Battery>) {
    let output = std::process::Command::new("/usr/bin/pmset")
        .args(["-g", "batt"])
        .output();
    let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    power(&String::from_utf8_lossy(&text))
}

/// The machine of which the commands tell.
fn machine(printed: &Printed) -> Machine {
    let sysctl = Sysctl(&printed.sysctl);
    let profiler: Json = serde_json::from_str(&printed.profiler).unwrap_or_default();
    let mut notes = Notes::default();
    let hardware = &profiler["SPHardwareDataType"][0];
    let brand = sysctl
        .text("machdep.cpu.brand_string")
        .or_else(|| hardware["chip_type"].as_str())
        .map(str::to_owned);
    if brand.is_none() {
        notes.add("cpu.model", "sysctl does not tell it", "");
    }
    notes.add(
        "meters",
        "macOS tells watts to root only, by `powermetrics`",
        "",
    );
    let total: u64 = sysctl.number("hw.memsize").unwrap_or(0);
    let gpus = gpus(&profiler, total);
    // The catalogue tells Apple's chips of one name apart by the cores of their graphics.
    let chip = match (&brand, gpus.first().and_then(|gpu| gpu.profile.cores)) {
        (Some(brand), Some(cores)) if brand.starts_with("Apple") => {
            format!("{} ({cores}-core GPU)", plain_name(brand))
        }
        (Some(brand), _) => plain_name(brand),
        (None, _) => "unknown processor".to_owned(),
    };
    let is_apple = chip.starts_with("Apple");
    let cpu = cpu(&sysctl, brand);
    let mut processors = vec![part("cpu0", chip.clone(), DeviceKind::Cpu, is_apple, total)];
    processors[0].profile.cores =
        Some(super::cpu::core_count(&cpu.cores)).filter(|&cores| cores > 0);
    processors.extend(gpus);
    if is_apple {
        // Every processor of Apple's has one; the system names it nowhere.
        let mut npu = part(
            "npu0",
            "Apple Neural Engine".to_owned(),
            DeviceKind::Npu,
            true,
            total,
        );
        npu.profile.link = Some("soc".to_owned());
        processors.push(npu);
    }
    let (power_source, batteries) = power(&printed.power);
    Machine {
        version: Machine::VERSION,
        system: match sysctl.text("kern.osproductversion") {
            Some(version) => format!("macOS {version}"),
            None => "macOS".to_owned(),
        },
        product: hardware["machine_name"].as_str().map(|name| {
            match hardware["machine_model"].as_str() {
                Some(model) => format!("Apple {name} ({model})"),
                None => format!("Apple {name}"),
            }
        }),
        cpu,
        memory: MemoryFacts {
            total_bytes: total,
            available_bytes: available(&printed.pages),
            channels: None,
            kind: None,
            mega_transfers: None,
        },
        processors,
        power_source,
        batteries,
        meters: Vec::new(),
        unknown: notes.into_list(),
        measurements: Vec::new(),
    }
}

/// Lines such as `hw.memsize: 38654705664`.
struct Sysctl<'t>(&'t str);

impl<'t> Sysctl<'t> {
    fn text(&self, key: &str) -> Option<&'t str> {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))?;
        (!value.trim().is_empty()).then_some(value.trim())
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }
}

fn cpu(sysctl: &Sysctl<'_>, model: Option<String>) -> Cpu {
    // Level 0 is the fastest.
    let levels: u32 = sysctl.number("hw.nperflevels").unwrap_or(0);
    let names: &[&str] = match levels {
        0 | 1 => &["core"],
        _ => &["performance", "efficiency", "low-power"],
    };
    let mut cores: Vec<CoreKind> = Vec::new();
    let mut caches: Vec<Cache> = Vec::new();
    for level in 0..levels.min(8) {
        let number = |name: &str| sysctl.number(&format!("hw.perflevel{level}.{name}"));
        let Some(count) = number("physicalcpu") else {
            continue;
        };
        cores.push(CoreKind {
            name: names[(level as usize).min(names.len() - 1)].to_owned(),
            cores: count,
            threads: number("logicalcpu").unwrap_or(count),
            mhz_max: None,
        });
        let bytes = |name: &str| sysctl.number::<u64>(&format!("hw.perflevel{level}.{name}"));
        let shared = number("cpusperl2").filter(|&share| share > 0).unwrap_or(1);
        for (level, kind, name, count) in [
            (1, "data", "l1dcachesize", count),
            (1, "instruction", "l1icachesize", count),
            (2, "unified", "l2cachesize", count.div_ceil(shared)),
        ] {
            caches.extend(bytes(name).map(|bytes| Cache {
                level,
                kind: kind.to_owned(),
                bytes,
                count,
            }));
        }
    }
    if cores.is_empty()
        && let Some(count) = sysctl.number("hw.physicalcpu")
    {
        cores.push(CoreKind {
            name: "core".to_owned(),
            cores: count,
            threads: sysctl.number("hw.logicalcpu").unwrap_or(count),
            mhz_max: None,
        });
    }
    caches.sort_by_key(|cache| cache.level);
    let is_arm = sysctl.number::<u32>("hw.optional.arm64") == Some(1);
    Cpu {
        vendor: match is_arm {
            true => Some("Apple".to_owned()),
            false => sysctl.text("machdep.cpu.vendor").map(str::to_owned),
        },
        model,
        architecture: if is_arm { "aarch64" } else { "x86_64" }.to_owned(),
        packages: sysctl.number("hw.packages").unwrap_or(1),
        cores,
        caches,
        features: features(sysctl, is_arm),
        virtual_machine: (sysctl.number::<u32>("kern.hv_vmm_present") == Some(1))
            .then(|| "Apple's Virtualization".to_owned()),
    }
}

/// Instruction sets in the words of Linux.
fn features(sysctl: &Sysctl<'_>, is_arm: bool) -> Vec<String> {
    const ARM: [(&str, &str); 6] = [
        ("FEAT_FP16", "asimdhp"),
        ("FEAT_DotProd", "asimddp"),
        ("FEAT_I8MM", "i8mm"),
        ("FEAT_BF16", "bf16"),
        ("FEAT_SME", "sme"),
        ("FEAT_SME2", "sme2"),
    ];
    const X86: [(&str, &str); 4] = [
        ("avx1_0", "avx"),
        ("fma", "fma"),
        ("avx2_0", "avx2"),
        ("avx512f", "avx512f"),
    ];
    let has = |key: String| sysctl.number::<u32>(&key) == Some(1);
    let mut features: Vec<String> = Vec::new();
    if is_arm {
        features.push("asimd".to_owned());
        let told = ARM
            .iter()
            .filter(|(key, _)| has(format!("hw.optional.arm.{key}")));
        features.extend(told.map(|(_, name)| (*name).to_owned()));
    } else {
        let told = X86
            .iter()
            .filter(|(key, _)| has(format!("hw.optional.{key}")));
        features.extend(told.map(|(_, name)| (*name).to_owned()));
    }
    features
}

fn part(id: &str, name: String, kind: DeviceKind, is_apple: bool, total: u64) -> Processor {
    let mut profile = DeviceProfile::unknown(name, kind);
    profile.vendor = if is_apple { "apple" } else { "intel" }.to_owned();
    profile.memory_pool = MemoryPool::Shared;
    profile.memory = (total > 0).then_some(Bytes(total));
    Processor {
        id: id.to_owned(),
        profile,
        driver: None,
        pci_id: None,
        bus_address: None,
        found: Found::Ready,
    }
}

fn gpus(profiler: &Json, total: u64) -> Vec<Processor> {
    let displays = profiler["SPDisplaysDataType"].as_array();
    let gpus = displays
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(number, gpu)| {
            let model = gpu["sppci_model"].as_str()?;
            let is_apple = model.starts_with("Apple");
            let name = if is_apple {
                format!("{model} GPU")
            } else {
                model.to_owned()
            };
            let mut processor = part(
                &format!("gpu{number}"),
                name,
                DeviceKind::Gpu,
                is_apple,
                total,
            );
            let profile = &mut processor.profile;
            profile.cores = gpu["sppci_cores"]
                .as_str()
                .and_then(|cores| cores.parse().ok());
            match gpu["spdisplays_vram"].as_str() {
                // `8 GB`: a card's own.
                Some(vram) => {
                    profile.memory_pool = MemoryPool::Own;
                    profile.memory = vram
                        .strip_suffix(" GB")
                        .and_then(|gb| gb.parse::<u64>().ok()?.checked_mul(1 << 30))
                        .map(Bytes);
                }
                None => profile.link = Some("soc".to_owned()),
            }
            Some(processor)
        });
    gpus.collect()
}

/// `Mach Virtual Memory Statistics: (page size of 16384 bytes)` and lines such as `Pages free:   12345.`
fn available(pages: &str) -> Option<u64> {
    let size = pages.split_once("page size of ")?.1;
    let size: u64 = size.split_whitespace().next()?.parse().ok()?;
    let count = |name: &str| -> Option<u64> {
        let value = pages.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().trim_end_matches('.').parse().ok()
    };
    let free = count("Pages free:")?;
    let idle = count("Pages inactive:").unwrap_or(0);
    free.checked_add(idle)?.checked_mul(size)
}

/// `Now drawing from 'Battery Power'` and lines such as ` -InternalBattery-0 (id=1) 87%; discharging; …`.
fn power(text: &str) -> (Option<PowerSource>, Vec<Battery>) {
    let source = if text.contains("'Battery Power'") {
        Some(PowerSource::Battery)
    } else if text.contains("'AC Power'") {
        Some(PowerSource::Mains)
    } else {
        None
    };
    let batteries = text.lines().filter_map(|line| {
        let line = line.trim().strip_prefix('-')?;
        let (name, rest) = line.split_once(['\t', ' '])?;
        let mut parts = rest.split(';');
        let percent = parts
            .next()?
            .rsplit(['\t', ' '])
            .next()?
            .strip_suffix('%')?;
        Some(Battery {
            name: name.to_owned(),
            status: parts.next().unwrap_or("unknown").trim().to_lowercase(),
            charge_percent: percent.parse().ok(),
            capacity_wh: None,
            watts: None,
        })
    });
    (source, batteries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made up after what the commands print on an M3 Max.
    fn printed() -> Printed {
        Printed {
            sysctl: "\
kern.osproductversion: 15.1
kern.hv_vmm_present: 0
hw.memsize: 68719476736
hw.packages: 1
hw.physicalcpu: 16
hw.logicalcpu: 16
hw.nperflevels: 2
hw.perflevel0.physicalcpu: 12
hw.perflevel0.logicalcpu: 12
hw.perflevel0.l1dcachesize: 131072
hw.perflevel0.l2cachesize: 16777216
hw.perflevel0.cpusperl2: 6
hw.perflevel1.physicalcpu: 4
hw.perflevel1.logicalcpu: 4
hw.perflevel1.l2cachesize: 4194304
hw.perflevel1.cpusperl2: 4
hw.optional.arm64: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_SME: 0
machdep.cpu.brand_string: Apple M3 Max
"
            .to_owned(),
            profiler: r#"{
  "SPDisplaysDataType": [{"_name": "Apple M3 Max", "sppci_cores": "40", "sppci_model": "Apple M3 Max",
    "spdisplays_vendor": "sppci_vendor_Apple"}],
  "SPHardwareDataType": [{"chip_type": "Apple M3 Max", "machine_model": "Mac15,9", "machine_name": "MacBook Pro",
    "number_processors": "proc 16:12:4", "physical_memory": "64 GB"}]
}"#
            .to_owned(),
            power: "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=19267683)\t87%; discharging; 7:12 remaining present: true\n".to_owned(),
            pages: "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:  1000.\nPages inactive:  24.\n".to_owned(),
        }
    }

    #[test]
    fn a_laptop_is_read() {
        let machine = machine(&printed());
        assert_eq!(machine.system, "macOS 15.1");
        assert_eq!(
            machine.product.as_deref(),
            Some("Apple MacBook Pro (Mac15,9)")
        );
        let names: Vec<_> = machine
            .processors
            .iter()
            .map(|found| (&*found.id, &*found.profile.name))
            .collect();
        assert_eq!(
            names,
            [
                ("cpu0", "Apple M3 Max (40-core GPU)"),
                ("gpu0", "Apple M3 Max GPU"),
                ("npu0", "Apple Neural Engine"),
            ]
        );
        let cores: Vec<_> = machine
            .cpu
            .cores
            .iter()
            .map(|kind| (&*kind.name, kind.cores))
            .collect();
        assert_eq!(cores, [("performance", 12), ("efficiency", 4)]);
        assert_eq!(machine.cpu.features, ["asimd", "asimddp", "i8mm", "bf16"]);
        assert_eq!(machine.memory.available_bytes, Some(1024 * 16384));
        assert_eq!(machine.power_source, Some(PowerSource::Battery));
        assert_eq!(machine.batteries[0].charge_percent, Some(87.0));
        assert_eq!(
            machine
                .cpu
                .caches
                .iter()
                .filter(|cache| cache.level == 2)
                .count(),
            2
        );
    }

    #[test]
    fn commands_that_fail_leave_it_unknown() {
        let machine = machine(&Printed::default());
        assert_eq!(machine.processors.len(), 1);
        assert!(
            machine
                .unknown
                .iter()
                .any(|unknown| unknown.what == "cpu.model")
        );
        for end in 0..printed().profiler.len() {
            let _ = super::machine(&Printed {
                profiler: printed().profiler[..end].to_owned(),
                ..printed()
            });
        }
    }
}
