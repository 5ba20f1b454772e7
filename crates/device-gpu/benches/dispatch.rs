//! What the CPU pays to have the GPU decode one token: the dispatches of a step, with next to nothing to compute.
//!
//! The step has the shape of a model with a billion weights: 22 layers, by the kernels that a model uses, but every row
//! is of 32 values. What is timed is recording and submitting, up to where a token would be waited for.

#![expect(clippy::print_stdout, reason = "it is what this is for")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use troika_base::{DType, TokenId};
use troika_device::{
    Batch, Device, Error, KvShape, LoadOptions, Output, PAGE_TOKENS, Rope, RopePairs, Sequence,
    conformance,
};
use troika_device_gpu::attention::{Cache, KvFormat, Plan, Window, attend, rotate};
use troika_device_gpu::matmul::{Tuning, multiply, multiply_all};
use troika_device_gpu::weights::embed;
use troika_device_gpu::{
    Buffer, Gpu, GpuOps, Matrix, Options, Recorder, Scratch, Tensor, find, rows,
};
use troika_engine::OpsDevice;
use troika_gguf::{Metadata, ModelFile, Writer};

const WIDTH: usize = 32;
const STEPS: usize = 300;
const SHAPE: KvShape = KvShape {
    n_layer: 22,
    n_head_kv: 1,
    head_dim: WIDTH,
    kv_type: troika_base::KvType::F16,
};

struct Layer {
    norms: [Buffer; 2],
    qkv: [Matrix; 3],
    attn_output: Matrix,
    gate_up: [Matrix; 2],
    down: Matrix,
}

struct Model {
    table: Matrix,
    layers: Vec<Layer>,
    output: Matrix,
    cache: Cache,
    rope: Rope,
    recorder: Recorder,
    scratch: Scratch,
    tuning: Tuning,
}

impl Model {
    fn new(gpu: &Arc<Gpu>) -> Result<Self, Error> {
        let zeros = vec![0; DType::Q4_0.row_bytes(WIDTH * WIDTH).expect("whole blocks")];
        let mut writer = Writer::new(Metadata::default());
        writer.tensor_bytes("zeros", DType::Q4_0, &[WIDTH as u64; 2], &zeros);
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes)?;
        let file = ModelFile::from_bytes("zeros", bytes)?;
        let load = || Matrix::load(gpu, &file, &file.tensors()[0]);
        let norm = || gpu.buffer(WIDTH * size_of::<f32>(), "norm");
        let layer = |_| {
            Ok(Layer {
                norms: [norm()?, norm()?],
                qkv: [load()?, load()?, load()?],
                attn_output: load()?,
                gate_up: [load()?, load()?],
                down: load()?,
            })
        };
        Ok(Self {
            table: load()?,
            layers: (0..SHAPE.n_layer)
                .map(layer)
                .collect::<Result<_, Error>>()?,
            output: load()?,
            cache: Cache::new(gpu, SHAPE, 1, KvFormat::F16)?,
            rope: Rope {
                pairs: RopePairs::Adjacent,
                frequencies: vec![1.0; WIDTH / 2],
                magnitude: 1.0,
            },
            recorder: Recorder::new(Arc::clone(gpu)),
            scratch: Scratch::new(Arc::clone(gpu)),
            tuning: Tuning::of(gpu),
        })
    }

    /// Decodes the token at this position.
    fn step(&mut self, position: usize) -> Result<(), Error> {
        let (recorder, scratch, tuning) = (&mut self.recorder, &self.scratch, &self.tuning);
        let tensor = || Tensor::new(scratch, 1, WIDTH);
        let sequences = [Sequence {
            tokens: &[TokenId(0)],
            position,
            pages: &[0],
            output: Output::LastLogits,
        }];
        let batch = Batch {
            sequences: &sequences,
        };
        let plan = Plan::new(recorder, scratch, &batch, &self.rope, SHAPE)?;
        let ids = scratch.take(4)?;
        recorder.write(&ids, 0, &[0; 4]);
        let x = tensor()?;
        embed(recorder, &self.table, &ids, 1, &x)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let h = tensor()?;
            rows::rms_norm(recorder, &x, &layer.norms[0], 1e-5, &h)?;
            let [q, k, v] = [tensor()?, tensor()?, tensor()?];
            let products = [
                (&layer.qkv[0], &q),
                (&layer.qkv[1], &k),
                (&layer.qkv[2], &v),
            ];
            multiply_all(recorder, scratch, tuning, &h, &products, false)?;
            rotate(recorder, &plan, &q, WIDTH)?;
            rotate(recorder, &plan, &k, WIDTH)?;
            let (cache, window) = (&mut self.cache, Window::default());
            attend(recorder, scratch, &plan, cache, i, &q, &k, &v, &h, window)?;
            multiply(recorder, scratch, tuning, &h, &layer.attn_output, &x, true)?;
            rows::rms_norm(recorder, &x, &layer.norms[1], 1e-5, &h)?;
            let products = [(&layer.gate_up[0], &q), (&layer.gate_up[1], &k)];
            multiply_all(recorder, scratch, tuning, &h, &products, false)?;
            rows::swiglu(recorder, &q, &k)?;
            multiply(recorder, scratch, tuning, &q, &layer.down, &x, true)?;
        }
        let logits = tensor()?;
        multiply(recorder, scratch, tuning, &x, &self.output, &logits, false)?;
        recorder.submit();
        Ok(())
    }
}

