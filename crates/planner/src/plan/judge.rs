//! One candidate before the requirements: what it would do, what it would cost, and the first thing that it fails.

use troika_base::{Bytes, DeviceKind, Estimate};

use super::candidate::{Candidate, Place, Rig, Sharing};
use super::choose;
use super::money::{self, Side};
use super::risk;
use super::verdict::{Lost, Requirement, Verdict};
use super::workload::{Acquire, Privacy, Supply, Workload};
use crate::catalogue::{Catalogue, Country, Date};
use crate::cost::{self, Forecast, MemoryNeed, Refusal, Work};
use crate::model::ModelShape;
use crate::quantization::Quantization;

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
}

/// What a rig would run, and how.
#[derive(Clone)]
pub(super) struct Pick {
    /// Number of the model.
    pub(super) model: usize,
    /// Number of the form of its weights.
    pub(super) quantization: usize,
    pub(super) outcome: Result<Forecast, Refusal>,
}

impl Pick {
    pub(super) fn meets(&self, rig: &Rig, court: &Court<'_>) -> bool {
        let Ok(forecast) = &self.outcome else {
            return false;
        };
        let model = &court.models[self.model];
        npu_holds(rig, forecast, model).is_ok()
            && ttft(forecast, model, court.workload, None).is_ok()
            && speed(forecast, court.workload).is_ok()
    }
}

/// What a rig does with a model.
pub(super) fn forecast(
    rig: &Rig,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
    workload: &Workload,
) -> Result<Forecast, Refusal> {
    let run = |devices| {
        let setup = rig.setup(devices, workload.ecosystem);
        cost::forecast(&setup, model, quantization, work, rig.calibration.as_ref())
    };
    if rig.sharing != Sharing::Phases {
        return run(0..rig.devices.len());
    }
    let (reads, writes) = (run(0..1)?, run(1..2)?);
    let memory = MemoryNeed {
        weights: reads.memory.weights + writes.memory.weights,
        cache: reads.memory.cache.max(writes.memory.cache),
        scratch: reads.memory.scratch + writes.memory.scratch,
        runtime: reads.memory.runtime + writes.memory.runtime,
    };
    if let Some(Bytes(has)) = rig.pool.filter(|pool| pool.0 < memory.total()) {
        let needs = memory.total();
        return Err(Refusal::DoesNotFit { needs, has });
    }
    let terms = reads.terms.into_iter().chain(writes.terms).collect();
    let mut notes = reads.notes;
    notes.extend(writes.notes);
    notes.push("each block holds the weights in its own form; the time to hand the cache over is not counted".to_owned());
    Ok(Forecast {
        memory,
        prefill_tps: reads.prefill_tps,
        ttft_s: reads.ttft_s,
        watts_prefill: reads.watts_prefill,
        terms,
        notes,
        ..writes
    })
}

