//! Which ways to run language models there are here: the one place where that is decided.
//!
//! For each NPU the way of its maker, or the reason why it leads nowhere; beside them what runs the same graphs on the
//! CPU or the GPU, for comparison and for development. This loads libraries; [`found`](crate::found) only looks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use troika_machine::Machine;

use crate::exec::Runtime;
use crate::found::{Chip, Finding, Libraries, Library, Maker, chips};
use crate::onnx::{Htp, Onnx, Place};
use crate::openvino::{OpenVino, Settings, Target};
use crate::{Absent, Backend, Error};

/// What poses as `npu0` where there is none, for development. Whoever sees it is told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    /// The best that this computer has: [`Self::Plugin`] where OpenVINO is installed, else [`Self::Rten`].
    Cpu,
    /// OpenVINO's NPU plugin, which does all as for an NPU and computes on the CPU.
    Plugin,
    /// Qualcomm's simulator: exact, and a thousand times slower than the chip.
    Simulator,
    /// Plain Rust.
    Rten,
}

/// A word that names no stand-in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` stands in for no NPU; `cpu`, `openvino`, `qnn-simulator` and `rten` do")]
pub struct UnknownStandIn {
    word: String,
}

impl FromStr for StandIn {
    type Err = UnknownStandIn;

    fn from_str(word: &str) -> Result<Self, UnknownStandIn> {
        match word {
            "cpu" => Ok(Self::Cpu),
            "openvino" => Ok(Self::Plugin),
            "qnn-simulator" => Ok(Self::Simulator),
            "rten" => Ok(Self::Rten),
            word => Err(UnknownStandIn {
                word: word.to_owned(),
            }),
        }
    }
}

/// A way to run language models.
#[derive(Clone)]
pub struct Offer {
    /// The NPU that it runs on, or that it stands in for: `npu0`.
    pub npu: Option<String>,
    /// The way.
    pub backend: Arc<dyn Backend>,
    /// Whether there is no NPU behind it.
    pub stands_in: bool,
    /// Whether nobody has tried it on a real chip.
    pub experimental: bool,
}

/// A way that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The NPU that it would run on.
    pub npu: Option<String>,
    /// What it would run by: `OpenVINO`.
    pub way: String,
    /// Why it does not.
    pub why: Absent,
    /// What would help; empty where nothing does.
    pub remedy: String,
}

/// All ways, those to NPUs first.
#[derive(Clone, Default, Serialize)]
pub struct Backends {
    /// Those that are open.
    pub offers: Vec<Offer>,
    /// Those that are not.
    pub refused: Vec<Refused>,
}

/// Finds all ways on a machine with these libraries. With a stand-in, that is its only NPU.
pub fn backends(libraries: &Libraries, machine: &Machine, stand_in: Option<StandIn>) -> Backends {
    let ways = Ways {
        libraries,
        runtime: Known::of(&libraries.onnxruntime).and_then(|library| {
            Runtime::load(&library.path, library.version.as_deref())
                .map_err(|error| Known::because(error, libraries.onnxruntime.name))
        }),
    };
    let mut found = Backends::default();
    match stand_in {
        Some(stand_in) => ways.standing_in(stand_in, &mut found),
        None => chips(machine)
            .iter()
            .for_each(|chip| ways.to_chip(chip, &mut found)),
    }
    ways.beside_npus(&mut found);
    found
}

impl Backends {
    /// The ways to NPUs.
    pub fn npus(&self) -> impl Iterator<Item = (&str, &Offer)> {
        let offers = self.offers.iter();
        offers.filter_map(|offer| Some((offer.npu.as_deref()?, offer)))
    }

    /// The way of this name, or to the NPU of this name. `npu` is the first NPU, `cpu` and `gpu` the best way to these.
    pub fn named(&self, word: &str) -> Option<&Offer> {
        let mut offers = self.offers.iter();
        match word {
            "npu" => offers.find(|offer| offer.npu.is_some()),
            "cpu" | "cpu0" => self.beside(&["openvino-cpu", "onnxruntime-cpu", "rten"]),
            "gpu" | "gpu0" => self.beside(&["openvino-gpu"]),
            word => offers
                .find(|offer| offer.npu.as_deref() == Some(word) || offer.backend.name() == word),
        }
    }

    fn beside(&self, names: &[&str]) -> Option<&Offer> {
        names.iter().find_map(|name| {
            let mut offers = self.offers.iter();
            offers.find(|offer| offer.npu.is_none() && offer.backend.name() == *name)
        })
    }

    /// All of them, for a [compiling process](crate::compile::serve).
    pub fn all(&self) -> Vec<Arc<dyn Backend>> {
        let offers = self.offers.iter();
        offers.map(|offer| Arc::clone(&offer.backend)).collect()
    }

