//! The door between the interfaces and the models.
//!
//! [`Host`](crate::Host) is the real one; tests of the interfaces script their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use troika_base::Bytes;
use troika_library::{Library, Manifest};
use troika_scheduler::{Account, Class, Decision, Policy, Snapshot};

use crate::hybrid::RemoteView;
use crate::job::{
    Caller, ChatPrompt, EmbedJob, Embedded, Job, KeepAlive, LoadedModel, ModelInfo, Prompt,
};
use crate::receipts::Beyond;
use crate::{Answer, ApiError, Beside};

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

    /// A run of an always-on model begins on a device, as urgent as this; `is_metered` if a meter will tell what it used. It is
    /// counted as the device's time and energy until what is returned ends. `None` if no device of this name is scheduled.
    fn beside(&self, _device: &str, _class: Class, _is_metered: bool) -> Option<Beside> {
        None
    }

    /// How the jobs of a request were placed, by the request's number; those of the last requests are known.
    fn placements(&self, _request_id: &str) -> Option<Vec<Placement>> {
        None
    }

    /// The endpoints beyond this machine that some jobs may go to.
    fn remotes(&self) -> Vec<RemoteView> {
        Vec::new()
    }

    /// What may leave this machine is noted where, and at which prices; `None` where nothing can.
    fn beyond(&self) -> Option<Beyond> {
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