/// What this thread has computed so far; `None` where the system does not tell, which is anywhere but on Linux. It is
/// known to a few milliseconds, so it is of use for many steps alone.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Decodes tokens, and says what that costs.
fn measure(model: &mut Model, gpu: &Gpu, how: &str) -> Result<(), Error> {
    // Compiles the kernels.
    for position in 0..PAGE_TOKENS {
        model.step(position)?;
        gpu.wait()?;
    }
    let mut times = Vec::with_capacity(STEPS);
    let (before, cpu_before) = (model.recorder.dispatches(), cpu_time());
    for i in 0..STEPS {
        let start = Instant::now();
        model.step(i % PAGE_TOKENS)?;
        times.push(start.elapsed());
        gpu.wait()?;
    }
    let n_dispatch = (model.recorder.dispatches() - before) as f64 / STEPS as f64;
    let say = |what: &str, time: Duration| {
        let seconds = time.as_secs_f64();
        let (ms, us) = (seconds * 1e3, seconds * 1e6 / n_dispatch);
        println!("  {what}: {ms:.3} ms per token, {us:.2} µs per dispatch");
    };
    println!("{how}, {n_dispatch} dispatches per token");
    if let (Some(before), Some(after)) = (cpu_before, cpu_time()) {
        say(
            "CPU time of the thread, waiting included",
            (after - before) / STEPS as u32,
        );
    }
    times.sort();
    say("time until a step is submitted, at best", times[0]);
    say("time until a step is submitted, median", times[STEPS / 2]);
    Ok(())
}

/// Tokens of an answer that is timed.
const ANSWER: usize = 200;

/// What a token takes as the engine has it, with the host waiting for each and with the host a step ahead. The model is a
/// small one of as many layers.
fn answer(gpu: &Arc<Gpu>) -> Result<(), Error> {
    let options = LoadOptions::new(256);
    let gpu_of = Arc::clone(gpu);
    let open = move |_: &_, _| {
        let tuning = Tuning::of(&gpu_of);
        Ok((
            GpuOps::new(Arc::clone(&gpu_of), tuning, KvFormat::F16),
            None,
        ))
    };
    let device = OpsDevice::new("gpu0".to_owned(), "the GPU under test".to_owned(), open);
    let file = conformance::deep_model(SHAPE.n_layer);
    let mut resident = device.load(&file, options, &mut |_| ControlFlow::Continue(()))?;
    let pages: Vec<usize> = (0..resident.n_page()).collect();
    let mut write = |ahead: bool| {
        let mut token = TokenId(1);
        for position in 0..ANSWER {
            let sequences = [Sequence {
                tokens: &[token],
                position,
                pages: &pages,
                output: Output::LastLogits,
            }];
            let batch = Batch {
                sequences: &sequences,
            };
            let outputs = match ahead {
                true => resident.step_ahead(&batch)?,
                false => resident.step(&batch)?,
            };
            let logits = outputs.logits.values;
            let best =
                (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
            token = TokenId(best.unwrap_or(0) as u32);
        }
        Ok::<(), Error>(())
    };
    for (how, ahead) in [("waiting for each token", false), ("a step ahead", true)] {
        write(ahead)?;
        let (start, cpu_before, submitted) = (Instant::now(), cpu_time(), gpu.submissions());
        write(ahead)?;
        let ms = |time: Duration| time.as_secs_f64() * 1e3 / ANSWER as f64;
        let took = ms(start.elapsed());
        let submissions = (gpu.submissions() - submitted) as f64 / ANSWER as f64;
        println!("an answer, {how}: {took:.3} ms per token, {submissions:.1} submissions");
        if let (Some(before), Some(after)) = (cpu_before, cpu_time()) {
            println!(
                "  CPU time of the thread, waiting included: {:.3} ms per token",
                ms(after - before)
            );
        }
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let Some(found) = find().into_iter().next() else {
        println!("skipped: no Vulkan, Metal or DX12 driver here");
        return Ok(());
    };
    println!("{}, {}", found.name, found.driver);
    let gpu = found.open("gpu0", Options::default())?;
    let mut model = Model::new(&gpu)?;
    measure(&mut model, &gpu, "submitted as it is recorded")?;
    // A GPU that is a program takes its time from the same processor: then this alone is the CPU's part.
    model.recorder.submit_after(usize::MAX);
    measure(&mut model, &gpu, "submitted at the end")?;
    answer(&gpu)
}
