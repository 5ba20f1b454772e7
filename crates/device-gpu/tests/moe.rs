//! Mixtures of experts, against the same in Rust.

mod common;

use common::{error, gpu, noise};
use troika_device_gpu::moe::{self, Routes, Routing, Scores};
use troika_device_gpu::{Buffer, Recorder, Scratch, Tensor};

struct Bench {
    recorder: Recorder,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Option<Self> {
        let gpu = gpu()?;
        Some(Self {
            recorder: Recorder::new(gpu.clone()),
            scratch: Scratch::new(gpu),
        })
    }

    fn tensor(&mut self, values: &[f32], width: usize) -> Tensor {
        let tensor = Tensor::new(&self.scratch, values.len() / width, width).expect("room");
        let bytes = bytemuck::cast_slice(values);
        self.recorder.write(tensor.buffer(), 0, bytes);
        tensor
    }

    fn read<T: bytemuck::Pod>(&mut self, buffer: &Buffer, n: usize) -> Vec<T> {
        let read = self.recorder.read(buffer, 0..n * size_of::<T>());
        bytemuck::pod_collect_to_vec(&read.expect("no failure"))
    }

    fn route(&mut self, logits: &[f32], n_expert: usize, routing: &Routing<'_>) -> Routes {
        let logits = self.tensor(logits, n_expert);
        moe::route(&mut self.recorder, &self.scratch, &logits, routing).expect("compiles")
    }
}

/// The reference for one token: experts and weights.
fn routed(logits: &[f32], routing: &Routing<'_>, bias: Option<&[f32]>) -> (Vec<u32>, Vec<f32>) {
    let largest = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
    let total: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
    let score = |&x: &f32| match routing.scores {
        Scores::Softmax => (f64::from(x - largest).exp() / total) as f32,
        Scores::Sigmoid => (1.0 / (1.0 + f64::from(-x).exp())) as f32,
    };
    let scores: Vec<f32> = logits.iter().map(score).collect();
    let ranked = |e: usize| scores[e] + bias.map_or(0.0, |bias| bias[e]);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| ranked(b).total_cmp(&ranked(a)));
    order.truncate(routing.n_used);
    let sum: f32 = order.iter().map(|&e| scores[e]).sum();
    let whole = if routing.normalised { sum } else { 1.0 };
    let weight = |&e: &usize| scores[e] / whole * routing.scale;
    let weights = order.iter().map(weight).collect();
    (order.iter().map(|&e| e as u32).collect(), weights)
}

#[test]
fn tokens_go_to_their_best_experts() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for (n_expert, n_used) in [(8, 2), (60, 4), (128, 8), (384, 8), (1024, 64)] {
        let bias = noise(n_expert, 7);
        let gpu = bench.recorder.gpu().clone();
        let buffer = gpu
            .buffer_with(bytemuck::cast_slice(&bias), "bias")
            .expect("room");
        for scores in [Scores::Softmax, Scores::Sigmoid] {
            for (normalised, scale, bias) in [
                (true, 1.0, None),
                (false, 1.0, None),
                (true, 2.5, Some(&bias[..])),
            ] {
                let routing = Routing {
                    scores,
                    n_used,
                    normalised,
                    scale,
                    bias: bias.map(|_| &buffer),
                };
                let mut logits = noise(5 * n_expert, n_expert as u64);
                logits.iter_mut().for_each(|x| *x *= 4.0);
                let routes = bench.route(&logits, n_expert, &routing);
                let ids: Vec<u32> = bench.read(&routes.ids, 5 * n_used);
                let weights: Vec<f32> = bench.read(&routes.weights, 5 * n_used);
                for (t, logits) in logits.chunks(n_expert).enumerate() {
                    let (want_ids, want_weights) = routed(logits, &routing, bias);
                    let here = t * n_used..(t + 1) * n_used;
                    assert_eq!(ids[here.clone()], want_ids, "{routing:?}");
                    assert!(error(&want_weights, &weights[here]) < 1e-5, "{routing:?}");
                }
            }
        }
    }
}

const PLAIN: Routing<'_> = Routing {
    scores: Scores::Softmax,
    n_used: 4,
    normalised: true,
    scale: 1.0,
    bias: None,
};

