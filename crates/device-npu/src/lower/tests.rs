//! The forms are written whole, and compute what the model says.

mod running;

use std::ops::ControlFlow;
use std::path::Path;

use troika_base::DType;
use troika_device::Cancelled;
use troika_gguf::{Metadata, ModelFile, Writer};
use troika_kernels::quant;

use super::*;
use crate::{CompileProgress, Error};

/// What a made-up model is like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) architecture: &'static str,
    pub(crate) n_layer: usize,
    pub(crate) n_embd: usize,
    pub(crate) n_head: usize,
    pub(crate) n_head_kv: usize,
    pub(crate) head_dim: usize,
    pub(crate) n_ff: usize,
    pub(crate) n_vocab: usize,
    pub(crate) tied: bool,
}

pub(crate) const SMALL: Shape = Shape {
    architecture: "llama",
    n_layer: 6,
    n_embd: 256,
    n_head: 4,
    n_head_kv: 2,
    head_dim: 64,
    n_ff: 512,
    n_vocab: 101,
    tied: false,
};

impl Shape {
    /// Names and shapes, row length first.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = vec![
            (
                "token_embd.weight".to_owned(),
                vec![self.n_embd, self.n_vocab],
            ),
            ("output_norm.weight".to_owned(), vec![self.n_embd]),
        ];
        if !self.tied {
            tensors.push(("output.weight".to_owned(), vec![self.n_embd, self.n_vocab]));
        }
        let q = self.n_head * self.head_dim;
        let kv = self.n_head_kv * self.head_dim;
        for layer in 0..self.n_layer {
            let mut add = |part: &str, dims: &[usize]| {
                tensors.push((format!("blk.{layer}.{part}"), dims.to_vec()));
            };
            add("attn_norm.weight", &[self.n_embd]);
            for (part, n_out) in [("q", q), ("k", kv), ("v", kv)] {
                add(&format!("attn_{part}.weight"), &[self.n_embd, n_out]);
                if self.architecture == "qwen2" {
                    add(&format!("attn_{part}.bias"), &[n_out]);
                }
                if self.architecture == "qwen3" && part != "v" {
                    add(&format!("attn_{part}_norm.weight"), &[self.head_dim]);
                }
            }
            add("attn_output.weight", &[q, self.n_embd]);
            add("ffn_norm.weight", &[self.n_embd]);
            add("ffn_gate.weight", &[self.n_embd, self.n_ff]);
            add("ffn_up.weight", &[self.n_embd, self.n_ff]);
            add("ffn_down.weight", &[self.n_ff, self.n_embd]);
        }
        tensors
    }

    /// A file of this shape with random weights; `change` may add keys or tensors.
    pub(crate) fn bytes(&self, dtype: DType, change: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut metadata = Metadata::default();
        metadata.insert("general.architecture", self.architecture);
        for (key, value) in [
            ("block_count", self.n_layer),
            ("context_length", 512),
            ("embedding_length", self.n_embd),
            ("feed_forward_length", self.n_ff),
            ("attention.head_count", self.n_head),
            ("attention.head_count_kv", self.n_head_kv),
            ("attention.key_length", self.head_dim),
        ] {
            metadata.insert(format!("{}.{key}", self.architecture), value as u32);
        }
        let eps = format!("{}.attention.layer_norm_rms_epsilon", self.architecture);
        metadata.insert(eps, 1e-5f32);
        let tensors: Vec<_> = self
            .tensors()
            .into_iter()
            .enumerate()
            .map(|(i, (name, dims))| {
                let dtype = if dims.len() > 1 { dtype } else { DType::F32 };
                let bytes = random(i as u64, &name, dtype, &dims);
                let dims: Vec<u64> = dims.iter().map(|&n| n as u64).collect();
                (name, dtype, dims, bytes)
            })
            .collect();
        let mut writer = Writer::new(metadata);
        for (name, dtype, dims, bytes) in &tensors {
            writer.tensor_bytes(name, *dtype, dims, bytes);
        }
        change(&mut writer);
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes).unwrap();
        bytes
    }
}

