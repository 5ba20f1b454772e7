//! Troika's own `bench`.

use super::json::Entry;
use super::{Conditions, Measurement, Skipped, What};

pub(super) fn entry(entry: &Entry<'_>) -> Result<(Vec<Measurement>, Vec<Skipped>), Skipped> {
    if entry.text("test").as_deref() == Some("roofline") {
        let why = "what the machine itself can do is `troika devices --measure`'s affair";
        return Err(Skipped::new(&*entry.place, why));
    }
    let value = entry.positive("tps_median")?;
    let count = |name| entry.number(name);
    let (prompt, answer) = (count("n_prompt"), count("n_gen"));
    let what = match (prompt.unwrap_or(0.0) > 0.0, answer.unwrap_or(0.0) > 0.0) {
        (true, false) => What::PrefillTps,
        (false, true) => What::DecodeTps,
        (true, true) => What::CombinedTps,
        (false, false) => {
            let why = "`n_prompt` and `n_gen` are both 0: what was measured is not told";
            return Err(Skipped::new(&*entry.place, why));
        }
    };
    let describe = |what, value| {
        let version = entry.text("troika").map(|version| format!(" {version}"));
        let source = format!("troika bench{}", version.unwrap_or_default());
        let mut measurement = Measurement::new(&source, what, value);
        measurement.engine = Some("troika".to_owned());
        measurement.backend = Some("cpu".to_owned());
        measurement.device = entry.text("processor").or_else(|| entry.text("device"));
        measurement.model = entry.text("model");
        measurement.quant = entry.text("quantization");
        measurement.conditions = Conditions {
            prompt_tokens: prompt,
            gen_tokens: answer,
            depth: count("depth"),
            batch: count("batch"),
            threads: count("threads"),
            repeats: count("rounds"),
            more: ["kernels", "device", "model_bytes", "parameters"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), entry.text(name)?)))
                .collect(),
            ..Conditions::default()
        };
        measurement
    };
    let speed = describe(what, value).between(entry.number("tps_min"), entry.number("tps_max"));
    let peak = entry
        .number("rss_bytes_peak")
        .filter(|&bytes| bytes > 0.0)
        .map(|bytes| describe(What::BytesPeak, bytes));
    Ok((std::iter::once(speed).chain(peak).collect(), Vec::new()))
}
