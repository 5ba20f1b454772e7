//! A small encoder of random weights computes what is written out here in f64.

use std::collections::HashMap;
use std::num::NonZero;

use tempfile::TempDir;

use super::*;
use crate::exec::{Executor, Rten, Tensor};

const N_VOCAB: usize = 23;
const N_CTX: usize = 12;
const N_EMBD: usize = 16;
const N_HEAD: usize = 4;
const N_FF: usize = 40;
const N_LAYER: usize = 2;

/// Names, shapes and values, by name.
type Weights = HashMap<String, (Vec<usize>, Vec<f32>)>;

fn weights() -> Weights {
    let mut all = Weights::new();
    let mut add = |name: String, shape: &[usize]| {
        let seed = all.len();
        let value = |i: usize| {
            let x = ((i * 31 + seed * 97 + 11) as u32).wrapping_mul(2_654_435_761) >> 8;
            let even = x as f32 / (1 << 24) as f32 - 0.5;
            let is_scale = name.ends_with("LayerNorm.weight");
            // What an f16 holds, so that nothing is lost on the way.
            f16::from_f32(even + if is_scale { 1.0 } else { 0.0 }).to_f32()
        };
        let values = (0..shape.iter().product()).map(value).collect();
        all.insert(name, (shape.to_vec(), values));
    };
    let tables = [("word", N_VOCAB), ("position", N_CTX), ("token_type", 2)];
    for (table, n) in tables {
        add(
            format!("embeddings.{table}_embeddings.weight"),
            &[n, N_EMBD],
        );
    }
    let mut pair = |name: String, n_out: usize, n_in: Option<usize>| {
        let shape: Vec<usize> = [n_out].into_iter().chain(n_in).collect();
        add(format!("{name}.weight"), &shape);
        add(format!("{name}.bias"), &shape[..1]);
    };
    pair("embeddings.LayerNorm".to_owned(), N_EMBD, None);
    for layer in 0..N_LAYER {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            pair(name(&format!("attention.{part}")), N_EMBD, Some(N_EMBD));
        }
        pair(name("attention.output.LayerNorm"), N_EMBD, None);
        pair(name("intermediate.dense"), N_FF, Some(N_EMBD));
        pair(name("output.dense"), N_EMBD, Some(N_FF));
        pair(name("output.LayerNorm"), N_EMBD, None);
    }
    all
}

/// A folder with these weights, and changes to its configuration.
fn folder(weights: &Weights, change: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        r#"{{"model_type": "bert", "hidden_act": "gelu", "hidden_size": {N_EMBD}, "num_hidden_layers": {N_LAYER},
        "num_attention_heads": {N_HEAD}, "intermediate_size": {N_FF}, "vocab_size": {N_VOCAB},
        "max_position_embeddings": {N_CTX}}}"#
    );
    let (from, to) = change.split_once('>').unwrap_or_default();
    std::fs::write(
        directory.path().join("config.json"),
        config.replace(from, to),
    )
    .unwrap();
    let bytes: HashMap<&str, (&[usize], Vec<u8>)> = weights
        .iter()
        .map(|(name, (shape, values))| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (&**name, (&**shape, bytes.collect()))
        })
        .collect();
    let views = bytes.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
        (*name, view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    directory
}

type Rows = Vec<Vec<f64>>;

/// The network, as plainly as it can be written.
struct Plain<'w>(&'w Weights);

