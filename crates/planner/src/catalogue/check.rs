//! What is wrong with a catalogue: units, ranges, names, sources, references, arithmetic.
//!
//! A defect is a fact about a row, not a matter of taste: built-in rows have none (a test says so), and a user's rows with
//! one are not added.

mod chips;
mod models;
mod trade;

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::source::{Date, Source};
use super::{Catalogue, Identity, Table, Thresholds, files, strict};

/// Something that is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// The file that the row stands in.
    pub file: String,
    /// The row's name.
    pub row: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, row, what } = self;
        write!(f, "{file}: {row}: {what}")
    }
}

/// Everything that is wrong with a catalogue, in the order of its rows. `today` is the day that no source is younger than.
pub fn validate(catalogue: &Catalogue, today: Date) -> Vec<Defect> {
    let mut report = Report {
        today,
        defects: Vec::new(),
    };
    chips::check(catalogue, &mut report);
    models::check(catalogue, &mut report);
    trade::check(catalogue, &mut report);
    support(catalogue, &mut report);
    let thresholds = thresholds(catalogue.thresholds());
    report.of("thresholds.toml", "thresholds").all(thresholds);
    report.defects
}

/// Collects defects.
struct Report {
    today: Date,
    defects: Vec<Defect>,
}

impl Report {
    /// What is said from here on is of this row.
    fn of<'r>(&'r mut self, file: &'r str, row: &'r str) -> OfRow<'r> {
        OfRow {
            report: self,
            file,
            row,
        }
    }

    /// Reports rows that have the same identity.
    fn duplicates<T: Identity>(&mut self, table: &Table<T>) {
        let mut seen = HashMap::new();
        for (file, row) in table.with_files() {
            let identity = row.identity();
            if let Some(other) = seen.insert(identity.clone(), file) {
                self.of(file, &identity)
                    .say(format!("stands in {other} too"));
            }
        }
    }

    /// Reports names that two rows share, and names that a row has twice.
    fn shared_names<'c>(
        &mut self,
        rows: impl Iterator<Item = (&'c str, &'c String, &'c Vec<String>)>,
    ) {
        let mut owners: HashMap<String, &str> = HashMap::new();
        for (file, name, aliases) in rows {
            for alias in std::iter::once(name).chain(aliases) {
                let key = strict(alias);
                let mut row = self.of(file, name);
                if key.is_empty() {
                    row.say(format!("{alias:?} has neither letter nor digit"));
                } else if alias.contains(char::is_control) {
                    row.say(format!("{alias:?} has a control character"));
                } else if let Some(other) = owners.insert(key, name) {
                    row.say(format!("its name {alias:?} is a name of {other} too"));
                }
            }
        }
    }
}

/// Collects the defects of one row.
struct OfRow<'r> {
    report: &'r mut Report,
    file: &'r str,
    row: &'r str,
}

impl OfRow<'_> {
    fn say(&mut self, what: impl Into<String>) {
        self.report.defects.push(Defect {
            file: self.file.to_owned(),
            row: self.row.to_owned(),
            what: what.into(),
        });
    }

    fn all(&mut self, what: Vec<String>) {
        for what in what {
            self.say(what);
        }
    }

    /// Says it unless it holds.
    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.say(what());
        }
    }

    /// Says so if a figure is there and outside of its range. No range holds what is not a number.
    fn range(&mut self, field: &str, value: impl Into<Option<f64>>, min: f64, max: f64) {
        if let Some(value) = value.into() {
            self.expect((min..=max).contains(&value), || {
                // In digits, 1e300 is three hundred of them.
                let value = if value.abs() < 1e15 {
                    value.to_string()
                } else {
                    format!("{value:e}")
                };
                format!("{field} = {value} is not between {min} and {max}")
            });
        }
    }

    fn source(&mut self, source: &Source) {
        let is_own = files::BUILT_IN.iter().all(|(path, _)| *path != self.file);
        // What a user found out needs no page.
        let is_url =
            source.url.starts_with("https://") && !source.url.contains(char::is_whitespace);
        self.expect(is_own && !source.url.trim().is_empty() || is_url, || {
            format!("its source {:?} is no https:// address", source.url)
        });
        let today = self.report.today;
        self.expect(source.date <= today, || {
            format!("its source is of {}, and today is {today}", source.date)
        });
        self.expect(source.date.year() >= 2015, || {
            format!(
                "its source is of {}: older than what it describes",
                source.date
            )
        });
    }
}

/// Runtimes that a row may name.
const RUNTIMES: [&str; 18] = [
    "troika", "cuda", "tensorrt", "rocm", "vulkan", "metal", "mlx", "coreml", "openvino", "sycl",
    "directml", "qnn", "opencl", "vitisai", "rknn", "hailort", "edgetpu", "litert",
];

fn support(catalogue: &Catalogue, report: &mut Report) {
    let chips = catalogue.chips().iter();
    let of_chips = chips.flat_map(|chip| chip.npu_family.iter().chain([&chip.family]));
    let families: HashSet<&str> = of_chips.map(String::as_str).collect();
    let mut seen = HashMap::new();
    for (file, row) in catalogue.support.with_files() {
        let name = format!("{} on {}", row.runtime, row.families.join(", "));
        let mut of = report.of(file, &name);
        of.source(&row.source);
        of.range(
            "context_max",
            row.context_max.map(f64::from),
            128.0,
            f64::from(1 << 24),
        );
        of.expect(!row.families.is_empty(), || "it names no family".to_owned());
        of.expect(RUNTIMES.contains(&row.runtime.as_str()), || {
            format!(
                "no runtime is known as {:?}; known are {}",
                row.runtime,
                RUNTIMES.join(" ")
            )
        });
        for family in &row.families {
            of.expect(families.contains(family.as_str()), || {
                format!("no chip is of a family {family:?}")
            });
            let key = (family.clone(), row.runtime.clone());
            let twice = seen.insert(key, ()).is_some();
            of.expect(!twice, || {
                format!("{} on {family} stands there twice", row.runtime)
            });
        }
    }
}

/// Numbers that cannot decide anything together.
fn thresholds(numbers: &Thresholds) -> Vec<String> {
    let mut defects = Vec::new();
    let mut ordered = |low: (&str, f64), high: (&str, f64)| {
        if !(0.0 < low.1 && low.1 <= high.1 && high.1.is_finite()) {
            let ((low, a), (high, b)) = (low, high);
            defects.push(format!("{low} = {a} and {high} = {b}: the first has to be above zero and not above the second"));
        }
    };
    let n = numbers;
    ordered(("at_hand_ms", n.at_hand_ms), ("instant_ms", n.instant_ms));
    ordered(
        ("readable_tps", n.readable_tps),
        ("comfortable_tps", n.comfortable_tps),
    );
    ordered(
        ("comfortable_tps", n.comfortable_tps),
        ("fluent_tps", n.fluent_tps),
    );
    ordered(
        ("data_centre_low", n.data_centre_low),
        ("data_centre_high", n.data_centre_high),
    );
    for (field, value) in [
        ("ttft_s", n.ttft_s),
        ("copilot_npu_tops", n.copilot_npu_tops),
        ("copilot_memory_gb", n.copilot_memory_gb),
        ("copilot_storage_gb", n.copilot_storage_gb),
        ("stale_price_days", n.stale_price_days),
    ] {
        ordered((field, value), (field, value));
    }
    for (field, share) in [
        ("supply_load", n.supply_load),
        ("memory_reserve", n.memory_reserve),
    ] {
        if !(0.0..=1.0).contains(&share) {
            defects.push(format!("{field} = {share} is no share between 0 and 1"));
        }
    }
    defects
}
