//! The operations that architectures are written over, on a GPU: each names its kernels, and a recorder notes them down.
//!
//! Nothing is computed when an operation returns: the GPU is busy with what came before it. So a failure shows later. The
//! first one of a step is kept, what would build on it is skipped, and it is told where results come back.

mod ahead;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use half::f16;
use troika_base::TokenId;
use troika_device::{
    Ahead, Attending, Batch, Error, Feature, Gating, Hidden, KvShape, Logits, Mixture, Ops, Rope,
    cpu,
};
use troika_gguf::{ModelFile, TensorInfo};

use crate::attention::{Cache, KvFormat, Plan, Window, attend, rotate};
use crate::matmul::{Tuning, multiply_all};
use crate::weights::{Matrix, embed};
use crate::{Buffer, Gpu, Recorder, Scratch, ScratchBuffer, Tensor, rows};
use ahead::Leaving;

/// A GPU's operations for one model: commands in one order, and memory for activations.
#[derive(Debug)]
pub struct GpuOps {
    stream: Stream,
    kv_format: KvFormat,
    /// That of the one cache, which steps are planned for.
    kv_shape: OnceLock<KvShape>,
    failure: Option<Error>,
    /// Whether something was noted down that nobody has waited for.
    under_way: bool,
}

/// Commands, and what they work on.
#[derive(Debug)]
struct Stream {
    recorder: Recorder,
    scratch: Scratch,
    tuning: Tuning,
    leaving: Leaving,
}

/// Activations; nothing after a failure.
#[derive(Debug)]
pub struct Activations(Option<Tensor>);

impl Activations {
    fn get(&self) -> Result<&Tensor, Stop> {
        self.0.as_ref().ok_or(Stop::Before)
    }
}

