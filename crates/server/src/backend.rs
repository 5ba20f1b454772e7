//! The door between the interfaces and the models.
//!
//! [`Host`](crate::Host) is the real one; tests of the interfaces script their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::mpsc;
use troika_base::Bytes;
use troika_library::{Library, Manifest};
use troika_scheduler::{Account, Decision, Policy, Snapshot};

use crate::job::{
    Caller, ChatPrompt, Choice, Completed, Delta, EmbedJob, Embedded, Event, FinishReason, Job,
    KeepAlive, LoadedModel, ModelInfo, Part, Prompt,
};
use crate::{ApiError, ErrorKind};

/// What the interfaces ask of the models on this machine. A model's name may be written as `name` or `name:latest`.
pub trait Backend: Send + Sync {
    /// Starts a job. Returns when it is queued: the prompt was rendered, counted and found to fit.
    ///
    /// # Errors
    /// If the model is unknown or cannot be loaded, the request makes no sense, or the queue is full.
    fn submit(&self, job: Job, caller: Caller) -> BoxFuture<'_, Result<Answer, ApiError>>;

    /// Embeds texts.
    ///
    /// # Errors
    /// As [`Backend::submit`].
    fn embed(&self, job: EmbedJob, caller: Caller) -> BoxFuture<'_, Result<Embedded, ApiError>>;

    /// How many tokens a prompt has, its template included.
    ///
    /// # Errors
    /// As [`Backend::submit`].
    fn count_tokens(&self, model: String, prompt: Prompt)
    -> BoxFuture<'_, Result<usize, ApiError>>;

    /// The text that a conversation is rendered to.
    ///
    /// # Errors
    /// If the model is unknown, has no template, or the template refuses the conversation.
    fn render(&self, model: String, prompt: ChatPrompt) -> BoxFuture<'_, Result<String, ApiError>>;

    /// Loads a model, so that the first job does not wait for it.
    ///
    /// # Errors
    /// If the model is unknown or cannot be loaded.
    fn load(
        &self,
        model: String,
        keep_alive: Option<KeepAlive>,
    ) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Unloads a model once its jobs are done.
    ///
    /// # Errors
    /// If the model is unknown.
    fn unload(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>>;

    /// The models that are installed, by name.
    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, ApiError>>;

    /// One model, with its manifest and all its metadata but for the vocabulary.
    ///
    /// # Errors
    /// If the model is unknown or its file damaged.
    fn show(&self, model: String) -> BoxFuture<'_, Result<ModelDetails, ApiError>>;

    /// How long a model's vectors are; `None` if it refuses what is too long itself.
    ///
    /// # Errors
    /// If the model is unknown or its file damaged.
    fn embedding_length(&self, model: String) -> BoxFuture<'_, Result<Option<usize>, ApiError>> {
        let details = self.show(model);
        Box::pin(async move { Ok(Some(details.await?.info.n_embd)) })
    }

    /// The models that are loaded.
    fn loaded(&self) -> Vec<LoadedModel>;

    /// Makes a model of another one or of a GGUF file in the library, with settings of its own.
    ///
    /// # Errors
    /// If the name is none, what it is made of is unknown, or the settings make no sense.
    fn create(&self, name: String, manifest: Manifest) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Gives a model a second name.
    ///
    /// # Errors
    /// If the model is unknown or the name is none.
    fn copy(&self, from: String, to: String) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Removes a model: it is unloaded when its jobs are done, and its file is deleted if no other model uses it.
    ///
    /// # Errors
    /// If the model is unknown or part of the program.
    fn delete(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Where files go that are uploaded; `None` if none are taken.
    fn library(&self) -> Option<Arc<Library>>;

    /// What every device and every queue is doing; `None` where nothing is scheduled.
    fn state(&self) -> Option<State> {
        None
    }

    /// How the jobs of a request were placed, by the request's number; those of the last requests are known.
    fn placements(&self, _request_id: &str) -> Option<Vec<Placement>> {
        None
    }

    /// Sets what the owner wants of the machine. `false` where nothing is scheduled.
    fn set_policy(&self, _policy: Policy) -> bool {
        false
    }
}

/// What every device and every queue is doing.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// What the scheduler says.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// The models' names by number.
    pub models: BTreeMap<u32, String>,
    /// The requests of the jobs on devices, by the job's number: by these their placements are found.
    pub requests: BTreeMap<u64, String>,
    /// The machine that this one poses as: its devices are not there, and answers are computed by this computer's
    /// processor and paced as theirs. `None` if the devices are real.
    #[serde(rename = "virtual")]
    pub posing: Option<String>,
    /// Watts of the whole machine of late, as a plug or its battery tells them; `None` where nothing does.
    pub machine_watts: Option<f64>,
    /// Models that are being compiled for a device, or could not be.
    pub compiling: Vec<Compiling>,
}

