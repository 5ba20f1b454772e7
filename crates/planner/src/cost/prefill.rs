//! Reading a prompt: multiplications, in passes of up to 512 tokens.

use super::software::{Fit, Software, Spread};
use super::{Setup, Split, Term, Work};
use crate::model::{ModelShape, WeightBytes};
use crate::quantization::{Numbers, Quantization};
use troika_base::{DeviceKind, DeviceProfile};

/// Tokens that engines read in one pass.
const PASS_TOKENS: f64 = 512.0;

/// Tokens at which a matrix unit does half of what it does on many: tiles are this high.
const HALF_RATE_TOKENS: f64 = 24.0;

/// Microseconds that a layer takes in a pass beside multiplying, as a factor on decode's.
const LAYER_FACTOR: f64 = 1.6;

/// The cost of reading a prompt, per device.
pub(super) struct Prefill<'a> {
    parts: Vec<Part<'a>>,
    split: Split,
}

struct Part<'a> {
    device: &'a DeviceProfile,
    software: Software,
    rate: f64,
    format: &'static str,
    multiply_s: f64,
    attention_s: f64,
    read_s: f64,
    layers_s: f64,
}

/// Why reading cannot be estimated.
#[derive(Debug, thiserror::Error)]
#[error("no matrix or vector rate of {device} is known")]
pub(super) struct NoRate {
    device: String,
}

impl<'a> Prefill<'a> {
    pub(super) fn new(
        fit: &Fit,
        setup: &Setup<'a>,
        model: &ModelShape,
        quantization: &Quantization,
        weights: &WeightBytes,
        work: &Work,
        layers: &[u32],
    ) -> Result<Self, NoRate> {
        let tokens = f64::from(work.prompt_tokens) * f64::from(work.batch);
        let passes = (tokens / PASS_TOKENS).ceil().max(1.0);
        let mut parts = Vec::with_capacity(setup.slots.len());
        for (index, slot) in setup.slots.iter().enumerate() {
            let share = f64::from(layers.get(index).copied().unwrap_or(0))
                / f64::from(model.n_layer.max(1));
            if share == 0.0 {
                continue;
            }
            let software = Software::of(fit, setup, slot.device);
            let no_rate = || NoRate {
                device: slot.device.name.clone(),
            };
            let (rate, format) = software
                .prefill_rate(slot.device, quantization.numbers)
                .ok_or_else(no_rate)?;
            // Attention multiplies 16-bit numbers whatever the weights are.
            let attention_rate = software
                .prefill_rate(slot.device, Numbers::Half)
                .map_or(rate, |(rate, _)| rate);
            let per_pass = tokens / passes;
            let filled = per_pass / (per_pass + HALF_RATE_TOKENS);
            let rate = rate
                * filled
                * if model.experts.is_some() {
                    fit.expert_prefill
                } else {
                    1.0
                };
            let bandwidth = slot.device.bandwidth_measured_gbs.or(slot
                .device
                .bandwidth_peak_gbs
                .map(|peak| peak * software.class.bandwidth_share));
            let experts = weights.experts * model.expert_share(per_pass as u32);
            parts.push(Part {
                device: slot.device,
                multiply_s: 2.0 * layer_parameters(model) * share * tokens / (rate * 1e12),
                attention_s: attention_operations(model, work) * share
                    / (attention_rate * attention_share(slot.device) * 1e12),
                read_s: bandwidth.map_or(0.0, |gbs| {
                    (weights.layers + experts) * share * passes / (gbs * 1e9)
                }),
                layers_s: f64::from(model.n_layer)
                    * share
                    * passes
                    * software.class.layer_us
                    * LAYER_FACTOR
                    * 1e-6,
                rate,
                format,
                software,
            });
        }
        Ok(Self {
            parts,
            split: setup.split,
        })
    }

    /// Seconds to read the prompts of all sequences.
    pub(super) fn seconds(&self) -> f64 {
        let times = self.parts.iter().map(Part::seconds);
        match self.split {
            Split::Layers => times.sum(),
            Split::Tensors => times.fold(0.0, f64::max),
        }
    }

    pub(super) fn spread(&self) -> Spread {
        self.parts
            .iter()
            .map(|part| part.software.class.prefill)
            .reduce(Spread::or_wider)
            .unwrap_or(Spread {
                low: 0.4,
                high: 2.5,
            })
    }

    pub(super) fn terms(&self) -> Vec<Term> {
        self.parts
            .iter()
            .flat_map(|part| {
                let name = &part.device.name;
                [
                    Term {
                        name: format!("rate of {name} on this prompt"),
                        formula: format!("dense {} rate × what its software reaches", part.format),
                        value: part.rate,
                        unit: "TOPS",
                        source: format!("constants of class {}", part.software.class.name),
                    },
                    Term {
                        name: format!("reading the prompt on {name}"),
                        formula: format!(
                            "max(multiplying {:.1} ms, weights {:.1} ms) + attention {:.1} ms + layers {:.1} ms",
                            part.multiply_s * 1e3,
                            part.read_s * 1e3,
                            part.attention_s * 1e3,
                            part.layers_s * 1e3
                        ),
                        value: part.seconds() * 1e3,
                        unit: "ms",
                        source: "the model's shape".into(),
                    },
                ]
            })
            .collect()
    }
}

impl Part<'_> {
    fn seconds(&self) -> f64 {
        self.multiply_s.max(self.read_s) + self.attention_s + self.layers_s
    }
}

/// The share of the rate for 16-bit weights that attention reaches: softmax stands between its two products. On a processor the
/// products are what takes the time.
fn attention_share(device: &DeviceProfile) -> f64 {
    match device.kind {
        DeviceKind::Cpu => 0.95,
        _ => 0.5,
    }
}

/// Parameters that every token of a prompt is multiplied with. The output projection sees the last one only.
fn layer_parameters(model: &ModelShape) -> f64 {
    let all = model.parameters();
    let experts = (all.expert_gate_up + all.expert_down) * model.expert_share(1);
    all.query_key + all.value + all.attention_output + all.gate_up + all.down + all.other + experts
}

/// Operations of attention: scores and sums, two each per value, over what each token sees.
fn attention_operations(model: &ModelShape, work: &Work) -> f64 {
    let [prompt, depth, batch] = [work.prompt_tokens, work.depth, work.batch].map(f64::from);
    let seen = depth + prompt / 2.0;
    let width = f64::from(model.n_head) * f64::from(model.head_dim);
    4.0 * prompt * seen * width * f64::from(model.full_layers()) * batch
}