/// Weights such that attention chooses, and that logits are far apart.
fn random(seed: u64, name: &str, dtype: DType, dims: &[usize]) -> Vec<u8> {
    let mut state = seed << 40;
    // SplitMix64 (Steele et al. 2014), spread evenly with mean 0 and variance 1.
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((x ^ (x >> 31)) >> 40) as f32 / (1 << 24) as f32;
        (unit - 0.5) * 12f32.sqrt()
    };
    let unit = (dims[0] as f32).sqrt().recip();
    let (mean, spread) = match name {
        name if name.ends_with("norm.weight") => (1.0, 0.3),
        name if name.ends_with(".bias") => (0.0, 0.5),
        name if name.contains("attn_q") || name.contains("attn_k") => (0.0, 1.5 * unit),
        "token_embd.weight" | "output.weight" => (0.0, 4.0 * unit),
        _ => (0.0, unit),
    };
    let mut packed = vec![0; dtype.row_bytes(dims[0]).unwrap()];
    let mut bytes = Vec::new();
    for _ in 0..dims[1..].iter().product() {
        let row: Vec<f32> = (0..dims[0]).map(|_| mean + spread * next()).collect();
        quant::quantize_row(dtype, &row, &mut packed).unwrap();
        bytes.extend_from_slice(&packed);
    }
    bytes
}

/// Writes both forms. Progress is told, and ends at the total.
fn write(file: &ModelFile, weights: WeightFormat, directory: &Path) -> Result<(), Error> {
    let mut last = None;
    let mut progress = |progress: CompileProgress| {
        last = Some((progress.done, progress.total));
        ControlFlow::Continue(())
    };
    write_ir(file, weights, LogitRows::All, directory, &mut progress)?;
    let graphs = [("prefill", 16, 112), ("decode", 1, 127)].map(|(name, new, past)| StaticGraph {
        name,
        shape: StaticShape { new, past },
    });
    write_onnx(
        file,
        weights,
        Activations::F32,
        &graphs,
        directory,
        &mut progress,
    )?;
    let (done, total) = last.expect("there are weights");
    assert!(done == total && total > 0, "{done} of {total}");
    Ok(())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn files_are_there_when_they_are_complete() {
    let bytes = SMALL.bytes(DType::Q8_0, |_| ());
    let file = ModelFile::from_bytes("small", bytes).unwrap();
    let directory = tempfile::tempdir().unwrap();
    write(&file, WeightFormat::Int8, directory.path()).unwrap();
    assert_eq!(
        names(directory.path()),
        [
            "decode.onnx",
            "model.bin",
            "model.xml",
            "prefill.onnx",
            "weights.onnx_data"
        ]
    );
    let empty = tempfile::tempdir().unwrap();
    let mut end = |_| ControlFlow::Break(Cancelled);
    let ended = write_ir(
        &file,
        WeightFormat::F16,
        LogitRows::Last,
        empty.path(),
        &mut end,
    );
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert_eq!(names(empty.path()), [""; 0]);
}

#[test]
fn what_is_not_lowered_is_refused_with_the_reason() {
    #[track_caller]
    fn check(shape: Shape, dtype: DType, change: impl FnOnce(&mut Writer<'_>), want: &str) {
        let file = ModelFile::from_bytes("small", shape.bytes(dtype, change)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let refused = write(&file, WeightFormat::Int8, directory.path()).unwrap_err();
        assert!(matches!(refused, Error::Device(_)), "{refused:?}");
        assert_eq!(refused.to_string(), want);
        assert!(Host::new(&file).is_err());
    }
    let gemma = Shape {
        architecture: "gemma",
        ..SMALL
    };
    check(
        gemma,
        DType::F32,
        |_| (),
        "small: architecture `gemma` is not supported; supported: llama, mistral, qwen2, qwen3",
    );
    check(
        SMALL,
        DType::F32,
        |writer| {
            writer.tensor_bytes("blk.0.post_norm.weight", DType::F32, &[1], &[0; 4]);
        },
        "small: tensor `blk.0.post_norm.weight` is not part of architecture `llama` as it is computed here; the model would write nonsense without it",
    );
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let mut bytes = SMALL.bytes(DType::F32, |_| ());
    let len = bytes.len();
    // In the last layer's last matrix.
    bytes[len - 400..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let file = ModelFile::from_bytes("small", bytes).unwrap();
    for weights in WeightFormat::ALL {
        let directory = tempfile::tempdir().unwrap();
        let refused = write(&file, weights, directory.path()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "small, tensor `blk.5.ffn_down.weight`: it has weights that are no numbers, or too large for 16 bits"
        );
    }
}
