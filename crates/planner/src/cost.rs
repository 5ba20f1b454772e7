//! The cost model: how long a step takes on a device, what it needs, what it draws.
//!
//! [`forecast`] is the one door. A [`Setup`] says which devices hold which part of the model and through which
//! software; [`Work`] says what they do; the [`Forecast`] has memory, speeds, times and watts, each with the terms that
//! it was added up from, so that every number can be explained.

use serde::{Deserialize, Serialize};
use troika_base::{Bytes, DeviceKind, DeviceProfile, Estimate};

mod constants;
mod decode;
mod memory;
mod power;
mod prefill;
mod software;
#[cfg(test)]
mod tests;

pub use constants::FIT;
pub use power::watts_at_work;
pub use software::{Class, Family, Fit, Software, Spread};

use crate::model::{ModelShape, WeightBytes};
use crate::quantization::Quantization;
use decode::Decode;
use prefill::Prefill;

/// The software between the model and the chip; it decides how much of the chip's rates is reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the products' own")]
pub enum Backend {
    Cuda,
    Rocm,
    Metal,
    Vulkan,
    Sycl,
    OpenVino,
    Qnn,
    VitisAi,
    CoreMl,
    /// The processor's own kernels.
    Cpu,
}

/// How a model is spread over several devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Each device holds some of the layers; they work one after the other.
    Layers,
    /// Each device holds a part of every matrix; they work at once and exchange sums twice a layer.
    Tensors,
}

/// A device and its part of the model.
#[derive(Clone, PartialEq, Debug)]
pub struct Slot<'a> {
    /// What is known of it.
    pub device: &'a DeviceProfile,
    /// Memory that others leave for this; where absent, the device's memory less what its system takes.
    pub memory_free: Option<Bytes>,
}

impl<'a> Slot<'a> {
    /// A device that nothing else is on.
    pub fn all_of(device: &'a DeviceProfile) -> Self {
        Self {
            device,
            memory_free: None,
        }
    }
}

/// Devices, and the software that drives them.
#[derive(Clone, PartialEq, Debug)]
pub struct Setup<'a> {
    /// In the order in which layers are given out: the fastest first. What does not fit spills to the next.
    pub slots: Vec<Slot<'a>>,
    /// How they share the model, where there is more than one.
    pub split: Split,
    /// 10⁹ bytes a second between them.
    pub link_gbs: Option<f64>,
    /// The software; where absent, the best for the first device.
    pub backend: Option<Backend>,
    /// `troika`, `llama.cpp`, `vllm`, `mlx`, ...
    pub engine: String,
}

impl<'a> Setup<'a> {
    /// Devices that Troika's own engine drives; several share the model by layers, with `link_gbs` between them.
    pub fn by_layers(slots: impl IntoIterator<Item = Slot<'a>>, link_gbs: Option<f64>) -> Self {
        Self {
            slots: slots.into_iter().collect(),
            split: Split::Layers,
            link_gbs,
            backend: None,
            engine: "troika".to_owned(),
        }
    }
}

/// What the model has to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Work {
    /// Tokens of a prompt that are read anew.
    pub prompt_tokens: u32,
    /// Tokens of an answer.
    pub gen_tokens: u32,
    /// Tokens that are in the cache before the prompt.
    pub depth: u32,
    /// Sequences side by side.
    pub batch: u32,
    /// Bits of a value in the KV cache.
    pub kv_bits: f64,
    /// Tokens of context for which memory is kept, per sequence; at least depth + prompt + answer.
    pub context: u32,
    /// Tokens accepted per step where a draft is verified; 1 without speculation.
    pub tokens_per_step: f64,
}

impl Work {
    /// A prompt behind `depth` tokens and one token of its answer, without others beside it and with memory for no more.
    pub fn alone(prompt_tokens: u32, depth: u32) -> Self {
        Self {
            prompt_tokens,
            gen_tokens: 1,
            depth,
            batch: 1,
            kv_bits: 16.0,
            context: depth + prompt_tokens + 1,
            tokens_per_step: 1.0,
        }
    }
}

/// One number of a calculation, with how it came about.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Term {
    /// `weights read per token`.
    pub name: String,
    /// `5.12 GB attention + feed-forward + output`.
    pub formula: String,
    /// Its value, in `unit`.
    pub value: f64,
    /// `GB`, `ms`, `GB/s`, ...
    pub unit: &'static str,
    /// `NVIDIA data sheet 2022-10-12`, `fit of 2026-11-21 (ada)`, `measured here`.
    pub source: String,
}

/// Memory by what it is for.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct MemoryNeed {
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes of keys, values and states.
    pub cache: u64,
    /// Bytes of activations and buffers.
    pub scratch: u64,
    /// Bytes that the runtime itself takes.
    pub runtime: u64,
}

