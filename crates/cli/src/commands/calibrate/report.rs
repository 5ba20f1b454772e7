//! What was found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde::Serialize;
use troika_remote::Config;
use troika_remote::cascade::calibrate::{
    Aim, Calibrated, Interval, Point, always_local, always_remote, auroc, curve, examples_for,
    promise_max,
};
use troika_remote::config::{Action, Cascade, Judge, Price};

use super::CalibrateArgs;
use super::graded::{self, Job};
use super::plot;
use crate::output::{self, Align};

/// Fewer examples than this leave wide intervals.
const FEW: usize = 100;

/// Points of the curve that are told to programs.
const POINTS_MAX: usize = 200;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    /// The remote that was asked; `None` where references count as its answers.
    remote: Option<String>,
    judge: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<usize>,
    examples: usize,
    /// Examples by the measure that graded them.
    metrics: BTreeMap<&'static str, usize>,
    aim: Aim,
    confidence: f64,
    #[serde(flatten)]
    found: Calibrated,
    /// The quality of keeping everything, over the remote's.
    always_local: f64,
    /// The quality of the remote's own answers, by the references; 1 where those count as its answers.
    always_remote: f64,
    /// How well the score tells good answers from bad ones.
    auroc: Option<f64>,
    /// Answers whose sureness is not known, by the reason.
    unscored: BTreeMap<String, usize>,
    cost: Cost,
    /// What this machine used for an answer, samples and verifier included.
    joules_per_job: Option<f64>,
    curve: Vec<Point>,
}

/// What asking the remote costs, in money, on examples that the threshold was not found on.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Cost {
    Known {
        remote: String,
        currency: String,
        /// For a thousand jobs, if all of them are asked of the remote.
        always_remote_per_1000: Decimal,
        /// For a thousand jobs by the cascade.
        cascade_per_1000: Decimal,
        /// The share that is saved.
        saved: f64,
    },
    Unknown {
        unknown: String,
    },
}

impl Report {
    pub(super) fn new(
        args: &CalibrateArgs,
        (model, remote): (&str, Option<&str>),
        cascade: &Cascade,
        hybrid: &Config,
        jobs: &[Job],
        found: Calibrated,
    ) -> Self {
        let examples: Vec<_> = jobs.iter().map(|job| job.example).collect();
        let mut metrics = BTreeMap::new();
        let mut unscored = BTreeMap::new();
        for job in jobs {
            *metrics.entry(graded::name(job.measure)).or_default() += 1;
            if let Some(why) = &job.local.why {
                *unscored.entry(why.clone()).or_default() += 1;
            }
        }
        let joules: Option<f64> = jobs.iter().map(|job| job.local.joules).sum();
        let curve = curve(&examples);
        Self {
            model: model.to_owned(),
            remote: remote.map(str::to_owned),
            judge: cascade.judge.name(),
            samples: (cascade.judge == Judge::Samples).then_some(cascade.samples),
            examples: jobs.len(),
            metrics,
            aim: args.aim(),
            confidence: args.confidence,
            always_local: always_local(&examples),
            always_remote: always_remote(&examples),
            auroc: auroc(&examples),
            unscored,
            cost: cost(
                hybrid,
                price(hybrid, model, remote),
                jobs,
                &found.held_out.is_kept,
            ),
            joules_per_job: joules.map(|joules| joules / jobs.len() as f64),
            curve: curve.to_vec(),
            found,
        }
        .thinned()
    }

    /// A curve of so many points tells no more.
    fn thinned(mut self) -> Self {
        let every = self.curve.len().div_ceil(POINTS_MAX).max(1);
        let last = self.curve.len().saturating_sub(1);
        let mut at = 0..self.curve.len();
        self.curve
            .retain(|_| at.next().is_some_and(|i| i % every == 0 || i == last));
        self
    }

    pub(super) fn threshold(&self) -> Option<f64> {
        self.found.threshold
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = self.heading();
        let row = |name: &str, value: String| [format!("  {name}"), value];
        let held_out = &self.found.held_out;
        let threshold = self.found.threshold;
        let rows = [
            row(
                "threshold",
                threshold.map_or("none".to_owned(), |t| t.to_string()),
            ),
            row("kept here", self.interval(held_out.kept)),
            row("quality, remote = 1", self.interval(held_out.quality)),
            row("kept, same examples", percent(self.found.kept)),
            row(
                "quality, same examples",
                format!("{:.3}", self.found.quality),
            ),
            row("quality, all kept", format!("{:.3}", self.always_local)),
            row("the remote's own", format!("{:.3}", self.always_remote)),
            row("score", self.score()),
            row("cost", self.cost.text()),
            row("energy here", self.energy()),
        ];
        text.push_str(&output::table([Align::Left, Align::Left], &rows));
        text.push('\n');
        text.push_str(&self.promise());
        for (why, count) in &self.unscored {
            let why = output::line(why, 200);
            let _ = writeln!(
                text,
                "{count} answers are not sure whatever the threshold: {why}."
            );
        }
        if self.examples < FEW {
            let _ = writeln!(
                text,
                "{} examples are few: a few hundred tell more.",
                self.examples
            );
        }
        let target = match self.aim {
            Aim::Quality { target, .. } => Some(target),
            Aim::Keep { .. } => None,
        };
        text.push('\n');
        text.push_str(&plot::plot(
            &self.curve,
            target,
            threshold.map(|_| self.found.kept),
        ));
        text
    }

