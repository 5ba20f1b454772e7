//! Static graphs compute what the CPU computes: prompts in chunks, then token by token, through rten.

use std::num::NonZero;

use half::f16;
use troika_base::TokenId;
use troika_device::{Batch, Device as _, LoadOptions, Output, PAGE_TOKENS, Sequence};
use troika_engine::CpuDevice;

use super::*;
use crate::exec::rten::tests::shared;
use crate::exec::{Executor, Rten, Tensor};
use crate::lower::weights::{int4, int8};

/// Tokens that are computed. The chunks' last has room to spare.
const N_TOK: usize = 64;
const CHUNK: usize = 16;
const N_PROMPT: usize = 29;

/// What the static graphs ask of their host, as plainly as it can be done.
struct Runner {
    host: Host,
    prefill: Rten,
    decode: Rten,
    n_ctx: usize,
    /// By layer, keys then values, `[n_head_kv][n_ctx][head_dim]`, as caches travel.
    cache: Vec<[Vec<f16>; 2]>,
    n_past: usize,
}

impl Runner {
    fn new(file: &ModelFile, weights: WeightFormat, n_ctx: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let graphs = [("prefill", CHUNK), ("decode", 1)].map(|(name, new)| StaticGraph {
            name,
            shape: StaticShape {
                new,
                past: n_ctx - new,
            },
        });
        let mut go_on = |_| ControlFlow::Continue(());
        let out = directory.path();
        write_onnx(file, weights, Activations::F32, &graphs, out, &mut go_on).unwrap();
        let open = |name| Rten::from_file(&out.join(name), NonZero::new(1)).unwrap();
        let host = Host::new(file).unwrap();
        let spec = host.spec();
        let empty = vec![f16::ZERO; spec.n_head_kv * n_ctx * spec.head_dim];
        Self {
            prefill: open("prefill.onnx"),
            decode: open("decode.onnx"),
            n_ctx,
            cache: vec![[empty.clone(), empty]; spec.n_layer],
            n_past: 0,
            host,
        }
    }

    /// Logits behind the last of these tokens: one, or a chunk at most.
    fn step(&mut self, tokens: &[TokenId]) -> Vec<f32> {
        let new = if tokens.len() == 1 { 1 } else { CHUNK };
        let inputs = self.inputs(tokens, new);
        let inputs = inputs.iter().map(|(name, t)| (&**name, t.clone()));
        let graph = if new == 1 {
            &mut self.decode
        } else {
            &mut self.prefill
        };
        let names: Vec<_> = graph
            .outputs()
            .iter()
            .map(|port| port.name.clone())
            .collect();
        let outputs = graph.run(inputs.collect()).unwrap();
        let mut logits = Vec::new();
        for (name, output) in names.iter().zip(outputs) {
            match name.split_once('.') {
                Some((part, layer)) => {
                    let part = usize::from(part == "new_v");
                    self.keep(layer.parse().unwrap(), part, tokens.len(), output);
                }
                None if name == "logits" => logits = output.into_f32().unwrap(),
                None => assert_eq!(output.shape, [1, new, self.host.spec().n_embd]),
            }
        }
        self.n_past += tokens.len();
        logits
    }

    fn inputs(&self, tokens: &[TokenId], new: usize) -> Vec<(String, Tensor)> {
        let spec = self.host.spec();
        let (n_embd, head_dim) = (spec.n_embd, spec.head_dim);
        let past = self.n_ctx - new;
        let mut x = vec![0.0; new * n_embd];
        self.host.embed(tokens, &mut x[..tokens.len() * n_embd]);
        let positions: Vec<usize> = (self.n_past..self.n_past + new).collect();
        let (mut cos, mut sin) = (vec![0.0; new * head_dim], vec![0.0; new * head_dim]);
        self.host.rotations(&positions, &mut cos, &mut sin);
        let seen = |row: usize, column: usize| match column.checked_sub(past) {
            None => column < self.n_past,
            Some(column) => column <= row,
        };
        let mask = (0..new * self.n_ctx).map(|i| (i / self.n_ctx, i % self.n_ctx));
        let mask = mask.map(|(row, column)| if seen(row, column) { 0.0 } else { -65504.0 });
        let mut inputs = vec![
            ("x".to_owned(), Tensor::f32([1, new, n_embd], x)),
            ("cos".to_owned(), Tensor::f32([1, 1, new, head_dim], cos)),
            ("sin".to_owned(), Tensor::f32([1, 1, new, head_dim], sin)),
            (
                "mask".to_owned(),
                Tensor::f32([1, 1, new, self.n_ctx], mask.collect()),
            ),
        ];
        if new > 1 {
            let last = tokens.len() as i64 - 1;
            inputs.push(("row".to_owned(), Tensor::i64([1], vec![last])));
        }
        let shape = [1, spec.n_head_kv, past, head_dim];
        for (layer, kept) in self.cache.iter().enumerate() {
            for (kept, part) in kept.iter().zip(["k", "v"]) {
                let name = format!("past_{part}.{layer}");
                inputs.push((name, Tensor::f32(shape, self.past(kept, part == "k", past))));
            }
        }
        inputs
    }

