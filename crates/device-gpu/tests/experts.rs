//! Products of many experts in one dispatch, against plain sums.

mod common;

use common::blocks::{Random, Scales};
use common::{error, gpu, noise};
use troika_base::{Bytes, DType};
use troika_device_gpu::matmul::experts::Experts;
use troika_device_gpu::matmul::{Formats, TileShape, Tuning};
use troika_device_gpu::moe::Routes;
use troika_device_gpu::weights::Format;
use troika_device_gpu::{Matrix, Recorder, Scratch, Tensor};

const N_EXPERT: usize = 6;
const N_OUT: usize = 44;
const N_IN: usize = 96;

/// Experts of each token, all different; nobody asks expert 3, and many ask expert 0.
fn chosen(n_tok: usize, n_used: usize) -> Vec<u32> {
    let asked = [0, 4, 1, 5, 2];
    let places = (0..n_tok).flat_map(|token| (0..n_used).map(move |i| (token, i)));
    let expert = |(token, i): (usize, usize)| match i {
        0 => 0,
        _ => asked[1 + (token * 3 + i) % 4],
    };
    places.map(expert).collect()
}

/// How far off the products are; `None` without a GPU.
fn check(dtype: DType, n_tok: usize, n_used: usize, shared: bool, tune: fn(&mut Tuning)) -> f64 {
    let Some(gpu) = gpu() else { return 0.0 };
    let random = Random::new(dtype, N_EXPERT * N_OUT, N_IN, Scales::Usual, 3);
    let ids = chosen(n_tok, n_used);
    let n_row = if shared { n_tok } else { n_tok * n_used };
    let x = noise(n_row * N_IN, 5);
    let dot = |(assignment, row): (usize, usize)| {
        let x = &x[assignment * n_row / ids.len() * N_IN..][..N_IN];
        let w = &random.values[(ids[assignment] as usize * N_OUT + row) * N_IN..][..N_IN];
        x.iter().zip(w).map(|(x, w)| f64::from(x * w)).sum::<f64>() as f32
    };
    let rows = (0..ids.len()).flat_map(|assignment| (0..N_OUT).map(move |row| (assignment, row)));
    let want: Vec<f32> = rows.map(dot).collect();

    // Windows that begin and end within an expert's rows.
    let most = Bytes(13 * 8 * dtype.row_bytes(N_IN).expect("whole") as u64);
    let w = Matrix::load_in_windows(&gpu, &random.file, random.tensor(), most).expect("loads");
    assert!(w.windows().len() > 1);
    let scratch = Scratch::new(gpu.clone());
    let mut recorder = Recorder::new(gpu.clone());
    let words = |recorder: &mut Recorder, words: &[u32]| {
        let buffer = scratch.take(size_of_val(words)).expect("room");
        recorder.write(&buffer, 0, bytemuck::cast_slice(words));
        buffer
    };
    let routes = Routes {
        weights: words(&mut recorder, &ids),
        ids: words(&mut recorder, &ids),
        n_tok,
        n_used,
        n_expert: N_EXPERT,
    };
    let mut tuning = Tuning::default_for(gpu.caps());
    tune(&mut tuning);
    let x_tensor = Tensor::new(&scratch, n_row, N_IN).expect("room");
    recorder.write(x_tensor.buffer(), 0, bytemuck::cast_slice(&x));
    let y = Tensor::new(&scratch, ids.len(), N_OUT).expect("room");
    let mut experts = Experts::new(&routes);
    experts
        .multiply(&mut recorder, &scratch, &tuning, &x_tensor, &[(&w, &y)])
        .expect("compiles");
    let bytes = recorder.read(y.buffer(), 0..y.bytes()).expect("runs");
    error(&want, &bytemuck::pod_collect_to_vec(&bytes))
}

fn plain(tuning: &mut Tuning) {
    tuning.tiles_from = 1;
    tuning.coop = None;
    tuning.packed = Formats::NONE;
}

#[test]
fn a_window_may_be_shorter_than_a_tile() {
    // The third one has eight rows of the last expert.
    let error = check(DType::Q4_1, 41, 3, true, plain);
    assert!(error < 1e-5, "{error}");
}

fn one_by_one(tuning: &mut Tuning) {
    tuning.tiles_from = usize::MAX;
}

#[test]
fn a_few_rows_are_multiplied_one_by_one() {
    for format in Format::ALL.iter().filter(|f| f.dtype().block_len() <= N_IN) {
        for (n_tok, shared) in [(1, true), (7, false), (7, true)] {
            let error = check(format.dtype(), n_tok, 3, shared, one_by_one);
            assert!(error < 1e-5, "{format:?}, {n_tok}: {error}");
        }
    }
}

fn as_bytes(tuning: &mut Tuning) {
    tuning.tiles_from = 1;
    tuning.coop = None;
    tuning.packed = Formats::with_integers();
}

#[test]
fn a_token_goes_to_each_of_its_experts() {
    for (n_tok, n_used) in [(1, 1), (1, 4), (70, 3)] {
        let error = check(DType::Q5_0, n_tok, n_used, true, plain);
        assert!(error < 1e-5, "{n_tok}, {n_used}: {error}");
        let error = check(DType::F16, n_tok, n_used, true, plain);
        assert!(error < 1e-5, "{n_tok}, {n_used}: {error}");
    }
}

#[test]
fn an_assignment_may_have_a_row_of_its_own() {
    let error = check(DType::Q8_0, 41, 3, false, plain);
    assert!(error < 1e-5, "{error}");
}

#[test]
fn bytes_go_to_experts_too() {
    for shared in [true, false] {
        let error = check(DType::Q4_1, 41, 3, shared, as_bytes);
        assert!(error < 1e-2, "{error}");
    }
}

#[test]
fn what_is_chosen_for_this_gpu_computes_it() {
    let tune = |tuning: &mut Tuning| {
        tuning.tile = TileShape {
            tokens: 128,
            rows: 128,
        };
    };
    let error = check(DType::Q8_0, 130, 3, true, tune);
    assert!(error < 1e-2, "{error}");
}
