//! How sure is sure enough: from examples to a threshold that keeps a promise.
//!
//! The promise is of the cascade's quality against asking the remote always, over the mean of jobs like the examples: *with
//! 95 % confidence it is at least 98 % of that*. It holds for every number of examples and whatever the models are like,
//! as long as the jobs to come are drawn as the examples were; with few examples there may be no threshold that can be
//! promised. Nothing is fitted: thresholds are tried from the strictest one down, and the first of which the evidence
//! (`Evidence`) does not suffice ends the search, so that the confidence need not be shared among them (fixed-sequence
//! testing, the way of "Learn then Test", Angelopoulos et al. 2021).
//!
//! What is reported of the threshold is not of the examples that it was found on: the search is repeated without each fold
//! of them, and the fold tells how the threshold of the others does ([`HeldOut`]).
//!
//! Pure arithmetic: who asks the models is the caller.

mod curve;
mod evidence;
mod folds;

#[cfg(test)]
mod tests;

pub use curve::{Point, always_local, always_remote, auroc, curve};
pub use evidence::{Interval, interval, share_interval};

use evidence::Evidence;
use serde::Serialize;

/// Fewer examples than this tell nothing.
pub const EXAMPLES_MIN: usize = 20;

/// One job, answered by both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example {
    /// How sure the local answer was; `None` where that cannot be told, and it is not kept.
    pub score: Option<f64>,
    /// The quality of the local answer, 0 to 1.
    pub local: f64,
    /// The quality of the remote's, 0 to 1: 1 where its answer is what the local one is compared with.
    pub remote: f64,
}

impl Example {
    /// Whether the local answer is kept.
    pub fn is_kept(&self, threshold: f64) -> bool {
        self.score.is_some_and(|score| score >= threshold)
    }

    /// The cascade's quality and the remote's.
    fn pair(&self, kept: bool) -> Pair {
        Pair {
            cascade: if kept { self.local } else { self.remote },
            remote: self.remote,
        }
    }
}

/// The quality of one job by the cascade, and by the remote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// By the cascade.
    pub cascade: f64,
    /// By asking the remote always.
    pub remote: f64,
}

/// What the threshold is for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    /// Keep as much here as possible, at a quality that can be promised.
    Quality {
        /// The share of the remote's quality that the cascade has at least: 0.98.
        target: f64,
        /// How likely the promise is to hold: 0.95.
        confidence: f64,
    },
    /// Keep this share of the jobs here, whatever that does to the quality.
    Keep {
        /// The share.
        share: f64,
    },
}

/// A threshold, and what is to be expected of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibrated {
    /// How sure an answer has to be; `None` where none keeps the promise, or as many as wanted.
    pub threshold: Option<f64>,
    /// The share of the examples that it keeps here.
    pub kept: f64,
    /// The cascade's quality over the remote's, on the examples that the threshold was found on.
    pub quality: f64,
    /// What examples say that the threshold was not found on.
    pub held_out: HeldOut,
}

/// What thresholds do that were found on other examples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Parts that the examples were split into.
    pub folds: usize,
    /// Of these, those for which the others had no threshold: they went to the remote as a whole.
    pub without: usize,
    /// The share kept here.
    pub kept: Interval,
    /// The cascade's quality over the remote's.
    pub quality: Interval,
    /// Which examples were kept.
    #[serde(skip)]
    pub is_kept: Vec<bool>,
}

/// Finds the threshold for an aim. Intervals are of `confidence`, two-sided.
pub fn calibrate(examples: &[Example], aim: Aim, confidence: f64) -> Calibrated {
    let threshold = threshold(examples, aim);
    let kept = |example: &Example| threshold.is_some_and(|threshold| example.is_kept(threshold));
    let pairs: Vec<Pair> = examples.iter().map(|e| e.pair(kept(e))).collect();
    Calibrated {
        threshold,
        kept: examples.iter().filter(|e| kept(e)).count() as f64 / examples.len().max(1) as f64,
        quality: ratio(&pairs),
        held_out: folds::held_out(examples, aim, confidence),
    }
}

/// The threshold for an aim.
fn threshold(examples: &[Example], aim: Aim) -> Option<f64> {
    match aim {
        Aim::Quality { target, confidence } => promised(examples, target, 1.0 - confidence),
        Aim::Keep { share } => keeping(examples, share),
    }
}

/// Thresholds that are tried: they do not depend on the examples, and stand closer the nearer they are to 1, where the scores
/// of models are that know what they say.
fn thresholds() -> impl Iterator<Item = f64> {
    const STEPS: u32 = 1000;
    const ONE: u32 = STEPS * STEPS;
    // Of whole millionths, so that they are short to write.
    (0..=STEPS).map(|step| f64::from(ONE - step * step) / f64::from(ONE))
}

/// The lowest threshold of a promise: all above it keep it as well. `error` is the risk that it does not hold.
fn promised(examples: &[Example], target: f64, error: f64) -> Option<f64> {
    let mut surest: Vec<&Example> = examples.iter().filter(|e| e.score.is_some()).collect();
    surest.sort_by(|a, b| {
        b.score
            .partial_cmp(&a.score)
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut next = surest.into_iter().peekable();
    let mut evidence = Evidence::new(examples.iter().map(|e| e.pair(false)), target);
    // Where local answers are graded right or wrong, all of them are: otherwise the test would depend on what is kept.
    evidence.note_grades(examples.iter().map(|e| e.pair(true)));
    let mut found = None;
    for threshold in thresholds() {
        while let Some(example) = next.next_if(|e| e.is_kept(threshold)) {
            evidence.replace(example.pair(false), example.pair(true));
        }
        if evidence.p_value() > error {
            break;
        }
        found = Some(threshold);
    }
    // A threshold that keeps nothing promises nothing.
    found.filter(|&threshold| examples.iter().any(|e| e.is_kept(threshold)))
}

/// The highest threshold that keeps a share of the examples.
fn keeping(examples: &[Example], share: f64) -> Option<f64> {
    let wanted = (share * examples.len() as f64).ceil() as usize;
    let mut scores: Vec<f64> = examples.iter().filter_map(|e| e.score).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    // Down to the sixth decimal, as it is written down.
    let lowest = wanted.checked_sub(1).and_then(|at| scores.get(at));
    lowest.map(|score| (score * 1e6).floor() / 1e6)
}

/// The best promise that this many examples could carry: that of local answers that are all right.
pub fn promise_max(examples: usize, confidence: f64) -> f64 {
    (1.0 - confidence).powf(1.0 / examples.max(1) as f64)
}

/// The fewest examples that could carry a promise, if all local answers were right.
pub fn examples_for(target: f64, confidence: f64) -> usize {
    ((1.0 - confidence).ln() / target.ln()).ceil() as usize
}

/// The cascade's quality over the remote's; 1 where neither has any.
pub fn ratio(pairs: &[Pair]) -> f64 {
    let cascade: f64 = pairs.iter().map(|pair| pair.cascade).sum();
    let remote: f64 = pairs.iter().map(|pair| pair.remote).sum();
    if remote > 0.0 { cascade / remote } else { 1.0 }
}
