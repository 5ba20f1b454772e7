//! What the tests of whole models share.
#![allow(dead_code, reason = "every test takes what it needs")]

pub(crate) mod requantize;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use troika_base::TokenId;
use troika_device::{Device, LoadOptions};
use troika_engine::sampler::SamplingParams;
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{CpuDevice, Event, GenerateOptions, Model, Session, Summary};
use troika_gguf::ModelFile;

/// A file of the shared data, or `None` with a message where there is none.
#[expect(clippy::print_stdout, reason = "a test says what it skips")]
pub(crate) fn shared(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TROIKA_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join("data").join(below);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

/// The model that is in the program.
pub(crate) fn stories() -> ModelFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/assets/stories.gguf");
    ModelFile::open(&path).expect("the story model is in the repository")
}

/// The CPU on so many threads.
pub(crate) fn cpu(threads: usize) -> CpuDevice {
    CpuDevice::new(threads).expect("a kernel set that this CPU runs")
}

/// A model that is ready, with a context of 512.
pub(crate) fn load(file: &ModelFile, device: &dyn Device) -> Model {
    load_with(file, device, 512)
}

/// A model that is ready, with a context of `n_ctx`.
pub(crate) fn load_with(file: &ModelFile, device: &dyn Device, n_ctx: usize) -> Model {
    Model::load(file, device, LoadOptions::new(n_ctx), &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("a good model")
}

/// A text's tokens, with the one that begins it.
pub(crate) fn encode(model: &Model, text: &str) -> Vec<TokenId> {
    let options = EncodeOptions {
        add_special: true,
        parse_special: false,
    };
    model.tokenizer().encode(text, options)
}

/// Greedy options.
pub(crate) fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens: Some(max_tokens),
        sampling: SamplingParams::greedy(),
        ..GenerateOptions::default()
    }
}

/// An answer: its tokens, its text and its numbers.
pub(crate) fn generate(
    session: &mut Session<'_>,
    prompt: &[TokenId],
    options: &GenerateOptions,
) -> (Vec<TokenId>, String, Summary) {
    let (mut tokens, mut text) = (Vec::new(), String::new());
    let summary = session.generate(prompt, options, &mut |event| {
        match event {
            Event::Token { sampled, .. } => tokens.push(sampled.token),
            Event::Text(more) => text.push_str(more),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    (tokens, text, summary.expect("an answer"))
}
