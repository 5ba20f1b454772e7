//! A model of eight thousand million weights that are nobody's, and how busy the GPU is while it writes.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use troika_base::TokenId;
use troika_device::{Batch, Error, KvShape, Output, PAGE_TOKENS, Rope, RopePairs, Sequence};
use troika_device_gpu::attention::{Cache, KvFormat, Plan, Window, attend, rotate};
use troika_device_gpu::matmul::{multiply, multiply_all};
use troika_device_gpu::rows::{add_rms_norm, rms_norm, swiglu};
use troika_device_gpu::select::{Top, argmax};
use troika_device_gpu::tune::{Shape, noise_matrix};
use troika_device_gpu::weights::{Format, embed};
use troika_device_gpu::{Buffer, Gpu, Matrix, Recorder, Scratch, Tensor, Tuning};

/// Sizes of a transformer.
#[derive(Clone, Copy)]
struct Sizes {
    n_layer: usize,
    n_embd: usize,
    n_ff: usize,
    n_head: usize,
    n_head_kv: usize,
    head_dim: usize,
    n_vocab: usize,
    /// Tokens that are in the cache already.
    past: usize,
    /// Tokens to write.
    n_tok: usize,
}

/// As common models of this size are.
const EIGHT_B: Sizes = Sizes {
    n_layer: 32,
    n_embd: 4096,
    n_ff: 14336,
    n_head: 32,
    n_head_kv: 8,
    head_dim: 128,
    n_vocab: 128_256,
    past: 512,
    n_tok: 128,
};

const SMALL: Sizes = Sizes {
    n_layer: 2,
    n_embd: 256,
    n_ff: 512,
    n_head: 4,
    n_head_kv: 2,
    head_dim: 64,
    n_vocab: 1024,
    past: 32,
    n_tok: 32,
};

struct Layer {
    attn_norm: Buffer,
    q: Matrix,
    k: Matrix,
    v: Matrix,
    o: Matrix,
    ffn_norm: Buffer,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

struct Model {
    sizes: Sizes,
    table: Matrix,
    layers: Vec<Layer>,
    norm: Buffer,
    head: Matrix,
}

impl Model {
    fn new(recorder: &mut Recorder, sizes: Sizes) -> Result<Self, Error> {
        let gpu = Arc::clone(recorder.gpu());
        let ones = vec![1.0_f32; sizes.n_embd];
        let norm = || gpu.buffer_with(bytemuck::cast_slice(&ones), "norm");
        let mut matrix = |n_out, n_in| {
            let shape = Shape {
                format: Format::Q4_0,
                n_out,
                n_in,
                count: 1,
            };
            noise_matrix(recorder, shape)
        };
        let (n_embd, n_ff) = (sizes.n_embd, sizes.n_ff);
        let (n_q, n_kv) = (
            sizes.n_head * sizes.head_dim,
            sizes.n_head_kv * sizes.head_dim,
        );
        let mut layers = Vec::new();
        for _ in 0..sizes.n_layer {
            layers.push(Layer {
                attn_norm: norm()?,
                q: matrix(n_q, n_embd)?,
                k: matrix(n_kv, n_embd)?,
                v: matrix(n_kv, n_embd)?,
                o: matrix(n_embd, n_q)?,
                ffn_norm: norm()?,
                gate: matrix(n_ff, n_embd)?,
                up: matrix(n_ff, n_embd)?,
                down: matrix(n_embd, n_ff)?,
            });
        }
        Ok(Self {
            sizes,
            table: matrix(sizes.n_vocab, n_embd)?,
            layers,
            norm: norm()?,
            head: matrix(sizes.n_vocab, n_embd)?,
        })
    }

    /// Bytes of weights that a token reads.
    fn bytes(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| {
            let attention = [&layer.q, &layer.k, &layer.v, &layer.o];
            let rest = [&layer.gate, &layer.up, &layer.down];
            let all = attention.into_iter().chain(rest);
            all.map(|w| w.bytes().0).sum::<u64>()
        });
        layers.sum::<u64>() + self.head.bytes().0
    }
}

