//! Makes a device of operations: an architecture written over [`Ops`] becomes a [`Resident`] that runs steps.

use std::ops::Range;

use troika_base::{Bytes, ModelSpec};
use troika_device::{
    Batch, Error, Interrupt, KvShape, LoadOptions, Ops, Outputs, PAGE_TOKENS, Resident, check_kv,
    f16,
};
use troika_gguf::ModelFile;

use crate::model::{self, Forward, Progress};

/// A model's weights and KV cache on the device behind `O`.
struct OpsResident<O: Ops> {
    ops: O,
    spec: ModelSpec,
    forward: Box<dyn Forward<O>>,
    weights: Bytes,
    kv: O::Kv,
    kv_shape: KvShape,
    n_page: usize,
    interrupt: Interrupt,
}

/// Loads a model through `ops`.
///
/// # Errors
/// As [`Device::load`](troika_device::Device::load).
pub(crate) fn load<O: Ops + Send + 'static>(
    ops: O,
    file: &ModelFile,
    options: LoadOptions,
    progress: &mut Progress<'_>,
) -> Result<Box<dyn Resident>, Error> {
    let spec = model::model_spec(file)?;
    let kv_shape = KvShape {
        n_layer: spec.n_layer,
        n_head_kv: spec.n_head_kv,
        head_dim: spec.head_dim,
    };
    let n_page = options.n_ctx.div_ceil(PAGE_TOKENS);
    check_memory(file, kv_shape, n_page)?;
    let loaded = model::load(&ops, file, progress)?;
    Ok(Box::new(OpsResident {
        spec: loaded.spec,
        forward: loaded.forward,
        weights: loaded.bytes,
        kv: ops.new_kv(kv_shape, n_page),
        ops,
        kv_shape,
        n_page,
        interrupt: Interrupt::default(),
    }))
}

impl<O: Ops + Send> OpsResident<O> {
    fn check(&self, batch: &Batch<'_>) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Batch { reason });
        if batch.sequences.is_empty() {
            return refuse("it has no sequences".to_owned());
        }
        for (i, sequence) in batch.sequences.iter().enumerate() {
            if sequence.tokens.is_empty() {
                return refuse(format!("sequence {i} has no tokens"));
            }
            let beyond = |token: &&troika_base::TokenId| token.index() >= self.spec.n_vocab;
            if let Some(token) = sequence.tokens.iter().find(beyond) {
                let n_vocab = self.spec.n_vocab;
                return refuse(format!(
                    "sequence {i} has token {token} of a vocabulary of {n_vocab}"
                ));
            }
            let end = sequence.position.saturating_add(sequence.tokens.len());
            let (have, need) = (sequence.pages.len(), end.div_ceil(PAGE_TOKENS));
            if have < need {
                return refuse(format!("sequence {i} has {have} pages and needs {need}"));
            }
            if let Some(page) = sequence.pages.iter().find(|&&page| page >= self.n_page) {
                return refuse(format!(
                    "sequence {i} has page {page} of a cache of {}",
                    self.n_page
                ));
            }
        }
        Ok(())
    }
}

impl<O: Ops + Send> Resident for OpsResident<O> {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn n_page(&self) -> usize {
        self.n_page
    }

    fn weights_bytes(&self) -> Bytes {
        self.weights
    }

    fn kv_shape(&self) -> KvShape {
        self.kv_shape
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.check(batch)?;
        let Self { ops, kv, .. } = self;
        self.forward.forward(ops, kv, batch, &self.interrupt)
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        self.ops.copy_page(&mut self.kv, from, to);
    }

    fn read_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        check_kv(self.kv_shape, self.n_page, pages, &tokens, out.len())?;
        self.ops.read_kv(&self.kv, pages, tokens, out)
    }

    fn write_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        check_kv(self.kv_shape, self.n_page, pages, &tokens, values.len())?;
        self.ops.write_kv(&mut self.kv, pages, tokens, values)
    }

    fn interrupt(&self) -> Option<Interrupt> {
        Some(self.interrupt.clone())
    }
}

/// Refuses a model that this computer has no room for, before the system has to end the process.
fn check_memory(file: &ModelFile, kv: KvShape, n_page: usize) -> Result<(), Error> {
    let weights: u64 = file.tensors().iter().map(|tensor| tensor.bytes).sum();
    let cache = (kv.page_bytes() as u64).saturating_mul(n_page as u64);
    let need = weights.saturating_add(cache);
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let free = system.available_memory();
    // Zero means that the system does not tell.
    if free == 0 || need <= free {
        return Ok(());
    }
    Err(Error::OutOfMemory {
        need: Bytes(need),
        free: Bytes(free),
        purpose: format!(
            "{} of weights and {} of KV cache",
            Bytes(weights),
            Bytes(cache)
        ),
        advice: "take a smaller model, a smaller context (`--ctx`), or close other programs"
            .to_owned(),
    })
}