impl Plain<'_> {
    fn row(&self, name: &str, i: usize) -> Vec<f64> {
        let (shape, values) = &self.0[name];
        let n = *shape.last().unwrap();
        values[i * n..][..n]
            .iter()
            .map(|value| f64::from(*value))
            .collect()
    }

    fn linear(&self, x: &Rows, name: &str) -> Rows {
        let (weight, bias) = (
            format!("{name}.weight"),
            self.row(&format!("{name}.bias"), 0),
        );
        let out = |x: &Vec<f64>, i: usize| dot(x, &self.row(&weight, i)) + bias[i];
        x.iter()
            .map(|x| (0..bias.len()).map(|i| out(x, i)).collect())
            .collect()
    }

    fn norm(&self, x: Rows, name: &str) -> Rows {
        let weight = self.row(&format!("{name}.weight"), 0);
        let bias = self.row(&format!("{name}.bias"), 0);
        let normed = |x: Vec<f64>| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let square: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
            let scale = (square / x.len() as f64 + 1e-12).sqrt().recip();
            (0..x.len())
                .map(|i| (x[i] - mean) * scale * weight[i] + bias[i])
                .collect()
        };
        x.into_iter().map(normed).collect()
    }

    fn attention(&self, x: &Rows, name: &str) -> Rows {
        let [q, k, v] = ["query", "key", "value"]
            .map(|part| self.linear(x, &format!("{name}.attention.self.{part}")));
        let n = N_EMBD / N_HEAD;
        let read = |i: usize, out: usize| {
            let head = out / n * n..out / n * n + n;
            let scores = k.iter().map(|k| dot(&q[i][head.clone()], &k[head.clone()]));
            let shares: Vec<f64> = scores
                .map(|score| (score / (n as f64).sqrt()).exp())
                .collect();
            let column: Vec<f64> = v.iter().map(|v| v[out]).collect();
            dot(&shares, &column) / shares.iter().sum::<f64>()
        };
        let read = (0..x.len()).map(|i| (0..N_EMBD).map(|out| read(i, out)).collect());
        self.linear(&read.collect(), &format!("{name}.attention.output.dense"))
    }

    /// A text's vector, not of length 1.
    fn embed(&self, tokens: &[usize], pooling: Pooling) -> Vec<f64> {
        let part = self.row("embeddings.token_type_embeddings.weight", 0);
        let embedded = tokens.iter().enumerate().map(|(i, &token)| {
            let word = self.row("embeddings.word_embeddings.weight", token);
            sum(
                &sum(&word, &self.row("embeddings.position_embeddings.weight", i)),
                &part,
            )
        });
        let mut x = self.norm(embedded.collect(), "embeddings.LayerNorm");
        for layer in 0..N_LAYER {
            let name = format!("encoder.layer.{layer}");
            let a = added(&x, &self.attention(&x, &name));
            x = self.norm(a, &format!("{name}.attention.output.LayerNorm"));
            let mut h = self.linear(&x, &format!("{name}.intermediate.dense"));
            h.iter_mut()
                .flatten()
                .for_each(|x| *x *= (1.0 + erf(*x / 2f64.sqrt())) / 2.0);
            let h = added(&x, &self.linear(&h, &format!("{name}.output.dense")));
            x = self.norm(h, &format!("{name}.output.LayerNorm"));
        }
        match pooling {
            Pooling::First => x.swap_remove(0),
            Pooling::Mean => x.iter().fold(vec![0.0; N_EMBD], |all, x| sum(&all, x)),
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn added(a: &Rows, b: &Rows) -> Rows {
    a.iter().zip(b).map(|(a, b)| sum(a, b)).collect()
}

/// The Taylor series; it is good for what comes here.
fn erf(x: f64) -> f64 {
    let terms = (0..80).scan(x, |term, n| {
        let value = *term / f64::from(2 * n + 1);
        *term *= -x * x / f64::from(n + 1);
        Some(value)
    });
    terms.sum::<f64>() * 2.0 / std::f64::consts::PI.sqrt()
}

/// Runs texts that are filled up to `n` tokens.
fn run(model: &mut Rten, texts: &[&[usize]], n: usize) -> Vec<Vec<f32>> {
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for text in texts {
        // What only fills up is any token, and not seen.
        ids.extend((0..n).map(|i| text.get(i).map_or(7, |&id| id as i64)));
        mask.extend((0..n).map(|i| i64::from(i < text.len())));
    }
    let shape = [texts.len(), n];
    let inputs = vec![
        ("input_ids", Tensor::i64(shape, ids)),
        ("attention_mask", Tensor::i64(shape, mask)),
    ];
    let mut outputs = model.run(inputs).unwrap();
    assert_eq!(outputs[0].shape, [texts.len(), N_EMBD]);
    let values = outputs.remove(0).into_f32().unwrap();
    values.chunks_exact(N_EMBD).map(<[f32]>::to_vec).collect()
}

#[test]
fn texts_have_the_vectors_that_they_should() {
    let weights = weights();
    for pooling in [Pooling::Mean, Pooling::First] {
        let folder = folder(&weights, "");
        if pooling == Pooling::First {
            let directory = folder.path().join("1_Pooling");
            std::fs::create_dir(&directory).unwrap();
            let config = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
            std::fs::write(directory.join("config.json"), config).unwrap();
        }
        let bert = Bert::open(folder.path()).unwrap();
        let graphs = [("any", Lengths::Any), ("fixed", Lengths::Fixed(9))];
        bert.write_onnx(&graphs, folder.path()).unwrap();
        let open = |name| Rten::from_file(&folder.path().join(name), NonZero::new(1)).unwrap();
        let (mut any, mut fixed) = (open("any.onnx"), open("fixed.onnx"));
        let texts: [&[usize]; 3] = [&[1, 5, 9, 2], &[1, 22, 3, 3, 8, 0, 2], &[4]];
        let together = run(&mut any, &texts, 8);
        for (text, together) in texts.iter().zip(together) {
            let want = Plain(&weights).embed(text, pooling);
            let length = dot(&want, &want).sqrt();
            let alone = run(&mut any, &[text], text.len()).remove(0);
            let filled = run(&mut fixed, &[text], 9).remove(0);
            for have in [together, alone, filled] {
                let off = have
                    .iter()
                    .zip(&want)
                    .map(|(have, want)| f64::from(*have) - want / length);
                let off = off.fold(0.0, |most: f64, off| most.max(off.abs()));
                assert!(off < 1e-5, "{pooling:?}, {text:?}: {off}");
            }
        }
    }
}

#[test]
fn what_is_not_lowered_is_refused_with_the_reason() {
    #[track_caller]
    fn check(weights: &Weights, change: &str, want: &str) {
        let folder = folder(weights, change);
        let out = tempfile::tempdir().unwrap();
        let written = Bert::open(folder.path())
            .and_then(|bert| bert.write_onnx(&[("any", Lengths::Any)], out.path()));
        let refused = written.unwrap_err().to_string();
        assert!(refused.contains(want), "{refused}");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    }
    let good = weights();
    check(
        &good,
        r#""bert">"roberta""#,
        "`model_type` is `roberta`, and `bert` alone",
    );
    check(&good, r#""gelu">"relu""#, "`hidden_act` is `relu`");
    check(
        &good,
        r#""num_attention_heads": 4>"num_attention_heads": 3"#,
        "make no sense",
    );
    check(
        &good,
        r#""hidden_size": 16>"hidden_size": 0"#,
        "make no sense",
    );
    check(
        &good,
        r#""vocab_size": 23>"vocab_size": 24"#,
        "tensor `embeddings.word_embeddings.weight`: its shape is [23, 16], and by config.json it is [24, 16]",
    );
    let mut lacking = weights();
    lacking.remove("encoder.layer.1.output.dense.bias");
    check(&lacking, "", "encoder.layer.1.output.dense.bias");
    let mut wrong = weights();
    wrong
        .get_mut("encoder.layer.0.output.dense.weight")
        .unwrap()
        .1[3] = f32::NAN;
    check(&wrong, "", "weights that are no numbers");
    let mut wrong = weights();
    wrong
        .get_mut("encoder.layer.0.output.dense.weight")
        .unwrap()
        .1[3] = 1e6;
    check(&wrong, "", "too large for 16 bits");
}

#[test]
fn damaged_files_are_refused() {
    let folder = folder(&weights(), "");
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 7, 8, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let written = Bert::open(folder.path())
            .and_then(|bert| bert.write_onnx(&[("any", Lengths::Any)], folder.path()));
        assert!(matches!(written, Err(Error::Invalid { .. })), "{written:?}");
    }
}
