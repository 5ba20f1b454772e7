//! Names of weight formats: `int4-g128`, `int4-channel`, `int8`, `f16`.

use std::fmt;
use std::str::FromStr;

use crate::{Group, WeightFormat};

const NAMES: [(&str, WeightFormat); 5] = [
    ("int4-g64", WeightFormat::Int4(Group::Of64)),
    ("int4-g128", WeightFormat::Int4(Group::Of128)),
    ("int4-channel", WeightFormat::Int4(Group::Channel)),
    ("int8", WeightFormat::Int8),
    ("f16", WeightFormat::F16),
];

/// A word that names no weight format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{word:?} is no format of weights; there are int4-g64, int4-g128, int4-channel, int8 and f16"
)]
pub struct UnknownFormat {
    /// As it was given.
    pub word: String,
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, format)| format == self);
        f.pad(name.map_or("unknown", |(name, _)| name))
    }
}

impl FromStr for WeightFormat {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        let found = NAMES.iter().find(|(name, _)| *name == word);
        found
            .map(|(_, format)| *format)
            .ok_or_else(|| UnknownFormat {
                word: word.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (name, format) in NAMES {
            assert_eq!(format.to_string(), name);
            assert_eq!(name.parse(), Ok(format));
        }
        for word in ["", "int4", "INT8", "q4_0"] {
            assert!(word.parse::<WeightFormat>().is_err(), "{word}");
        }
    }
}
