//! Attention over the cache's pages, against the definition in f64.

#![expect(clippy::unwrap_used, reason = "in tests a failure is a panic")]

mod common;

use common::{error, gpu, noise};
use half::f16;
use troika_base::TokenId;
use troika_device::{Batch, KvShape, Output, PAGE_TOKENS, Rope, RopePairs, Sequence};
use troika_device_gpu::attention::{AttentionKey, Cache, KvFormat, Plan, Window, attend, rotate};
use troika_device_gpu::{Key, Recorder, Scratch, Tensor};

/// A sequence of a step: tokens in the cache, tokens of the step, pages, and what its numbers are drawn from.
#[derive(Clone)]
struct Part {
    past: usize,
    n_tok: usize,
    pages: Vec<usize>,
    seed: u64,
}

/// A step over random keys, values and queries.
#[derive(Clone)]
struct Case {
    n_head: usize,
    shape: KvShape,
    n_page: usize,
    format: KvFormat,
    parts: Vec<Part>,
    sliding: Option<usize>,
    sinks: bool,
    turn: Turn,
}

/// Whether queries and keys turn, and when.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Not,
    /// In a kernel of its own.
    Before,
    /// While keys and values are stored.
    Within,
}

/// What came of it.
struct Outcome {
    /// The queries as they were, or as they were turned.
    q: Vec<f32>,
    out: Vec<f32>,
    /// What the cache then holds of each sequence.
    held: Vec<Vec<f16>>,
    dispatches: u64,
}

const LAYER: usize = 1;

/// Sequences of these lengths `(past, n_tok)`, each with pages in an order of its own.
fn case(n_head: usize, n_head_kv: usize, head_dim: usize, lengths: &[(usize, usize)]) -> Case {
    let n_page_of = |(past, n_tok): &(usize, usize)| (past + n_tok).div_ceil(PAGE_TOKENS);
    let n_page: usize = lengths.iter().map(n_page_of).sum();
    let mut pages: Vec<usize> = (0..n_page).collect();
    // Fixed, and far from sorted.
    pages.sort_by_key(|page| (page * 7919 + 13) % 1009);
    let mut pages = pages.into_iter();
    let part = |(lengths, seed): (&(usize, usize), u64)| Part {
        past: lengths.0,
        n_tok: lengths.1,
        pages: pages.by_ref().take(n_page_of(lengths)).collect(),
        seed,
    };
    Case {
        n_head,
        shape: KvShape {
            n_layer: 2,
            n_head_kv,
            head_dim,
            kv_type: troika_base::KvType::F16,
        },
        n_page,
        format: KvFormat::F16,
        parts: lengths.iter().zip(1..).map(part).collect(),
        sliding: None,
        sinks: false,
        turn: Turn::Not,
    }
}

impl Case {
    fn sink(&self, head: usize) -> Option<f32> {
        self.sinks.then(|| 3.0 * noise(self.n_head, 4)[head])
    }

    /// Numbers of a step's tokens, `n` for each, sequence by sequence.
    fn numbers(&self, n: usize, seed: u64, factor: f32) -> Vec<f32> {
        let of_part = |part: &Part| noise(part.n_tok * n, seed + 100 * part.seed);
        let numbers = self.parts.iter().flat_map(of_part);
        numbers.map(|x| x * factor).collect()
    }

    /// A cache that holds what came before.
    fn cache(&self, recorder: &mut Recorder) -> Cache {
        let gpu = recorder.gpu().clone();
        let mut cache = Cache::new(&gpu, self.shape, self.n_page, self.format).unwrap();
        for part in &self.parts {
            let past = noise(part.past * self.shape.token_values(), part.seed);
            let past: Vec<f16> = past.into_iter().map(f16::from_f32).collect();
            let written = cache.write(recorder, &part.pages, 0..part.past, &past);
            written.unwrap();
        }
        cache
    }

    fn plan(&self, recorder: &mut Recorder, scratch: &Scratch) -> Plan {
        let token_ids = vec![TokenId(0); 1000];
        let sequence = |part| {
            let part: &Part = part;
            Sequence {
                tokens: &token_ids[..part.n_tok],
                position: part.past,
                pages: &part.pages,
                output: Output::Nothing,
            }
        };
        let sequences: Vec<Sequence<'_>> = self.parts.iter().map(sequence).collect();
        let batch = Batch {
            sequences: &sequences,
        };
        let n_pair = self.shape.head_dim as i32 / 2;
        let rope = Rope {
            pairs: RopePairs::Halves,
            frequencies: (0..n_pair).map(|i| 0.8f64.powi(i)).collect(),
            magnitude: 1.0,
        };
        Plan::new(recorder, scratch, &batch, &rope, self.shape).unwrap()
    }

