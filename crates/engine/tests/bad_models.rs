//! Files that are no good: refused with the reason, and never a panic.

mod common;

use std::ops::ControlFlow;

use common::{cpu, encode, greedy, stories};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};
use troika_base::DType;
use troika_device::LoadOptions;
use troika_engine::sampler::SampleError;
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{Error, Model, Session};
use troika_gguf::{Metadata, ModelFile, Value, Writer};

/// A tensor: name, format, shape with the row length first, bytes.
type Tensor = (String, DType, Vec<u64>, Vec<u8>);

/// The story model in parts, so that one can be spoilt.
struct Parts {
    metadata: Metadata,
    tensors: Vec<Tensor>,
}

impl Parts {
    /// The story model's first layer.
    fn new() -> Self {
        let file = stories();
        let mut metadata = file.metadata().clone();
        metadata.insert("llama.block_count", 1u32);
        let is_kept = |name: &str| name.starts_with("blk.0.") || !name.starts_with("blk.");
        let tensors = file.tensors().iter().filter(|tensor| is_kept(&tensor.name));
        let tensors = tensors.map(|tensor| {
            let bytes = file.read_all(tensor).expect("the story model is sound");
            (
                tensor.name.clone(),
                tensor.dtype,
                tensor.shape.clone(),
                bytes,
            )
        });
        Self {
            tensors: tensors.collect(),
            metadata,
        }
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.insert(key, value);
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.0 == name);
        found.expect("the model has it")
    }

    /// Adds a tensor, or puts it in the place of the one that has its name.
    fn put(&mut self, name: &str, dtype: DType, shape: &[u64], bytes: Vec<u8>) {
        self.tensors.retain(|tensor| tensor.0 != name);
        self.tensors
            .push((name.to_owned(), dtype, shape.to_vec(), bytes));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(self.metadata.clone());
        for (name, dtype, shape, bytes) in &self.tensors {
            writer.tensor_bytes(name, *dtype, shape, bytes);
        }
        let mut out = Vec::new();
        writer.write_to(&mut out).expect("a file that can be read");
        out
    }
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn load(bytes: Vec<u8>, n_ctx: usize) -> Result<Model, Error> {
    let file = ModelFile::from_bytes("bad.gguf", bytes)?;
    Model::load(&file, &cpu(1), LoadOptions::new(n_ctx), &mut |_| {
        ControlFlow::Continue(())
    })
}

