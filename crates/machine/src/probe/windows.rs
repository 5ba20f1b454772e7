//! A machine as Windows tells of it, by PowerShell: one script, one JSON object.
//!
//! [`machine`] parses it, runs and is tested everywhere; [`read`] runs the script.

use serde_json::Value as Json;
use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};

use crate::model::{
    Battery, Cache, CoreKind, Cpu, Found, Machine, MemoryFacts, PowerSource, Processor, Unknown,
};

use super::notes::Notes;
use super::{cpu, pci};

/// What is asked. The adapter's own figure for memory ends at 4 GB, so that comes from the driver's key in the registry.
#[cfg(target_os = "windows")]
const SCRIPT: &str = r"$ErrorActionPreference = 'SilentlyContinue'
$display = 'HKLM:\SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}'
@{
  system = Get-CimInstance Win32_OperatingSystem | Select-Object Caption, Version, FreePhysicalMemory
  computer = Get-CimInstance Win32_ComputerSystem | Select-Object Manufacturer, Model, TotalPhysicalMemory, HypervisorPresent
  cpu = @(Get-CimInstance Win32_Processor | Select-Object Name, Manufacturer, NumberOfCores, NumberOfLogicalProcessors, MaxClockSpeed, L2CacheSize, L3CacheSize)
  gpu = @(Get-CimInstance Win32_VideoController | Select-Object Name, PNPDeviceID, ConfigManagerErrorCode)
  npu = @(Get-CimInstance Win32_PnPEntity | Where-Object PNPClass -eq 'ComputeAccelerator' | Select-Object Name, PNPDeviceID, ConfigManagerErrorCode, Service)
  vram = @(Get-ChildItem $display | ForEach-Object { $key = Get-ItemProperty $_.PSPath; @{ name = $key.DriverDesc; bytes = $key.'HardwareInformation.qwMemorySize' } } | Where-Object { $_.bytes })
  memory = @(Get-CimInstance Win32_PhysicalMemory | Select-Object ConfiguredClockSpeed, SMBIOSMemoryType)
  battery = @(Get-CimInstance Win32_Battery | Select-Object DeviceID, BatteryStatus, EstimatedChargeRemaining)
} | ConvertTo-Json -Depth 4 -Compress";

/// Asks the system.
#[cfg(target_os = "windows")]
pub(super) fn read() -> Machine {
    let mut command = std::process::Command::new("powershell.exe");
    command.args(["-NoProfile", "-NonInteractive", "-Command", SCRIPT]);
    let printed = command
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    machine(&String::from_utf8_lossy(&printed))
}

