//! What has to fit where: weights, caches, buffers; and which device gets which layers.

use super::{MemoryNeed, Refusal, Setup, Split, Term, Work};
use crate::model::{ModelShape, WeightBytes};
use crate::quantization::Quantization;
use troika_base::{DeviceKind, DeviceProfile};

/// Memory and layers.
pub(super) struct Layout {
    pub(super) need: MemoryNeed,
    pub(super) layers: Vec<u32>,
    pub(super) notes: Vec<String>,
}

/// Gives out layers to the slots in their order, each as many as fit.
pub(super) fn lay_out(
    setup: &Setup<'_>,
    model: &ModelShape,
    weights: &WeightBytes,
    work: &Work,
) -> Result<Layout, Refusal> {
    let first = setup
        .slots
        .first()
        .ok_or_else(|| Refusal::Unsupported("no device was given".into()))?;
    let need = need(setup, first.device, model, weights, work);
    let n_layer = model.n_layer;
    let whole = |slots: usize| -> Vec<u32> {
        let mut layers = vec![0; slots];
        layers[0] = n_layer;
        layers
    };
    // A device whose memory is not known is taken to be big enough: that is for whoever asks to know.
    let capacities: Option<Vec<u64>> = setup.slots.iter().map(capacity).collect();
    let Some(capacities) = capacities else {
        return Ok(Layout {
            need,
            layers: spread_evenly(setup, n_layer).unwrap_or_else(|| whole(setup.slots.len())),
            notes: vec!["how much memory there is is not known; taken to be enough".into()],
        });
    };
    let fixed = need.scratch + need.runtime;
    let has: u64 = capacities.iter().sum();
    let per_layer = (need.total() - fixed) as f64 / f64::from(n_layer.max(1));
    let room = |capacity: u64| {
        let free = capacity.saturating_sub(fixed) as f64;
        (free / per_layer).floor().min(f64::from(n_layer)) as u32
    };
    if let Some(even) = spread_evenly(setup, n_layer)
        && even
            .iter()
            .zip(&capacities)
            .all(|(&layers, &capacity)| layers <= room(capacity))
    {
        return Ok(Layout {
            need: shared(need, setup.slots.len()),
            layers: even,
            notes: Vec::new(),
        });
    }
    let mut left = n_layer;
    let layers: Vec<u32> = capacities
        .iter()
        .map(|&capacity| {
            let given = room(capacity).min(left);
            left -= given;
            given
        })
        .collect();
    if left > 0 {
        return Err(Refusal::DoesNotFit {
            needs: need.total(),
            has,
        });
    }
    let used = layers.iter().filter(|&&layers| layers > 0).count();
    let mut notes = Vec::new();
    if used > 1
        && setup
            .slots
            .iter()
            .any(|slot| slot.device.kind == DeviceKind::Cpu)
    {
        notes.push(format!(
            "{} of {n_layer} layers fit {}; the others run on the processor",
            layers[0], first.device.name
        ));
    }
    Ok(Layout {
        need: shared(need, used),
        layers,
        notes,
    })
}

/// Each device that takes part has buffers and a runtime of its own.
fn shared(need: MemoryNeed, devices: usize) -> MemoryNeed {
    let devices = devices.max(1) as u64;
    MemoryNeed {
        scratch: need.scratch * devices,
        runtime: need.runtime * devices,
        ..need
    }
}

/// Equal devices share alike: always where tensors are split, and where all slots are of one chip.
fn spread_evenly(setup: &Setup<'_>, n_layer: u32) -> Option<Vec<u32>> {
    let count = u32::try_from(setup.slots.len()).ok()?;
    let alike = setup
        .slots
        .windows(2)
        .all(|pair| pair[0].device.name == pair[1].device.name);
    if count < 2 || !(alike || setup.split == Split::Tensors) {
        return None;
    }
    let (each, more) = (n_layer / count, n_layer % count);
    Some(
        (0..count)
            .map(|index| each + u32::from(index < more))
            .collect(),
    )
}

/// Bytes that a slot has for a model.
fn capacity(slot: &super::Slot<'_>) -> Option<u64> {
    if let Some(free) = slot.memory_free {
        return Some(free.0);
    }
    let memory = slot.device.memory?.0;
    // A display, the driver and the system keep some; a processor shares with everything else that runs.
    let kept = match slot.device.kind {
        DeviceKind::Cpu => (memory / 8).max(1 << 30),
        _ => memory / 40,
    };
    Some(memory.saturating_sub(kept))
}

/// What a model takes on a device, whether it has that or not.
pub(super) fn need(
    setup: &Setup<'_>,
    first: &DeviceProfile,
    model: &ModelShape,
    weights: &WeightBytes,
    work: &Work,
) -> MemoryNeed {
    let [embd, vocab, ff] = [model.n_embd, model.n_vocab, model.n_ff].map(u64::from);
    let batch = u64::from(work.batch);
    let cache = model.cache_bytes(work.context.into(), work.kv_bits) * batch as f64;
    let troika = setup.engine == "troika";
    let on_processor = first.kind == DeviceKind::Cpu;
    let (scratch, runtime) = match (troika, on_processor) {
        // A pass of 512 tokens through the widest layer, and logits of one token per sequence.
        (true, true) => (
            512 * 4 * (4 * embd + 2 * ff.max(embd)) + 4 * vocab * batch,
            TROIKA_RUNTIME + vocab * TOKENIZER_BYTES_PER_TOKEN,
        ),
        (_, true) => (512 * 4 * (4 * embd + 2 * ff.max(embd) + vocab), 64 << 20),
        // On GPUs engines keep logits of a pass, and drivers a context.
        (_, false) => (
            512 * 4 * (4 * embd + 2 * ff.max(embd)) + 512 * 4 * vocab,
            if first.vendor == "nvidia" {
                350 << 20
            } else {
                200 << 20
            },
        ),
    };
    MemoryNeed {
        weights: weights.total() as u64,
        cache: cache as u64,
        scratch,
        runtime,
    }
}

/// Bytes that Troika's program takes with no model: code, threads, buffers of its runtime.
const TROIKA_RUNTIME: u64 = 13 << 20;

/// Bytes that the tokenizer keeps for each token of the vocabulary: its text, its rank and their hash tables.
const TOKENIZER_BYTES_PER_TOKEN: u64 = 150;

pub(super) fn terms(
    need: &MemoryNeed,
    model: &ModelShape,
    quantization: &Quantization,
    work: &Work,
) -> Vec<Term> {
    let term = |name: &str, formula: String, bytes: u64, source: &str| Term {
        name: name.into(),
        formula,
        value: bytes as f64 / 1e9,
        unit: "GB",
        source: source.into(),
    };
    vec![
        term(
            "weights",
            format!(
                "{:.2} B parameters in {}",
                model.params as f64 / 1e9,
                quantization.name
            ),
            need.weights,
            if quantization.exact.is_some() {
                "the file"
            } else {
                "the model's shape and the format's recipe"
            },
        ),
        term(
            "keys, values and states",
            format!(
                "{} × {} tokens at {} bits",
                work.batch, work.context, work.kv_bits
            ),
            need.cache,
            "the model's shape",
        ),
        term(
            "buffers",
            "activations of a pass of 512 tokens, logits".into(),
            need.scratch,
            "the model's shape",
        ),
        term(
            "runtime",
            "program, driver, tokenizer".into(),
            need.runtime,
            "measured",
        ),
    ]
}
