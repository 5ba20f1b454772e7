//! What was measured, here or elsewhere, set against the cost model: by chip, so that every candidate with that chip gains by it.
//!
//! [`Measured`] takes measurements whose model somebody recognised. Asked for a device, it forecasts each of its runs
//! under the conditions that are told, and [`crate::import::calibrate`] compares. Speeds are compared with those that the model
//! predicts of the *same* software, so that a run of one engine says something of another on the same chip.

use std::collections::HashMap;

use serde::Serialize;
use troika_base::{DType, DeviceKind, DeviceProfile};

use super::risk::backend_of;
use crate::catalogue::{self, Block, Catalogue, Chip, shape, split_quantization, strict};
use crate::cost::{self, Calibration, Setup, Slot, Term, Work};
use crate::import::{self, Measurement, What};
use crate::model::ModelShape;
use crate::quantization::Quantization;

/// Runs of smaller models tell of launches and of caches, not of the memory and the units that a plan is about.
const PARAMS_MIN: u64 = 100_000_000;

/// How a device's speeds stand to the cost model's, and who says so.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Calibrated {
    /// Measured over predicted speed.
    pub factors: Calibration,
    /// `your run of llama-bench b6123, 2026-11-20: llama 8B Q4_K_M`.
    pub source: String,
}

impl Calibrated {
    /// The factors, as numbers of an explanation.
    pub(super) fn terms(&self, device: &str) -> Vec<Term> {
        let phases = [
            ("writing", self.factors.decode),
            ("reading", self.factors.prefill),
        ];
        let known = phases
            .into_iter()
            .filter_map(|(phase, factor)| Some((phase, factor?)));
        known
            .map(|(phase, factor)| Term {
                name: format!("calibration of {phase} on {device}"),
                formula: "measured / predicted speed, the median of the runs".to_owned(),
                value: factor,
                unit: "×",
                source: self.source.clone(),
            })
            .collect()
    }

    /// `calibrated by your run of ...: writing × 0.93, reading × 1.02`.
    pub(super) fn note(&self) -> String {
        let phases = [
            ("writing", self.factors.decode),
            ("reading", self.factors.prefill),
        ];
        let phases = phases
            .into_iter()
            .filter_map(|(phase, factor)| Some(format!("{phase} × {:.2}", factor?)));
        let phases: Vec<_> = phases.collect();
        format!("calibrated by {}: {}", self.source, phases.join(", "))
    }
}

/// A measured speed whose model is known.
#[derive(Clone, Debug)]
struct Run {
    measurement: Measurement,
    block: Block,
    shape: ModelShape,
    quantization: Quantization,
}

/// Measured speeds.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// By the chip's name in the catalogue, else by the device's own.
    runs: HashMap<String, Vec<Run>>,
    unknown_models: Vec<String>,
}

impl Measured {
    /// Those measurements that are speeds of a model which `model` recognises.
    pub fn new(
        measurements: Vec<Measurement>,
        catalogue: &Catalogue,
        model: impl Fn(&Measurement) -> Option<(ModelShape, Quantization)>,
    ) -> Self {
        let mut all = Self::default();
        for measurement in measurements {
            let is_speed = matches!(
                measurement.what,
                What::DecodeTps | What::PrefillTps | What::TtftS
            );
            let Some(device) = measurement.device.as_ref().filter(|_| is_speed) else {
                continue;
            };
            match model(&measurement) {
                Some((shape, quantization)) if shape.params >= PARAMS_MIN => {
                    let runs = all.runs.entry(key(device, catalogue)).or_default();
                    runs.push(Run {
                        block: block(&measurement),
                        measurement,
                        shape,
                        quantization,
                    });
                }
                Some(_) => {}
                None => {
                    let name = measurement.model.unwrap_or_else(|| "(no name)".to_owned());
                    if !all.unknown_models.contains(&name) {
                        all.unknown_models.push(name);
                    }
                }
            }
        }
        all
    }

    /// Whether nothing was measured that a plan can use.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Models of measured speeds that nobody recognised.
    pub fn unknown_models(&self) -> &[String] {
        &self.unknown_models
    }

