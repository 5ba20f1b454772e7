//! The constants of the cost model.
//!
//! Written by `cargo xtask fit`; docs/adr/0009-cost-model.md says how. Not to be edited by hand.

use std::borrow::Cow;

use super::software::{Class, Family, Fit, Spread};

/// The constants in use.
pub static FIT: Fit = Fit {
    date: Cow::Borrowed("2026-11-21"),
    classes: Cow::Borrowed(&CLASSES),
    families: Cow::Borrowed(&FAMILIES),
    expert_layer: 0.86,
    expert_bytes: 1.48,
    state_layer: 1.83,
    window_layer: 1.29,
    ollama_us: 500.0,
    expert_prefill: 0.6,
};

const fn class(
    name: &'static str,
    bandwidth_share: f64,
    layer_us: f64,
    blocks_share: f64,
    half_share: f64,
) -> Class {
    Class {
        name,
        bandwidth_share,
        layer_us,
        blocks_share,
        half_share,
        decode: Spread {
            low: 0.7,
            high: 1.25,
        },
        prefill: Spread {
            low: 0.6,
            high: 1.5,
        },
        rows: 0,
    }
}

static CLASSES: [Class; 15] = [
    class("nvidia", 0.90, 60.0, 0.205, 0.75),
    class("nvidia-dc", 0.80, 50.0, 0.11, 0.55),
    class("nvidia-volta", 0.80, 60.0, 0.10, 0.45),
    class("nvidia-pascal", 0.50, 150.0, 0.25, 0.5),
    class("gb10", 0.78, 52.0, 0.205, 0.6),
    class("jetson", 0.78, 90.0, 0.15, 0.5),
    class("amd", 0.84, 72.0, 0.35, 0.4),
    class("amd-dc", 0.65, 80.0, 0.2, 0.25),
    class("intel", 0.65, 90.0, 0.15, 0.3),
    class("apple", 0.84, 80.0, 0.62, 0.62),
    class("adreno", 0.5, 150.0, 0.2, 0.2),
    class("cpu", 0.85, 12.0, 0.73, 0.73),
    class("npu", 0.55, 120.0, 0.12, 0.12),
    class("accelerator", 0.6, 60.0, 0.3, 0.4),
    class("unknown", 0.7, 90.0, 0.15, 0.4),
];

const fn family(name: &'static str, class: &'static str, bandwidth_factor: f64) -> Family {
    Family {
        name,
        class,
        bandwidth_factor,
    }
}

static FAMILIES: [Family; 3] = [
    family("ada", "nvidia", 1.0),
    family("ampere", "nvidia", 1.0),
    family("m1", "apple", 1.0),
];