impl MemoryNeed {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.scratch + self.runtime
    }

    /// What each device of a setup takes without the cache: weights by the layers that it holds, and buffers and a runtime
    /// of its own.
    pub fn without_cache(&self, layers: &[u32]) -> Vec<Bytes> {
        let all = f64::from(layers.iter().sum::<u32>().max(1));
        let used = layers.iter().filter(|&&held| held > 0).count().max(1) as u64;
        let own = (self.scratch + self.runtime) / used;
        let of_layers = |&held: &u32| match held {
            0 => Bytes(0),
            _ => Bytes((self.weights as f64 * f64::from(held) / all) as u64 + own),
        };
        layers.iter().map(of_layers).collect()
    }
}

/// What a setup is expected to do.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Forecast {
    /// Memory over all slots.
    pub memory: MemoryNeed,
    /// Layers in each slot, in the setup's order.
    pub layers: Vec<u32>,
    /// Prompt tokens a second, of all sequences together; absent where no rate is known.
    pub prefill_tps: Option<Estimate>,
    /// Answer tokens a second of one sequence.
    pub decode_tps: Estimate,
    /// Answer tokens a second of all sequences together.
    pub decode_tps_all: Estimate,
    /// Seconds from the request to its first token, on an idle setup.
    pub ttft_s: Option<Estimate>,
    /// Watts of the devices while reading; absent where no power is known.
    pub watts_prefill: Option<Estimate>,
    /// Watts of the devices while writing.
    pub watts_decode: Option<Estimate>,
    /// Watts of the devices at rest.
    pub watts_idle: Option<Estimate>,
    /// Joules per answer token, reading left out.
    pub joules_per_token: Option<Estimate>,
    /// How it was added up.
    pub terms: Vec<Term>,
    /// What a reader should know: `sparse rate left out`, `weights spill to the processor`.
    pub notes: Vec<String>,
}

/// Why there is no forecast.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Too big.
    #[error("needs {:.1} GB, has {:.1} GB", *.needs as f64 / 1e9, *.has as f64 / 1e9)]
    DoesNotFit {
        /// Bytes.
        needs: u64,
        /// Bytes.
        has: u64,
    },
    /// A fact is missing, and is not guessed.
    #[error("{what} of {device} is not known; {remedy}")]
    Unknown {
        /// `memory bandwidth`.
        what: &'static str,
        /// Its name.
        device: String,
        /// What the user can do.
        remedy: &'static str,
    },
    /// The software or the chip does not do this.
    #[error("{0}")]
    Unsupported(String),
}

/// How a device's real speeds stand to the model's, from a measurement on it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Calibration {
    /// Measured over predicted speed of decode.
    pub decode: Option<f64>,
    /// Measured over predicted speed of prefill.
    pub prefill: Option<f64>,
}

/// The memory that a model takes on a setup's first device, whether there is as much or not.
///
/// # Errors
/// If the setup has no device.
pub fn memory_need(
    setup: &Setup<'_>,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
) -> Result<MemoryNeed, Refusal> {
    let slot = setup.slots.first();
    let slot = slot.ok_or_else(|| Refusal::Unsupported("no device was given".into()))?;
    let weights = model.weights(quantization);
    Ok(memory::need(setup, slot.device, model, &weights, work))
}

/// What a mixture of experts takes that stays in its file, but for the experts that are used just now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Streamed {
    /// Memory, at least: with that of one layer's experts that a step goes to.
    pub memory: MemoryNeed,
    /// Bytes of experts that a step reads from the file, at most: more memory keeps some of them. No answer is faster than
    /// the disk reads these.
    pub read_per_step: u64,
}

/// What a model takes whose experts do not fit, as the engine runs one on a processor alone; `None` elsewhere, and for models
/// without experts.
pub fn streamed(
    setup: &Setup<'_>,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
) -> Option<Streamed> {
    let [slot] = &setup.slots[..] else {
        return None;
    };
    let layers = f64::from(model.expert_layers());
    if setup.engine != "troika" || slot.device.kind != DeviceKind::Cpu || layers == 0.0 {
        return None;
    }
    let weights = model.weights(quantization);
    let read = weights.experts * model.expert_share(work.batch);
    let resident = WeightBytes {
        experts: read / layers,
        ..weights
    };
    Some(Streamed {
        memory: memory::need(setup, slot.device, model, &resident, work),
        read_per_step: read as u64,
    })
}