    /// What was measured of a device: of its very name, or of a name by which the catalogue finds its chip.
    pub fn of(&self, device: &DeviceProfile, catalogue: &Catalogue) -> Option<Calibrated> {
        if self.is_empty() {
            return None;
        }
        let chip = catalogue.chip(chip_of(&device.name));
        let chip = chip.ok().map(|found| found.row);
        let runs = self.runs.get(&key(&device.name, catalogue))?;
        let runs: Vec<&Run> = runs
            .iter()
            .filter(|run| run.is_of(device.kind, chip))
            .collect();
        calibrated(device, &runs)
    }
}

impl Run {
    /// Whether the block that it was measured on is a device of this kind.
    fn is_of(&self, kind: DeviceKind, chip: Option<&Chip>) -> bool {
        match kind {
            DeviceKind::Cpu => {
                // A processor without anything else is what was measured, whatever the software calls itself.
                let alone = chip.is_some_and(|chip| catalogue::blocks(chip) == [Block::Cpu]);
                self.block == Block::Cpu || alone
            }
            DeviceKind::Npu => self.block == Block::Npu,
            DeviceKind::Gpu => self.block == Block::Gpu,
            DeviceKind::Accelerator => self.block != Block::Cpu,
        }
    }

    /// What the cost model says to it; `None` if only a part of the model was on the device, or it has no say.
    fn predicted(&self, device: &DeviceProfile) -> Option<f64> {
        let told = &self.measurement.conditions;
        let layers_on_gpu = told
            .gpu_layers
            .filter(|_| device.kind != DeviceKind::Cpu && self.block != Block::Npu);
        if layers_on_gpu.is_some_and(|n| n >= 0.0 && n < f64::from(self.shape.n_layer)) {
            return None;
        }
        let count = |value: Option<f64>| value.map_or(0, |value| value as u32);
        let (prompt, answer, depth) = (
            count(told.prompt_tokens),
            count(told.gen_tokens),
            count(told.depth),
        );
        let reads = self.measurement.what != What::DecodeTps;
        let work = Work {
            prompt_tokens: if reads { prompt.max(1) } else { 0 },
            gen_tokens: if reads { 1 } else { answer.max(1) },
            // Where nothing is said of it, what was written stands behind the prompt.
            depth: match reads {
                true => depth,
                false => told.depth.map_or(prompt, |_| depth),
            },
            batch: count(told.batch).max(1),
            kv_bits: kv_bits(&self.measurement),
            context: depth.saturating_add(prompt).saturating_add(answer),
            tokens_per_step: 1.0,
        };
        let setup = Setup {
            backend: backend(&self.measurement),
            engine: self.engine().to_owned(),
            ..Setup::by_layers([Slot::all_of(device)], None)
        };
        let forecast = cost::forecast(&setup, &self.shape, &self.quantization, &work, None).ok()?;
        Some(match self.measurement.what {
            What::DecodeTps => forecast.decode_tps_all.value,
            What::PrefillTps => forecast.prefill_tps?.value,
            _ => forecast.ttft_s?.value,
        })
    }

    fn engine(&self) -> &str {
        self.measurement.engine.as_deref().unwrap_or("llama.cpp")
    }

    /// `llama-bench b6123, 2026-11-20: llama 8B Q4_K_M`.
    fn name(&self) -> String {
        let Measurement {
            source,
            when,
            model,
            quant,
            ..
        } = &self.measurement;
        let day = when.as_deref().and_then(|when| when.get(..10));
        format!(
            "{source}{}: {} {}",
            day.map_or_else(String::new, |day| format!(", {day}")),
            model.as_deref().unwrap_or(&self.shape.name),
            quant.as_deref().unwrap_or(&self.quantization.name)
        )
    }
}

