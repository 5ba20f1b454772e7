//! Measures a language model on a device of OpenVINO's: `openvino LIBRARY DEVICE MODEL WEIGHTS DIRECTORY TOKENS`.
//!
//! Compiles the GGUF file into the directory if nothing is there, reads a prompt of 32 tokens, and goes on with the
//! likeliest token. Prints a line of JSON. `bench/npu-openvino` compares with others.
#![expect(clippy::print_stdout, reason = "a measurement is what it is for")]

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use troika_base::TokenId;
use troika_device::{Batch, Output, PAGE_TOKENS, Resident, Sequence};
use troika_device_npu::openvino::{OpenVino, Settings, Target};
use troika_device_npu::{Backend, CompileOptions};
use troika_gguf::ModelFile;

const PROMPT: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, device, model, weights, directory, n_tok] = &arguments[..] else {
        return Err("usage: openvino LIBRARY DEVICE MODEL WEIGHTS DIRECTORY TOKENS".into());
    };
    let (target, settings) = match &**device {
        "cpu" => (Target::Cpu, Settings::default()),
        "gpu" => (Target::Gpu, Settings::default()),
        "npu" => (Target::Npu, Settings::default()),
        "npu-plugin-on-cpu" => (Target::Npu, Settings::npu_plugin_on_cpu()),
        other => return Err(format!("no device `{other}`").into()),
    };
    let backend = OpenVino::new(Path::new(library), target, settings)?;
    let file = ModelFile::open(Path::new(model))?;
    let options = CompileOptions {
        weights: weights.parse()?,
        n_ctx: 1024,
        chunk: 256,
    };
    let directory = Path::new(directory);
    if !directory.exists() {
        std::fs::create_dir_all(directory)?;
        let mut progress = |_| ControlFlow::Continue(());
        backend.compile(&file, &options, directory, &mut progress)?;
    }
    let start = Instant::now();
    let mut resident = backend.open(&file, &options, directory)?;
    let open_s = start.elapsed().as_secs_f64();
    let (prompt_ms, steps_ms) = generate(&mut *resident, n_tok.parse()?)?;
    println!(
        "{}",
        json!({
            "device": backend.description(),
            "weights": weights,
            "open_s": open_s,
            "prompt_ms": prompt_ms,
            "step_ms_median": median(steps_ms.clone()),
            "decode_tps": 1000.0 * steps_ms.len() as f64 / steps_ms.iter().sum::<f64>(),
        })
    );
    Ok(())
}

/// Milliseconds of the prompt and of each token after the first.
fn generate(resident: &mut dyn Resident, n_tok: usize) -> Result<(f64, Vec<f64>), Box<dyn Error>> {
    let prompt: Vec<TokenId> = (0..PROMPT).map(|i| TokenId(1000 + 7 * i as u32)).collect();
    let pages: Vec<usize> = (0..(PROMPT + n_tok).div_ceil(PAGE_TOKENS)).collect();
    let mut took_ms = Vec::new();
    let (mut tokens, mut position) = (prompt, 0);
    for _ in 0..n_tok {
        let sequence = Sequence {
            tokens: &tokens,
            position,
            pages: &pages,
            output: Output::LastLogits,
        };
        let start = Instant::now();
        let outputs = resident.step(&Batch {
            sequences: &[sequence],
        })?;
        let row = outputs.logits.last().ok_or("no logits")?;
        let likeliest = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let (likeliest, _) = likeliest.ok_or("no vocabulary")?;
        took_ms.push(start.elapsed().as_secs_f64() * 1000.0);
        position += tokens.len();
        tokens = vec![TokenId(u32::try_from(likeliest)?)];
    }
    let steps = took_ms.split_off(1);
    Ok((took_ms[0], steps))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
