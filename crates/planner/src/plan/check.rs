//! Whether a machine is what a label asks for: what its maker states, what that is in one unit, and what was measured.

use serde::Serialize;
use troika_base::{DeviceProfile, NumberFormat, Unit};

use crate::catalogue::{Block, Chip, Format, Thresholds};

/// One figure of a label, three ways.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Line {
    /// `NPU`, `memory`, `storage`.
    pub what: &'static str,
    /// What is asked for, with its unit.
    pub wanted: String,
    /// What the maker states, in the maker's terms.
    pub stated: String,
    /// The same in the label's unit; absent where it cannot be told.
    pub normalised: Option<f64>,
    /// What was measured here.
    pub measured: Option<f64>,
    /// Whether it is enough: by the measurement where there is one, else by the normalised figure.
    pub holds: Option<bool>,
    /// How the figure was normalised, or why it could not be.
    pub note: String,
}

/// A label, checked.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Label {
    /// The machine or chip.
    pub name: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

impl Label {
    /// Yes, no, or not known: one line that fails decides, and so does one that is not known if none fails.
    pub fn holds(&self) -> Option<bool> {
        let any = |answer| self.lines.iter().any(|line| line.holds == answer);
        match (any(Some(false)), any(None)) {
            (true, _) => Some(false),
            (false, true) => None,
            (false, false) => Some(true),
        }
    }
}

/// What is known of a machine that is checked.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// What to call it.
    pub name: String,
    /// Its chip in the catalogue.
    pub chip: Option<&'a Chip>,
    /// Its NPU as a device of this machine.
    pub npu: Option<&'a DeviceProfile>,
    /// Memory, in GB as sold.
    pub memory_gb: Option<f64>,
    /// Storage, in GB.
    pub storage_gb: Option<f64>,
}

/// Whether a machine is a Copilot+ PC by the numbers.
pub fn copilot_plus(subject: &Subject<'_>, thresholds: &Thresholds) -> Label {
    let amount = |what, wanted: f64, has: Option<f64>| Line {
        what,
        wanted: format!("{wanted} GB"),
        stated: has.map_or_else(|| "not known".to_owned(), |gb| format!("{gb:.0} GB")),
        normalised: has,
        measured: None,
        // Systems report a little less than what is built in.
        holds: has.map(|gb| gb >= wanted * 0.92),
        note: match has {
            Some(_) => String::new(),
            None => format!("say it with `--{what}-gb`"),
        },
    };
    Label {
        name: subject.name.clone(),
        lines: vec![
            npu(subject, thresholds.copilot_npu_tops),
            amount("memory", thresholds.copilot_memory_gb, subject.memory_gb),
            amount("storage", thresholds.copilot_storage_gb, subject.storage_gb),
        ],
    }
}

fn npu(subject: &Subject<'_>, wanted: f64) -> Line {
    let (stated, normalised, note) = match subject.chip {
        Some(chip) => stated(chip),
        None => of_profile(subject.npu),
    };
    let measured = subject.npu.and_then(|npu| {
        let rates = npu.rates_measured.iter();
        rates
            .filter(|rate| rate.format == NumberFormat::Int8)
            .filter_map(|rate| rate.dense_tops)
            .reduce(f64::max)
    });
    Line {
        what: "NPU",
        wanted: format!("{wanted} TOPS, INT8, dense"),
        stated,
        normalised,
        measured,
        holds: measured.or(normalised).map(|tops| tops >= wanted),
        note,
    }
}