#[test]
fn equals_and_what_is_no_number_give_experts_that_there_are() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let routes = bench.route(&[0.5; 32], 32, &PLAIN);
    assert_eq!(bench.read::<u32>(&routes.ids, 4), [0, 1, 2, 3]);
    assert_eq!(bench.read::<f32>(&routes.weights, 4), [0.25; 4]);
    let routes = bench.route(&[f32::NAN; 32], 32, &PLAIN);
    assert_eq!(bench.read::<u32>(&routes.ids, 4), [0, 1, 2, 3]);
}

/// Routes of so many tokens, by chance, without the kernel that makes them.
fn any_routes(bench: &Bench, n_tok: usize, n_used: usize, n_expert: usize) -> (Routes, Vec<u32>) {
    let draw = noise(n_tok * n_used, 3);
    // Squared, so that some experts have many rows and some have none.
    let expert = |x: &f32| (x * x * n_expert as f32) as u32 % n_expert as u32;
    let ids: Vec<u32> = draw.iter().map(expert).collect();
    let take = |bytes: usize| bench.scratch.take(bytes).expect("room");
    let routes = Routes {
        ids: take(ids.len() * 4),
        weights: take(ids.len() * 4),
        n_tok,
        n_used,
        n_expert,
    };
    let gpu = bench.recorder.gpu();
    gpu.write(&routes.ids, 0, bytemuck::cast_slice(&ids));
    gpu.write(
        &routes.weights,
        0,
        bytemuck::cast_slice(&noise(ids.len(), 4)),
    );
    (routes, ids)
}

#[test]
fn every_assignment_is_in_its_experts_list_and_tiles() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for (n_tok, n_used, n_expert) in [(1, 8, 64), (3, 2, 8), (512, 4, 32), (100, 7, 300)] {
        let (routes, ids) = any_routes(&bench, n_tok, n_used, n_expert);
        let Bench { recorder, scratch } = &mut bench;
        let lists = moe::lists(recorder, scratch, &routes).expect("compiles");
        let mut want: Vec<u32> = (0..ids.len() as u32).collect();
        want.sort_by_key(|&i| ids[i as usize]);
        let begin = |e: u32| ids.iter().filter(|&&id| id < e).count() as u32;
        let starts: Vec<u32> = (0..=n_expert as u32).map(begin).collect();
        let have: Vec<u32> = bench.read(&lists.buffer, n_expert + 1 + ids.len());
        assert_eq!(have[..=n_expert], starts);
        assert_eq!(have[n_expert + 1..], want);
        for height in [1, 16, 64] {
            let Bench { recorder, scratch } = &mut bench;
            let tiles = moe::tiles(recorder, scratch, &lists, height).expect("compiles");
            let have: Vec<[u32; 4]> = bench.read(&tiles.buffer, tiles.n_tile);
            let mut want = Vec::new();
            for e in 0..n_expert {
                for row in (starts[e]..starts[e + 1]).step_by(height) {
                    let n_row = (starts[e + 1] - row).min(height as u32);
                    want.push([e as u32, row, n_row, 0]);
                }
            }
            assert!(want.len() <= tiles.n_tile, "tiles enough for any shares");
            want.resize(tiles.n_tile, [0; 4]);
            assert_eq!(have, want, "{n_tok} tokens, tiles of {height}");
        }
    }
}

#[test]
fn outputs_are_added_up_by_weight() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    for add in [false, true] {
        let (n_tok, n_used, width) = (9, 5, 132);
        let (routes, _) = any_routes(&bench, n_tok, n_used, 8);
        let (y, before) = (noise(n_tok * n_used * width, 1), noise(n_tok * width, 2));
        let weights: Vec<f32> = bench.read(&routes.weights, n_tok * n_used);
        let (y_tensor, out) = (bench.tensor(&y, width), bench.tensor(&before, width));
        moe::combine(&mut bench.recorder, &y_tensor, &routes, &out, add).expect("compiles");
        let sum = |(at, before): (usize, &f32)| {
            let (t, column) = (at / width, at % width);
            let assignments = t * n_used..(t + 1) * n_used;
            let terms = assignments.map(|i| weights[i] * y[i * width + column]);
            terms.sum::<f32>() + if add { *before } else { 0.0 }
        };
        let want: Vec<f32> = before.iter().enumerate().map(sum).collect();
        let have: Vec<f32> = bench.read(out.buffer(), want.len());
        assert!(error(&want, &have) < 1e-6, "add: {add}");
    }
}
