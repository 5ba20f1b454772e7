//! What was measured, as a table, JSON or CSV.

use serde::Serialize;
use serde_json::{Value as Json, json};
use troika_base::{Bytes, KvType, ModelSpec};

use super::plan::Test;
use super::roofline::Roofline;
use crate::machine;
use crate::output::{self, Align, count, line, number};
use crate::weights::TokenCost;

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    rooflines: Vec<Roofline>,
    /// What the model's tokens cost.
    pub(super) cost: Option<(TokenCost, ModelSpec, KvType)>,
    pub(super) rows: Vec<Row>,
}

/// What all tests of one load have in common.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setting {
    pub(crate) model: String,
    pub(crate) model_bytes: u64,
    pub(crate) parameters: u64,
    /// The format that most bytes are in.
    pub(crate) quantization: &'static str,
    pub(crate) device: String,
    pub(crate) processor: String,
    pub(crate) kernels: String,
    pub(crate) threads: usize,
    pub(crate) kv_type: &'static str,
    /// From opening the file to the model being ready.
    pub(crate) load_ms: f64,
    /// From opening the file to the first token after a prompt of eight.
    pub(crate) first_token_ms: f64,
}

/// One test's result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    test: String,
    #[serde(flatten)]
    pub(crate) numbers: Test,
    rounds: usize,
    /// Of each round, sorted.
    #[serde(skip)]
    pub(crate) tps: Vec<f64>,
    tps_median: f64,
    tps_min: f64,
    tps_max: f64,
    /// What the machine would let it reach.
    tps_bound: Option<f64>,
    /// The most memory that the process has held until the end of this test.
    rss_bytes_peak: Option<u64>,
    #[serde(flatten)]
    pub(crate) setting: Setting,
    troika: &'static str,
}

impl Row {
    /// Of some rounds, at least one.
    pub(super) fn new(test: &Test, mut tps: Vec<f64>, setting: &Setting) -> Self {
        tps.sort_by(f64::total_cmp);
        let middle = tps.len() / 2;
        let tps_median = match tps.len() % 2 {
            1 => tps[middle],
            _ => f64::midpoint(tps[middle - 1], tps[middle]),
        };
        Self {
            test: test.name(),
            numbers: *test,
            rounds: tps.len(),
            tps_median,
            tps_min: tps[0],
            tps_max: tps[tps.len() - 1],
            tps,
            tps_bound: None,
            rss_bytes_peak: machine::rss_peak().map(|bytes| bytes.0),
            setting: setting.clone(),
            troika: env!("CARGO_PKG_VERSION"),
        }
    }
}

