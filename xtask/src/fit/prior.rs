//! What is known before any measurement: where the search starts, and what stays where there are no rows.
//!
//! The shares come from how the hardware works, not from benchmarks of the chips that will be predicted. GDDR and LPDDR lose a
//! tenth to refresh and turning the bus; HBM loses more at the small sizes that one token reads. A layer is about ten launches
//! of four to eight microseconds. Quantized matrices are multiplied as 8-bit integers, with scaling between the tensor
//! cores' instructions: a fifth of the integer rate on GeForce; a tenth where the cores are twice as wide and the rest is not.

use std::borrow::Cow;

use troika_planner::cost::{Class, Family, Fit, Spread};

/// The interval of classes without rows of their own: as wide as tools that guess a constant are wrong.
const UNSEEN_DECODE: Spread = Spread {
    low: 0.62,
    high: 1.4,
};
const UNSEEN_PREFILL: Spread = Spread {
    low: 0.45,
    high: 2.0,
};

/// Name, share of bandwidth, microseconds a layer, share of the rate for blocks and for 16-bit weights.
const CLASSES: [(&str, f64, f64, f64, f64); 15] = [
    ("nvidia", 0.88, 52.0, 0.205, 0.75),
    ("nvidia-dc", 0.80, 48.0, 0.105, 0.55),
    ("nvidia-volta", 0.80, 60.0, 0.10, 0.45),
    ("nvidia-pascal", 0.62, 110.0, 0.25, 0.5),
    ("gb10", 0.80, 60.0, 0.205, 0.6),
    ("jetson", 0.78, 90.0, 0.15, 0.5),
    ("amd", 0.86, 70.0, 0.35, 0.4),
    ("amd-dc", 0.65, 80.0, 0.2, 0.25),
    ("intel", 0.65, 90.0, 0.15, 0.3),
    ("apple", 0.86, 90.0, 0.62, 0.66),
    ("adreno", 0.5, 150.0, 0.2, 0.2),
    ("cpu", 0.85, 12.0, 0.73, 0.73),
    ("npu", 0.55, 120.0, 0.12, 0.12),
    ("accelerator", 0.6, 60.0, 0.3, 0.4),
    ("unknown", 0.7, 90.0, 0.15, 0.4),
];

/// The generations of each class, as the catalogue names them.
const FAMILIES: [(&str, &[&str]); 12] = [
    (
        "nvidia",
        &["turing-gtx", "turing", "ampere", "ada", "blackwell"],
    ),
    (
        "nvidia-dc",
        &["ampere-dc", "ada-dc", "hopper", "blackwell-dc", "rubin"],
    ),
    ("nvidia-volta", &["volta"]),
    ("nvidia-pascal", &["kepler", "maxwell", "pascal"]),
    ("gb10", &["gb10"]),
    (
        "jetson",
        &[
            "jetson-nano",
            "jetson-tx2",
            "jetson-xavier",
            "jetson-orin",
            "jetson-thor",
        ],
    ),
    (
        "amd",
        &[
            "gcn4", "gcn5", "rdna1", "rdna2", "rdna3", "rdna3.5", "rdna4",
        ],
    ),
    (
        "amd-dc",
        &["gcn5.1", "cdna1", "cdna2", "cdna3", "cdna4", "cdna5"],
    ),
    (
        "intel",
        &[
            "gen9",
            "gen11",
            "gen12",
            "xe-lp",
            "xe-lpg",
            "xe-lpg+",
            "xe-hpg",
            "xe2",
            "xe3",
            "ponte-vecchio",
        ],
    ),
    (
        "apple",
        &[
            "m1", "m2", "m3", "m4", "m5", "m6", "a14", "a15", "a16", "a17", "a18", "a19",
        ],
    ),
    (
        "adreno",
        &[
            "adreno-6",
            "adreno-7",
            "adreno-8",
            "adreno-x1",
            "adreno-x2",
            "mali-valhall",
            "mali-5gen",
            "immortalis",
            "xclipse",
        ],
    ),
    ("accelerator", &["gaudi2", "gaudi3"]),
];

/// The constants before the fit.
pub(super) fn constants() -> Fit {
    let classes = CLASSES.map(
        |(name, bandwidth_share, layer_us, blocks_share, half_share)| Class {
            name,
            bandwidth_share,
            layer_us,
            blocks_share,
            half_share,
            decode: UNSEEN_DECODE,
            prefill: UNSEEN_PREFILL,
            rows: 0,
        },
    );
    let families = FAMILIES
        .iter()
        .flat_map(|&(class, names)| {
            names.iter().map(move |&name| Family {
                name,
                class,
                bandwidth_factor: 1.0,
            })
        })
        .collect();
    Fit {
        date: Cow::Borrowed(""),
        classes: Cow::Owned(classes.to_vec()),
        families: Cow::Owned(families),
        // Routing, and gathering rows by expert.
        expert_layer: 1.2,
        expert_bytes: 1.2,
        // A scan beside the convolution and the gates.
        state_layer: 1.5,
        // Twice the norms.
        window_layer: 1.2,
        // Its runner samples and streams in a process of its own.
        ollama_us: 300.0,
        expert_prefill: 0.55,
    }
}
