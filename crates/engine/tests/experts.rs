//! Experts that stay in the file: what comes out is the same to the bit, and memory is within its limit.

use std::io::Write;
use std::ops::ControlFlow;

use troika_base::{Bytes, DType, TokenId};
use troika_device::{Batch, Device, Error, ExpertsInFile, LoadOptions, Output, Resident, Sequence};
use troika_engine::{CpuDevice, ExpertBytes, ExpertMemory, Observer, model_spec};
use troika_gguf::{Metadata, ModelFile, Writer};
use troika_kernels::quant::quantize_row;

const N_LAYER: usize = 2;
const N_EMBD: usize = 256;
const N_FF: usize = 256;
const N_EXPERT: usize = 8;
const N_USED: usize = 2;
const N_VOCAB: usize = 64;
const HEAD_DIM: usize = 64;

/// Where scales of whole tensors are.
#[derive(Clone, Copy, PartialEq)]
enum Scales {
    None,
    /// In tensors of their own.
    Beside,
    /// In the weights.
    Within,
}

/// What a tensor is multiplied by: powers of two, which change no digit.
fn scales(name: &str) -> Vec<f32> {
    match name {
        name if name.contains("attn_q.") => vec![4.0],
        name if name.contains("_exps.") => (0..N_EXPERT).map(|e| (1 << (e % 4)) as f32).collect(),
        _ => Vec::new(),
    }
}

/// A small qwen3moe of made-up weights, experts in Q4_K and Q6_K.
fn mixture() -> Vec<u8> {
    mixture_of([DType::Q4_K, DType::Q6_K], Scales::None)
}

fn mixture_of([wide, last]: [DType; 2], where_scales: Scales) -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", "qwen3moe");
    for (key, value) in [
        ("block_count", N_LAYER),
        ("context_length", 256),
        ("embedding_length", N_EMBD),
        ("feed_forward_length", N_FF),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", HEAD_DIM),
        ("attention.value_length", HEAD_DIM),
        ("rope.dimension_count", HEAD_DIM),
        ("vocab_size", N_VOCAB),
        ("expert_count", N_EXPERT),
        ("expert_used_count", N_USED),
        ("expert_feed_forward_length", N_FF),
    ] {
        metadata.insert(format!("qwen3moe.{key}"), value as u32);
    }
    metadata.insert("qwen3moe.attention.layer_norm_rms_epsilon", 1e-6f32);
    metadata.insert("qwen3moe.rope.freq_base", 10_000.0f32);

    let mut tensors: Vec<(String, DType, Vec<usize>)> = vec![
        (
            "token_embd.weight".into(),
            DType::F32,
            vec![N_EMBD, N_VOCAB],
        ),
        ("output.weight".into(), DType::F32, vec![N_EMBD, N_VOCAB]),
        ("output_norm.weight".into(), DType::F32, vec![N_EMBD]),
    ];
    for layer in 0..N_LAYER {
        for (name, dtype, shape) in [
            ("attn_norm", DType::F32, vec![N_EMBD]),
            ("attn_q", DType::Q8_0, vec![N_EMBD, 4 * HEAD_DIM]),
            ("attn_k", DType::Q8_0, vec![N_EMBD, 2 * HEAD_DIM]),
            ("attn_v", DType::Q8_0, vec![N_EMBD, 2 * HEAD_DIM]),
            ("attn_q_norm", DType::F32, vec![HEAD_DIM]),
            ("attn_k_norm", DType::F32, vec![HEAD_DIM]),
            ("attn_output", DType::Q8_0, vec![4 * HEAD_DIM, N_EMBD]),
            ("ffn_norm", DType::F32, vec![N_EMBD]),
            ("ffn_gate_inp", DType::F32, vec![N_EMBD, N_EXPERT]),
            ("ffn_gate_exps", wide, vec![N_EMBD, N_FF, N_EXPERT]),
            ("ffn_up_exps", wide, vec![N_EMBD, N_FF, N_EXPERT]),
            ("ffn_down_exps", last, vec![N_FF, N_EMBD, N_EXPERT]),
        ] {
            tensors.push((format!("blk.{layer}.{name}.weight"), dtype, shape));
        }
    }
    let mut writer = Writer::new(metadata);
    for (index, (name, dtype, shape)) in tensors.into_iter().enumerate() {
        let row = shape[0];
        let n_rows: usize = shape[1..].iter().product();
        let dims: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        let is_norm = shape.len() == 1;
        let scales = match where_scales {
            Scales::None => Vec::new(),
            _ => scales(&name),
        };
        if where_scales == Scales::Beside && !scales.is_empty() {
            let name = name.replace(".weight", ".scale");
            let values: Vec<u8> = scales
                .iter()
                .flat_map(|scale| scale.to_le_bytes())
                .collect();
            writer.tensor(
                name,
                DType::F32,
                &[scales.len() as u64],
                move |out: &mut dyn Write| Ok(out.write_all(&values)?),
            );
        }
        let per_scale = n_rows * row / scales.len().max(1);
        let within = move |i: usize| match where_scales {
            Scales::Within => scales.get(i / per_scale).copied().unwrap_or(1.0),
            _ => 1.0,
        };
        writer.tensor(name, dtype, &dims, move |out: &mut dyn Write| {
            let value = |i: usize| match is_norm {
                true => 1.0,
                // No two alike, and about as large as keeps a product's size.
                false => {
                    let spread = (i * 7919 + index * 104_729) % 2003;
                    (spread as f32 / 16_000.0 - 0.0626) * within(i)
                }
            };
            let mut bytes = vec![0; dtype.row_bytes(row).expect("whole blocks")];
            for first in (0..n_rows).map(|i| i * row) {
                let values: Vec<f32> = (first..first + row).map(value).collect();
                quantize_row(dtype, &values, &mut bytes)?;
                out.write_all(&bytes)?;
            }
            Ok(())
        });
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).expect("memory does not fail");
    bytes
}

