//! Everything that comes into question: this machine, what the catalogue sells and rents, pairs and hybrids.
//!
//! A [`Rig`] is devices and how they share the work; forecasts are made of rigs. A [`Candidate`] is a way to come by one. Many
//! offers rent the same rig, so rigs are kept apart and forecast once.

use std::collections::HashMap;
use std::ops::Range;

use serde::Serialize;
use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};

use super::build::{self, Outlay};
use super::chip;
use crate::catalogue::{Block, Catalogue, Chip, Class, Kind, Offer, Part, PartKind};
use crate::cost::{Backend, Calibration, Setup, Slot, Split};

/// A device of this machine.
#[derive(Clone, Debug)]
pub struct HereDevice {
    /// `cpu0`, `gpu0`, `npu0`.
    pub id: String,
    /// What is known of it.
    pub profile: DeviceProfile,
    /// Memory that others leave for it, where that is known.
    pub memory_free: Option<Bytes>,
    /// How its speeds stand to the model's, where it was measured.
    pub calibration: Option<Calibration>,
    /// Why it cannot be used, if it cannot.
    pub blocked: Option<String>,
}

/// This machine, as far as a plan needs it.
#[derive(Clone, Debug)]
pub struct Here {
    /// What to call it.
    pub name: String,
    /// Its devices, `cpu0` first.
    pub devices: Vec<HereDevice>,
    /// Whether it has a battery.
    pub has_battery: bool,
}

/// How a candidate is come by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// It is here.
    Here,
    /// It is bought.
    Buy,
    /// It is rented.
    Rent,
    /// It is here or bought for what is always there, and rented for the peaks.
    BuyAndRent,
}

impl Place {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Buy => "buy",
            Self::Rent => "rent",
            Self::BuyAndRent => "buy+rent",
        }
    }
}

/// How the devices of a rig share the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// One model over all of them.
    Split(Split),
    /// The first reads prompts, the second writes answers; each holds the model in its own form.
    Phases,
}

/// Devices, and how they share the work.
#[derive(Clone, Debug)]
pub struct Rig {
    /// What to call it.
    pub name: String,
    /// The devices, the fastest first, each with the memory that it may take where that is not all.
    pub devices: Vec<(DeviceProfile, Option<Bytes>)>,
    /// How they share the work.
    pub sharing: Sharing,
    /// 10⁹ bytes a second between them.
    pub link_gbs: Option<f64>,
    /// The memory that its devices share, where they do: what each holds comes out of it.
    pub pool: Option<Bytes>,
    /// How measured speeds stand to the cost model's, where they were measured.
    pub calibration: Option<Calibration>,
    /// The software that is taken to drive it.
    pub engine: &'static str,
}

/// What runs on this machine.
const ENGINE_HERE: &str = "troika";
/// What runs elsewhere, and what where matrices are split.
const ENGINE: &str = "llama.cpp";
const ENGINE_TENSORS: &str = "vllm";

impl Rig {
    fn single(name: String, device: DeviceProfile) -> Self {
        Self {
            name,
            devices: vec![(device, None)],
            sharing: Sharing::Split(Split::Layers),
            link_gbs: None,
            pool: None,
            calibration: None,
            engine: ENGINE,
        }
    }

    /// Some of its devices as a setup for the cost model.
    pub(super) fn setup(&self, devices: Range<usize>, backend: Option<Backend>) -> Setup<'_> {
        Setup {
            slots: self.devices[devices]
                .iter()
                .map(|(device, memory_free)| Slot {
                    device,
                    memory_free: *memory_free,
                })
                .collect(),
            split: match self.sharing {
                Sharing::Split(split) => split,
                Sharing::Phases => Split::Layers,
            },
            link_gbs: self.link_gbs,
            backend,
            engine: self.engine.to_owned(),
        }
    }
}

/// A way to come by a rig.
#[derive(Clone, Debug)]
pub struct Candidate<'c> {
    /// What to call it; no two share one.
    pub name: String,
    /// How it is come by.
    pub place: Place,
    /// Its rig's number in [`Field::rigs`].
    pub rig: usize,
    /// The blocks of catalogue chips that work in it.
    pub blocks: Vec<(&'c Chip, Block)>,
    /// Where such machines are used; absent for this machine.
    pub class: Option<Class>,
    /// Whether it runs without the wall.
    pub has_battery: bool,
    /// What it costs to buy; absent where no price is known.
    pub outlay: Option<Outlay>,
    /// What it is rented for.
    pub offer: Option<&'c Offer>,
    /// Whether it is rented at the lower price at which the provider may take it back.
    pub is_spot: bool,
    /// Why it cannot be used, if it cannot.
    pub blocked: Option<String>,
}

