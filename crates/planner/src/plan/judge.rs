//! One candidate before the requirements: what it would do, what it would cost, and the first thing that it fails.

use troika_base::{DeviceKind, Estimate};

use super::candidate::{Candidate, Place};
use super::money::{self, Side};
use super::pick::Pick;
use super::rig::{Rig, Sharing};
use super::verdict::{Lost, Requirement, Verdict};
use super::workload::{Acquire, Privacy, Supply, Workload};
use super::{risk, shapes};
use crate::catalogue::{self, Catalogue, Country, Date};
use crate::cost::{Forecast, Refusal};
use crate::model::ModelShape;
use crate::quantization::Quantization;
use crate::tco::Bill;

/// What all candidates are judged by.
pub(super) struct Court<'a> {
    pub(super) workload: &'a Workload,
    pub(super) catalogue: &'a Catalogue,
    pub(super) country: &'a Country,
    pub(super) today: Date,
    /// Models that come into question, the most capable first.
    pub(super) models: &'a [ModelShape],
    /// Forms of their weights, the most precise first.
    pub(super) quantizations: &'a [Quantization],
    /// Bytes of each model in each form: those of the first model, then those of the second.
    pub(super) weights_bytes: &'a [f64],
}

impl Court<'_> {
    /// Bytes of a model in a form.
    pub(super) fn bytes(&self, model: usize, quantization: usize) -> f64 {
        self.weights_bytes[model * self.quantizations.len() + quantization]
    }
}

/// Bytes of each model in each form, as a court has them.
pub(super) fn weights_bytes(models: &[ModelShape], forms: &[Quantization]) -> Vec<f64> {
    let of = |model: &ModelShape| {
        let each = forms.iter().map(|form| model.weights(form).total());
        each.collect::<Vec<_>>()
    };
    models.iter().flat_map(of).collect()
}

/// What is said of a candidate.
pub(super) fn judge(
    candidate: &Candidate<'_>,
    rig: &Rig,
    pick: &Pick,
    court: &Court<'_>,
) -> (Verdict, Option<Side>) {
    let workload = court.workload;
    let model = &court.models[pick.model];
    let forecast = pick.outcome.as_ref().ok();
    let side = forecast.and_then(|forecast| Side::of(candidate, forecast, court));
    let bill = side.as_ref().map(Side::bill);
    let busy_hours = forecast.map(|forecast| {
        let usage = money::usage(
            forecast,
            workload,
            workload.requests_per_day,
            workload.hours_per_day,
        );
        usage
            .busy_share()
            .map(|share| share * workload.hours_per_day)
    });
    let mut verdict = Verdict {
        name: candidate.name.clone(),
        place: candidate.place,
        model: model.name.clone(),
        quantization: court.quantizations[pick.quantization].name.clone(),
        calibrated: calibrations(rig),
        meets: false,
        lost: None,
        forecast: forecast.cloned(),
        memory_bytes: memory_bytes(rig),
        busy_hours,
        outlay: candidate.outlay.clone(),
        training_usd: workload.expenses.training_usd,
        bill,
        break_even: Vec::new(),
        risks: risk::risks(candidate, rig, forecast, court),
        rank: pick.model * court.quantizations.len() + pick.quantization,
    };
    verdict.lost = allowed(candidate, workload)
        .and_then(|()| risk::software(candidate, workload, court.catalogue))
        .and_then(|()| match rig.sharing {
            Sharing::Phases => risk::phases(candidate, court.catalogue),
            _ => Ok(()),
        })
        .and_then(|()| shapes::hold(candidate, rig, workload, court.catalogue))
        .and_then(|()| pick.outcome.as_ref().map_err(refused))
        .and_then(|forecast| npu_holds(rig, forecast, model).map(|()| forecast))
        .and_then(|forecast| {
            ttft(forecast, model, workload, rig)?;
            speed(forecast, workload)
        })
        .and_then(|()| affordable(&verdict, workload))
        .err();
    verdict.meets = verdict.lost.is_none();
    (verdict, side)
}

