//! Makes a device of operations: an architecture written over [`Ops`] becomes a [`Resident`] that runs steps.

use std::ops::Range;

use troika_base::{Bytes, ModelSpec};
use troika_device::{
    Ahead, Batch, Error, ExpertsInFile, Hidden, Interrupt, KvShape, LoadOptions, Ops, Outputs,
    PAGE_TOKENS, Resident, check_kv, f16,
};
use troika_gguf::ModelFile;

use crate::adapter::Adapted;
use crate::ahead::{LookAhead, Next};
use crate::experts_in_file::ExpertBytes;
use crate::model::{self, Forward, Progress};

/// A model's weights and KV cache on the device behind `O`.
struct OpsResident<O: Ops> {
    ops: O,
    spec: ModelSpec,
    forward: Box<dyn Forward<O>>,
    weights: Bytes,
    experts: Option<ExpertsInFile>,
    kv: O::Kv,
    kv_shape: KvShape,
    n_page: usize,
    interrupt: Interrupt,
    ahead: LookAhead,
}

/// Loads a model through `ops`. `free` is the device's memory that is free, if it tells.
///
/// # Errors
/// As [`Device::load`](troika_device::Device::load).
pub(crate) fn load<O: Ops + Send + 'static>(
    ops: O,
    file: &ModelFile,
    options: LoadOptions,
    free: Option<Bytes>,
    progress: &mut Progress<'_>,
) -> Result<Box<dyn Resident>, Error> {
    match file.adapter() {
        Some(_) => load_with(Adapted::new(ops, file), file, options, free, progress),
        None => load_with(ops, file, options, free, progress),
    }
}

fn load_with<O: Ops + Send + 'static>(
    ops: O,
    file: &ModelFile,
    options: LoadOptions,
    free: Option<Bytes>,
    progress: &mut Progress<'_>,
) -> Result<Box<dyn Resident>, Error> {
    let spec = model::model_spec(file)?;
    let kv_shape = KvShape {
        kv_type: options.kv_type,
        ..KvShape::of(&spec)
    };
    let n_page = options.n_ctx.div_ceil(PAGE_TOKENS);
    if let Some(free) = free {
        let cache = cache_bytes(kv_shape, n_page);
        check_memory(weights_bytes(file, &spec, ops.experts_kept()), cache, free)?;
    }
    let loaded = model::load(&ops, file, options.n_ctx, progress)?;
    Ok(Box::new(OpsResident {
        spec: loaded.spec,
        forward: loaded.forward,
        weights: loaded.bytes,
        experts: ops.experts_kept().map(|kept| ExpertsInFile {
            all: ExpertBytes::of(file, &spec).all,
            kept,
        }),
        kv: ops.new_kv(kv_shape, n_page)?,
        ops,
        kv_shape,
        n_page,
        interrupt: Interrupt::default(),
        ahead: LookAhead::default(),
    }))
}