/// All candidates, and the rigs that they come down to.
#[derive(Debug, Default)]
pub struct Field<'c> {
    /// Each different one once.
    pub rigs: Vec<Rig>,
    /// Every way to come by one.
    pub candidates: Vec<Candidate<'c>>,
    known: HashMap<String, usize>,
}

impl<'c> Field<'c> {
    /// Everything that this machine and the catalogue offer.
    pub fn new(here: Option<&Here>, catalogue: &'c Catalogue) -> Self {
        let mut field = Self::default();
        if let Some(here) = here {
            field.add_here(here, catalogue);
        }
        for part in catalogue.parts().iter().filter(|part| part.kind.is_machine()) {
            field.add_machine(part, catalogue);
        }
        for chip in catalogue.chips() {
            field.add_chip(chip, catalogue);
        }
        for offer in catalogue.offers() {
            field.add_offer(offer, catalogue);
        }
        field
    }

    /// The number of a rig, which is made if there is none of its name.
    fn rig(&mut self, name: &str, make: impl FnOnce() -> Rig) -> usize {
        if let Some(&at) = self.known.get(name) {
            return at;
        }
        self.rigs.push(make());
        self.known.insert(name.to_owned(), self.rigs.len() - 1);
        self.rigs.len() - 1
    }

    fn add_here(&mut self, here: &Here, catalogue: &'c Catalogue) {
        let ready = |kind: DeviceKind| {
            let usable = here.devices.iter().filter(move |device| device.blocked.is_none());
            usable.filter(move |device| device.profile.kind == kind)
        };
        for device in &here.devices {
            self.add_here_rig(here, &[device], Sharing::Split(Split::Layers), catalogue);
        }
        let gpus: Vec<_> = ready(DeviceKind::Gpu).collect();
        if gpus.len() > 1 {
            self.add_here_rig(here, &gpus, Sharing::Split(Split::Layers), catalogue);
        }
        // Where memory is shared, the processor has none to add.
        let own: Vec<_> = gpus.iter().copied().filter(|gpu| gpu.profile.memory_pool == MemoryPool::Own).collect();
        if let (false, Some(cpu)) = (own.is_empty(), ready(DeviceKind::Cpu).next()) {
            let spilling: Vec<_> = own.into_iter().chain([cpu]).collect();
            self.add_here_rig(here, &spilling, Sharing::Split(Split::Layers), catalogue);
        }
        for npu in ready(DeviceKind::Npu) {
            for gpu in &gpus {
                self.add_here_rig(here, &[npu, gpu], Sharing::Phases, catalogue);
            }
        }
    }

    fn add_here_rig(&mut self, here: &Here, devices: &[&HereDevice], sharing: Sharing, catalogue: &'c Catalogue) {
        let ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
        let joined = match sharing {
            Sharing::Split(_) => ids.join(" + "),
            Sharing::Phases => format!("{} reads, {} writes", ids[0], ids[1]),
        };
        let name = format!("this machine: {joined}");
        let links = devices.iter().filter_map(|device| chip::link_gbs(device.profile.link.as_deref()?));
        let rig = self.rig(&name, || Rig {
            name: name.clone(),
            devices: devices.iter().map(|device| (device.profile.clone(), device.memory_free)).collect(),
            sharing,
            link_gbs: links.reduce(f64::min),
            pool: shared_pool(devices),
            calibration: match devices {
                [only] => only.calibration,
                _ => None,
            },
            engine: ENGINE_HERE,
        });
        let block = |device: &&HereDevice| {
            let chip = catalogue.chip(chip_of(&device.profile.name)).ok()?.row;
            let block = match device.profile.kind {
                DeviceKind::Cpu => Block::Cpu,
                DeviceKind::Npu => Block::Npu,
                DeviceKind::Gpu | DeviceKind::Accelerator => Block::Gpu,
            };
            Some((chip, block))
        };
        self.candidates.push(Candidate {
            name,
            place: Place::Here,
            rig,
            blocks: devices.iter().filter_map(block).collect(),
            class: None,
            has_battery: here.has_battery,
            outlay: None,
            offer: None,
            is_spot: false,
            blocked: devices.iter().find_map(|device| device.blocked.clone()),
        });
    }

