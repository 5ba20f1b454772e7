//! Embeddings of whole models: against somebody else's truth, and against themselves in other batches.
#![expect(
    clippy::unwrap_used,
    reason = "golden files that are not what they should be fail the test"
)]

mod common;

use std::ops::ControlFlow;

use common::requantize::requantize;
use common::{cpu, encode, load, load_with, shared, stories};
use serde_json::Value;
use troika_base::{DType, TokenId};
use troika_device::{LoadOptions, Output, PAGE_TOKENS};
use troika_engine::{Error, Model, Pooler, Pooling, Sequence, Step};
use troika_gguf::{ModelFile, Writer};

/// What llama.cpp computes; `bench/golden/make` writes it.
fn golden() -> Value {
    serde_json::from_str(include_str!("golden/embeddings.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn embed(model: &mut Model, texts: &[Vec<TokenId>], pooling: Pooling) -> Vec<Vec<f32>> {
    let texts: Vec<&[TokenId]> = texts.iter().map(Vec::as_slice).collect();
    let embedded = model.embed(&texts, pooling, &mut |_| ControlFlow::Continue(()));
    embedded.unwrap()
}

fn agrees_with_llama_cpp(file: &ModelFile, name: &str) {
    let golden = golden();
    let mut model = load(file, &cpu(2));
    let texts = golden["texts"].as_array().unwrap();
    let texts: Vec<_> = texts
        .iter()
        .map(|text| encode(&model, text.as_str().unwrap()))
        .collect();
    for (pooling, key) in [(Pooling::Mean, "mean"), (Pooling::Last, "last")] {
        let want = golden[name][key].as_array().unwrap();
        let have = embed(&mut model, &texts, pooling);
        assert_eq!(have.len(), want.len());
        for ((have, want), tokens) in have.iter().zip(want).zip(&texts) {
            let ids: Vec<_> = tokens.iter().map(|token| f64::from(token.0)).collect();
            assert_eq!(ids, numbers(&want["tokens"]));
            let want = numbers(&want["embedding"]);
            assert_eq!(have.len(), want.len());
            let pairs = || have.iter().map(|&x| f64::from(x)).zip(&want);
            let cosine: f64 = pairs().map(|(have, want)| have * want).sum();
            assert!(cosine > 0.9999, "{name}, {key}: the cosine is {cosine}");
            let apart = pairs()
                .map(|(have, want)| (have - want).abs())
                .fold(0.0, f64::max);
            assert!(apart < 1e-3, "{name}, {key}: {apart:.1e} apart");
        }
    }
}

#[test]
fn embeddings_are_llama_cpps() {
    let file = ModelFile::from_bytes("stories", requantize(&stories(), DType::F32)).unwrap();
    agrees_with_llama_cpp(&file, "stories-F32");
    if let Some(path) = shared("llm/stories260K-f32.gguf") {
        agrees_with_llama_cpp(&ModelFile::open(&path).unwrap(), "stories260K-f32");
    }
}

/// Texts of all lengths: many in one step, one over several steps, more than the cache holds at once.
#[test]
fn embeddings_do_not_depend_on_what_stands_beside() {
    let mut model = load_with(&stories(), &cpu(2), 20 * PAGE_TOKENS);
    let story = encode(&model, &"Once upon a time there was a dog. ".repeat(80));
    let texts: Vec<Vec<TokenId>> = [1, 33, 20 * PAGE_TOKENS, 64, 7, 530, 2, 2, 300]
        .iter()
        .enumerate()
        .map(|(i, &n)| story[i..i + n].to_vec())
        .collect();
    for pooling in [Pooling::Mean, Pooling::First, Pooling::Last] {
        let together = embed(&mut model, &texts, pooling);
        assert_eq!(model.n_free(), model.n_ctx(), "nothing is kept");
        for (text, together) in texts.iter().zip(&together) {
            let alone = embed(&mut model, std::slice::from_ref(text), pooling);
            let cosine: f32 = alone[0].iter().zip(together).map(|(a, b)| a * b).sum();
            // Equal but on a matrix unit, which takes over from a number of tokens on and rounds in its own way.
            assert!(
                cosine > 0.999,
                "{pooling:?}, {} tokens: {cosine}",
                text.len()
            );
        }
    }
}

/// As a server does: a text is embedded in pieces while another one is written.
#[test]
fn embeddings_and_answers_share_steps() {
    let mut model = load(&stories(), &cpu(2));
    let text = encode(&model, "Tom and his big dog went to the park to play.");
    let prompt = encode(&model, "Once upon a time");
    let want = embed(&mut model, std::slice::from_ref(&text), Pooling::Mean);
    let mut alone = Sequence::default();
    let logits = |model: &mut Model, steps: &mut [Step<'_>]| model.step(steps).unwrap();
    let want_logits = logits(
        &mut model,
        &mut [Step {
            sequence: &mut alone,
            tokens: &prompt,
            output: Output::LastLogits,
        }],
    );

    let (mut embedded, mut written) = (Sequence::default(), Sequence::default());
    let mut pooler = Pooler::new(Pooling::Mean);
    let (first, second) = text.split_at(5);
    for (tokens, is_end) in [(first, false), (second, true)] {
        let output = pooler.output(is_end);
        written.truncate(0);
        let outputs = logits(
            &mut model,
            &mut [
                Step {
                    sequence: &mut written,
                    tokens: &prompt,
                    output: Output::LastLogits,
                },
                Step {
                    sequence: &mut embedded,
                    tokens,
                    output,
                },
            ],
        );
        pooler.add(outputs.hidden.rows());
        let (have, want) = (
            outputs.logits.last().unwrap(),
            want_logits.logits.last().unwrap(),
        );
        let apart = have
            .iter()
            .zip(want)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(apart < 0.3, "{apart}");
    }
    let have = pooler.finish().unwrap();
    let cosine: f32 = have.iter().zip(&want[0]).map(|(a, b)| a * b).sum();
    assert!(cosine > 0.999, "{cosine}");
}

#[test]
fn what_cannot_be_embedded_is_refused_at_once() {
    let mut model = load_with(&stories(), &cpu(1), 2 * PAGE_TOKENS);
    let text = encode(&model, &"a big dog ".repeat(40));
    let mut refused = |texts: &[&[TokenId]]| {
        let mut steps = 0;
        let result = model.embed(texts, Pooling::Last, &mut |_| {
            steps += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((steps, model.n_free()), (0, 2 * PAGE_TOKENS));
        result.unwrap_err()
    };
    assert!(matches!(refused(&[&text[..3], &[]]), Error::EmptyPrompt));
    let long = &text[..2 * PAGE_TOKENS + 1];
    assert!(matches!(
        refused(&[&text[..3], long]),
        Error::PromptTooLong {
            prompt: 65,
            context: 64
        }
    ));
    assert!(matches!(
        refused(&[&text[..3], &[TokenId(u32::MAX)]]),
        Error::Device(_)
    ));
    let done = model.embed(&[&text[..60], &text[..60]], Pooling::Last, &mut |_| {
        ControlFlow::Break(())
    });
    assert_eq!(done.unwrap().len(), 1);
}

#[test]
fn the_file_says_how_to_pool() {
    let stories = stories();
    let tensors = stories
        .tensors()
        .iter()
        .map(|tensor| stories.read_all(tensor).unwrap());
    let tensors: Vec<Vec<u8>> = tensors.collect();
    let pooling = |value: Option<u32>| {
        let mut bytes = Vec::new();
        let mut metadata = stories.metadata().clone();
        if let Some(value) = value {
            metadata.insert("llama.pooling_type", value);
        }
        let mut writer = Writer::new(metadata);
        for (tensor, bytes) in stories.tensors().iter().zip(&tensors) {
            writer.tensor_bytes(&tensor.name, tensor.dtype, &tensor.shape, bytes);
        }
        writer.write_to(&mut bytes).unwrap();
        let file = ModelFile::from_bytes("stories", bytes).unwrap();
        let options = LoadOptions::new(32);
        Model::load(&file, &cpu(1), options, &mut |_| ControlFlow::Continue(()))
            .map(|model| model.pooling())
    };
    for (value, want) in [
        (None, Pooling::Last),
        (Some(0), Pooling::Last),
        (Some(1), Pooling::Mean),
        (Some(2), Pooling::First),
        (Some(3), Pooling::Last),
    ] {
        assert_eq!(pooling(value).unwrap(), want, "{value:?}");
    }
    let error = pooling(Some(4)).unwrap_err().to_string();
    assert!(error.contains("`llama.pooling_type` is 4"), "{error}");
}
