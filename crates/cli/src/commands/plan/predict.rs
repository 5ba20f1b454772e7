//! `troika plan --predict`: a table of runs, each with what the cost model says of it.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use troika_base::{DeviceProfile, Estimate};
use troika_planner::cost::Calibration;
use troika_planner::predict::{self, Prediction, Row};

use super::Desk;
use crate::output::{self, Console};

/// Tables are read whole; no table of benchmarks is larger.
const BYTES_MAX: u64 = 64 << 20;

/// What the columns are called; others are passed over.
const COLUMNS: &str =
    "device, engine, backend, model, quant, prompt_tokens, gen_tokens, depth, batch";

/// A row with its prediction, as JSON shows it.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    row: &'a Row,
    predicted: Prediction,
}

pub(super) fn run(
    file: &Path,
    calibrate: Option<&Path>,
    desk: &Desk,
    console: &Console,
) -> anyhow::Result<()> {
    let rows = read(file)?;
    let here: Vec<(String, DeviceProfile)> = desk
        .here
        .iter()
        .flat_map(|here| &here.devices)
        .map(|device| (device.id.clone(), device.profile.clone()))
        .collect();
    let factors = match calibrate {
        Some(measured) => predict::calibrate(&read(measured)?, &desk.catalogue, &here),
        None => Vec::new(),
    };
    let of = |device: &DeviceProfile| -> Option<Calibration> {
        factors
            .iter()
            .find(|(name, _)| *name == device.name)
            .map(|(_, factor)| *factor)
    };
    let answers: Vec<Answer<'_>> = rows
        .iter()
        .map(|row| Answer {
            predicted: predict::predict(row, &desk.catalogue, &here, of),
            row,
        })
        .collect();
    if console.json {
        return output::json(&answers);
    }
    output::answer(table(&answers)?)
}

fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut text = String::new();
    let bytes = file
        .take(BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("{shown} is not a table in UTF-8"))?;
    ensure!(
        bytes as u64 <= BYTES_MAX,
        "{shown} is larger than {} MiB, the most that is read",
        BYTES_MAX >> 20
    );
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let columns = reader
        .headers()
        .with_context(|| format!("{shown} has no line of column names"))?
        .clone();
    for needed in ["device", "model"] {
        ensure!(
            columns.iter().any(|column| column == needed),
            "{shown} has no column `{needed}`; columns are {COLUMNS}"
        );
    }
    let rows: Result<Vec<Row>, csv::Error> = reader.deserialize().collect();
    let rows = rows
        .with_context(|| format!("{shown} cannot be read as a table with the columns {COLUMNS}"))?;
    ensure!(!rows.is_empty(), "{shown} has no rows");
    Ok(rows)
}

/// The table with the predictions as further columns.
fn table(answers: &[Answer<'_>]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS.split(", ").chain([
        "predicted_device",
        "predicted_model",
        "decode_tps",
        "decode_low",
        "decode_high",
        "prefill_tps",
        "prefill_low",
        "prefill_high",
        "memory_gb",
        "reason",
    ]))?;
    let count = |count: Option<u32>| count.map_or_else(String::new, |count| count.to_string());
    for Answer { row, predicted } in answers {
        let mut record = vec![
            row.device.clone(),
            row.engine.clone(),
            row.backend.clone(),
            row.model.clone(),
            row.quant.clone(),
            count(row.prompt_tokens),
            count(row.gen_tokens),
            count(row.depth),
            count(row.batch),
            predicted.device.clone().unwrap_or_default(),
            predicted.model.clone().unwrap_or_default(),
        ];
        record.extend(ends(predicted.decode_tps));
        record.extend(ends(predicted.prefill_tps));
        let gb = predicted
            .memory_bytes
            .map(|bytes| format!("{:.2}", bytes as f64 / 1e9));
        record.push(gb.unwrap_or_default());
        record.push(predicted.reason.clone());
        writer.write_record(record)?;
    }
    let text = String::from_utf8(
        writer
            .into_inner()
            .context("the table could not be written")?,
    )?;
    Ok(text.trim_end().to_owned())
}

/// Value, low, high with four figures; empty where there is no estimate.
fn ends(estimate: Option<Estimate>) -> [String; 3] {
    estimate.map_or_else(Default::default, |estimate| {
        [estimate.value, estimate.low, estimate.high].map(figures)
    })
}

fn figures(value: f64) -> String {
    let digits = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 6);
    format!("{value:.*}", digits.unsigned_abs() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_have_four_figures() {
        for (value, text) in [
            (12345.6, "12346"),
            (123.456, "123.5"),
            (1.23456, "1.235"),
            (0.0123456, "0.01235"),
        ] {
            assert_eq!(figures(value), text);
        }
    }
}