    fn run(&self) -> Option<Outcome> {
        let gpu = gpu()?;
        let (mut recorder, scratch) = (Recorder::new(gpu.clone()), Scratch::new(gpu.clone()));
        let head_dim = self.shape.head_dim;
        let (width, row) = (self.n_head * head_dim, self.shape.n_head_kv * head_dim);
        let mut cache = self.cache(&mut recorder);
        let plan = self.plan(&mut recorder, &scratch);
        let put = |n: usize, seed: u64, factor: f32| {
            let tensor = Tensor::new(&scratch, plan.n_tok(), n).unwrap();
            let numbers = self.numbers(n, seed, factor);
            gpu.write(tensor.buffer(), 0, bytemuck::cast_slice(&numbers));
            tensor
        };
        // Queries that are large make sharp weights.
        let (q, k, v) = (put(width, 1, 4.0), put(row, 2, 1.0), put(row, 3, 1.0));
        let sinks: Vec<f32> = (0..self.n_head)
            .filter_map(|head| self.sink(head))
            .collect();
        let sinks = gpu
            .buffer_with(bytemuck::cast_slice(&sinks), "sinks")
            .unwrap();
        let window = Window {
            sliding: self.sliding,
            sinks: self.sinks.then_some(&sinks),
        };
        let out = Tensor::new(&scratch, plan.n_tok(), width).unwrap();
        let before = recorder.dispatches();
        if self.turn != Turn::Not {
            rotate(&mut recorder, &plan, &q, head_dim).unwrap();
            rotate(&mut recorder, &plan, &k, head_dim).unwrap();
        }
        if self.turn == Turn::Before {
            recorder.submit();
        }
        let (to, cached) = (&mut recorder, &mut cache);
        attend(to, &scratch, &plan, cached, LAYER, &q, &k, &v, &out, window).unwrap();
        let dispatches = recorder.dispatches() - before;
        let mut read = |x: &Tensor| {
            let bytes = recorder.read(x.buffer(), 0..x.bytes()).unwrap();
            bytemuck::pod_collect_to_vec(&bytes)
        };
        let (q, out) = (read(&q), read(&out));
        let held = |part: &Part| {
            let tokens = 0..part.past + part.n_tok;
            let mut held = vec![f16::NAN; tokens.len() * self.shape.token_values()];
            let read = cache.read(&mut recorder, &part.pages, tokens, &mut held);
            read.unwrap();
            held
        };
        Some(Outcome {
            q,
            out,
            held: self.parts.iter().map(held).collect(),
            dispatches,
        })
    }

    /// What the definition gives for the keys and values that the cache holds.
    fn want(&self, outcome: &Outcome) -> Vec<f32> {
        let mut want = Vec::new();
        let mut queries = outcome.q.chunks_exact(self.shape.head_dim);
        for (part, held) in self.parts.iter().zip(&outcome.held) {
            let held: Vec<f64> = held.iter().map(|x| x.to_f64()).collect();
            for visible in part.past + 1..part.past + part.n_tok + 1 {
                let from = visible.saturating_sub(self.sliding.unwrap_or(visible));
                for head in 0..self.n_head {
                    let q = queries.next().unwrap();
                    want.extend(definition(self, head, q, from..visible, &held));
                }
            }
        }
        want
    }
}

/// `softmax(q · K / sqrt(head_dim)) · V`.
fn definition(
    case: &Case,
    head: usize,
    q: &[f32],
    tokens: std::ops::Range<usize>,
    held: &[f64],
) -> Vec<f32> {
    let shape = case.shape;
    let sink = case.sink(head).map(f64::from);
    let head_kv = head / (case.n_head / shape.n_head_kv);
    let part = |token: usize, part: usize| {
        let line = (token * shape.n_layer + LAYER) * 2 + part;
        &held[(line * shape.n_head_kv + head_kv) * shape.head_dim..][..shape.head_dim]
    };
    let scores: Vec<f64> = tokens
        .clone()
        .map(|token| {
            let product: f64 = q
                .iter()
                .zip(part(token, 0))
                .map(|(q, k)| f64::from(*q) * k)
                .sum();
            product / (shape.head_dim as f64).sqrt()
        })
        .collect();
    let largest = scores.iter().copied().chain(sink).fold(f64::MIN, f64::max);
    let sum: f64 = scores
        .iter()
        .copied()
        .chain(sink)
        .map(|s| (s - largest).exp())
        .sum();
    let mut out = vec![0.0; shape.head_dim];
    for (token, score) in tokens.zip(&scores) {
        let weight = (score - largest).exp() / sum;
        for (out, v) in out.iter_mut().zip(part(token, 1)) {
            *out += weight * v;
        }
    }
    out.iter().map(|&x| x as f32).collect()
}

