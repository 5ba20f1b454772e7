//! All candidates: this machine, what the catalogue sells and rents, pairs and hybrids.
//!
//! Many offers rent the same rig, so rigs are kept apart from candidates and forecast once.

use std::collections::HashMap;

use troika_base::{Bytes, DeviceKind, DeviceProfile, MemoryPool};

use super::build::{self, Outlay};
use super::candidate::{Candidate, Described, Here, HereDevice, Place};
use super::measured::{Measured, chip_of};
use super::rig::{self, ENGINE_HERE, Member, Rig, Sharing};
use crate::catalogue::{self, Block, Catalogue, Chip, Class, Date, Kind, Offer, Part, PartKind};
use crate::cost::Split;

/// What candidates are made from.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'c> {
    /// What others sell and rent.
    pub catalogue: &'c Catalogue,
    /// This machine, if it is a candidate.
    pub here: Option<&'c Here>,
    /// A device that is neither here nor in the catalogue.
    pub described: Option<&'c Described>,
    /// Measured speeds.
    pub measured: Option<&'c Measured>,
    /// The day.
    pub today: Date,
}

/// All candidates, and the rigs that they come down to.
#[derive(Debug)]
pub struct Field<'c> {
    /// Each different one once. A rig stands behind the one that it is more than: see [`Rig::alone`].
    pub rigs: Vec<Rig>,
    /// Every way to come by one.
    pub candidates: Vec<Candidate<'c>>,
    ground: Ground<'c>,
    known: HashMap<String, usize>,
}

impl<'c> Field<'c> {
    /// Everything that this machine and the catalogue offer.
    pub fn new(ground: Ground<'c>) -> Self {
        let mut field = Self {
            rigs: Vec::new(),
            candidates: Vec::new(),
            ground,
            known: HashMap::new(),
        };
        if let Some(here) = ground.here {
            field.add_here(here);
        }
        if let Some(described) = ground.described {
            field.add_described(described);
        }
        let machines = ground.catalogue.parts().iter();
        for part in machines.filter(|part| part.kind.is_machine()) {
            field.add_machine(part);
        }
        for chip in ground.catalogue.chips() {
            field.add_chip(chip);
        }
        for offer in ground.catalogue.offers() {
            field.add_offer(offer);
        }
        field
    }

    /// A device as a member of a rig, with what was measured of it.
    fn member(&self, device: DeviceProfile) -> Member {
        let measured = self.ground.measured;
        Member {
            calibrated: measured.and_then(|measured| measured.of(&device, self.ground.catalogue)),
            ..Member::new(device)
        }
    }

    /// A block of a chip as a member of a rig.
    fn block(&self, chip: &Chip, block: Block, memory_gb: Option<f64>) -> Member {
        self.member(catalogue::profile(chip, block, memory_gb))
    }

    /// The number of a rig, which is made if there is none of its name.
    fn rig(&mut self, name: &str, make: impl FnOnce(&Self) -> Rig) -> usize {
        if let Some(&at) = self.known.get(name) {
            return at;
        }
        let rig = make(self);
        self.rigs.push(rig);
        self.known.insert(name.to_owned(), self.rigs.len() - 1);
        self.rigs.len() - 1
    }

    fn add_here(&mut self, here: &Here) {
        let ready = |kind: DeviceKind| {
            let usable = here
                .devices
                .iter()
                .filter(|device| device.blocked.is_none());
            usable.filter(move |device| device.profile.kind == kind)
        };
        let layers = Sharing::Split(Split::Layers);
        let singles: Vec<_> = here
            .devices
            .iter()
            .map(|device| self.add_here_rig(here, &[device], layers, None))
            .collect();
        let gpus: Vec<_> = ready(DeviceKind::Gpu).collect();
        if gpus.len() > 1 {
            self.add_here_rig(here, &gpus, layers, None);
        }
        // Where memory is shared, the processor has none to add.
        let own: Vec<_> = gpus
            .iter()
            .copied()
            .filter(|gpu| gpu.profile.memory_pool == MemoryPool::Own)
            .collect();
        if let (Some(first), Some(cpu)) = (own.first(), ready(DeviceKind::Cpu).next()) {
            let alone = match own.len() {
                1 => here.devices.iter().position(|device| device.id == first.id),
                _ => None,
            };
            let alone = alone.map(|at| singles[at]);
            let alone = alone.or_else(|| self.known.get(&here_name(&own, layers)).copied());
            let spilling: Vec<_> = own.into_iter().chain([cpu]).collect();
            self.add_here_rig(here, &spilling, layers, alone);
        }
        for npu in ready(DeviceKind::Npu) {
            for gpu in &gpus {
                self.add_here_rig(here, &[npu, gpu], Sharing::Phases, None);
            }
        }
    }

