//! An NPU as a device: a model is taken from the cache, or compiled first.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use troika_base::{Bytes, ModelSpec};
use troika_device::{
    Batch, Cancelled, Device, Fingerprint, Interrupt, KvShape, LoadOptions, LoadProgress, Outputs,
    Resident, f16,
};
use troika_gguf::{ModelFile, Writer};

use crate::compile::{Entry, Facts, Key, LOSS_MAX, Loss, Request, Slot, Store, Worker};
use crate::{Backend, CompileOptions, CompileProgress, Error, Group, Phase, WeightFormat};

/// How models are compiled for a device.
#[derive(Clone, Debug, PartialEq)]
pub struct NpuOptions {
    /// How weights are written.
    pub weights: WeightFormat,
    /// Tokens of a prompt that one run reads.
    pub chunk: usize,
    /// The mean divergence, in nats per token, above which a model is refused; `None` does not even compare.
    pub loss_max: Option<f64>,
}

impl Default for NpuOptions {
    fn default() -> Self {
        Self {
            // The finest scales that every maker's compiler takes without unpacking the weights.
            weights: WeightFormat::Int4(Group::Of128),
            // Long enough that weights are read once for many tokens, short enough that a short prompt wastes little.
            chunk: 256,
            loss_max: Some(LOSS_MAX),
        }
    }
}

/// An NPU, or what stands in for one.
pub struct NpuDevice {
    name: String,
    backend: Arc<dyn Backend>,
    store: Store,
    worker: Worker,
    options: NpuOptions,
}

impl NpuDevice {
    /// The device `name` (`npu0`), whose models are compiled by `worker` and kept in `store`.
    pub fn new(
        name: impl Into<String>,
        backend: Arc<dyn Backend>,
        store: Store,
        worker: Worker,
        options: NpuOptions,
    ) -> Self {
        Self {
            name: name.into(),
            backend,
            store,
            worker,
            options,
        }
    }

    /// What runs its models.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// What a model is compiled for if it is to hold `n_ctx` tokens: shapes are static, so contexts come in few lengths,
    /// powers of two, or the model's own.
    pub fn compile_options(&self, file: &ModelFile, n_ctx: usize) -> CompileOptions {
        let n_ctx = bucket(n_ctx, context_length(file));
        CompileOptions {
            weights: self.options.weights,
            n_ctx,
            chunk: self.options.chunk.min(n_ctx),
        }
    }

    /// Whether the model is in the cache, so that loading it compiles nothing.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn is_compiled(&self, file: &ModelFile, n_ctx: usize) -> Result<bool, Error> {
        let options = self.compile_options(file, n_ctx);
        Ok(self.store.contains(&self.key(file, &options)?))
    }

    /// Takes a model from the cache, or compiles it in a process of its own and puts it there. It stays in the cache at
    /// least as long as the entry lives.
    ///
    /// # Errors
    /// [`Error::Loss`] if it loses more than the limit, whenever it was compiled; else what [`Worker::run`] and [`Store`] say.
    pub fn compile(
        &self,
        file: &ModelFile,
        n_ctx: usize,
        progress: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Entry, Error> {
        let options = self.compile_options(file, n_ctx);
        let key = self.key(file, &options)?;
        let waiting = CompileProgress {
            phase: Phase::Lower,
            done: 0,
            total: 0,
        };
        let draft = match self.store.slot(&key, &mut || progress(waiting))? {
            Slot::Ready(entry) => return self.accept(entry),
            Slot::Empty(draft) => draft,
        };
        let copied = match file.path() {
            Some(_) => None,
            None => Some(copy(file)?),
        };
        let request = Request {
            model: file
                .path()
                .or(copied.as_ref().map(tempfile::NamedTempFile::path))
                .map(Path::to_owned)
                .unwrap_or_default(),
            backend: self.backend.name(),
            version: self.backend.version(),
            options,
            directory: draft.directory().to_owned(),
            compares: self.options.loss_max.is_some(),
        };
        let done = self.worker.run(&request, progress)?;
        let entry = draft.publish(Facts {
            model: file.name().to_owned(),
            loss: done.loss,
        })?;
        self.accept(entry)
    }

    /// What loses too much stays in the cache, so that nobody compiles it again to hear the same.
    fn accept(&self, entry: Entry) -> Result<Entry, Error> {
        match (self.options.loss_max, entry.manifest().loss) {
            (Some(limit), Some(Loss { kl_mean, .. })) if kl_mean > limit => Err(Error::Loss {
                format: self.options.weights.to_string(),
                kl: kl_mean,
                limit,
            }),
            _ => Ok(entry),
        }
    }

    fn key(&self, file: &ModelFile, options: &CompileOptions) -> Result<Key, Error> {
        let model = Fingerprint::of(file).map_err(troika_device::Error::from)?;
        Ok(Key::new(model, &*self.backend, options))
    }

    fn bring(
        &self,
        file: &ModelFile,
        n_ctx: usize,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        let mut bar = Bar::new(file);
        if progress(bar.at(0.0)).is_break() {
            return Err(Error::Cancelled);
        }
        let entry = self.compile(file, n_ctx, &mut |heard| progress(bar.after(heard)))?;
        let options = self.compile_options(file, n_ctx);
        let resident = self.backend.open(file, &options, entry.directory())?;
        if progress(bar.at(1.0)).is_break() {
            return Err(Error::Cancelled);
        }
        Ok(Box::new(Held {
            resident,
            _entry: entry,
        }))
    }
}

