//! The CPU's operations: `troika-kernels` on a thread pool.

mod expert_store;
mod experts;
mod layer_norm;
mod tensor;
mod watch;

use std::ops::Range;
use std::sync::Arc;

use half::f16;
use troika_base::{Bytes, DType, TokenId};
use troika_gguf::{ModelFile, TensorInfo};
use troika_kernels::{
    Attention, Kernels, KvPages, PAGE_TOKENS, PackedMatrix, Pool, Product, RopeTable, Slot, Span,
    Workspace, attention, matmul, panel_bytes, quant,
};

use expert_store::ExpertCache;
pub use expert_store::ExpertMatrices;
pub use tensor::Tensor;
use tensor::TensorPool;
pub use watch::{ExpertRows, ExpertWatch};

use crate::hyperparameters::scale_name;
use crate::{
    Attending, Batch, Error, Gating, Hidden, KvShape, Logits, Mixture, Ops, Rope, RopePairs,
};

/// The CPU: a kernel set, its threads, and memory for activations. Cloning shares the threads.
#[derive(Debug)]
pub struct CpuOps {
    kernels: &'static Kernels,
    pool: Arc<Pool>,
    tensors: TensorPool,
    workspace: Workspace,
    /// Experts stay in the file, but for those that were used last.
    streamed: Option<ExpertCache>,
    watch: Option<ExpertWatch>,
    /// What went wrong in this step.
    failed: Option<Error>,
}

impl Clone for CpuOps {
    fn clone(&self) -> Self {
        let new = Self {
            watch: self.watch.clone(),
            ..Self::new(self.kernels, Arc::clone(&self.pool))
        };
        match &self.streamed {
            Some(experts) => new.with_experts_in_file(experts.limit()),
            None => new,
        }
    }
}

impl CpuOps {
    /// Runs a kernel set on a pool's threads.
    pub fn new(kernels: &'static Kernels, pool: Arc<Pool>) -> Self {
        Self {
            kernels,
            pool,
            tensors: TensorPool::default(),
            workspace: Workspace::default(),
            streamed: None,
            watch: None,
            failed: None,
        }
    }

    /// Leaves the experts' weights in the file, and keeps at most `limit` of them in memory: those that were used last.
    #[must_use]
    pub fn with_experts_in_file(self, limit: Bytes) -> Self {
        Self {
            streamed: Some(ExpertCache::new(limit)),
            ..self
        }
    }

    /// The error that a step has met, once.
    fn check(&mut self) -> Result<(), Error> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// The kernel set.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Threads that take part.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn multiply(&mut self, x: &Tensor, products: &mut [Product<'_>]) {
        let workspace = &mut self.workspace;
        matmul(self.kernels, &self.pool, x, x.n_tok(), products, workspace);
    }
}

/// What a step needs everywhere.
#[derive(Debug)]
pub struct CpuStep {
    rope: RopeTable,
    pairs: RopePairs,
    slots: Vec<Slot>,
    /// Per sequence: first row, tokens, position, pages.
    sequences: Vec<(usize, usize, usize, Vec<usize>)>,
}

/// Where some tokens of a sequence lie, page by page: what is in one page fits into a core's own cache.
fn slots_of_pages(pages: &[usize], tokens: Range<usize>) -> impl Iterator<Item = Vec<Slot>> {
    let slot = |position: usize| Slot {
        page: pages[position / PAGE_TOKENS],
        index: position % PAGE_TOKENS,
    };
    let mut start = tokens.start;
    std::iter::from_fn(move || {
        let end = tokens.end.min((start / PAGE_TOKENS + 1) * PAGE_TOKENS);
        let slots: Vec<Slot> = (start..end).map(slot).collect();
        start = end;
        Some(slots).filter(|slots| !slots.is_empty())
    })
}

/// Rows of elementwise work that a thread takes at a time.
const ROWS_PER_TASK: usize = 8;

impl Ops for CpuOps {
    type Tensor = Tensor;
    type Matrix = PackedMatrix;
    type Vector = Vec<f32>;
    type Experts = ExpertMatrices;
    type Kv = KvPages;
    type Step = CpuStep;

