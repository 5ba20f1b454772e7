//! What was measured: a value, how much it varied, and under which circumstances.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use troika_base::Unit;

/// From this spread on a measurement is called noisy.
const NOISY_SPREAD: f64 = 0.15;

/// What a measurement is of; the name tells the unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// 10⁶ cycles a second of a core.
    ClockMhz,
    /// 10⁹ bytes a second read from memory.
    ReadGbs,
    /// 10⁹ bytes a second read from a cache.
    CacheGbs,
    /// 10⁹ bytes a second of a copy within a device's memory, read and written together.
    CopyGbs,
    /// 10⁹ bytes a second where 64 bytes are read here and there.
    GatherGbs,
    /// 10⁹ bytes a second from the machine's memory to a device's.
    UploadGbs,
    /// 10⁹ bytes a second from a device's memory to the machine's.
    DownloadGbs,
    /// 10¹² operations a second in the kernels' inner loops, on operands in the cache; a multiply-add counts as two.
    MatrixTops,
    /// Microseconds that an empty step takes right after another.
    LaunchUs,
    /// Microseconds from one dispatch on a device to the next, which waits for it.
    DispatchUs,
    /// Microseconds that the processor needs to record a dispatch and hand it over.
    RecordUs,
    /// Microseconds that an empty step takes after a rest.
    WakeUs,
    /// Watts at rest.
    IdleW,
    /// Watts at work.
    BusyW,
    /// Tokens a second of a prompt that is read.
    PrefillTps,
    /// Tokens a second of answers that are written.
    DecodeTps,
}

impl Quantity {
    /// The sample that counts: the best where that is what the hardware does and the others are what kept it from that, else
    /// the median.
    fn headline(self, min: f64, median: f64, max: f64) -> f64 {
        match self {
            Self::ClockMhz | Self::ReadGbs | Self::CacheGbs | Self::MatrixTops => max,
            Self::CopyGbs | Self::GatherGbs | Self::UploadGbs | Self::DownloadGbs => max,
            Self::LaunchUs | Self::DispatchUs | Self::RecordUs => min,
            Self::WakeUs | Self::IdleW | Self::BusyW | Self::PrefillTps | Self::DecodeTps => median,
        }
    }
}

/// What can be computed beside what was measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Theory {
    /// In the measurement's unit.
    pub value: f64,
    /// What it is computed from: `64 multiply-adds × 2 a cycle × 4.10 GHz × 2 threads`.
    pub formula: String,
}

/// The run of a model that a measurement is of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModelRun {
    /// As its file names it.
    pub name: String,
    /// Where that file was, if it is one: from it, whoever compares has the shape of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The format that most of its bytes are in.
    pub quantization: String,
    /// All of them.
    pub parameters: u64,
    /// Of the file.
    pub bytes: u64,
    /// Tokens of the prompt that was read; 0 where an answer was written.
    pub n_prompt: u32,
    /// Tokens of the answer that was written; 0 where a prompt was read.
    pub n_gen: u32,
    /// Tokens that were in the context before.
    pub depth: u32,
    /// Sequences side by side; tokens per second are of all of them together.
    pub batch: u32,
}

/// One measurement.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// The processor's id, or what the meter covers where that is no processor: `cpu0`, `system`.
    pub device: String,
    /// Of what, in what unit.
    pub quantity: Quantity,
    /// More about what: a format (`Q8_0`), a cache (`L2`), a kind of work (`matrix`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What computed, where something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// The model, where one ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRun>,
    /// Threads that worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Streams that each thread read at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// Bytes that were read over and over, or through once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_set_bytes: Option<u64>,
    /// The result: the best sample where others only show what was in the way, else the median.
    pub value: f64,
    /// Half of the samples are above.
    pub median: f64,
    /// The smallest sample.
    pub min: f64,
    /// The largest sample.
    pub max: f64,
    /// Samples taken.
    pub samples: u32,
    /// How far apart the middle 80 % of the samples are, as part of the median.
    pub spread: f64,
    /// Whether that is more than 15 %: something else was running, or the machine is a guest among others.
    pub noisy: bool,
    /// What it would be by data sheet arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theory: Option<Theory>,
    /// When, as RFC 3339.
    pub at: String,
    /// What measured: `troika 0.1.0`.
    pub program: String,
    /// The kernels that ran: `avx512vnni`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isa: Option<String>,
}

