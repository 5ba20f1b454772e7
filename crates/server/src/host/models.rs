//! The models that can be asked for, as those see them who do not run their steps: words, templates, sizes.
//!
//! A model is opened when it is first asked for, which reads no weights: counting, rendering and refusing need none. Where
//! its weights are, and whether they are anywhere, is the scheduler's to know. A file or a setting that has changed makes
//! another model of the same name; jobs of the old one end as they began.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use troika_base::KvType;
use troika_engine::chat::{AnswerFormat, ChatTemplate, TemplateError};
use troika_engine::constraint::ConstraintFactory;
use troika_engine::tokenizer::Tokenizer;
use troika_engine::{Adapter, AdapterError, Opened, with_adapters};
use troika_gguf::ModelFile;
use troika_library::{Entry, Manifest};
use troika_scheduler::{DeviceId, Event, ModelFacts, ModelId};

use super::draft_model::{DraftModel, Drafts};
use super::driver::Driver;
use super::facts::{self, Context, Role};
use super::guess::{Draft, Guessing};
use super::prepare::Preparer;
use crate::backend::Compiling;
use crate::job::ModelInfo;
use crate::{ApiError, ErrorKind};

/// A model that can be asked for.
pub(super) struct Handle {
    pub(super) id: ModelId,
    pub(super) info: ModelInfo,
    pub(super) manifest: Manifest,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) template: Option<Result<ChatTemplate, TemplateError>>,
    pub(super) format: AnswerFormat,
    pub(super) facts: ModelFacts,
    /// How its cache is kept.
    pub(super) kv_type: KvType,
    /// Tokens of one sequence at most, on the device that has the most room.
    pub(super) n_ctx: usize,
    /// What all devices share that hold it.
    pub(super) opened: Arc<Opened>,
    /// How its answers are guessed.
    pub(super) guessing: Guessing,
    /// The smaller model that does, if one does.
    pub(super) draft: Option<DraftModel>,
    entry: Entry,
}

impl Handle {
    /// Makes constraints for this model's vocabulary.
    ///
    /// # Errors
    /// If the vocabulary is not one that text can be constrained over.
    pub(super) fn constraints(&self) -> Result<&Arc<ConstraintFactory>, ApiError> {
        let made = self.opened.constraints();
        made.map_err(|error| ApiError::unsupported(error.to_string()))
    }

    /// The file with its weights and adapters.
    ///
    /// # Errors
    /// As [`open_adapted`].
    pub(super) fn open(&self) -> Result<ModelFile, OpenError> {
        open_adapted(&self.entry)
    }

    /// Tokens of one sequence at most, where it must run on this device.
    pub(super) fn n_ctx_on(&self, device: Option<DeviceId>) -> usize {
        let form = device.and_then(|device| self.facts.forms.get(&device));
        form.map_or(self.n_ctx, |form| form.n_ctx as usize)
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.info.name)
    }
}

/// The models that were asked for, by name.
pub(super) struct Models {
    driver: Arc<Driver>,
    preparer: Preparer,
    context: Context,
    drafts: Drafts,
    opened: Mutex<BTreeMap<String, Arc<Handle>>>,
    /// One model is opened at a time: several who ask for the same one find it done.
    opening: Mutex<u32>,
}

impl Models {
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn new(
        driver: Arc<Driver>,
        context: Context,
        drafts: Drafts,
    ) -> std::io::Result<Self> {
        Ok(Self {
            preparer: Preparer::start(&driver)?,
            driver,
            context,
            drafts,
            opened: Mutex::default(),
            opening: Mutex::default(),
        })
    }

    /// The model of an entry, opened if it is not yet. Reads files.
    ///
    /// # Errors
    /// If the file is damaged or holds no model that the engine knows.
    pub(super) fn get(&self, entry: &Entry, info: ModelInfo) -> Result<Arc<Handle>, ApiError> {
        if let Some(handle) = self.find(&info) {
            return Ok(handle);
        }
        let mut count = lock(&self.opening);
        if let Some(handle) = self.find(&info) {
            return Ok(handle);
        }
        *count += 1;
        let (handle, to_compile) = self.open(ModelId(*count), entry, info)?;
        let handle = Arc::new(handle);
        let as_yet = Preparer::as_yet(&handle.facts, &to_compile);
        let name = handle.info.name.clone();
        let earlier = lock(&self.opened).insert(name, Arc::clone(&handle));
        self.driver.knows(&handle);
        self.driver.post(vec![Event::ModelKnown(as_yet)]);
        self.preparer.order(&handle, &to_compile);
        if let Some(earlier) = earlier {
            self.forget_it(&earlier);
        }
        Ok(handle)
    }

