//! Against what llama.cpp's quantizer has made of the same models; `golden/generate.py` records it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use troika_base::DType;
use troika_gguf::{Metadata, ModelFile, Writer};
use troika_kernels::quant::dequantize_row;
use troika_kernels::{Kernels, Pool};
use troika_quantize::{
    Allotment, Allotted, Budget, Cancelled, Error, Harms, Losses, Mix, Plan, Request, run,
};

const N_VOCAB: u64 = 64;

/// The models of the generator.
#[derive(Clone, Copy)]
struct Model {
    n_layer: u32,
    n_embd: u64,
    n_ff: u64,
    n_head: u32,
    n_head_kv: u32,
    n_expert: u32,
    is_tied: bool,
}

#[rustfmt::skip]
fn model(name: &str) -> Model {
    let (n_layer, n_embd, n_ff, n_head, n_head_kv, n_expert, is_tied) = match name {
        "shared" => (16, 256, 512, 4, 1, 0, false),
        "apart" => (9, 256, 256, 2, 2, 0, true),
        "narrow" => (8, 64, 96, 2, 1, 0, true),
        "experts" => (8, 256, 256, 4, 2, 8, false),
        "weights" => (2, 256, 256, 4, 2, 0, false),
        _ => panic!("no model {name}"),
    };
    Model { n_layer, n_embd, n_ff, n_head, n_head_kv, n_expert, is_tied }
}

impl Model {
    fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let (embd, ff, experts) = (self.n_embd, self.n_ff, u64::from(self.n_expert));
        let kv = embd / u64::from(self.n_head) * u64::from(self.n_head_kv);
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![embd, N_VOCAB])];
        for layer in 0..self.n_layer {
            let mut add = |name: &str, shape: &[u64]| {
                tensors.push((format!("blk.{layer}.{name}.weight"), shape.to_vec()));
            };
            add("attn_norm", &[embd]);
            add("attn_q", &[embd, embd]);
            add("attn_k", &[embd, kv]);
            add("attn_v", &[embd, kv]);
            add("attn_output", &[embd, embd]);
            add("ffn_norm", &[embd]);
            if experts > 0 {
                add("ffn_gate_inp", &[embd, experts]);
                add("ffn_gate_exps", &[embd, ff, experts]);
                add("ffn_up_exps", &[embd, ff, experts]);
                add("ffn_down_exps", &[ff, embd, experts]);
            } else {
                add("ffn_gate", &[embd, ff]);
                add("ffn_up", &[embd, ff]);
                add("ffn_down", &[ff, embd]);
            }
        }
        tensors.push(("output_norm.weight".to_owned(), vec![embd]));
        if !self.is_tied {
            tensors.push(("output.weight".to_owned(), vec![embd, N_VOCAB]));
        }
        tensors
    }

    /// In memory; with zeros, for tests that read no weights.
    fn file(&self, has_weights: bool) -> ModelFile {
        let mut metadata = Metadata::default();
        metadata.insert("general.architecture", "llama");
        for (key, value) in [
            ("block_count", self.n_layer),
            ("attention.head_count", self.n_head),
            ("attention.head_count_kv", self.n_head_kv),
            ("expert_count", self.n_expert),
        ] {
            metadata.insert(format!("llama.{key}"), value);
        }
        metadata.insert("general.file_type", 0u32);
        metadata.insert("split.count", 1u32);
        let tensors = self.tensors();
        let mut writer = Writer::new(metadata);
        for (index, (name, shape)) in tensors.iter().enumerate() {
            writer.tensor(name, DType::F32, shape, move |out| {
                let count: u64 = shape.iter().product();
                if !has_weights {
                    return Ok(out.write_all(&vec![0; 4 * count as usize])?);
                }
                for x in weights(index as u64, count) {
                    out.write_all(&x.to_le_bytes())?;
                }
                Ok(())
            });
        }
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes).expect("is written");
        ModelFile::from_bytes("model", bytes).expect("is read")
    }
}

/// As the generator makes them: close to normal, with a few that stick out.
fn weights(index: u64, count: u64) -> Vec<f32> {
    let weight = |i: u64| {
        let counter = i + (index << 32);
        let mut total = 0;
        for k in 0..4u64 {
            let offset = k.wrapping_mul(0x632B_E59B_D9B4_E019);
            let mut x = counter
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add(offset);
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            total += (x >> 44) as i64 - (1 << 19);
        }
        if counter.is_multiple_of(97) {
            total *= 3;
        }
        total as f32 / (1 << 24) as f32
    };
    (0..count).map(weight).collect()
}

fn request(mix: Mix) -> Request {
    Request {
        mix,
        tensors: Vec::new(),
        output: None,
        allow_requantize: false,
    }
}

