//! Schedulers that the real one is compared with.

use std::str::FromStr;

use troika_scheduler::UnknownName;

/// A scheduler that can be simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SchedulerKind {
    /// The real one.
    #[default]
    Troika,
    /// A model stays on the fastest device that it fits on; first come, first served.
    Static,
    /// The same on GPUs alone.
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