/// Loads the story model with a change, which has to be refused in these words.
#[track_caller]
fn refuse(spoil: impl FnOnce(&mut Parts), words: &[&str]) {
    let mut parts = Parts::new();
    spoil(&mut parts);
    let error = match load(parts.bytes(), 64) {
        Ok(_) => panic!("accepted; words: {words:?}"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(error.contains(word), "{word:?} in {error:?}");
    }
}

/// Writes some tokens with the story model after a change.
fn write(spoil: impl FnOnce(&mut Parts)) -> Result<usize, Error> {
    let mut parts = Parts::new();
    spoil(&mut parts);
    run(&mut load(parts.bytes(), 64)?)
}

fn run(model: &mut Model) -> Result<usize, Error> {
    let prompt = encode(model, "Once upon");
    let mut session = Session::new(model);
    let on = &mut |_: troika_engine::Event<'_>| ControlFlow::Continue(());
    Ok(session.generate(&prompt, &greedy(3), on)?.generated_tokens)
}

#[test]
fn the_model_that_is_spoilt_is_good() {
    assert_eq!(write(|_| {}).unwrap(), 3);
}

#[test]
fn what_is_not_known_is_named() {
    let set = |key: &'static str, value: Value| move |parts: &mut Parts| parts.set(key, value);
    refuse(
        set("general.architecture", "mamba".into()),
        &["`mamba`", "llama", "mistral", "qwen2", "qwen3"],
    );
    refuse(
        set("split.count", 2u32.into()),
        &["`split.count` is 2", "merge"],
    );
    refuse(
        set("llama.expert_count", 8u32.into()),
        &["llama.expert_used_count"],
    );
    let experts = |n: u32, n_used: u32| {
        move |parts: &mut Parts| {
            parts.set("llama.expert_count", n);
            parts.set("llama.expert_used_count", n_used);
        }
    };
    refuse(
        experts(8, 9),
        &["expert_used_count` is 9", "no more experts"],
    );
    refuse(experts(8, 0), &["expert_used_count` is 0", "positive"]);
    refuse(
        experts(1 << 30, 1),
        &["expert_count` is 1073741824", "65536"],
    );
    refuse(experts(8, 2), &["blk.0.ffn_gate_inp.weight", "missing"]);
    refuse(
        set("llama.attention.sliding_window", "8".into()),
        &["llama.attention.sliding_window"],
    );
    refuse(
        set("llama.rope.scaling.type", "longrope".into()),
        &["rope.scaling.type` is longrope", "linear or yarn"],
    );
}

#[test]
fn every_tensor_is_needed_and_no_other() {
    for name in [
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_q.weight",
        "blk.0.ffn_norm.weight",
    ] {
        let without = |parts: &mut Parts| parts.tensors.retain(|tensor| tensor.0 != name);
        refuse(without, &[name, "missing"]);
    }
    let one_more = |parts: &mut Parts| {
        parts.put(
            "blk.0.attn_sinks.weight",
            DType::F32,
            &[4],
            floats([0.0; 4]),
        );
    };
    refuse(
        one_more,
        &[
            "blk.0.attn_sinks.weight",
            "not part of architecture `llama`",
        ],
    );
    // A layer more than is asked for, and one less.
    refuse(
        |parts| parts.set("llama.block_count", 2u32),
        &["blk.1.", "missing"],
    );
    let second = |parts: &mut Parts| {
        parts.put(
            "blk.1.attn_norm.weight",
            DType::F32,
            &[256],
            floats([1.0; 256]),
        );
    };
    refuse(second, &["blk.1.attn_norm.weight"]);
    // This one follows from the hyperparameters.
    let derived = |parts: &mut Parts| {
        let name = "blk.0.attn_rot_embd.rotary_emb.inv_freq";
        parts.put(name, DType::F32, &[32], floats([1.0; 32]));
    };
    assert!(write(derived).is_ok());
}

#[test]
fn shapes_are_those_of_the_hyperparameters() {
    let turned = |parts: &mut Parts| parts.tensor("blk.0.ffn_up.weight").2.reverse();
    refuse(turned, &["blk.0.ffn_up.weight", "[768, 256]", "[256, 768]"]);
    let long = |parts: &mut Parts| {
        parts.put("output_norm.weight", DType::F32, &[257], floats([1.0; 257]));
    };
    refuse(long, &["output_norm.weight", "[257]", "[256]"]);
    refuse(
        |parts| parts.set("llama.feed_forward_length", 512u32),
        &["blk.0.ffn_", "512"],
    );
    // A last dimension of 1 says nothing.
    let one = |parts: &mut Parts| parts.tensor("output_norm.weight").2.push(1);
    assert!(write(one).is_ok());
}

#[test]
fn formats_that_are_not_computed_are_named() {
    let q8 = |parts: &mut Parts| {
        parts.put(
            "blk.0.attn_q.weight",
            DType::Q8_K,
            &[256, 256],
            vec![0; 292 * 256],
        );
    };
    refuse(
        q8,
        &["blk.0.attn_q.weight", "Q8_K", "Q8_0, Q2_K, Q3_K, Q4_K"],
    );
    let norm = |parts: &mut Parts| {
        parts.put("output_norm.weight", DType::Q8_0, &[256], vec![0; 34 * 8]);
    };
    refuse(
        norm,
        &["output_norm.weight", "Q8_0", "that are: F32, F16, BF16"],
    );
}

#[test]
fn counts_are_positive_and_fit_together() {
    for name in [
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "context_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "rope.dimension_count",
    ] {
        let key = format!("llama.{name}");
        refuse(|parts| parts.set(&key, 0u32), &[&key, "positive"]);
        refuse(|parts| parts.set(&key, "many"), &[&key]);
        refuse(|parts| parts.set(&key, -1i32), &[&key]);
        // The context that a model was made for sizes nothing.
        if name != "context_length" {
            refuse(|parts| parts.set(&key, u32::MAX), &[]);
        }
    }
    let set = |name: &'static str, value: u32| {
        move |parts: &mut Parts| parts.set(&format!("llama.{name}"), value)
    };
    refuse(
        set("attention.head_count", 3),
        &["head_count_kv` is 2", "divisor"],
    );
    refuse(
        set("attention.head_count_kv", 3),
        &["head_count_kv` is 3", "divisor"],
    );
    refuse(
        set("attention.key_length", 63),
        &["key_length` is 63", "even"],
    );
    refuse(
        set("attention.value_length", 32),
        &["value_length` is 32", "keys"],
    );
    refuse(
        set("rope.dimension_count", 66),
        &["dimension_count` is 66", "width"],
    );
    refuse(
        set("rope.dimension_count", 63),
        &["dimension_count` is 63", "even"],
    );
    // Together they would be larger than any number.
    let all_large = |parts: &mut Parts| {
        for name in [
            "block_count",
            "attention.head_count",
            "attention.head_count_kv",
        ] {
            parts.set(&format!("llama.{name}"), u32::MAX);
        }
        parts.set("llama.attention.key_length", 1024u32);
    };
    refuse(all_large, &["head_count` is 4294967295", "at most"]);
    refuse(
        set("block_count", 1000),
        &["block_count` is 1000", "than the file has tensors"],
    );
}