/// What a run of the model needs beside it.
struct Run<'m> {
    model: &'m Model,
    recorder: Recorder,
    scratch: Scratch,
    tuning: Tuning,
    cache: Cache,
    pages: Vec<usize>,
    rope: Rope,
}

const EPS: f32 = 1e-5;

impl<'m> Run<'m> {
    fn new(gpu: &Arc<Gpu>, model: &'m Model) -> Result<Self, Error> {
        let sizes = model.sizes;
        let shape = KvShape {
            n_layer: sizes.n_layer,
            n_head_kv: sizes.n_head_kv,
            head_dim: sizes.head_dim,
            kv_type: troika_base::KvType::F16,
        };
        let n_page = (sizes.past + sizes.n_tok).div_ceil(PAGE_TOKENS);
        let half = sizes.head_dim / 2;
        let frequency = |i: usize| 500_000_f64.powf(-(i as f64) / half as f64);
        Ok(Self {
            model,
            recorder: Recorder::new(Arc::clone(gpu)),
            scratch: Scratch::new(Arc::clone(gpu)),
            tuning: Tuning::of(gpu),
            cache: Cache::new(gpu, shape, n_page, KvFormat::F16)?,
            pages: (0..n_page).collect(),
            rope: Rope {
                pairs: RopePairs::Halves,
                frequencies: (0..half).map(frequency).collect(),
                magnitude: 1.0,
            },
        })
    }

    /// One token, whose id is in `tokens`, at a position: the likeliest that follows, and all logits.
    fn step(&mut self, tokens: &Buffer, position: usize) -> Result<(Top, Tensor), Error> {
        let sizes = self.model.sizes;
        let batch = Batch {
            sequences: &[Sequence {
                tokens: &[TokenId(0)],
                position,
                pages: &self.pages[..(position + 1).div_ceil(PAGE_TOKENS)],
                output: Output::LastLogits,
            }],
        };
        let (recorder, scratch) = (&mut self.recorder, &self.scratch);
        let plan = Plan::new(recorder, scratch, &batch, &self.rope, self.cache.shape())?;
        let tensor = |width| Tensor::new(scratch, 1, width);
        let x = tensor(sizes.n_embd)?;
        let h = tensor(sizes.n_embd)?;
        embed(recorder, &self.model.table, tokens, 1, &x)?;
        let mut added: Option<Tensor> = None;
        for (l, layer) in self.model.layers.iter().enumerate() {
            match added.take() {
                None => rms_norm(recorder, &x, &layer.attn_norm, EPS, &h)?,
                Some(y) => add_rms_norm(recorder, &x, &y, &layer.attn_norm, EPS, &h)?,
            }
            let q = tensor(sizes.n_head * sizes.head_dim)?;
            let k = tensor(sizes.n_head_kv * sizes.head_dim)?;
            let v = tensor(sizes.n_head_kv * sizes.head_dim)?;
            let products = [(&layer.q, &q), (&layer.k, &k), (&layer.v, &v)];
            multiply_all(recorder, scratch, &self.tuning, &h, &products, false)?;
            rotate(recorder, &plan, &q, sizes.head_dim)?;
            rotate(recorder, &plan, &k, sizes.head_dim)?;
            let out = tensor(q.width())?;
            let (cache, all) = (&mut self.cache, Window::default());
            attend(recorder, scratch, &plan, cache, l, &q, &k, &v, &out, all)?;
            let y = tensor(sizes.n_embd)?;
            multiply(recorder, scratch, &self.tuning, &out, &layer.o, &y, false)?;
            add_rms_norm(recorder, &x, &y, &layer.ffn_norm, EPS, &h)?;
            let (gate, up) = (tensor(sizes.n_ff)?, tensor(sizes.n_ff)?);
            let products = [(&layer.gate, &gate), (&layer.up, &up)];
            multiply_all(recorder, scratch, &self.tuning, &h, &products, false)?;
            swiglu(recorder, &gate, &up)?;
            multiply(
                recorder,
                scratch,
                &self.tuning,
                &gate,
                &layer.down,
                &y,
                false,
            )?;
            added = Some(y);
        }
        if let Some(y) = added {
            add_rms_norm(recorder, &x, &y, &self.model.norm, EPS, &h)?;
        }
        let logits = tensor(sizes.n_vocab)?;
        multiply(
            recorder,
            scratch,
            &self.tuning,
            &h,
            &self.model.head,
            &logits,
            false,
        )?;
        Ok((argmax(recorder, scratch, &logits)?, logits))
    }

