//! How a graph's matrices are written, and what people call it.

use std::fmt;
use std::str::FromStr;

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

impl WeightFormat {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Int4(Group::Of64),
        Self::Int4(Group::Of128),
        Self::Int4(Group::Channel),
        Self::Int8,
        Self::F16,
    ];

    /// `int4-g64`, `int4-g128`, `int4-channel`, `int8`, `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int4(Group::Of64) => "int4-g64",
            Self::Int4(Group::Of128) => "int4-g128",
            Self::Int4(Group::Channel) => "int4-channel",
            Self::Int8 => "int8",
            Self::F16 => "f16",
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no format has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no format of weights; those that are: {}", WeightFormat::ALL.map(WeightFormat::name).join(", "))]
pub struct UnknownFormat {
    name: String,
}

impl FromStr for WeightFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let named = |format: &Self| format.name().eq_ignore_ascii_case(name);
        let format = Self::ALL.into_iter().find(named);
        format.ok_or_else(|| UnknownFormat {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for format in WeightFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("INT8".parse(), Ok(WeightFormat::Int8));
        assert_eq!(
            "int4".parse::<WeightFormat>().unwrap_err().to_string(),
            "`int4` is no format of weights; those that are: int4-g64, int4-g128, int4-channel, int8, f16"
        );
    }
}
