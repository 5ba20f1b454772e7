//! MLPerf Client's `results.json`: an object per run, with the time to the first token and the rate of the others for each
//! category of prompts.
//!
//! The categories are taken, not the geometric means over them: those mix prompts of 130 and of 1,600 tokens.

use super::json::Entry;
use super::{Measurement, Skipped, What};

pub(super) fn entry(entry: &Entry<'_>) -> Result<(Vec<Measurement>, Vec<Skipped>), Skipped> {
    if entry.text("Benchmark Success").as_deref() == Some("false") {
        let why = entry.text("Error Message").map_or_else(
            || "the run failed".to_owned(),
            |message| {
                format!(
                    "the run failed: {}",
                    message.lines().next().unwrap_or_default()
                )
            },
        );
        return Err(Skipped::new(&*entry.place, why));
    }
    let (mut measurements, mut skipped) = (Vec::new(), Vec::new());
    if let Some(categories) = entry.object("category_results") {
        for (name, category) in categories.objects() {
            let figures = Figures::of_category(&category);
            figures.measure(entry, name, &mut measurements, &mut skipped);
        }
    }
    if measurements.is_empty()
        && let Some(overall) = entry.object("overall_results")
    {
        let figures = Figures::of_all(&overall);
        figures.measure(
            entry,
            "geometric mean of categories",
            &mut measurements,
            &mut skipped,
        );
    }
    if measurements.is_empty() && skipped.is_empty() {
        return Err(Skipped::new(
            &*entry.place,
            "it has no results of a language model",
        ));
    }
    Ok((measurements, skipped))
}

/// The figures of one category.
struct Figures {
    ttft_s: Result<f64, Skipped>,
    decode_tps: Result<f64, Skipped>,
    prompt_tokens: Option<f64>,
    gen_tokens: Option<f64>,
}

impl Figures {
    fn of_category(entry: &Entry<'_>) -> Self {
        Self::of(
            entry,
            "Avg Time to First Token",
            "Avg 2nd+ Token Generation Rate",
        )
    }

    fn of_all(entry: &Entry<'_>) -> Self {
        Self::of(
            entry,
            "Geomean Time to First Token",
            "Geomean 2nd+ Token Generation Rate",
        )
    }

    fn of(entry: &Entry<'_>, ttft: &str, rate: &str) -> Self {
        Self {
            ttft_s: entry.positive(ttft),
            decode_tps: entry.positive(rate),
            prompt_tokens: entry.number("Avg Input Tokens"),
            gen_tokens: entry.number("Avg Generated Tokens"),
        }
    }

    fn measure(
        self,
        run: &Entry<'_>,
        category: &str,
        measurements: &mut Vec<Measurement>,
        skipped: &mut Vec<Skipped>,
    ) {
        for (what, figure) in [
            (What::TtftS, self.ttft_s),
            (What::DecodeTps, self.decode_tps),
        ] {
            match figure {
                Ok(value) => {
                    let mut measurement = described(run, what, value);
                    let conditions = &mut measurement.conditions;
                    conditions.prompt_tokens = self.prompt_tokens;
                    conditions.gen_tokens = self.gen_tokens;
                    // The answer is written after the prompt, which is its context.
                    conditions.depth = match what {
                        What::DecodeTps => self.prompt_tokens,
                        _ => Some(0.0),
                    };
                    conditions
                        .more
                        .insert("category".to_owned(), category.to_owned());
                    measurements.push(measurement);
                }
                Err(why) => skipped.push(why),
            }
        }
    }
}

/// What holds for all figures of a run.
fn described(run: &Entry<'_>, what: What, value: f64) -> Measurement {
    let version = run.text("BuildVer").map(|version| format!(" {version}"));
    let source = format!("MLPerf Client{}", version.unwrap_or_default());
    let mut measurement = Measurement::new(&source, what, value);
    measurement.model = run.text("Model Name").or_else(|| run.text("Scenario Name"));
    let provider = run.text("Execution Provider Name");
    measurement.engine.clone_from(&provider);
    measurement.backend = provider.map(|name| name.to_lowercase());
    measurement.device = device(run);
    measurement.when = run.text("Benchmark Start Time");
    let conditions = &mut measurement.conditions;
    conditions.batch = Some(1.0);
    conditions.repeats = run.number("Iterations");
    for (name, field) in [
        ("device_type", "Device Type"),
        ("config", "Config"),
        ("config_file", "ConfigFile"),
        ("verified", "Results Verified"),
        ("system", "SysInfo_OSName"),
        ("cpu", "SysInfo_CPUModel"),
    ] {
        if let Some(text) = run.text(field) {
            conditions.more.insert(name.to_owned(), text);
        }
    }
    measurement
}

/// The chip: the one that the run was configured for, or the only GPU; an NPU is told by the processor that it sits in.
fn device(run: &Entry<'_>) -> Option<String> {
    if let Some(name) = run
        .object("EP Configuration")
        .and_then(|configuration| configuration.text("device_name"))
    {
        return Some(name);
    }
    let kind = run.text("Device Type").unwrap_or_default().to_uppercase();
    if kind == "GPU" {
        let names = run.get("SysInfo_GPUNames")?.as_array()?;
        let [only] = names.as_slice() else {
            return None;
        };
        return only.as_str().map(str::to_owned);
    }
    run.text("SysInfo_CPUModel")
}
