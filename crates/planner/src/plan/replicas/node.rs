//! What a machine of a cluster has to have for a replica, and which candidates can be one at all.

use serde::Serialize;
use troika_base::{DeviceKind, MemoryPool};

use crate::catalogue::{Block, Class, Kind};
use crate::cost::{Backend, Forecast, Split};
use crate::plan::candidate::{Candidate, Place};
use crate::plan::rig::{Rig, Sharing};
use crate::plan::verdict::{Lost, Requirement};

/// Whose cards a node has: clusters count them by maker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CardMaker {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel, with the driver `xe`.
    IntelXe,
    /// Intel, with the older driver `i915`.
    IntelI915,
}

/// What one replica asks of its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Node {
    /// Cards, and whose; absent where the processor computes.
    pub cards: Option<(u32, CardMaker)>,
    /// Cores of the processor that computes, where that is known.
    pub cores: Option<u32>,
    /// Bytes of the node's memory for models and caches.
    pub memory_bytes: u64,
    /// Bytes of weights.
    pub weights_bytes: u64,
    /// Whether the model is in the node's memory, and not on cards of their own.
    pub computes_in_ram: bool,
}

impl Node {
    /// What a candidate's node is, before it is known what the model takes.
    ///
    /// # Errors
    /// Why no replica runs on such a machine.
    pub(super) fn of(
        candidate: &Candidate<'_>,
        rig: &Rig,
        asked: Option<Backend>,
    ) -> Result<Self, Lost> {
        let no = |requirement, reason: &str| {
            Err(Lost {
                requirement,
                reason: reason.to_owned(),
            })
        };
        if rig.sharing != Sharing::Split(Split::Layers) {
            return no(
                Requirement::Software,
                "Troika splits a model by layers, not by tensors or phases; replicas of one card each do more",
            );
        }
        let of_kind = |kind| rig.devices().filter(move |device| device.kind == kind);
        let others = rig
            .devices()
            .find(|device| matches!(device.kind, DeviceKind::Npu | DeviceKind::Accelerator));
        if others.is_some() {
            return no(
                Requirement::Software,
                "no cluster gives an NPU to what runs in it",
            );
        }
        if candidate.class == Some(Class::Phone) {
            return no(Requirement::Software, "a phone is no node of a cluster");
        }
        if rig.devices().any(|device| device.vendor == "apple") {
            return no(
                Requirement::Software,
                "macOS is no node of a cluster, and Linux does not drive this GPU for Troika",
            );
        }
        let cards: Vec<_> = of_kind(DeviceKind::Gpu).collect();
        let maker = match cards.first() {
            None => None,
            Some(card) => match maker(&card.vendor, card.family.as_deref()) {
                Some(maker) => Some(maker),
                None => {
                    return no(
                        Requirement::Software,
                        "no cluster counts cards of this maker",
                    );
                }
            },
        };
        if let (Some(_), Some(asked)) = (maker, asked)
            && asked != Backend::Vulkan
        {
            return no(
                Requirement::Software,
                "Troika drives cards by Vulkan, and other software is wanted",
            );
        }
        let processor = of_kind(DeviceKind::Cpu).next();
        let shares =
            |device: &&troika_base::DeviceProfile| device.memory_pool == MemoryPool::Shared;
        Ok(Self {
            cards: maker.map(|maker| (cards.len() as u32, maker)),
            cores: processor.and_then(|processor| processor.cores),
            memory_bytes: 0,
            weights_bytes: 0,
            computes_in_ram: processor.is_some() || cards.iter().any(shares),
        })
    }

    /// The same for a model.
    ///
    /// Weights that go to cards pass through the node's memory while they are loaded.
    pub(super) fn with(self, forecast: &Forecast) -> Self {
        let memory = &forecast.memory;
        Self {
            memory_bytes: match self.computes_in_ram {
                true => memory.total(),
                false => memory.weights + memory.runtime,
            },
            weights_bytes: memory.weights,
            ..self
        }
    }
}

fn maker(vendor: &str, family: Option<&str>) -> Option<CardMaker> {
    match (vendor, family) {
        ("nvidia", _) => Some(CardMaker::Nvidia),
        ("amd", _) => Some(CardMaker::Amd),
        ("intel", Some("xe2" | "xe3")) => Some(CardMaker::IntelXe),
        ("intel", _) => Some(CardMaker::IntelI915),
        _ => None,
    }
}

/// The name of such a machine for a simulation: chips, `2x` before those that are several; `None` where no chip is known.
pub(super) fn machine(candidate: &Candidate<'_>, rig: &Rig) -> Option<String> {
    if candidate.place == Place::Here && candidate.name.starts_with("this machine") {
        return Some("here".to_owned());
    }
    let &(chip, block) = candidate.blocks.first()?;
    let cards = rig
        .devices()
        .filter(|device| device.kind == DeviceKind::Gpu)
        .count();
    let memory = rig.devices().next()?.memory;
    Some(match (chip.kind, block) {
        (Kind::Gpu, _) if cards > 1 => format!("{cards}x {}", chip.name),
        (Kind::Gpu, _) => chip.name.clone(),
        // A block has a share of the memory; a sort of machine is named by the whole of it.
        (_, Block::Cpu | Block::Gpu) => match memory.filter(|_| rig.pool.is_some()) {
            Some(_) => {
                let gib = rig.pool?.0 as f64 / f64::from(1 << 30);
                format!("{}:{gib:.0}gb", chip.name)
            }
            None => chip.name.clone(),
        },
        _ => return None,
    })
}
