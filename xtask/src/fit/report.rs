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
    /// Median of predicted over measured time, less one: above zero, the prediction is too slow.
    bias: f64,
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
        let mut signed = residuals.to_vec();
        signed.sort_unstable_by(f64::total_cmp);
        let share = |keep: &dyn Fn(f64) -> bool| {
            residuals.iter().filter(|residual| keep(**residual)).count() as f64
                / residuals.len().max(1) as f64
        };
        Self {
            rows: residuals.len(),
            median: quantile(&errors, 0.5),
            bias: quantile(&signed, 0.5).exp() - 1.0,
            within_quarter: share(&|residual| (residual.exp() - 1.0).abs() <= 0.25),
            within_factor_2: share(&|residual| residual.abs() <= 2f64.ln()),
        }
    }

    fn print(&self, name: &str) {
        println!(
            "  {name:44} {:4} rows  median error {:5.1} %  bias {:+5.1} %  within 25 %: {:3.0} %  within 2x: {:3.0} %",
            self.rows,
            self.median * 100.0,
            self.bias * 100.0,
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

/// What is left when each machine has its own factor, by what the models are: where the formula is wrong.
pub(super) fn structure(rows: &[Row], problem: &Problem<'_>, constants: &Constants) {
    let mut groups = BTreeMap::<String, Vec<f64>>::new();
    for machine in problem
        .machines()
        .iter()
        .filter(|machine| machine.len() > 3)
    {
        let mut residuals: Vec<f64> = machine
            .iter()
            .map(|&index| problem.decode_residual(constants, index))
            .collect();
        let each = residuals.clone();
        residuals.sort_unstable_by(f64::total_cmp);
        let middle = quantile(&residuals, 0.5);
        for (&index, residual) in machine.iter().zip(each) {
            let row = &rows[index];
            let left = residual - middle;
            groups
                .entry(format!("architecture {}", row.model.architecture))
                .or_default()
                .push(left);
            groups
                .entry(format!(
                    "quantization {}",
                    row.quantization.name.to_uppercase()
                ))
                .or_default()
                .push(left);
            groups
                .entry(format!("{} on {}", row.engine, row.device.vendor))
                .or_default()
                .push(left);
            let size = (row.weights.layers + row.weights.output_read()).log2() as u32;
            groups
                .entry(format!("read {:2} GB/32 (log2)", size.saturating_sub(25)))
                .or_default()
                .push(left);
        }
    }
    println!("what the formula leaves, with each machine's own factor");
    for (name, residuals) in groups.iter().filter(|(_, residuals)| residuals.len() > 5) {
        Errors::of(residuals).print(name);
    }
}

/// Errors once a model of the common kind has been run on the same machine: a dense one, of middling size for it.
pub(super) fn calibrated(rows: &[Row], problem: &Problem<'_>, constants: &Constants) {
    let mut residuals = Vec::new();
    for machine in problem
        .machines()
        .iter()
        .filter(|machine| machine.len() > 1)
    {
        let read = |index: usize| rows[index].weights.layers;
        let mut dense: Vec<usize> = machine
            .iter()
            .copied()
            .filter(|&index| rows[index].model.experts.is_none())
            .collect();
        dense.sort_unstable_by(|&a, &b| read(a).total_cmp(&read(b)));
        let Some(&run) = dense.get(dense.len() / 2) else {
            continue;
        };
        let measured = problem.decode_residual(constants, run);
        for &index in machine
            .iter()
            .filter(|&&index| rows[index].model.name != rows[run].model.name)
        {
            if rows[index].engine == rows[run].engine {
                residuals.push(problem.decode_residual(constants, index) - measured);
            }
        }
    }
    println!("after one run of a dense model on the same machine: other models' decode");
    Errors::of(&residuals).print("all");
}