    /// Of every head, the tokens before.
    fn past(&self, kept: &[f16], are_keys: bool, past: usize) -> Vec<f32> {
        let head_dim = self.host.spec().head_dim;
        let mut values = Vec::new();
        let mut row = vec![f16::ZERO; head_dim];
        for head in kept.chunks_exact(self.n_ctx * head_dim) {
            for value in head.chunks_exact(head_dim).take(past) {
                match are_keys {
                    true => self.host.key_to_graph(value, &mut row),
                    false => row.copy_from_slice(value),
                }
                values.extend(row.iter().map(|value| value.to_f32()));
            }
        }
        values
    }

    /// Takes what is new of a layer's keys or values.
    fn keep(&mut self, layer: usize, part: usize, n_tok: usize, new: Tensor) {
        let head_dim = self.host.spec().head_dim;
        let stride = new.shape[2] * head_dim;
        let new: Vec<f16> = new
            .as_f32()
            .unwrap()
            .iter()
            .map(|value| f16::from_f32(*value))
            .collect();
        let heads = self.cache[layer][part].chunks_exact_mut(self.n_ctx * head_dim);
        for (kept, new) in heads.zip(new.chunks_exact(stride)) {
            let kept = kept[self.n_past * head_dim..].chunks_exact_mut(head_dim);
            for (kept, new) in kept.zip(new.chunks_exact(head_dim)).take(n_tok) {
                match part {
                    0 => self.host.key_from_graph(new, kept),
                    _ => kept.copy_from_slice(new),
                }
            }
        }
    }
}

/// A text without a pattern.
fn tokens(n_vocab: usize) -> Vec<TokenId> {
    let id = |i: usize| TokenId((i * i * 31 + i * 7 + 3) as u32 % n_vocab as u32);
    (0..N_TOK).map(id).collect()
}

/// Logits behind every token, of the CPU.
fn truth(file: &ModelFile, tokens: &[TokenId]) -> Vec<Vec<f32>> {
    let cpu = CpuDevice::batch_invariant(1);
    let mut resident = cpu
        .load(file, LoadOptions::new(N_TOK), &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
    let pages: Vec<usize> = (0..N_TOK.div_ceil(PAGE_TOKENS)).collect();
    let sequence = Sequence {
        tokens,
        position: 0,
        pages: &pages,
        output: Output::AllLogits,
    };
    let outputs = resident.step(&Batch {
        sequences: &[sequence],
    });
    outputs
        .unwrap()
        .logits
        .rows()
        .map(<[f32]>::to_vec)
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Logits of the graphs point where the CPU's point for `same`, at every step.
#[track_caller]
fn check(file: &ModelFile, weights: WeightFormat, same: &ModelFile, least: f64) {
    let tokens = tokens(Host::new(file).unwrap().spec().n_vocab);
    let truth = truth(same, &tokens);
    let mut runner = Runner::new(file, weights, N_TOK);
    let chunks = tokens[..N_PROMPT].chunks(CHUNK);
    let mut worst = f64::INFINITY;
    for chunk in chunks.chain(tokens[N_PROMPT..].chunks(1)) {
        let logits = runner.step(chunk);
        worst = worst.min(cosine(&logits, &truth[runner.n_past - 1]));
    }
    assert_eq!(runner.n_past, N_TOK);
    println!("{} as {weights}: cosine {worst:.6} or more", file.name());
    assert!(worst >= least, "{} as {weights}: {worst}", file.name());
}

fn of(architecture: &'static str) -> Shape {
    Shape {
        architecture,
        tied: architecture == "qwen3",
        n_embd: 128,
        head_dim: 32,
        n_ff: 256,
        ..SMALL
    }
}

#[test]
fn every_family_computes_what_the_cpu_computes() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let bytes = of(architecture).bytes(DType::F16, |_| ());
        let file = ModelFile::from_bytes(architecture, bytes).unwrap();
        check(&file, WeightFormat::F16, &file, 0.99999);
    }
}