/// Why an operation was not noted down.
enum Stop {
    /// It failed.
    Failed(Error),
    /// One before it did.
    Before,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl GpuOps {
    /// Operations on a GPU that is open, by kernels that are chosen so, with a cache of such numbers.
    pub fn new(gpu: Arc<Gpu>, tuning: Tuning, kv_format: KvFormat) -> Self {
        Self {
            stream: Stream {
                scratch: Scratch::new(Arc::clone(&gpu)),
                recorder: Recorder::new(gpu),
                tuning,
                leaving: Leaving::default(),
            },
            kv_format,
            kv_shape: OnceLock::new(),
            failure: None,
            under_way: false,
        }
    }

    /// The GPU.
    pub fn gpu(&self) -> &Arc<Gpu> {
        self.stream.recorder.gpu()
    }

    /// Dispatches so far.
    pub fn dispatches(&self) -> u64 {
        self.stream.recorder.dispatches()
    }

    /// Notes an operation down, unless one has failed before it.
    fn note<T>(&mut self, operation: impl FnOnce(&mut Stream) -> Result<T, Stop>) -> Option<T> {
        if self.failure.is_some() {
            return None;
        }
        self.under_way = true;
        match operation(&mut self.stream) {
            Ok(made) => Some(made),
            Err(Stop::Before) => None,
            Err(Stop::Failed(error)) => {
                self.failure = Some(error);
                None
            }
        }
    }

    /// As [`Self::note`], of what makes activations.
    fn make(&mut self, operation: impl FnOnce(&mut Stream) -> Result<Tensor, Stop>) -> Activations {
        Activations(self.note(operation))
    }

    /// What went wrong since somebody was told last.
    fn check(&mut self) -> Result<(), Error> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Scores of all rows, in parts that one kernel can see: those of a whole prompt may be more. Returns how many rows
    /// there are.
    fn score(
        &mut self,
        x: &Activations,
        output: &Matrix,
        mut take: impl FnMut(&mut Self, Tensor) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let row = (output.n_out() * size_of::<f32>()) as u64;
        let step = (self.gpu().caps().binding.0 / row).max(1) as usize;
        let n_tok = x.0.as_ref().map_or(0, Tensor::n_tok);
        for first in (0..n_tok).step_by(step) {
            let some: Vec<usize> = (first..n_tok.min(first + step)).collect();
            let part = (some.len() < n_tok).then(|| self.rows(x, &some));
            let [scores] = self.matmul(part.as_ref().unwrap_or(x), [output]);
            let Some(scores) = scores.0 else { break };
            take(self, scores)?;
        }
        Ok(n_tok)
    }

    /// Waits for activations.
    fn read(&mut self, x: &Tensor) -> Result<Vec<f32>, Error> {
        self.under_way = false;
        let bytes = self.stream.recorder.read(x.buffer(), 0..x.bytes())?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}

impl Stream {
    fn tensor(&self, n_tok: usize, width: usize) -> Result<Tensor, Error> {
        Tensor::new(&self.scratch, n_tok, width)
    }

    fn upload_tokens(&mut self, tokens: &[TokenId]) -> Result<ScratchBuffer, Error> {
        let ids: Vec<u32> = tokens.iter().map(|token| token.0).collect();
        let buffer = self.scratch.take(size_of_val(&ids[..]))?;
        self.recorder.write(&buffer, 0, bytemuck::cast_slice(&ids));
        Ok(buffer)
    }

    fn products<const N: usize>(
        &mut self,
        x: &Tensor,
        w: [&Matrix; N],
    ) -> Result<Vec<Tensor>, Error> {
        let outputs = w.iter().map(|w| self.tensor(x.n_tok(), w.n_out()));
        let outputs = outputs.collect::<Result<Vec<_>, Error>>()?;
        let products: Vec<_> = w.into_iter().zip(&outputs).collect();
        self.multiply(x, &products, false)?;
        Ok(outputs)
    }

    fn multiply(
        &mut self,
        x: &Tensor,
        products: &[(&Matrix, &Tensor)],
        add: bool,
    ) -> Result<(), Error> {
        let (recorder, scratch) = (&mut self.recorder, &self.scratch);
        multiply_all(recorder, scratch, &self.tuning, x, products, add)
    }
}

const LACKING: &str = "a model that asks for it was refused. This is a bug.";

impl Ops for GpuOps {
    type Tensor = Activations;
    type Matrix = Matrix;
    type Vector = Buffer;
    /// The kernels for experts are not behind an operation yet: models that have some are refused.
    type Experts = std::convert::Infallible;
    type Kv = Cache;
    type Step = Plan;

    fn load_matrix(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Matrix, Error> {
        Matrix::load(self.gpu(), file, tensor)
    }

    fn load_vector(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Buffer, Error> {
        let values = cpu::read_floats(file, tensor)?;
        self.gpu()
            .buffer_with(bytemuck::cast_slice(&values), &tensor.name)
    }

    fn matrix_bytes(&self, matrix: &Matrix) -> usize {
        matrix.bytes().0 as usize
    }

    fn lacks(&self, feature: Feature) -> Option<String> {
        let has = matches!(
            feature,
            Feature::SlidingWindow | Feature::Sinks | Feature::Gelu | Feature::Add
        );
        (!has).then(|| self.gpu().name().to_owned())
    }

    fn load_experts(
        &self,
        _: &ModelFile,
        _: &TensorInfo,
    ) -> Result<std::convert::Infallible, Error> {
        unreachable!("{LACKING}")
    }

    fn experts_bytes(&self, experts: &std::convert::Infallible) -> usize {
        match *experts {}
    }

    fn new_kv(&self, shape: KvShape, n_page: usize) -> Result<Cache, Error> {
        if !Cache::holds(shape) {
            let head_dim = shape.head_dim;
            return Err(Error::Unsupported {
                model: "this model".to_owned(),
                device: self.gpu().name().to_owned(),
                reason: format!("its heads have {head_dim} values, not a multiple of 4 up to 256"),
            });
        }
        let planned = self.kv_shape.get_or_init(|| shape);
        assert_eq!(*planned, shape, "one cache for each model");
        Cache::new(self.gpu(), shape, n_page, self.kv_format)
    }

    fn copy_page(&mut self, kv: &mut Cache, from: usize, to: usize) {
        self.note(|stream| {
            kv.copy_page(&mut stream.recorder, from, to);
            Ok(())
        });
    }

    fn read_kv(
        &mut self,
        kv: &Cache,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        kv.read(&mut self.stream.recorder, pages, tokens, out)
    }

    fn write_kv(
        &mut self,
        kv: &mut Cache,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        kv.write(&mut self.stream.recorder, pages, tokens, values)
    }

    fn begin(&mut self, batch: &Batch<'_>, rope: &Rope) -> Result<Plan, Error> {
        self.check()?;
        self.gpu().check()?;
        let shape = *self.kv_shape.get().expect("a cache comes before a step");
        let Stream {
            recorder, scratch, ..
        } = &mut self.stream;
        Plan::new(recorder, scratch, batch, rope, shape)
    }

    fn embed(&mut self, table: &Matrix, tokens: &[TokenId]) -> Activations {
        self.make(|stream| {
            let x = stream.tensor(tokens.len(), table.n_in())?;
            let Stream {
                recorder, leaving, ..
            } = stream;
            match leaving.tokens() {
                Some(found) => embed(recorder, table, found, tokens.len(), &x)?,
                None => {
                    let given = stream.upload_tokens(tokens)?;
                    embed(&mut stream.recorder, table, &given, tokens.len(), &x)?;
                }
            }
            Ok(x)
        })
    }

    fn rms_norm(&mut self, x: &Activations, weight: &Buffer, eps: f32) -> Activations {
        self.make(|stream| {
            let x = x.get()?;
            let y = stream.tensor(x.n_tok(), x.width())?;
            rows::rms_norm(&mut stream.recorder, x, weight, eps, &y)?;
            Ok(y)
        })
    }

    fn head_norm(&mut self, x: &mut Activations, weight: &Buffer, eps: f32) {
        self.note(|stream| {
            Ok(rows::head_norm(
                &mut stream.recorder,
                x.get()?,
                weight,
                eps,
            )?)
        });
    }

    fn matmul<const N: usize>(&mut self, x: &Activations, w: [&Matrix; N]) -> [Activations; N] {
        let products = self.note(|stream| Ok(stream.products(x.get()?, w)?));
        let mut products = products.into_iter().flatten();
        w.map(|_| Activations(products.next()))
    }

    fn add_matmul(&mut self, residual: &mut Activations, x: &Activations, w: &Matrix) {
        self.note(|stream| Ok(stream.multiply(x.get()?, &[(w, residual.get()?)], true)?));
    }

    fn add_bias(&mut self, x: &mut Activations, bias: &Buffer) {
        self.note(|stream| Ok(rows::add_bias(&mut stream.recorder, x.get()?, bias)?));
    }

    fn rope(&mut self, step: &Plan, x: &mut Activations, head_dim: usize) {
        self.note(|stream| Ok(rotate(&mut stream.recorder, step, x.get()?, head_dim)?));
    }

    fn attention(
        &mut self,
        step: &Plan,
        kv: &mut Cache,
        attending: &Attending<'_, Buffer>,
        [q, k, v]: [&Activations; 3],
    ) -> Activations {
        self.make(|stream| {
            let (q, k, v) = (q.get()?, k.get()?, v.get()?);
            let layer = attending.layer;
            let out = stream.tensor(q.n_tok(), q.width())?;
            let Stream {
                recorder, scratch, ..
            } = stream;
            let window = Window {
                sliding: attending.window,
                sinks: attending.sinks,
            };
            attend(recorder, scratch, step, kv, layer, q, k, v, &out, window)?;
            Ok(out)
        })
    }

    fn gate(&mut self, gating: Gating, gate: Activations, up: &Activations) -> Activations {
        self.make(|stream| {
            let gate = gate.0.ok_or(Stop::Before)?;
            match gating {
                Gating::Silu => rows::swiglu(&mut stream.recorder, &gate, up.get()?)?,
                Gating::Gelu => rows::geglu(&mut stream.recorder, &gate, up.get()?)?,
                // Only experts have it.
                Gating::ClampedSilu { .. } => unreachable!("{LACKING}"),
            }
            Ok(gate)
        })
    }

    fn experts(
        &mut self,
        _: &Activations,
        _: &Activations,
        mixture: &Mixture<'_, std::convert::Infallible, Buffer>,
    ) -> Activations {
        match *mixture.gate {}
    }

    fn scale(&mut self, _: &mut Activations, _: f32) {
        unreachable!("{LACKING}")
    }

    fn add(&mut self, x: &mut Activations, y: &Activations) {
        self.note(|stream| Ok(rows::add(&mut stream.recorder, x.get()?, y.get()?)?));
    }

    fn rows(&mut self, x: &Activations, rows: &[usize]) -> Activations {
        self.make(|stream| {
            let Stream {
                recorder, scratch, ..
            } = stream;
            Ok(rows::gather_rows(recorder, x.get()?, rows, scratch)?)
        })
    }

    fn logits(&mut self, x: &Activations, output: &Matrix) -> Result<Logits, Error> {
        if self.stream.leaving.leaves() {
            self.leave_logits(x, output)?;
            return Ok(Logits::default());
        }
        let mut values = Vec::new();
        self.score(x, output, |ops, part| {
            values.append(&mut ops.read(&part)?);
            Ok(())
        })?;
        self.check()?;
        let n_vocab = output.n_out();
        Ok(Logits { n_vocab, values })
    }

    fn hidden(&mut self, x: &Activations) -> Result<Hidden, Error> {
        self.check()?;
        let x =
            x.0.as_ref()
                .expect("nothing is lost without a failure. This is a bug.");
        Ok(Hidden {
            n_embd: x.width(),
            values: self.read(x)?,
        })
    }

    fn upload(&mut self, x: &Hidden) -> Activations {
        self.make(|stream| {
            let y = stream.tensor(x.rows().len(), x.n_embd)?;
            stream
                .recorder
                .write(y.buffer(), 0, bytemuck::cast_slice(&x.values));
            Ok(y)
        })
    }

    /// Waits, if nothing was brought back: whoever drives a device learns its speed from when steps end.
    fn finish(&mut self) -> Result<(), Error> {
        let left = self.stream.leaving.end();
        let waits = std::mem::take(&mut self.under_way) && !left;
        self.stream.recorder.submit();
        self.check()?;
        match waits {
            true => self.gpu().wait(),
            false => self.gpu().check(),
        }
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        Some(self)
    }
}
