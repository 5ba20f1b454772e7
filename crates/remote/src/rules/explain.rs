//! Why a job stays or may leave, for people and programs. Nothing of the prompt is in it, nor values of headers.

use std::fmt;

use rust_decimal::Decimal;
use serde::Serialize;

use super::rule::Rule;
use super::{Leave, PRIVACY_HEADER};
use crate::config::Action;

/// Why a job stays or may leave. As text, one sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// What came of it.
    pub decision: Decision,
    /// What makes the job private; all that was found.
    pub private: Vec<Hint>,
    /// The rules that were looked at, in their order. The last one decided if all of it holds.
    pub rules: Vec<LookedAt>,
    /// The endpoints of the rule that decided, and what became of each.
    pub ways: Vec<Way>,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Decision {
    /// It stays: it is private.
    Private,
    /// This rule matched.
    Rule {
        /// Its name.
        name: String,
        /// Its action.
        action: Action,
        /// Whether the job may leave. It stays in spite of an action that lets it go if no endpoint takes it.
        leaves: bool,
    },
    /// It stays: no rule matched.
    NoRule,
}

/// What makes a job private.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "hint", rename_all = "kebab-case")]
pub enum Hint {
    /// Its request says so, by a label or otherwise.
    Asked,
    /// Its request has a label that is not known.
    UnknownLabel,
    /// It asks for a device of this machine.
    Device {
        /// The device.
        name: String,
    },
    /// Its API key is one of `private_keys`.
    Key {
        /// The key's name.
        name: String,
    },
    /// Its model is one of `private_models`.
    Model {
        /// The entry that names it.
        entry: String,
    },
    /// One of `private_content` matches.
    Content {
        /// Which, from 0. The text is not told.
        index: usize,
    },
    /// Its prompt is numbers of tokens, which nobody can read.
    NotText,
}

/// A rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LookedAt {
    /// Its name.
    pub rule: String,
    /// Its action.
    pub action: Action,
    /// What does not hold; nothing if it matches.
    pub unmet: Vec<Unmet>,
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unmet {
    /// Its field: `prompt_tokens`, `header.X-Team`.
    pub field: String,
    /// What it asks for.
    pub want: String,
    /// What is.
    pub have: Have,
}

/// What is, where something else is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Have {
    /// This.
    Is(String),
    /// Something else, which is not told.
    Other,
    /// It is not known, or there is none.
    Unknown,
}

/// An endpoint of the rule that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Its name.
    pub to: String,
    /// What the model is called there; `None` if it is not served.
    pub model: Option<String>,
    /// What the job costs there at most; `None` if a price or a length is not known.
    pub worst_cost: Option<Decimal>,
    /// Why the job does not go there; `None` if it may.
    pub why_not: Option<String>,
}

impl Explanation {
    pub(super) fn private(private: Vec<Hint>) -> Self {
        Self {
            decision: Decision::Private,
            private,
            rules: Vec::new(),
            ways: Vec::new(),
        }
    }

    pub(super) fn ruled(
        rules: Vec<LookedAt>,
        rule: &Rule,
        ways: Vec<Way>,
        leave: Option<&Leave>,
    ) -> Self {
        let decision = Decision::Rule {
            name: rule.name.clone(),
            action: rule.action,
            leaves: leave.is_some(),
        };
        Self {
            decision,
            private: Vec::new(),
            rules,
            ways,
        }
    }

    pub(super) fn unruled(rules: Vec<LookedAt>) -> Self {
        Self {
            decision: Decision::NoRule,
            private: Vec::new(),
            rules,
            ways: Vec::new(),
        }
    }

    /// Whether the job stays.
    pub fn stays(&self) -> bool {
        !matches!(self.decision, Decision::Rule { leaves: true, .. })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stays = "it stays on this machine:";
        match &self.decision {
            Decision::Private => write!(f, "{stays} {}", list(&self.private)),
            Decision::NoRule if self.rules.is_empty() => write!(f, "{stays} there are no rules"),
            Decision::NoRule => write!(f, "{stays} no rule matches"),
            Decision::Rule {
                name,
                action,
                leaves: true,
            } => {
                let open = self.ways.iter().filter(|way| way.why_not.is_none());
                let to: Vec<_> = open.map(|way| &*way.to).collect();
                let to = to.join(", ");
                write!(
                    f,
                    "it may leave for {to}, by rule `{name}` ({})",
                    action.name()
                )
            }
            Decision::Rule {
                name,
                action: Action::LocalOnly,
                ..
            } => {
                write!(f, "{stays} rule `{name}` says so")
            }
            Decision::Rule { name, .. } => {
                write!(
                    f,
                    "{stays} rule `{name}` would let it go, and no endpoint takes it: "
                )?;
                let why = self.ways.iter().map(|way| {
                    format!("{} {}", way.to, way.why_not.as_deref().unwrap_or_default())
                });
                f.write_str(&why.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("its request says that it is private"),
            Self::UnknownLabel => write!(f, "{PRIVACY_HEADER} has a label that is not known"),
            Self::Device { name } => write!(f, "it asks for the device `{name}`"),
            Self::Key { name } => write!(f, "the key `{name}` is one of private_keys"),
            Self::Model { entry } => write!(f, "its model is one of private_models, by `{entry}`"),
            Self::Content { index } => write!(f, "private_content[{index}] matches in it"),
            Self::NotText => f.write_str("its prompt is numbers of tokens, which nobody can read"),
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, want, have } = self;
        match have {
            Have::Is(have) => write!(f, "{field} is {have}, and not {want}"),
            Have::Other => write!(f, "{field} is not {want}"),
            Have::Unknown => write!(f, "{field} is not known, so it is not {want}"),
        }
    }
}

fn list(things: &[impl fmt::Display]) -> String {
    let things: Vec<_> = things.iter().map(ToString::to_string).collect();
    things.join("; ")
}