/// What a setup is expected to do with a model.
///
/// # Errors
/// If the model does not fit, or a fact is missing that nothing can stand in for.
pub fn forecast(
    setup: &Setup<'_>,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
    calibration: Option<&Calibration>,
) -> Result<Forecast, Refusal> {
    forecast_with(&FIT, setup, model, quantization, work, calibration)
}

/// The same numbers as [`forecast`], without the terms that explain them: for those who compare hundreds and show one.
///
/// # Errors
/// As [`forecast`].
pub fn outlook(
    setup: &Setup<'_>,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
    calibration: Option<&Calibration>,
) -> Result<Forecast, Refusal> {
    reckon(&FIT, setup, model, quantization, work, (calibration, false))
}

/// Seconds of one step of all sequences, and nothing else: for those who ask thousands of times.
///
/// `layers` are those of each slot, as a [`Forecast`] gives them out.
///
/// # Errors
/// If the bandwidth of a device is not known.
pub fn step_seconds(
    fit: &Fit,
    setup: &Setup<'_>,
    model: &ModelShape,
    weights: &WeightBytes,
    work: &Work,
    layers: &[u32],
) -> Result<f64, Refusal> {
    Ok(Decode::new(fit, setup, model, weights, work, layers)?.step_seconds())
}

/// Seconds to read the prompts of all sequences, and nothing else; `None` where no rate is known.
pub fn prefill_seconds(
    fit: &Fit,
    setup: &Setup<'_>,
    model: &ModelShape,
    quantization: &Quantization,
    weights: &WeightBytes,
    work: &Work,
    layers: &[u32],
) -> Option<f64> {
    let prefill = Prefill::new(fit, setup, model, quantization, weights, work, layers).ok()?;
    Some(prefill.seconds())
}

/// The same as [`forecast`] with other constants: for fitting them.
///
/// # Errors
/// As [`forecast`].
pub fn forecast_with(
    fit: &Fit,
    setup: &Setup<'_>,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
    calibration: Option<&Calibration>,
) -> Result<Forecast, Refusal> {
    reckon(fit, setup, model, quantization, work, (calibration, true))
}

/// The numbers, and their terms if it is to be explained.
fn reckon(
    fit: &Fit,
    setup: &Setup<'_>,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
    (calibration, explains): (Option<&Calibration>, bool),
) -> Result<Forecast, Refusal> {
    let weights = model.weights(quantization);
    let layout = memory::lay_out(setup, model, &weights, work)?;
    let mut terms = Vec::new();
    let mut notes = layout.notes;

    let decode = Decode::new(fit, setup, model, &weights, work, &layout.layers)?;
    let step_s = decode.step_seconds();
    if explains {
        terms.extend(memory::terms(&layout.need, model, quantization, work));
        terms.extend(decode.terms());
    }
    let factor = calibration.and_then(|calibration| calibration.decode);
    let spread = decode.spread().calibrated(factor);
    let tps = work.tokens_per_step / step_s * factor.unwrap_or(1.0);
    let decode_tps = spread.around(tps);

    let prefill = Prefill::new(
        fit,
        setup,
        model,
        quantization,
        &weights,
        work,
        &layout.layers,
    );
    let prefill_tps = match &prefill {
        Ok(prefill) if work.prompt_tokens > 0 => {
            if explains {
                terms.extend(prefill.terms());
            }
            let factor = calibration.and_then(|calibration| calibration.prefill);
            let tps = f64::from(work.prompt_tokens) * f64::from(work.batch) / prefill.seconds();
            Some(
                prefill
                    .spread()
                    .calibrated(factor)
                    .around(tps * factor.unwrap_or(1.0)),
            )
        }
        Ok(_) => None,
        Err(why) => {
            notes.push(format!("no estimate of reading: {why}"));
            None
        }
    };
    let one_step = decode_tps.map_inverse(|tps| 1.0 / tps);
    let prompt = f64::from(work.prompt_tokens);
    let batch = f64::from(work.batch);
    let ttft_s = prefill_tps.map(|tps| tps.map_inverse(|tps| prompt * batch / tps).plus(one_step));
    let watts = power::watts(setup, &layout.layers);
    if explains {
        terms.extend(power::terms(setup, &layout.layers));
    }
    let joules_per_token = watts.decode.map(|watts| Estimate {
        value: watts.value / (decode_tps.value * batch),
        low: watts.low / (decode_tps.high * batch),
        high: watts.high / (decode_tps.low * batch),
    });
    Ok(Forecast {
        memory: layout.need,
        layers: layout.layers,
        prefill_tps,
        decode_tps,
        decode_tps_all: decode_tps.map(|tps| tps * batch),
        ttft_s,
        watts_prefill: watts.prefill,
        watts_decode: watts.decode,
        watts_idle: watts.idle,
        joules_per_token,
        terms,
        notes,
    })
}
