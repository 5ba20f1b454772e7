//! How urgent a job is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How urgent a job is. A greater class goes first, everywhere.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Some time today: files of jobs.
    Batch,
    /// Nobody waits for it: indexing, summaries, embeddings of many texts.
    Background,
    /// A program waits, and a person for the program.
    Agent,
    /// A person waits.
    #[default]
    Interactive,
}

impl Class {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 4] = [
        Self::Interactive,
        Self::Agent,
        Self::Background,
        Self::Batch,
    ];

    /// Its place in tables, from 0 for [`Class::Batch`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Its name on every wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Background => "background",
            Self::Agent => "agent",
            Self::Interactive => "interactive",
        }
    }

    /// What OpenAI's and Anthropic's `service_tier` ask for; `None` leaves it to the endpoint.
    ///
    /// # Errors
    /// [`UnknownName`] for a tier that neither has.
    pub fn of_service_tier(tier: &str) -> Result<Option<Self>, UnknownName> {
        Ok(match tier {
            "auto" | "default" | "standard" | "standard_only" => None,
            "priority" | "scale" => Some(Self::Interactive),
            "flex" => Some(Self::Background),
            "batch" => Some(Self::Batch),
            _ => {
                return Err(UnknownName::new(
                    "service tier",
                    tier,
                    "auto, default, priority, scale, flex, batch, standard_only",
                ));
            }
        })
    }

    /// What vLLM's `priority` asks for: less is more urgent, and 0 leaves it to the endpoint.
    pub fn of_priority(priority: i64) -> Option<Self> {
        match priority {
            ..0 => Some(Self::Interactive),
            0 => None,
            1..100 => Some(Self::Background),
            100.. => Some(Self::Batch),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Class {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|class| class.name() == name);
        found
            .ok_or_else(|| UnknownName::new("class", name, "interactive, agent, background, batch"))
    }
}

/// A name that nobody knows, with those that are known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no {what} `{name}`; known are {known}")]
pub struct UnknownName {
    what: &'static str,
    name: String,
    known: String,
}

impl UnknownName {
    /// `what` is `class`, `device`, ...; `known` a list with commas.
    pub fn new(what: &'static str, name: &str, known: impl Into<String>) -> Self {
        Self {
            what,
            name: name.to_owned(),
            known: known.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_an_order_and_names() {
        assert!(Class::ALL.is_sorted_by(|a, b| a > b));
        for class in Class::ALL {
            assert_eq!(class.name().parse(), Ok(class));
        }
        let error = "urgent".parse::<Class>().expect_err("unknown");
        assert!(error.to_string().contains("interactive, agent"), "{error}");
    }

    #[test]
    fn other_peoples_words_have_a_class() {
        assert_eq!(Class::of_service_tier("flex"), Ok(Some(Class::Background)));
        assert_eq!(Class::of_service_tier("auto"), Ok(None));
        assert!(Class::of_service_tier("gold").is_err());
        assert_eq!(Class::of_priority(-3), Some(Class::Interactive));
        assert_eq!(Class::of_priority(0), None);
        assert_eq!(Class::of_priority(100), Some(Class::Batch));
    }
}
