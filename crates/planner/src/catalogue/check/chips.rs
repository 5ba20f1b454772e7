//! What is wrong with chips.

use super::super::chip::{Block, Chip, Class, Kind, Memory, Rate};
use super::super::{Catalogue, names};
use super::{OfRow, Report};

/// Memories that a row may name.
const MEMORIES: [&str; 27] = [
    "ddr3", "ddr4", "ddr5", "gddr5", "gddr5x", "gddr6", "gddr6x", "gddr7", "hbm", "hbm2", "hbm2e",
    "hbm3", "hbm3e", "hbm4", "lpddr3", "lpddr4", "lpddr4x", "lpddr5", "lpddr5t", "lpddr5x",
    "lpddr6", "sram", "mrdimm", "dram", "ddr3l", "hmc", "edram",
];

/// The most that chips of a class draw (W) and read (10⁹ bytes a second): what is above is a slip of the pen.
fn most(class: Class) -> (f64, f64) {
    match class {
        Class::Desktop => (700.0, 2_000.0),
        Class::Laptop => (250.0, 1_300.0),
        Class::Workstation => (1_000.0, 2_500.0),
        Class::Datacentre => (4_000.0, 30_000.0),
        Class::Phone => (40.0, 200.0),
        Class::Embedded => (150.0, 500.0),
    }
}

pub(super) fn check(catalogue: &Catalogue, report: &mut Report) {
    let chips = || catalogue.chips.with_files();
    report.shared_names(chips().map(|(file, row)| (file, &row.name, &row.aliases)));
    for (file, chip) in chips() {
        let mut of = report.of(file, &chip.name);
        of.source(&chip.source);
        words(chip, &mut of);
        memory(chip, &mut of);
        power(chip, &mut of);
        rates(chip, &mut of);
    }
}

fn words(chip: &Chip, of: &mut OfRow<'_>) {
    for (field, word) in [
        ("vendor", Some(&chip.vendor)),
        ("family", Some(&chip.family)),
        ("npu_family", chip.npu_family.as_ref()),
        ("memory_kind", chip.memory_kind.as_ref()),
        ("link", chip.link.as_ref()),
    ] {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-+._".contains(c);
        if let Some(word) = word {
            of.expect(!word.is_empty() && word.chars().all(is_word), || {
                format!("{field} = {word:?} is no word in lower case")
            });
        }
    }
    if let Some(kind) = &chip.memory_kind {
        of.expect(MEMORIES.contains(&kind.as_str()), || {
            format!(
                "no memory_kind is known as {kind:?}; known are {}",
                MEMORIES.join(" ")
            )
        });
    }
    if let (Some(announced), Some(released)) = (chip.announced, chip.released) {
        of.expect(announced <= released, || {
            format!("it was released on {released}, before it was announced on {announced}")
        });
    }
}

fn memory(chip: &Chip, of: &mut OfRow<'_>) {
    let (_, bandwidth_max) = most(chip.class);
    of.range("memory_gb", chip.memory_gb, 0.001, 2_048.0);
    for &gb in &chip.memory_options_gb {
        of.range("memory_options_gb", gb, 0.25, 8_192.0);
    }
    of.range("bandwidth_gbs", chip.bandwidth_gbs, 1.0, bandwidth_max);
    let is_soc = chip.kind == Kind::Soc;
    of.expect(!is_soc || chip.memory == Memory::Shared, || {
        "a soc's memory is shared".to_owned()
    });
    of.expect(!is_soc || chip.memory_gb.is_none(), || {
        "a soc has memory_options_gb, not memory_gb".to_owned()
    });
    let says = std::iter::once(&chip.name).chain(&chip.aliases);
    for name in says {
        if let Some(gb) = names::chip_name(name).memory_gb {
            of.expect(chip.has_memory(gb), || {
                format!("{name:?} says {gb} GB, the row does not")
            });
        }
    }
    let blocks = chip.block_bandwidth_gbs.unwrap_or_default();
    for (block, gbs) in [
        ("cpu", blocks.cpu),
        ("gpu", blocks.gpu),
        ("npu", blocks.npu),
    ] {
        let all = chip.bandwidth_gbs.unwrap_or(bandwidth_max);
        of.range(
            &format!("block_bandwidth_gbs.{block}"),
            gbs,
            1.0,
            all * 1.001,
        );
    }
    let limits = chip.limits.unwrap_or_default();
    of.range("limits.npu_session_gb", limits.npu_session_gb, 0.1, 1_024.0);
    of.range("limits.npu_share", limits.npu_share, 0.01, 1.0);
    of.range("limits.gpu_share", limits.gpu_share, 0.01, 1.0);
}

fn power(chip: &Chip, of: &mut OfRow<'_>) {
    let (tdp_max, _) = most(chip.class);
    of.range("tdp_w", chip.tdp_w, 0.3, tdp_max);
    of.range("idle_w", chip.idle_w, 0.01, chip.tdp_w.unwrap_or(tdp_max));
    of.range("cores", chip.cores.map(f64::from), 1.0, 1_024.0);
    of.range("boost_mhz", chip.boost_mhz, 100.0, 7_000.0);
}

fn rates(chip: &Chip, of: &mut OfRow<'_>) {
    for (at, rate) in chip.rates.iter().enumerate() {
        let name = rate_name(rate);
        let same = |other: &Rate| rate_name(other) == name;
        of.expect(!chip.rates[..at].iter().any(same), || {
            format!("the rate of {name} stands there twice")
        });
        of.expect(rate.dense.is_some() || rate.sparse.is_some(), || {
            format!("the rate of {name} is neither dense nor sparse")
        });
        // A sum of a marketing department may be larger than a block, but no chip computes 10^17 operations a second.
        of.range(
            &format!("the dense rate of {name}"),
            rate.dense,
            0.001,
            100_000.0,
        );
        of.range(
            &format!("the sparse rate of {name}"),
            rate.sparse,
            0.001,
            200_000.0,
        );
        if let (Some(dense), Some(sparse)) = (rate.dense, rate.sparse) {
            let is_noted = chip
                .source
                .note
                .as_ref()
                .is_some_and(|note| note.contains("sparse"));
            of.expect(is_noted || (sparse / dense - 2.0).abs() < 0.04, || {
                format!("the sparse rate of {name}, {sparse}, is not twice the dense one, {dense}, and no note says why")
            });
        }
        if rate.block == Block::Platform {
            let npu = chip
                .rates
                .iter()
                .find(|npu| npu.block == Block::Npu && npu.format == rate.format);
            if let Some(npu) = npu {
                of.expect(most_of(rate) >= most_of(npu), || {
                    format!(
                        "the platform's {} are less than its NPU's {}",
                        most_of(rate),
                        most_of(npu)
                    )
                });
            }
        }
    }
}

fn most_of(rate: &Rate) -> f64 {
    rate.dense.unwrap_or(0.0).max(rate.sparse.unwrap_or(0.0))
}

fn rate_name(rate: &Rate) -> String {
    format!("{:?} {:?} {:?}", rate.block, rate.unit, rate.format).to_lowercase()
}
