//! Replicas: how many machines alike serve so many users, each with the whole model and its share of them.
//!
//! Not one machine that serves all, which [`plan`](super::plan) looks for, nor one machine for each user ([`super::fleet`]).
//! What a replica bears is where the cost model's interval ends on the wrong side: eight of ten measurements are meant to
//! lie inside it, so that one machine in ten is slower than that, and not half of them.

mod capacity;
mod node;
#[cfg(test)]
mod tests;

use serde::Serialize;
use troika_base::Estimate;

use self::capacity::Capacity;
pub use self::capacity::{Arrivals, Bound, STREAMS_MAX};
pub use self::node::{CardMaker, Node};
use super::candidate::{Candidate, Place};
use super::field::Field;
use super::judge::{self, Court};
use super::pick::{self, Pick};
use super::rig::{ENGINE_HERE, Rig};
use super::verdict::{Lost, Requirement, Verdict};
use super::workload::{BEST, Expenses, Prefer, Task, Workload};
use super::{PlanError, Question, choose, index_of, money};
use crate::catalogue::{Country, Date};
use crate::cost::{Backend, Forecast};
use crate::model::ModelShape;
use crate::quantization::Quantization;

/// A count, from an estimate's middle and its ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Count {
    /// By the estimate's middle.
    pub value: u32,
    /// The least.
    pub low: u32,
    /// The most.
    pub high: u32,
}

/// Machines of one kind that serve all users together.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Crew {
    /// The candidate that each of them is.
    pub name: String,
    /// How it is come by.
    pub place: Place,
    /// Users whom one serves at once as is wanted. What is planned with is the least.
    pub users_each: Count,
    /// What holds it from serving one more.
    pub bound: Bound,
    /// How their requests come.
    pub arrivals: Arrivals,
    /// Machines for all users at once and for a day's requests. What is planned with is the most.
    pub replicas: Count,
    /// Those for half of the users, as they come outside of the peak.
    pub replicas_half: u32,
    /// What a machine of a cluster has to have for one of them.
    pub node: Node,
    /// US dollars a month, of all together.
    pub usd_month: Option<Estimate>,
    /// What is said of one, with `users_each.low` users and its share of the requests.
    pub verdict: Verdict,
    /// What `troika simulate` knows it by; absent for what it cannot know.
    pub machine: Option<String>,
}

/// A candidate that does not serve, and why.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Loser {
    /// The candidate.
    pub name: String,
    /// The first that it fails, and the reason.
    #[serde(flatten)]
    pub lost: Lost,
}

/// The answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Replicas {
    /// What was asked.
    pub workload: Workload,
    /// The day of the plan.
    pub today: Date,
    /// Whether the catalogue knows the model, by the workload's name for it.
    pub is_of_catalogue: bool,
    /// Crews that do all that is wanted, the best first.
    pub crews: Vec<Crew>,
    /// The others; who came furthest stands first.
    pub losers: Vec<Loser>,
}

/// What all candidates are looked at for.
struct Inquiry<'a> {
    question: &'a Question<'a>,
    country: &'a Country,
    models: &'a [ModelShape; 1],
    quantizations: &'a [Quantization; 1],
    weights_bytes: &'a [f64],
    /// Whether the candidate was named, so that more of it are taken to be at hand.
    is_named: bool,
}