/// The mix of a model in memory.
fn quantized(file: &ModelFile, plan: &Plan, threads: usize) -> ModelFile {
    let directory = tempfile::tempdir().expect("is made");
    let path = directory.path().join("out.gguf");
    let pool = Pool::new(threads);
    let kernels = Kernels::from_env().expect("there are some");
    let go_on = &mut |_: troika_quantize::Progress<'_>| ControlFlow::Continue(());
    run(file, plan, None, (kernels, &pool), &path, go_on).expect("is written");
    let bytes = std::fs::read(&path).expect("is there");
    ModelFile::from_bytes("quantized", bytes).expect("is read")
}

fn values(file: &ModelFile, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).expect("is there");
    let mut values = vec![0.0; tensor.n_elements() as usize];
    let bytes = file.read_all(tensor).expect("is read");
    dequantize_row(tensor.dtype, &bytes, &mut values).expect("is computed");
    values
}

fn relative_error(x: &[f32], back: &[f32]) -> f64 {
    let error: f64 = x
        .iter()
        .zip(back)
        .map(|(x, back)| f64::from(x - back).powi(2))
        .sum();
    error / x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
}

fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

#[test]
fn every_tensor_gets_the_format_that_the_field_gives_it() {
    let mut files = BTreeMap::new();
    for line in include_str!("golden/types.txt").lines() {
        let mut words = line.split(' ');
        let (name, mix) = (words.next().expect("a model"), words.next().expect("a mix"));
        let file = files.entry(name).or_insert_with(|| model(name).file(false));
        let plan = Plan::new(file, &request(mix.parse().expect("a mix")), None).expect("a plan");
        let mut have = plan.tensors.iter();
        for run in words {
            let (dtype, count) = run.split_once('*').expect("TYPE*COUNT");
            for _ in 0..count.parse().expect("a number") {
                let planned = have.next().expect("as many tensors");
                assert_eq!(planned.to.name(), dtype, "{name} {mix} {}", planned.name);
            }
        }
        assert!(have.next().is_none(), "{name} {mix}");
    }
}

/// The simple formats to the bit; those with a search with no more error.
#[test]
fn weights_are_rounded_as_well_as_the_field_does() {
    let file = model("weights").file(true);
    let mut made: BTreeMap<&str, ModelFile> = BTreeMap::new();
    let (mut identical, mut errors) = (0, BTreeMap::<&str, (f64, f64)>::new());
    for line in include_str!("golden/weights.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [mix, name, dtype, hash, error] = words[..] else {
            panic!("five words: {line}");
        };
        let out = made.entry(mix).or_insert_with(|| {
            let request = request(mix.parse().expect("a mix"));
            quantized(&file, &Plan::new(&file, &request, None).expect("a plan"), 2)
        });
        let tensor = out.tensor(name).expect("is there");
        assert_eq!(tensor.dtype.name(), dtype, "{line}");
        if ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"].contains(&dtype) {
            let bytes = out.read_all(tensor).expect("is read");
            assert_eq!(format!("{:016x}", fnv(&bytes)), hash, "{line}");
            identical += 1;
            continue;
        }
        let have = relative_error(&values(&file, name), &values(out, name));
        let sums = errors.entry(dtype).or_default();
        sums.0 += have;
        sums.1 += error.parse::<f64>().expect("a number");
    }
    assert!(identical > 70, "{identical}");
    for (dtype, (have, field)) in errors {
        assert!(have <= field, "{dtype}: {have:.4e} against {field:.4e}");
    }
}

#[test]
fn the_rest_of_the_file_is_as_it_was() {
    let file = model("weights").file(true);
    let plan = Plan::new(&file, &request(Mix::Q4_K_M), None).expect("a plan");
    let out = quantized(&file, &plan, 1);
    let metadata = out.metadata();
    assert_eq!(metadata.u32("general.file_type").expect("is there"), 15);
    assert_eq!(
        metadata
            .u32("general.quantization_version")
            .expect("is there"),
        2
    );
    assert_eq!(metadata.u32("llama.block_count").expect("is there"), 2);
    assert!(metadata.get("split.count").is_none());
    let names = |file: &ModelFile| -> Vec<String> {
        file.tensors()
            .iter()
            .map(|tensor| tensor.name.clone())
            .collect()
    };
    assert_eq!(names(&out), names(&file));
    assert_eq!(
        values(&out, "output_norm.weight"),
        values(&file, "output_norm.weight")
    );
    let again = quantized(&file, &plan, 3);
    for (a, b) in out.tensors().iter().zip(again.tensors()) {
        let read = |file: &ModelFile, tensor| file.read_all(tensor).expect("is read");
        assert_eq!(read(&out, a), read(&again, b), "{}", a.name);
    }
}

