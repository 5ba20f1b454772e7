//! The models that are loaded: brought when they are asked for, put away when nobody needs them.
//!
//! A model in use has [`Lease`]s, and is never put away. One that is idle goes when its time is over, or, the least
//! recently used first, when another one needs its memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use troika_base::Bytes;
use troika_device::{Device, LoadOptions};
use troika_engine::Model;
use troika_engine::chat::{AnswerFormat, ChatTemplate, TemplateError};
use troika_engine::constraint::{ConstraintError, ConstraintFactory};
use troika_engine::tokenizer::Tokenizer;
use troika_gguf::ModelFile;
use troika_library::{Entry, Manifest};

use super::HostSettings;
use super::worker::{self, Request, Worker};
use crate::job::{KeepAlive, LoadedModel, ModelInfo};
use crate::{ApiError, ErrorKind, metrics};

/// When a client whose model found no memory may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Tokens that a KV cache holds over all sequences, if nothing is said: room for dozens of questions or a few documents.
const POOL_TOKENS: usize = 32 * 1024;
/// The cache takes at most one part in this many of the memory that is free.
const POOL_SHARE: u64 = 4;
/// Less is of no use.
const POOL_TOKENS_MIN: usize = 512;

/// A loaded model, as those see it who do not run its steps.
pub(crate) struct Handle {
    pub(super) info: ModelInfo,
    pub(super) manifest: Manifest,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) template: Option<Result<ChatTemplate, TemplateError>>,
    pub(super) format: AnswerFormat,
    /// Tokens of one sequence at most.
    pub(super) n_ctx: usize,
    memory: Bytes,
    constraints: OnceLock<Result<Arc<ConstraintFactory>, ConstraintError>>,
    worker: Mutex<Option<Worker>>,
    usage: Mutex<InUse>,
}

#[derive(Clone, Copy, Debug)]
struct InUse {
    leases: usize,
    since: Instant,
    keep_alive: KeepAlive,
}

impl InUse {
    /// When the model goes if nobody asks for it; `None` while it is in use, or for never.
    fn expires(&self) -> Option<Instant> {
        match self.keep_alive {
            KeepAlive::For(time) if self.leases == 0 => self.since.checked_add(time),
            _ => None,
        }
    }
}

impl Handle {
    /// Sends a job to the model's worker.
    ///
    /// # Errors
    /// If the worker has ended.
    pub(super) fn send(&self, request: Box<Request>) -> Result<(), ApiError> {
        let worker = lock(&self.worker);
        let sender: Option<&Sender<_>> = worker.as_ref().map(|worker| &worker.requests);
        let sent = sender.is_some_and(|sender| sender.send(request).is_ok());
        if sent {
            Ok(())
        } else {
            Err(ApiError::internal())
        }
    }

    /// Makes constraints for this model's vocabulary.
    ///
    /// # Errors
    /// If the vocabulary is not one that text can be constrained over.
    pub(super) fn constraints(&self) -> Result<&Arc<ConstraintFactory>, ApiError> {
        let make = || ConstraintFactory::new(Arc::clone(&self.tokenizer)).map(Arc::new);
        let made = self.constraints.get_or_init(make).as_ref();
        made.map_err(|error| ApiError::unsupported(error.to_string()))
    }

    /// Whether the worker still takes jobs.
    fn is_alive(&self) -> bool {
        let worker = lock(&self.worker);
        worker
            .as_ref()
            .is_some_and(|worker| !worker.thread.is_finished())
    }

    /// Ends the worker of an idle model; its memory is free when the thread has ended.
    fn close(&self) -> Option<JoinHandle<()>> {
        lock(&self.worker).take().map(|worker| worker.thread)
    }

    fn is_idle(&self) -> bool {
        lock(&self.usage).leases == 0
    }

    fn loaded(&self) -> LoadedModel {
        let expires = lock(&self.usage).expires();
        let left = expires.map(|at| at.saturating_duration_since(Instant::now()));
        LoadedModel {
            info: self.info.clone(),
            memory_bytes: self.memory.0,
            n_ctx: self.n_ctx,
            expires: left.map(|left| SystemTime::now() + left),
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.info.name)
    }
}

/// The right to use a loaded model; it stays loaded until the last lease is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Handle>);

impl Lease {
    /// Only under the lock of the shelf that the model stands on, or from another lease.
    fn new(handle: &Arc<Handle>, keep_alive: Option<KeepAlive>) -> Self {
        let mut usage = lock(&handle.usage);
        usage.leases += 1;
        if let Some(keep_alive) = keep_alive {
            usage.keep_alive = keep_alive;
        }
        drop(usage);
        Self(Arc::clone(handle))
    }

    /// A second lease of the model.
    pub(super) fn again(&self) -> Self {
        Self::new(&self.0, None)
    }

