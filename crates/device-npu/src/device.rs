//! An NPU as a device: a model is taken from the cache, or compiled first.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use troika_base::Bytes;
use troika_device::{
    Around, Cancelled, Device, Fingerprint, LoadOptions, LoadProgress, Preparation, Resident,
};
use troika_gguf::{ModelFile, Writer};

use crate::compile::{Entry, Facts, Key, LOSS_MAX, Manifest, Request, Slot, Store, Worker};
use crate::{Backend, CompileOptions, CompileProgress, Error, Group, Phase, WeightFormat};

/// How models are compiled for a device.
#[derive(Clone, Debug, PartialEq)]
pub struct NpuOptions {
    /// How weights are written; as suits the model's size if absent.
    pub weights: Option<WeightFormat>,
    /// Tokens of a sequence, at most; the model's own length if that is shorter.
    pub n_ctx: usize,
    /// Tokens of a prompt that one run reads.
    pub chunk: usize,
    /// The mean divergence, in nats per token, above which a model is refused; `None` does not even compare.
    pub loss_max: Option<f64>,
}

impl Default for NpuOptions {
    fn default() -> Self {
        Self {
            weights: None,
            // Every token of it takes room in static shapes, used or not.
            n_ctx: 4096,
            // Long enough that weights are read once for many tokens, short enough that a short prompt wastes little.
            chunk: 256,
            loss_max: Some(LOSS_MAX),
        }
    }
}

/// Models of fewer bytes keep sixteen bits for each weight: they are fast as they are, and their rows are too short for
/// groups that share a scale. Known answers are asked of such a model.
const SMALL: u64 = 64 << 20;

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

    /// Tokens that a model holds here, unless a load asks for more.
    pub fn n_ctx(&self, file: &ModelFile) -> usize {
        let own = context_length(file);
        bucket(
            own.map_or(self.options.n_ctx, |own| own.min(self.options.n_ctx)),
            own,
        )
    }

    /// What a model is compiled for if it is to hold `n_ctx` tokens: shapes are static, so contexts come in few lengths,
    /// powers of two, or the model's own, and none is shorter than [`Self::n_ctx`].
    pub fn compile_options(&self, file: &ModelFile, n_ctx: usize) -> CompileOptions {
        let n_ctx = bucket(n_ctx.max(self.n_ctx(file)), context_length(file));
        CompileOptions {
            weights: self.weights(file),
            n_ctx,
            chunk: self.options.chunk.min(n_ctx),
        }
    }

    fn weights(&self, file: &ModelFile) -> WeightFormat {
        let bytes = || {
            file.tensors()
                .iter()
                .map(|tensor| tensor.bytes)
                .sum::<u64>()
        };
        self.options.weights.unwrap_or_else(|| match bytes() {
            ..SMALL => WeightFormat::F16,
            // The finest scales that every maker's compiler takes without unpacking the weights.
            _ => WeightFormat::Int4(Group::Of128),
        })
    }

    /// Whether the model is in the cache, so that loading it compiles nothing.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn is_compiled(&self, file: &ModelFile, n_ctx: usize) -> Result<bool, Error> {
        let options = self.compile_options(file, n_ctx);
        Ok(self.store.contains(&self.key(file, &options)?))
    }

    /// Takes a model for `n_ctx` tokens from the cache, or compiles it in a process of its own and puts it there. It stays in
    /// the cache at least as long as the entry lives.
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
        self.too_lossy(entry.manifest()).map_or(Ok(entry), Err)
    }

    fn too_lossy(&self, manifest: &Manifest) -> Option<Error> {
        let (limit, kl) = (self.options.loss_max?, manifest.loss?.kl_mean);
        (kl > limit).then(|| Error::Loss {
            format: manifest
                .key_line("weights")
                .unwrap_or("compiled")
                .to_owned(),
            kl,
            limit,
        })
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

/// Why a model with an adapter runs elsewhere.
const ADAPTERS: &str = "adapters are not compiled";

impl Device for NpuDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        self.backend.description()
    }

    fn preparation(&self, file: &ModelFile) -> Result<Preparation, troika_device::Error> {
        if file.adapter().is_some() {
            return Ok(Preparation::Impossible(ADAPTERS.to_owned()));
        }
        let options = self.compile_options(file, 0);
        let key = self.key(file, &options);
        let known = key.map_err(|error| for_device(&self.name, error))?;
        Ok(match self.store.manifest(&known) {
            None => Preparation::Needed,
            Some(manifest) => match self.too_lossy(&manifest) {
                Some(error) => Preparation::Impossible(error.to_string()),
                None => Preparation::Ready,
            },
        })
    }

    fn prepare(
        &self,
        file: &ModelFile,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<(), troika_device::Error> {
        let mut bar = Bar::new(file);
        let compiled = self.compile(file, 0, &mut |heard| progress(bar.after(heard)));
        compiled.map_err(|error| for_device(&self.name, error))?;
        match progress(bar.at(1.0)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Cancelled) => Err(troika_device::Error::Cancelled),
        }
    }

    /// Compiles first what is not compiled. Ask for no more than [`NpuDevice::n_ctx`] tokens, or it is compiled for these.
    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, troika_device::Error> {
        if file.adapter().is_some() {
            return Err(troika_device::Error::Unsupported {
                model: file.name().to_owned(),
                device: self.name.clone(),
                reason: ADAPTERS.to_owned(),
            });
        }
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
        Error::Unsupported { model, reason } => troika_device::Error::Unsupported {
            model,
            device: name.to_owned(),
            reason,
        },
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

impl Around for Held {
    fn inner(&self) -> &dyn Resident {
        &*self.resident
    }

    fn inner_mut(&mut self) -> &mut dyn Resident {
        &mut *self.resident
    }
}