#[test]
fn what_would_lose_without_need_is_refused() {
    let file = model("weights").file(true);
    let plan = Plan::new(&file, &request(Mix::Q8_0), None).expect("a plan");
    let once = quantized(&file, &plan, 1);
    let twice = Plan::new(&once, &request(Mix::Q4_K_M), None);
    assert!(matches!(twice, Err(Error::Requantized { .. })), "{twice:?}");
    let request = Request {
        allow_requantize: true,
        ..request(Mix::Q4_K_M)
    };
    assert!(Plan::new(&once, &request, None).is_ok());
    // Copying is no rounding.
    assert!(Plan::new(&once, &self::request(Mix::Q8_0), None).is_ok());
    let grid = Plan::new(&file, &self::request(Mix::IQ2_XXS), None);
    assert!(
        matches!(grid, Err(Error::NeedsImportance { .. })),
        "{grid:?}"
    );
}

#[test]
fn named_tensors_get_what_is_asked_for() {
    let file = model("weights").file(true);
    let pattern = regex::Regex::new("ffn_(up|gate)").expect("is one");
    let request = Request {
        tensors: vec![(pattern, DType::Q5_1)],
        output: Some(DType::F16),
        ..request(Mix::Q4_K_M)
    };
    let plan = Plan::new(&file, &request, None).expect("a plan");
    let of = |name: &str| {
        let found = plan.tensors.iter().find(|planned| planned.name == name);
        found.expect("is there").to
    };
    assert_eq!(of("blk.1.ffn_up.weight"), DType::Q5_1);
    assert_eq!(of("blk.1.ffn_down.weight"), DType::Q6_K);
    assert_eq!(of("output.weight"), DType::F16);
}

#[test]
fn nothing_is_left_of_what_was_broken_off() {
    let file = model("weights").file(true);
    let plan = Plan::new(&file, &request(Mix::Q8_0), None).expect("a plan");
    let directory = tempfile::tempdir().expect("is made");
    let path = directory.path().join("out.gguf");
    let mut told = 0;
    let stop = &mut |_: troika_quantize::Progress<'_>| {
        told += 1;
        if told == 3 {
            ControlFlow::Break(Cancelled)
        } else {
            ControlFlow::Continue(())
        }
    };
    let with = (&Kernels::all()[0], &Pool::new(1));
    let broken = run(&file, &plan, None, with, &path, stop);
    assert!(matches!(broken, Err(Error::Cancelled)), "{broken:?}");
    assert_eq!(
        std::fs::read_dir(directory.path())
            .expect("is there")
            .count(),
        0
    );
}

#[test]
fn a_budget_is_kept_and_used_up() {
    let file = model("weights").file(true);
    let losses = losses(&file);
    let mut before = f64::INFINITY;
    for bits_per_weight in [3.0, 4.25, 8.0] {
        let allotment = losses.allot(budget(bits_per_weight)).expect("can be had");
        let bits = allotment.plan.bits_per_weight();
        assert!(bits <= bits_per_weight, "{bits} of {bits_per_weight}");
        assert!(bits > bits_per_weight - 0.02, "{bits} of {bits_per_weight}");
        assert!(allotment.error() < before, "more bits lose less");
        before = allotment.error();
    }
    let found = losses.allot(budget(1.0));
    assert!(matches!(found, Err(Error::TooFewBits { .. })), "{found:?}");
}

#[test]
fn a_tensor_that_does_harm_is_given_bits() {
    let file = model("weights").file(true);
    let losses = losses(&file);
    let budget = budget(4.25);
    let before = losses.allot(budget).expect("can be had");
    // All as their errors say, but for one that turned out to matter more.
    let is_poor = |tensor: &&Allotted| tensor.dtype.bits_per_weight() < 5.0;
    let mut poor = before.tensors.iter().filter(is_poor);
    let worse = poor.next_back().expect("some tensor has few bits");
    let harms = before.tensors.iter().map(|tensor| {
        let weight = if tensor.name == worse.name { 1e4 } else { 1.0 };
        (tensor.name.clone(), tensor.error.powi(2) * weight)
    });
    let after = losses
        .allot_again(budget, &before, &harms.collect())
        .expect("can be had");
    let bits = |allotment: &Allotment| {
        let mut tensors = allotment.tensors.iter();
        let found = tensors.find(|tensor| tensor.name == worse.name);
        found.expect("is there").dtype.bits_per_weight()
    };
    assert!(bits(&after) > bits(&before), "{}", worse.name);
    assert!(after.plan.bits_per_weight() <= budget.bits_per_weight);

    // Who knows nothing chooses as before.
    let same = losses.allot_again(budget, &before, &Harms::new());
    assert_eq!(same.expect("can be had").tensors, before.tensors);
}

fn losses(file: &ModelFile) -> Losses<'_> {
    let pool = Pool::new(2);
    let with = (Kernels::from_env().expect("there are some"), &pool);
    let go_on = &mut |_: troika_quantize::Progress<'_>| ControlFlow::Continue(());
    Losses::measure(file, None, with, go_on).expect("can be measured")
}

fn budget(bits_per_weight: f64) -> Budget {
    Budget {
        bits_per_weight,
        allow_requantize: false,
    }
}
