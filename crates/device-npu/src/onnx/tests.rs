//! Static graphs compute what the CPU computes, on whatever runs them.
//!
//! T0 is in every build: rten. T1 is ONNX Runtime on the CPU, T3 the simulator of Qualcomm's NPU; where their libraries
//! are not found, a test says so and passes.

mod simulator;

use std::fs;
use std::ops::ControlFlow;
use std::sync::Mutex;

use tempfile::TempDir;
use troika_base::{DType, TokenId};
use troika_device::conformance::{Tolerance, agree, check};
use troika_device::{
    Batch, Cancelled, Device, Error, LoadOptions, LoadProgress, Output, Outputs, PAGE_TOKENS,
    Resident, Sequence,
};
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;

use super::Onnx;
use crate::exec::onnxruntime;
use crate::lower::tests::{SMALL, Shape};
use crate::{Backend, CompileOptions, WeightFormat};

/// A back end as a device that compiles whatever it loads.
struct Direct {
    backend: Onnx,
    weights: WeightFormat,
    chunk: usize,
    /// What it has compiled, until the test is over.
    directories: Mutex<Vec<TempDir>>,
}

impl Direct {
    fn new(backend: Onnx, weights: WeightFormat, chunk: usize) -> Self {
        Self {
            backend,
            weights,
            chunk,
            directories: Mutex::default(),
        }
    }
}

impl Device for Direct {
    fn name(&self) -> &str {
        "npu0"
    }

    fn description(&self) -> String {
        self.backend.description()
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        let total = troika_base::Bytes(file.tensors().iter().map(|tensor| tensor.bytes).sum());
        let mut tell = |done| match progress(LoadProgress { done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Cancelled) => Err(Error::Cancelled),
        };
        let options = CompileOptions {
            weights: self.weights,
            n_ctx: options.n_ctx,
            chunk: self.chunk,
        };
        let directory = tempfile::tempdir().expect("a directory can be made");
        tell(troika_base::Bytes(0))?;
        let mut goes_on = |_| ControlFlow::Continue(());
        let [draft, kept] = ["draft", "kept"].map(|name| directory.path().join(name));
        fs::create_dir(&draft).expect("a directory can be made");
        let compiled = self.backend.compile(file, &options, &draft, &mut goes_on);
        // As the cache does it.
        fs::rename(&draft, &kept).expect("nobody holds it");
        let opened = compiled.and_then(|()| self.backend.open(file, &options, &kept));
        let resident = opened.map_err(|error| match error {
            crate::Error::Device(error) => error,
            other => Error::Failed {
                device: self.name().to_owned(),
                reason: other.to_string(),
            },
        })?;
        self.directories
            .lock()
            .expect("nobody panics with it")
            .push(directory);
        tell(total)?;
        Ok(resident)
    }
}

fn cpu() -> CpuDevice {
    CpuDevice::new(2).expect("the CPU has the kernels that it was asked for")
}

fn load(device: &dyn Device, file: &ModelFile, n_ctx: usize) -> Box<dyn Resident> {
    let loaded = device.load(file, LoadOptions { n_ctx }, &mut |_| {
        ControlFlow::Continue(())
    });
    loaded.unwrap_or_else(|error| panic!("{}: {error}", device.description()))
}

fn small(shape: Shape, dtype: DType) -> ModelFile {
    ModelFile::from_bytes("small", shape.bytes(dtype, |_| ())).expect("it is sound")
}

fn text(seed: usize, n_tok: usize, n_vocab: usize) -> Vec<TokenId> {
    let token = |i: usize| ((seed * 31 + i * (i + 7)) % n_vocab) as u32;
    (0..n_tok).map(|i| TokenId(token(i))).collect()
}

