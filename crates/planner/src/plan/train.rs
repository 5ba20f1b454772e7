//! Training: memory, hours, joules and money of fine-tuning a model, wholly or by adapters.
//!
//! The arithmetic is the usual one. Memory: weights, gradients and optimizer states by bytes a parameter, activations with
//! a checkpoint at every layer. Work: six operations a parameter and token (two forward, four backward), four where the
//! frozen weights need no gradients of their own. A chip reaches a share of its dense rate, which is an assumption and is
//! shown as such.

use serde::Serialize;
use troika_base::{DeviceKind, DeviceProfile, Estimate, NumberFormat, Unit};

use super::Question;
use super::candidate::{Candidate, Place};
use super::field::Field;
use super::rig::Rig;
use super::verdict::{Lost, Requirement};
use super::workload::{Acquire, Privacy, Workload};
use crate::catalogue::Country;
use crate::cost::Term;
use crate::model::ModelShape;

/// Why an NPU is no candidate.
pub const NPU_REASON: &str =
    "NPUs run compiled graphs forward only: no software for them computes gradients";

/// Share of the dense rate that training reaches, over published runs of tuned software; recomputing activations is in it.
const UTILISATION: Estimate = Estimate {
    value: 0.35,
    low: 0.2,
    high: 0.5,
};
/// Watts at work as a share of the limit: matrices keep a chip busy.
const POWER_SHARE: f64 = 0.9;
/// Bytes a parameter that is trained: weight and gradient in bf16, master weight and two moments of Adam in f32.
const BYTES_TRAINED: f64 = 2.0 + 2.0 + 4.0 + 8.0;
/// Bytes of a frozen weight in bf16, and in four bits with their scales.
const BYTES_FROZEN: f64 = 2.0;
const BYTES_FROZEN_4_BIT: f64 = 0.56;
/// Bytes of activations that one layer needs per value of the residual stream while its gradient is computed, with attention
/// that keeps no scores (Korthikanti et al. 2022, equation 1 without the term of the scores).
const BYTES_LAYER_ACTIVATIONS: f64 = 34.0;

/// What is trained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every weight.
    Full,
    /// Adapters of low rank beside frozen weights of 16 bits.
    Lora,
    /// The same, with frozen weights of 4 bits.
    Qlora,
}

/// A training run.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Run {
    /// What is trained.
    pub method: Method,
    /// Tokens that are seen, all epochs together.
    pub tokens: f64,
    /// Tokens of a sequence.
    pub sequence: u32,
    /// Sequences side by side on a device.
    pub batch: u32,
    /// Rank of the adapters.
    pub rank: u32,
}

/// Bytes by what they are for, over all devices but for activations, which are those of one.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct TrainMemory {
    /// Parameters that are trained.
    pub trained: f64,
    /// Bytes of weights.
    pub weights: f64,
    /// Bytes of gradients.
    pub gradients: f64,
    /// Bytes of optimizer states and master weights.
    pub optimizer: f64,
    /// Bytes of activations on each device.
    pub activations: f64,
}

impl TrainMemory {
    /// Bytes that each of so many devices needs, states spread evenly.
    pub fn per_device(&self, devices: usize) -> f64 {
        (self.weights + self.gradients + self.optimizer) / devices as f64 + self.activations
    }
}

/// What training on a candidate comes to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TrainVerdict {
    /// The candidate.
    pub name: String,
    /// How it is come by.
    pub place: Place,
    /// Why it lost, if it did.
    pub lost: Option<Lost>,
    /// Hours of the run.
    pub hours: Option<Estimate>,
    /// Kilowatt-hours of its devices; absent where no power is known.
    pub kwh: Option<Estimate>,
    /// US dollars to spend before.
    pub purchase_usd: Option<f64>,
    /// US dollars of the run: rent, or electricity.
    pub run_usd: Option<Estimate>,
    /// Runs after which buying it has cost less than the cheapest rent.
    pub break_even_runs: Option<f64>,
    /// How it was added up.
    pub terms: Vec<Term>,
}

