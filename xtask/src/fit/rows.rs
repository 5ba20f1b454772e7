//! Measurements, with the device's facts and the model's shape.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use troika_base::{DeviceKind, DeviceProfile};
use troika_planner::catalogue::{Block, Catalogue, profile};
use troika_planner::cost::{self, Backend, Setup, Slot, Work};
use troika_planner::model::{Experts, Memory, ModelShape, WeightBytes};
use troika_planner::quantization::Quantization;

/// A prompt shorter than this says nothing of the speed of reading.
const PREFILL_TOKENS_MIN: u32 = 256;

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    device: String,
    engine: String,
    backend: String,
    model: String,
    architecture: String,
    params: u64,
    params_active: u64,
    n_layer: u32,
    n_embd: u32,
    n_head: u32,
    n_head_kv: u32,
    head_dim: u32,
    n_ff: u32,
    n_vocab: u32,
    tied: u8,
    experts: u32,
    experts_active: u32,
    expert_n_ff: u32,
    shared_n_ff: u32,
    memory: String,
    quant: String,
    prompt_tokens: u32,
    gen_tokens: u32,
    decode_tps: f64,
    prefill_tps: Option<f64>,
    who: String,
}

/// A measurement that can be predicted.
pub(super) struct Row {
    pub(super) device: DeviceProfile,
    pub(super) engine: String,
    pub(super) backend: Option<Backend>,
    pub(super) model: ModelShape,
    pub(super) quantization: Quantization,
    pub(super) weights: WeightBytes,
    pub(super) work: Work,
    pub(super) decode_tps: f64,
    pub(super) prefill_tps: Option<f64>,
    pub(super) who: String,
}

impl Row {
    /// The setup that was measured.
    pub(super) fn setup(&self) -> Setup<'_> {
        Setup {
            backend: self.backend,
            engine: self.engine.clone(),
            ..Setup::by_layers([Slot::all_of(&self.device)], None)
        }
    }
}

/// What is used, and why the rest is not.
pub(super) struct Rows {
    pub(super) used: Vec<Row>,
    pub(super) dropped: BTreeMap<&'static str, usize>,
}

impl Rows {
    pub(super) fn devices(&self) -> usize {
        let names: std::collections::BTreeSet<_> =
            self.used.iter().map(|row| &row.device.name).collect();
        names.len()
    }
}

pub(super) fn read(path: &Path) -> anyhow::Result<Rows> {
    let mut rows = Rows {
        used: Vec::new(),
        dropped: BTreeMap::new(),
    };
    for line in csv::Reader::from_path(path)?.deserialize() {
        match row(line?) {
            Ok(row) => rows.used.push(row),
            Err(why) => *rows.dropped.entry(why).or_default() += 1,
        }
    }
    Ok(rows)
}

fn row(line: Line) -> Result<Row, &'static str> {
    let chip = Catalogue::builtin()
        .chip(&line.device)
        .map_err(|_| "the catalogue does not know the chip")?
        .row;
    let device = profile(chip, Block::Gpu, None);
    if device.kind != DeviceKind::Gpu {
        return Err("not a GPU");
    }
    let quantization = Quantization::parse(&line.quant).map_err(|_| "an unknown quantization")?;
    let model = shape(&line);
    let work = Work {
        gen_tokens: line.gen_tokens,
        context: line.prompt_tokens + line.gen_tokens,
        ..Work::alone(line.prompt_tokens, 0)
    };
    let weights = model.weights(&quantization);
    let prefill_tps = line
        .prefill_tps
        .filter(|_| line.prompt_tokens >= PREFILL_TOKENS_MIN);
    let row = Row {
        backend: backend(&line.backend),
        engine: line.engine,
        model,
        quantization,
        weights,
        work,
        decode_tps: line.decode_tps,
        prefill_tps,
        who: format!("{}/{}", device.name, line.who),
        device,
    };
    // A model that does not fit ran on the processor in part, which the file does not tell.
    if row.device.memory.is_some() {
        cost::forecast(&row.setup(), &row.model, &row.quantization, &row.work, None)
            .map_err(|_| "it does not fit the card's memory")?;
    }
    if row.device.bandwidth_peak_gbs.is_none_or(|peak| {
        row.decode_tps * row.weights.output_read().max(row.weights.layers) > 1.05e9 * peak
    }) {
        return Err("faster than the memory: not one sequence, or another model");
    }
    Ok(row)
}

fn backend(name: &str) -> Option<Backend> {
    match name {
        "cuda" => Some(Backend::Cuda),
        "rocm" => Some(Backend::Rocm),
        "metal" => Some(Backend::Metal),
        "vulkan" => Some(Backend::Vulkan),
        _ => None,
    }
}

fn shape(line: &Line) -> ModelShape {
    let mut fields = line.memory.split(':');
    let kind = fields.next().unwrap_or_default();
    let mut number = || {
        fields
            .next()
            .and_then(|field| field.parse().ok())
            .unwrap_or(0)
    };
    let memory = match kind {
        "window" => Memory::Window {
            window: number(),
            full_every: number(),
        },
        "linear" => Memory::Linear {
            full_every: number(),
            state_bytes: 2 << 20,
        },
        "conv" => Memory::Linear {
            full_every: number(),
            state_bytes: 16 << 10,
        },
        _ => Memory::Full,
    };
    let mut model = ModelShape {
        name: line.model.clone(),
        architecture: line.architecture.clone(),
        params: line.params,
        params_active: line.params_active,
        n_layer: line.n_layer,
        n_embd: line.n_embd,
        n_head: line.n_head,
        n_head_kv: line.n_head_kv,
        head_dim: line.head_dim,
        n_ff: line.n_ff,
        n_vocab: line.n_vocab,
        n_ctx: 0,
        tied: line.tied == 1,
        experts: (line.experts > 1).then_some(Experts {
            count: line.experts,
            active: line.experts_active,
            n_ff: line.expert_n_ff,
            shared_n_ff: line.shared_n_ff,
            dense_layers: 0,
        }),
        memory,
    };
    if model.experts.is_some() {
        let parts = model.parameters();
        let experts = parts.expert_gate_up + parts.expert_down;
        model.params_active = (line.params as f64 - experts * (1.0 - model.expert_share(1))) as u64;
    }
    model
}
