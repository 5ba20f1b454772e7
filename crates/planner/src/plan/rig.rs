//! Devices that work on one model together. Forecasts are made of rigs; how a rig is come by is `super::candidate`'s affair.

use std::ops::Range;

use troika_base::{Bytes, DeviceProfile};

use super::measured::Calibrated;
use crate::catalogue::{self, Block, Chip, Kind};
use crate::cost::{Backend, Setup, Slot, Split};

/// How the devices of a rig share the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// One model over all of them.
    Split(Split),
    /// The first reads prompts, the second writes answers; each holds the model in its own form.
    Phases,
}

/// A device in a rig.
#[derive(Clone, Debug)]
pub struct Member {
    /// What is known of it.
    pub device: DeviceProfile,
    /// The memory that it may take, where that is not all.
    pub memory_free: Option<Bytes>,
    /// How its speeds stand to the cost model's, where somebody measured them.
    pub calibrated: Option<Calibrated>,
}

impl Member {
    /// A device that has all of its memory, and that nobody measured.
    pub(super) fn new(device: DeviceProfile) -> Self {
        Self {
            device,
            memory_free: None,
            calibrated: None,
        }
    }
}

/// Devices, and how they share the work.
#[derive(Clone, Debug)]
pub struct Rig {
    /// What to call it.
    pub name: String,
    /// The devices, the fastest first.
    pub members: Vec<Member>,
    /// How they share the work.
    pub sharing: Sharing,
    /// 10⁹ bytes a second between them.
    pub link_gbs: Option<f64>,
    /// The memory that its devices share, where they do: what each holds comes out of it.
    pub pool: Option<Bytes>,
    /// The software that is taken to drive it.
    pub engine: &'static str,
    /// The number of the rig that has the cards of this one alone. Here a processor takes what does not fit them; if all fits, it
    /// has nothing to do, and the other is meant.
    pub alone: Option<usize>,
}

/// What runs on this machine.
pub(super) const ENGINE_HERE: &str = "troika";
/// What runs elsewhere, and what where matrices are split.
pub(super) const ENGINE: &str = "llama.cpp";
const ENGINE_TENSORS: &str = "vllm";

impl Rig {
    /// One device.
    pub(super) fn single(name: &str, member: Member) -> Self {
        Self::split(name, vec![member], Split::Layers, None)
    }

    /// Devices over which a model is split.
    pub(super) fn split(
        name: &str,
        members: Vec<Member>,
        split: Split,
        link_gbs: Option<f64>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            members,
            sharing: Sharing::Split(split),
            link_gbs,
            pool: None,
            engine: match split {
                Split::Layers => ENGINE,
                Split::Tensors => ENGINE_TENSORS,
            },
            alone: None,
        }
    }

    /// Blocks of one chip: one alone, or one that reads and one that writes.
    pub(super) fn of_blocks(
        name: &str,
        chip: &Chip,
        members: Vec<Member>,
        memory_gb: Option<f64>,
    ) -> Self {
        let pool = memory_gb.filter(|_| chip.kind == Kind::Soc);
        let mut rig = Self::split(name, members, Split::Layers, None);
        rig.pool = pool.map(|gb| Bytes((gb * catalogue::GB_SOLD) as u64));
        if rig.members.len() > 1 {
            rig.sharing = Sharing::Phases;
        }
        rig
    }

    /// What is known of its devices.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceProfile> + Clone {
        self.members.iter().map(|member| &member.device)
    }

    /// Some of its devices as a setup for the cost model.
    pub(super) fn setup(&self, members: Range<usize>, backend: Option<Backend>) -> Setup<'_> {
        Setup {
            slots: self.members[members]
                .iter()
                .map(|member| Slot {
                    device: &member.device,
                    memory_free: member.memory_free,
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

    /// What was measured of some of its devices, if they are all of one chip.
    ///
    /// Of unlike devices each is as much faster or slower than predicted as it is, and nobody measured them together. Where
    /// matrices are split, the exchange decides, of which a measurement on one device tells nothing.
    pub(super) fn calibrated(&self, members: Range<usize>) -> Option<&Calibrated> {
        let members = &self.members[members];
        let first = members.first()?;
        let alike = members
            .iter()
            .all(|member| member.device.name == first.device.name);
        let exchanges = members.len() > 1 && self.sharing == Sharing::Split(Split::Tensors);
        first.calibrated.as_ref().filter(|_| alike && !exchanges)
    }
}

/// The processor of a chip's row as a device, in a machine with so much memory; `None` if the row tells no bandwidth.
pub(super) fn host(chip: &Chip, memory_gb: f64) -> Option<DeviceProfile> {
    let has_processor = catalogue::blocks(chip).contains(&Block::Cpu);
    let device = catalogue::profile(chip, Block::Cpu, Some(memory_gb));
    (has_processor && device.bandwidth_peak_gbs.is_some()).then_some(device)
}