    pub(super) fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.0)
    }
}

impl std::ops::Deref for Lease {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut usage = lock(&self.0.usage);
        usage.leases -= 1;
        usage.since = Instant::now();
    }
}

/// The models that are loaded, by name.
pub(super) struct Shelf {
    device: Arc<dyn Device>,
    settings: HostSettings,
    loaded: Mutex<BTreeMap<String, Arc<Handle>>>,
    /// One model is loaded at a time: two at once would each take the other's memory for free.
    loading: tokio::sync::Mutex<()>,
}

impl Shelf {
    pub(super) fn new(device: Arc<dyn Device>, settings: HostSettings) -> Self {
        Self {
            device,
            settings,
            loaded: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
        }
    }

    /// The models that are loaded, by name.
    pub(super) fn loaded(&self) -> Vec<LoadedModel> {
        let loaded = lock(&self.loaded);
        loaded.values().map(|handle| handle.loaded()).collect()
    }

    /// The right to use a model; loads it if it is not loaded. A client that leaves meanwhile does not stop the load: the
    /// next one finds it done.
    ///
    /// # Errors
    /// If the file is damaged or memory is short.
    pub(super) async fn lease(
        self: &Arc<Self>,
        entry: Entry,
        info: ModelInfo,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, ApiError> {
        if let Some(lease) = self.find(&info, keep_alive) {
            return Ok(lease);
        }
        let shelf = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _one_at_a_time = shelf.loading.lock().await;
            // Somebody else may have brought it meanwhile.
            if let Some(lease) = shelf.find(&info, keep_alive) {
                return Ok(lease);
            }
            let this = Arc::clone(&shelf);
            let bring = move || this.bring(&entry, info, keep_alive);
            let brought = tokio::task::spawn_blocking(bring).await;
            brought.map_err(|_| ApiError::internal())?
        });
        task.await.map_err(|_| ApiError::internal())?
    }

    /// The right to use a model that is loaded, in the state that `info` names.
    fn find(&self, info: &ModelInfo, keep_alive: Option<KeepAlive>) -> Option<Lease> {
        let mut loaded = lock(&self.loaded);
        let handle = loaded.get(&info.name)?;
        if handle.info.digest == info.digest && handle.is_alive() {
            return Some(Lease::new(handle, keep_alive));
        }
        // Its file or its settings are others now. Those who have a lease end as they began.
        take(&mut loaded, &info.name);
        None
    }

    /// Loads a model, after others have made room for it.
    fn bring(
        &self,
        entry: &Entry,
        info: ModelInfo,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, ApiError> {
        let start = Instant::now();
        let file = entry.open().map_err(|error| damaged(&info.name, &error))?;
        let spec = troika_engine::model_spec(&file).map_err(|error| damaged(&info.name, &error))?;
        let weights: u64 = file.tensors().iter().map(|tensor| tensor.bytes).sum();
        let per_token = spec.kv_bytes_per_token();
        let n_ctx = entry.manifest.parameters.n_ctx.or(self.settings.n_ctx);
        let pool = self.settings.kv_tokens;
        let least = pool.or(n_ctx).unwrap_or(POOL_TOKENS_MIN) as u64;
        self.make_room(&info.name, weights + per_token.saturating_mul(least))?;
        let free = memory_free().saturating_sub(weights);
        let sensible = || pool_tokens(per_token, free).max(n_ctx.unwrap_or(0));
        let options = LoadOptions {
            n_ctx: pool.unwrap_or_else(sensible),
        };
        let mut progress = |_| ControlFlow::Continue(());
        let model = Model::load(&file, &*self.device, options, &mut progress)
            .map_err(|error| damaged(&info.name, &error))?;
        let handle = Arc::new(self.handle(&file, entry, n_ctx, info, model)?);
        metrics::model_loaded(&handle.info.name, start.elapsed());
        tracing::info!(
            model = handle.info.name,
            memory = %handle.memory,
            n_ctx = handle.n_ctx,
            seconds = start.elapsed().as_secs_f64(),
            "model loaded"
        );
        let mut loaded = lock(&self.loaded);
        let lease = Lease::new(&handle, keep_alive);
        loaded.insert(handle.info.name.clone(), handle);
        Ok(lease)
    }

    fn handle(
        &self,
        file: &ModelFile,
        entry: &Entry,
        n_ctx: Option<usize>,
        info: ModelInfo,
        model: Model,
    ) -> Result<Handle, ApiError> {
        let in_file = file
            .metadata()
            .opt_str("tokenizer.chat_template")
            .ok()
            .flatten();
        let source = entry.manifest.template.as_deref().or(in_file);
        let most = model.n_ctx().min(model.spec().n_ctx);
        let n_ctx = n_ctx.map_or(most, |n_ctx| n_ctx.min(most));
        let memory = Bytes(model.weights_bytes().0 + model.kv_bytes().0);
        let tokenizer = Arc::clone(model.tokenizer());
        let worker = worker::spawn(info.name.clone(), model, self.settings.limits)
            .map_err(|_| ApiError::internal())?;
        Ok(Handle {
            manifest: entry.manifest.clone(),
            tokenizer,
            template: source.map(ChatTemplate::new),
            format: AnswerFormat::of(source.unwrap_or_default()),
            n_ctx,
            memory,
            constraints: OnceLock::new(),
            worker: Mutex::new(Some(worker)),
            usage: Mutex::new(InUse {
                leases: 0,
                since: Instant::now(),
                keep_alive: self.settings.keep_alive,
            }),
            info,
        })
    }

    /// Puts models away, the least recently used first, until there is memory for another one.
    fn make_room(&self, name: &str, bytes: u64) -> Result<(), ApiError> {
        loop {
            let (count, used) = {
                let loaded = lock(&self.loaded);
                (
                    loaded.len(),
                    loaded.values().map(|handle| handle.memory.0).sum::<u64>(),
                )
            };
            let budget = self.settings.memory.map_or(u64::MAX, |budget| budget.0);
            let free = memory_free().min(budget.saturating_sub(used));
            if bytes <= free && count < self.settings.models_max {
                return Ok(());
            }
            if !self.put_away_one() {
                let message = match count < self.settings.models_max {
                    true => format!(
                        "{name} needs {}, and {} is free; take a smaller model or a smaller context, or wait until other models are idle",
                        Bytes(bytes),
                        Bytes(free)
                    ),
                    false => format!(
                        "{count} models are loaded and all of them are in use; {name} has to wait"
                    ),
                };
                let retry_after = RETRY_AFTER;
                return Err(ApiError::new(
                    ErrorKind::Unavailable { retry_after },
                    message,
                ));
            }
        }
    }

    /// Puts away the model that has been idle longest, and waits until its memory is free. `false` if all are in use.
    fn put_away_one(&self) -> bool {
        let mut loaded = lock(&self.loaded);
        let idle = loaded.values().filter(|handle| handle.is_idle());
        let oldest = idle.min_by_key(|handle| lock(&handle.usage).since);
        let Some(name) = oldest.map(|handle| handle.info.name.clone()) else {
            return false;
        };
        let thread = take(&mut loaded, &name);
        drop(loaded);
        if let Some(thread) = thread {
            // It has no jobs; a panic of its thread was reported there.
            let _ = thread.join();
        }
        true
    }

    /// Takes a model off the shelf. Those who have a lease of it are served first; then it goes.
    pub(super) fn remove(&self, name: &str) {
        take(&mut lock(&self.loaded), name);
    }

    /// Puts away the models whose time is over.
    pub(super) fn put_away_expired(&self) {
        let now = Instant::now();
        let over = |handle: &&Arc<Handle>| {
            let expires = lock(&handle.usage).expires();
            expires.is_some_and(|at| at <= now) || !handle.is_alive()
        };
        let mut loaded = lock(&self.loaded);
        let expired = loaded.values().filter(over);
        let expired: Vec<_> = expired.map(|handle| handle.info.name.clone()).collect();
        for name in expired {
            take(&mut loaded, &name);
        }
    }
}