/// A chip's NPU in the maker's words, and in dense INT8 operations.
fn stated(chip: &Chip) -> (String, Option<f64>, String) {
    let rates = chip.rates.iter();
    let told: Vec<_> = rates
        .filter(|rate| matches!(rate.block, Block::Npu | Block::Platform))
        .collect();
    let words = told.iter().flat_map(|rate| {
        let block = format!("{:?}", rate.block).to_lowercase();
        let format = format!("{:?}", rate.format).to_uppercase();
        let unclear = if rate.basis.is_some() {
            ", format or density not stated"
        } else {
            ""
        };
        let one =
            move |tops: f64, how: &str| format!("{tops} TOPS {format} {how} ({block}{unclear})");
        let dense = rate.dense.map(|tops| one.clone()(tops, "dense"));
        dense
            .into_iter()
            .chain(rate.sparse.map(|tops| one(tops, "sparse")))
    });
    let words: Vec<_> = words.collect();
    let stated = if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join("; ")
    };
    let int8 = told
        .iter()
        .find(|rate| rate.block == Block::Npu && rate.format == Format::Int8);
    let (normalised, note) = match int8.map(|rate| (rate.dense, rate.sparse)) {
        Some((Some(dense), _)) => (Some(dense), "stated dense".to_owned()),
        Some((None, Some(sparse))) => (
            Some(sparse / 2.0),
            "half of the sparse figure: two of four weights are skipped".to_owned(),
        ),
        _ if !words.is_empty() => (
            None,
            "no INT8 figure of the NPU alone is stated; other formats and sums do not convert"
                .to_owned(),
        ),
        _ => (
            None,
            "the catalogue knows of no NPU in it; the label is for whole computers, by their processor".to_owned(),
        ),
    };
    (stated, normalised, note)
}

/// The NPU of a machine whose chip is not in the catalogue.
fn of_profile(npu: Option<&DeviceProfile>) -> (String, Option<f64>, String) {
    let Some(npu) = npu else {
        return (
            "no NPU was found".to_owned(),
            Some(0.0),
            "this machine has no NPU that its system knows of".to_owned(),
        );
    };
    let rates = npu
        .rates
        .iter()
        .find(|rate| rate.unit == Unit::Matrix && rate.format == NumberFormat::Int8);
    match rates.and_then(|rate| rate.dense_tops) {
        Some(tops) => (
            format!("{tops} TOPS INT8 dense"),
            Some(tops),
            "stated dense".to_owned(),
        ),
        None => (
            "nothing".to_owned(),
            None,
            format!("the catalogue has no {}", npu.name),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{catalogue, catalogue_with, thresholds};

    #[test]
    fn fifty_tops_are_enough_and_a_platform_sum_is_not() {
        let catalogue = catalogue();
        let check = |name: &str, memory_gb, storage_gb| {
            let subject = Subject {
                name: name.to_owned(),
                chip: Some(catalogue.chip(name).expect("is there").row),
                memory_gb: Some(memory_gb),
                storage_gb,
                ..Subject::default()
            };
            copilot_plus(&subject, &thresholds())
        };
        assert_eq!(check("Test Soc 1", 32.0, Some(512.0)).holds(), Some(true));
        assert_eq!(check("Test Soc 1", 8.0, Some(512.0)).holds(), Some(false));
        assert_eq!(
            check("Test Soc 1", 15.4, None).holds(),
            None,
            "storage is not known"
        );
        let old = check("Test Soc 0", 16.0, Some(512.0));
        assert_eq!(
            (old.holds(), old.lines[0].normalised),
            (Some(false), Some(11.5))
        );
        assert!(
            old.lines[0].stated.contains("34 TOPS INT8 dense (platform"),
            "{}",
            old.lines[0].stated
        );
    }

    #[test]
    fn a_sparse_figure_counts_half() {
        let catalogue = catalogue_with(
            "[[chip]]\nname = 'Sparse'\nvendor = 'intel'\nkind = 'soc'\nclass = 'laptop'\nfamily = 'xe2'\nmemory = 'shared'\n\
             rates = [{ block = 'npu', unit = 'matrix', format = 'int8', sparse = 78.0 }]\nSOURCE\n",
        );
        let subject = Subject {
            chip: Some(catalogue.chip("Sparse").expect("is there").row),
            ..Subject::default()
        };
        let label = copilot_plus(&subject, &thresholds());
        assert_eq!(
            (label.lines[0].normalised, label.lines[0].holds),
            (Some(39.0), Some(false))
        );
    }
}
