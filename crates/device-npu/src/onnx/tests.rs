//! Static graphs compute what the CPU computes, on whatever runs them.
//!
//! T0 is in every build: rten. T1 is ONNX Runtime on the CPU, T3 the simulator of Qualcomm's NPU; where their libraries
//! are not found, a test says so and passes.

mod simulator;

use std::fs;
use std::ops::ControlFlow;
use std::sync::Mutex;

use tempfile::TempDir;
use troika_base::DType;
use troika_device::conformance::{Tolerance, agree, check};
use troika_device::{
    Cancelled, Device, Error, LoadOptions, LoadProgress, Output, PAGE_TOKENS, Resident,
};
use troika_gguf::ModelFile;

use super::Onnx;
use crate::exec::onnxruntime;
use crate::lower::tests::{SMALL, Shape};
use crate::testing::{self, cosine, cpu, load, step, text};
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

fn small(shape: Shape, dtype: DType) -> ModelFile {
    ModelFile::from_bytes("small", shape.bytes(dtype, |_| ())).expect("it is sound")
}

/// 64 tokens of a small model: the least cosine of any step's logits with the CPU's.
fn least_cosine(device: &dyn Device, shape: Shape) -> f64 {
    testing::least_cosine(device, &small(shape, DType::F32), 64, (37, 64))
}

/// The graph's past is rounded to f16 and its present is not, so where a prompt is cut matters a little.
const CUTS: Tolerance = Tolerance(|_| 5e-3);

#[test]
fn t0_rten_passes_the_suite_of_all_devices() {
    let device = Direct::new(Onnx::rten().with_slots(2), WeightFormat::F16, 32);
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

/// As many sequences as there are slots, and one more: what is staged of one gives way to another.
fn several_at_once(backend: impl Fn() -> Onnx) {
    for (slots, n_sequence) in [(2, 2), (3, 3), (2, 3), (1, 2)] {
        let device = Direct::new(backend().with_slots(slots), WeightFormat::F16, 16);
        let least = testing::crowd(&device, &small(SMALL, DType::F32), 128, n_sequence);
        assert!(least > 0.9999, "{n_sequence} in {slots} slots: {least}");
    }
}

#[test]
fn t0_rten_computes_several_sequences_at_once() {
    several_at_once(Onnx::rten);
}

#[test]
fn t1_onnxruntime_computes_several_sequences_at_once() {
    let Some(runtime) = onnxruntime::tests::runtime() else {
        return;
    };
    several_at_once(|| Onnx::cpu(runtime.clone()));
}

#[test]
fn t0_rten_computes_six_layers_as_the_cpu_does() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let shape = Shape {
            architecture,
            ..SMALL
        };
        let device = Direct::new(Onnx::rten(), WeightFormat::F16, 16);
        assert!(least_cosine(&device, shape) > 0.9999);
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
        assert!(least_cosine(&device, shape) >= 0.999);
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