/// A training plan.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TrainPlan {
    /// The model's name.
    pub model: String,
    /// The run.
    pub run: Run,
    /// Memory.
    pub memory: TrainMemory,
    /// Operations of the whole run.
    pub operations: f64,
    /// All candidates: the cheapest first, purchase and one run together; losers last.
    pub verdicts: Vec<TrainVerdict>,
}

/// Memory of a run.
pub fn memory(model: &ModelShape, run: &Run) -> TrainMemory {
    let params = model.params as f64;
    let trained = match run.method {
        Method::Full => params,
        Method::Lora | Method::Qlora => adapters(model, run.rank),
    };
    let frozen = match run.method {
        Method::Full => 0.0,
        Method::Lora => params * BYTES_FROZEN,
        Method::Qlora => params * BYTES_FROZEN_4_BIT,
    };
    let tokens = f64::from(run.sequence) * f64::from(run.batch);
    let stream = tokens * f64::from(model.n_embd);
    // A checkpoint of the stream at every layer, one layer unfolded, and logits with their gradient in f32.
    let activations = stream * (2.0 * f64::from(model.n_layer) + BYTES_LAYER_ACTIVATIONS)
        + tokens * f64::from(model.n_vocab) * 8.0;
    TrainMemory {
        trained,
        weights: frozen + trained * 2.0,
        gradients: trained * 2.0,
        optimizer: trained * (BYTES_TRAINED - 4.0),
        activations,
    }
}

/// Parameters of adapters of a rank on every matrix of attention and of a dense feed-forward layer: rank · (in + out) each.
fn adapters(model: &ModelShape, rank: u32) -> f64 {
    let [embd, heads, heads_kv] = [
        model.n_embd,
        model.n_head * model.head_dim,
        model.n_head_kv * model.head_dim,
    ]
    .map(f64::from);
    // Experts are left as they are: their adapters would outgrow them.
    let n_ff = if model.experts.is_some() {
        0.0
    } else {
        f64::from(model.n_ff)
    };
    let attention = 2.0 * (embd + heads) + 2.0 * (embd + heads_kv);
    let ffn = if n_ff > 0.0 { 3.0 * (embd + n_ff) } else { 0.0 };
    f64::from(rank) * f64::from(model.n_layer) * (attention + ffn)
}

/// Operations a token: the weights that it meets, six times where all are trained, four where most are frozen.
pub fn operations(model: &ModelShape, run: &Run) -> f64 {
    let each = if run.method == Method::Full { 6.0 } else { 4.0 };
    each * model.params_active as f64 * run.tokens
}

/// Every candidate's hours, joules and dollars.
pub fn plan(
    model: &ModelShape,
    run: &Run,
    question: &Question<'_>,
    country: &Country,
) -> TrainPlan {
    let workload = question.workload;
    let field = Field::new(question.ground());
    let memory = memory(model, run);
    let operations = operations(model, run);
    let judge = |candidate: &Candidate<'_>| {
        let rig = &field.rigs[candidate.rig];
        judge(candidate, rig, (&memory, operations), workload, country)
    };
    // A processor that takes what does not fit cards trains nothing with them.
    let trains = |candidate: &&Candidate<'_>| field.rigs[candidate.rig].alone.is_none();
    let candidates = field.candidates.iter().filter(trains);
    let mut verdicts: Vec<_> = candidates.map(judge).collect();
    break_even(&mut verdicts);
    verdicts.sort_by(|a, b| {
        // Whoever buys for one run pays all of it; `break_even_runs` says when that is made good.
        let usd = |verdict: &TrainVerdict| {
            let both = verdict.run_usd.zip(verdict.purchase_usd);
            both.map_or(f64::INFINITY, |(run, purchase)| run.value + purchase)
        };
        let lost = |verdict: &TrainVerdict| {
            verdict
                .lost
                .as_ref()
                .map(|lost| std::cmp::Reverse(lost.requirement))
        };
        lost(a)
            .cmp(&lost(b))
            .then(usd(a).total_cmp(&usd(b)))
            .then_with(|| a.name.cmp(&b.name))
    });
    TrainPlan {
        model: model.name.clone(),
        run: *run,
        memory,
        operations,
        verdicts,
    }
}