/// The machine of which the script tells.
fn machine(printed: &str) -> Machine {
    let told: Json =
        serde_json::from_str(printed.trim_start_matches('\u{feff}')).unwrap_or_default();
    let mut notes = Notes::default();
    if told.is_null() {
        notes.add(
            "system",
            "PowerShell did not answer",
            "see whether `powershell.exe` runs",
        );
    }
    notes.add("cpu.features", "Windows does not list them", "");
    notes.add(
        "meters",
        "Windows offers none to programs",
        "a wall meter's readings can be given",
    );
    let cpu = processor(&told["cpu"], &told["computer"]);
    let total = told["computer"]["TotalPhysicalMemory"]
        .as_u64()
        .unwrap_or(0);
    let mut central = device(
        "cpu0",
        cpu.model
            .as_deref()
            .map_or_else(|| "unknown processor".to_owned(), cpu::plain_name),
        DeviceKind::Cpu,
    );
    central.profile.memory = (total > 0).then_some(Bytes(total));
    central.profile.memory_pool = MemoryPool::Shared;
    central.profile.cores = Some(cpu::core_count(&cpu.cores)).filter(|&cores| cores > 0);
    let mut processors = vec![central];
    for (kind, name) in [(DeviceKind::Gpu, "gpu"), (DeviceKind::Npu, "npu")] {
        let mut found: Vec<_> = list(&told[name])
            .filter_map(|row| on_bus(row, kind, &told["vram"]))
            .collect();
        found.sort_by_key(|found| found.profile.memory_pool == MemoryPool::Shared);
        for (number, mut found) in found.into_iter().enumerate() {
            found.id = format!("{name}{number}");
            if found.profile.memory_pool == MemoryPool::Shared {
                found.profile.memory = (total > 0).then_some(Bytes(total));
            }
            processors.push(found);
        }
    }
    let (power_source, batteries) = power(&told["battery"]);
    let kib = |value: &Json| value.as_u64()?.checked_mul(1024);
    Machine {
        version: Machine::VERSION,
        system: match (
            text(&told["system"]["Caption"]),
            text(&told["system"]["Version"]),
        ) {
            (Some(name), Some(version)) => {
                format!("{} {version}", name.trim_start_matches("Microsoft "))
            }
            _ => "Windows".to_owned(),
        },
        product: text(&told["computer"]["Model"]).map(|model| {
            match text(&told["computer"]["Manufacturer"]) {
                Some(maker) if !model.starts_with(&maker) => format!("{maker} {model}"),
                _ => model,
            }
        }),
        cpu,
        memory: memory(
            &told["memory"],
            total,
            kib(&told["system"]["FreePhysicalMemory"]),
        ),
        processors,
        power_source,
        batteries,
        meters: Vec::new(),
        unknown: unknown(notes),
    }
}

fn unknown(mut notes: Notes) -> Vec<Unknown> {
    notes.add("memory.channels", "Windows does not tell them", "");
    notes.into_list()
}

/// The rows of a list; PowerShell writes a list of one as that one in some versions.
fn list(value: &Json) -> impl Iterator<Item = &Json> {
    let rows: Vec<&Json> = match value {
        Json::Array(rows) => rows.iter().collect(),
        Json::Object(_) => vec![value],
        _ => Vec::new(),
    };
    rows.into_iter()
}

