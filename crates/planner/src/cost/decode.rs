//! Writing a token: the time to read what it needs, and what every layer costs beside.

use super::software::{Fit, Software, Spread};
use super::{Refusal, Setup, Split, Term, Work};
use crate::model::{Memory, ModelShape, WeightBytes};
use crate::quantization::Numbers;
use troika_base::{Basis, DeviceKind, DeviceProfile};

/// The cost of one step, per device.
pub(super) struct Decode<'a> {
    parts: Vec<Part<'a>>,
    split: Split,
    engine_s: f64,
}

/// What one device does in a step.
struct Part<'a> {
    device: &'a DeviceProfile,
    software: Software,
    bandwidth: Bandwidth,
    weights_bytes: f64,
    cache_bytes: f64,
    layers_s: f64,
    compute_s: f64,
    exchange_s: f64,
}

/// 10⁹ bytes a second that the device reads.
struct Bandwidth {
    /// Of the memory, measured or from the data sheet.
    of_memory_gbs: f64,
    /// The part of it that is reached.
    share: f64,
    measured: bool,
}

impl Bandwidth {
    fn gbs(&self) -> f64 {
        self.of_memory_gbs * self.share
    }

    fn term(&self, device: &DeviceProfile) -> Term {
        let kind = if self.measured { "measured" } else { "peak" };
        Term {
            name: format!("bandwidth of {}", device.name),
            formula: format!("{:.1} GB/s {kind} × {:.2}", self.of_memory_gbs, self.share),
            value: self.gbs(),
            unit: "GB/s",
            source: match &device.basis {
                _ if self.measured => "measured on this machine".into(),
                Basis::Datasheet { source } => source.clone(),
                Basis::Measured { .. } => "read from this machine".into(),
                Basis::Described => "given".into(),
            },
        }
    }
}

impl<'a> Decode<'a> {
    pub(super) fn new(
        fit: &Fit,
        setup: &Setup<'a>,
        model: &ModelShape,
        weights: &WeightBytes,
        work: &Work,
        layers: &[u32],
    ) -> Result<Self, Refusal> {
        let n_layer = f64::from(model.n_layer.max(1));
        let depth =
            u64::from(work.depth) + u64::from(work.prompt_tokens) + u64::from(work.gen_tokens / 2);
        let cache = model.cache_bytes(depth, work.kv_bits) * f64::from(work.batch);
        let experts = weights.experts * model.expert_share(work.batch) * fit.expert_bytes;
        let last = layers.iter().rposition(|&n| n > 0).unwrap_or(0);
        let mut parts = Vec::with_capacity(setup.slots.len());
        for (index, slot) in setup.slots.iter().enumerate() {
            let held = f64::from(layers.get(index).copied().unwrap_or(0));
            if held == 0.0 {
                continue;
            }
            // Split by tensors, each device holds its share of every layer.
            let share = held / n_layer;
            let passes = match setup.split {
                Split::Layers => held,
                Split::Tensors => n_layer,
            };
            let software = Software::of(fit, setup, slot.device);
            let output = match setup.split {
                Split::Layers if index != last => 0.0,
                Split::Layers => weights.output_read(),
                Split::Tensors => weights.output_read() * share,
            };
            parts.push(Part {
                bandwidth: bandwidth(slot.device, &software)?,
                weights_bytes: (weights.layers + experts) * share + output,
                cache_bytes: cache * share,
                layers_s: passes * software.class.layer_us * 1e-6 * layer_factor(fit, model),
                compute_s: compute_seconds(model, slot.device, &software, work, share),
                exchange_s: exchange_seconds(setup, model, work, passes),
                device: slot.device,
                software,
            });
        }
        Ok(Self {
            parts,
            split: setup.split,
            engine_s: if setup.engine == "ollama" {
                fit.ollama_us * 1e-6
            } else {
                0.0
            },
        })
    }

    /// Seconds of one step of all sequences.
    pub(super) fn step_seconds(&self) -> f64 {
        let times = self.parts.iter().map(Part::seconds);
        let devices_s = match self.split {
            Split::Layers => times.sum::<f64>(),
            Split::Tensors => times.fold(0.0, f64::max),
        };
        devices_s + self.engine_s
    }

    /// How far measurements may be off: as far as those of the least known device.
    pub(super) fn spread(&self) -> Spread {
        self.parts
            .iter()
            .map(|part| part.software.class.decode)
            .reduce(Spread::or_wider)
            .unwrap_or(Spread {
                low: 0.5,
                high: 2.0,
            })
    }