/// The factors of a device by its runs: by Troika's own, where there are some, since those are made to be compared.
fn calibrated(device: &DeviceProfile, runs: &[&Run]) -> Option<Calibrated> {
    let (own, others): (Vec<&Run>, Vec<&Run>) =
        runs.iter().partition(|run| run.engine() == "troika");
    [own, others].into_iter().find_map(|runs| {
        let measurements: Vec<_> = runs.iter().map(|run| run.measurement.clone()).collect();
        let mut at = 0;
        let factors = import::calibrate(&measurements, |_| {
            at += 1;
            runs[at - 1].predicted(device)
        })?;
        let last = runs.iter().max_by_key(|run| &run.measurement.when)?;
        let more = match runs.len() {
            1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        Some(Calibrated {
            factors,
            source: format!("your run of {}{more}", last.name()),
        })
    })
}

/// The model of a measurement, by the names and the number of parameters that its source tells.
///
/// Of several rows with one name any will do if they have one shape: what differs is what the model knows, not how fast it is.
pub fn recognise(
    measurement: &Measurement,
    catalogue: &Catalogue,
) -> Option<(ModelShape, Quantization)> {
    let quantization = Quantization::parse(measurement.quant.as_deref()?).ok()?;
    let more = &measurement.conditions.more;
    let params = ["model_n_params", "parameters"]
        .into_iter()
        .find_map(|name| more.get(name)?.parse::<f64>().ok());
    let agrees = |shape: &ModelShape| {
        params.is_none_or(|params| (shape.params as f64 / params - 1.0).abs() < PARAMS_APART)
    };
    let file = more.get("model_file").map(|file| {
        let name = file.strip_suffix(".gguf").unwrap_or(file);
        split_quantization(name).0
    });
    let names = file.into_iter().chain(measurement.model.as_deref());
    let by_name = names.filter_map(|name| by_name(name, catalogue));
    let shape = by_name.into_iter().find(agrees).or_else(|| {
        // `llama 8B`: an architecture, and as many parameters as no other of it has.
        let architecture = measurement.model.as_deref()?.split_whitespace().next()?;
        params?;
        let alike = catalogue
            .models()
            .iter()
            .filter(|model| model.architecture == architecture)
            .map(shape)
            .filter(agrees);
        one_of(alike.collect())
    })?;
    Some((shape, quantization))
}

/// Parameters of two counts of one model differ by less: some count the table of tokens twice, or leave norms out.
const PARAMS_APART: f64 = 0.02;

fn by_name(name: &str, catalogue: &Catalogue) -> Option<ModelShape> {
    match catalogue.model(name) {
        Ok(found) => Some(shape(found.row)),
        Err(unknown) if unknown.is_ambiguous => {
            let rows = unknown.closest.iter();
            let found = rows.filter_map(|name| Some(shape(catalogue.model(name).ok()?.row)));
            one_of(found.collect())
        }
        Err(_) => None,
    }
}

/// The first of some shapes, if all of them are as fast.
fn one_of(shapes: Vec<ModelShape>) -> Option<ModelShape> {
    let sizes = |shape: &ModelShape| {
        let ModelShape {
            n_layer,
            n_embd,
            n_head_kv,
            head_dim,
            n_ff,
            n_vocab,
            ..
        } = *shape;
        [n_layer, n_embd, n_head_kv, head_dim, n_ff, n_vocab]
    };
    let first = shapes.first()?;
    let alike = shapes.iter().all(|shape| sizes(shape) == sizes(first));
    alike.then(|| first.clone())
}

/// What measurements of a device are found by.
fn key(device: &str, catalogue: &Catalogue) -> String {
    let name = chip_of(device);
    strict(catalogue.chip(name).map_or(name, |found| &found.row.name))
}

/// The chip's name in a device's, which may name the block too.
pub(super) fn chip_of(name: &str) -> &str {
    [" NPU", " GPU", " CPU"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// What of the chip computed, by the software that was used.
fn block(measurement: &Measurement) -> Block {
    let device = measurement.device.as_deref().unwrap_or_default();
    let software = measurement.backend.as_deref().unwrap_or_default();
    match software {
        _ if device.ends_with(" NPU") => Block::Npu,
        "cpu" | "blas" | "cpu+blas" => Block::Cpu,
        "qnn" | "vitisai" => Block::Npu,
        _ => Block::Gpu,
    }
}

fn backend(measurement: &Measurement) -> Option<cost::Backend> {
    measurement
        .backend
        .as_deref()?
        .split('+')
        .find_map(backend_of)
}

/// Bits of a value in the cache; 16 where the source does not tell.
fn kv_bits(measurement: &Measurement) -> f64 {
    let format = measurement.conditions.more.get("type_k");
    let format = format.and_then(|name| DType::from_name(name));
    format.map_or(16.0, DType::bits_per_weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Conditions;
    use crate::plan::testing::catalogue;

    fn run(device: &str, backend: &str, what: What, value: f64) -> Measurement {
        Measurement {
            source: "llama-bench b6123".to_owned(),
            device: Some(device.to_owned()),
            engine: Some("llama.cpp".to_owned()),
            backend: Some(backend.to_owned()),
            model: Some("llama-3.1-8b".to_owned()),
            quant: Some("Q4_K_M".to_owned()),
            what,
            value,
            unit: what.unit().to_owned(),
            low: None,
            high: None,
            conditions: Conditions {
                prompt_tokens: Some(if what == What::DecodeTps { 0.0 } else { 512.0 }),
                gen_tokens: Some(128.0),
                depth: Some(0.0),
                ..Conditions::default()
            },
            when: Some("2026-11-20T10:00:00Z".to_owned()),
        }
    }

    fn measured(measurements: Vec<Measurement>) -> Measured {
        let catalogue = catalogue();
        Measured::new(measurements, &catalogue, |measurement| {
            recognise(measurement, &catalogue)
        })
    }

    fn card(name: &str) -> DeviceProfile {
        let catalogue = catalogue();
        let chip = catalogue.chip(name).expect("is there").row;
        catalogue::profile(chip, Block::Gpu, None)
    }

    #[test]
    fn a_chip_is_calibrated_by_its_name_and_by_no_other() {
        let decode = run("NVIDIA Test Card 24", "cuda", What::DecodeTps, 80.0);
        let plain = measured(vec![decode.clone()])
            .of(&card("Test Card 24"), &catalogue())
            .expect("was measured");
        let factor = plain.factors.decode.expect("of writing");
        assert!((0.3..3.0).contains(&factor), "{factor}");
        assert_eq!(plain.factors.prefill, None);
        assert_eq!(
            plain.source,
            "your run of llama-bench b6123, 2026-11-20: llama-3.1-8b Q4_K_M"
        );
        let doubled = measured(vec![Measurement {
            value: 160.0,
            ..decode
        }]);
        let doubled_factor = doubled
            .of(&card("Test Card 24"), &catalogue())
            .and_then(|calibrated| calibrated.factors.decode);
        assert_eq!(doubled_factor, Some(2.0 * factor));
        assert_eq!(doubled.of(&card("Test Card 12"), &catalogue()), None);
    }

    #[test]
    fn what_tells_nothing_is_passed_over() {
        let decode = || run("Test Card 24", "cuda", What::DecodeTps, 80.0);
        let mut partly = decode();
        partly.conditions.gpu_layers = Some(20.0);
        let mut nameless = decode();
        nameless.device = None;
        let on_processor = run("Test Card 24", "cpu", What::DecodeTps, 80.0);
        let score = run("Test Card 24", "cuda", What::Score, 80.0);
        for measurement in [partly, nameless, on_processor, score] {
            let all = measured(vec![measurement.clone()]);
            let found = all.of(&card("Test Card 24"), &catalogue());
            assert_eq!(found, None, "{measurement:?}");
        }
        let mut stranger = decode();
        stranger.model = Some("no such model".to_owned());
        assert_eq!(measured(vec![stranger]).unknown_models(), ["no such model"]);
    }

    #[test]
    fn models_are_recognised_by_name_file_and_number_of_parameters() {
        let catalogue = catalogue();
        let of = |model: &str, more: &[(&str, &str)]| {
            let mut measurement = run("x", "cuda", What::DecodeTps, 1.0);
            measurement.model = Some(model.to_owned());
            let more = more
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            measurement.conditions.more = more.collect();
            Some(recognise(&measurement, &catalogue)?.0.name)
        };
        let eight = Some("llama-3.1-8b".to_owned());
        assert_eq!(of("llama-3.1-8b", &[]), eight);
        assert_eq!(
            of("?", &[("model_file", "Llama-3.1-8B-Q4_K_M.gguf")]),
            eight
        );
        assert_eq!(of("llama 8B", &[("model_n_params", "8030261248")]), eight);
        assert_eq!(of("llama 8B", &[]), None);
        assert_eq!(
            of("llama-3.1-8b", &[("model_n_params", "3000000000")]),
            None,
            "a name that the number contradicts"
        );
    }
}
