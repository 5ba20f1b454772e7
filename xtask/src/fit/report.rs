//! How good a fit is, for people.

use std::collections::BTreeMap;

use super::Unseen;
use super::rows::Row;
use super::search::{Constants, DECODE_CLASSES, Problem};

/// Errors of a set of predictions.
pub(super) struct Errors {
    pub(super) rows: usize,
    /// Median of the absolute relative error.
    pub(super) median: f64,
    within_quarter: f64,
    pub(super) within_factor_2: f64,
}

impl Errors {
    /// From logarithms of predicted over measured.
    pub(super) fn of(residuals: &[f64]) -> Self {
        let mut errors: Vec<f64> = residuals
            .iter()
            .map(|residual| (residual.exp() - 1.0).abs())
            .collect();
        errors.sort_unstable_by(f64::total_cmp);
        let share = |keep: &dyn Fn(f64) -> bool| {
            residuals.iter().filter(|residual| keep(**residual)).count() as f64
                / residuals.len().max(1) as f64
        };
        Self {
            rows: residuals.len(),
            median: quantile(&errors, 0.5),
            within_quarter: share(&|residual| (residual.exp() - 1.0).abs() <= 0.25),
            within_factor_2: share(&|residual| residual.abs() <= 2f64.ln()),
        }
    }

    fn print(&self, name: &str) {
        println!(
            "  {name:44} {:4} rows  median error {:5.1} %  within 25 %: {:3.0} %  within 2x: {:3.0} %",
            self.rows,
            self.median * 100.0,
            self.within_quarter * 100.0,
            self.within_factor_2 * 100.0
        );
    }
}

/// The value below which this share of a sorted list lies.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * place.fract()
}

pub(super) fn constants(constants: &Constants) {
    println!("constants");
    let fit = &constants.fit;
    for class in fit
        .classes
        .iter()
        .filter(|class| DECODE_CLASSES.contains(&class.name))
    {
        println!(
            "  {:14} bandwidth {:.3}  layer {:5.1} us  prefill blocks {:.3} half {:.3}",
            class.name, class.bandwidth_share, class.layer_us, class.blocks_share, class.half_share
        );
    }
    let moved = fit
        .families
        .iter()
        .filter(|family| (family.bandwidth_factor - 1.0).abs() > 0.005);
    for family in moved {
        println!(
            "  {:14} bandwidth x{:.3}",
            family.name, family.bandwidth_factor
        );
    }
    println!(
        "  experts: layer x{:.2} bytes x{:.2} prefill x{:.2}; state layer x{:.2}; window layer x{:.2}; ollama +{:.0} us",
        fit.expert_layer,
        fit.expert_bytes,
        fit.expert_prefill,
        fit.state_layer,
        fit.window_layer,
        fit.ollama_us
    );
}

/// Errors on the rows that the fit has seen.
pub(super) fn within(rows: &[Row], problem: &Problem<'_>, constants: &Constants) {
    println!("on the rows of the fit");
    let decode: Vec<f64> = (0..rows.len())
        .map(|index| problem.decode_residual(constants, index))
        .collect();
    let prefill: Vec<f64> = (0..rows.len())
        .filter_map(|index| problem.prefill_residual(constants, index))
        .collect();
    Errors::of(&decode).print("decode");
    Errors::of(&prefill).print("prefill");
}

/// Errors on devices that the fit has not seen.
pub(super) fn unseen(rows: &[Row], unseen: &Unseen) {
    println!("on devices left out of the fit: decode");
    Errors::of(&unseen.decode).print("all");
    let mut groups = BTreeMap::<(u8, String), Vec<f64>>::new();
    for (row, &residual) in rows.iter().zip(&unseen.decode) {
        let mut add = |order, name: String| groups.entry((order, name)).or_default().push(residual);
        add(0, format!("vendor {}", row.device.vendor));
        add(1, format!("engine {}", row.engine));
        add(
            2,
            if row.model.experts.is_some() {
                "mixtures"
            } else {
                "dense models"
            }
            .to_owned(),
        );
        add(3, row.device.name.clone());
    }
    for ((_, name), residuals) in &groups {
        Errors::of(residuals).print(name);
    }
    println!("on devices left out of the fit: prefill");
    let mut groups = BTreeMap::<String, Vec<f64>>::new();
    for (row, residual) in rows.iter().zip(&unseen.prefill) {
        if let Some(residual) = residual {
            groups.entry("all".into()).or_default().push(*residual);
            groups
                .entry(row.device.name.clone())
                .or_default()
                .push(*residual);
        }
    }
    for (name, residuals) in &groups {
        Errors::of(residuals).print(name);
    }
}

/// Errors once one run on the same machine has been made: each row predicted from another of its machine.
pub(super) fn calibrated(rows: &[Row], problem: &Problem<'_>, constants: &Constants) {
    let mut residuals = Vec::new();
    for machine in problem.machines() {
        for pair in machine.windows(2) {
            let [measured, predicted] =
                [pair[0], pair[1]].map(|index| problem.decode_residual(constants, index));
            if rows[pair[0]].engine == rows[pair[1]].engine {
                residuals.push(predicted - measured);
            }
        }
    }
    println!("after one run on the same machine (another model each time): decode");
    Errors::of(&residuals).print("all");
}
