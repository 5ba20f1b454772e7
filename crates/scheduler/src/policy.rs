//! What the owner wants of the machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use troika_base::DeviceKind;

use crate::UnknownName;

/// What a placement is to be good at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Every job as soon as possible.
    Fastest,
    /// As few joules as its class's needs allow.
    Frugal,
    /// People and their programs fast, the rest frugal.
    #[default]
    Balanced,
    /// As few watts at a time as its class's needs allow: quiet fans.
    Cool,
    /// Frugal, and what nobody waits for waits for the mains.
    Battery,
}

/// What the owner wants: a goal, and a sort of device that is taken wherever it will do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Policy {
    /// The goal.
    pub goal: Goal,
    /// The sort of device.
    pub prefer: Option<DeviceKind>,
}

/// Our own names, and those of ONNX Runtime's policies, with what they mean here.
const NAMES: [(&str, Policy); 12] = [
    ("fastest", Policy::of(Goal::Fastest)),
    ("frugal", Policy::of(Goal::Frugal)),
    ("balanced", Policy::of(Goal::Balanced)),
    ("cool", Policy::of(Goal::Cool)),
    ("battery", Policy::of(Goal::Battery)),
    ("PREFER_CPU", Policy::preferring(DeviceKind::Cpu)),
    ("PREFER_GPU", Policy::preferring(DeviceKind::Gpu)),
    ("PREFER_NPU", Policy::preferring(DeviceKind::Npu)),
    ("MAX_PERFORMANCE", Policy::of(Goal::Fastest)),
    ("MAX_EFFICIENCY", Policy::of(Goal::Frugal)),
    ("MIN_OVERALL_POWER", Policy::of(Goal::Cool)),
    ("DEFAULT", Policy::of(Goal::Balanced)),
];

impl Policy {
    /// A goal, and any device.
    pub const fn of(goal: Goal) -> Self {
        Self { goal, prefer: None }
    }

    /// Balanced, but on this sort of device wherever it will do.
    pub const fn preferring(kind: DeviceKind) -> Self {
        Self {
            goal: Goal::Balanced,
            prefer: Some(kind),
        }
    }

    /// The names of all policies, our own first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, policy)| *policy == self);
        found.map_or("custom", |(name, _)| name)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Policy {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|&(_, policy)| policy).ok_or_else(|| {
            let known: Vec<_> = Self::names().collect();
            UnknownName::new("policy", name, known.join(", "))
        })
    }
}

impl TryFrom<String> for Policy {
    type Error = UnknownName;
    fn try_from(name: String) -> Result<Self, UnknownName> {
        name.parse()
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_each_policy_has_one() {
        for name in Policy::names() {
            let policy: Policy = name.to_lowercase().parse().expect("known");
            assert_eq!(policy.name().parse(), Ok(policy), "{name}");
        }
        assert_eq!(
            "PREFER_NPU".parse::<Policy>().map(|policy| policy.prefer),
            Ok(Some(DeviceKind::Npu))
        );
        let error = "turbo".parse::<Policy>().expect_err("unknown");
        assert!(error.to_string().contains("balanced, cool"), "{error}");
    }
}
