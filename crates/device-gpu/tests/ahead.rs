//! A GPU that goes on before it is asked writes the same texts.
#![expect(
    clippy::unwrap_used,
    reason = "an answer that does not come fails the test"
)]

mod common;
#[path = "../../engine/tests/common/mod.rs"]
mod models;

use std::ops::ControlFlow;
use std::sync::Arc;

use models::requantize::requantize;
use models::{encode, generate, greedy, load_with, shared, stories};
use troika_base::{DType, TokenId};
use troika_device::conformance::{Stepped, small_model};
use troika_device::{
    Batch, Cancelled, Device, Error, LoadOptions, LoadProgress, Output, Resident, Sequence,
};
use troika_device_gpu::{Gpu, Options, find};
use troika_engine::{Event, GenerateOptions, Session};
use troika_gguf::ModelFile;

/// A device that is another one, and never goes on unasked.
struct Asked<D>(D);

impl<D: Device> Device for Asked<D> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn description(&self) -> String {
        self.0.description()
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        let inner = self.0.load(file, options, progress)?;
        let step = |inner: &mut dyn Resident, batch: &Batch<'_>| inner.step(batch);
        Ok(Box::new(Stepped::new(inner, step)))
    }
}

/// Tokens, the bits of their log-probabilities, and text of answers that follow each other in one session.
fn answers(
    file: &ModelFile,
    device: &dyn Device,
    asked: &[(&str, GenerateOptions)],
) -> Vec<String> {
    let mut model = load_with(file, device, 64);
    let prompts: Vec<_> = asked.iter().map(|(text, _)| encode(&model, text)).collect();
    let mut session = Session::new(&mut model);
    let mut all = Vec::new();
    for (prompt, (_, options)) in prompts.iter().zip(asked) {
        let mut said = String::new();
        let summary = session.generate(prompt, options, &mut |event| {
            match event {
                Event::Token { sampled, top } => {
                    let bits = sampled.logprob.to_bits();
                    said += &format!("{}:{bits:x}:{top:?} ", sampled.token);
                }
                Event::Text(text) => said += &format!("{text:?} "),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        said += &format!("{:?}", summary.unwrap().finish);
        all.push(said);
    }
    all
}

/// All ways in which an answer ends, and ways of choosing in which the likeliest token is not always the next one.
#[test]
fn texts_are_those_of_a_gpu_that_waits_to_be_asked() {
    let Some(ahead) = common::device() else {
        return;
    };
    let Some(asked) = common::device().map(Asked) else {
        return;
    };
    let once = "Once upon a time";
    let with_stop = |stop: &str| GenerateOptions {
        stop: vec![stop.to_owned()],
        ..greedy(50)
    };
    let mut sampled = greedy(20);
    sampled.sampling.temperature = 1.0;
    sampled.sampling.seed = Some(7);
    let mut penalised = greedy(20);
    penalised.sampling.repeat_penalty = 1.3;
    let cases = [
        (once, greedy(1)),
        (once, greedy(2)),
        (once, greedy(3)),
        (once, greedy(40)),
        ("The", with_stop("park")),
        (once, with_stop(".")),
        // To the end of the context, as often as it takes.
        (once, greedy(1000)),
        (
            once,
            GenerateOptions {
                ignore_end: true,
                top_logprobs: 3,
                ..greedy(50)
            },
        ),
        (once, sampled),
        (once, penalised),
        ("Lily", greedy(20)),
    ];
    let file = ModelFile::from_bytes("stories", requantize(&stories(), DType::Q4_0)).unwrap();
    let want = answers(&file, &asked, &cases);
    let have = answers(&file, &ahead, &cases);
    for (i, (want, have)) in want.iter().zip(&have).enumerate() {
        assert_eq!(have, want, "answer {i}");
    }
}

/// A story as the CPU tells it, to the model's own end of it if it finds one.
#[test]
fn a_story_is_the_cpus_to_its_end() {
    let (Some(gpu), Some(file)) = (common::device(), shared("llm/stories260K-f32.gguf")) else {
        return;
    };
    let file = ModelFile::open(&file).unwrap();
    let story = |device: &dyn Device| {
        let mut model = load_with(&file, device, 512);
        let prompt = encode(&model, "");
        generate(&mut Session::new(&mut model), &prompt, &greedy(300))
    };
    let (want, have) = (story(&models::cpu(2)), story(&gpu));
    assert_eq!((want.0, want.1), (have.0, have.1));
    assert_eq!(want.2.finish, have.2.finish);
}

fn fresh() -> Option<Arc<Gpu>> {
    common::gpu()?;
    // One whose submissions are this test's alone.
    let found = find().into_iter().next()?;
    Some(found.open("gpu0", Options { checked: true }).unwrap())
}

/// A step that was begun is only waited for: nothing more is handed to the GPU.
#[test]
fn what_was_begun_is_not_begun_again() {
    let Some(gpu) = fresh() else { return };
    let device = common::device_of(Arc::clone(&gpu));
    let options = LoadOptions::new(64);
    let mut resident = device
        .load(&small_model(), options, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    let mut submissions = |token, position, ahead| {
        let sequence = Sequence {
            tokens: &[token],
            position,
            pages: &[0, 1],
            output: Output::LastLogits,
        };
        let batch = Batch {
            sequences: &[sequence],
        };
        let before = gpu.submissions();
        let outputs = match ahead {
            true => resident.step_ahead(&batch),
            false => resident.step(&batch),
        };
        let logits = outputs.unwrap().logits.values;
        let best = logits.iter().fold(f32::MIN, |best, &x| best.max(x));
        let best = logits.iter().position(|&x| x == best).unwrap();
        (TokenId(best as u32), gpu.submissions() - before)
    };
    let (first, n_first) = submissions(TokenId(3), 0, true);
    let (second, n_second) = submissions(first, 1, true);
    assert!(n_first > n_second && n_second > 0, "two steps, then one");
    let (third, n_third) = submissions(second, 2, false);
    assert_eq!(n_third, 0, "all of it was under way");
    // What was begun in vain is done anew.
    let (likeliest, _) = submissions(third, 3, true);
    let other = TokenId(likeliest.0 ^ 1);
    let (_, n_other) = submissions(other, 4, false);
    assert!(n_other > 0);
}
