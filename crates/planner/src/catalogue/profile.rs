//! From the catalogue's chips to what the cost model takes: a chip's blocks become devices.
//!
//! Figures are passed on as they stand; a rate that is only known with sparsity stays so, and the cost model passes over it.
//! What a model's row becomes is in [`super::shape`].

use troika_base::{Basis, Bytes, DeviceKind, DeviceProfile, MemoryPool, Rate};

use super::chip::{self, Block, Chip, Class, Kind, Memory};

/// A gigabyte of memory as it is sold.
pub(crate) const GB_SOLD: f64 = (1u64 << 30) as f64;

/// The word for a class, as profiles have it.
pub(crate) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Desktop => "desktop",
        Class::Laptop => "laptop",
        Class::Workstation => "workstation",
        Class::Datacentre => "datacentre",
        Class::Phone => "phone",
        Class::Embedded => "embedded",
    }
}

/// The blocks of a chip that can run a model, the strongest first.
pub fn blocks(chip: &Chip) -> Vec<Block> {
    match chip.kind {
        Kind::Gpu => vec![Block::Gpu],
        Kind::Cpu => vec![Block::Cpu],
        Kind::Npu => vec![Block::Npu],
        Kind::Accelerator => {
            // Some rows call the arrays of an accelerator its GPU, some its NPU.
            let is_npu = chip.rates.iter().any(|rate| rate.block == Block::Npu);
            vec![if is_npu { Block::Npu } else { Block::Gpu }]
        }
        Kind::Soc => {
            let has = |block| chip.rates.iter().any(|rate| rate.block == block);
            let npu = chip.npu_family.is_some() || has(Block::Npu);
            let mut blocks = Vec::new();
            // A soc's `family` is that of its GPU; one with an NPU alone has no rates of a GPU.
            if has(Block::Gpu) || !npu || chip.cores.is_some() {
                blocks.push(Block::Gpu);
            }
            if npu {
                blocks.push(Block::Npu);
            }
            blocks.push(Block::Cpu);
            blocks
        }
    }
}

/// A block of a chip as a device, in a machine with so much memory (in GB as sold; for a card, its own).
pub fn profile(chip: &Chip, block: Block, memory_gb: Option<f64>) -> DeviceProfile {
    let limits = chip.limits.unwrap_or_default();
    let own = chip.block_bandwidth_gbs.unwrap_or_default();
    let (share, bandwidth, suffix) = match block {
        Block::Npu => (limits.npu_share, own.npu, " NPU"),
        Block::Cpu => (None, own.cpu, " CPU"),
        Block::Gpu | Block::Platform => (limits.gpu_share, own.gpu, " GPU"),
    };
    let memory_gb = chip.memory_gb.or(memory_gb);
    let kind = match (chip.kind, block) {
        (Kind::Accelerator, _) => DeviceKind::Accelerator,
        (_, Block::Npu) => DeviceKind::Npu,
        (_, Block::Cpu) => DeviceKind::Cpu,
        (_, Block::Gpu | Block::Platform) => DeviceKind::Gpu,
    };
    let name = match chip.kind {
        Kind::Soc => format!("{}{suffix}", chip.name),
        _ => chip.name.clone(),
    };
    DeviceProfile {
        vendor: chip.vendor.clone(),
        family: family(chip, block),
        class: Some(class_name(chip.class).to_owned()),
        memory: memory_gb.map(|gb| Bytes((gb * share.unwrap_or(1.0) * GB_SOLD) as u64)),
        memory_pool: match chip.memory {
            Memory::Own => MemoryPool::Own,
            Memory::Shared => MemoryPool::Shared,
        },
        bandwidth_peak_gbs: bandwidth.or(chip.bandwidth_gbs),
        rates: chip
            .rates
            .iter()
            .filter(|rate| rate.block == block)
            .map(rate)
            .collect(),
        cores: (block == Block::Gpu).then_some(chip.cores).flatten(),
        watts_idle: chip.idle_w,
        watts_limit: chip.tdp_w,
        link: chip.link.clone(),
        basis: Basis::Datasheet {
            source: format!("{}, {}", chip.source.url, chip.source.date),
        },
        ..DeviceProfile::unknown(name, kind)
    }
}