#[test]
fn numbers_are_numbers() {
    for (key, values) in [
        (
            "attention.layer_norm_rms_epsilon",
            &[f32::NAN, -1e-5, 1.0][..],
        ),
        ("rope.freq_base", &[f32::NAN, 0.0, -1.0, f32::INFINITY]),
        ("rope.scaling.factor", &[f32::NAN, 0.0, -2.0]),
        ("rope.scale_linear", &[0.0]),
    ] {
        for &value in values {
            refuse(|parts| parts.set(&format!("llama.{key}"), value), &[key]);
        }
    }
    for factors in [vec![1.0; 31], vec![0.0; 32], vec![f32::NAN; 32]] {
        let shape = [factors.len() as u64];
        let put = |parts: &mut Parts| {
            parts.put("rope_freqs.weight", DType::F32, &shape, floats(factors));
        };
        refuse(put, &["rope_freqs.weight", "for each pair"]);
    }
}

#[test]
fn a_tokenizer_fits_into_the_embedding_table() {
    let fewer = |parts: &mut Parts| {
        let table = parts.tensor("token_embd.weight");
        table.2[1] -= 1;
        table.3.truncate(2047 * 34 * 8);
    };
    refuse(fewer, &["2048 tokens", "2047 rows"]);
    // Rows beyond the vocabulary fill up a table. Whatever is in them, no token is drawn from there.
    let more = |parts: &mut Parts| {
        let table = parts.tensor("token_embd.weight");
        table.2[1] += 16;
        let padding = table.3[..16 * 34 * 8].to_vec();
        table.3.extend(padding.iter().map(|byte| byte ^ 0x40));
    };
    assert!(write(more).is_ok());
}

#[track_caller]
fn expect_bad_logit(spoil: impl FnOnce(&mut Parts)) {
    let result = write(spoil);
    let is_reported = matches!(result, Err(Error::Sample(SampleError::BadLogit { .. })));
    assert!(is_reported, "{result:?}");
}

/// In a Q8_0 block the first two bytes are the scale.
const NAN_F16: [u8; 2] = [0xff, 0xff];

#[test]
fn weights_that_are_no_numbers_are_reported() {
    expect_bad_logit(|parts| parts.tensor("token_embd.weight").3[..2].copy_from_slice(&NAN_F16));
    // A float matrix takes the activations as they are.
    for value in [f32::NAN, f32::INFINITY] {
        expect_bad_logit(|parts| {
            parts.put(
                "output_norm.weight",
                DType::F32,
                &[256],
                floats([value; 256]),
            );
            let output = floats(vec![0.5; 256 * 2048]);
            parts.put("output.weight", DType::F32, &[256, 2048], output);
        });
    }
}

