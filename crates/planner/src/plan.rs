//! Plans: what to run a workload on, what to buy or rent for it, and why not the others.
//!
//! [`plan`] is the door. It takes a [`Workload`], this machine if it shall be considered, and the catalogue; makes every
//! candidate ([`candidate`]), asks the cost model once for each different rig, judges (`judge`) and ranks them
//! (`rank`). A [`Plan`] has a [`Verdict`] for every candidate, the reason of its loss included.
//!
//! Nothing here knows the time or reads a file: the day is given, and so is what the program found on this machine.

pub mod build;
pub mod candidate;
pub mod check;
pub mod choose;
pub mod field;
pub mod fleet;
pub mod measured;
pub mod replicas;
pub mod rig;
pub mod risk;
pub mod train;
pub mod turn;
pub mod verdict;
pub mod workload;

mod hybrid;
mod judge;
mod money;
mod pick;
mod rank;
mod shapes;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::candidate::{Described, Here, HereDevice, Place};
pub use self::measured::Measured;
pub use self::turn::Turn;
pub use self::verdict::{BreakEven, Lost, Requirement, Risk, Verdict};
pub use self::workload::{Expenses, Form, Task, Workload, WorkloadError};

use self::field::{Field, Ground};
use self::judge::Court;
pub(crate) use self::judge::spread;
use self::money::Side;
use self::workload::BEST;
use crate::catalogue::{Catalogue, Date, Unknown};
use crate::model::ModelShape;
use crate::quantization::Quantization;

/// How many of those that are left are compared with each other by the month of break-even.
const COMPARED_MAX: usize = 12;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What is to be done.
    pub workload: &'a Workload,
    /// What others sell and rent.
    pub catalogue: &'a Catalogue,
    /// This machine, if it is a candidate.
    pub here: Option<&'a Here>,
    /// A device that is neither here nor in the catalogue, if one is described.
    pub described: Option<&'a Described>,
    /// Speeds that were measured, by which forecasts are corrected.
    pub measured: Option<&'a Measured>,
    /// The model and the sizes of its weights, if it was read from a file; else it is looked up by the workload's name for it.
    ///
    /// The sizes hold where the workload names the file's own quantization; another is forecast by its recipe.
    pub model: Option<(&'a ModelShape, &'a Quantization)>,
    /// The day, by which the age of prices goes.
    pub today: Date,
}

impl<'a> Question<'a> {
    /// A workload and the catalogue, and nothing else.
    pub fn new(workload: &'a Workload, catalogue: &'a Catalogue, today: Date) -> Self {
        Self {
            workload,
            catalogue,
            here: None,
            described: None,
            measured: None,
            model: None,
            today,
        }
    }

    /// What candidates are made from.
    pub(crate) fn ground(&self) -> Ground<'a> {
        Ground {
            catalogue: self.catalogue,
            here: self.here,
            described: self.described,
            measured: self.measured,
            today: self.today,
        }
    }
}

/// Why there is no plan.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A name that the catalogue does not have.
    #[error("{0}")]
    Unknown(Unknown),
    /// `best` needs something that it has to fit.
    #[error("{0}")]
    NoBest(String),
    /// A form of weights that is not known.
    #[error("{0}")]
    Quantization(String),
    /// Training is planned elsewhere.
    #[error("`train` is planned by `troika plan train`, which knows gradients and optimizers")]
    Train,
    /// Replicas cannot be planned for this.
    #[error("{0}")]
    Replicas(String),
    /// A name that is none of a candidate, or of several.
    #[error("{}", no_candidate(name, like))]
    Candidate {
        /// The name.
        name: String,
        /// Candidates that have it in theirs.
        like: Vec<String>,
    },
}

fn no_candidate(name: &str, like: &[String]) -> String {
    let some = like[..like.len().min(8)].join("; ");
    match like {
        [] => format!("no candidate has {name:?} in its name; `troika plan --all` shows them"),
        _ => format!(
            "{} candidates have {name:?} in their name: {some}; write more of it",
            like.len()
        ),
    }
}

impl From<Unknown> for PlanError {
    fn from(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

/// The answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Plan {
    /// What was asked.
    pub workload: Workload,
    /// The day of the plan.
    pub today: Date,
    /// Every candidate: those that are left first, the best of them at the top, then the losers.
    pub verdicts: Vec<Verdict>,
    /// How many different rigs were forecast.
    pub rigs: usize,
    /// What would make another way than the best one the cheaper one.
    pub turns: Vec<Turn>,
    /// What a reader should know of the plan as a whole.
    pub notes: Vec<String>,
}

impl Plan {
    /// Those that are left, the best first.
    pub fn winners(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts
            .iter()
            .filter(|verdict| verdict.lost.is_none())
    }