fn text(value: &Json) -> Option<String> {
    let text = value.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn number(value: &Json) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

fn processor(rows: &Json, computer: &Json) -> Cpu {
    let sum = |key: &str| {
        list(rows)
            .filter_map(|row| number(&row[key]))
            .fold(0, u32::saturating_add)
    };
    let first = list(rows).next().unwrap_or(&Json::Null);
    let model = text(&first["Name"]);
    let cores = sum("NumberOfCores");
    let is_arm = model
        .as_deref()
        .is_some_and(|name| name.contains("Snapdragon"));
    let cache = |level, key: &str| {
        let bytes = first[key]
            .as_u64()?
            .checked_mul(1024)
            .filter(|&bytes| bytes > 0)?;
        Some(Cache {
            level,
            kind: "unified".to_owned(),
            bytes,
            count: list(rows).count().try_into().unwrap_or(1),
        })
    };
    Cpu {
        vendor: text(&first["Manufacturer"]),
        architecture: if is_arm { "aarch64" } else { "x86_64" }.to_owned(),
        packages: list(rows).count().try_into().unwrap_or(1),
        cores: Vec::from_iter((cores > 0).then(|| CoreKind {
            name: "core".to_owned(),
            cores,
            threads: sum("NumberOfLogicalProcessors").max(cores),
            mhz_max: first["MaxClockSpeed"].as_f64(),
        })),
        caches: [cache(2, "L2CacheSize"), cache(3, "L3CacheSize")]
            .into_iter()
            .flatten()
            .collect(),
        features: Vec::new(),
        // The host of a virtual machine of Hyper-V runs on a hypervisor as well; its guests have this model.
        virtual_machine: (computer["HypervisorPresent"] == true
            && computer["Model"] == "Virtual Machine")
            .then(|| "Hyper-V".to_owned()),
        model,
    }
}

fn memory(modules: &Json, total_bytes: u64, available_bytes: Option<u64>) -> MemoryFacts {
    let speeds = list(modules).filter_map(|module| number(&module["ConfiguredClockSpeed"]));
    let kind = list(modules).find_map(|module| match module["SMBIOSMemoryType"].as_u64()? {
        26 => Some("DDR4"),
        30 => Some("LPDDR4"),
        34 => Some("DDR5"),
        35 => Some("LPDDR5"),
        _ => None,
    });
    MemoryFacts {
        total_bytes,
        available_bytes,
        channels: None,
        kind: kind.map(str::to_owned),
        mega_transfers: speeds.filter(|&speed| speed > 0).min(),
    }
}

fn device(id: &str, name: String, kind: DeviceKind) -> Processor {
    let word = name
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let mut profile = DeviceProfile::unknown(name, kind);
    if ["nvidia", "amd", "intel", "qualcomm"].contains(&&*word) {
        profile.vendor = word;
    }
    Processor {
        id: id.to_owned(),
        profile,
        driver: None,
        pci_id: None,
        bus_address: None,
        found: Found::Ready,
    }
}

/// A row of the adapters or the accelerators; `None` for what only shows pictures.
fn on_bus(row: &Json, kind: DeviceKind, vram: &Json) -> Option<Processor> {
    let told = text(&row["Name"])?;
    if told.contains("Basic Display") || told.contains("Remote Display") || told.contains("Hyper-V")
    {
        return None;
    }
    let place = text(&row["PNPDeviceID"]).unwrap_or_default();
    let hex = |key: &str, digits: usize| {
        let at = place.find(key)? + key.len();
        u32::from_str_radix(place.get(at..at + digits)?, 16).ok()
    };
    let id = hex("VEN_", 4).zip(hex("DEV_", 4));
    let identity = id.and_then(|(vendor, device)| pci::identity(vendor, device, hex("REV_", 2)));
    let is_in_soc = identity
        .as_ref()
        .map_or(kind == DeviceKind::Npu, |identity| identity.is_in_soc);
    let name = identity.map_or_else(|| cpu::plain_name(&told), |identity| identity.name);
    let mut processor = device("", name, kind);
    let profile = &mut processor.profile;
    if is_in_soc {
        profile.memory_pool = MemoryPool::Shared;
        profile.link = Some("soc".to_owned());
    } else {
        let row = list(vram).find(|row| row["name"] == *told);
        profile.memory = row.and_then(|row| row["bytes"].as_u64()).map(Bytes);
    }
    processor.driver = text(&row["Service"]);
    processor.pci_id = id.map(|(vendor, device)| format!("{vendor:04x}:{device:04x}"));
    if let Some(code @ 1..) = number(&row["ConfigManagerErrorCode"]) {
        processor.found = Found::Blocked {
            why: format!("the device manager reports code {code}"),
            remedy: "install the maker's driver, or enable the device in the device manager"
                .to_owned(),
        };
    }
    Some(processor)
}

fn power(rows: &Json) -> (Option<PowerSource>, Vec<Battery>) {
    // 1 is discharging, 4 and 5 are low and critical; 2 is on mains, 3 full, 6 to 9 charging.
    let batteries: Vec<_> = list(rows)
        .map(|row| Battery {
            name: text(&row["DeviceID"]).unwrap_or_else(|| "battery".to_owned()),
            status: match row["BatteryStatus"].as_u64() {
                Some(1 | 4 | 5) => "discharging",
                Some(2) => "on mains",
                Some(3) => "full",
                Some(6..=9) => "charging",
                _ => "unknown",
            }
            .to_owned(),
            charge_percent: row["EstimatedChargeRemaining"]
                .as_f64()
                .filter(|percent| (0.0..=100.0).contains(percent)),
            capacity_wh: None,
            watts: None,
        })
        .collect();
    let source = batteries.first().map(|battery| match &*battery.status {
        "discharging" => PowerSource::Battery,
        _ => PowerSource::Mains,
    });
    (source, batteries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made up after what the script prints on a laptop with two GPUs and an NPU.
    const PRINTED: &str = r#"{
  "system": {"Caption": "Microsoft Windows 11 Pro", "Version": "10.0.26100", "FreePhysicalMemory": 20971520},
  "computer": {"Manufacturer": "LENOVO", "Model": "21KS", "TotalPhysicalMemory": 34004668416, "HypervisorPresent": true},
  "cpu": [{"Name": "Intel(R) Core(TM) Ultra 7 155H", "Manufacturer": "GenuineIntel", "NumberOfCores": 16,
    "NumberOfLogicalProcessors": 22, "MaxClockSpeed": 1400, "L2CacheSize": 18432, "L3CacheSize": 24576}],
  "gpu": [
    {"Name": "Intel(R) Arc(TM) Graphics", "PNPDeviceID": "PCI\\VEN_8086&DEV_7D55&SUBSYS_22FB17AA&REV_08\\3&11583659&0&10", "ConfigManagerErrorCode": 0},
    {"Name": "NVIDIA GeForce RTX 4070 Laptop GPU", "PNPDeviceID": "PCI\\VEN_10DE&DEV_2860&SUBSYS_22FB17AA&REV_A1\\4&1&0&8", "ConfigManagerErrorCode": 0},
    {"Name": "Microsoft Basic Display Adapter", "PNPDeviceID": "ROOT\\BASICDISPLAY\\0000", "ConfigManagerErrorCode": 0}],
  "npu": {"Name": "Intel(R) AI Boost", "PNPDeviceID": "PCI\\VEN_8086&DEV_7D1D&SUBSYS_22FB17AA&REV_04\\3&11583659&0&58", "ConfigManagerErrorCode": 28, "Service": null},
  "vram": [{"name": "NVIDIA GeForce RTX 4070 Laptop GPU", "bytes": 8585740288}],
  "memory": [{"ConfiguredClockSpeed": 7467, "SMBIOSMemoryType": 35}, {"ConfiguredClockSpeed": 7467, "SMBIOSMemoryType": 35}],
  "battery": [{"DeviceID": "BAT0", "BatteryStatus": 2, "EstimatedChargeRemaining": 98}]
}"#;

    #[test]
    fn a_laptop_is_read() {
        let machine = machine(PRINTED);
        assert_eq!(machine.system, "Windows 11 Pro 10.0.26100");
        let names: Vec<_> = machine
            .processors
            .iter()
            .map(|found| (&*found.id, &*found.profile.name))
            .collect();
        assert_eq!(
            names,
            [
                ("cpu0", "Intel Core Ultra 7 155H"),
                ("gpu0", "NVIDIA GeForce RTX 4070 Laptop GPU"),
                ("gpu1", "Intel Arc Graphics (Meteor Lake)"),
                ("npu0", "Intel NPU 3720 (Meteor Lake)"),
            ]
        );
        assert_eq!(
            machine.processors[1].profile.memory,
            Some(Bytes(8_585_740_288))
        );
        assert!(
            matches!(&machine.processors[3].found, Found::Blocked { why, .. } if why.contains("28"))
        );
        assert_eq!(
            machine.cpu.virtual_machine, None,
            "the host of guests is none itself"
        );
        assert_eq!(machine.memory.kind.as_deref(), Some("LPDDR5"));
        assert_eq!(machine.power_source, Some(PowerSource::Mains));
    }

    #[test]
    fn no_answer_is_an_empty_machine() {
        assert_eq!(machine("").processors.len(), 1);
        for end in (0..PRINTED.len()).filter(|&end| PRINTED.is_char_boundary(end)) {
            let _ = machine(&PRINTED[..end]);
        }
        let _ = machine(
            r#"{"cpu": 5, "gpu": [[]], "npu": [{"Name": "x", "PNPDeviceID": "VEN_"}], "battery": "none"}"#,
        );
    }
}
