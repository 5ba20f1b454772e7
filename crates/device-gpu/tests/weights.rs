//! Weights as kernels read them, against what their blocks stand for: every format, by way of the embedding lookup.

mod common;

use common::blocks::{Random, Scales};
use common::{error, gpu};
use troika_base::{Bytes, DType};
use troika_device_gpu::weights::{Format, embed};
use troika_device_gpu::{Matrix, Recorder, Scratch, Tensor};

/// Looks these rows up; `None` without a GPU.
fn look_up(random: &Random, tokens: &[u32], most: Option<Bytes>) -> Option<(Matrix, Vec<f32>)> {
    let gpu = gpu()?;
    let table = match most {
        None => Matrix::load(&gpu, &random.file, random.tensor()),
        Some(most) => Matrix::load_in_windows(&gpu, &random.file, random.tensor(), most),
    };
    let table = table.expect("a format with kernels");
    let scratch = Scratch::new(gpu.clone());
    let out = Tensor::new(&scratch, tokens.len(), table.n_in()).expect("room");
    let numbers = gpu
        .buffer_with(bytemuck::cast_slice(tokens), "tokens")
        .expect("room");
    let mut recorder = Recorder::new(gpu);
    embed(&mut recorder, &table, &numbers, tokens.len(), &out).expect("compiles");
    let bytes = recorder.read(out.buffer(), 0..out.bytes()).expect("runs");
    Some((table, bytemuck::pod_collect_to_vec(&bytes)))
}

fn rows(random: &Random, n_in: usize, tokens: &[u32]) -> Vec<f32> {
    let row = |&token: &u32| &random.values[token as usize * n_in..][..n_in];
    tokens.iter().flat_map(row).copied().collect()
}

/// Nine rows, so that the last eight of groups is not full, in an order that is not theirs.
const TOKENS: [u32; 11] = [8, 0, 7, 3, 3, 5, 1, 2, 6, 4, 8];

#[test]
fn every_format_gives_the_weights_of_its_blocks() {
    for (seed, format) in (1..).zip(Format::ALL) {
        for scales in [Scales::Usual, Scales::Extreme] {
            for n_in in [256, 768] {
                let random = Random::new(format.dtype(), 9, n_in, scales, seed);
                let Some((table, have)) = look_up(&random, &TOKENS, None) else {
                    return;
                };
                let want = rows(&random, n_in, &TOKENS);
                let error = error(&want, &have);
                assert!(error < 1e-6, "{:?}, {n_in}: {error}", table.format());
                for (want, have) in want.iter().zip(&have) {
                    let apart = (want - have).abs();
                    let most = 1e-6 * want.abs().max(f32::MIN_POSITIVE);
                    // Codes and minima cancel in both, with one rounding more in one of them.
                    let cancelled = scales == Scales::Usual && apart < 1e-6;
                    assert!(
                        apart <= most || cancelled || *want == *have,
                        "{:?}, {n_in}: {have} for {want}",
                        table.format()
                    );
                }
            }
        }
    }
}

#[test]
fn rows_of_blocks_may_end_within_an_eight() {
    for dtype in [DType::Q4_0, DType::Q5_1, DType::Q8_0, DType::MXFP4] {
        for n_in in [32, 96, 288] {
            let random = Random::new(dtype, 9, n_in, Scales::Usual, 3);
            let Some((_, have)) = look_up(&random, &TOKENS, None) else {
                return;
            };
            let error = error(&rows(&random, n_in, &TOKENS), &have);
            assert!(error < 1e-6, "{dtype}, {n_in}: {error}");
        }
    }
}

#[test]
fn rows_of_floats_may_end_within_a_group() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for n_in in [4, 36, 60, 260] {
            let random = Random::new(dtype, 9, n_in, Scales::Usual, 4);
            let Some((_, have)) = look_up(&random, &TOKENS, None) else {
                return;
            };
            let error = error(&rows(&random, n_in, &TOKENS), &have);
            assert!(error < 1e-6, "{dtype}, {n_in}: {error}");
        }
    }
}

#[test]
fn a_table_beyond_a_binding_is_in_windows() {
    for dtype in [DType::Q4_0, DType::Q6_K, DType::F16] {
        let n_out = 67;
        let random = Random::new(dtype, n_out, 256, Scales::Usual, 5);
        let tokens: Vec<u32> = (0..n_out as u32).rev().collect();
        let most = Bytes(16 * dtype.row_bytes(256).expect("whole") as u64 + 700);
        let Some((table, have)) = look_up(&random, &tokens, Some(most)) else {
            return;
        };
        assert!(table.windows().len() > 2, "{:?}", table.windows());
        for window in table.windows() {
            assert!(window.quants.bytes() <= most);
            assert!(window.scales.bytes() <= most);
        }
        assert!(error(&rows(&random, 256, &tokens), &have) < 1e-6, "{dtype}");
    }
}

#[test]
fn pieces_of_a_file_follow_each_other() {
    // Of 16 MiB each: two and a bit, and a part of one that several threads share.
    for (dtype, n_out, n_in) in [(DType::F32, 8900, 1024), (DType::Q6_K, 3001, 1024)] {
        let random = Random::new(dtype, n_out, n_in, Scales::Usual, 6);
        let tokens: Vec<u32> = (0..n_out as u32).step_by(97).collect();
        let Some((table, have)) = look_up(&random, &tokens, None) else {
            return;
        };
        assert_eq!(table.windows().len(), 1);
        // Q6_K has two bytes to spare for each 256 weights.
        let spare = if dtype == DType::Q6_K { 2 } else { 0 };
        let file = random.tensor().bytes + (n_out * n_in / 256 * spare) as u64;
        assert!((file..file + 64).contains(&table.bytes().0), "{dtype}");
        let error = error(&rows(&random, n_in, &tokens), &have);
        assert!(error < 1e-6, "{dtype}: {error}");
    }
}

#[test]
fn formats_without_kernels_are_refused() {
    let Some(gpu) = gpu() else { return };
    let random = Random::new(DType::F32, 4, 6, Scales::Usual, 7);
    let refused = Matrix::load(&gpu, &random.file, random.tensor()).expect_err("six is no four");
    assert!(
        refused.to_string().contains("`matrix` have 6 values"),
        "{refused}"
    );
    let mut writer = troika_gguf::Writer::new(troika_gguf::Metadata::default());
    writer.tensor_bytes("bytes", DType::I8, &[4], &[1, 2, 3, 4]);
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).expect("memory takes it");
    let file = troika_gguf::ModelFile::from_bytes("bytes", bytes).expect("just written");
    let refused = Matrix::load(&gpu, &file, &file.tensors()[0]).expect_err("no such kernel");
    assert!(
        refused.to_string().contains("F32, F16, BF16, Q4_0"),
        "{refused}"
    );
}