    fn note(&mut self, npu: Option<&str>, way: &str, made: Result<Offer, Known>) {
        match made {
            Ok(offer) => self.offers.push(Offer {
                npu: npu.map(str::to_owned),
                ..offer
            }),
            Err(Known { why, remedy }) => self.refused.push(Refused {
                npu: npu.map(str::to_owned),
                way: way.to_owned(),
                why,
                remedy,
            }),
        }
    }
}

/// A reason, and what would help.
#[derive(Clone)]
struct Known {
    why: Absent,
    remedy: String,
}

impl Known {
    /// The library, or why it is absent.
    fn of(finding: &Finding) -> Result<&Library, Self> {
        finding.outcome.as_ref().map_err(|why| Self {
            why: why.clone(),
            remedy: finding.remedy().unwrap_or_default(),
        })
    }

    /// Why something does not work that was found.
    fn because(error: Error, name: &str) -> Self {
        let why = match error {
            Error::Absent(why) => why,
            other => Absent::Broken {
                name: name.to_owned(),
                why: other.to_string(),
            },
        };
        Self {
            remedy: why.remedy(),
            why,
        }
    }
}

struct Ways<'l> {
    libraries: &'l Libraries,
    runtime: Result<Runtime, Known>,
}

impl Ways<'_> {
    fn to_chip(&self, chip: &Chip, found: &mut Backends) {
        let blocked = chip.absent.as_ref().map(|why| Known {
            why: why.clone(),
            remedy: chip.remedy.clone(),
        });
        let way = match chip.maker {
            Maker::Intel => self.libraries.openvino.name,
            Maker::Qualcomm => self.libraries.qnn.name,
            Maker::Amd => self.libraries.vitisai.name,
            Maker::Apple => "Core ML",
            Maker::Other => "none",
        };
        let made = match (blocked, chip.maker) {
            (Some(known), _) => Err(known),
            (None, Maker::Intel) => self.openvino(Target::Npu, Settings::default()),
            (None, Maker::Qualcomm) => self.qualcomm(generation(chip), Place::Chip),
            (None, Maker::Amd) => self.amd(),
            (None, Maker::Apple | Maker::Other) => Err(Known {
                why: Absent::NoDriver {
                    why: format!("nothing here drives {}", chip.name),
                },
                remedy: String::new(),
            }),
        };
        found.note(Some(&chip.id), way, made);
    }

    fn standing_in(&self, stand_in: StandIn, found: &mut Backends) {
        let has_openvino = self.libraries.openvino.outcome.is_ok();
        let made = match stand_in {
            StandIn::Plugin => self.plugin(),
            StandIn::Cpu if has_openvino => self.plugin(),
            StandIn::Cpu | StandIn::Rten => Ok(Offer::of(Onnx::rten())),
            StandIn::Simulator => self.qualcomm(Htp::V73, Place::Simulator),
        };
        let made = made.map(|offer| Offer {
            stands_in: true,
            ..offer
        });
        found.note(Some("npu0"), &format!("the stand-in {stand_in}"), made);
    }

    fn plugin(&self) -> Result<Offer, Known> {
        self.openvino(Target::Npu, Settings::npu_plugin_on_cpu())
    }

    /// What runs the same graphs on other devices.
    fn beside_npus(&self, found: &mut Backends) {
        for (way, target) in [
            ("OpenVINO's CPU", Target::Cpu),
            ("OpenVINO's GPU", Target::Gpu),
        ] {
            found.note(None, way, self.openvino(target, Settings::default()));
        }
        let runtime = self.runtime.clone();
        let made = runtime.map(|runtime| Offer::of(Onnx::cpu(runtime)));
        found.note(None, "ONNX Runtime's CPU", made);
        found.offers.push(Offer::of(Onnx::rten()));
    }

    fn openvino(&self, target: Target, settings: Settings) -> Result<Offer, Known> {
        let finding = &self.libraries.openvino;
        let library = Known::of(finding)?;
        let made = OpenVino::new(&library.path, target, settings);
        made.map(Offer::of)
            .map_err(|error| Known::because(error, finding.name))
    }

    fn qualcomm(&self, htp: Htp, place: Place) -> Result<Offer, Known> {
        let qnn = Known::of(&self.libraries.qnn)?;
        let runtime = self.runtime.clone()?;
        Ok(Offer::of(Onnx::qualcomm(runtime, qnn, htp, place)))
    }

    fn amd(&self) -> Result<Offer, Known> {
        let vitisai = Known::of(&self.libraries.vitisai)?;
        let runtime = self.runtime.clone()?;
        Ok(Offer {
            experimental: true,
            ..Offer::of(Onnx::amd(runtime, vitisai))
        })
    }
}

