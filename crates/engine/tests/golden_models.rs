//! Whole models against somebody else's truth.
#![expect(
    clippy::unwrap_used,
    reason = "golden files that are not what they should be fail the test"
)]

mod common;

use std::ops::ControlFlow;

use common::requantize::requantize;
use common::{cpu, generate, greedy, load, shared, stories};
use serde_json::Value;
use troika_base::{DType, TokenId};
use troika_engine::Session;
use troika_engine::tokenizer::EncodeOptions;
use troika_gguf::ModelFile;

/// The text that the model's author published for greedy sampling, token by token.
#[test]
fn stories260k_writes_the_published_text() {
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
    let file = ModelFile::open(&model).unwrap();
    for threads in [1, 2, 3] {
        let mut model = load(&file, &cpu(threads));
        let (tokens, text, _) = generate(
            &mut Session::new(&mut model),
            &ids[..1],
            &greedy(ids.len() - 1),
        );
        assert_eq!(tokens, ids[1..], "{threads} threads");
        assert_eq!(text.trim(), want.trim(), "{threads} threads");
    }
}

/// What llama.cpp computes for the story model in several formats; `bench/golden/make` writes it.
fn golden() -> Value {
    serde_json::from_str(include_str!("golden/llama.cpp.json")).unwrap()
}

fn ids(value: &Value) -> Vec<TokenId> {
    let id = |id: &Value| TokenId(id.as_u64().unwrap() as u32);
    value.as_array().unwrap().iter().map(id).collect()
}

/// The largest logits after every token of a prompt, and the greedy tokens after it.
fn agrees_with_llama_cpp(file: &ModelFile, golden: &Value) {
    let mut model = load(file, &cpu(2));
    let mut session = Session::new(&mut model);
    let prompt = ids(&golden["prompt"]);
    let logits = session.score(&prompt).unwrap();
    let mut worst = 0.0f64;
    for (row, want) in logits.rows().zip(golden["top"].as_array().unwrap()) {
        let want = want.as_array().unwrap();
        let largest = want[0][1].as_f64().unwrap().abs();
        for pair in want {
            let have = f64::from(row[pair[0].as_u64().unwrap() as usize]);
            worst = worst.max((have - pair[1].as_f64().unwrap()).abs() / largest);
        }
        // No other token may stand above the tenth.
        let tenth = want[9][1].as_f64().unwrap() + largest * 1e-3;
        assert!(row.iter().filter(|&&x| f64::from(x) > tenth).count() < 10);
    }
    assert!(worst < 1e-3, "logits differ by {worst:.2e} of the largest");
    let mut next = argmax(logits.last().unwrap());
    for (i, want) in ids(&golden["greedy"]).into_iter().enumerate() {
        assert_eq!(next, want, "greedy token {i}");
        next = argmax(session.decode(next).unwrap());
    }
}

fn argmax(logits: &[f32]) -> TokenId {
    let largest = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
    TokenId(logits.iter().enumerate().max_by(largest).unwrap().0 as u32)
}

#[test]
fn f32_logits_and_greedy_text_are_llama_cpps() {
    let golden = golden();
    let file = ModelFile::from_bytes("stories", requantize(&stories(), DType::F32)).unwrap();
    agrees_with_llama_cpp(&file, &golden["stories-F32"]);
    if let Some(path) = shared("llm/stories260K-f32.gguf") {
        agrees_with_llama_cpp(&ModelFile::open(&path).unwrap(), &golden["stories260K-f32"]);
    }
}

/// Formats lose what they lose; the kernels must not lose more.
#[test]
fn perplexity_is_llama_cpps_in_every_format() {
    let golden = golden();
    let n_ctx = golden["window"].as_u64().unwrap() as usize;
    for (format, want) in golden["perplexity"].as_object().unwrap() {
        let dtype = DType::from_name(format).unwrap();
        let file = ModelFile::from_bytes("stories", requantize(&stories(), dtype)).unwrap();
        let mut model = load(&file, &cpu(2));
        let options = EncodeOptions {
            add_special: true,
            parse_special: false,
        };
        let tokens = model
            .tokenizer()
            .encode(include_str!("golden/stories.txt"), options);
        let have = model
            .perplexity(&tokens, n_ctx, &mut |_, _, _| ControlFlow::Continue(()))
            .unwrap();
        assert_eq!(have.tokens as u64, want["tokens"].as_u64().unwrap());
        let want = want["perplexity"].as_f64().unwrap();
        let ratio = have.value / want;
        assert!(
            (ratio - 1.0).abs() < 0.005,
            "{format}: {} is {ratio:.5} of {want}",
            have.value
        );
    }
}
