//! The constants as Rust.

use std::fmt::Write as _;

use troika_planner::cost::{Class, Spread};

use super::Unseen;
use super::report::{Errors, quantile};
use super::rows::Row;
use super::search::{Constants, DECODE_CLASSES, PREFILL_CLASSES};

/// A class needs this many rows for an interval of its own.
const ROWS_MIN: usize = 40;

pub(super) fn constants(constants: &Constants, rows: &[Row], unseen: &Unseen) -> String {
    let fit = &constants.fit;
    let errors = Errors::of(&unseen.decode);
    let prefill: Vec<f64> = unseen.prefill.iter().copied().flatten().collect();
    let prefill_errors = Errors::of(&prefill);
    let mut text = format!(
        "//! The constants of the cost model.\n//!\n\
         //! Written by `cargo xtask fit` from fit/rows.csv; docs/adr/0009-cost-model.md says how. Not to be edited by hand.\n//!\n\
         //! Decode, on devices left out of the fit: median error {:.1} % of {} rows, {:.0} % within a factor of two. Prefill: {:.1} % of {}\n\
         //! rows. Intervals are those in which eight of ten of these rows lie.\n\n\
         use std::borrow::Cow;\n\nuse super::software::{{Class, Family, Fit, Spread}};\n\n\
         /// The constants in use.\npub static FIT: Fit = Fit {{\n",
        errors.median * 100.0,
        errors.rows,
        errors.within_factor_2 * 100.0,
        prefill_errors.median * 100.0,
        prefill_errors.rows,
    );
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line("    date: Cow::Borrowed(\"2026-11-21\"),".into());
    line("    classes: Cow::Borrowed(&CLASSES),".into());
    line("    families: Cow::Borrowed(&FAMILIES),".into());
    for (name, value) in [
        ("expert_layer", fit.expert_layer),
        ("expert_bytes", fit.expert_bytes),
        ("state_layer", fit.state_layer),
        ("window_layer", fit.window_layer),
        ("ollama_us", fit.ollama_us),
        ("expert_prefill", fit.expert_prefill),
    ] {
        line(format!("    {name}: {},", number(value)));
    }
    line("};\n".into());
    line(format!(
        "static CLASSES: [Class; {}] = [",
        fit.classes.len()
    ));
    for class in fit.classes.iter() {
        line(class_text(&with_spread(class, rows, unseen)));
    }
    line("];\n".into());
    line(
        "const fn family(name: &'static str, class: &'static str, bandwidth_factor: f64) -> Family {\n    Family {\n        \
         name,\n        class,\n        bandwidth_factor,\n    }\n}\n"
            .into(),
    );
    line(format!(
        "static FAMILIES: [Family; {}] = [",
        fit.families.len()
    ));
    for family in fit.families.iter() {
        line(format!(
            "    family(\"{}\", \"{}\", {}),",
            family.name,
            family.class,
            number(family.bandwidth_factor)
        ));
    }
    line("];".into());
    text
}

/// Three figures are more than the data bear.
fn number(value: f64) -> String {
    let digits = if value.abs() >= 100.0 { 1 } else { 3 };
    let text = format!("{value:.digits$}");
    let text = text.trim_end_matches('0');
    if text.ends_with('.') {
        format!("{text}0")
    } else {
        text.to_owned()
    }
}

fn class_text(class: &Class) -> String {
    let mut text = String::from("    Class {\n");
    let spread = |spread: Spread| {
        format!(
            "Spread {{\n            low: {},\n            high: {},\n        }}",
            number(spread.low),
            number(spread.high)
        )
    };
    for (name, value) in [
        ("name", format!("\"{}\"", class.name)),
        ("bandwidth_share", number(class.bandwidth_share)),
        ("layer_us", number(class.layer_us)),
        ("blocks_share", number(class.blocks_share)),
        ("half_share", number(class.half_share)),
        ("decode", spread(class.decode)),
        ("prefill", spread(class.prefill)),
        ("rows", class.rows.to_string()),
    ] {
        let _ = writeln!(text, "        {name}: {value},");
    }
    text.push_str("    },");
    text
}

/// The interval in which eight of ten measurements lay on devices that were left out.
fn with_spread(class: &Class, rows: &[Row], unseen: &Unseen) -> Class {
    let mut class = *class;
    let of_class = |row: &Row| {
        let family = row.device.family.as_deref().unwrap_or_default();
        troika_planner::cost::FIT
            .families
            .iter()
            .any(|known| known.name == family && known.class == class.name)
    };
    let own: Vec<f64> = rows
        .iter()
        .zip(&unseen.decode)
        .filter(|(row, _)| of_class(row))
        .map(|(_, r)| *r)
        .collect();
    class.rows = u32::try_from(own.len()).unwrap_or(u32::MAX);
    if DECODE_CLASSES.contains(&class.name) {
        let pool = if own.len() >= ROWS_MIN {
            &own
        } else {
            &unseen.decode
        };
        class.decode = middle_80(pool);
    }
    if PREFILL_CLASSES.contains(&class.name) {
        let own: Vec<f64> = rows
            .iter()
            .zip(&unseen.prefill)
            .filter(|(row, _)| of_class(row))
            .filter_map(|(_, residual)| *residual)
            .collect();
        let all: Vec<f64> = unseen.prefill.iter().copied().flatten().collect();
        class.prefill = middle_80(if own.len() >= ROWS_MIN { &own } else { &all });
    }
    class
}

/// Factors on the predicted speed. A residual is the logarithm of measured over predicted speed.
fn middle_80(residuals: &[f64]) -> Spread {
    let mut sorted = residuals.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Spread {
        low: quantile(&sorted, 0.1).exp().min(0.95),
        high: quantile(&sorted, 0.9).exp().max(1.05),
    }
}
