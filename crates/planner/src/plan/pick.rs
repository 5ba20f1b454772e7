//! Which model a rig runs, in which form: the first of a court's that fits and keeps up.

use std::ops::Range;

use troika_base::Bytes;

use super::judge::{self, Court};
use super::rig::{Rig, Sharing};
use super::workload::Workload;
use crate::cost::{self, Forecast, MemoryNeed, Refusal, Work};
use crate::model::ModelShape;
use crate::quantization::Quantization;

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
        judge::is_fast(forecast, court.workload)
            && judge::is_soon(forecast, court.workload)
            && judge::npu_holds(rig, forecast, model).is_ok()
    }

    /// The share of what is wanted that it reached, in speed or in time, whichever is less; `None` if it does not fit.
    fn reached(&self, workload: &Workload) -> Option<f64> {
        let forecast = self.outcome.as_ref().ok()?;
        let speed = workload.tps.map(|want| forecast.decode_tps.value / want);
        let time = forecast
            .ttft_s
            .zip(workload.ttft_s)
            .map(|(ttft, want)| want / ttft.value);
        speed.into_iter().chain(time).reduce(f64::min)
    }
}

/// What a rig does with a model, each number with the terms that explain it.
pub(super) fn forecast(
    rig: &Rig,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
    workload: &Workload,
) -> Result<Forecast, Refusal> {
    reckon(rig, model, quantization, work, (workload, true))
}

/// The numbers, and their terms if it is to be explained.
fn reckon(
    rig: &Rig,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
    (workload, explains): (&Workload, bool),
) -> Result<Forecast, Refusal> {
    let run = |members: Range<usize>| {
        let setup = rig.setup(members.clone(), workload.ecosystem);
        let calibrated = rig.calibrated(members.clone());
        let factors = calibrated.map(|calibrated| &calibrated.factors);
        if !explains {
            return cost::outlook(&setup, model, quantization, work, factors);
        }
        let mut forecast = cost::forecast(&setup, model, quantization, work, factors)?;
        if let Some(calibrated) = calibrated {
            let name = &rig.members[members.start].device.name;
            forecast.terms.extend(calibrated.terms(name));
        }
        Ok(forecast)
    };
    if rig.sharing != Sharing::Phases {
        return run(0..rig.members.len());
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

/// What each rig runs.
///
/// A rig with a processor for what does not fit runs what its cards run alone, wherever there is no other choice and it fits.
pub(super) fn picks(rigs: &[Rig], court: &Court<'_>) -> Vec<Pick> {
    let has_choice = court.models.len() * court.quantizations.len() > 1;
    let mut picks: Vec<Pick> = Vec::with_capacity(rigs.len());
    for rig in rigs {
        let alone = rig.alone.map(|at| &picks[at]);
        let alone = alone.filter(|pick| !has_choice && pick.outcome.is_ok());
        let pick = alone.cloned().unwrap_or_else(|| pick(rig, court));
        picks.push(pick);
    }
    picks
}

/// Whether a rig's processor has nothing to do: its cards run the same alone.
pub(super) fn is_idle(rig: &Rig, pick: &Pick, picks: &[Pick]) -> bool {
    let alone = rig.alone.map(|at| &picks[at]);
    alone.is_some_and(|alone| {
        let same = (alone.model, alone.quantization) == (pick.model, pick.quantization);
        same && alone.outcome.is_ok()
    })
}

/// The best that a rig can run: the first model and form that fit and are fast enough, else the first that fit.
pub(super) fn pick(rig: &Rig, court: &Court<'_>) -> Pick {
    let workload = court.workload;
    let work = workload.work(workload.users);
    let bounds = Bounds::of(rig);
    let last = (court.models.len() - 1, court.quantizations.len() - 1);
    let mut fallback: Option<Pick> = None;
    for (model, shape) in court.models.iter().enumerate() {
        // The forms of one model that were too slow, or too late, by how much: 0.5 is half as fast as wanted.
        let mut missed: Option<(usize, f64)> = None;
        for (quantization, form) in court.quantizations.iter().enumerate() {
            let bytes = court.bytes(model, quantization);
            let fits_one = fallback.as_ref().is_some_and(|pick| pick.outcome.is_ok());
            let hopeless = missed.is_some_and(|(at, share)| {
                bounds.follow_bytes
                    && court.quantizations[at].numbers == form.numbers
                    && share < bytes / court.bytes(model, at)
            });
            let passed_over = bounds.lacks(bytes)
                || hopeless
                || fits_one && bounds.too_slow(shape, bytes, workload);
            // Whoever has a choice passes over what cannot be, at no cost; the last one is asked for the reason.
            if passed_over && (fallback.is_some() || (model, quantization) != last) {
                continue;
            }
            let pick = Pick {
                model,
                quantization,
                outcome: reckon(rig, shape, form, &work, (workload, false)),
            };
            if pick.meets(rig, court) {
                return explained(pick, rig, &work, court);
            }
            missed = pick.reached(workload).map(|share| (quantization, share));
            if !fits_one {
                fallback = Some(pick);
            }
        }
    }
    let fallback = fallback.expect("the last is always tried. This is a bug.");
    explained(fallback, rig, &work, court)
}

/// A pick with the terms of its numbers: most of what is tried is thrown away, so only what is kept is explained.
fn explained(pick: Pick, rig: &Rig, work: &Work, court: &Court<'_>) -> Pick {
    let outcome = pick.outcome.and_then(|_| {
        let model = &court.models[pick.model];
        let form = &court.quantizations[pick.quantization];
        forecast(rig, model, form, work, court.workload)
    });
    Pick { outcome, ..pick }
}

/// What no rig goes beyond, so that the cost model need not be asked.
struct Bounds {
    /// Bytes of memory. Where a device does not tell, nothing is promised on its behalf: it gets the smallest model.
    has: f64,
    /// 10⁹ bytes a second of all devices together.
    reads_gbs: Option<f64>,
    /// Whether halving a model's bytes halves its times at best. Where a part of it spills to a slower device, it may do more.
    follow_bytes: bool,
}

impl Bounds {
    fn of(rig: &Rig) -> Self {
        let first = rig.devices().next().map(|device| &device.name);
        let alike = rig.devices().all(|device| Some(&device.name) == first);
        Self {
            has: rig
                .devices()
                .filter_map(|device| Some(device.memory?.0 as f64))
                .sum(),
            reads_gbs: rig
                .devices()
                .map(|device| device.bandwidth_measured_gbs.or(device.bandwidth_peak_gbs))
                .sum(),
            follow_bytes: alike || rig.sharing == Sharing::Phases,
        }
    }

    /// Whether weights alone are more than the memory.
    fn lacks(&self, bytes: f64) -> bool {
        bytes > self.has
    }

    /// Whether reading what a token needs takes too long, even if all memory is read at its peak.
    ///
    /// A token reads at least as large a share of the bytes as it uses of the parameters, less the table of tokens.
    fn too_slow(&self, model: &ModelShape, bytes: f64, workload: &Workload) -> bool {
        let table = f64::from(model.n_vocab) * f64::from(model.n_embd);
        let used = (model.params_active as f64 - table).max(0.0) / model.params as f64;
        let want = workload.tps.unwrap_or(0.0);
        self.reads_gbs
            .is_some_and(|gbs| bytes * used * want * SURE > gbs * 1e9)
    }
}

/// Of what a bound says, so much is sure: bytes are not spread evenly over a model's parameters, and measurements scatter.
const SURE: f64 = 0.5;