fn judge(
    candidate: &Candidate<'_>,
    rig: &Rig,
    (memory, operations): (&TrainMemory, f64),
    workload: &Workload,
    country: &Country,
) -> TrainVerdict {
    let mut verdict = TrainVerdict {
        name: candidate.name.clone(),
        place: candidate.place,
        lost: None,
        hours: None,
        kwh: None,
        purchase_usd: match candidate.place {
            Place::Here | Place::Rent => Some(0.0),
            Place::Buy | Place::BuyAndRent => candidate.outlay.as_ref().map(|outlay| outlay.usd),
        },
        run_usd: None,
        break_even_runs: None,
        terms: Vec::new(),
    };
    let rate = able(candidate, rig, memory, workload).and_then(|()| {
        let rates: Option<Vec<_>> = rig.devices().map(rate).collect();
        rates.ok_or_else(|| {
            lost(
                Requirement::Facts,
                "no dense rate of 16-bit or 32-bit floats is known".to_owned(),
            )
        })
    });
    match rate {
        Ok(rates) => cost(&mut verdict, candidate, rig, (&rates, operations), country),
        Err(why) => verdict.lost = Some(why),
    }
    let too_dear = workload
        .budget_usd
        .zip(verdict.purchase_usd)
        .filter(|(budget, usd)| usd > budget);
    if let (None, Some((budget, usd))) = (&verdict.lost, too_dear) {
        verdict.lost = Some(lost(
            Requirement::Budget,
            format!("costs {usd:.0} USD, {budget:.0} are given"),
        ));
    }
    if verdict.lost.is_none() && (verdict.purchase_usd.is_none() || verdict.run_usd.is_none()) {
        verdict.lost = Some(lost(
            Requirement::Price,
            "no price, or no power, of it is known".to_owned(),
        ));
    }
    verdict
}

fn lost(requirement: Requirement, reason: String) -> Lost {
    Lost {
        requirement,
        reason,
    }
}

/// Whether it may be used, computes gradients, and holds the run.
fn able(
    candidate: &Candidate<'_>,
    rig: &Rig,
    memory: &TrainMemory,
    workload: &Workload,
) -> Result<(), Lost> {
    let place = |reason: &str| Err(lost(Requirement::Place, reason.to_owned()));
    match (candidate.place, workload.acquire, workload.privacy) {
        (Place::Rent, _, Privacy::LocalOnly) => {
            return place("is rented, and nothing may leave the owner's machines");
        }
        (Place::Rent | Place::Buy, Acquire::Own, _) => {
            return place("is not here, and nothing is to be acquired");
        }
        (Place::Rent, Acquire::Buy, _) => return place("is rented, and only buying is wanted"),
        (Place::Here | Place::Buy, Acquire::Rent, _) => {
            return place("is not rented, and only renting is wanted");
        }
        _ => {}
    }
    if let Some(why) = &candidate.blocked {
        return Err(lost(Requirement::Usable, why.clone()));
    }
    if rig.devices().any(|device| device.kind == DeviceKind::Npu) {
        return Err(lost(Requirement::Software, NPU_REASON.to_owned()));
    }
    let kind = rig.members[0].device.kind;
    if rig.devices().any(|device| device.kind != kind) {
        return Err(lost(
            Requirement::Software,
            "training is not split over unlike devices".to_owned(),
        ));
    }
    let needs = memory.per_device(rig.members.len());
    let least = rig
        .members
        .iter()
        .map(|member| member.memory_free.or(member.device.memory))
        .min()
        .flatten();
    match least {
        None => Err(lost(
            Requirement::Facts,
            "its memory is not known".to_owned(),
        )),
        Some(has) if (has.0 as f64) < needs => {
            let has = has.0 as f64 / 1e9;
            Err(lost(
                Requirement::Memory,
                format!(
                    "needs {:.1} GB on each device, has {has:.1} GB",
                    needs / 1e9
                ),
            ))
        }
        Some(_) => Ok(()),
    }
}

