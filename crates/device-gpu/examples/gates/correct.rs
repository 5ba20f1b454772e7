//! Whether this GPU computes what it should: products here, all else by this crate's own tests, carried along.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use troika_device::Error;
use troika_device_gpu::matmul::{Formats, multiply};
use troika_device_gpu::weights::Format;
use troika_device_gpu::{Gpu, Matrix, Recorder, Scratch, Tensor, Tuning};

use crate::common::blocks::{Random, Scales};
use crate::common::{error, noise};

/// A way to multiply, and how far it may be from the definition.
struct Way {
    name: &'static str,
    tuning: Tuning,
    n_tok: usize,
    limit: f64,
}

/// Products of every format in every way, against sums in f64.
pub(super) fn products(gpu: &Arc<Gpu>) -> Result<Value, Error> {
    let start = Tuning {
        tiles_from: usize::MAX,
        packed: Formats::NONE,
        coop: None,
        ..Tuning::of(gpu)
    };
    let packed = Tuning {
        packed: Formats::with_integers(),
        ..start
    };
    let tiles = Tuning {
        tiles_from: 1,
        ..start
    };
    let way = |name, tuning, n_tok, limit| Way {
        name,
        tuning,
        n_tok,
        limit,
    };
    let mut ways = vec![
        way("a token", start, 1, 1e-5),
        way("seven tokens", start, 7, 1e-5),
        way("a token, bytes", packed, 1, 1e-2),
        way("seven tokens, bytes", packed, 7, 1e-2),
        way("a prompt, registers", tiles, 70, 1e-5),
    ];
    ways.extend(
        gpu.caps()
            .tiles
            .iter()
            .filter(|tile| tile.wide)
            .map(|tile| {
                let tuning = Tuning {
                    coop: Some(*tile),
                    ..tiles
                };
                way("a prompt, cooperative", tuning, 70, 1e-3)
            }),
    );
    let mut failed = Vec::new();
    let mut worst = vec![0.0_f64; ways.len()];
    for (seed, &format) in (1..).zip(Format::ALL) {
        let random = Random::new(format.dtype(), 37, 768, Scales::Usual, seed);
        let w = Matrix::load(gpu, &random.file, random.tensor())?;
        for (way, worst) in ways.iter().zip(&mut worst) {
            let x = noise(way.n_tok * w.n_in(), seed);
            let have = product(gpu, way, &x, &w)?;
            let apart = error(&reference(&x, &random.values, w.n_in()), &have);
            *worst = worst.max(apart);
            if apart > way.limit || !apart.is_finite() {
                failed.push(
                    json!({ "way": way.name, "format": format!("{format:?}"), "error": apart }),
                );
            }
        }
    }
    let ways = ways.iter().zip(worst);
    let ways: Vec<Value> = ways
        .map(|(way, worst)| json!({ "way": way.name, "worst": worst, "limit": way.limit }))
        .collect();
    Ok(json!({ "formats": Format::ALL.len(), "ways": ways, "failed": failed }))
}

fn product(gpu: &Arc<Gpu>, way: &Way, x: &[f32], w: &Matrix) -> Result<Vec<f32>, Error> {
    let mut recorder = Recorder::new(Arc::clone(gpu));
    let scratch = Scratch::new(Arc::clone(gpu));
    let input = Tensor::new(&scratch, way.n_tok, w.n_in())?;
    let y = Tensor::new(&scratch, way.n_tok, w.n_out())?;
    recorder.write(input.buffer(), 0, bytemuck::cast_slice(x));
    multiply(&mut recorder, &scratch, &way.tuning, &input, w, &y, false)?;
    let bytes = recorder.read(y.buffer(), 0..y.bytes())?;
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}

fn reference(x: &[f32], w: &[f32], n_in: usize) -> Vec<f32> {
    let sum = |x: &[f32], w: &[f32]| {
        let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
        products.sum::<f64>() as f32
    };
    let rows = x.chunks_exact(n_in);
    rows.flat_map(|x| w.chunks_exact(n_in).map(move |w| sum(x, w)))
        .collect()
}

/// Runs every program of a folder, and counts what its tests say.
pub(super) fn tests(folder: &Path) -> Value {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return json!({ "failed": format!("{}: {error}", folder.display()) }),
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let one = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match Command::new(path).arg("--show-output").output() {
            Err(error) => json!({ "program": name, "failed": error.to_string() }),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout);
                let results = text.lines().filter(|line| line.starts_with("test result"));
                let skipped = text.lines().filter(|line| line.starts_with("skipped: "));
                let panics = String::from_utf8_lossy(&output.stderr);
                let failed: Vec<&str> = match output.status.success() {
                    true => Vec::new(),
                    false => text.lines().chain(panics.lines()).collect(),
                };
                json!({
                    "program": name,
                    "passed": output.status.success(),
                    "results": results.collect::<Vec<_>>(),
                    "skipped": skipped.collect::<Vec<_>>(),
                    "said": failed,
                })
            }
        }
    };
    Value::Array(paths.iter().map(one).collect())
}
