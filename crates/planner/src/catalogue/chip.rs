//! A chip's row: what a GPU, an NPU, a processor or an accelerator has.

use serde::{Deserialize, Serialize};
pub use troika_base::{NumberFormat as Format, Unit};

use super::source::{Date, Source};

/// A chip, as `docs/formats/catalogue.md` describes it. What no source states is absent.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Chip {
    /// The vendor's name, in full.
    pub name: String,
    /// What people write.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `nvidia`, `amd`, `apple`, …
    pub vendor: String,
    /// What it is.
    pub kind: Kind,
    /// Where it is used.
    pub class: Class,
    /// The generation, of the GPU if it has one.
    pub family: String,
    /// The generation of its NPU.
    pub npu_family: Option<String>,
    /// When it was shown.
    pub announced: Option<Date>,
    /// When it was sold.
    pub released: Option<Date>,
    /// A card's own memory, in GB as sold.
    pub memory_gb: Option<f64>,
    /// The sizes that a soc is sold with, in GB.
    #[serde(default)]
    pub memory_options_gb: Vec<f64>,
    /// `gddr6x`, `hbm3`, `lpddr5x`, …
    pub memory_kind: Option<String>,
    /// Whose memory it is.
    pub memory: Memory,
    /// Peak of the memory, in 10⁹ bytes a second.
    pub bandwidth_gbs: Option<f64>,
    /// What each block can draw of it, where that is less.
    pub block_bandwidth_gbs: Option<BlockBandwidth>,
    /// How much memory a block may take.
    pub limits: Option<Limits>,
    /// Board power of a card, package power of a processor.
    pub tdp_w: Option<f64>,
    /// Watts at rest, where somebody measured it.
    pub idle_w: Option<f64>,
    /// Streaming multiprocessors, compute units, Xe cores, GPU cores.
    pub cores: Option<u32>,
    /// Highest clock, in MHz.
    pub boost_mhz: Option<f64>,
    /// `pcie4x16`, `sxm`, `soc`, …
    pub link: Option<String>,
    /// Operations a second, by block, unit and number format.
    #[serde(default)]
    pub rates: Vec<Rate>,
    /// Where all of this is from.
    pub source: Source,
}

impl Chip {
    /// The rate of a block and unit in a number format.
    pub fn rate(&self, block: Block, unit: Unit, format: Format) -> Option<&Rate> {
        self.rates
            .iter()
            .find(|rate| rate.block == block && rate.unit == unit && rate.format == format)
    }

    /// Whether it is or can be had with so much memory.
    pub fn has_memory(&self, gb: f64) -> bool {
        let mut sizes = self.memory_gb.iter().chain(&self.memory_options_gb);
        sizes.any(|size| (size - gb).abs() < 0.51)
    }
}

/// What a chip is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Graphics processor with memory of its own.
    Gpu,
    /// Neural processor on a card of its own.
    Npu,
    /// Processor without either.
    Cpu,
    /// Processor with a GPU, an NPU or both.
    Soc,
    /// TPU, Inferentia, and the like.
    Accelerator,
}

/// Where a chip is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Desktop computers and cards for them.
    Desktop,
    /// Laptops, tablets with a laptop's chip, mini PCs with one.
    Laptop,
    /// Professional cards and machines.
    Workstation,
    /// Servers.
    Datacentre,
    /// Phones and tablets.
    Phone,
    /// Boards and sticks.
    Embedded,
}

/// Whose memory a chip works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Its own.
    Own,
    /// One memory for CPU, GPU and NPU.
    Shared,
}

/// A part of a chip that computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Block {
    /// The processor's cores.
    Cpu,
    /// The graphics processor.
    Gpu,
    /// The neural processor.
    Npu,
    /// The sum that marketing prints; never computed with.
    Platform,
}

/// What about a rate is not stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The vendor does not say which density or format the figure is for.
    Unstated,
}

/// How many operations a second, in 10¹²; a multiply-add is two.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// What computes.
    pub block: Block,
    /// With what.
    pub unit: Unit,
    /// On which numbers.
    pub format: Format,
    /// On matrices as they are.
    pub dense: Option<f64>,
    /// On matrices with two zeros in four.
    pub sparse: Option<f64>,
    /// What is unclear about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
}

/// Memory bandwidth by block, in 10⁹ bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BlockBandwidth {
    /// What the processor's cores can draw.
    pub cpu: Option<f64>,
    /// What the GPU can draw.
    pub gpu: Option<f64>,
    /// What the NPU can draw.
    pub npu: Option<f64>,
}

/// How much memory a block may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The most that one session on the NPU can address, in GB.
    pub npu_session_gb: Option<f64>,
    /// Share of the memory that the NPU may take.
    pub npu_share: Option<f64>,
    /// Share of the memory that the GPU may take.
    pub gpu_share: Option<f64>,
}