    /// The model of this name, if it was opened.
    pub(super) fn named(&self, name: &str) -> Option<Arc<Handle>> {
        lock(&self.opened).get(name).cloned()
    }

    /// The model is not to be had any more.
    pub(super) fn forget(&self, name: &str) {
        let gone = lock(&self.opened).remove(name);
        if let Some(gone) = gone {
            self.forget_it(&gone);
        }
    }

    fn forget_it(&self, gone: &Handle) {
        self.preparer.forget(gone.id);
        self.driver.post(vec![Event::ModelForgotten(gone.id)]);
    }

    /// What is being compiled, for whom.
    pub(super) fn compiling(&self) -> Vec<Compiling> {
        self.preparer.state(&self.driver)
    }

    fn find(&self, info: &ModelInfo) -> Option<Arc<Handle>> {
        let opened = lock(&self.opened);
        let handle = opened.get(&info.name);
        handle
            .filter(|handle| handle.info.digest == info.digest)
            .cloned()
    }

    /// The model, and the devices that it must be compiled for.
    fn open(
        &self,
        id: ModelId,
        entry: &Entry,
        info: ModelInfo,
    ) -> Result<(Handle, Vec<DeviceId>), ApiError> {
        let name = info.name.clone();
        let damaged = |error: &dyn std::error::Error| does_not_load(&name, error);
        let file = open_adapted(entry).map_err(|error| damaged(&error))?;
        let opened = Opened::new(&file).map_err(|error| damaged(&error))?;
        let spec = opened.spec();
        let own = entry.manifest.parameters.n_ctx;
        let context = Context {
            n_ctx: own.or(self.context.n_ctx),
            ..self.context
        };
        let (devices, pools) = (self.driver.devices(), self.driver.pools());
        let draft = self
            .drafts
            .model_for(entry, &opened, (&self.driver, context))
            .map_err(|why| damaged(&std::io::Error::other(why)))?;
        let guessing = match (&self.drafts.draft, &draft) {
            (Draft::Ngram, _) => Guessing::Ngram,
            (_, Some(_)) => Guessing::Model,
            _ => Guessing::Off,
        };
        let role = Role::Writer(draft.as_ref().map(|draft| &draft.facts));
        let facts = facts::of_file((id, &name), (&file, spec), devices, pools, (context, role));
        let mut facts = facts.map_err(|error| damaged(&error))?;
        let to_compile = Preparer::needed(&self.driver, &file, &mut facts);
        let in_file = file.metadata().opt_str("tokenizer.chat_template");
        let in_file = in_file.ok().flatten();
        let source = entry.manifest.template.as_deref().or(in_file);
        let n_ctx = facts.forms.values().map(|form| form.n_ctx as usize).max();
        let handle = Handle {
            id,
            manifest: entry.manifest.clone(),
            tokenizer: Arc::clone(opened.tokenizer()),
            template: source.map(ChatTemplate::new),
            format: AnswerFormat::of(source.unwrap_or_default()),
            n_ctx: n_ctx.unwrap_or(spec.n_ctx),
            facts,
            kv_type: context.kv_type,
            info,
            opened: Arc::new(opened),
            guessing,
            draft,
            entry: entry.clone(),
        };
        Ok((handle, to_compile))
    }
}

/// Why there is no file of a model.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Library(#[from] troika_library::Error),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

/// An entry's file with its adapters, as devices compute it. The messages name the model and the adapters' digests, and no
/// path.
///
/// # Errors
/// If a file is gone or damaged, or an adapter is for another model.
pub(super) fn open_adapted(entry: &Entry) -> Result<ModelFile, OpenError> {
    let file = entry.open()?;
    if entry.adapters.is_empty() {
        return Ok(file);
    }
    let adapters = entry.adapters.iter().map(|adapter| {
        Ok(Adapter {
            file: adapter.open()?,
            scale: adapter.scale,
        })
    });
    let adapters = adapters.collect::<Result<Vec<_>, OpenError>>()?;
    Ok(with_adapters(file.with_name(&entry.name), &adapters)?)
}

/// A model that does not load. The message names the model and not the file.
pub(super) fn does_not_load(name: &str, error: &dyn std::error::Error) -> ApiError {
    tracing::warn!(model = name, %error, "model does not load");
    ApiError::new(
        ErrorKind::Conflict,
        format!("model `{name}` does not load: {error}"),
    )
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole after every statement, so a panic elsewhere does no harm to it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