/// What fewer bits lose is lost in the weights, and nowhere else: the CPU computes the same with weights that are
/// quantized and dequantized again.
#[test]
fn fewer_bits_lose_in_the_weights_alone() {
    let bytes = of("llama").bytes(DType::F32, |_| ());
    let file = ModelFile::from_bytes("llama", bytes.clone()).unwrap();
    for weights in WeightFormat::ALL {
        let mut rounded = bytes.clone();
        for tensor in file.tensors() {
            // The host looks tokens up in the file itself.
            if tensor.n_rows() > 1 && tensor.name != "token_embd.weight" {
                let bytes = file.read_all(tensor).unwrap();
                let at = bytes_at(&rounded, &bytes);
                let n_in = tensor.row_len() as usize;
                round(&mut rounded[at..][..bytes.len()], n_in, weights);
            }
        }
        let rounded = ModelFile::from_bytes("rounded", rounded).unwrap();
        check(&file, weights, &rounded, 0.9999);
    }
}

/// Where a tensor lies in a file.
fn bytes_at(file: &[u8], tensor: &[u8]) -> usize {
    let at = file
        .chunks_exact(32)
        .position(|chunk| chunk == &tensor[..32]);
    32 * at.expect("tensors are aligned to 32 bytes")
}

/// To fewer bits and back.
fn round(bytes: &mut [u8], n_in: usize, format: WeightFormat) {
    let group = match format {
        WeightFormat::Int4(Group::Of64) => 64,
        WeightFormat::Int4(Group::Of128) => 128,
        WeightFormat::Int4(Group::Channel) | WeightFormat::Int8 | WeightFormat::F16 => n_in,
    };
    let mut codes = vec![0; group];
    for bytes in bytes.chunks_exact_mut(4 * group) {
        let values = bytes.as_chunks().0.iter();
        let mut values: Vec<f32> = values.map(|four| f32::from_le_bytes(*four)).collect();
        let scale = match format {
            WeightFormat::Int4(_) => int4::quantize(&values, &mut codes),
            WeightFormat::Int8 => int8::quantize(&values, &mut codes),
            WeightFormat::F16 => 0.0,
        };
        for (value, code) in values.iter_mut().zip(&codes) {
            *value = match format {
                WeightFormat::F16 => f16::from_f32(*value).to_f32(),
                WeightFormat::Int4(_) | WeightFormat::Int8 => f32::from(*code) * scale,
            };
        }
        for (out, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *out = value.to_le_bytes();
        }
    }
}

/// A model that has learnt something tells the story that llama2.c tells.
#[test]
fn a_story_is_told_to_the_letter() {
    let (Some(model), Some(ids)) = (
        shared("llm/stories260K-f32.gguf"),
        shared("llm/golden-greedy-ids.json"),
    ) else {
        return;
    };
    let want: Vec<u32> = serde_json::from_slice(&std::fs::read(ids).unwrap()).unwrap();
    let file = ModelFile::open(&model).unwrap();
    let mut runner = Runner::new(&file, WeightFormat::F16, want.len());
    let (mut have, prompt) = (want[..CHUNK / 2].to_vec(), CHUNK / 2);
    let mut logits = runner.step(&have.iter().map(|&id| TokenId(id)).collect::<Vec<_>>());
    while have.len() < want.len() {
        let best = (0..).zip(&logits).max_by(|a, b| a.1.total_cmp(b.1));
        let (best, _) = best.unwrap();
        have.push(best);
        logits = runner.step(&[TokenId(best)]);
    }
    assert_eq!(have, want);
    println!("{} tokens as they should be", have.len() - prompt);
}
