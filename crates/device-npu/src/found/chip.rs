//! The NPUs of a machine, as its probe has found them, and whether they can be reached.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use troika_base::DeviceKind;
use troika_machine::{Found, Machine, Processor};

use crate::Absent;

/// Who makes an NPU; each is driven in a way of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// By OpenVINO.
    Intel,
    /// By ONNX Runtime's QNN provider.
    Qualcomm,
    /// By ONNX Runtime's VitisAI provider.
    Amd,
    /// Not yet.
    Apple,
    /// Nobody drives it here.
    Other,
}

/// An NPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chip {
    /// `npu0`
    pub id: String,
    /// `Intel NPU 4000 (Lunar Lake)`
    pub name: String,
    /// Who makes it.
    pub maker: Maker,
    /// The kernel's driver.
    pub driver: Option<String>,
    /// Vendor and device number on the bus: `8086:643e`.
    pub pci_id: Option<String>,
    /// Why it cannot be used, if so.
    #[serde(serialize_with = "reason")]
    pub absent: Option<Absent>,
    /// What would help then; empty where nothing does.
    pub remedy: String,
}

/// The NPUs of a machine, in the order of their names.
pub fn chips(machine: &Machine) -> Vec<Chip> {
    let processors = machine.processors.iter();
    processors
        .filter(|processor| processor.profile.kind == DeviceKind::Npu)
        .map(Chip::of)
        .collect()
}

impl Chip {
    fn of(processor: &Processor) -> Self {
        let (absent, remedy) = match &processor.found {
            Found::Ready => (None, String::new()),
            Found::Blocked { why, remedy } => (Some(absent(why)), remedy.clone()),
        };
        Self {
            id: processor.id.clone(),
            name: processor.profile.name.clone(),
            maker: Maker::named(&processor.profile.vendor),
            driver: processor.driver.clone(),
            pci_id: processor.pci_id.clone(),
            absent,
            remedy,
        }
    }
}

/// The probe's reason as one of ours.
fn absent(why: &str) -> Absent {
    match why.strip_prefix("no permission on ") {
        Some(node) => Absent::NoPermission {
            node: PathBuf::from(node),
        },
        None => Absent::NoDriver {
            why: why.to_owned(),
        },
    }
}

impl Maker {
    fn named(vendor: &str) -> Self {
        match vendor {
            "intel" => Self::Intel,
            "qualcomm" => Self::Qualcomm,
            "amd" => Self::Amd,
            "apple" => Self::Apple,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Intel => "Intel",
            Self::Qualcomm => "Qualcomm",
            Self::Amd => "AMD",
            Self::Apple => "Apple",
            Self::Other => "another maker's",
        })
    }
}

impl Serialize for Maker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Intel => "intel",
            Self::Qualcomm => "qualcomm",
            Self::Amd => "amd",
            Self::Apple => "apple",
            Self::Other => "other",
        })
    }
}

fn reason<S: Serializer>(absent: &Option<Absent>, serializer: S) -> Result<S::Ok, S::Error> {
    absent
        .as_ref()
        .map(ToString::to_string)
        .serialize(serializer)
}
