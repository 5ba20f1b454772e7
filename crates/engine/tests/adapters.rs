//! LoRA adapters over the story model: how they add up, on several devices too, and which are refused. What they compute is
//! compared with PEFT in the tests of `troika-import`.

mod common;

use std::sync::Arc;

use common::requantize::requantize;
use common::{encode, load, stories};
use troika_base::DType;
use troika_device::cpu::CpuOps;
use troika_device::{Device, Part, Split};
use troika_engine::{Adapter, AdapterError, CpuDevice, OpsDevice, Session, with_adapters};
use troika_gguf::{Metadata, ModelFile, Writer};

const RANK: u64 = 3;

/// An adapter to be written, which a test may spoil.
struct Recipe {
    metadata: Metadata,
    /// Names, and shapes in GGUF's order.
    tensors: Vec<(String, Vec<u64>)>,
}

impl Recipe {
    /// One of every matrix in the layers.
    fn new(model: &ModelFile) -> Self {
        let mut metadata = Metadata::default();
        metadata.insert("general.type", "adapter");
        let architecture = model.metadata().str("general.architecture");
        metadata.insert(
            "general.architecture",
            architecture.expect("every model has one"),
        );
        metadata.insert("adapter.type", "lora");
        metadata.insert("adapter.lora.alpha", 6.0f32);
        let matrices = model.tensors().iter();
        let matrices = matrices.filter(|t| t.name.starts_with("blk.") && t.shape.len() == 2);
        let pair = |t: &troika_gguf::TensorInfo| {
            [
                (format!("{}.lora_a", t.name), vec![t.shape[0], RANK]),
                (format!("{}.lora_b", t.name), vec![RANK, t.shape[1]]),
            ]
        };
        Self {
            metadata,
            tensors: matrices.flat_map(pair).collect(),
        }
    }

    fn file(&self, seed: u32) -> ModelFile {
        let mut writer = Writer::new(self.metadata.clone());
        for (name, shape) in &self.tensors {
            let n = shape.iter().product::<u64>() as u32;
            let mut state = seed;
            let mut next = move || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            writer.tensor(name, DType::F32, shape, move |out| {
                (0..n).try_for_each(|_| out.write_all(&(0.1 * next()).to_le_bytes()))?;
                Ok(())
            });
        }
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes).expect("is written");
        ModelFile::from_bytes("adapter", bytes).expect("is sound")
    }
}

/// The model with adapters of these seeds and scales.
fn adapted(adapters: &[(u32, f32)]) -> ModelFile {
    over(stories(), adapters)
}

fn over(model: ModelFile, adapters: &[(u32, f32)]) -> ModelFile {
    let recipe = Recipe::new(&model);
    let adapters = adapters.iter().map(|&(seed, scale)| Adapter {
        file: recipe.file(seed),
        scale,
    });
    with_adapters(model, &adapters.collect::<Vec<_>>()).expect("they fit")
}

/// The logits behind each token of a text.
fn logits(file: &ModelFile, device: &dyn Device) -> Vec<f32> {
    let mut model = load(file, device);
    let tokens = encode(&model, "Once upon a time there was");
    let scored = Session::new(&mut model).score(&tokens);
    scored.expect("is computed").values
}

/// The largest difference, in parts of the largest number.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let most = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |m: f32, x| m.max(x.abs()));
    most(&mut a.iter().zip(b).map(|(a, b)| a - b)) / most(&mut a.iter().copied())
}

/// In F32, since quantized weights are multiplied with rounded activations, where the order of a sum shows.
#[test]
fn adapters_add_up() {
    let cpu = CpuDevice::batch_invariant(2);
    let bytes = requantize(&stories(), DType::F32);
    let model = || ModelFile::from_bytes("stories", bytes.clone()).expect("is sound");
    let of = |adapters: &[(u32, f32)]| logits(&over(model(), adapters), &cpu);
    let (plain, one) = (of(&[]), of(&[(1, 1.0)]));
    let both = of(&[(1, 1.0), (2, 2.0)]);
    assert!(distance(&plain, &one) > 0.05);
    assert!(distance(&one, &both) > 0.01);
    assert_eq!(of(&[(1, 0.0)]), plain);
    for (same, want) in [
        (&[(1, 0.25), (1, 0.75)][..], &one),
        (&[(1, 1.0), (1, -1.0)], &plain),
        (&[(2, 2.0), (1, 1.0)], &both),
    ] {
        let off = distance(want, &of(same));
        assert!(off < 1e-3, "{same:?} is off by {off}");
    }
    // Over a model that has one already, they add up too.
    let stacked = logits(&over(over(model(), &[(1, 1.0)]), &[(2, 2.0)]), &cpu);
    assert!(distance(&both, &stacked) < 1e-3);
}

