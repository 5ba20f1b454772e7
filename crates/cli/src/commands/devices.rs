//! `troika devices`: what this computer is.

mod measure;

use crate::output::Console;

use measure::MeasureArgs;

/// Show what this computer is, and measure what it can do
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    measure: MeasureArgs,
}

pub(crate) fn run(args: &DevicesArgs, console: &Console) -> anyhow::Result<()> {
    let mut machine = seen();
    measure::run(&args.measure, &mut machine, console)
}

/// What little is known without looking.
fn seen() -> troika_machine::Machine {
    use troika_base::{DeviceKind, DeviceProfile};
    use troika_machine::{Cache, Cpu, Found, Machine, MemoryFacts, Processor};
    let memory = crate::machine::memory();
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let mut lines = info.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.split_once(':'));
        value.map(|(_, value)| value.trim().to_owned())
    };
    let cache = |level, bytes, count| Cache {
        level,
        kind: "unified".to_owned(),
        bytes,
        count,
    };
    Machine {
        version: Machine::VERSION,
        system: std::env::consts::OS.to_owned(),
        product: None,
        cpu: Cpu {
            model: field("model name"),
            vendor: field("vendor_id"),
            architecture: std::env::consts::ARCH.to_owned(),
            packages: 1,
            cores: Vec::new(),
            caches: vec![cache(2, 1 << 20, 2), cache(3, 32 << 20, 1)],
            features: field("flags")
                .unwrap_or_default()
                .split(' ')
                .map(str::to_owned)
                .collect(),
            virtual_machine: None,
        },
        memory: MemoryFacts {
            total_bytes: memory.map_or(0, |memory| memory.total.0),
            available_bytes: memory.map(|memory| memory.available.0),
            channels: None,
            kind: None,
            mega_transfers: None,
        },
        processors: vec![Processor {
            id: "cpu0".to_owned(),
            profile: DeviceProfile::unknown("cpu", DeviceKind::Cpu),
            driver: None,
            pci_id: None,
            bus_address: None,
            found: Found::Ready,
        }],
        power_source: None,
        batteries: Vec::new(),
        meters: Vec::new(),
        unknown: Vec::new(),
        measurements: Vec::new(),
    }
}
