//! Experts that stay in the file: what comes out is the same to the bit, and memory is within its limit.

use std::io::Write;
use std::ops::ControlFlow;

use troika_base::{Bytes, DType, TokenId};
use troika_device::{Batch, Device, Error, ExpertsInFile, LoadOptions, Output, Resident, Sequence};
use troika_engine::{CpuDevice, ExpertBytes, ExpertMemory, model_spec};
use troika_gguf::{Metadata, ModelFile, Writer};
use troika_kernels::quant::quantize_row;

const N_LAYER: usize = 2;
const N_EMBD: usize = 256;
const N_FF: usize = 256;
const N_EXPERT: usize = 8;
const N_USED: usize = 2;
const N_VOCAB: usize = 64;
const HEAD_DIM: usize = 64;

/// A small qwen3moe of made-up weights, experts in Q4_K.
fn mixture() -> Vec<u8> {
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
            ("ffn_gate_exps", DType::Q4_K, vec![N_EMBD, N_FF, N_EXPERT]),
            ("ffn_up_exps", DType::Q4_K, vec![N_EMBD, N_FF, N_EXPERT]),
            ("ffn_down_exps", DType::Q6_K, vec![N_FF, N_EMBD, N_EXPERT]),
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
        writer.tensor(name, dtype, &dims, move |out: &mut dyn Write| {
            let value = |i: usize| match is_norm {
                true => 1.0,
                // No two alike, and about as large as keeps a product's size.
                false => ((i * 7919 + index * 104_729) % 2003) as f32 / 16_000.0 - 0.0626,
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