impl Measurement {
    /// Of some samples, taken just now. `None` if there are none, or one is no number.
    pub fn of_samples(device: &str, quantity: Quantity, mut samples: Vec<f64>) -> Option<Self> {
        if samples.is_empty() || samples.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        samples.sort_by(f64::total_cmp);
        let (min, max) = (samples[0], samples[samples.len() - 1]);
        let median = quantile(&samples, 0.5);
        let spread = (quantile(&samples, 0.9) - quantile(&samples, 0.1)) / median.abs();
        // Of nothing but zeros.
        let spread = if spread.is_nan() { 0.0 } else { spread };
        Some(Self {
            device: device.to_owned(),
            quantity,
            of: None,
            unit: None,
            model: None,
            threads: None,
            streams: None,
            working_set_bytes: None,
            value: quantity.headline(min, median, max),
            median,
            min,
            max,
            samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
            spread,
            noisy: spread > NOISY_SPREAD,
            theory: None,
            at: now(),
            program: concat!("troika ", env!("CARGO_PKG_VERSION")).to_owned(),
            isa: None,
        })
    }

    /// The value to reckon with. The best of a noisy series is luck that the next minute need not have.
    pub fn dependable(&self) -> f64 {
        if self.noisy { self.median } else { self.value }
    }

    /// Whether this one takes the place of another: measured of the same under the same circumstances.
    pub fn replaces(&self, other: &Self) -> bool {
        let key = |of: &Self| {
            (
                of.device.clone(),
                of.quantity,
                of.of.clone(),
                // The same model in another place is the same.
                of.model.clone().map(|run| ModelRun { path: None, ..run }),
                of.threads,
                of.isa.clone(),
            )
        };
        key(self) == key(other)
    }
}

/// This second, as RFC 3339.
fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

/// The value below which this part of the sorted samples lies, between two of them where need be.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (low, high) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_up() {
        let of = |quantity, samples: &[f64]| {
            Measurement::of_samples("cpu0", quantity, samples.to_vec()).expect("numbers")
        };
        let rates = of(Quantity::ReadGbs, &[30.0, 10.0, 20.0]);
        assert_eq!(
            (rates.value, rates.median, rates.min, rates.max),
            (30.0, 20.0, 10.0, 30.0)
        );
        assert!(rates.noisy && (rates.spread - 0.8).abs() < 1e-9);
        assert_eq!(rates.dependable(), 20.0);
        let times = of(Quantity::WakeUs, &[4.0, 1.0]);
        assert_eq!((times.value, times.samples), (2.5, 2));
        assert_eq!(of(Quantity::LaunchUs, &[4.0, 1.0]).value, 1.0);
        let calm = of(Quantity::DecodeTps, &[100.0, 101.0, 102.0]);
        assert!(!calm.noisy && calm.dependable() == calm.value);
        // One sample out of many that something got in the way of does not make a noisy machine.
        let mut steady = vec![50.0; 40];
        steady[7] = 5.0;
        assert!(!of(Quantity::ReadGbs, &steady).noisy);
        assert_eq!(of(Quantity::IdleW, &[0.0, 0.0]).spread, 0.0);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        for samples in [vec![], vec![1.0, f64::NAN], vec![f64::INFINITY]] {
            assert_eq!(
                Measurement::of_samples("cpu0", Quantity::ReadGbs, samples),
                None
            );
        }
    }

    #[test]
    fn the_form_is_stable_and_comes_back() {
        let mut measured =
            Measurement::of_samples("cpu0", Quantity::MatrixTops, vec![0.5]).expect("a number");
        measured.of = Some("Q8_0".to_owned());
        measured.unit = Some(Unit::Vector);
        measured.threads = Some(2);
        let json = serde_json::to_value(&measured).expect("writes");
        assert_eq!(json["quantity"], "matrix_tops");
        assert_eq!(json["unit"], "vector");
        assert!(json.get("model").is_none());
        assert!(measured.at.parse::<jiff::Timestamp>().is_ok() && measured.at.len() == 20);
        let back: Measurement = serde_json::from_value(json).expect("reads");
        assert_eq!(back, measured);
        assert!(back.replaces(&measured));
        measured.threads = Some(1);
        assert!(!back.replaces(&measured));
    }
}