fn load(file: &ModelFile, limit: Option<u64>) -> Result<Box<dyn Resident>, Error> {
    let kept = limit.map_or(ExpertMemory::WhatIsFree, |limit| {
        ExpertMemory::AtMost(Bytes(limit))
    });
    let device = CpuDevice::batch_invariant(2).with_expert_memory(kept);
    let options = LoadOptions::new(128);
    device.load(file, options, &mut |_| ControlFlow::Continue(()))
}

/// The logits of a prompt of 40 tokens, and of 4 more, one after the other.
fn logits(resident: &mut dyn Resident) -> Result<Vec<f32>, Error> {
    let tokens: Vec<TokenId> = (0..44).map(|i| TokenId(i * 29 % N_VOCAB as u32)).collect();
    let pages: Vec<usize> = (0..resident.n_page()).collect();
    let mut all = Vec::new();
    for range in [0..40, 40..41, 41..42, 42..43, 43..44] {
        let sequence = Sequence {
            tokens: &tokens[range.clone()],
            position: range.start,
            pages: &pages,
            output: Output::LastLogits,
        };
        let batch = Batch {
            sequences: &[sequence],
        };
        all.extend(resident.step(&batch)?.logits.values);
    }
    Ok(all)
}

#[test]
fn what_is_read_from_the_file_computes_the_same() {
    let file = ModelFile::from_bytes("mixture", mixture()).expect("is sound");
    let mut whole = load(&file, None).expect("fits");
    assert_eq!(whole.experts_in_file(), None);
    let want = logits(&mut *whole).expect("computes");
    assert!(want.iter().all(|x| x.is_finite()) && want.iter().any(|&x| x != want[0]));

    let spec = model_spec(&file).expect("is known");
    let ExpertBytes { all, least } = ExpertBytes::of(&file, &spec);
    // Two of eight, in one of two layers that are not alike in nothing but size.
    assert_eq!(least.0, all.0 / 8);
    for (asked, kept) in [(0, least.0), (all.0 / 3, all.0 / 3), (all.0 - 1, all.0 - 1)] {
        let mut part = load(&file, Some(asked)).expect("fits");
        let have = part.experts_in_file();
        let kept = Bytes(kept);
        assert_eq!(have, Some(ExpertsInFile { all, kept }));
        // What they would take is what the rest takes less.
        let more = whole.weights_bytes().0 - part.weights_bytes().0;
        assert_eq!(more, all.0 - kept.0);
        assert_eq!(logits(&mut *part).expect("computes"), want, "{kept}");
    }
}