/// Dense 10¹² operations a second for training: matrices of 16-bit floats, else the best that is known.
fn rate(device: &DeviceProfile) -> Option<(f64, String)> {
    let ways = [
        (Unit::Matrix, NumberFormat::Bf16),
        (Unit::Matrix, NumberFormat::Fp16),
        (Unit::Matrix, NumberFormat::Tf32),
        (Unit::Vector, NumberFormat::Bf16),
        (Unit::Vector, NumberFormat::Fp16),
        (Unit::Vector, NumberFormat::Fp32),
    ];
    ways.into_iter().find_map(|(unit, format)| {
        let tops = device.dense_tops(unit, format)?;
        Some((
            tops,
            format!("{:?} on {:?} units, dense", format, unit).to_lowercase(),
        ))
    })
}

fn cost(
    verdict: &mut TrainVerdict,
    candidate: &Candidate<'_>,
    rig: &Rig,
    (rates, operations): (&[(f64, String)], f64),
    country: &Country,
) {
    let tops: f64 = rates.iter().map(|(tops, _)| tops).sum();
    let hours = UTILISATION.map_inverse(|share| operations / (tops * 1e12 * share) / 3600.0);
    verdict.hours = Some(hours);
    let term = |name: &str, formula: String, value: f64, unit: &'static str, source: &str| Term {
        name: name.to_owned(),
        formula,
        value,
        unit,
        source: source.to_owned(),
    };
    let formula = format!(
        "{operations:.3e} operations / ({tops:.0} TOPS {} × {})",
        rates[0].1, UTILISATION.value
    );
    verdict.terms.push(term(
        "time",
        formula,
        hours.value,
        "h",
        "data sheet; share reached: assumed, 0.2 to 0.5",
    ));
    let limits: Option<Vec<f64>> = rig
        .devices()
        .map(|device| device.watts_busy.or(device.watts_limit))
        .collect();
    if let Some(limits) = limits {
        let watts = limits.iter().sum::<f64>() * POWER_SHARE;
        let kwh = hours.map(|hours| hours * watts / 1e3);
        let formula = format!("{watts:.0} W × {:.2} h", hours.value);
        verdict.terms.push(term(
            "energy",
            formula,
            kwh.value,
            "kWh",
            "power limits × 0.9",
        ));
        verdict.kwh = Some(kwh);
    }
    verdict.run_usd = match candidate.offer {
        Some(offer) => {
            let usd_hour = match candidate.is_spot {
                true => offer.spot_usd_hour.unwrap_or(offer.node_usd_hour),
                false => offer.node_usd_hour,
            };
            let unit_h = offer.billing.seconds() / 3600.0;
            let least_h = offer.minimum_s.unwrap_or(0.0) / 3600.0;
            let usd = hours.map(|hours| ((hours / unit_h).ceil() * unit_h).max(least_h) * usd_hour);
            let unit = format!("{:?}", offer.billing).to_lowercase();
            let formula = format!("{:.2} h × {usd_hour} USD, by the {unit}", hours.value);
            let source = format!("{}, {}", offer.provider, offer.source.date);
            verdict
                .terms
                .push(term("rent", formula, usd.value, "USD", &source));
            Some(usd)
        }
        None => verdict.kwh.map(|kwh| kwh.map(|kwh| kwh * country.usd_kwh)),
    };
}