/// The generation of a block; a processor's cores have none of their own in the catalogue.
fn family(chip: &Chip, block: Block) -> Option<String> {
    match (chip.kind, block) {
        (Kind::Soc, Block::Cpu) => None,
        (_, Block::Npu) => Some(
            chip.npu_family
                .clone()
                .unwrap_or_else(|| chip.family.clone()),
        ),
        _ => Some(chip.family.clone()),
    }
}

fn rate(rate: &chip::Rate) -> Rate {
    Rate {
        format: rate.format,
        unit: rate.unit,
        dense_tops: rate.dense,
        sparse_tops: rate.sparse,
    }
}

/// 10⁹ bytes a second over a link, one way: `pcie4x8` is 15.8.
///
/// Lanes carry 0.985, 1.969, 3.938 and 7.563 GB/s from PCIe 3 to 6, coding subtracted. Of other links the catalogue has no
/// speed, so none is told.
pub fn link_gbs(link: &str) -> Option<f64> {
    let (generation, lanes) = link_parts(link)?;
    Some(lane_gbs(generation)? * f64::from(lanes))
}

/// 10⁹ bytes a second between a slot and a card in it: both run at the lower generation, over the fewer lanes.
pub(crate) fn joined_gbs(slot: &str, card: &str) -> Option<f64> {
    let (slot, card) = (link_parts(slot)?, link_parts(card)?);
    Some(lane_gbs(slot.0.min(card.0))? * f64::from(slot.1.min(card.1)))
}

/// Generation and lanes of a PCIe link.
fn link_parts(link: &str) -> Option<(u32, u32)> {
    let (generation, lanes) = link.strip_prefix("pcie")?.split_once('x')?;
    let lanes = lanes.parse().ok();
    let lanes = lanes.filter(|lanes| (1..=16).contains(lanes))?;
    Some((generation.parse().ok()?, lanes))
}

fn lane_gbs(generation: u32) -> Option<f64> {
    match generation {
        3 => Some(0.985),
        4 => Some(1.969),
        5 => Some(3.938),
        6 => Some(7.563),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use troika_base::{NumberFormat, Unit};

    use super::*;
    use crate::plan::testing::catalogue;

    #[test]
    fn a_slot_and_a_card_meet_at_the_lower_generation_and_the_fewer_lanes() {
        let near = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 0.01);
        assert!(near(link_gbs("pcie4x8"), 15.75));
        for (slot, card, gbs) in [
            ("pcie4x16", "pcie5x8", 15.75),
            ("pcie5x8", "pcie4x16", 15.75),
            ("pcie4x16", "pcie4x16", 31.5),
            ("pcie3x4", "pcie5x16", 3.94),
        ] {
            assert!(near(joined_gbs(slot, card), gbs), "{slot} {card}");
        }
        assert_eq!(joined_gbs("pcie4x16", "sxm"), None);
        for link in [
            "pcie4x0",
            "pcie9x4",
            "pcie4x17",
            "pciex",
            "x16",
            "pcie-4x16",
        ] {
            assert_eq!(link_gbs(link), None, "{link}");
        }
    }

    #[test]
    fn blocks_have_their_own_rates_and_shares() {
        let catalogue = catalogue();
        let chip = catalogue.chip("Test Soc 1").expect("is there").row;
        assert_eq!(blocks(chip), [Block::Gpu, Block::Npu, Block::Cpu]);
        let npu = profile(chip, Block::Npu, Some(32.0));
        assert_eq!(npu.memory, Some(Bytes(16 << 30)));
        assert_eq!(npu.family.as_deref(), Some("xdna2"));
        assert_eq!(npu.dense_tops(Unit::Matrix, NumberFormat::Int8), Some(50.0));
        let gpu = profile(chip, Block::Gpu, Some(32.0));
        assert_eq!(
            (gpu.bandwidth_peak_gbs, npu.bandwidth_peak_gbs),
            (Some(120.0), Some(60.0))
        );
        assert_eq!(gpu.memory_pool, MemoryPool::Shared);
    }

    #[test]
    fn links_are_as_fast_as_their_lanes() {
        assert_eq!(link_gbs("pcie4x8"), Some(1.969 * 8.0));
        for link in ["soc", "pcie9x4", "pcie4x", "pcie4x99", "sxm", ""] {
            assert_eq!(link_gbs(link), None, "{link}");
        }
    }
}
