//! What is said of a candidate: what it would do and cost, what speaks against it, and why it lost if it did.

use serde::Serialize;
use troika_base::Estimate;

use super::build::Outlay;
use super::candidate::Place;
use crate::cost::{Forecast, Term};
use crate::tco::{self, Bill};

/// What a candidate has to meet, in the order in which it is looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// The way to come by it, and where the work may be done.
    Place,
    /// A battery.
    Supply,
    /// Whether it can be used at all.
    Usable,
    /// Software that does this job on it.
    Software,
    /// Tokens of context that compiled shapes have room for.
    Context,
    /// Memory.
    Memory,
    /// What the cost model has to know.
    Facts,
    /// Seconds to the first token.
    Ttft,
    /// Tokens a second.
    Speed,
    /// A day's requests within the hours of a day.
    Capacity,
    /// Watts.
    Watts,
    /// A known price.
    Price,
    /// What is spent at once.
    Budget,
    /// What is spent in a month.
    MonthlyBudget,
    /// Nobody else is better in everything.
    Undominated,
}

/// Why a candidate lost.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Lost {
    /// The first requirement that it does not meet.
    pub requirement: Requirement,
    /// With the numbers: `7.1 tok/s, 15 wanted`.
    pub reason: String,
}

/// Something that a buyer should know before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Risk {
    /// In a sentence.
    pub what: String,
    /// Where that is from.
    pub source: String,
}

/// When one candidate has cost as much as another.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BreakEven {
    /// The other.
    pub against: String,
    /// The month from which on this one has cost no more; 0: from the start.
    #[serde(flatten)]
    pub time: tco::BreakEven,
}

/// What is said of a candidate.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// How it is come by.
    pub place: Place,
    /// The model that it would run.
    pub model: String,
    /// How that model's weights are stored.
    pub quantization: String,
    /// Whose measurements its speeds are corrected by: `your run of llama-bench b6123, 2026-11-20: llama 8B Q4_K_M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<String>,
    /// Whether it meets all that is wanted; whether others do it better is another question.
    pub meets: bool,
    /// Why it lost; absent for those that are left.
    pub lost: Option<Lost>,
    /// What it would do; absent where the model does not fit or a fact is missing.
    pub forecast: Option<Forecast>,
    /// Bytes of memory that its devices have.
    pub memory_bytes: Option<u64>,
    /// Hours a day that it would be at work.
    pub busy_hours: Option<Estimate>,
    /// What buying it costs.
    pub outlay: Option<Outlay>,
    /// US dollars of the training that comes before, where one is paid for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_usd: Option<f64>,
    /// What a month costs; absent where no price is known.
    pub bill: Option<Bill>,
    /// Against the others that are left.
    pub break_even: Vec<BreakEven>,
    /// What a buyer should know.
    pub risks: Vec<Risk>,
    /// How capable its model is among those that came into question: 0 is the most capable.
    #[serde(skip)]
    pub(super) rank: usize,
}

impl Verdict {
    /// Whether the cards alone do not hold the model, so that the processor computes some of its layers.
    pub fn spills(&self) -> bool {
        self.name.ends_with(super::field::WITH_PROCESSOR)
    }

    /// US dollars to spend before the first day: hardware and training.
    pub fn start_usd(&self) -> Option<f64> {
        Some(self.purchase_usd()? + self.training_usd.unwrap_or(0.0))
    }

    /// US dollars of the hardware that is bought.
    pub fn purchase_usd(&self) -> Option<f64> {
        match self.place {
            Place::Here | Place::Rent => Some(0.0),
            Place::Buy | Place::BuyAndRent => self.outlay.as_ref().map(|outlay| outlay.usd),
        }
    }

    /// US dollars a month, all in.
    pub fn usd_month(&self) -> Option<Estimate> {
        self.bill.as_ref().map(|bill| bill.total)
    }

    /// US dollars per million tokens that are paid for: written ones, or read ones where nothing is written.
    pub fn usd_per_million(&self) -> Option<Estimate> {
        let bill = self.bill.as_ref()?;
        bill.per_million_answer_tokens.or(bill.per_million_tokens)
    }

    /// Answer tokens a second for one user.
    pub fn tps(&self) -> Option<Estimate> {
        self.forecast.as_ref().map(|forecast| forecast.decode_tps)
    }

    /// Seconds to the first token.
    pub fn ttft_s(&self) -> Option<Estimate> {
        self.forecast.as_ref()?.ttft_s
    }

    /// Watts at work: the higher of both phases.
    pub fn watts(&self) -> Option<Estimate> {
        let forecast = self.forecast.as_ref()?;
        let phases = forecast
            .watts_prefill
            .into_iter()
            .chain(forecast.watts_decode);
        phases.reduce(|a, b| if a.value >= b.value { a } else { b })
    }

    /// Every number that led to the verdict: speeds and watts, parts, the month's bill.
    pub fn terms(&self) -> Vec<Term> {
        let mut terms = self
            .forecast
            .as_ref()
            .map_or_else(Vec::new, |forecast| forecast.terms.clone());
        for line in self.outlay.iter().flat_map(|outlay| &outlay.lines) {
            let condition = format!("{:?}", line.condition).to_lowercase();
            terms.push(Term {
                name: line.what.clone(),
                formula: format!("{} × {} USD, {condition}", line.count, line.usd),
                value: f64::from(line.count) * line.usd,
                unit: "USD",
                source: format!("price of {}", line.date),
            });
        }
        terms.extend(self.bill.iter().flat_map(|bill| bill.lines.iter().cloned()));
        terms
    }
}
