//! Rotary positions, against the definition: a pair is a complex number, turned by its angle.

#![expect(clippy::unwrap_used, reason = "in tests a failure is a panic")]

mod common;

use common::{error, gpu, noise};
use troika_base::TokenId;
use troika_device::{Batch, KvShape, Output, Rope, RopePairs, Sequence};
use troika_device_gpu::attention::{Plan, rotate};
use troika_device_gpu::{Recorder, Scratch, Tensor};

/// Three sequences, the second far into its text.
const POSITIONS: [(usize, usize); 3] = [(0, 2), (100_000, 1), (31, 4)];

#[track_caller]
fn check(pairs: RopePairs, magnitude: f64, head_dim: usize, n_pair: usize) {
    let Some(gpu) = gpu() else { return };
    let n_head = 3;
    let frequencies: Vec<f64> = (0..n_pair).map(|i| 0.7f64.powi(i as i32)).collect();
    let pages: Vec<usize> = (0..4000).collect();
    let tokens = [TokenId(0); 4];
    let sequences = POSITIONS.map(|(position, n_tok)| Sequence {
        tokens: &tokens[..n_tok],
        position,
        pages: &pages,
        output: Output::Nothing,
    });
    let batch = Batch {
        sequences: &sequences,
    };
    let rope = Rope {
        pairs,
        frequencies: frequencies.clone(),
        magnitude,
    };
    let shape = KvShape {
        n_layer: 1,
        n_head_kv: 1,
        head_dim,
        kv_type: troika_base::KvType::F16,
    };
    let (mut recorder, scratch) = (Recorder::new(gpu.clone()), Scratch::new(gpu.clone()));
    let plan = Plan::new(&mut recorder, &scratch, &batch, &rope, shape).unwrap();
    let x = Tensor::new(&scratch, plan.n_tok(), n_head * head_dim).unwrap();
    let before = noise(x.len(), 1);
    gpu.write(x.buffer(), 0, bytemuck::cast_slice(&before));
    rotate(&mut recorder, &plan, &x, head_dim).unwrap();
    let have = recorder.read(x.buffer(), 0..x.bytes()).unwrap();
    let have: Vec<f32> = bytemuck::pod_collect_to_vec(&have);

    let mut want = before.clone();
    let positions = batch.positions();
    for (i, head) in want.chunks_exact_mut(head_dim).enumerate() {
        for (pair, frequency) in frequencies.iter().enumerate() {
            let (a, b) = match pairs {
                RopePairs::Adjacent => (2 * pair, 2 * pair + 1),
                RopePairs::Halves => (pair, pair + n_pair),
            };
            let (sine, cosine) = (positions[i / n_head] as f64 * frequency).sin_cos();
            let (x, y) = (f64::from(head[a]), f64::from(head[b]));
            head[a] = (magnitude * (x * cosine - y * sine)) as f32;
            head[b] = (magnitude * (x * sine + y * cosine)) as f32;
        }
    }
    let apart = error(&want, &have);
    assert!(
        apart < 1e-6,
        "{apart:e} apart: {pairs:?}, heads of {head_dim}"
    );
    for (head, was) in have.chunks(head_dim).zip(before.chunks(head_dim)) {
        assert_eq!(head[2 * n_pair..], was[2 * n_pair..], "past the pairs");
    }
}

#[test]
fn pairs_turn_by_their_angle() {
    for pairs in [RopePairs::Adjacent, RopePairs::Halves] {
        for (head_dim, n_pair) in [(64, 32), (8, 4), (80, 16), (12, 5), (16, 0)] {
            check(pairs, 1.0, head_dim, n_pair);
        }
        check(pairs, 1.25, 64, 32);
    }
}
