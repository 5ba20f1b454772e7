//! From a GGUF model to a graph that an NPU's compiler takes.

use serde::{Deserialize, Serialize};

/// Weights that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// 64 in a row.
    Of64,
    /// 128 in a row.
    Of128,
    /// A whole row: the smallest, and the least exact.
    Channel,
}

/// How a graph's matrices are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightFormat {
    /// Four bits, symmetric.
    Int4(Group),
    /// Eight bits, symmetric, a scale for each row.
    Int8,
    /// Sixteen bits.
    F16,
}
