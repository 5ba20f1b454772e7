//! Results that other programs measured, as measurements with their source.
//!
//! [`read`] takes the bytes of a file, finds out whose it is, and returns [`Measurement`]s and what it left out, with the reason.
//! No file is trusted: sizes are capped, every number is checked, an error names line and field. [`record`] is the form in which
//! measurements are kept, a JSON object to a line. [`calibrate`] sets them against the cost model.

pub mod record;

mod calibration;
mod json;
mod llama_bench;
mod meter;
mod mlperf;
mod procyon;
mod table;
mod troika;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::calibration::{Prediction, calibrate};
pub use self::meter::MeterRows;

#[cfg(test)]
mod tests;

/// The largest file that is read: results are small, and a day of a meter's seconds is 3 MB.
pub const BYTES_MAX: usize = 64 << 20;

/// The most measurements that one file gives.
pub const MEASUREMENTS_MAX: usize = 100_000;

/// What was measured, and thereby the unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Prompt tokens a second, of all sequences together.
    PrefillTps,
    /// Answer tokens a second, of all sequences together.
    DecodeTps,
    /// Tokens a second over reading and writing: it does not tell the two apart.
    CombinedTps,
    /// Seconds to the first token.
    TtftS,
    /// Most bytes held.
    BytesPeak,
    /// Watts on average.
    WattsMean,
    /// Watts at most.
    WattsMax,
    /// Joules over the time that was metered.
    EnergyJ,
    /// Points of a benchmark; no speed can be had from them.
    Score,
}

impl What {
    /// The unit of the value.
    pub fn unit(self) -> &'static str {
        match self {
            Self::PrefillTps | Self::DecodeTps | Self::CombinedTps => "tokens/s",
            Self::TtftS => "s",
            Self::BytesPeak => "B",
            Self::WattsMean | Self::WattsMax => "W",
            Self::EnergyJ => "J",
            Self::Score => "points",
        }
    }

    /// Its name in records and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrefillTps => "prefill_tps",
            Self::DecodeTps => "decode_tps",
            Self::CombinedTps => "combined_tps",
            Self::TtftS => "ttft_s",
            Self::BytesPeak => "bytes_peak",
            Self::WattsMean => "watts_mean",
            Self::WattsMax => "watts_max",
            Self::EnergyJ => "energy_j",
            Self::Score => "score",
        }
    }
}

/// Under which conditions. What the source does not tell is absent.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Tokens of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<f64>,
    /// Tokens of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gen_tokens: Option<f64>,
    /// Tokens in the context before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<f64>,
    /// Sequences side by side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<f64>,
    /// Threads of the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<f64>,
    /// Layers on the GPU, as the source counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_layers: Option<f64>,
    /// How often it was repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<f64>,
    /// Seconds that a meter covered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// What else the source says, in its own names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, String>,
}

/// One number that was measured, where it is from, and what it was measured on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// The program that measured, with its version: `llama-bench b6123 (8ce3ff1d)`.
    pub source: String,
    /// The chip, as the source names it.
    pub device: Option<String>,
    /// The engine: `llama.cpp`, `troika`, ...
    pub engine: Option<String>,
    /// `cuda`, `vulkan`, `openvino`, ... in lower case; several with `+`.
    pub backend: Option<String>,
    /// The model, as the source names it.
    pub model: Option<String>,
    /// How its weights are stored: `Q4_K_M`.
    pub quant: Option<String>,
    /// What was measured.
    pub what: What,
    /// The value.
    pub value: f64,
    /// What it is in; follows from `what`, and is written for whoever reads the file.
    pub unit: String,
    /// The lowest of the repeats, or the value less its standard deviation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub low: Option<f64>,
    /// The highest of the repeats, or the value and its standard deviation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub high: Option<f64>,
    /// Under which conditions.
    #[serde(default)]
    pub conditions: Conditions,
    /// When, as the source tells it; RFC 3339 where it can be had.
    pub when: Option<String>,
}

impl Measurement {
    /// A measurement of which nothing but source and value is known yet.
    fn new(source: &str, what: What, value: f64) -> Self {
        Self {
            source: source.to_owned(),
            device: None,
            engine: None,
            backend: None,
            model: None,
            quant: None,
            what,
            value,
            unit: what.unit().to_owned(),
            low: None,
            high: None,
            conditions: Conditions::default(),
            when: None,
        }
    }