/// Whose measurements the rig's speeds are corrected by.
fn calibrations(rig: &Rig) -> Option<String> {
    let each = match rig.sharing {
        Sharing::Split(_) => vec![rig.calibrated(0..rig.members.len())],
        Sharing::Phases => vec![rig.calibrated(0..1), rig.calibrated(1..2)],
    };
    let sources = each.into_iter().flatten();
    sources
        .map(|calibrated| calibrated.source.clone())
        .reduce(|a, b| format!("{a}; {b}"))
}

/// Memory of all devices together; what they share counts once.
fn memory_bytes(rig: &Rig) -> Option<u64> {
    if let (Sharing::Phases, Some(pool)) = (rig.sharing, rig.pool) {
        return Some(pool.0);
    }
    rig.members
        .iter()
        .map(|member| Some(member.memory_free.or(member.device.memory)?.0))
        .sum()
}

fn lost(requirement: Requirement, reason: String) -> Lost {
    Lost {
        requirement,
        reason,
    }
}

/// Whether it may be come by and powered as is wanted, and can be used at all.
fn allowed(candidate: &Candidate<'_>, workload: &Workload) -> Result<(), Lost> {
    let place = candidate.place;
    let no = |reason: &str| Err(lost(Requirement::Place, reason.to_owned()));
    if place == Place::Rent && workload.privacy == Privacy::LocalOnly {
        return no("is rented, and nothing may leave the owner's machines");
    }
    match (workload.acquire, place) {
        (Acquire::Own, Place::Buy | Place::Rent) => {
            return no("is not here, and nothing is to be acquired");
        }
        (Acquire::Buy, Place::Rent) => return no("is rented, and only buying is wanted"),
        (Acquire::Rent, Place::Here | Place::Buy) => {
            return no("is not rented, and only renting is wanted");
        }
        _ => {}
    }
    if workload.supply == Supply::Battery && !candidate.has_battery && place != Place::Rent {
        let class = candidate
            .class
            .map_or("this machine", catalogue::class_name);
        return Err(lost(
            Requirement::Supply,
            format!("has no battery ({class})"),
        ));
    }
    match &candidate.blocked {
        Some(why) => Err(lost(Requirement::Usable, why.clone())),
        None => Ok(()),
    }
}

/// A refusal of the cost model as a reason.
pub(super) fn refused(refusal: &Refusal) -> Lost {
    let requirement = match refusal {
        Refusal::DoesNotFit { .. } => Requirement::Memory,
        Refusal::Unknown { .. } => Requirement::Facts,
        Refusal::Unsupported(_) => Requirement::Software,
    };
    lost(requirement, refusal.to_string())
}

/// The most parameters that NPUs' software is known to run: gpt-oss-20b, on XDNA2 and on Hexagon in four sessions.
const NPU_PARAMS_MAX: f64 = 21.5e9;

/// Whether a model is one that software for NPUs is known to run.
pub(super) fn npu_holds(rig: &Rig, forecast: &Forecast, model: &ModelShape) -> Result<(), Lost> {
    let is_npu = rig.devices().any(|device| device.kind == DeviceKind::Npu);
    if !is_npu || model.params as f64 <= NPU_PARAMS_MAX {
        return Ok(());
    }
    let gb = forecast.memory.weights as f64 / 1e9;
    let reason = format!(
        "{:.0} B parameters ({gb:.1} GB): no software is known that runs more than 20 B on an NPU",
        model.params as f64 / 1e9
    );
    Err(lost(Requirement::Software, reason))
}

/// Whether the first token comes as soon as is wanted.
pub(super) fn is_soon(forecast: &Forecast, workload: &Workload) -> bool {
    let ttft = forecast.ttft_s;
    workload
        .ttft_s
        .is_none_or(|want| ttft.is_some_and(|ttft| ttft.value <= want))
}

/// Whether the answer comes as fast as is wanted.
pub(super) fn is_fast(forecast: &Forecast, workload: &Workload) -> bool {
    workload
        .tps
        .is_none_or(|want| forecast.decode_tps.value >= want)
}