#[test]
fn what_comes_of_no_numbers_is_no_number() {
    for value in [f32::NAN, f32::INFINITY] {
        expect_bad_logit(|parts| {
            parts.put(
                "output_norm.weight",
                DType::F32,
                &[256],
                floats([value; 256]),
            );
        });
    }
    for name in ["attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        let name = format!("blk.0.{name}.weight");
        expect_bad_logit(|parts| parts.tensor(&name).3[..2].copy_from_slice(&NAN_F16));
    }
}

#[test]
fn a_context_without_end_is_refused_with_advice() {
    for n_ctx in [1 << 40, usize::MAX] {
        let Err(error) = load(Parts::new().bytes(), n_ctx) else {
            panic!("{n_ctx} tokens fit into memory");
        };
        let is_right = matches!(
            error,
            Error::Device(troika_device::Error::OutOfMemory { .. })
        );
        assert!(is_right && error.to_string().contains("--ctx"), "{error}");
    }
    // And one without room for a token is of no use, but it does no harm.
    let mut model = load(Parts::new().bytes(), 0).unwrap();
    assert!(matches!(run(&mut model), Err(Error::PromptTooLong { .. })));
}

/// Whatever byte of a file is damaged: an error, or an answer that means nothing. Never a panic.
#[test]
fn damaged_files_do_not_panic() {
    let sound = Parts::new().bytes();
    let file = ModelFile::from_bytes("sound", sound.clone()).unwrap();
    let header = file
        .tensors()
        .iter()
        .map(|tensor| tensor.offset)
        .min()
        .unwrap() as usize;
    let tokens = position(&sound, b"tokenizer.ggml.tokens");
    let directory = position(&sound, b"token_embd.weight");
    let (mut refused, mut ran) = (0, 0);
    for seed in 0..300 {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut below = |n: usize| (random.next_u64() % n as u64) as usize;
        let mut bytes = sound.clone();
        for _ in 0..1 + below(3) {
            // Where the numbers are, more often than in the words; sometimes among the weights.
            let at = match below(8) {
                0..3 => below(tokens),
                3..6 => directory + below(header - directory),
                6 => below(header),
                _ => below(bytes.len()),
            };
            damage(&mut bytes, at, &mut below);
        }
        // Seen only when the test fails, and then the last one is the culprit.
        println!("seed {seed}");
        match load(bytes, 64).and_then(|mut model| run(&mut model)) {
            Ok(_) => ran += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 50 && ran > 10, "{refused} refused, {ran} ran");
}

fn position(bytes: &[u8], what: &[u8]) -> usize {
    let mut windows = bytes.windows(what.len());
    let found = windows.position(|window| window == what);
    found.expect("the file has it")
}

fn damage(bytes: &mut Vec<u8>, at: usize, below: &mut dyn FnMut(usize) -> usize) {
    let at = at.min(bytes.len().saturating_sub(8));
    if bytes.len() < 16 {
        return;
    }
    match below(6) {
        0 => bytes[at] ^= 1 << below(8),
        1 => bytes[at] = below(256) as u8,
        2 => bytes[at..at + 4].fill([0, 0xff, 0x7f][below(3)]),
        3 => bytes[at..at + 8].fill([0, 0xff, 0x7f][below(3)]),
        4 => drop(bytes.drain(at..at + 1 + below(8))),
        _ => bytes.truncate(at + 8),
    }
}

/// A prompt of any kind goes to any model.
#[test]
fn special_tokens_in_a_prompt_do_no_harm() {
    let mut model = load(Parts::new().bytes(), 64).unwrap();
    let options = EncodeOptions {
        add_special: true,
        parse_special: true,
    };
    let prompt = model
        .tokenizer()
        .encode("<|story|><|story|>\0\u{fffd}", options);
    let on = &mut |_: troika_engine::Event<'_>| ControlFlow::Continue(());
    assert!(
        Session::new(&mut model)
            .generate(&prompt, &greedy(3), on)
            .is_ok()
    );
}