impl Report {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.rooflines.is_empty()
    }

    /// Takes note of what the machine can do, and of what that means for the tests on as many threads.
    pub(super) fn add_roofline(&mut self, roofline: Roofline) {
        if let Some((cost, spec, kv_type)) = &self.cost {
            let rows = self.rows.iter_mut();
            for row in rows.filter(|row| row.setting.threads == roofline.threads) {
                row.tps_bound = roofline.bound_tps(&row.numbers, cost, spec, *kv_type);
            }
        }
        self.rooflines.push(roofline);
    }

    /// One list: what was measured of the machine, then the tests.
    pub(super) fn json(&self) -> Json {
        let rooflines = self.rooflines.iter().map(|roofline| json!(roofline));
        rooflines
            .chain(self.rows.iter().map(|row| json!(row)))
            .collect()
    }

    /// The tests, with a line of names. What was measured of the machine has other columns, and is not among them.
    pub(super) fn csv(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let Json::Object(row) = json!(row) else {
                unreachable!("a row is an object. This is a bug.");
            };
            if text.is_empty() {
                let names: Vec<_> = row.keys().map(String::as_str).collect();
                text.push_str(&names.join(","));
                text.push('\n');
            }
            let cells: Vec<_> = row.values().map(csv_cell).collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for roofline in &self.rooflines {
            text.push_str(&roofline.text());
        }
        let Some(first) = self.rows.first() else {
            return text;
        };
        if !self.rooflines.is_empty() {
            text.push('\n');
        }
        let setting = &first.setting;
        text.push_str(&format!(
            "{}, {}, {} parameters, {}\n{} · {}\nloaded in {:.2} s, first token after {:.2} s\n\n",
            line(&setting.model, 60),
            setting.quantization,
            count(setting.parameters),
            Bytes(setting.model_bytes),
            setting.device,
            setting.processor,
            setting.load_ms / 1e3,
            setting.first_token_ms / 1e3,
        ));
        text.push_str(&self.table());
        text
    }

    fn table(&self) -> String {
        let bound_heading = if self.rooflines.is_empty() {
            ""
        } else {
            "of the roofline"
        };
        let heading = [
            "test",
            "depth",
            "batch",
            "threads",
            "tokens/s",
            "from – to",
            "peak memory",
            bound_heading,
        ];
        let mut rows = vec![heading.map(str::to_owned)];
        for row in &self.rows {
            let bound = row.tps_bound.map(|bound| {
                format!(
                    "{:.0} % of {}",
                    row.tps_median * 100.0 / bound,
                    number(bound)
                )
            });
            rows.push([
                row.test.clone(),
                row.numbers.depth.to_string(),
                row.numbers.batch.to_string(),
                row.setting.threads.to_string(),
                number(row.tps_median),
                format!("{} – {}", number(row.tps_min), number(row.tps_max)),
                row.rss_bytes_peak
                    .map_or_else(|| "-".to_owned(), |bytes| Bytes(bytes).to_string()),
                bound.unwrap_or_default(),
            ]);
        }
        use Align::{Left, Right};
        output::table(
            [Left, Right, Right, Right, Right, Right, Right, Right],
            &rows,
        )
    }
}

/// A value as a cell; text is quoted where it has to be.
fn csv_cell(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) if text.contains(['"', ',', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tps: &[f64]) -> Report {
        let test = Test {
            n_prompt: 512,
            n_gen: 0,
            depth: 0,
            batch: 1,
        };
        let setting = Setting {
            model: "a \"model\"".to_owned(),
            model_bytes: 1 << 30,
            parameters: 1_000_000_000,
            quantization: "Q4_0",
            device: "cpu0".to_owned(),
            processor: "a processor, 2 threads".to_owned(),
            kernels: "scalar".to_owned(),
            threads: 2,
            kv_type: "f16",
            load_ms: 1500.0,
            first_token_ms: 1600.0,
        };
        let mut report = Report {
            rows: vec![Row::new(&test, tps.to_vec(), &setting)],
            ..Report::default()
        };
        // The one number that is not the same everywhere.
        report.rows[0].rss_bytes_peak = Some(1 << 30);
        report
    }

    #[test]
    fn medians_and_ranges() {
        for (tps, want) in [
            (&[3.0, 1.0, 2.0][..], (2.0, 1.0, 3.0)),
            (&[4.0, 1.0], (2.5, 1.0, 4.0)),
            (&[7.0], (7.0, 7.0, 7.0)),
        ] {
            let row = &report(tps).rows[0];
            assert_eq!((row.tps_median, row.tps_min, row.tps_max), want);
        }
    }

    #[test]
    fn the_forms_agree() {
        let report = report(&[100.0, 120.0, 110.0]);
        insta::assert_snapshot!("bench_table", report.text());
        let json = report.json();
        assert_eq!(json[0]["test"], "pp512");
        assert_eq!(json[0]["threads"], 2);
        assert_eq!(json[0]["tps_median"], 110.0);
        let csv = report.csv();
        let (names, cells) = csv.split_once('\n').expect("two lines");
        assert_eq!(
            names.split(',').count(),
            json[0].as_object().expect("an object").len()
        );
        assert!(
            cells.starts_with("pp512,512,0,0,1,3,110.0,100.0,120.0,,"),
            "{cells}"
        );
        assert!(cells.contains("\"a \"\"model\"\"\""), "{cells}");
        assert!(cells.contains("\"a processor, 2 threads\""), "{cells}");
    }
}