#[track_caller]
fn check(case: &Case) {
    let Some(outcome) = case.run() else { return };
    // What a q8_0 cache gives back is rounded to f16.
    let allowed = match case.format {
        KvFormat::F16 => 1e-5,
        KvFormat::Q8_0 => 1e-3,
    };
    let apart = error(&case.want(&outcome), &outcome.out);
    assert!(apart < allowed, "{apart:e} apart: {:?}", case.shape);
}

/// Sequences of different lengths beside each other: prompts, some that go on, and single tokens.
const MIXED: &[(usize, usize)] = &[
    (0, 37),
    (5, 1),
    (200, 3),
    (0, 1),
    (31, 2),
    (127, 1),
    (300, 20),
];

#[test]
fn heads_of_any_width_in_groups_of_any_size() {
    // Each shape in one format, and some in both: on a GPU that is a program, most of the time goes into compiling.
    for (i, (n_head, n_head_kv, head_dim)) in [
        (2, 2, 64),
        (2, 2, 64),
        (4, 2, 32),
        (6, 2, 128),
        (8, 2, 48),
        (7, 1, 80),
        (7, 1, 80),
        (5, 1, 96),
        (16, 1, 112),
        (4, 1, 256),
        (9, 1, 8),
        (3, 3, 12),
        (2, 1, 4),
        (3, 1, 252),
    ]
    .into_iter()
    .enumerate()
    {
        check(&Case {
            format: KvFormat::ALL[i % 2],
            ..case(n_head, n_head_kv, head_dim, MIXED)
        });
    }
}

#[test]
fn long_pasts_are_shared_out() {
    for past in [126, 127, 128, 129, 511, 1000, 1999] {
        check(&case(8, 2, 64, &[(past, 1), (past / 2, 2), (past, 9)]));
    }
    // More tiles than ranges.
    check(&case(2, 1, 32, &[(70 * 128 + 5, 1)]));
}

/// Steps of several sequences as they come, of models as they come.
#[test]
fn steps_of_any_kind() {
    let mut numbers = noise(10_000, 11).into_iter();
    let mut any = |from: usize, to: usize| {
        let share = (numbers.next().unwrap() + 1.0) / 2.0;
        from + ((to - from) as f32 * share) as usize
    };
    for _ in 0..12 {
        let mut lengths = Vec::new();
        for _ in 0..any(1, 7) {
            let past = [any(0, 40), any(0, 300), any(0, 2000)][any(0, 3)];
            let n_tok = [1, 1, any(1, 6), any(5, 90)][any(0, 4)];
            lengths.push((past, n_tok));
        }
        let head_dim = [16, 64, 128][any(0, 3)];
        let (n_head_kv, sharing) = (any(1, 4), any(1, 6));
        check(&Case {
            format: KvFormat::ALL[any(0, 2)],
            sliding: [None, None, Some(any(1, 400))][any(0, 3)],
            sinks: any(0, 2) == 1,
            ..case(n_head_kv * sharing, n_head_kv, head_dim, &lengths)
        });
    }
}

#[test]
fn a_window_slides() {
    for sliding in [1, 32, 100, 128, 129, 5000] {
        for sinks in [false, true] {
            check(&Case {
                sliding: Some(sliding),
                sinks,
                ..case(4, 2, 32, MIXED)
            });
        }
    }
    check(&Case {
        sliding: Some(300),
        ..case(4, 2, 32, &[(1500, 1), (700, 3), (1100, 40)])
    });
}

#[test]
fn sinks_take_their_share() {
    check(&Case {
        sinks: true,
        ..case(6, 2, 64, MIXED)
    });
}

