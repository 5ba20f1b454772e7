//! Finding constants: robust, with a factor of its own for every machine that somebody measured.
//!
//! A row's residual is the logarithm of predicted over measured time. People lower power limits, run other programs and name
//! files wrongly; so the loss grows with the logarithm of the residual's square, and each person's machine has a factor that
//! is drawn towards one: else the machine with most rows would set the constants for all.

use std::collections::BTreeMap;

use troika_planner::cost::{self, Class, Family, Fit};

use super::prior;
use super::rows::Row;

/// Rounds of the search from the start, and from constants of almost the same rows.
pub(super) const PASSES: usize = 60;
pub(super) const PASSES_AGAIN: usize = 12;

/// Residuals around this size still count in full.
const SCALE: f64 = 0.12;
/// Machines are this much slower than the constants say, commonly, and this much faster: limits on power, other programs and old
/// engines slow a machine down, and nothing makes it faster than its memory.
const MACHINE_SLOWER: f64 = 0.25;
const MACHINE_FASTER: f64 = 0.08;
/// What it costs to move a machine's factor, against the residuals of its rows.
const MACHINE_WEIGHT: f64 = 10.0;
/// A device counts as this many rows at most.
const ROWS_PER_DEVICE: f64 = 25.0;

/// Classes whose constants are fitted; the others have too few rows.
pub(super) const DECODE_CLASSES: [&str; 5] = ["nvidia", "nvidia-pascal", "gb10", "amd", "apple"];
pub(super) const PREFILL_CLASSES: [&str; 3] = ["nvidia", "amd", "apple"];

/// Constants as the search moves them: logarithms, so that steps are relative.
#[derive(Clone)]
pub(super) struct Constants {
    pub(super) fit: Fit,
}

/// Where in the constants a constant is, given an index into its list.
type Place = fn(&mut Fit, usize) -> &mut f64;

/// One constant: where it is, and how hard it is held where it starts.
struct Knob {
    get: Place,
    index: usize,
    hold: f64,
    prefill: bool,
}

pub(super) struct Problem<'a> {
    rows: &'a [Row],
    weights: Vec<f64>,
    machines: Vec<Vec<usize>>,
    start: Fit,
    knobs: Vec<Knob>,
}

fn classes(fit: &mut Fit) -> &mut Vec<Class> {
    fit.classes.to_mut()
}

fn families(fit: &mut Fit) -> &mut Vec<Family> {
    fit.families.to_mut()
}

impl<'a> Problem<'a> {
    pub(super) fn new(rows: &'a [Row]) -> Self {
        let mut per_device = BTreeMap::<&str, f64>::new();
        let mut machines = BTreeMap::<&str, Vec<usize>>::new();
        for (index, row) in rows.iter().enumerate() {
            *per_device.entry(&row.device.name).or_default() += 1.0;
            machines.entry(&row.who).or_default().push(index);
        }
        let weights = rows
            .iter()
            .map(|row| (ROWS_PER_DEVICE / per_device[row.device.name.as_str()]).min(1.0))
            .collect();
        let start = prior::constants();
        Self {
            rows,
            weights,
            machines: machines.into_values().collect(),
            knobs: knobs(&start),
            start,
        }
    }

    /// Where the search starts, and what it is drawn to.
    pub(super) fn start(&self) -> Constants {
        Constants {
            fit: self.start.clone(),
        }
    }

    /// Constants for all rows but those of one device.
    pub(super) fn fit(&self, without: Option<&str>, start: &Constants, passes: usize) -> Constants {
        let mut best = start.clone();
        for prefill in [false, true] {
            let mut loss = self.loss(&best.fit, without, prefill);
            let knobs: Vec<&Knob> = self
                .knobs
                .iter()
                .filter(|knob| knob.prefill == prefill)
                .collect();
            let mut steps = vec![0.08; knobs.len()];
            for _ in 0..passes {
                for (knob, step) in knobs.iter().zip(&mut steps) {
                    let tried = [1.0, -1.0].map(|sign: f64| {
                        let mut fit = best.fit.clone();
                        *(knob.get)(&mut fit, knob.index) *= (sign * *step).exp();
                        (self.loss(&fit, without, prefill), fit)
                    });
                    let better = tried
                        .into_iter()
                        .min_by(|a, b| a.0.total_cmp(&b.0))
                        .filter(|tried| tried.0 < loss);
                    match better {
                        Some((lower, fit)) => {
                            (loss, best.fit) = (lower, fit);
                            *step = (*step * 1.3).min(0.3);
                        }
                        None => *step = (*step * 0.6).max(0.002),
                    }
                }
            }
        }
        best
    }

    fn loss(&self, fit: &Fit, without: Option<&str>, prefill: bool) -> f64 {
        let mut sum = 0.0;
        let mut residuals = Vec::new();
        for machine in &self.machines {
            residuals.clear();
            for &index in machine {
                let row = &self.rows[index];
                if without == Some(row.device.name.as_str()) {
                    continue;
                }
                let residual = if prefill {
                    prefill_residual(fit, row)
                } else {
                    Some(decode_residual(fit, row))
                };
                residuals.extend(residual.map(|residual| (residual, self.weights[index])));
            }
            sum += machine_loss(&residuals);
        }
        let held: f64 = self
            .knobs
            .iter()
            .filter(|knob| knob.prefill == prefill)
            .map(|knob| {
                let mut now = fit.clone();
                let mut start = self.start.clone();
                let moved =
                    (*(knob.get)(&mut now, knob.index) / *(knob.get)(&mut start, knob.index)).ln();
                knob.hold * moved * moved
            })
            .sum();
        sum + held + beyond_memory(fit)
    }