/// How many machines of each kind serve the workload's users, or of the one that is named.
///
/// # Errors
/// As [`plan`](super::plan), and if the workload names no model, writes no text, or the name is none of a candidate.
pub fn replicas(question: &Question<'_>, on: Option<&str>) -> Result<Replicas, PlanError> {
    let workload = question.workload;
    let (model, quantization) = served(question)?;
    let (models, quantizations) = ([model], [quantization]);
    let inquiry = Inquiry {
        question,
        country: question.catalogue.country(&workload.country)?,
        weights_bytes: &judge::weights_bytes(&models, &quantizations),
        models: &models,
        quantizations: &quantizations,
        is_named: on.is_some(),
    };
    let mut field = Field::new(question.ground());
    if let Some(name) = on {
        let names = field.candidates.iter().map(|candidate| &*candidate.name);
        let at = index_of(names, name).map_err(|names| PlanError::Candidate {
            name: name.to_owned(),
            like: names.into_iter().map(str::to_owned).collect(),
        })?;
        field.candidates = vec![field.candidates.swap_remove(at)];
    }
    let rigs: Vec<Rig> = field.rigs.iter().map(as_replica).collect();
    let mut known: Vec<Option<Result<Capacity, Lost>>> = vec![None; rigs.len()];
    let (mut crews, mut losers) = (Vec::new(), Vec::new());
    for candidate in &field.candidates {
        let rig = &rigs[candidate.rig];
        let found = inquiry.node(candidate, rig).and_then(|node| {
            let capacity = known[candidate.rig].get_or_insert_with(|| inquiry.capacity(rig));
            inquiry.crew(candidate, rig, node, capacity.clone()?)
        });
        match found {
            Ok(crew) => crews.push(crew),
            Err(lost) => losers.push(Loser {
                name: candidate.name.clone(),
                lost,
            }),
        }
    }
    crews.sort_by(|a, b| by_preference(a, b, workload.prefer));
    losers.sort_by_key(|loser| std::cmp::Reverse(loser.lost.requirement));
    Ok(Replicas {
        workload: workload.clone(),
        today: question.today,
        is_of_catalogue: question.model.is_none(),
        crews,
        losers,
    })
}

/// The model that all replicas run, and the form of its weights.
fn served(question: &Question<'_>) -> Result<(ModelShape, Quantization), PlanError> {
    let workload = question.workload;
    let no = |why: &str| Err(PlanError::Replicas(why.to_owned()));
    if matches!(workload.task, Task::Embed | Task::Transcribe | Task::Train) {
        return no(
            "replicas are planned for models that write: `--task chat`, code, agent, rag or vision",
        );
    }
    if let Some((model, own)) = question.model
        && own.name.eq_ignore_ascii_case(&workload.quantization)
    {
        return Ok((model.clone(), own.clone()));
    }
    if workload.model == BEST {
        return no("all replicas run the same model: name it with `--model`");
    }
    if workload.quantization == BEST {
        return no("all replicas run the same file: name its form with `--quantization`");
    }
    let model = match question.model {
        Some((model, _)) => model.clone(),
        None => choose::named(&workload.model, question.catalogue)?,
    };
    let mut forms = choose::quantizations(&workload.quantization)?;
    Ok((model, forms.remove(0)))
}

/// The same devices, driven by Troika.
fn as_replica(rig: &Rig) -> Rig {
    Rig {
        engine: ENGINE_HERE,
        ..rig.clone()
    }
}

impl Inquiry<'_> {
    fn node(&self, candidate: &Candidate<'_>, rig: &Rig) -> Result<Node, Lost> {
        let asked = self.question.workload.ecosystem;
        Node::of(candidate, rig, asked)
    }

    fn capacity(&self, rig: &Rig) -> Result<Capacity, Lost> {
        let workload = self.question.workload;
        let [model] = self.models;
        let [quantization] = self.quantizations;
        Capacity::of(rig, backend(rig, workload), model, quantization, workload)
    }

    /// As many of a candidate as it takes, if they do all that is wanted.
    fn crew(
        &self,
        candidate: &Candidate<'_>,
        rig: &Rig,
        node: Node,
        capacity: Capacity,
    ) -> Result<Crew, Lost> {
        let Question {
            workload,
            catalogue,
            today,
            ..
        } = *self.question;
        let replicas = count(workload, &capacity);
        if candidate.place == Place::Here && replicas.high > 1 && !self.is_named {
            return Err(Lost {
                requirement: Requirement::Place,
                reason: format!(
                    "there is one of it, and {} are needed; name it to plan with more like it",
                    replicas.high
                ),
            });
        }
        let share = share(workload, capacity.users.low, replicas.high);
        let court = Court {
            workload: &share,
            catalogue,
            country: self.country,
            today,
            models: self.models,
            quantizations: self.quantizations,
            weights_bytes: self.weights_bytes,
        };
        let pick = Pick {
            model: 0,
            quantization: 0,
            outcome: Ok(self.explained(rig, &share, &capacity)),
        };
        let (verdict, _) = judge::judge(candidate, rig, &pick, &court);
        // Who names a machine need not know its price.
        let is_unpriced = |lost: &Lost| self.is_named && lost.requirement == Requirement::Price;
        if let Some(lost) = verdict.lost.clone().filter(|lost| !is_unpriced(lost)) {
            return Err(lost);
        }
        let count = f64::from(replicas.high);
        Ok(Crew {
            name: candidate.name.clone(),
            place: candidate.place,
            users_each: capacity.users,
            bound: capacity.bound,
            arrivals: capacity.arrivals,
            replicas,
            replicas_half: workload.users.div_ceil(2).div_ceil(capacity.users.low),
            node: node.with(&capacity.forecast),
            usd_month: verdict.usd_month().map(|usd| usd.map(|usd| usd * count)),
            verdict,
            machine: node::machine(candidate, rig),
        })
    }

    /// One replica's numbers as its users find them, with the terms that explain them.
    fn explained(&self, rig: &Rig, share: &Workload, capacity: &Capacity) -> Forecast {
        let [model] = self.models;
        let [quantization] = self.quantizations;
        let driven = Workload {
            ecosystem: backend(rig, share),
            ..share.clone()
        };
        let work = share.work(share.users);
        let mut found = capacity.forecast.clone();
        // The same numbers were asked for without terms, so they are not refused now.
        if let Ok(told) = pick::forecast(rig, model, quantization, &work, &driven) {
            found.terms = told.terms;
        }
        found.terms.extend(capacity.arrivals.terms(share));
        found
    }
}