    /// All tokens, each from the one before. Returns seconds until all was recorded, and until all was done.
    fn write(&mut self, host: Host) -> Result<(f64, f64), Error> {
        let gpu = Arc::clone(self.recorder.gpu());
        let first = gpu.buffer_with(bytemuck::bytes_of(&1u32), "token")?;
        let (past, n_tok) = (self.model.sizes.past, self.model.sizes.n_tok);
        // What was recorded before is none of this.
        self.recorder.submit();
        gpu.wait()?;
        let begun = Instant::now();
        let (mut top, mut logits) = self.step(&first, past)?;
        for i in 1..n_tok {
            let bytes = logits.bytes();
            let parts = [(&**logits.buffer(), 0..bytes), (top.ids(), 0..4)];
            let before = (host != Host::Leaves).then(|| self.recorder.fetch(&parts));
            // Whoever waits for a token has all of it before the next step is recorded.
            let before = match (host, before) {
                (Host::Waits, Some(before)) => {
                    self.recorder.fetched(before)?;
                    None
                }
                (_, before) => before,
            };
            (top, logits) = self.step(top.ids(), past + i)?;
            self.recorder.submit();
            if let Some(before) = before {
                self.recorder.fetched(before)?;
            }
        }
        self.recorder.submit();
        let recorded = begun.elapsed().as_secs_f64();
        gpu.wait()?;
        Ok((recorded, begun.elapsed().as_secs_f64()))
    }
}

/// What the host does with each token's logits.
#[derive(Clone, Copy, PartialEq)]
enum Host {
    /// Nothing: all steps are handed over at once.
    Leaves,
    /// It takes them once the next step is handed over, as the engine does with a greedy answer.
    IsAhead,
    /// It takes them before it records the next step.
    Waits,
}

/// Decodes with the host waiting for each token, with the host a step ahead, and with all tokens handed over at once: the
/// GPU is idle for the differences, as long as the host records faster than the GPU computes.
pub(super) fn gate(gpu: &Arc<Gpu>, small: bool) -> Result<Value, Error> {
    let sizes = if small { SMALL } else { EIGHT_B };
    let mut recorder = Recorder::new(Arc::clone(gpu));
    let model = Model::new(&mut recorder, sizes)?;
    recorder.submit();
    gpu.wait()?;
    let mut run = Run::new(gpu, &model)?;
    // Compiles what is to be compiled.
    run.write(Host::Leaves)?;
    let before = run.recorder.dispatches();
    let (recorded, at_once) = run.write(Host::Leaves)?;
    let dispatches = run.recorder.dispatches() - before;
    let (_, one_ahead) = run.write(Host::IsAhead)?;
    let (_, one_by_one) = run.write(Host::Waits)?;
    let per_token = |seconds: f64| seconds * 1e3 / sizes.n_tok as f64;
    let busy = recorded < 0.9 * at_once;
    // Where the host is the slower one, the GPU is idle in all of them, and this would not show it.
    let idle = |seconds: f64| busy.then(|| (1.0 - at_once / seconds).max(0.0));
    Ok(json!({
        "weights_bytes": model.bytes(),
        "past": sizes.past,
        "tokens": sizes.n_tok,
        "dispatches_per_token": dispatches as f64 / sizes.n_tok as f64,
        "cpu_ms_per_token": per_token(recorded),
        "cpu_us_per_dispatch": recorded * 1e6 / dispatches as f64,
        "ms_per_token_all_at_once": per_token(at_once),
        "ms_per_token_one_ahead": per_token(one_ahead),
        "ms_per_token_one_by_one": per_token(one_by_one),
        "gbs_one_by_one": model.bytes() as f64 * sizes.n_tok as f64 / one_by_one / 1e9,
        "idle_share_one_by_one": idle(one_by_one),
        "idle_share_one_ahead": idle(one_ahead),
        "gpu_is_the_slower_one": busy,
    }))
}
