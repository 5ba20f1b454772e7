//! A trained model on the GPU: against the published text, against llama.cpp, and against the CPU.
#![expect(
    clippy::unwrap_used,
    reason = "golden files that are not what they should be fail the test"
)]

mod common;
#[path = "../../engine/tests/common/mod.rs"]
mod models;

use std::ops::ControlFlow;
use std::sync::Arc;

use models::requantize::requantize;
use models::{cpu, generate, greedy, load, shared, stories};
use serde_json::Value;
use troika_base::{DType, TokenId};
use troika_device::{Device, LoadOptions, Resident};
use troika_device_gpu::matmul::{Formats, Tuning};
use troika_engine::tokenizer::Tokenizer;
use troika_engine::{CpuDevice, Divergence, Session, Text, divergence};
use troika_gguf::ModelFile;

/// The text that the model's author published for greedy sampling, token by token.
#[test]
fn stories260k_writes_the_published_text() {
    let Some(gpu) = common::device() else { return };
    let (Some(model), Some(ids), Some(text)) = (
        shared("llm/stories260K-f32.gguf"),
        shared("llm/golden-greedy-ids.json"),
        shared("llm/golden-greedy.txt"),
    ) else {
        return;
    };
    let ids: Vec<u32> = serde_json::from_slice(&std::fs::read(ids).unwrap()).unwrap();
    let ids: Vec<TokenId> = ids.into_iter().map(TokenId).collect();
    let want = std::fs::read_to_string(text).unwrap();
    let mut model = load(&ModelFile::open(&model).unwrap(), &gpu);
    let (tokens, text, _) = generate(
        &mut Session::new(&mut model),
        &ids[..1],
        &greedy(ids.len() - 1),
    );
    assert_eq!(tokens, ids[1..]);
    assert_eq!(text.trim(), want.trim());
}

fn ids(value: &Value) -> Vec<TokenId> {
    let id = |id: &Value| TokenId(id.as_u64().unwrap() as u32);
    value.as_array().unwrap().iter().map(id).collect()
}

/// What llama.cpp computes for the model in the program: the largest logits after every token of a prompt.
#[test]
fn f32_logits_are_llama_cpps() {
    let Some(gpu) = common::device() else { return };
    let golden: Value =
        serde_json::from_str(include_str!("../../engine/tests/golden/llama.cpp.json")).unwrap();
    let golden = &golden["stories-F32"];
    let file = ModelFile::from_bytes("stories", requantize(&stories(), DType::F32)).unwrap();
    let mut model = load(&file, &gpu);
    let mut session = Session::new(&mut model);
    let logits = session.score(&ids(&golden["prompt"])).unwrap();
    let mut worst = 0.0f64;
    for (row, want) in logits.rows().zip(golden["top"].as_array().unwrap()) {
        let largest = want[0][1].as_f64().unwrap().abs();
        for pair in want.as_array().unwrap() {
            let have = f64::from(row[pair[0].as_u64().unwrap() as usize]);
            worst = worst.max((have - pair[1].as_f64().unwrap()).abs() / largest);
        }
    }
    assert!(worst < 1e-3, "logits differ by {worst:.2e} of the largest");
}

fn resident(file: &ModelFile, device: &dyn Device) -> Box<dyn Resident> {
    let options = LoadOptions::new(128);
    let loaded = device.load(file, options, &mut |_| ControlFlow::Continue(()));
    loaded.unwrap()
}

/// How far a device's predictions are from those of the weights that a file says, written out as floats and computed by
/// the CPU without any rounding of activations.
fn from_what_it_says(file: &ModelFile, device: &dyn Device) -> Divergence {
    let said = ModelFile::from_bytes("stories", requantize(file, DType::F32)).unwrap();
    let (mut want, mut have) = (resident(&said, &cpu(2)), resident(file, device));
    let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
    let text = Text::calibration(&tokenizer).first(64);
    let found = divergence(&mut *want, &mut *have, &text, &mut |_, _| {
        ControlFlow::Continue(())
    });
    found.unwrap()
}

fn stories_in(dtype: DType) -> ModelFile {
    ModelFile::from_bytes("stories", requantize(&stories(), dtype)).unwrap()
}

/// A GPU is as near to what a file's weights say as the CPU is, or nearer: both may round activations to bytes, each in
/// its own way, and cooperative matrices take them as halves, a thousand times finer. So the two are not compared with each
/// other: where a token is nearly as likely as another, what the CPU rounds decides.
#[test]
fn every_format_predicts_as_well_as_on_the_cpu() {
    let Some(gpu) = common::device() else { return };
    for dtype in [
        DType::F16,
        DType::Q4_0,
        DType::Q8_0,
        DType::Q4_K,
        DType::Q6_K,
    ] {
        let file = stories_in(dtype);
        // Where there is a matrix unit, the CPU does not round to bytes.
        let of_cpu = from_what_it_says(&file, &CpuDevice::batch_invariant(2));
        let of_gpu = from_what_it_says(&file, &gpu);
        assert!(
            of_gpu.kl_mean < 1.5 * of_cpu.kl_mean.max(1e-6) && of_gpu.agreement > 0.95,
            "{dtype}: {of_gpu:?}, and the CPU {of_cpu:?}"
        );
    }
}

/// Where activations are not rounded to bytes, a GPU computes what the weights of a file say: whatever else is between it
/// and the CPU is the rounding of floats, and of halves in tiles that are kept as such.
#[test]
fn without_rounded_activations_it_computes_what_the_weights_say() {
    let Some(gpu) = common::gpu() else { return };
    let floats = Tuning {
        packed: Formats::NONE,
        half: false,
        coop: None,
        ..Tuning::default_for(gpu.caps())
    };
    let halves = Tuning {
        half: true,
        ..floats
    };
    let matrices = Tuning {
        coop: Tuning::default_for(gpu.caps()).coop,
        ..floats
    };
    let mut ways = vec![(floats, 1e-6)];
    ways.extend(gpu.caps().f16.then_some((halves, 5e-6)));
    ways.extend(matrices.coop.map(|_| (matrices, 5e-6)));
    for (tuning, most) in ways {
        let device = common::device_with(Arc::clone(&gpu), tuning);
        for dtype in [DType::Q4_0, DType::Q8_0, DType::Q4_K, DType::Q6_K] {
            let found = from_what_it_says(&stories_in(dtype), &device);
            assert!(
                found.kl_mean < most && found.agreement == 1.0,
                "{dtype} by {tuning:?}: {found:?}"
            );
        }
    }
}
