//! What costs money: hardware to rent and to buy, data out, electricity.

use serde::{Deserialize, Serialize};

use super::source::Source;

/// A node to rent.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Who rents it out: `aws`, `nebius`, …
    pub provider: String,
    /// The provider's name of it.
    pub name: String,
    /// The chip in it, by a name in the catalogue.
    pub chip: String,
    /// Chips in the node.
    pub count: u32,
    /// Price of the whole node for an hour.
    pub node_usd_hour: f64,
    /// The same, when the provider may take it back.
    pub spot_usd_hour: Option<f64>,
    /// What is billed whole.
    pub billing: Billing,
    /// The least that is billed, in seconds.
    pub minimum_s: Option<f64>,
    /// Where it stands.
    pub region: Option<String>,
    /// Virtual processors of the node.
    pub vcpus: Option<f64>,
    /// Memory of the node beside its chips', in GB.
    pub memory_gb: Option<f64>,
    /// Promised share of time in service, such as 0.999.
    pub sla: Option<f64>,
    /// Where this is from; the price is of that day.
    pub source: Source,
}

impl Offer {
    /// Price of one chip for an hour.
    pub fn chip_usd_hour(&self) -> f64 {
        self.node_usd_hour / f64::from(self.count)
    }
}

/// What is billed whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Billing {
    /// Each second begun.
    Second,
    /// Each minute begun.
    Minute,
    /// Each hour begun.
    Hour,
    /// Each month begun.
    Month,
}

impl Billing {
    /// Seconds of the unit; a month has 730 hours.
    pub fn seconds(self) -> f64 {
        match self {
            Self::Second => 1.0,
            Self::Minute => 60.0,
            Self::Hour => 3600.0,
            Self::Month => 730.0 * 3600.0,
        }
    }
}

/// What data out of a cloud costs: see [`crate::tco::Tariff`], which bills by it.
///
/// Tiers count from the first GB, free ones included.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Whose cloud.
    pub provider: String,
    /// Where the data goes.
    pub destination: Destination,
    /// GB a month that cost nothing.
    pub free_gb_month: Option<f64>,
    /// Prices by the month's volume, ascending.
    pub tiers: Vec<Tier>,
    /// Where this is from; the price is of that day.
    pub source: Source,
}

/// Where data goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// Out of the cloud.
    #[default]
    Internet,
    /// To another region of the same cloud.
    Region,
    /// To another zone of the same region.
    Zone,
}

/// A price up to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Where it ends, in GB a month; the last one has no end.
    pub up_to_gb: Option<f64>,
    /// Price of one GB.
    pub usd_gb: f64,
}

/// What a chip costs to buy.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// A chip, by a name in the catalogue, or a `[[part]]`.
    pub item: String,
    /// New or not.
    pub kind: Condition,
    /// The usual price.
    pub usd: f64,
    /// The lowest seen.
    pub low_usd: Option<f64>,
    /// The highest seen.
    pub high_usd: Option<f64>,
    /// Where this is from; the price is of that day.
    pub source: Source,
}

/// New or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// From a shop.
    New,
    /// Repaired and sold with a warranty.
    Refurbished,
    /// From its last owner.
    Used,
}

/// Something a machine is made of beside its chips, or a whole machine.
///
/// What it has to say depends on its kind: a power supply its watts, a board its slots, a memory kit its size.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it is sold as.
    pub name: String,
    /// What people write.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it is for.
    pub kind: PartKind,
    /// The usual price.
    pub usd: f64,
    /// The lowest seen.
    pub low_usd: Option<f64>,
    /// The highest seen.
    pub high_usd: Option<f64>,
    /// New or not.
    #[serde(default = "Part::condition")]
    pub condition: Condition,
    /// The catalogue's chips inside.
    #[serde(default)]
    pub chips: Vec<String>,
    /// What a power supply gives, in watts.
    pub supply_w: Option<f64>,
    /// What it takes at work, in watts.
    pub draw_w: Option<f64>,
    /// What it takes at rest, in watts.
    pub idle_w: Option<f64>,
    /// The slots of a board when all of them are taken: `pcie5x8`, `pcie4x4`, …
    #[serde(default)]
    pub slots: Vec<String>,
    /// Processors and boards fit if they name the same one.
    pub socket: Option<String>,
    /// Memory that is in it, in GB.
    pub memory_gb: Option<f64>,
    /// Memory that a board takes at most, in GB.
    pub memory_max_gb: Option<f64>,
    /// `ddr5`, `lpddr5x`, …
    pub memory_kind: Option<String>,
    /// Bandwidth of that memory, in 10⁹ bytes a second.
    pub bandwidth_gbs: Option<f64>,
    /// Storage in it, in GB.
    pub storage_gb: Option<f64>,
    /// Battery in it, in watt-hours.
    pub battery_wh: Option<f64>,
    /// Where this is from; the price is of that day.
    pub source: Source,
}

impl Part {
    fn condition() -> Condition {
        Condition::New
    }
}

/// What a part is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    /// Turns mains into what a board takes.
    PowerSupply,
    /// A board with slots.
    Board,
    /// A processor, to be put on a board.
    Processor,
    /// Its cooler.
    Cooler,
    /// A kit of memory.
    Memory,
    /// A solid-state disk.
    Storage,
    /// What holds it all.
    Case,
    /// Cables, bridges, risers.
    Cable,
    /// A whole mini PC.
    MiniPc,
    /// A whole laptop.
    Laptop,
    /// A whole desktop computer or workstation.
    Desktop,
    /// A single-board computer.
    BoardComputer,
}

impl PartKind {
    /// Whether it is a machine by itself.
    pub fn is_machine(self) -> bool {
        matches!(
            self,
            Self::MiniPc | Self::Laptop | Self::Desktop | Self::BoardComputer
        )
    }
}

/// What a kilowatt-hour costs, and emits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Country {
    /// ISO 3166 code of two letters; regions as `US-CA`.
    pub code: String,
    /// Its name in English.
    pub name: String,
    /// What households pay, all taxes in.
    pub usd_kwh: f64,
    /// What businesses pay.
    pub business_usd_kwh: Option<f64>,
    /// Grams of CO₂ equivalent.
    pub gco2_kwh: Option<f64>,
    /// Where this is from.
    pub source: Source,
}