    fn load_matrix(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<PackedMatrix, Error> {
        let matrix = pack(&self.pool, file, tensor, 0..tensor.n_rows())?;
        Ok(match scales(file, tensor)?.first() {
            Some(&scale) => matrix.scaled(scale),
            None => matrix,
        })
    }

    fn load_vector(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Vec<f32>, Error> {
        read_floats(file, tensor)
    }

    fn matrix_bytes(&self, matrix: &PackedMatrix) -> usize {
        matrix.bytes()
    }

    fn load_experts(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<ExpertMatrices, Error> {
        self.pack_experts(file, tensor)
    }

    fn experts_bytes(&self, experts: &ExpertMatrices) -> usize {
        experts.bytes()
    }

    fn experts_kept(&self) -> Option<Bytes> {
        self.streamed.as_ref().map(ExpertCache::limit)
    }

    fn new_kv(&self, shape: KvShape, n_page: usize) -> Result<KvPages, Error> {
        Ok(KvPages::new(shape, n_page))
    }

    fn copy_page(&mut self, kv: &mut KvPages, from: usize, to: usize) {
        kv.copy_page(from, to);
    }

    fn read_kv(
        &mut self,
        kv: &KvPages,
        pages: &[usize],
        tokens: Range<usize>,
        mut out: &mut [f16],
    ) -> Result<(), Error> {
        for slots in slots_of_pages(pages, tokens) {
            let of_page = slots.len() * kv.shape().token_values();
            let (page, rest) = std::mem::take(&mut out).split_at_mut(of_page);
            kv.export(&slots, page);
            out = rest;
        }
        Ok(())
    }

    fn write_kv(
        &mut self,
        kv: &mut KvPages,
        pages: &[usize],
        tokens: Range<usize>,
        mut values: &[f16],
    ) -> Result<(), Error> {
        for slots in slots_of_pages(pages, tokens) {
            let of_page = slots.len() * kv.shape().token_values();
            let (page, rest) = values.split_at(of_page);
            kv.import(&slots, page);
            values = rest;
        }
        Ok(())
    }

    fn begin(&mut self, batch: &Batch<'_>, rope: &Rope) -> Result<CpuStep, Error> {
        let mut row = 0;
        let mut slots = Vec::with_capacity(batch.n_tok());
        let sequences = batch
            .sequences
            .iter()
            .map(|sequence| {
                let n_tok = sequence.tokens.len();
                slots.extend(
                    (sequence.position..sequence.position + n_tok).map(|position| Slot {
                        page: sequence.pages[position / PAGE_TOKENS],
                        index: position % PAGE_TOKENS,
                    }),
                );
                row += n_tok;
                (
                    row - n_tok,
                    n_tok,
                    sequence.position,
                    sequence.pages.to_vec(),
                )
            })
            .collect();
        let table = RopeTable::new(&batch.positions(), &rope.frequencies, rope.magnitude);
        Ok(CpuStep {
            rope: table,
            pairs: rope.pairs,
            slots,
            sequences,
        })
    }

    fn embed(&mut self, table: &PackedMatrix, tokens: &[TokenId]) -> Tensor {
        let mut x = self.tensors.take(tokens.len(), table.n_in());
        for (token, row) in tokens.iter().zip(x.rows_mut()) {
            table.row(token.index(), row);
        }
        x
    }

    fn rms_norm(&mut self, x: &Tensor, weight: &Vec<f32>, eps: f32) -> Tensor {
        let mut y = self.tensors.take(x.n_tok(), x.width());
        y.for_each_row(&self.pool, ROWS_PER_TASK, |token, y| {
            self.kernels.rms_norm(x.row(token), weight, eps, y)
        });
        y
    }

    fn layer_norm(&mut self, x: &mut Tensor, [weight, bias]: [&Vec<f32>; 2], eps: f32) {
        x.for_each_row(&self.pool, ROWS_PER_TASK, |_, row| {
            layer_norm::layer_norm(row, weight, bias, eps);
        });
    }

    fn head_norm(&mut self, x: &mut Tensor, weight: &Vec<f32>, eps: f32) {
        x.for_each_row(&self.pool, ROWS_PER_TASK, |_, row| {
            let mut normed = vec![0.0; weight.len()];
            for head in row.chunks_exact_mut(weight.len()) {
                self.kernels.rms_norm(head, weight, eps, &mut normed);
                head.copy_from_slice(&normed);
            }
        });
    }

    fn matmul<const N: usize>(&mut self, x: &Tensor, w: [&PackedMatrix; N]) -> [Tensor; N] {
        let mut outputs = w.map(|w| self.tensors.take(x.n_tok(), w.n_out()));
        let mut products: Vec<_> = w
            .into_iter()
            .zip(&mut outputs)
            .map(|(w, y)| Product { w, y })
            .collect();
        self.multiply(x, &mut products);
        drop(products);
        outputs
    }

    fn add_matmul(&mut self, residual: &mut Tensor, x: &Tensor, w: &PackedMatrix) {
        let [y] = self.matmul(x, [w]);
        self.add(residual, &y);
    }

    fn add_bias(&mut self, x: &mut Tensor, bias: &Vec<f32>) {
        for row in x.rows_mut() {
            add_row(row, bias);
        }
    }

    fn rope(&mut self, step: &CpuStep, x: &mut Tensor, head_dim: usize) {
        step.rope.apply(&self.pool, step.pairs, head_dim, x);
    }

    fn attention(
        &mut self,
        step: &CpuStep,
        kv: &mut KvPages,
        attending: &Attending<'_, Vec<f32>>,
        [q, k, v]: [&Tensor; 3],
    ) -> Tensor {
        kv.write(&self.pool, attending.layer, &step.slots, k, v);
        let spans: Vec<Span<'_>> = step
            .sequences
            .iter()
            .map(|(row, n_tok, position, pages)| Span {
                row: *row,
                n_tok: *n_tok,
                position: *position,
                sees: attending.both_ways.then_some(position + n_tok),
                pages,
            })
            .collect();
        let head_dim = kv.shape().head_dim;
        let job = Attention {
            layer: attending.layer,
            n_head: q.width() / head_dim,
            scale: attending.scale,
            window: attending.window,
            soft_cap: attending.soft_cap,
            sinks: attending.sinks.map(Vec::as_slice),
            spans: &spans,
        };
        let mut y = self.tensors.take(q.n_tok(), q.width());
        attention(self.kernels, &self.pool, kv, &job, q, &mut y);
        y
    }

    fn gelu(&mut self, x: &mut Tensor) {
        x.for_each_row(&self.pool, ROWS_PER_TASK, |_, row| self.kernels.gelu(row));
    }

    fn gate(&mut self, gating: Gating, mut gate: Tensor, up: &Tensor) -> Tensor {
        gate.for_each_row(&self.pool, ROWS_PER_TASK, |token, gate| {
            self.kernels.gate(gating, gate, up.row(token))
        });
        gate
    }

    fn experts(
        &mut self,
        x: &Tensor,
        scores: &Tensor,
        mixture: &Mixture<'_, ExpertMatrices, Vec<f32>>,
    ) -> Tensor {
        self.mix(x, scores, mixture)
    }

    fn scale(&mut self, x: &mut Tensor, factor: f32) {
        x.for_each_row(&self.pool, ROWS_PER_TASK, |_, row| {
            row.iter_mut().for_each(|x| *x *= factor);
        });
    }

    fn add(&mut self, x: &mut Tensor, y: &Tensor) {
        x.for_each_row(&self.pool, ROWS_PER_TASK, |token, x| {
            add_row(x, y.row(token))
        });
    }

    fn rows(&mut self, x: &Tensor, rows: &[usize]) -> Tensor {
        let mut y = self.tensors.take(rows.len(), x.width());
        for (row, y) in rows.iter().zip(y.rows_mut()) {
            y.copy_from_slice(x.row(*row));
        }
        y
    }

    fn logits(&mut self, x: &Tensor, output: &PackedMatrix) -> Result<Logits, Error> {
        self.check()?;
        let mut values = vec![0.0; x.n_tok() * output.n_out()];
        self.multiply(
            x,
            &mut [Product {
                w: output,
                y: &mut values,
            }],
        );
        Ok(Logits {
            n_vocab: output.n_out(),
            values,
        })
    }

    fn hidden(&mut self, x: &Tensor) -> Result<Hidden, Error> {
        self.check()?;
        Ok(Hidden {
            n_embd: x.width(),
            values: x.to_vec(),
        })
    }

    fn upload(&mut self, x: &Hidden) -> Tensor {
        let mut y = self.tensors.take(x.rows().len(), x.n_embd);
        y.copy_from_slice(&x.values);
        y
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.check()
    }
}

fn add_row(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Packs some rows of a tensor, all dimensions but the first one counted as rows.
fn pack(
    pool: &Pool,
    file: &ModelFile,
    tensor: &TensorInfo,
    rows: Range<u64>,
) -> Result<PackedMatrix, Error> {
    let n_in = usize::try_from(tensor.row_len()).unwrap_or(usize::MAX);
    let n_out = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
    if panel_bytes(tensor.dtype, n_in).is_none() {
        return Err(unsupported_format(file, tensor, quant::is_computed));
    }
    let row_bytes = tensor.dtype.row_bytes(n_in);
    let row_bytes = row_bytes.expect("checked with the panel's size") as u64;
    let read = |first_row: usize, out: &mut [u8]| {
        file.read(tensor, (rows.start + first_row as u64) * row_bytes, out)
    };
    Ok(PackedMatrix::pack(pool, tensor.dtype, n_out, n_in, read)?)
}

/// What a file multiplies a matrix by, or each expert's; empty if nothing. The loader has checked how many they are.
fn scales(file: &ModelFile, tensor: &TensorInfo) -> Result<Vec<f32>, Error> {
    let found = scale_name(&tensor.name).and_then(|name| file.tensor(&name));
    found.map_or(Ok(Vec::new()), |scales| read_floats(file, scales))
}

/// The values of an F32, F16 or BF16 tensor.
///
/// # Errors
/// If its format is another, or the file cannot be read.
pub fn read_floats(file: &ModelFile, tensor: &TensorInfo) -> Result<Vec<f32>, Error> {
    let is_float = |dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    if !is_float(tensor.dtype) {
        return Err(unsupported_format(file, tensor, is_float));
    }
    let bytes = file.read_all(tensor)?;
    let mut values = vec![0.0; bytes.len() / tensor.dtype.block_bytes()];
    quant::dequantize_row(tensor.dtype, &bytes, &mut values).expect("floats are computed");
    Ok(values)
}

fn unsupported_format(file: &ModelFile, tensor: &TensorInfo, would_do: fn(DType) -> bool) -> Error {
    let computed: Vec<_> = DType::ALL
        .iter()
        .filter(|&&dtype| would_do(dtype))
        .map(|dtype| dtype.name())
        .collect();
    Error::UnsupportedFormat {
        model: file.name().to_owned(),
        tensor: tensor.name.clone(),
        dtype: tensor.dtype,
        computed: computed.join(", "),
    }
}
