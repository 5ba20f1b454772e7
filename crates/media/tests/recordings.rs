//! Real models on real recordings, against what ONNX Runtime says of them and what their makers published.
//!
//! Models and recordings are shared data beside the repository; without it the tests are skipped. What Silero's model is
//! to say, `bench/golden/silero` has written.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::shared;
use serde::Deserialize;
use troika_device_npu::exec::{self, Executor, Wish};
use troika_media::audio::{
    Denoiser, Error, Event, Kind, Reader, Resampler, Segment, VoiceActivity, read,
};

/// The reference: plain Rust, which is always there.
fn open(path: &Path) -> Box<dyn Executor> {
    let mut wish = Wish::parse("cpu0", "rten").unwrap();
    wish.threads = std::num::NonZero::new(1);
    exec::open(path, &wish).unwrap().executor
}

fn samples(path: &Path) -> Vec<f32> {
    let sound = read(Reader::open(path).unwrap(), 120).unwrap();
    assert_eq!(sound.rate, 16_000);
    sound.samples
}

#[derive(Deserialize)]
struct Golden {
    stride: usize,
    recordings: Vec<Recording>,
}

#[derive(Deserialize)]
struct Recording {
    file: String,
    samples: usize,
    segments: Vec<(u64, u64)>,
    probabilities: Vec<f32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/silero.json")).unwrap()
}

/// All that is heard in a sound which comes in pieces of so many samples.
fn listen(voice: &mut VoiceActivity, samples: &[f32], piece: usize) -> (Vec<f32>, Vec<Segment>) {
    let mut events = Vec::new();
    for piece in samples.chunks(piece) {
        events.append(&mut voice.push(piece).unwrap());
    }
    events.append(&mut voice.finish().unwrap());
    let probability = |event: &Event| match event {
        Event::Frame { probability, .. } => Some(*probability),
        _ => None,
    };
    let segment = |event: &Event| match event {
        Event::Ended(segment) => Some(*segment),
        _ => None,
    };
    (
        events.iter().filter_map(probability).collect(),
        events.iter().filter_map(segment).collect(),
    )
}

#[track_caller]
fn check_against_golden(model: &str) {
    let Some(model) = shared(&format!("audio/{model}")) else {
        return;
    };
    let mut voice = VoiceActivity::new(open(&model)).unwrap();
    let golden = golden();
    let mut worst: f32 = 0.0;
    for recording in &golden.recordings {
        let Some(path) = shared(&format!("audio/{}", recording.file)) else {
            return;
        };
        let samples = samples(&path);
        assert_eq!(samples.len(), recording.samples, "{}", recording.file);
        let (probabilities, segments) = listen(&mut voice, &samples, 1000);
        assert_eq!(probabilities.len(), samples.len().div_ceil(512));
        let kept: Vec<_> = probabilities.iter().step_by(golden.stride).collect();
        assert_eq!(kept.len(), recording.probabilities.len());
        for (have, want) in std::iter::zip(kept, &recording.probabilities) {
            worst = worst.max((have - want).abs());
        }
        let have: Vec<_> = segments
            .iter()
            .map(|segment| (segment.start, segment.end))
            .collect();
        assert_eq!(have, recording.segments, "{}", recording.file);
        assert!(segments.iter().all(|segment| segment.probability > 0.5));
    }
    assert!(worst < 1e-4, "probabilities differ by {worst}");
}

#[test]
fn silero_says_what_it_says_by_onnx_runtime() {
    check_against_golden("silero_vad.onnx");
}

#[test]
fn so_does_its_model_for_16_khz_alone() {
    check_against_golden("silero_vad_16k_op15.onnx");
}

#[test]
fn speech_is_found_at_other_rates_and_in_any_pieces() {
    let (Some(model), Some(path)) = (
        shared("audio/silero_vad_16k_op15.onnx"),
        shared("audio/jfk.wav"),
    ) else {
        return;
    };
    let mut voice = VoiceActivity::new(open(&model)).unwrap();
    let samples = samples(&path);
    let (_, want) = listen(&mut voice, &samples, 7);
    assert_eq!(want, listen(&mut voice, &samples, 100_000).1);
    for rate in [44_100, 48_000] {
        let there = resample(&samples, 16_000, rate);
        let back = resample(&there, rate, 16_000);
        let (_, have) = listen(&mut voice, &back, 4096);
        assert_eq!(have.len(), want.len(), "{rate}");
        for (have, want) in std::iter::zip(have, &want) {
            // Two frames.
            assert!(
                have.start.abs_diff(want.start) <= 1024,
                "{rate}: {have:?} {want:?}"
            );
            assert!(
                have.end.abs_diff(want.end) <= 1024,
                "{rate}: {have:?} {want:?}"
            );
        }
    }
}

fn resample(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
    let mut resampler = Resampler::new(from, to).unwrap();
    let mut out = resampler.push(samples);
    out.append(&mut resampler.finish());
    out
}

/// Pearson's.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let mean = |x: &[f32]| x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&a, &b) in std::iter::zip(a, b) {
        let (a, b) = (f64::from(a) - mean_a, f64::from(b) - mean_b);
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    ab / (aa * bb).sqrt()
}

#[test]
fn speech_without_noise_is_as_gtcrn_published_it() {
    let (Some(model), Some(mix), Some(published)) = (
        shared("audio/gtcrn_simple.onnx"),
        shared("audio/mix.wav"),
        shared("audio/enh_stream.wav"),
    ) else {
        return;
    };
    let mut denoiser = Denoiser::new(open(&model)).unwrap();
    let (mix, published) = (samples(&mix), samples(&published));
    let mut speech = Vec::new();
    for piece in mix.chunks(1000) {
        speech.append(&mut denoiser.push(piece).unwrap());
    }
    speech.append(&mut denoiser.finish().unwrap());
    assert_eq!(speech.len(), mix.len());
    // Theirs ends at a whole window.
    let have = correlation(&speech[..published.len()], &published);
    assert!(have >= 0.9999, "{have}");
    // The noise was there before.
    assert!(correlation(&mix[..published.len()], &published) < 0.99);
}

#[test]
fn kinds_are_recognised_and_others_refused() {
    for (file, want) in [
        ("silero_vad.onnx", Some(Kind::SileroVad)),
        ("silero_vad_16k_op15.onnx", Some(Kind::SileroVad)),
        ("gtcrn_simple.onnx", Some(Kind::Gtcrn)),
        ("../vision/mnist.onnx", None),
    ] {
        let Some(path) = shared(&format!("audio/{file}")) else {
            return;
        };
        assert_eq!(Kind::of(&*open(&path)), want, "{file}");
        if want != Some(Kind::Gtcrn) {
            let refused = Denoiser::new(open(&path)).err();
            assert!(matches!(refused, Some(Error::OtherModel { .. })), "{file}");
        }
    }
}