fn step(
    resident: &mut dyn Resident,
    tokens: &[TokenId],
    position: usize,
    output: Output,
) -> Outputs {
    let n_page = (position + tokens.len()).div_ceil(PAGE_TOKENS);
    let pages: Vec<usize> = (0..n_page).collect();
    let sequences = [Sequence {
        tokens,
        position,
        pages: &pages,
        output,
    }];
    let batch = Batch {
        sequences: &sequences,
    };
    resident
        .step(&batch)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A prompt in chunks and then token by token, `n_tok` in all: the least cosine of any step's logits with the CPU's.
fn least_cosine(device: &dyn Device, shape: Shape, n_prompt: usize, n_tok: usize) -> f64 {
    let file = small(shape, DType::F32);
    let n_ctx = n_tok.next_multiple_of(PAGE_TOKENS);
    let tokens = text(1, n_tok, shape.n_vocab);
    let want = step(
        &mut *load(&cpu(), &file, n_ctx),
        &tokens,
        0,
        Output::AllLogits,
    );
    let mut resident = load(device, &file, n_ctx);
    let mut least = f64::INFINITY;
    let mut compare = |at: usize, have: &Outputs| {
        let want = want.logits.rows().nth(at).expect("a row for each token");
        least = least.min(cosine(want, have.logits.last().expect("it was asked for")));
    };
    let prompt = step(&mut *resident, &tokens[..n_prompt], 0, Output::LastLogits);
    compare(n_prompt - 1, &prompt);
    for at in n_prompt..n_tok {
        let have = step(&mut *resident, &tokens[at..=at], at, Output::LastLogits);
        compare(at, &have);
    }
    println!(
        "ran {n_tok} tokens of {} layers of {} on {}: cosine at least {least:.6}",
        shape.n_layer,
        shape.architecture,
        device.description()
    );
    least
}

/// The graph's past is rounded to f16 and its present is not, so where a prompt is cut matters a little.
const CUTS: Tolerance = Tolerance(|_| 5e-3);

#[test]
fn t0_rten_passes_the_suite_of_all_devices() {
    let device = Direct::new(Onnx::rten(), WeightFormat::F16, 32);
    check(&device, CUTS).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Also that sequences go on here which the CPU has begun, and the other way round.
#[test]
fn t0_rten_agrees_with_the_cpu() {
    let device = Direct::new(Onnx::rten().with_slots(2), WeightFormat::F16, 16);
    // The CPU rounds activations for what is quantized, to eight bits or to bf16.
    let tolerance = Tolerance(|dtype| match dtype {
        DType::F32 => 5e-3,
        _ => 0.1,
    });
    agree(&device, &cpu(), tolerance).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn t0_rten_computes_six_layers_as_the_cpu_does() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let shape = Shape {
            architecture,
            ..SMALL
        };
        let device = Direct::new(Onnx::rten(), WeightFormat::F16, 16);
        assert!(least_cosine(&device, shape, 37, 64) > 0.9999);
    }
}

#[test]
fn t1_onnxruntime_passes_the_suite_of_all_devices() {
    let Some(runtime) = onnxruntime::tests::runtime() else {
        return;
    };
    let device = Direct::new(Onnx::cpu(runtime), WeightFormat::F16, 32);
    check(&device, CUTS).unwrap_or_else(|failure| panic!("{failure}"));
    println!("ran the suite on {}", device.description());
}

#[test]
fn t1_onnxruntime_computes_six_layers_as_the_cpu_does() {
    let Some(runtime) = onnxruntime::tests::runtime() else {
        return;
    };
    for architecture in ["llama", "qwen2", "qwen3"] {
        let shape = Shape {
            architecture,
            ..SMALL
        };
        let device = Direct::new(Onnx::cpu(runtime.clone()), WeightFormat::F16, 16);
        assert!(least_cosine(&device, shape, 37, 64) >= 0.999);
    }
}

/// Few bits lose much of random weights, but lose the same everywhere.
#[test]
fn t1_onnxruntime_and_rten_read_all_formats_of_weights_alike() {
    let Some(runtime) = onnxruntime::tests::runtime() else {
        return;
    };
    for weights in WeightFormat::ALL {
        let file = small(SMALL, DType::F32);
        let tokens = text(1, 40, SMALL.n_vocab);
        let [one, other] = [Onnx::rten(), Onnx::cpu(runtime.clone())].map(|backend| {
            let device = Direct::new(backend, weights, 16);
            step(
                &mut *load(&device, &file, 64),
                &tokens,
                0,
                Output::AllLogits,
            )
        });
        let rows = one.logits.rows().zip(other.logits.rows());
        let least = rows
            .map(|(a, b)| cosine(a, b))
            .fold(f64::INFINITY, f64::min);
        println!("ran 40 tokens with {weights}: cosine at least {least:.7}");
        assert!(least > 0.99999);
    }
}