    pub(super) fn terms(&self) -> Vec<Term> {
        let mut terms = Vec::new();
        for part in &self.parts {
            let name = &part.device.name;
            let fitted = format!("constants of class {}", part.software.class.name);
            terms.push(part.bandwidth.term(part.device));
            terms.push(Term {
                name: format!("read per step on {name}"),
                formula: format!(
                    "{:.3} GB weights + {:.3} GB keys, values and states",
                    part.weights_bytes / 1e9,
                    part.cache_bytes / 1e9
                ),
                value: (part.weights_bytes + part.cache_bytes) / 1e9,
                unit: "GB",
                source: "the model's shape".into(),
            });
            terms.push(Term {
                name: format!("step on {name}"),
                formula: format!(
                    "max(reading {:.2} ms, multiplying {:.2} ms) + layers {:.2} ms + exchange {:.2} ms",
                    part.read_seconds() * 1e3,
                    part.compute_s * 1e3,
                    part.layers_s * 1e3,
                    part.exchange_s * 1e3
                ),
                value: part.seconds() * 1e3,
                unit: "ms",
                source: fitted,
            });
        }
        terms
    }
}

impl Part<'_> {
    fn read_seconds(&self) -> f64 {
        let cache_bytes = self.cache_bytes / cache_share(self.device);
        (self.weights_bytes + cache_bytes) / (self.bandwidth.gbs() * 1e9)
    }

    fn seconds(&self) -> f64 {
        self.read_seconds().max(self.compute_s) + self.layers_s + self.exchange_s
    }
}

fn bandwidth(device: &DeviceProfile, software: &Software) -> Result<Bandwidth, Refusal> {
    let share = software.class.bandwidth_share;
    if let Some(measured) = device.bandwidth_measured_gbs {
        return Ok(Bandwidth {
            of_memory_gbs: measured,
            // The class's share is of the data sheet's peak; a reading loop reaches no more than `BEST_SHARE` of that.
            share: (share / BEST_SHARE).min(1.0),
            measured: true,
        });
    }
    let peak = device.bandwidth_peak_gbs.ok_or_else(|| Refusal::Unknown {
        what: "memory bandwidth",
        device: device.name.clone(),
        remedy: "give it with --bandwidth, in GB/s, or measure it with `troika devices --measure`",
    })?;
    Ok(Bandwidth {
        of_memory_gbs: peak,
        share,
        measured: false,
    })
}

/// The share of a memory's peak that the best reading loop gets.
const BEST_SHARE: f64 = 0.92;

/// The speed of reading keys and values, against that of reading weights.
///
/// On a processor, each head is a short run of rows that are converted on the way: half of the speed, measured on two cores
/// at depths of 4,096 and 16,384. On GPUs, attention that is split over the context reads as fast as a product does.
fn cache_share(device: &DeviceProfile) -> f64 {
    match device.kind {
        DeviceKind::Cpu => 0.5,
        _ => 1.0,
    }
}

fn layer_factor(fit: &Fit, model: &ModelShape) -> f64 {
    let kind = match model.memory {
        // A convolution's state is a few rows; that of linear attention, a matrix for each head.
        Memory::Linear { state_bytes, .. } if state_bytes < (64 << 10) => 1.0,
        Memory::Linear { .. } => fit.state_layer,
        Memory::Window { .. } => fit.window_layer,
        Memory::Full | Memory::Latent { .. } => 1.0,
    };
    kind * if model.experts.is_some() {
        fit.expert_layer
    } else {
        1.0
    }
}

/// Multiplying for a batch; for one sequence, reading takes longer on every device that has a matrix unit.
fn compute_seconds(
    model: &ModelShape,
    device: &DeviceProfile,
    software: &Software,
    work: &Work,
    share: f64,
) -> f64 {
    let verified = work.tokens_per_step.max(1.0);
    let operations = 2.0 * model.params_active as f64 * share * f64::from(work.batch) * verified;
    software
        .prefill_rate(device, Numbers::Blocks)
        .map_or(0.0, |(tops, _)| operations / (tops * 1e12))
}

/// Handing activations on: once where layers are split, twice a layer where tensors are.
fn exchange_seconds(setup: &Setup<'_>, model: &ModelShape, work: &Work, passes: f64) -> f64 {
    if setup.slots.len() < 2 {
        return 0.0;
    }
    // PCIe 4.0 with 8 lanes where nothing is said.
    let link = setup.link_gbs.unwrap_or(16.0) * 1e9;
    let row = f64::from(model.n_embd) * 2.0 * f64::from(work.batch);
    let (times, latency_s) = match setup.split {
        Split::Layers => (1.0, 30e-6),
        Split::Tensors => (2.0 * passes, 12e-6),
    };
    times * (row / link + latency_s)
}
