//! What would turn the answer: inputs at which another way than the chosen one would cost less.
//!
//! The answer is compared with the cheapest of each other way to come by hardware that also does all that is wanted with the
//! same model. Only a plan that goes by cost has such an answer.

use serde::Serialize;

use super::candidate::Place;
use super::money::Side;
use super::verdict::Verdict;
use super::workload::{Prefer, Workload};
use crate::tco::Flip;

/// The answer beside another way.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Turn {
    /// The other's name.
    pub against: String,
    /// How it is come by.
    pub place: Place,
    /// Inputs that turn the answer round within their plausible range, each moved alone; what has to move least comes first. Side
    /// `a` is the answer's. Empty: none does.
    pub flips: Vec<Flip>,
}

/// What would turn the answer of these ranked verdicts.
pub(super) fn turns(
    verdicts: &[Verdict],
    sides: &[(String, Option<Side>)],
    workload: &Workload,
) -> Vec<Turn> {
    let side = |name: &str| sides.iter().find(|(of, _)| of == name)?.1.as_ref();
    let best = verdicts.first().filter(|best| best.lost.is_none());
    let (Some(best), Prefer::Cost) = (best, workload.prefer) else {
        return Vec::new();
    };
    let Some(own) = side(&best.name) else {
        return Vec::new();
    };
    let cost = |verdict: &Verdict| verdict.usd_month().map_or(f64::INFINITY, |usd| usd.value);
    let others = [Place::Here, Place::Buy, Place::Rent];
    let turn = |place: Place| {
        let able = verdicts
            .iter()
            .filter(|verdict| verdict.meets && verdict.place == place && verdict.rank == best.rank);
        let rival = able.min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
        Some(Turn {
            against: rival.name.clone(),
            place,
            flips: own.sensitivity(side(&rival.name)?),
        })
    };
    others
        .into_iter()
        .filter(|&place| place != best.place)
        .filter_map(turn)
        .collect()
}