/// Each part has the pairs of its own layers.
#[test]
fn a_split_model_computes_the_same() {
    let cpu = Arc::new(CpuDevice::batch_invariant(2));
    let file = adapted(&[(1, 1.0), (2, 2.0)]);
    let want = logits(&file, &*cpu);
    let open = move |_: &_, _| {
        let ops = || CpuOps::new(cpu.kernels(), Arc::clone(cpu.pool()));
        let n = stories_layers();
        let parts = vec![Part::new(ops(), 0..1), Part::new(ops(), 1..n)];
        Ok((Split::new(parts), None))
    };
    let split = OpsDevice::new("cpu0+cpu1".to_owned(), "the CPU in parts".to_owned(), open);
    assert_eq!(logits(&file, &split), want);
}

fn stories_layers() -> usize {
    let spec = troika_engine::model_spec(&stories());
    spec.expect("it is a model").n_layer
}

/// Keys and values of the model alone are not taken for those of the model with an adapter, and memory is accounted for.
#[test]
fn it_is_another_model_and_a_larger_one() {
    let cpu = CpuDevice::batch_invariant(1);
    let (plain, small, large) = (
        load(&stories(), &cpu),
        load(&adapted(&[(1, 1.0)]), &cpu),
        load(&adapted(&[(1, 0.5)]), &cpu),
    );
    assert_ne!(plain.fingerprint(), small.fingerprint());
    assert_ne!(small.fingerprint(), large.fingerprint());
    let added = small.weights_bytes().0 - plain.weights_bytes().0;
    let tensors = adapted(&[(1, 1.0)]);
    let least: u64 = tensors.adapter().map_or(0, |adapter| {
        adapter.tensors().iter().map(|tensor| tensor.bytes).sum()
    });
    assert!(added >= least && least > 0, "{added} of {least}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |spoil: &dyn Fn(&mut Recipe)| {
        let model = stories();
        let mut recipe = Recipe::new(&model);
        spoil(&mut recipe);
        let adapter = Adapter {
            file: recipe.file(1),
            scale: 1.0,
        };
        match with_adapters(model, &[adapter]) {
            Err(error) => (
                matches!(error, AdapterError::Tensor { .. }),
                error.to_string(),
            ),
            Ok(_) => panic!("it was applied"),
        }
    };
    let rename = |to: &'static str| move |recipe: &mut Recipe| recipe.tensors[0].0 = to.to_owned();
    let pair = |name: &'static str| {
        move |recipe: &mut Recipe| {
            recipe.tensors = vec![
                (format!("{name}.lora_a"), vec![64, RANK]),
                (format!("{name}.lora_b"), vec![RANK, 64]),
            ];
        }
    };
    let set = |key: &'static str, value: &'static str| {
        move |recipe: &mut Recipe| recipe.metadata.insert(key, value)
    };
    for (is_tensor, spoil, says) in [
        (
            false,
            &set("general.type", "model") as &dyn Fn(&mut Recipe),
            "general.type",
        ),
        (
            false,
            &set("adapter.type", "control_vector"),
            "control_vector",
        ),
        (false, &set("general.architecture", "gemma3"), "gemma3"),
        (true, &rename("blk.0.attn_q.bias"), "blk.0.attn_q.bias"),
        (true, &rename("blk.0.attn_q.weight.lora_c"), "lora_c"),
        (
            true,
            &pair("blk.99.attn_q.weight"),
            "no tensor `blk.99.attn_q.weight`",
        ),
        (true, &pair("blk.0.attn_norm.weight"), "no matrix"),
        (true, &pair("token_embd.weight"), "no matrix"),
        (true, &pair("blk.0.attn_q.weight"), "shapes"),
        (
            true,
            &|recipe: &mut Recipe| drop(recipe.tensors.remove(1)),
            "is missing",
        ),
    ] {
        let (was_tensor, error) = refused(spoil);
        assert!(error.contains(says), "{says}: {error}");
        assert_eq!(was_tensor, is_tensor, "{error}");
    }
}