/// The best that a rig can run: the first model and form that fit and are fast enough, else the first that fit.
pub(super) fn pick(rig: &Rig, court: &Court<'_>) -> Pick {
    let work = court.workload.work(court.workload.users);
    let has: u64 = rig
        .devices
        .iter()
        .filter_map(|(device, _)| Some(device.memory?.0))
        .sum();
    let reads_gbs: f64 = rig
        .devices
        .iter()
        .filter_map(|(device, _)| device.bandwidth_peak_gbs)
        .sum();
    let many = court.models.len() * court.quantizations.len() > 1;
    let mut fallback: Option<Pick> = None;
    for (model, shape) in court.models.iter().enumerate() {
        for (quantization, form) in court.quantizations.iter().enumerate() {
            let is_last =
                model + 1 == court.models.len() && quantization + 1 == court.quantizations.len();
            let bytes = choose::bits_floor(&form.name) / 8.0;
            let too_big = shape.params as f64 * bytes > has as f64;
            let wanted = court.workload.tps.unwrap_or(0.0);
            let too_slow = fallback.as_ref().is_some_and(|pick| pick.outcome.is_ok())
                && shape.params_active as f64 * bytes * wanted > reads_gbs * 1e9;
            // Whoever has a choice passes over what cannot be, at no cost; the last one is asked for the reason.
            if many && !is_last && (too_big || too_slow) {
                continue;
            }
            let pick = Pick {
                model,
                quantization,
                outcome: forecast(rig, shape, form, &work, court.workload),
            };
            if pick.meets(rig, court) {
                return pick;
            }
            if fallback
                .as_ref()
                .is_none_or(|fallback| fallback.outcome.is_err())
            {
                fallback = Some(pick);
            }
        }
    }
    fallback.expect("there is a model and a form. This is a bug.")
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
    let side = forecast.and_then(|forecast| Side::of(candidate, forecast, workload, court.country));
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
        meets: false,
        lost: None,
        forecast: forecast.cloned(),
        memory_bytes: memory_bytes(rig),
        busy_hours,
        outlay: candidate.outlay.clone(),
        bill,
        break_even: Vec::new(),
        risks: risk::risks(candidate, forecast, workload, court.catalogue, court.today),
        rank: pick.model * court.quantizations.len() + pick.quantization,
    };
    verdict.lost = allowed(candidate, workload)
        .and_then(|()| risk::software(candidate, workload, court.catalogue))
        .and_then(|()| match rig.sharing {
            Sharing::Phases => risk::phases(candidate, court.catalogue),
            _ => Ok(()),
        })
        .and_then(|()| pick.outcome.as_ref().map_err(refused))
        .and_then(|forecast| npu_holds(rig, forecast, model).map(|()| forecast))
        .and_then(|forecast| {
            ttft(forecast, model, workload, Some(rig))?;
            speed(forecast, workload)
        })
        .and_then(|()| affordable(&verdict, workload))
        .err();
    verdict.meets = verdict.lost.is_none();
    (verdict, side)
}

/// Memory of all devices together; what they share counts once.
fn memory_bytes(rig: &Rig) -> Option<u64> {
    if let (Sharing::Phases, Some(pool)) = (rig.sharing, rig.pool) {
        return Some(pool.0);
    }
    rig.devices
        .iter()
        .map(|(device, free)| Some(free.or(device.memory)?.0))
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
            .map_or("this machine", super::chip::class_name);
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

fn refused(refusal: &Refusal) -> Lost {
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
fn npu_holds(rig: &Rig, forecast: &Forecast, model: &ModelShape) -> Result<(), Lost> {
    let is_npu = rig
        .devices
        .iter()
        .any(|(device, _)| device.kind == DeviceKind::Npu);
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

/// Whether the first token comes soon enough. With a rig, the reason says what the chip's peak rate would allow.
fn ttft(
    forecast: &Forecast,
    model: &ModelShape,
    workload: &Workload,
    rig: Option<&Rig>,
) -> Result<(), Lost> {
    let Some(want) = workload.ttft_s else {
        return Ok(());
    };
    let Some(ttft) = forecast.ttft_s else {
        let reason = format!(
            "its time to the first token cannot be told (no rate is known); {want} s wanted"
        );
        return Err(lost(Requirement::Ttft, reason));
    };
    if ttft.value <= want {
        return Ok(());
    }
    let mut reason = format!("first token after {} s, {want} s wanted", spread(ttft));
    let floor = rig.and_then(|rig| ttft_floor_s(rig, model, workload));
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
    let peaks = rig.devices.iter().filter_map(|(device, _)| peak(device));
    let tops: f64 = peaks.sum();
    (tops > 0.0).then(|| {
        2.0 * model.params_active as f64 * f64::from(workload.prompt_tokens) / (tops * 1e12)
    })
}

fn speed(forecast: &Forecast, workload: &Workload) -> Result<(), Lost> {
    match workload.tps {
        Some(want) if forecast.decode_tps.value < want => {
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
    let purchase = verdict.purchase_usd().unwrap_or(0.0);
    if let Some(budget) = workload.budget_usd {
        if purchase > budget {
            return Err(lost(
                Requirement::Budget,
                format!("costs {purchase:.0} USD, {budget:.0} are given"),
            ));
        }
        // Who names one sum means all of it: rent has to come out of it for as long as a machine would last.
        let months = workload.lifetime_months;
        let rent = verdict.bill.as_ref().map_or(0.0, |bill| bill.rent.value) * months;
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
pub(super) fn spread(estimate: Estimate) -> String {
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
