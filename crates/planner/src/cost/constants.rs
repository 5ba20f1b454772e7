//! The constants of the cost model.
//!
//! Written by `cargo xtask fit` from fit/rows.csv; docs/adr/0009-cost-model.md says how. Not to be edited by hand.
//!
//! Decode, on devices left out of the fit: median error 14.5 % of 922 rows, 94 % within a factor of two. Prefill: 28.4 % of 288
//! rows. Intervals are those in which eight of ten of these rows lie.

use std::borrow::Cow;

use super::software::{Class, Family, Fit, Spread};

/// The constants in use.
pub static FIT: Fit = Fit {
    date: Cow::Borrowed("2026-11-21"),
    classes: Cow::Borrowed(&CLASSES),
    families: Cow::Borrowed(&FAMILIES),
    expert_layer: 1.113,
    expert_bytes: 1.28,
    state_layer: 1.308,
    window_layer: 1.012,
    ollama_us: 264.7,
    expert_prefill: 0.5,
};

static CLASSES: [Class; 15] = [
    Class {
        name: "nvidia",
        bandwidth_share: 0.921,
        layer_us: 60.028,
        blocks_share: 0.245,
        half_share: 1.022,
        decode: Spread {
            low: 0.622,
            high: 1.265,
        },
        prefill: Spread {
            low: 0.501,
            high: 1.556,
        },
        rows: 460,
    },
    Class {
        name: "nvidia-dc",
        bandwidth_share: 0.8,
        layer_us: 48.0,
        blocks_share: 0.105,
        half_share: 0.55,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 2,
    },
    Class {
        name: "nvidia-volta",
        bandwidth_share: 0.8,
        layer_us: 60.0,
        blocks_share: 0.1,
        half_share: 0.45,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 0,
    },
    Class {
        name: "nvidia-pascal",
        bandwidth_share: 0.628,
        layer_us: 148.1,
        blocks_share: 0.25,
        half_share: 0.5,
        decode: Spread {
            low: 0.563,
            high: 1.05,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 58,
    },
    Class {
        name: "gb10",
        bandwidth_share: 0.775,
        layer_us: 44.122,
        blocks_share: 0.205,
        half_share: 0.6,
        decode: Spread {
            low: 0.862,
            high: 1.188,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 84,
    },
    Class {
        name: "jetson",
        bandwidth_share: 0.78,
        layer_us: 90.0,
        blocks_share: 0.15,
        half_share: 0.5,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 0,
    },
    Class {
        name: "amd",
        bandwidth_share: 0.87,
        layer_us: 74.146,
        blocks_share: 0.258,
        half_share: 0.401,
        decode: Spread {
            low: 0.7,
            high: 1.331,
        },
        prefill: Spread {
            low: 0.494,
            high: 1.644,
        },
        rows: 117,
    },
    Class {
        name: "amd-dc",
        bandwidth_share: 0.65,
        layer_us: 80.0,
        blocks_share: 0.2,
        half_share: 0.25,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 0,
    },
    Class {
        name: "intel",
        bandwidth_share: 0.65,
        layer_us: 90.0,
        blocks_share: 0.15,
        half_share: 0.3,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 6,
    },
    Class {
        name: "apple",
        bandwidth_share: 0.85,
        layer_us: 74.551,
        blocks_share: 0.704,
        half_share: 0.575,
        decode: Spread {
            low: 0.69,
            high: 1.143,
        },
        prefill: Spread {
            low: 0.494,
            high: 1.644,
        },
        rows: 195,
    },
    Class {
        name: "adreno",
        bandwidth_share: 0.5,
        layer_us: 150.0,
        blocks_share: 0.2,
        half_share: 0.2,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 0,
    },
    Class {
        name: "cpu",
        bandwidth_share: 0.85,
        layer_us: 12.0,
        blocks_share: 0.73,
        half_share: 0.73,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 0,
    },
    Class {
        name: "npu",
        bandwidth_share: 0.55,
        layer_us: 120.0,
        blocks_share: 0.12,
        half_share: 0.12,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 0,
    },
    Class {
        name: "accelerator",
        bandwidth_share: 0.6,
        layer_us: 60.0,
        blocks_share: 0.3,
        half_share: 0.4,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 0,
    },
    Class {
        name: "unknown",
        bandwidth_share: 0.7,
        layer_us: 90.0,
        blocks_share: 0.15,
        half_share: 0.4,
        decode: Spread {
            low: 0.62,
            high: 1.4,
        },
        prefill: Spread {
            low: 0.45,
            high: 2.0,
        },
        rows: 0,
    },
];

const fn family(name: &'static str, class: &'static str, bandwidth_factor: f64) -> Family {
    Family {
        name,
        class,
        bandwidth_factor,
    }
}

static FAMILIES: [Family; 66] = [
    family("turing-gtx", "nvidia", 0.999),
    family("turing", "nvidia", 0.97),
    family("ampere", "nvidia", 1.012),
    family("ada", "nvidia", 1.009),
    family("blackwell", "nvidia", 0.989),
    family("ampere-dc", "nvidia-dc", 1.0),
    family("ada-dc", "nvidia-dc", 1.0),
    family("hopper", "nvidia-dc", 1.01),
    family("blackwell-dc", "nvidia-dc", 1.0),
    family("rubin", "nvidia-dc", 1.0),
    family("volta", "nvidia-volta", 1.0),
    family("kepler", "nvidia-pascal", 1.0),
    family("maxwell", "nvidia-pascal", 1.0),
    family("pascal", "nvidia-pascal", 1.009),
    family("gb10", "gb10", 0.986),
    family("jetson-nano", "jetson", 1.0),
    family("jetson-tx2", "jetson", 1.0),
    family("jetson-xavier", "jetson", 1.0),
    family("jetson-orin", "jetson", 1.0),
    family("jetson-thor", "jetson", 1.0),
    family("gcn4", "amd", 1.0),
    family("gcn5", "amd", 1.0),
    family("rdna1", "amd", 1.0),
    family("rdna2", "amd", 1.019),
    family("rdna3", "amd", 0.985),
    family("rdna3.5", "amd", 1.0),
    family("rdna4", "amd", 1.005),
    family("gcn5.1", "amd-dc", 1.0),
    family("cdna1", "amd-dc", 1.0),
    family("cdna2", "amd-dc", 1.0),
    family("cdna3", "amd-dc", 1.0),
    family("cdna4", "amd-dc", 1.0),
    family("cdna5", "amd-dc", 1.0),
    family("gen9", "intel", 1.0),
    family("gen11", "intel", 1.0),
    family("gen12", "intel", 1.0),
    family("xe-lp", "intel", 1.0),
    family("xe-lpg", "intel", 1.0),
    family("xe-lpg+", "intel", 1.0),
    family("xe-hpg", "intel", 1.0),
    family("xe2", "intel", 1.008),
    family("xe3", "intel", 1.007),
    family("ponte-vecchio", "intel", 1.0),
    family("m1", "apple", 0.951),
    family("m2", "apple", 1.005),
    family("m3", "apple", 0.989),
    family("m4", "apple", 0.999),
    family("m5", "apple", 1.069),
    family("m6", "apple", 1.0),
    family("a14", "apple", 1.0),
    family("a15", "apple", 1.0),
    family("a16", "apple", 1.0),
    family("a17", "apple", 1.0),
    family("a18", "apple", 1.0),
    family("a19", "apple", 1.0),
    family("adreno-6", "adreno", 1.0),
    family("adreno-7", "adreno", 1.0),
    family("adreno-8", "adreno", 1.0),
    family("adreno-x1", "adreno", 1.0),
    family("adreno-x2", "adreno", 1.0),
    family("mali-valhall", "adreno", 1.0),
    family("mali-5gen", "adreno", 1.0),
    family("immortalis", "adreno", 1.0),
    family("xclipse", "adreno", 1.0),
    family("gaudi2", "accelerator", 1.0),
    family("gaudi3", "accelerator", 1.0),
];
