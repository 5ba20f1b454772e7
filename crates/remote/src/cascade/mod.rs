//! Teacher and student: an answer of this machine's model, and a remote endpoint's where that one is not sure.
//!
//! [`attempt`] has the local model answer and says how sure the answer is, by one of three judges ([`Judge`]). [`run`] shows
//! the answer if it is sure enough, and else asks the endpoint. How sure is enough is found by [`calibrate`] on the
//! owner's examples; a model of which nobody has found it is never sure.
//!
//! **Nothing is shown that is taken back.** No text of the local answer goes to the client before its sureness is known,
//! and that is when it is complete; then all of it goes at once. A judge that showed text as soon as the first tokens look
//! well would keep answers by another rule than the one that was calibrated, and could not go back. What may be cut short
//! is the other way: once no rest of the answer could make it sure, it is not waited for ([`attempt`]).
//!
//! Nothing here sends: the remote's side is a closure of whoever holds the job that may leave.

pub mod calibrate;
pub mod likeness;

mod attempt;
mod run;
mod tally;
mod verify;

pub use attempt::{Attempt, attempt};
pub use run::{Ran, Verdict, run};

use futures_util::future::BoxFuture;
use troika_job::{Answer, ApiError, Job};

use crate::config::{Cascade, Judge, model_name};

/// The models on this machine.
pub trait Local: Send + Sync {
    /// Starts a job, as the server's back end does.
    ///
    /// # Errors
    /// As there.
    fn submit(&self, job: Job) -> BoxFuture<'_, Result<Answer, ApiError>>;
}

/// How sure an answer is.
#[derive(Clone, Debug, PartialEq)]
pub enum Sureness {
    /// From 0, not at all, to 1. What the number is depends on the judge:
    ///
    /// - [`Judge::Logprob`]: the geometric mean of the probabilities that the model gave the answer's tokens, which is `e` to
    ///   the mean of their log-probabilities. Reasoning does not count.
    /// - [`Judge::Samples`]: how much other answers to the same prompt are like this one, on average ([`likeness`]).
    /// - [`Judge::Verifier`]: the probability by which the model says yes when asked whether the answer is right, of yes and
    ///   no together.
    ///
    /// Of several answers to one job, the least sure one counts. No two judges' numbers can be compared, nor those of two
    /// models: a threshold is for one of each.
    Score(f64),
    /// It cannot be told, for this reason. Such an answer is not sure.
    Unknown(String),
}

impl Sureness {
    /// The number, if it is known.
    pub fn score(&self) -> Option<f64> {
        match self {
            Self::Score(score) => Some(*score),
            Self::Unknown(_) => None,
        }
    }

    /// Whether it is known and not below a threshold.
    pub fn reaches(&self, threshold: f64) -> bool {
        self.score().is_some_and(|score| score >= threshold)
    }

    /// The less sure of two.
    fn least(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Unknown(_), _) => self,
            (_, Self::Unknown(_)) => other,
            (Self::Score(a), Self::Score(b)) if a <= b => self,
            _ => other,
        }
    }
}

/// How sure an answer of this model has to be; `None` where nobody has found out, and the model is never sure.
pub fn threshold(cascade: &Cascade, model: &str) -> Option<f64> {
    let thresholds = &cascade.thresholds;
    let same = || {
        let name = model_name(model);
        let mut all = thresholds.iter();
        all.find_map(|(other, threshold)| (model_name(other) == name).then_some(threshold))
    };
    thresholds.get(model).or_else(same).copied()
}

impl Judge {
    /// What it is called in `hybrid.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logprob => "logprob",
            Self::Samples => "samples",
            Self::Verifier => "verifier",
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