    /// Adds some devices of this machine, and gives the number of their rig.
    fn add_here_rig(
        &mut self,
        here: &Here,
        devices: &[&HereDevice],
        sharing: Sharing,
        alone: Option<usize>,
    ) -> usize {
        let name = here_name(devices, sharing);
        let links = devices
            .iter()
            .filter_map(|device| catalogue::link_gbs(device.profile.link.as_deref()?));
        let rig = self.rig(&name, |field| Rig {
            members: devices
                .iter()
                .map(|device| Member {
                    memory_free: device.memory_free,
                    ..field.member(device.profile.clone())
                })
                .collect(),
            sharing,
            pool: shared_pool(devices),
            engine: ENGINE_HERE,
            alone,
            ..Rig::split(&name, Vec::new(), Split::Layers, links.reduce(f64::min))
        });
        let catalogue = self.ground.catalogue;
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
            blocks: devices.iter().filter_map(block).collect(),
            has_battery: here.has_battery,
            blocked: devices.iter().find_map(|device| device.blocked.clone()),
            ..Candidate::new(name, Place::Here, rig)
        });
        rig
    }

    /// What the user describes: at hand, or for sale if a price is told.
    fn add_described(&mut self, described: &Described) {
        let name = format!("{} (described)", described.profile.name);
        let rig = self.rig(&name, |field| {
            Rig::single(&name, field.member(described.profile.clone()))
        });
        let today = self.ground.today;
        let outlay = described
            .usd
            .map(|usd| Outlay::given(&described.profile.name, usd, today));
        let place = match outlay {
            Some(_) => Place::Buy,
            None => Place::Here,
        };
        self.candidates.push(Candidate {
            outlay,
            ..Candidate::new(name, place, rig)
        });
    }

    /// A mini PC, a laptop, a desktop that is sold whole.
    fn add_machine(&mut self, part: &'c Part) {
        let catalogue = self.ground.catalogue;
        let chips: Vec<_> = part
            .chips
            .iter()
            .filter_map(|name| Some(catalogue.chip(name).ok()?.row))
            .collect();
        let outlay = Outlay::of_machine(part);
        let has_battery = part.battery_wh.is_some() || part.kind == PartKind::Laptop;
        let host = chips
            .iter()
            .find(|chip| matches!(chip.kind, Kind::Cpu | Kind::Soc));
        let host = host
            .zip(part.memory_gb)
            .and_then(|(chip, gb)| rig::host(chip, gb));
        for &chip in &chips {
            for (blocks, label) in arrangements(chip) {
                let name = format!("{}{label}", part.name);
                // Two machines with the same chip may have different memory, so rigs go by the machine's name.
                let rig = self.rig(&name, |field| {
                    let mut rig = field.of_blocks(&name, chip, &blocks, part.memory_gb);
                    if let (Kind::Soc | Kind::Cpu, Some(gbs)) = (chip.kind, part.bandwidth_gbs) {
                        for member in &mut rig.members {
                            let own = member.device.bandwidth_peak_gbs;
                            member.device.bandwidth_peak_gbs =
                                Some(own.map_or(gbs, |own| own.min(gbs)));
                        }
                    }
                    rig
                });
                let candidate = Candidate {
                    blocks: blocks.iter().map(|&block| (chip, block)).collect(),
                    class: Some(chip.class),
                    has_battery,
                    outlay: Some(outlay.clone()),
                    ..Candidate::new(name, Place::Buy, rig)
                };
                if let (Kind::Gpu, Some(host)) = (chip.kind, &host) {
                    self.add_spilling(&candidate, host);
                }
                self.candidates.push(candidate);
            }
        }
    }

    /// A chip by itself: a card for a computer that is built around it, or a soc in whatever machine has it.
    fn add_chip(&mut self, chip: &'c Chip) {
        let catalogue = self.ground.catalogue;
        let is_card = chip.kind == Kind::Gpu
            && chip
                .link
                .as_deref()
                .is_some_and(|link| link.starts_with("pcie"));
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
            let rig = self.rig(&name, |field| {
                field.of_blocks(&name, chip, &blocks, memory_gb)
            });
            let candidate = Candidate {
                blocks: blocks.iter().map(|&block| (chip, block)).collect(),
                class: Some(chip.class),
                has_battery: matches!(chip.class, Class::Laptop | Class::Phone),
                outlay,
                ..Candidate::new(name, Place::Buy, rig)
            };
            self.add_spilling_around(&candidate);
            self.candidates.push(candidate);
        }
        let Some(outlay) = is_card
            .then(|| build::around(catalogue, &[chip, chip]))
            .flatten()
        else {
            return;
        };
        for (split, label) in [(Split::Layers, ""), (Split::Tensors, ", tensors split")] {
            let name = format!("2 × {}{label}", chip.name);
            let link = outlay.link_gbs;
            let rig = self.rig(&name, |field| field.many(&name, chip, 2, split, link));
            let candidate = Candidate {
                blocks: vec![(chip, Block::Gpu)],
                class: Some(chip.class),
                outlay: Some(outlay.clone()),
                ..Candidate::new(name, Place::Buy, rig)
            };
            if split == Split::Layers {
                self.add_spilling_around(&candidate);
            }
            self.candidates.push(candidate);
        }
    }

    /// Cards in a computer that is built around them, and its processor for what does not fit.
    fn add_spilling_around(&mut self, cards: &Candidate<'c>) {
        if let Some(host) = cards.outlay.as_ref().and_then(|outlay| outlay.host.clone()) {
            self.add_spilling(cards, &host);
        }
    }

    /// The same cards, with a processor for what does not fit them.
    fn add_spilling(&mut self, cards: &Candidate<'c>, host: &DeviceProfile) {
        let name = format!("{}{WITH_PROCESSOR}", cards.name);
        let rig = self.rig(&name, |field| {
            let alone = &field.rigs[cards.rig];
            let mut rig = Rig {
                name: name.clone(),
                alone: Some(cards.rig),
                ..alone.clone()
            };
            rig.members.push(field.member(host.clone()));
            rig
        });
        self.candidates.push(Candidate {
            name,
            rig,
            ..cards.clone()
        });
    }

    fn add_offer(&mut self, offer: &'c Offer) {
        let Ok(found) = self.ground.catalogue.chip(&offer.chip) else {
            return;
        };
        let chip = found.row;
        let block = catalogue::blocks(chip)[0];
        // The same rig may be for sale: then it has been made under this name.
        let rig_name = match offer.count {
            1 => chip.name.clone(),
            n => format!("{n} × {}, tensors split", chip.name),
        };
        let link = chip.link.as_deref().and_then(catalogue::link_gbs);
        let rig = self.rig(&rig_name, |field| match offer.count {
            1 => Rig::single(&rig_name, field.block(chip, block, None)),
            n => field.many(&rig_name, chip, n as usize, Split::Tensors, link),
        });
        let region = offer
            .region
            .as_deref()
            .map_or_else(String::new, |region| format!(" {region}"));
        for is_spot in [false, true] {
            if is_spot && offer.spot_usd_hour.is_none() {
                continue;
            }
            let spot = if is_spot { ", spot" } else { "" };
            let name = format!("{} {}{region}{spot}", offer.provider, offer.name);
            self.candidates.push(Candidate {
                blocks: vec![(chip, block)],
                class: Some(Class::Datacentre),
                offer: Some(offer),
                is_spot,
                ..Candidate::new(name, Place::Rent, rig)
            });
        }
    }

    /// Blocks of one chip as a rig.
    fn of_blocks(&self, name: &str, chip: &Chip, blocks: &[Block], memory_gb: Option<f64>) -> Rig {
        let members = blocks
            .iter()
            .map(|&block| self.block(chip, block, memory_gb))
            .collect();
        Rig::of_blocks(name, chip, members, memory_gb)
    }

    /// Several of one chip.
    fn many(
        &self,
        name: &str,
        chip: &Chip,
        count: usize,
        split: Split,
        link_gbs: Option<f64>,
    ) -> Rig {
        let member = self.block(chip, catalogue::blocks(chip)[0], None);
        Rig::split(name, vec![member; count], split, link_gbs)
    }
}