/// Whether the first token comes soon enough. With a rig, the reason says what the chip's peak rate would allow.
fn ttft(
    forecast: &Forecast,
    model: &ModelShape,
    workload: &Workload,
    rig: &Rig,
) -> Result<(), Lost> {
    let Some(want) = workload.ttft_s else {
        return Ok(());
    };
    if is_soon(forecast, workload) {
        return Ok(());
    }
    let Some(ttft) = forecast.ttft_s else {
        let reason = format!(
            "its time to the first token cannot be told (no rate is known); {want} s wanted"
        );
        return Err(lost(Requirement::Ttft, reason));
    };
    let mut reason = format!("first token after {} s, {want} s wanted", spread(ttft));
    let floor = ttft_floor_s(rig, model, workload);
    if let Some(floor) = floor.filter(|&floor| floor > want) {
        reason.push_str(&format!(
            "; the prompt alone takes {floor:.2} s at its peak rate"
        ));
    }
    Err(lost(Requirement::Ttft, reason))
}

/// Seconds that a prompt takes at the highest dense rate of all devices together: two operations for each parameter in use.
fn ttft_floor_s(rig: &Rig, model: &ModelShape, workload: &Workload) -> Option<f64> {
    let peak = |device: &troika_base::DeviceProfile| {
        let rates = device.rates.iter().chain(&device.rates_measured);
        rates.filter_map(|rate| rate.dense_tops).reduce(f64::max)
    };
    let peaks = rig.devices().filter_map(peak);
    let tops: f64 = peaks.sum();
    (tops > 0.0).then(|| {
        2.0 * model.params_active as f64 * f64::from(workload.prompt_tokens) / (tops * 1e12)
    })
}

fn speed(forecast: &Forecast, workload: &Workload) -> Result<(), Lost> {
    match workload.tps {
        Some(want) if !is_fast(forecast, workload) => {
            let users = match workload.users {
                1 => String::new(),
                users => format!(" for each of {users} users"),
            };
            let reason = format!(
                "{} tok/s{users}, {want} wanted",
                spread(forecast.decode_tps)
            );
            Err(lost(Requirement::Speed, reason))
        }
        _ => Ok(()),
    }
}

/// Whether a day's work is done in a day, within the watts and the money.
pub(super) fn affordable(verdict: &Verdict, workload: &Workload) -> Result<(), Lost> {
    if let Some(busy) = verdict
        .busy_hours
        .filter(|busy| busy.value > workload.hours_per_day)
    {
        let hours = workload.hours_per_day;
        let reason = format!(
            "{} hours of work a day, {hours} hours are given",
            spread(busy)
        );
        return Err(lost(Requirement::Capacity, reason));
    }
    if let (Some(want), Some(watts)) = (workload.watts_max, verdict.watts())
        && watts.value > want
    {
        return Err(lost(
            Requirement::Watts,
            format!("{} W at work, {want} allowed", spread(watts)),
        ));
    }
    let Some(month) = verdict.usd_month() else {
        let reason = "no price is known: add a [[price]] to the catalogue to rank it".to_owned();
        return Err(lost(Requirement::Price, reason));
    };
    let purchase = verdict.start_usd().unwrap_or(0.0);
    if let Some(budget) = workload.budget_usd {
        if purchase > budget {
            return Err(lost(
                Requirement::Budget,
                format!("costs {purchase:.0} USD, {budget:.0} are given"),
            ));
        }
        // Who names one sum means all of it: rent has to come out of it for as long as a machine would last.
        let months = workload.lifetime_months;
        let each = |bill: &Bill| bill.rent.value + bill.egress.value;
        let rent = verdict.bill.as_ref().map_or(0.0, each) * months;
        if workload.budget_usd_month.is_none() && purchase + rent > budget {
            let reason = format!(
                "costs {:.0} USD in {months:.0} months, {budget:.0} are given",
                purchase + rent
            );
            return Err(lost(Requirement::Budget, reason));
        }
    }
    if let Some(budget) = workload
        .budget_usd_month
        .filter(|&budget| month.value > budget)
    {
        let reason = format!("costs {} USD a month, {budget:.2} are given", spread(month));
        return Err(lost(Requirement::MonthlyBudget, reason));
    }
    Ok(())
}

/// `12.3 (9.8 to 15.1)`.
pub(crate) fn spread(estimate: Estimate) -> String {
    let number = |value: f64| match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    };
    match estimate.low == estimate.high {
        true => number(estimate.value),
        false => format!(
            "{} ({} to {})",
            number(estimate.value),
            number(estimate.low),
            number(estimate.high)
        ),
    }
}