    /// Those that are not.
    pub fn losers(&self) -> impl Iterator<Item = (&Verdict, &Lost)> {
        self.verdicts
            .iter()
            .filter_map(|verdict| Some((verdict, verdict.lost.as_ref()?)))
    }

    /// The verdict of this name, or the only one that has it in its name.
    ///
    /// # Errors
    /// The names that it may be, if there is none or several.
    pub fn find(&self, name: &str) -> Result<&Verdict, Vec<&str>> {
        let names = self.verdicts.iter().map(|verdict| verdict.name.as_str());
        index_of(names, name).map(|at| &self.verdicts[at])
    }
}

/// The place of a name among others: of the one that it is, or the only one that has it in it, or the one that all that have it
/// have in theirs.
///
/// # Errors
/// The names that it may be, if there is none or several.
fn index_of<'n>(names: impl Iterator<Item = &'n str>, wanted: &str) -> Result<usize, Vec<&'n str>> {
    let key = wanted.to_lowercase();
    let mut having = Vec::new();
    for (at, name) in names.enumerate() {
        let lower = name.to_lowercase();
        if lower == key {
            return Ok(at);
        }
        if lower.contains(&key) {
            having.push((at, name));
        }
    }
    // Of `RTX 3090`, `2 × RTX 3090` and `RTX 3090 Ti`, who says `3090` means the one that is in all of their names.
    let in_all = |(_, name): &&(usize, &str)| having.iter().all(|(_, other)| other.contains(name));
    match having.iter().find(in_all) {
        Some(&(at, _)) if !key.is_empty() => Ok(at),
        _ => Err(having.into_iter().map(|(_, name)| name).collect()),
    }
}

/// Judges everything that comes into question.
///
/// # Errors
/// If the model, the country or the quantization is unknown, or `best` has nothing that it has to fit.
pub fn plan(question: &Question<'_>) -> Result<Plan, PlanError> {
    let Question {
        workload,
        catalogue,
        here,
        today,
        ..
    } = *question;
    let country = catalogue.country(&workload.country)?;
    let mut notes = Vec::new();
    let mut field = Field::new(question.ground());
    let quantizations = match question.model {
        Some((_, own)) if own.name.eq_ignore_ascii_case(&workload.quantization) => {
            vec![own.clone()]
        }
        _ => choose::quantizations(&workload.quantization)?,
    };
    let court = |models, weights_bytes| Court {
        workload,
        catalogue,
        country,
        today,
        models,
        quantizations: &quantizations,
        weights_bytes,
    };
    let all = models(question, &mut notes)?;
    let all_bytes = judge::weights_bytes(&all, &quantizations);
    let best = match here.filter(|_| all.len() > 1 && !has_budget(workload)) {
        Some(here) => {
            let court = court(&all, &all_bytes);
            Some(vec![best_here(here, &field, &court, &mut notes)?])
        }
        None => None,
    };
    let best_bytes = best
        .as_ref()
        .map(|best| judge::weights_bytes(best, &quantizations));
    let court = court(
        best.as_ref().unwrap_or(&all),
        best_bytes.as_ref().unwrap_or(&all_bytes),
    );
    let picks = pick::picks(&field.rigs, &court);
    field.candidates.retain(|candidate| {
        !pick::is_idle(&field.rigs[candidate.rig], &picks[candidate.rig], &picks)
    });
    let mut sides: Vec<(Verdict, Option<Side>)> = field
        .candidates
        .iter()
        .map(|candidate| {
            judge::judge(
                candidate,
                &field.rigs[candidate.rig],
                &picks[candidate.rig],
                &court,
            )
        })
        .collect();
    sides.extend(hybrid::hybrids(&field, &picks, &sides, &court));
    let (mut verdicts, sides): (Vec<_>, Vec<_>) = sides.into_iter().unzip();
    let sides: Vec<_> = verdicts
        .iter()
        .map(|verdict| verdict.name.clone())
        .zip(sides)
        .collect();
    rank::rank(&mut verdicts, workload.prefer);
    break_even(&mut verdicts, &sides);
    let turns = turn::turns(&verdicts, &sides, workload);
    notes.extend(calibrations(&field));
    notes.push(format!(
        "electricity: {} USD a kWh in {}",
        country.usd_kwh, country.name
    ));
    Ok(Plan {
        workload: workload.clone(),
        today,
        verdicts,
        rigs: field.rigs.len(),
        turns,
        notes,
    })
}