/// The end of the name of cards whose model spills to the processor beside them.
pub(super) const WITH_PROCESSOR: &str = " + processor";

/// What some devices of this machine are called together.
fn here_name(devices: &[&HereDevice], sharing: Sharing) -> String {
    let ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
    let joined = match sharing {
        Sharing::Split(_) => ids.join(" + "),
        Sharing::Phases => format!("{} reads, {} writes", ids[0], ids[1]),
    };
    format!("this machine: {joined}")
}

/// What devices that share the machine's memory may take of it together.
fn shared_pool(devices: &[&HereDevice]) -> Option<Bytes> {
    let shared = devices
        .iter()
        .filter(|device| device.profile.memory_pool == MemoryPool::Shared);
    shared
        .filter_map(|device| device.memory_free.or(device.profile.memory))
        .max()
}

/// The ways in which a chip's blocks can work: each alone, and its NPU reading for its GPU.
fn arrangements(chip: &Chip) -> Vec<(Vec<Block>, &'static str)> {
    if chip.kind != Kind::Soc {
        return vec![(catalogue::blocks(chip), "")];
    }
    let blocks = catalogue::blocks(chip);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{catalogue, here, today};

    fn ground<'c>(catalogue: &'c Catalogue, here: &'c Here) -> Ground<'c> {
        Ground {
            catalogue,
            here: Some(here),
            described: None,
            measured: None,
            today: today(),
        }
    }

    fn named<'f, 'c>(field: &'f Field<'c>, name: &str) -> &'f Candidate<'c> {
        let found = field
            .candidates
            .iter()
            .find(|candidate| candidate.name == name);
        found.unwrap_or_else(|| {
            let names: Vec<_> = field
                .candidates
                .iter()
                .map(|candidate| &candidate.name)
                .collect();
            panic!("no {name} in {names:#?}")
        })
    }

    #[test]
    fn every_way_is_there() {
        let catalogue = catalogue();
        let here = here();
        let field = Field::new(ground(&catalogue, &here));
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
        assert_eq!(field.rigs[two.rig].members.len(), 2);
        assert_eq!(
            field.rigs[two.rig].link_gbs,
            Some(1.969 * 8.0),
            "the board's slots have eight lanes each"
        );
    }

    #[test]
    fn names_are_unique_and_a_rig_is_made_once() {
        let catalogue = catalogue();
        let here = here();
        let field = Field::new(ground(&catalogue, &here));
        let mut names: Vec<_> = field
            .candidates
            .iter()
            .map(|candidate| &candidate.name)
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), field.candidates.len());
        assert_eq!(
            named(&field, "cloudy one eu").rig,
            named(&field, "cloudy two eu").rig
        );
    }

    #[test]
    fn a_blocked_device_is_shown_and_not_combined() {
        let catalogue = catalogue();
        let mut here = here();
        here.devices[1].blocked = Some("no permission".to_owned());
        let field = Field::new(ground(&catalogue, &here));
        assert!(named(&field, "this machine: gpu0").blocked.is_some());
        assert!(
            field
                .candidates
                .iter()
                .all(|candidate| candidate.name != "this machine: gpu0 + cpu0")
        );
    }
}