impl Device for NpuDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        self.backend.description()
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, troika_device::Error> {
        self.bring(file, options.n_ctx, progress)
            .map_err(|error| for_device(&self.name, error))
    }
}

/// A compiled model in some directory as a device that holds nothing else.
pub struct Compiled {
    backend: Arc<dyn Backend>,
    options: CompileOptions,
    directory: PathBuf,
    name: String,
}

impl Compiled {
    /// What a backend has compiled with these options into a directory.
    pub fn new(backend: Arc<dyn Backend>, options: CompileOptions, directory: &Path) -> Self {
        Self {
            name: backend.name(),
            backend,
            options,
            directory: directory.to_owned(),
        }
    }
}

impl Device for Compiled {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        self.backend.description()
    }

    /// Opens the model, whatever the length that is asked for: its own is fixed.
    fn load(
        &self,
        file: &ModelFile,
        _: LoadOptions,
        _: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, troika_device::Error> {
        let opened = self.backend.open(file, &self.options, &self.directory);
        opened.map_err(|error| for_device(&self.name, error))
    }
}

fn for_device(name: &str, error: Error) -> troika_device::Error {
    match error {
        Error::Device(error) => error,
        Error::Cancelled => troika_device::Error::Cancelled,
        other => troika_device::Error::Failed {
            device: name.to_owned(),
            reason: other.to_string(),
        },
    }
}

/// The shortest context that is compiled.
const CONTEXT_MIN: usize = 256;

/// The length that a context of `n_ctx` tokens is compiled for.
fn bucket(n_ctx: usize, own: Option<usize>) -> usize {
    let power = n_ctx.max(CONTEXT_MIN).checked_next_power_of_two();
    let power = power.unwrap_or(n_ctx);
    // Beyond the model's own length are only numbers that nobody asked for.
    own.map_or(power, |own| power.min(own.max(n_ctx)))
}

/// The model's own length of context, if its file tells.
fn context_length(file: &ModelFile) -> Option<usize> {
    let architecture = file.metadata().str("general.architecture").ok()?;
    let key = format!("{architecture}.context_length");
    let length = file.metadata().u32(&key).ok()?;
    usize::try_from(length).ok()
}

/// A model in memory as a file that a child can open.
fn copy(file: &ModelFile) -> Result<tempfile::NamedTempFile, Error> {
    let name = std::env::temp_dir().join("a model for the compiler");
    let mut copy =
        tempfile::NamedTempFile::new().map_err(|source| Error::Io { path: name, source })?;
    let mut writer = Writer::new(file.metadata().clone());
    for tensor in file.tensors() {
        writer.tensor(&tensor.name, tensor.dtype, &tensor.shape, |out| {
            Ok(out.write_all(&file.read_all(tensor)?)?)
        });
    }
    writer
        .write_to(copy.as_file_mut())
        .map_err(troika_device::Error::from)?;
    Ok(copy)
}

/// Turns the phases of a compilation into bytes of weights: roughly what each takes of the time, and never backwards.
struct Bar {
    total: Bytes,
    done: u64,
}

impl Bar {
    fn new(file: &ModelFile) -> Self {
        let total = file.tensors().iter().map(|tensor| tensor.bytes).sum();
        Self {
            total: Bytes(total),
            done: 0,
        }
    }

    fn after(&mut self, progress: CompileProgress) -> LoadProgress {
        let (from, to) = match progress.phase {
            Phase::Lower => (0.0, 0.3),
            Phase::Compile => (0.3, 0.7),
            Phase::Write => (0.7, 0.8),
            Phase::Compare => (0.8, 0.99),
        };
        let share = match progress.total {
            0 => 0.0,
            total => progress.done.min(total) as f64 / total as f64,
        };
        self.at(from + (to - from) * share)
    }

    fn at(&mut self, share: f64) -> LoadProgress {
        let done = match share {
            1.0 => self.total.0,
            share => (self.total.0 as f64 * share) as u64,
        };
        self.done = self.done.max(done);
        LoadProgress {
            done: Bytes(self.done),
            total: self.total,
        }
    }
}

/// A resident, and what keeps its files in the cache.
struct Held {
    resident: Box<dyn Resident>,
    _entry: Entry,
}

impl Resident for Held {
    fn spec(&self) -> &ModelSpec {
        self.resident.spec()
    }

    fn n_page(&self) -> usize {
        self.resident.n_page()
    }

    fn weights_bytes(&self) -> Bytes {
        self.resident.weights_bytes()
    }

    fn kv_shape(&self) -> KvShape {
        self.resident.kv_shape()
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, troika_device::Error> {
        self.resident.step(batch)
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        self.resident.copy_page(from, to);
    }

    fn read_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), troika_device::Error> {
        self.resident.read_kv(pages, tokens, out)
    }

    fn write_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), troika_device::Error> {
        self.resident.write_kv(pages, tokens, values)
    }

    fn interrupt(&self) -> Option<Interrupt> {
        self.resident.interrupt()
    }
}