    fn heading(&self) -> String {
        let metrics = self
            .metrics
            .iter()
            .map(|(name, n)| format!("{n} by {name}"));
        let metrics: Vec<_> = metrics.collect();
        let samples = self.samples.map(|n| format!(" of {n}")).unwrap_or_default();
        format!(
            "{} against {} · judge {}{samples} · {} examples ({})\n\n",
            output::line(&self.model, 60),
            match &self.remote {
                Some(remote) => format!("`{remote}`"),
                None => "the references".to_owned(),
            },
            self.judge,
            self.examples,
            metrics.join(", ")
        )
    }

    /// An estimate on examples that were held out.
    fn interval(&self, found: Interval) -> String {
        let Interval { low, value, high } = found;
        format!(
            "{value:.3}, {low:.3} to {high:.3} with {} confidence",
            percent(self.confidence)
        )
    }

    fn score(&self) -> String {
        match self.auroc {
            Some(auroc) => format!("AUROC {auroc:.3} (0.5 is chance)"),
            None => "tells nothing apart: all answers are alike".to_owned(),
        }
    }

    fn energy(&self) -> String {
        match self.joules_per_job {
            Some(joules) => format!("{} J for a job", output::number(joules)),
            None => "unknown: nothing measures or estimates it".to_owned(),
        }
    }

    /// What may be expected, in a sentence.
    fn promise(&self) -> String {
        let held_out = &self.found.held_out;
        let folds = match held_out.without {
            0 => String::new(),
            without => format!(
                " Without {without} of the {} parts of the examples there was none, so the first figures are lower than what is \
                 to be expected.",
                held_out.folds
            ),
        };
        let (target, confidence) = match self.aim {
            Aim::Quality { target, confidence } => (target, confidence),
            Aim::Keep { share } => {
                return format!("Keeps {} here. No quality is promised.\n", percent(share));
            }
        };
        match self.found.threshold {
            Some(_) => format!(
                "With {} confidence the quality is at least {target} of asking the remote always, for jobs like these.{folds}\n",
                percent(confidence)
            ),
            None => format!(
                "No threshold can be promised to keep {target} of the quality.{}\n",
                self.advice(target, confidence)
            ),
        }
    }

    /// What to do where nothing can be promised.
    fn advice(&self, target: f64, confidence: f64) -> String {
        let (have, need) = (self.examples, examples_for(target, confidence));
        if self.curve.is_empty() {
            return " No answer has a score: take another judge.".to_owned();
        }
        match have < need {
            true => format!(
                " If every answer were right, {have} examples could promise {:.3} at most; {target} takes {need}, and more where \
                 some are wrong.",
                promise_max(have, confidence)
            ),
            false => " The surest answers are not right often enough: take a larger model, another judge, or a lower target."
                .to_owned(),
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// What the remote costs that jobs of the model would go to.
fn cost(hybrid: &Config, price: Option<(&str, Price)>, jobs: &[Job], is_kept: &[bool]) -> Cost {
    let Some((remote, price)) = price else {
        return Cost::Unknown {
            unknown: "no remote with a price serves the model in hybrid.toml".to_owned(),
        };
    };
    let (mut always, mut cascade) = (Decimal::ZERO, Decimal::ZERO);
    for (job, is_kept) in jobs.iter().zip(is_kept) {
        let tokens = |n: usize| Decimal::from(n as u64);
        let (prompt, answer) = match &job.remote {
            Some(remote) => (remote.prompt_tokens, remote.completion_tokens),
            None => (job.local.prompt_tokens, job.local.reference_tokens),
        };
        let by_price = price.input * tokens(prompt) + price.output * tokens(answer);
        // What was paid is in money already, and a price is for a million tokens.
        let paid = job.remote.as_ref().and_then(|remote| remote.cost);
        let cost = paid.unwrap_or(by_price / Decimal::from(1_000_000));
        always += cost;
        cascade += if *is_kept { Decimal::ZERO } else { cost };
    }
    if always.is_zero() {
        return Cost::Unknown {
            unknown: format!("`{remote}` takes no money"),
        };
    }
    let per_1000 = |sum: Decimal| {
        let jobs = Decimal::from(jobs.len() as u64);
        (sum * Decimal::from(1000) / jobs).round_dp(6).normalize()
    };
    let saved = (always - cascade) / always;
    Cost::Known {
        remote: remote.to_owned(),
        currency: hybrid.hybrid.currency.clone(),
        always_remote_per_1000: per_1000(always),
        cascade_per_1000: per_1000(cascade),
        saved: saved.to_f64().unwrap_or(0.0),
    }
}

/// The remote that was asked, or the first with a price among those that rules send the model's unsure answers to, or else
/// that serve it.
fn price<'a>(hybrid: &'a Config, model: &str, asked: Option<&str>) -> Option<(&'a str, Price)> {
    if let Some(asked) = asked {
        let remote = hybrid.remote.iter().find(|remote| remote.name == asked)?;
        return Some((&remote.name, remote.price?));
    }
    let rules = hybrid
        .rule
        .iter()
        .filter(|rule| rule.action == Action::Cascade);
    let named = rules.filter_map(|rule| rule.to.as_ref()).flatten();
    let of_rules =
        named.filter_map(|name| hybrid.remote.iter().find(|remote| remote.name == *name));
    let serving = hybrid
        .remote
        .iter()
        .filter(|remote| remote.model(model).is_some());
    let mut all = of_rules.chain(serving);
    all.find_map(|remote| Some((&*remote.name, remote.price?)))
}

impl Cost {
    fn text(&self) -> String {
        match self {
            Self::Known {
                remote,
                currency,
                always_remote_per_1000: always,
                cascade_per_1000: cascade,
                saved,
            } => format!(
                "{cascade} of {always} {currency} for 1000 jobs: {} saved (`{remote}`)",
                percent(*saved)
            ),
            Self::Unknown { unknown } => format!("unknown: {unknown}"),
        }
    }
}