/// A scale beside a tensor multiplies what is computed with it, in memory or from the file.
#[test]
fn scales_beside_tensors_are_those_within() {
    let of = |scales| {
        let bytes = mixture_of([DType::Q8_0; 2], scales);
        ModelFile::from_bytes("mixture", bytes).expect("is sound")
    };
    let computed = |file: &ModelFile, limit| {
        let mut resident = load(file, limit).expect("fits");
        logits(&mut *resident).expect("computes")
    };
    let want = computed(&of(Scales::Within), None);
    let beside = of(Scales::Beside);
    assert_eq!(computed(&beside, None), want);
    assert_eq!(computed(&beside, Some(0)), want);
    assert_ne!(computed(&of(Scales::None), None), want);
}

/// What goes into experts is summed for each on its own. Each token goes to so many of them, with what the router has seen.
#[test]
fn each_expert_is_observed() {
    let file = ModelFile::from_bytes("mixture", mixture()).expect("is sound");
    let observer = Observer::default();
    let device = observer.device(&CpuDevice::batch_invariant(2));
    let options = LoadOptions::new(128);
    let resident = device.load(&file, options, &mut |_| ControlFlow::Continue(()));
    logits(&mut *resident.expect("fits")).expect("computes");
    let seen = observer.seen();
    // In the last layer, only what is asked for is computed.
    for (layer, n_tok) in [(0, 44), (1, 5)] {
        let of = |part: &str| &seen[&format!("blk.{layer}.ffn_{part}.weight")];
        let router = of("gate_inp");
        assert_eq!(router.rows, [n_tok]);
        for (part, width) in [
            ("gate_exps", N_EMBD),
            ("up_exps", N_EMBD),
            ("down_exps", N_FF),
        ] {
            let sums = of(part);
            assert_eq!(sums.squares.len(), N_EXPERT * width);
            assert_eq!(sums.rows.len(), N_EXPERT);
            assert_eq!(sums.rows.iter().sum::<u64>(), n_tok * N_USED as u64);
            for (squares, &rows) in sums.squares.chunks(width).zip(&sums.rows) {
                assert_eq!(squares.iter().any(|&sum| sum > 0.0), rows > 0);
            }
        }
        assert_eq!(of("gate_exps"), of("up_exps"));
        for (column, &of_all) in router.squares.iter().enumerate() {
            let columns = of("gate_exps").squares.chunks(N_EMBD);
            let sum: f64 = columns.map(|squares| squares[column]).sum();
            let want = of_all * N_USED as f64;
            assert!((sum - want).abs() <= 1e-9 * want, "{sum} {want}");
        }
    }
}

#[test]
fn a_file_that_was_cut_off_fails_the_step_and_no_more() {
    let path = std::env::temp_dir().join(format!("troika-experts-{}.gguf", std::process::id()));
    let bytes = mixture();
    std::fs::write(&path, &bytes).expect("a file for the test");
    let file = ModelFile::open(&path).expect("is sound");
    let mut resident = load(&file, Some(0)).expect("fits");
    logits(&mut *resident).expect("computes");
    let handle = std::fs::OpenOptions::new().write(true).open(&path);
    let handle = handle.expect("the test's own file");
    handle.set_len(bytes.len() as u64 / 4).expect("is cut off");
    let error = logits(&mut *resident).expect_err("experts are gone");
    std::fs::write(&path, &bytes).expect("the test's own file");
    assert!(
        error.to_string().contains("_exps.weight"),
        "{error} names the tensor"
    );
    logits(&mut *resident).expect("computes again");
    std::fs::remove_file(&path).expect("the test's own file");
}