/// A model on its way to a device that runs compiled models alone. It runs elsewhere meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compiling {
    /// The model's number.
    pub model: u32,
    /// The device's name.
    pub device: String,
    /// How far it is.
    pub stage: Stage,
    /// Bytes of weights that are ready.
    pub done: Bytes,
    /// Bytes of weights in all; 0 before anybody knows.
    pub total: Bytes,
    /// Why it failed.
    pub why: Option<String>,
}

/// How far a model is on its way to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Another one is before it.
    Waiting,
    /// The compiler runs.
    Compiling,
    /// It does not run there.
    Failed,
}

/// How a job was placed.
#[derive(Clone, Debug, Serialize)]
pub struct Placement {
    /// The model's name.
    pub model: String,
    /// The names of all devices by number.
    pub devices: Vec<String>,
    /// The decisions, the first one first.
    pub decisions: Vec<Decision>,
    /// What it took, once it is done.
    pub account: Option<Account>,
}

/// A model and all that is known of it.
#[derive(Clone, Debug)]
pub struct ModelDetails {
    /// The model.
    pub info: ModelInfo,
    /// Its settings.
    pub manifest: Manifest,
    /// The chat template in use.
    pub template: Option<String>,
    /// The file's metadata, without lists of more than 32 values.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Every tensor: name, format, shape.
    pub tensors: Vec<(String, String, Vec<u64>)>,
}

/// A job in progress. Dropping it cancels the job.
pub struct Answer {
    /// The model's name, as installed.
    pub model: String,
    /// How many answers will come.
    pub n: usize,
    events: mpsc::UnboundedReceiver<Result<Event, ApiError>>,
    observer: Option<Observer>,
    guard: Option<Box<dyn Send>>,
}

type Observer = Box<dyn FnMut(&mut Result<Event, ApiError>) + Send>;

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("model", &self.model)
            .field("n", &self.n)
            .finish_non_exhaustive()
    }
}

/// The other end of an [`Answer`].
pub type EventSender = mpsc::UnboundedSender<Result<Event, ApiError>>;

impl Answer {
    /// A job's two ends. The channel has no limit of its own: an answer is never longer than the context.
    pub fn channel(model: impl Into<String>, n: usize) -> (EventSender, Self) {
        let (sender, events) = mpsc::unbounded_channel();
        let model = model.into();
        let answer = Self {
            model,
            n,
            events,
            observer: None,
            guard: None,
        };
        (sender, answer)
    }

    /// Keeps what has to be dropped when nobody waits any more.
    #[must_use]
    pub(crate) fn guarded(mut self, guard: impl Send + 'static) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// Shows everything that happens to `observer`, who may add to it, before it is handed on.
    #[must_use]
    pub(crate) fn observed(
        mut self,
        observer: impl FnMut(&mut Result<Event, ApiError>) + Send + 'static,
    ) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// What happens next; `None` after [`Event::Done`] or an error.
    pub async fn next(&mut self) -> Option<Result<Event, ApiError>> {
        let mut event = self.events.recv().await?;
        if let Some(observer) = &mut self.observer {
            observer(&mut event);
        }
        Some(event)
    }

    /// Waits for the whole of it.
    ///
    /// # Errors
    /// The job's, if it failed.
    pub async fn collect(mut self) -> Result<Completed, ApiError> {
        let mut choices = vec![None; self.n];
        let blank = || Choice {
            content: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            tokens: Vec::new(),
            finish: FinishReason::Length,
        };
        while let Some(event) = self.next().await {
            match event? {
                Event::Placed(_) | Event::Started(_) => {}
                Event::Delta(delta) => {
                    if let Some(slot) = choices.get_mut(delta.choice) {
                        add(slot.get_or_insert_with(blank), delta);
                    }
                }
                Event::Finished { choice, finish } => {
                    if let Some(slot) = choices.get_mut(choice) {
                        slot.get_or_insert_with(blank).finish = finish;
                    }
                }
                Event::Done(usage) => {
                    let choices = choices.into_iter().map(|c| c.unwrap_or_else(blank));
                    return Ok(Completed {
                        choices: choices.collect(),
                        usage,
                    });
                }
            }
        }
        Err(ApiError::new(
            ErrorKind::Internal,
            "the job ended without an answer; the server's log says why",
        ))
    }
}

fn add(choice: &mut Choice, delta: Delta) {
    for part in delta.parts {
        match part {
            Part::Content(text) => choice.content.push_str(&text),
            Part::Reasoning(text) => choice.reasoning.push_str(&text),
            Part::ToolCall(call) => choice.tool_calls.push(call),
        }
    }
    choice.tokens.extend(delta.tokens);
}