/// Machines for all users at once and for a day's requests, whichever are more.
fn count(workload: &Workload, capacity: &Capacity) -> Count {
    let usage = money::usage(
        &capacity.forecast,
        workload,
        workload.requests_per_day,
        workload.hours_per_day,
    );
    let day = usage.busy_share();
    let users = |each: u32| workload.users.div_ceil(each);
    let times = |share: f64| share.ceil() as u32;
    Count {
        low: users(capacity.users.high).max(times(day.low)),
        value: users(capacity.users.value).max(times(day.value)),
        high: users(capacity.users.low).max(times(day.high)),
    }
}

/// What drives a rig's cards: Troika has one way for all of them. A processor needs no word.
fn backend(rig: &Rig, workload: &Workload) -> Option<Backend> {
    let has_cards = rig
        .devices()
        .any(|device| device.kind == troika_base::DeviceKind::Gpu);
    match has_cards {
        true => Some(Backend::Vulkan),
        false => workload.ecosystem,
    }
}

/// What one of `count` replicas has to do. Budgets, people and watts are those of all together.
fn share(workload: &Workload, users: u32, count: u32) -> Workload {
    let n = f64::from(count);
    let part = |whole: Option<f64>| whole.map(|whole| whole / n);
    let expenses = &workload.expenses;
    Workload {
        users,
        requests_per_day: workload.requests_per_day / n,
        watts_max: part(workload.watts_max),
        budget_usd: part(workload.budget_usd),
        budget_usd_month: part(workload.budget_usd_month),
        expenses: Expenses {
            egress_gb_month: part(expenses.egress_gb_month),
            staff_hours_month: part(expenses.staff_hours_month),
            training_usd: part(expenses.training_usd),
            ..*expenses
        },
        ..workload.clone()
    }
}

fn by_preference(a: &Crew, b: &Crew, prefer: Prefer) -> std::cmp::Ordering {
    // What is not known counts as bad as can be.
    let measures = |crew: &Crew| {
        let count = f64::from(crew.replicas.high);
        let worst = f64::INFINITY;
        let money = crew.usd_month.map_or(worst, |usd| usd.value);
        let speed = crew.verdict.tps().map_or(worst, |tps| -tps.value);
        let watts = crew
            .verdict
            .watts()
            .map_or(worst, |watts| watts.value * count);
        match prefer {
            Prefer::Cost => [money, speed, watts],
            Prefer::Speed => [speed, money, watts],
            Prefer::Watts => [watts, money, speed],
        }
    };
    let pairs = measures(a).into_iter().zip(measures(b));
    pairs
        .map(|(a, b)| a.total_cmp(&b))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.name.cmp(&b.name))
}