/// What was measured of the devices that come into question, each once.
fn calibrations(field: &Field<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for member in field.rigs.iter().flat_map(|rig| &rig.members) {
        if let Some(calibrated) = &member.calibrated {
            let note = format!("{}: {}", member.device.name, calibrated.note());
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    notes
}

fn has_budget(workload: &Workload) -> bool {
    workload.budget_usd.is_some() || workload.budget_usd_month.is_some()
}

/// The models that come into question, the most capable first.
fn models(question: &Question<'_>, notes: &mut Vec<String>) -> Result<Vec<ModelShape>, PlanError> {
    let workload = question.workload;
    if workload.task == Task::Train {
        return Err(PlanError::Train);
    }
    if let Some((model, _)) = question.model {
        return Ok(vec![model.clone()]);
    }
    if workload.model != BEST {
        return Ok(vec![choose::named(&workload.model, question.catalogue)?]);
    }
    let no_best = |why: &str| Err(PlanError::NoBest(why.to_owned()));
    if workload.task == Task::Vision {
        return no_best(
            "the catalogue does not tell which models see pictures: name one with `--model`",
        );
    }
    if question.here.is_none() && !has_budget(workload) {
        return no_best(
            "the best model that fits what? Give a budget, let this machine be a candidate, or name a model",
        );
    }
    let models = choose::models_for(workload.task, question.catalogue);
    if models.is_empty() {
        let task = workload.task.name();
        return no_best(&format!(
            "the catalogue has no model for `{task}`: name one with `--model`, or give a file"
        ));
    }
    if has_budget(workload) {
        notes.push("model: for each candidate the biggest that fits and is fast enough; bigger models rank first".to_owned());
    }
    Ok(models)
}

/// The most capable model that this machine runs as fast as is wanted, else the biggest that fits; by it all others are measured.
fn best_here(
    here: &Here,
    field: &Field<'_>,
    court: &Court<'_>,
    notes: &mut Vec<String>,
) -> Result<ModelShape, PlanError> {
    let is_usable = |place, blocked: &Option<String>| place == Place::Here && blocked.is_none();
    let own = field.candidates.iter();
    let own = own.filter(|candidate| is_usable(candidate.place, &candidate.blocked));
    let picks: Vec<_> = own
        .map(|candidate| {
            let rig = &field.rigs[candidate.rig];
            let pick = pick::pick(rig, court);
            (pick.meets(rig, court), pick)
        })
        .collect();
    let fitting = picks.iter().filter(|(_, pick)| pick.outcome.is_ok());
    let Some((meets, pick)) = fitting.min_by_key(|(meets, pick)| (!meets, pick.model)) else {
        let why = picks
            .iter()
            .find_map(|(_, pick)| pick.outcome.as_ref().err());
        let why = why.map_or_else(
            || "it has no device that can be used".to_owned(),
            ToString::to_string,
        );
        return Err(PlanError::NoBest(format!(
            "which model is best on {} cannot be told: {why}. Or give a budget, or name a model",
            here.name
        )));
    };
    let model = &court.models[pick.model];
    let how = match meets {
        true => "the biggest that is fast enough on",
        false => "none is as fast as wanted; the biggest that fits on",
    };
    notes.push(format!(
        "model: {}, {how} {}; all candidates are measured by it",
        model.name, here.name
    ));
    Ok(model.clone())
}

/// The months from which on each of those that are left is the cheaper one, against each other one.
fn break_even(verdicts: &mut [Verdict], sides: &[(String, Option<Side>)]) {
    let side = |name: &str| sides.iter().find(|(of, _)| of == name)?.1.as_ref();
    let left = verdicts
        .iter()
        .take_while(|verdict| verdict.lost.is_none())
        .take(COMPARED_MAX);
    let left: Vec<String> = left.map(|verdict| verdict.name.clone()).collect();
    for verdict in verdicts.iter_mut().take(left.len()) {
        let Some(own) = side(&verdict.name) else {
            continue;
        };
        for other in left.iter().filter(|name| **name != verdict.name) {
            if let Some(theirs) = side(other) {
                verdict.break_even.push(BreakEven {
                    against: other.clone(),
                    time: own.break_even(theirs),
                });
            }
        }
    }
}

/// What has been paid by the end of each month, for those of these names: for a plot.
pub fn cash(plan: &Plan, names: &[&str], months: u32) -> Vec<(String, Vec<f64>)> {
    let of = |name: &&str| {
        let verdict = plan
            .verdicts
            .iter()
            .find(|verdict| verdict.name == **name)?;
        let (start, month) = (verdict.start_usd()?, verdict.bill.as_ref()?.running().value);
        Some((
            (*name).to_owned(),
            (0..=months).map(|n| start + f64::from(n) * month).collect(),
        ))
    };
    names.iter().filter_map(of).collect()
}
