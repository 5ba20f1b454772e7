//! What is known of a device: measured, or read from a data sheet.
//!
//! One type for both, so that the cost model, the planner, the scheduler and the simulator need not care where a
//! figure came from; [`Basis`] remembers it for those who do. Nothing here computes a speed.

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// What sort of processor a device is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The cores of a processor, with their matrix unit if they have one.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// A neural processor.
    Npu,
    /// A TPU, Inferentia, LPU: rented, or on a card of its own.
    Accelerator,
}

/// The format of the numbers that a rate is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the formats' own")]
pub enum NumberFormat {
    Fp64,
    Fp32,
    Tf32,
    Bf16,
    Fp16,
    Fp8,
    Fp6,
    Fp4,
    Int8,
    Int4,
    Binary,
}

/// The part of a processor that computes at a rate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Shaders, SIMD lanes.
    Vector,
    /// Tensor cores, XMX, WMMA, AMX, the arrays of an NPU.
    Matrix,
}

/// Operations a second in one number format; a multiply-add counts as two.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// Of what.
    pub format: NumberFormat,
    /// By what.
    pub unit: Unit,
    /// 10¹² operations a second on dense matrices.
    pub dense_tops: Option<f64>,
    /// 10¹² operations a second where half of the weights are zero in the pattern that the hardware skips.
    pub sparse_tops: Option<f64>,
}

/// Where a device's memory is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryPool {
    /// The device's own.
    Own,
    /// The machine's: shared with the other processors, bandwidth included.
    Shared,
}

/// Where a profile's figures come from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "basis")]
pub enum Basis {
    /// Measured on this very device.
    Measured {
        /// When, as RFC 3339.
        at: String,
    },
    /// Published by somebody.
    Datasheet {
        /// Who, and when it was read.
        source: String,
    },
    /// Given by the user.
    Described,
}

/// A device as the cost model sees it. What is not known is `None`; nothing is guessed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeviceProfile {
    /// The chip's name, in full: `NVIDIA GeForce RTX 4090`.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// `nvidia`, `amd`, `intel`, `apple`, ...
    pub vendor: String,
    /// The generation, in the catalogue's words: `ada`, `rdna3`, `m4`, `xdna2`. It decides which constants apply.
    pub family: Option<String>,
    /// `desktop`, `laptop`, `workstation`, `datacentre`, `phone`, `embedded`.
    pub class: Option<String>,
    /// Memory that it can use.
    pub memory: Option<Bytes>,
    /// Whose memory that is.
    pub memory_pool: MemoryPool,
    /// What the memory's pins can move, in 10⁹ bytes a second, from the data sheet.
    pub bandwidth_peak_gbs: Option<f64>,
    /// What a reading loop got, in 10⁹ bytes a second; decides over the peak where it is known.
    pub bandwidth_measured_gbs: Option<f64>,
    /// Matrix and vector rates from the data sheet.
    pub rates: Vec<Rate>,
    /// Rates that a loop of multiplications reached; decide over those of the data sheet.
    pub rates_measured: Vec<Rate>,
    /// Time from asking for a step to its start.
    pub launch_us: Option<f64>,
    /// Cores, SMs, compute units.
    pub cores: Option<u32>,
    /// Power at rest, in watts.
    pub watts_idle: Option<f64>,
    /// Power that the maker allows, in watts: TDP, TGP, package power.
    pub watts_limit: Option<f64>,
    /// Power under load where a meter told it, in watts.
    pub watts_busy: Option<f64>,
    /// How the device hangs on the machine: `pcie4x16`, `soc`, ...
    pub link: Option<String>,
    /// Where all this comes from.
    #[serde(flatten)]
    pub basis: Basis,
}

impl DeviceProfile {
    /// A device of which nothing is known but its name and kind.
    pub fn unknown(name: impl Into<String>, kind: DeviceKind) -> Self {
        Self {
            name: name.into(),
            kind,
            vendor: String::new(),
            family: None,
            class: None,
            memory: None,
            memory_pool: MemoryPool::Own,
            bandwidth_peak_gbs: None,
            bandwidth_measured_gbs: None,
            rates: Vec::new(),
            rates_measured: Vec::new(),
            launch_us: None,
            cores: None,
            watts_idle: None,
            watts_limit: None,
            watts_busy: None,
            link: None,
            basis: Basis::Described,
        }
    }

    /// The dense rate in a format by a unit, in 10¹² operations a second: measured if it was, else the data sheet's.
    pub fn dense_tops(&self, unit: Unit, format: NumberFormat) -> Option<f64> {
        let find = |rates: &[Rate]| {
            rates
                .iter()
                .find(|rate| rate.unit == unit && rate.format == format)
                .and_then(|rate| rate.dense_tops)
        };
        find(&self.rates_measured).or_else(|| find(&self.rates))
    }
}