/// Takes a model off the shelf: from here on nobody gets a lease of it. One that is idle ends at once, and its thread is
/// returned; else its last lease ends it.
fn take(loaded: &mut BTreeMap<String, Arc<Handle>>, name: &str) -> Option<JoinHandle<()>> {
    let handle = loaded.remove(name)?;
    metrics::model_unloaded(name);
    tracing::info!(model = name, "model unloaded");
    // Leases are given out under the lock that the caller holds, so none appears meanwhile.
    handle.is_idle().then(|| handle.close()).flatten()
}

/// Tokens of a KV cache, over all sequences, where `free` bytes are free.
fn pool_tokens(bytes_per_token: u64, free: u64) -> usize {
    let affordable = free / POOL_SHARE / bytes_per_token.max(1);
    // The rest of what is free is for other models.
    (POOL_TOKENS as u64)
        .min(affordable)
        .max(POOL_TOKENS_MIN as u64) as usize
}

/// Memory that programs can have now; all there is, where the system does not tell.
fn memory_free() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    match system.available_memory() {
        0 => u64::MAX,
        free => free,
    }
}

/// A model that does not load. The message names the model and not the file.
fn damaged(name: &str, error: &dyn std::error::Error) -> ApiError {
    tracing::warn!(model = name, %error, "model does not load");
    ApiError::new(
        ErrorKind::Conflict,
        format!("model `{name}` does not load: {error}"),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole after every statement, so a panic elsewhere does no harm to it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