    /// A mini PC, a laptop, a desktop that is sold whole.
    fn add_machine(&mut self, part: &'c Part, catalogue: &'c Catalogue) {
        let chips: Vec<_> = part.chips.iter().filter_map(|name| Some(catalogue.chip(name).ok()?.row)).collect();
        let outlay = Outlay::of_machine(part);
        let has_battery = part.battery_wh.is_some() || part.kind == PartKind::Laptop;
        for chip in chips {
            for (blocks, label) in arrangements(chip) {
                let name = format!("{}{label}", part.name);
                // Two machines with the same chip may have different memory, so rigs go by the machine's name.
                let rig = self.rig(&name, || {
                    let mut rig = soc_rig(&name, chip, &blocks, part.memory_gb);
                    if let (Kind::Soc | Kind::Cpu, Some(gbs)) = (chip.kind, part.bandwidth_gbs) {
                        for (device, _) in &mut rig.devices {
                            let least = device.bandwidth_peak_gbs.map_or(gbs, |own| own.min(gbs));
                            device.bandwidth_peak_gbs = Some(least);
                        }
                    }
                    rig
                });
                self.candidates.push(Candidate {
                    name,
                    place: Place::Buy,
                    rig,
                    blocks: blocks.iter().map(|&block| (chip, block)).collect(),
                    class: Some(chip.class),
                    has_battery,
                    outlay: Some(outlay.clone()),
                    offer: None,
                    is_spot: false,
                    blocked: None,
                });
            }
        }
    }

    /// A chip by itself: a card for a computer that is built around it, or a soc in whatever machine has it.
    fn add_chip(&mut self, chip: &'c Chip, catalogue: &'c Catalogue) {
        let is_card = chip.kind == Kind::Gpu && chip.link.as_deref().is_some_and(|link| link.starts_with("pcie"));
        let memory_gb = chip.memory_options_gb.iter().copied().reduce(f64::max);
        let with_memory = match (chip.memory_gb, memory_gb) {
            (None, Some(gb)) => format!(" ({gb} GB)"),
            _ => String::new(),
        };
        for (blocks, label) in arrangements(chip) {
            let name = format!("{}{with_memory}{label}", chip.name);
            let outlay = match is_card {
                true => build::around(catalogue, &[chip]),
                false => Outlay::of_chip(catalogue, chip),
            };
            let rig = self.rig(&name, || soc_rig(&name, chip, &blocks, memory_gb));
            self.candidates.push(Candidate {
                name,
                place: Place::Buy,
                rig,
                blocks: blocks.iter().map(|&block| (chip, block)).collect(),
                class: Some(chip.class),
                has_battery: matches!(chip.class, Class::Laptop | Class::Phone),
                outlay,
                offer: None,
                is_spot: false,
                blocked: None,
            });
        }
        let Some(outlay) = is_card.then(|| build::around(catalogue, &[chip, chip])).flatten() else {
            return;
        };
        for (split, label) in [(Split::Layers, ""), (Split::Tensors, ", tensors split")] {
            let name = format!("2 × {}{label}", chip.name);
            let rig = self.rig(&name, || many(&name, chip, 2, split, outlay.link_gbs));
            self.candidates.push(Candidate {
                name,
                place: Place::Buy,
                rig,
                blocks: vec![(chip, Block::Gpu)],
                class: Some(chip.class),
                has_battery: false,
                outlay: Some(outlay.clone()),
                offer: None,
                is_spot: false,
                blocked: None,
            });
        }
    }

    fn add_offer(&mut self, offer: &'c Offer, catalogue: &'c Catalogue) {
        let Ok(found) = catalogue.chip(&offer.chip) else {
            return;
        };
        let chip = found.row;
        let block = chip::blocks(chip)[0];
        // The same rig may be for sale: then it has been made under this name.
        let rig_name = match offer.count {
            1 => chip.name.clone(),
            n => format!("{n} × {}, tensors split", chip.name),
        };
        let link = chip.link.as_deref().and_then(chip::link_gbs);
        let rig = self.rig(&rig_name, || match offer.count {
            1 => Rig::single(rig_name.clone(), chip::profile(chip, block, None)),
            n => many(&rig_name, chip, n as usize, Split::Tensors, link),
        });
        let region = offer.region.as_deref().map_or_else(String::new, |region| format!(" {region}"));
        for is_spot in [false, true] {
            if is_spot && offer.spot_usd_hour.is_none() {
                continue;
            }
            let spot = if is_spot { ", spot" } else { "" };
            self.candidates.push(Candidate {
                name: format!("{} {}{region}{spot}", offer.provider, offer.name),
                place: Place::Rent,
                rig,
                blocks: vec![(chip, block)],
                class: Some(Class::Datacentre),
                has_battery: false,
                outlay: None,
                offer: Some(offer),
                is_spot,
                blocked: None,
            });
        }
    }
}