/// Of those that are bought: after how many runs that was cheaper than the cheapest rent.
fn break_even(verdicts: &mut [TrainVerdict]) {
    let rents = verdicts
        .iter()
        .filter(|verdict| verdict.place == Place::Rent && verdict.lost.is_none());
    let Some(rent) = rents
        .filter_map(|verdict| verdict.run_usd)
        .map(|usd| usd.value)
        .reduce(f64::min)
    else {
        return;
    };
    for verdict in verdicts
        .iter_mut()
        .filter(|verdict| verdict.place == Place::Buy && verdict.lost.is_none())
    {
        let (Some(purchase), Some(run)) = (verdict.purchase_usd, verdict.run_usd) else {
            continue;
        };
        let saved = rent - run.value;
        verdict.break_even_runs = (saved > 0.0).then(|| (purchase / saved).ceil());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::choose::named;
    use crate::plan::testing::{catalogue, here, thresholds, today};
    use crate::plan::workload::Form;

    fn run(method: Method) -> Run {
        Run {
            method,
            tokens: 1e7,
            sequence: 2048,
            batch: 1,
            rank: 16,
        }
    }

    fn planned(method: Method) -> TrainPlan {
        let catalogue = catalogue();
        let model = named("llama-3.1-8b", &catalogue).expect("is there");
        let workload = Form::default()
            .complete(&thresholds())
            .expect("makes sense");
        let country = catalogue.country("US").expect("is there");
        let here = here();
        let question = Question {
            here: Some(&here),
            ..Question::new(&workload, &catalogue, today())
        };
        plan(&model, &run(method), &question, country)
    }

    #[test]
    fn memory_is_the_standard_arithmetic() {
        let catalogue = catalogue();
        let model = named("llama-3.1-8b", &catalogue).expect("is there");
        let full = memory(&model, &run(Method::Full));
        // 8.03 · 10⁹ parameters at sixteen bytes.
        assert_eq!(
            (full.weights + full.gradients + full.optimizer) / 1e9,
            8.03 * 16.0
        );
        let lora = memory(&model, &run(Method::Lora));
        // Rank 16 on all seven matrices of a layer: 41.9 million parameters, as PEFT counts them for this model.
        assert_eq!(lora.trained, 41_943_040.0);
        assert!(
            lora.weights / 1e9 > 16.0 && lora.weights / 1e9 < 16.3,
            "{lora:?}"
        );
        let qlora = memory(&model, &run(Method::Qlora));
        assert!(qlora.per_device(1) < lora.per_device(1) / 2.0);
        assert!(full.per_device(8) < full.per_device(1) / 6.0);
    }

    #[test]
    fn work_is_six_or_four_operations_a_parameter() {
        let catalogue = catalogue();
        let model = named("llama-3.1-8b", &catalogue).expect("is there");
        assert_eq!(operations(&model, &run(Method::Full)), 6.0 * 8.03e9 * 1e7);
        assert_eq!(operations(&model, &run(Method::Lora)), 4.0 * 8.03e9 * 1e7);
    }

    #[test]
    fn npus_and_small_cards_lose_with_the_reason() {
        let plan = planned(Method::Full);
        let of = |name: &str| {
            plan.verdicts
                .iter()
                .find(|verdict| verdict.name == name)
                .expect(name)
        };
        let npu = of("Test Mini, NPU").lost.as_ref().expect("lost");
        assert_eq!(
            (npu.requirement, npu.reason.as_str()),
            (Requirement::Software, NPU_REASON)
        );
        let card = of("Test Card 24").lost.as_ref().expect("lost");
        assert_eq!(card.requirement, Requirement::Memory);
        let node = of("cloudy eight eu");
        // 4.8 · 10¹⁷ operations at 8 · 989 TOPS and a share of 0.35.
        let hours = node.hours.expect("is known").value;
        assert!(
            (hours - 4.818e17 / (8.0 * 989e12 * 0.35) / 3600.0).abs() < 1e-6,
            "{hours}"
        );
        assert_eq!(node.lost, None);
    }

    #[test]
    fn adapters_can_be_trained_on_a_card_and_pay_after_some_runs() {
        let plan = planned(Method::Qlora);
        let card = plan
            .verdicts
            .iter()
            .find(|verdict| verdict.name == "Test Card 24")
            .expect("is there");
        assert_eq!(card.lost, None);
        assert!(card.break_even_runs.is_none_or(|runs| runs >= 1.0));
        assert!(
            plan.verdicts
                .iter()
                .any(|verdict| verdict.place == Place::Rent && verdict.lost.is_none())
        );
    }
}
