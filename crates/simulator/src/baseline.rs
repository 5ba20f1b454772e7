//! Schedulers that the real one is compared with.
//!
//! They stand for what runtimes do today: a model name means a device, jobs are served as they come, and nobody knows of
//! classes or watts.

mod fixed;

use std::fmt;
use std::str::FromStr;

use troika_base::DeviceKind;
use troika_scheduler::{Schedule, Scheduler, Settings, UnknownName};

use crate::machine::VirtualMachine;
use fixed::{Fixed, Rule};

/// A scheduler that can be simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SchedulerKind {
    /// The real one.
    #[default]
    Troika,
    /// What today's runtimes do: a model stays on a GPU if there is one that holds it, else on the processor; first come,
    /// first served.
    Static,
    /// A model stays on the fastest of the GPUs; first come, first served.
    GpuOnly,
    /// The same on NPUs alone.
    NpuOnly,
    /// The same on the processor alone.
    CpuOnly,
}

impl SchedulerKind {
    /// All of them, the real one first.
    pub const ALL: [Self; 5] = [
        Self::Troika,
        Self::Static,
        Self::GpuOnly,
        Self::NpuOnly,
        Self::CpuOnly,
    ];

    /// `troika`, `static`, `gpu-only`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::Troika => "troika",
            Self::Static => "static",
            Self::GpuOnly => "gpu-only",
            Self::NpuOnly => "npu-only",
            Self::CpuOnly => "cpu-only",
        }
    }

    /// Such a scheduler over a machine. `slots` are the sequences that a model serves side by side where it is not the real
    /// one.
    pub fn build(
        self,
        machine: &VirtualMachine,
        settings: &Settings,
        slots: usize,
    ) -> Box<dyn Schedule> {
        let rule = match self {
            Self::Troika => {
                let (devices, pools) = (machine.devices.clone(), machine.pools.clone());
                return Box::new(Scheduler::new(settings.clone(), devices, pools));
            }
            Self::Static => Rule::GpuElseCpu,
            Self::GpuOnly => Rule::Only(DeviceKind::Gpu),
            Self::NpuOnly => Rule::Only(DeviceKind::Npu),
            Self::CpuOnly => Rule::Only(DeviceKind::Cpu),
        };
        Box::new(Fixed::new(machine, settings, rule, slots))
    }

    /// Whether a machine has what such a scheduler uses.
    pub fn is_possible(self, machine: &VirtualMachine) -> bool {
        let has = |kind| machine.devices.iter().any(|device| device.kind == kind);
        match self {
            Self::GpuOnly => has(DeviceKind::Gpu),
            Self::NpuOnly => has(DeviceKind::Npu),
            _ => true,
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            UnknownName::new("scheduler", name, known)
        })
    }
}