/// What devices that share the machine's memory may take of it together.
fn shared_pool(devices: &[&HereDevice]) -> Option<Bytes> {
    let shared = devices.iter().filter(|device| device.profile.memory_pool == MemoryPool::Shared);
    shared.filter_map(|device| device.memory_free.or(device.profile.memory)).max()
}

/// The chip's name in a profile's, which may name the block too.
fn chip_of(name: &str) -> &str {
    [" NPU", " GPU", " CPU"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// The ways in which a chip's blocks can work: each alone, and its NPU reading for its GPU.
fn arrangements(chip: &Chip) -> Vec<(Vec<Block>, &'static str)> {
    if chip.kind != Kind::Soc {
        return vec![(chip::blocks(chip), "")];
    }
    let blocks = chip::blocks(chip);
    let mut ways: Vec<_> = blocks
        .iter()
        .map(|&block| {
            let label = match block {
                Block::Gpu => ", GPU",
                Block::Npu => ", NPU",
                Block::Cpu | Block::Platform => ", CPU",
            };
            (vec![block], label)
        })
        .collect();
    if blocks.contains(&Block::Gpu) && blocks.contains(&Block::Npu) {
        ways.push((vec![Block::Npu, Block::Gpu], ", NPU reads and GPU writes"));
    }
    ways
}

/// Blocks of one chip as a rig.
fn soc_rig(name: &str, chip: &Chip, blocks: &[Block], memory_gb: Option<f64>) -> Rig {
    let devices: Vec<_> = blocks.iter().map(|&block| (chip::profile(chip, block, memory_gb), None)).collect();
    let sharing = match devices.len() {
        1 => Sharing::Split(Split::Layers),
        _ => Sharing::Phases,
    };
    Rig {
        name: name.to_owned(),
        devices,
        sharing,
        link_gbs: None,
        pool: memory_gb.filter(|_| chip.kind == Kind::Soc).map(|gb| Bytes((gb * chip::GB_SOLD) as u64)),
        calibration: None,
        engine: ENGINE,
    }
}

/// Several of one chip.
fn many(name: &str, chip: &Chip, count: usize, split: Split, link_gbs: Option<f64>) -> Rig {
    let device = chip::profile(chip, chip::blocks(chip)[0], None);
    Rig {
        name: name.to_owned(),
        devices: vec![(device, None); count],
        sharing: Sharing::Split(split),
        link_gbs,
        pool: None,
        calibration: None,
        engine: match split {
            Split::Layers => ENGINE,
            Split::Tensors => ENGINE_TENSORS,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{catalogue, here};

    fn named<'f, 'c>(field: &'f Field<'c>, name: &str) -> &'f Candidate<'c> {
        let found = field.candidates.iter().find(|candidate| candidate.name == name);
        found.unwrap_or_else(|| {
            let names: Vec<_> = field.candidates.iter().map(|candidate| &candidate.name).collect();
            panic!("no {name} in {names:#?}")
        })
    }

    #[test]
    fn every_way_is_there() {
        let catalogue = catalogue();
        let field = Field::new(Some(&here()), &catalogue);
        for name in [
            "this machine: cpu0",
            "this machine: gpu0 + cpu0",
            "Test Mini, GPU",
            "Test Mini, NPU reads and GPU writes",
            "Test Card 24",
            "2 × Test Card 24",
            "Test Soc 1 (64 GB), NPU",
            "cloudy one eu",
            "cloudy eight eu",
        ] {
            named(&field, name);
        }
        let two = named(&field, "2 × Test Card 24");
        assert_eq!(field.rigs[two.rig].devices.len(), 2);
        assert_eq!(field.rigs[two.rig].link_gbs, Some(1.969 * 8.0), "the board's slots have eight lanes each");
    }

    #[test]
    fn names_are_unique_and_a_rig_is_made_once() {
        let catalogue = catalogue();
        let field = Field::new(Some(&here()), &catalogue);
        let mut names: Vec<_> = field.candidates.iter().map(|candidate| &candidate.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), field.candidates.len());
        assert_eq!(named(&field, "cloudy one eu").rig, named(&field, "cloudy two eu").rig);
    }

    #[test]
    fn a_blocked_device_is_shown_and_not_combined() {
        let catalogue = catalogue();
        let mut here = here();
        here.devices[1].blocked = Some("no permission".to_owned());
        let field = Field::new(Some(&here), &catalogue);
        assert!(named(&field, "this machine: gpu0").blocked.is_some());
        assert!(field.candidates.iter().all(|candidate| candidate.name != "this machine: gpu0 + cpu0"));
    }
}