/// The generation of a Qualcomm NPU. Laptops came with v73, until Snapdragon X2 brought v81.
fn generation(chip: &Chip) -> Htp {
    match chip.name.contains("X2") {
        true => Htp::V81,
        false => Htp::V73,
    }
}

impl Offer {
    fn of(backend: impl Backend + 'static) -> Self {
        Self {
            npu: None,
            backend: Arc::new(backend),
            stands_in: false,
            experimental: false,
        }
    }

    /// One line for people, which says what is no real NPU, or was never tried on one.
    pub fn description(&self) -> String {
        let description = self.backend.description();
        match (self.stands_in, self.experimental) {
            (true, _) => format!("stands in for an NPU: {description}"),
            (false, true) if !description.contains("experimental") => {
                format!("{description} (experimental)")
            }
            (false, _) => description,
        }
    }
}

impl fmt::Display for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Plugin => "openvino",
            Self::Simulator => "qnn-simulator",
            Self::Rten => "rten",
        })
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({:?}, {})", self.npu, self.backend.name())
    }
}

impl Serialize for Offer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Offer", 6)?;
        out.serialize_field("npu", &self.npu)?;
        out.serialize_field("backend", &self.backend.name())?;
        out.serialize_field("version", &self.backend.version())?;
        out.serialize_field("description", &self.description())?;
        out.serialize_field("stands_in", &self.stands_in)?;
        out.serialize_field("experimental", &self.experimental)?;
        out.end()
    }
}

impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Refused", 4)?;
        out.serialize_field("npu", &self.npu)?;
        out.serialize_field("way", &self.way)?;
        out.serialize_field("why", &self.why.to_string())?;
        out.serialize_field("remedy", &self.remedy)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use troika_machine::probe::{self, Root};

    use super::*;
    use crate::found::{Environment, Platform};

    fn recorded(name: &str) -> Machine {
        let path = format!(
            "{}/../machine/fixtures/{name}.tree",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(path).expect("is recorded");
        probe::read(&Root::recorded(&text))
    }

    fn nothing_installed() -> Libraries {
        Libraries::search(&Environment::empty(Platform::Linux))
    }

    #[test]
    fn without_libraries_every_npu_has_a_reason() {
        for (name, way) in [
            ("core-ultra-258v", "OpenVINO"),
            ("snapdragon-x-elite", "ONNX Runtime's QNN provider"),
            ("ryzen-ai-hx-370", "ONNX Runtime's VitisAI provider"),
            ("rk3588", "none"),
        ] {
            let found = backends(&nothing_installed(), &recorded(name), None);
            assert_eq!(found.npus().count(), 0, "{name}");
            let refused = &found.refused[0];
            assert_eq!(refused.npu.as_deref(), Some("npu0"), "{name}");
            assert_eq!(refused.way, way, "{name}");
            assert!(!refused.why.to_string().is_empty(), "{name}");
        }
        let none = backends(&nothing_installed(), &recorded("vm"), None);
        assert!(none.refused.iter().all(|refused| refused.npu.is_none()));
    }

    #[test]
    fn plain_rust_is_always_there_and_may_stand_in() {
        let vm = recorded("vm");
        let found = backends(&nothing_installed(), &vm, None);
        let cpu = found.named("cpu").expect("is in every build");
        assert_eq!(cpu.backend.name(), "rten");
        assert!(found.named("npu").is_none() && found.named("gpu").is_none());

        let found = backends(&nothing_installed(), &vm, Some(StandIn::Cpu));
        let (name, npu) = found.npus().next().expect("stands in");
        assert!(npu.stands_in && name == "npu0", "{npu:?}");
        assert!(npu.description().starts_with("stands in for an NPU"));
        let json = serde_json::to_value(&found).expect("is JSON");
        assert_eq!(json["offers"][0]["stands_in"], true);
        // A real one does not count beside it.
        let laptop = recorded("core-ultra-258v");
        let found = backends(&nothing_installed(), &laptop, Some(StandIn::Rten));
        assert_eq!(found.npus().count(), 1);
        assert!(found.refused.iter().all(|refused| refused.npu.is_none()));
    }

    #[test]
    fn a_stand_in_that_is_not_to_be_had_is_refused() {
        let found = backends(&nothing_installed(), &recorded("vm"), Some(StandIn::Plugin));
        assert_eq!(found.npus().count(), 0);
        assert!(matches!(found.refused[0].why, Absent::NoLibrary { .. }));
        for stand_in in [
            StandIn::Cpu,
            StandIn::Plugin,
            StandIn::Simulator,
            StandIn::Rten,
        ] {
            assert_eq!(stand_in.to_string().parse(), Ok(stand_in));
        }
        assert!("gpu".parse::<StandIn>().is_err());
    }
}