    /// Logarithm of predicted over measured time of a token.
    pub(super) fn decode_residual(&self, constants: &Constants, index: usize) -> f64 {
        decode_residual(&constants.fit, &self.rows[index])
    }

    /// Logarithm of predicted over measured time of a prompt; `None` where none was measured or can be predicted.
    pub(super) fn prefill_residual(&self, constants: &Constants, index: usize) -> Option<f64> {
        prefill_residual(&constants.fit, &self.rows[index])
    }

    /// Rows of each machine.
    pub(super) fn machines(&self) -> &[Vec<usize>] {
        &self.machines
    }
}

/// No reading loop gets more than this of a memory's peak: refresh and turns of the bus take the rest.
const SHARE_MAX: f64 = 0.93;

/// What it costs to claim more of the memory than there is.
fn beyond_memory(fit: &Fit) -> f64 {
    fit.families
        .iter()
        .filter_map(|family| {
            let class = fit
                .classes
                .iter()
                .find(|class| class.name == family.class)?;
            let beyond = (class.bandwidth_share * family.bandwidth_factor / SHARE_MAX)
                .ln()
                .max(0.0);
            Some(2e4 * beyond * beyond)
        })
        .sum()
}

/// The loss of one machine's rows under the factor that suits them best.
fn machine_loss(residuals: &[(f64, f64)]) -> f64 {
    if residuals.is_empty() {
        return 0.0;
    }
    let robust = |value: f64, scale: f64| (value / scale).mul_add(value / scale, 0.0).ln_1p();
    (-12..=12)
        .map(|step| f64::from(step) * 0.05)
        .map(|factor| {
            let rows: f64 = residuals
                .iter()
                .map(|(residual, weight)| weight * robust(residual + factor, SCALE))
                .sum();
            let scale = if factor > 0.0 {
                MACHINE_SLOWER
            } else {
                MACHINE_FASTER
            };
            // A machine with few rows could explain them away for nothing.
            let count: f64 = residuals.iter().map(|(_, weight)| weight).sum();
            rows + robust(factor, scale) * count.min(MACHINE_WEIGHT) * 0.5
        })
        .fold(f64::INFINITY, f64::min)
}

fn decode_residual(fit: &Fit, row: &Row) -> f64 {
    let layers = [row.model.n_layer];
    cost::step_seconds(
        fit,
        &row.setup(),
        &row.model,
        &row.weights,
        &row.work,
        &layers,
    )
    .map_or(0.0, |seconds| (seconds * row.decode_tps).ln())
}

/// What is faster than this times the prediction is a cached prompt; what is slower, a stall.
const PREFILL_ABSURD: f64 = 1.6;

fn prefill_residual(fit: &Fit, row: &Row) -> Option<f64> {
    let measured = f64::from(row.work.prompt_tokens) / row.prefill_tps?;
    let layers = [row.model.n_layer];
    let seconds = cost::prefill_seconds(
        fit,
        &row.setup(),
        &row.model,
        &row.quantization,
        &row.weights,
        &row.work,
        &layers,
    )?;
    Some((seconds / measured).ln()).filter(|residual| residual.abs() < PREFILL_ABSURD)
}

fn knobs(fit: &Fit) -> Vec<Knob> {
    let mut knobs = Vec::new();
    for (index, class) in fit.classes.iter().enumerate() {
        if DECODE_CLASSES.contains(&class.name) {
            knobs.push(Knob {
                get: |fit, index| &mut classes(fit)[index].bandwidth_share,
                index,
                hold: 60.0,
                prefill: false,
            });
            knobs.push(Knob {
                get: |fit, index| &mut classes(fit)[index].layer_us,
                index,
                hold: 6.0,
                prefill: false,
            });
        }
        if PREFILL_CLASSES.contains(&class.name) {
            knobs.push(Knob {
                get: |fit, index| &mut classes(fit)[index].blocks_share,
                index,
                hold: 6.0,
                prefill: true,
            });
            knobs.push(Knob {
                get: |fit, index| &mut classes(fit)[index].half_share,
                index,
                hold: 20.0,
                prefill: true,
            });
        }
    }
    for index in 0..fit.families.len() {
        knobs.push(Knob {
            get: |fit, index| &mut families(fit)[index].bandwidth_factor,
            index,
            hold: 150.0,
            prefill: false,
        });
    }
    let single: [(Place, bool); 6] = [
        (|fit, _| &mut fit.expert_layer, false),
        (|fit, _| &mut fit.expert_bytes, false),
        (|fit, _| &mut fit.state_layer, false),
        (|fit, _| &mut fit.window_layer, false),
        (|fit, _| &mut fit.ollama_us, false),
        (|fit, _| &mut fit.expert_prefill, true),
    ];
    knobs.extend(single.map(|(get, prefill)| Knob {
        get,
        index: 0,
        hold: 3.0,
        prefill,
    }));
    knobs
}
