//! How the KV cache keeps its values.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Number format of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&str")]
pub enum KvType {
    /// Two bytes a value.
    #[default]
    F16,
    /// Blocks of 32 values: a byte each, and a scale.
    Q8_0,
    /// Blocks of 32 values: four bits each, and a scale.
    Q4_0,
}

impl KvType {
    /// All of them, most bits first.
    pub const ALL: [Self; 3] = [Self::F16, Self::Q8_0, Self::Q4_0];

    /// `f16`, `q8_0`, `q4_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Bits per value, scales included.
    pub fn bits(self) -> f64 {
        match self {
            Self::F16 => 16.0,
            Self::Q8_0 => 8.5,
            Self::Q4_0 => 4.5,
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No number format of a KV cache has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKvType(String);

impl fmt::Display for UnknownKvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = KvType::ALL.map(KvType::name).join(", ");
        write!(f, "a KV cache is not kept in {:?}, but in {names}", self.0)
    }
}

impl std::error::Error for UnknownKvType {}

impl FromStr for KvType {
    type Err = UnknownKvType;

    /// As files and other programs write it, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, UnknownKvType> {
        let named = |kv_type: &Self| kv_type.name().eq_ignore_ascii_case(text);
        let found = Self::ALL.into_iter().find(named);
        found.ok_or_else(|| UnknownKvType(text.to_owned()))
    }
}

impl TryFrom<String> for KvType {
    type Error = UnknownKvType;

    fn try_from(text: String) -> Result<Self, UnknownKvType> {
        text.parse()
    }
}

impl From<KvType> for &str {
    fn from(kv_type: KvType) -> Self {
        kv_type.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for kv_type in KvType::ALL {
            assert_eq!(kv_type.name().parse(), Ok(kv_type));
            assert_eq!(kv_type.name().to_uppercase().parse(), Ok(kv_type));
        }
        let error = "q5_1".parse::<KvType>().unwrap_err().to_string();
        assert!(error.ends_with("f16, q8_0, q4_0"), "{error}");
    }
}