    /// A value between its lowest and highest.
    fn between(mut self, low: Option<f64>, high: Option<f64>) -> Self {
        self.low = low.filter(|low| (0.0..=self.value).contains(low));
        self.high = high.filter(|&high| high >= self.value && high.is_finite());
        self
    }
}

/// Whose results a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `llama-bench -o json`, `jsonl` or `csv`.
    LlamaBench,
    /// MLPerf Client's `results.json`.
    MlperfClient,
    /// An exported result of UL Procyon, as XML.
    Procyon,
    /// `troika bench --json` or `--csv`.
    TroikaBench,
    /// A table of times and watts.
    Meter,
}

impl Format {
    /// All, by the name that a flag gives them.
    pub const ALL: [Self; 5] = [
        Self::LlamaBench,
        Self::MlperfClient,
        Self::Procyon,
        Self::TroikaBench,
        Self::Meter,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::LlamaBench => "llama-bench",
            Self::MlperfClient => "mlperf-client",
            Self::Procyon => "procyon",
            Self::TroikaBench => "troika-bench",
            Self::Meter => "meter",
        }
    }
}

/// Something in a file that gave no measurement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Skipped {
    /// `line 12`, `entry 3`.
    pub place: String,
    /// `the power is no number: "n/a"`.
    pub why: String,
}

impl Skipped {
    fn new(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            why: why.into(),
        }
    }
}

/// What a file gave.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Import {
    /// Whose it is.
    pub format: Format,
    /// What was measured.
    pub measurements: Vec<Measurement>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

/// Why a file gives nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Bigger than results are.
    #[error("the file has {bytes} bytes; results have {BYTES_MAX} at most")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Neither UTF-8 nor UTF-16 with its mark.
    #[error("byte {offset} is not text (UTF-8)")]
    NotText {
        /// Where the first wrong byte is.
        offset: usize,
    },
    /// It is nobody's that we know.
    #[error(
        "this is none of the results that can be read: {why}. There are llama-bench (-o json, jsonl or csv), MLPerf Client \
         (results.json), Procyon (XML), troika bench (--json or --csv), and a meter's CSV with a time and a power column"
    )]
    Unknown {
        /// What was seen instead.
        why: String,
    },
    /// It begins well, and then breaks off or is wrong.
    #[error("{place}: {why}")]
    Broken {
        /// `line 3, column 14`.
        place: String,
        /// What is wrong there.
        why: String,
    },
    /// Nothing that was measured is in it.
    #[error("nothing was measured: {}", first(.skipped))]
    Nothing {
        /// Why each entry was left out.
        skipped: Vec<Skipped>,
    },
}

fn first(skipped: &[Skipped]) -> String {
    match skipped {
        [] => "it has no entries".to_owned(),
        [only] => format!("{}: {}", only.place, only.why),
        [one, rest @ ..] => format!("{}: {}; and {} more", one.place, one.why, rest.len()),
    }
}

/// Reads results. Without a format it is told from the contents.
///
/// # Errors
/// If the file is too large, is no text, is of no known format, or has no measurement in it.
pub fn read(bytes: &[u8], format: Option<Format>) -> Result<Import, ImportError> {
    if bytes.len() > BYTES_MAX {
        return Err(ImportError::TooLarge { bytes: bytes.len() });
    }
    let text = text(bytes)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(ImportError::Empty);
    }
    let import = match text.as_bytes()[0] {
        b'{' | b'[' => json::read(text, format)?,
        b'<' => procyon::read(text)?,
        _ => table::read(text, format)?,
    };
    if format.is_some_and(|format| format != import.format) {
        return Err(ImportError::Unknown {
            why: format!("it looks like {}", import.format.name()),
        });
    }
    if import.measurements.is_empty() {
        return Err(ImportError::Nothing {
            skipped: import.skipped,
        });
    }
    Ok(import)
}

/// The text of a file: UTF-8, with or without its mark, or UTF-16 with it, which PowerShell's `>` writes.
fn text(bytes: &[u8]) -> Result<String, ImportError> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units)
            .collect::<Result<String, _>>()
            .map_err(|_| ImportError::NotText { offset: 2 })
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => match str::from_utf8(bytes) {
            Ok(text) => Ok(text.trim_start_matches('\u{feff}').to_owned()),
            Err(error) => Err(ImportError::NotText {
                offset: error.valid_up_to(),
            }),
        },
    }
}