/// More ranges than are computed at once.
#[test]
fn large_steps_go_in_rounds() {
    let mut lengths = vec![(500, 1); 300];
    lengths.extend([(600, 7), (400, 40), (3, 1)]);
    check(&case(2, 1, 16, &lengths));
}

/// The same sequences alone, on the same pages, and a second time: no bit is another.
#[test]
fn neighbours_do_not_matter() {
    let all = case(6, 2, 48, &[(0, 37), (700, 1), (200, 3), (300, 20), (0, 1)]);
    let Some(together) = all.run() else { return };
    assert!(all.run().unwrap().out == together.out, "a second time");
    let mut rest = &together.out[..];
    for part in &all.parts {
        let alone = Case {
            parts: vec![part.clone()],
            ..all.clone()
        };
        let outcome = alone.run().unwrap();
        let have;
        (have, rest) = rest.split_at(outcome.out.len());
        assert!(
            outcome.out == have,
            "{} tokens after {}",
            part.n_tok,
            part.past
        );
    }
}

/// What other sequences left on a page, behind the tokens of this one, is not computed with.
#[test]
fn what_lies_behind_is_not_read() {
    let case = case(4, 2, 64, &[(40, 1), (9, 7)]);
    let Some(outcome) = case.run() else { return };
    let mut recorder = Recorder::new(gpu().unwrap());
    let scratch = Scratch::new(recorder.gpu().clone());
    let mut cache = case.cache(&mut recorder);
    for part in &case.parts {
        let behind = part.past..part.pages.len() * PAGE_TOKENS;
        let poison = vec![f16::NAN; behind.len() * case.shape.token_values()];
        cache
            .write(&mut recorder, &part.pages, behind, &poison)
            .unwrap();
    }
    let plan = case.plan(&mut recorder, &scratch);
    let put = |n: usize, seed: u64, factor: f32| {
        let tensor = Tensor::new(&scratch, plan.n_tok(), n).unwrap();
        let numbers = case.numbers(n, seed, factor);
        recorder
            .gpu()
            .write(tensor.buffer(), 0, bytemuck::cast_slice(&numbers));
        tensor
    };
    let (q, k, v) = (put(256, 1, 4.0), put(128, 2, 1.0), put(128, 3, 1.0));
    let out = Tensor::new(&scratch, plan.n_tok(), 256).unwrap();
    let (to, window) = (&mut recorder, Window::default());
    attend(
        to, &scratch, &plan, &mut cache, LAYER, &q, &k, &v, &out, window,
    )
    .unwrap();
    let bytes = recorder.read(out.buffer(), 0..out.bytes()).unwrap();
    assert!(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes) == outcome.out);
}

/// Queries and keys that turn on their way to the cache are those that turn before, with two dispatches less.
#[test]
fn rotation_waits_for_attention() {
    for (format, lengths, dispatches) in [
        (KvFormat::F16, &[(60, 1), (3, 2)][..], 2),
        (KvFormat::Q8_0, &[(1000, 1)], 3),
        (KvFormat::F16, &[(0, 30)], 2),
    ] {
        let case = Case {
            format,
            ..case(6, 2, 64, lengths)
        };
        let [before, within] = [Turn::Before, Turn::Within].map(|turn| {
            Case {
                turn,
                ..case.clone()
            }
            .run()
        });
        let (Some(before), Some(within)) = (before, within) else {
            return;
        };
        assert_eq!(within.dispatches, dispatches);
        assert_eq!(before.dispatches, dispatches + 2);
        assert!(error(&before.q, &within.q) < 1e-6);
        assert!(
            error(&before.q, &case.run().unwrap().q) > 0.1,
            "they turned"
        );
        let [was, is] = [&before, &within].map(|outcome| {
            let held = outcome.held.iter().flatten();
            held.map(|x| x.to_f32()).collect::<Vec<_>>()
        });
        // Where rounding fell to the other side.
        assert!(error(&was, &is) < 1e-4);
        assert!(error(&case.want(&within), &within.out) < 1e-3);
    }
}

/// 32 KiB of memory that a workgroup shares are enough: more is not there on every GPU.
#[test]
fn workgroups_share_no_more_than_gpus_have() {
    for key in AttentionKey::all() {
        let module = naga::front::wgsl::parse_str(&Key::Attention(key).kernel().source()).unwrap();
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let shared = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|(_, variable)| layouter[variable.ty].size).sum();
        assert!(bytes <= 32 << 10, "{key:?} shares {bytes} bytes");
    }
}