impl<O: Ops + Send> OpsResident<O> {
    fn check(&self, batch: &Batch<'_>) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Batch { reason });
        if batch.sequences.is_empty() {
            return refuse("it has no sequences".to_owned());
        }
        if !self.spec.is_causal && !batch.logit_rows().is_empty() {
            return refuse("an encoder gives vectors and no logits".to_owned());
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
            if !self.spec.is_causal && sequence.position > 0 {
                return refuse(format!(
                    "sequence {i} goes on, and an encoder reads a text in one step"
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

    /// Runs a batch that is not under way, and waits for it.
    fn run(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        let Self { ops, kv, .. } = self;
        let outputs = self.forward.forward(ops, kv, batch, &self.interrupt);
        // Also after an interruption: what was noted down must not come back in the next step.
        ops.finish()?;
        outputs
    }

    /// Notes a batch down, and leaves its logits on the device.
    fn leave(&mut self, batch: &Batch<'_>, follows: bool) -> Result<(), Error> {
        ahead(&mut self.ops).leave(follows);
        self.run(batch).map(|_| ())
    }

    /// Waits for a batch, which is under way or is noted down now, and has `next` noted down before that.
    fn run_ahead(
        &mut self,
        batch: &Batch<'_>,
        under_way: bool,
        next: Option<Next>,
    ) -> Result<Outputs, Error> {
        match under_way {
            true => self.interrupt.check()?,
            false => self.leave(batch, false)?,
        }
        if let Some(next) = &next {
            next.run(|batch| self.leave(batch, true))?;
        }
        let arrival = ahead(&mut self.ops).arrive()?;
        if let Some(next) = next {
            self.ahead.begins(next, arrival.likeliest);
        }
        Ok(Outputs {
            logits: arrival.logits,
            hidden: Hidden::default(),
        })
    }

    /// A step; with `more`, one that goes on.
    fn take(&mut self, batch: &Batch<'_>, more: bool) -> Result<Outputs, Error> {
        self.check(batch)?;
        if self.ops.ahead().is_none() {
            return self.run(batch);
        }
        let was_begun = self.ahead.is_under_way();
        let under_way = self.ahead.take(batch);
        if was_begun && !under_way {
            ahead(&mut self.ops).forget();
        }
        let may = more && self.ahead.may_begin();
        let next = may.then(|| Next::after(batch)).flatten();
        if !under_way && next.is_none() {
            return self.run(batch);
        }
        let outputs = self.run_ahead(batch, under_way, next);
        if outputs.is_err() {
            ahead(&mut self.ops).forget();
        }
        outputs
    }

    /// Drops the step that was begun, if one was: the cache is about to be another one.
    fn drop_begun(&mut self) {
        if self.ahead.is_under_way() {
            self.ahead.in_vain();
            ahead(&mut self.ops).forget();
        }
    }
}

/// The ability of a device that has begun something, or has been asked whether it can.
fn ahead<O: Ops>(ops: &mut O) -> &mut dyn Ahead {
    ops.ahead()
        .expect("a device that looks ahead goes on so. This is a bug.")
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

    fn experts_in_file(&self) -> Option<ExpertsInFile> {
        self.experts
    }

    fn kv_shape(&self) -> KvShape {
        self.kv_shape
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.take(batch, false)
    }

    fn step_ahead(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.take(batch, true)
    }

    fn runs_ahead(&mut self) -> bool {
        self.ops.ahead().is_some()
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        self.drop_begun();
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
        self.drop_begun();
        self.ops.write_kv(&mut self.kv, pages, tokens, values)
    }

    fn interrupt(&self) -> Option<Interrupt> {
        Some(self.interrupt.clone())
    }
}

/// Memory that a cache of `n_page` pages takes.
pub(crate) fn cache_bytes(kv: KvShape, n_page: usize) -> Bytes {
    Bytes((kv.page_bytes() as u64).saturating_mul(n_page as u64))
}

/// Memory that a file's weights take, of whose experts `kept` bytes are in memory, or all.
pub(crate) fn weights_bytes(file: &ModelFile, spec: &ModelSpec, kept: Option<Bytes>) -> Bytes {
    let all: u64 = file.resident_tensors().map(|tensor| tensor.bytes).sum();
    let Some(kept) = kept else {
        return Bytes(all);
    };
    Bytes(all.saturating_sub(ExpertBytes::of(file, spec).all.0)) + kept
}

/// Refuses a model that the device has no room for, before something worse happens. `free` is what it has.
fn check_memory(weights: Bytes, cache: Bytes, free: Bytes) -> Result<(), Error> {
    let need = weights.0.saturating_add(cache.0);
    if need <= free.0 {
        return Ok(());
    }
    Err(Error::OutOfMemory {
        need: Bytes(need),
        free,
        purpose: format!("{weights} of weights and {cache} of KV cache"),
        advice: "take a smaller model, a smaller context (`--ctx`), or close other programs"
            .to_owned(),
    })
}
