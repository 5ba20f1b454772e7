//! The owner's rules: what may leave this machine, where to, and on which terms.
//!
//! Two questions, in this order. Does anything say that the job is private: its label, its key, its model, its content?
//! Then it stays, and no rule is asked (`hints.rs`, `content.rs`). Otherwise the first rule that matches decides
//! (`rule.rs`), and where none does, it stays. A rule that lets a job go still has to find an endpoint that serves it and
//! that the money suffices for (`way.rs`). Why it came out as it did is an [`Explanation`]. `file.rs` keeps up with
//! `hybrid.toml`.

mod asks;
mod bound;
mod content;
mod explain;
mod facts;
mod file;
mod hints;
mod label;
mod remarks;
mod rule;
mod way;

#[cfg(test)]
mod tests;

use rust_decimal::Decimal;

pub use asks::Asks;
pub use explain::{Decision, Explanation, Have, Hint, LookedAt, Unmet, Way};
pub use facts::Facts;
pub use file::{HybridFile, Loaded};
pub use label::{HEADER as PRIVACY_HEADER, is_private};

use crate::config::{Action, Config, ConfigError, Faults, Redact};
use crate::privacy::{Private, Public, Terms};

/// What only this module has, and whoever makes a [`Public`] needs.
pub(crate) struct Seal(());

/// A remote's place in [`Config::remote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteIndex(pub usize);

/// The rules, ready to judge.
#[derive(Debug)]
pub struct Rules {
    hints: hints::Hints,
    rules: Vec<rule::Rule>,
    ways: way::Ways,
}

/// What came of a job.
#[derive(Debug)]
pub enum Judged<T> {
    /// It is done here.
    Stays(Private<T>, Explanation),
    /// It may leave.
    MayLeave(Public<T>, Leave, Explanation),
}

/// On which terms a job may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The rule that lets it go.
    pub rule: String,
    /// What becomes of it; never [`Action::LocalOnly`].
    pub action: Action,
    /// Where it may go, one at least, the first choice first.
    pub to: Vec<RemoteIndex>,
    /// What is taken out of it before.
    pub redact: Vec<Redact>,
    /// The model that is asked for there, as it is called here, if it is another. The [`Public`] has it already.
    pub model: Option<String>,
    /// What it costs at most, at the dearest of the endpoints; `None` if a price or a length is not known, which is never
    /// so where there is a budget.
    pub worst_cost: Option<Decimal>,
}

impl Rules {
    /// The rules of a configuration.
    ///
    /// # Errors
    /// If anything in it makes no sense: all mistakes, each with its field.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let mut faults = Faults::default();
        config.check(&mut faults);
        let hints = hints::Hints::new(&config.hybrid, &mut faults);
        let rules = rule::all(config, &mut faults);
        let ways = way::Ways::new(config);
        faults.or(Self { hints, rules, ways })
    }

    /// Decides whether a job stays. Takes it, so that it goes on under its label or not at all.
    pub fn judge<T: Asks>(&self, mut what: T, facts: &Facts) -> Judged<T> {
        let (explanation, leave) = self.explain(&what, facts);
        let Some(leave) = leave else {
            return Judged::Stays(Private::new(what), explanation);
        };
        let own_model = leave.model.as_deref().map(|model| what.set_model(model));
        let terms = Terms {
            to: self.ways.addresses(&leave.to),
            redact: leave.redact.clone(),
            own_model,
        };
        Judged::MayLeave(Public::new(what, terms, Seal(())), leave, explanation)
    }

    /// What the judge would say, without a job that goes anywhere.
    pub fn explain<T: Asks>(&self, what: &T, facts: &Facts) -> (Explanation, Option<Leave>) {
        let hints = self.hints.of(what, facts);
        if !hints.is_empty() {
            return (Explanation::private(hints), None);
        }
        let mut looked_at = Vec::new();
        for rule in &self.rules {
            let unmet = rule.unmet(what, facts);
            let matches = unmet.is_empty();
            looked_at.push(rule.looked_at(unmet));
            if matches {
                let (ways, leave) = match rule.action {
                    Action::LocalOnly => (Vec::new(), None),
                    _ => self.ways.leave(rule, what, facts),
                };
                let explanation = Explanation::ruled(looked_at, rule, ways, leave.as_ref());
                return (explanation, leave);
            }
        }
        (Explanation::unruled(looked_at), None)
    }
}
