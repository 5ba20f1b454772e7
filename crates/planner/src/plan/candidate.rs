//! What comes into question: ways to come by a [`Rig`](super::rig::Rig). `super::field` makes them all.

use serde::Serialize;
use troika_base::{Bytes, DeviceProfile};

use super::build::Outlay;
use crate::catalogue::{Block, Chip, Class, Offer};

/// A device of this machine.
#[derive(Clone, Debug)]
pub struct HereDevice {
    /// `cpu0`, `gpu0`, `npu0`.
    pub id: String,
    /// What is known of it.
    pub profile: DeviceProfile,
    /// Memory that others leave for it, where that is known.
    pub memory_free: Option<Bytes>,
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

/// A device that the catalogue lacks, as the user describes it.
#[derive(Clone, Debug)]
pub struct Described {
    /// What is known of it.
    pub profile: DeviceProfile,
    /// Its price, in US dollars; where there is none, it is taken to be at hand already.
    pub usd: Option<f64>,
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

/// A way to come by a rig.
#[derive(Clone, Debug)]
pub struct Candidate<'c> {
    /// What to call it; no two share one.
    pub name: String,
    /// How it is come by.
    pub place: Place,
    /// Its rig's number in [`Field::rigs`](super::field::Field).
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

impl Candidate<'_> {
    /// A way that costs nothing, and of which nothing else is known.
    pub(super) fn new(name: String, place: Place, rig: usize) -> Self {
        Self {
            name,
            place,
            rig,
            blocks: Vec::new(),
            class: None,
            has_battery: false,
            outlay: None,
            offer: None,
            is_spot: false,
            blocked: None,
        }
    }
}
