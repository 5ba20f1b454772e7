//! The models on this machine, and the endpoints beyond it that the owner's rules let some jobs go to.
//!
//! It stands before the [`Host`] and judges each job once. What stays is handed to the host, which knows no endpoint; what
//! may leave takes one of the ways in `way.rs` or, embeddings, in `embed.rs`. Whether something leaves is decided by
//! `troika_remote`, whose types see to it; here it is carried out.

mod courier;
mod current;
mod embed;
mod explain;
mod seen;
mod way;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use troika_library::{Library, Manifest};
use troika_remote::config::Api;
use troika_remote::receipts::ReceiptsError;
use troika_remote::{ConfigError, Facts, HybridFile, Judged, Profile, RemoteIndex};
use troika_scheduler::{Class, Event, Policy, Power};

use crate::backend::{Placement, State};
use crate::job::{
    Caller, ChatPrompt, EmbedJob, Embedded, Job, KeepAlive, LoadedModel, ModelInfo, Prompt, Wishes,
};
use crate::receipts::Beyond;
use crate::{Answer, ApiError, Backend, Beside, Host, ModelDetails, wishes};
use current::{Current, Watched};
use explain::kept;
use way::Way;

pub(crate) use seen::layer;

/// The models on this machine, and what is beyond it.
pub struct Hybrid {
    host: Arc<Host>,
    watched: Watched,
}

/// Where the files are that a [`Hybrid`] reads and writes.
#[derive(Clone, Debug)]
pub struct HybridPaths {
    /// What the owner says of endpoints and rules; it need not be there.
    pub rules: PathBuf,
    /// What was measured of endpoints, and the receipts.
    pub state: PathBuf,
}

/// Why there is no [`Hybrid`].
#[derive(Debug, thiserror::Error)]
pub enum HybridError {
    /// The owner's file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing may leave without receipts, and they can't be kept.
    #[error(transparent)]
    Receipts(#[from] ReceiptsError),
}

/// An endpoint, as those who ask are told of it.
#[derive(Clone, Debug, Serialize)]
pub struct RemoteView {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub api: Api,
    /// The models it serves, as they are called here.
    pub models: Vec<String>,
    /// Where its computers are, in the owner's words.
    pub region: Option<String>,
    /// What it does with what it gets, in the owner's words.
    pub data: Option<String>,
    /// What was measured of it.
    pub profile: Profile,
}

impl Hybrid {
    /// Puts endpoints beside the models of `host`.
    ///
    /// # Errors
    /// If the owner's file is wrong, or names endpoints and no receipts can be written.
    pub fn new(host: Host, paths: &HybridPaths) -> Result<Self, HybridError> {
        let file = HybridFile::open(&paths.rules)?;
        let host = Arc::new(host);
        let told = Arc::clone(&host);
        let worth = Box::new(move |worth| told.tell(vec![Event::WorthIs(worth)]));
        Ok(Self {
            host,
            watched: Watched::open(file, paths.state.clone(), worth)?,
        })
    }

    /// What the judge is told of a job's surroundings.
    fn facts(&self, now: &Current, wishes: &Wishes, caller: &Caller, usual: Class) -> Facts {
        let (on_battery, battery) = match self.host.power() {
            Power::Battery { percent } => (Some(true), percent),
            Power::Mains => (Some(false), None),
        };
        Facts {
            class: wishes.class.or(caller.class).unwrap_or(usual),
            key: caller.key.clone(),
            headers: seen::headers(),
            deadline_s: wishes.deadline.map(|deadline| deadline.as_secs_f64()),
            on_battery,
            battery,
            money_left: now.money_left(),
            ..Facts::default()
        }
    }

    async fn start(&self, job: Job, caller: Caller) -> Result<Answer, ApiError> {
        let Some(now) = self.watched.now() else {
            return self.host.submit(job, caller).await;
        };
        let outlook = self.host.outlook(&job, &caller).await;
        let facts = Facts {
            prompt_tokens: outlook.prompt_tokens,
            ttft_s: outlook.ttft_s,
            queue: Some(outlook.queue),
            ..self.facts(&now, &job.wishes, &caller, Class::Interactive)
        };
        match now.loaded.rules.judge(job, &facts) {
            Judged::Stays(private, why) => {
                let job = private.stay();
                let served = now.serves(&job.model);
                let started = self.host.submit_with(job, caller, Some(outlook), None);
                let why = kept(served, &why);
                let answer = started.await.map_err(|error| why.told(error))?;
                Ok(answer.observed(move |event| {
                    if let Err(error) = event {
                        *error = why.told(error.clone());
                    }
                }))
            }
            Judged::MayLeave(public, leave, _) => {
                let way = Way {
                    host: Arc::clone(&self.host),
                    now,
                    job: Arc::new(public),
                    leave,
                    caller,
                    prompt_tokens: outlook.prompt_tokens,
                };
                way.go(outlook).await
            }
        }
    }

    async fn embed_all(&self, job: EmbedJob, caller: Caller) -> Result<Embedded, ApiError> {
        let Some(now) = self.watched.now() else {
            return self.host.embed(job, caller).await;
        };
        let usual = wishes::usual_of_embedding(job.inputs.len());
        let facts = self.facts(&now, &job.wishes, &caller, usual);
        match now.loaded.rules.judge(job, &facts) {
            Judged::Stays(private, why) => {
                let job = private.stay();
                let why = kept(now.serves(&job.model), &why);
                let embedded = self.host.embed(job, caller).await;
                embedded.map_err(|error| why.told(error))
            }
            Judged::MayLeave(public, leave, _) => {
                embed::embed(&*self.host, &now, &public, &leave, caller).await
            }
        }
    }
}

impl Backend for Hybrid {
    fn submit(&self, job: Job, caller: Caller) -> BoxFuture<'_, Result<Answer, ApiError>> {
        self.start(job, caller).boxed()
    }

    fn embed(&self, job: EmbedJob, caller: Caller) -> BoxFuture<'_, Result<Embedded, ApiError>> {
        self.embed_all(job, caller).boxed()
    }

    fn remotes(&self) -> Vec<RemoteView> {
        let Some(now) = self.watched.now() else {
            return Vec::new();
        };
        let all = now.loaded.config.remote.iter().enumerate();
        let views = all.map(|(at, remote)| RemoteView {
            name: remote.name.clone(),
            api: remote.api,
            models: remote.models.keys().cloned().collect(),
            region: remote.region.clone(),
            data: remote.data.clone(),
            profile: now.remotes.profile(RemoteIndex(at)),
        });
        views.collect()
    }

    fn beyond(&self) -> Option<Beyond> {
        Some(self.watched.beyond())
    }

    // All else is of this machine.

    fn count_tokens(
        &self,
        model: String,
        prompt: Prompt,
    ) -> BoxFuture<'_, Result<usize, ApiError>> {
        self.host.count_tokens(model, prompt)
    }

    fn render(&self, model: String, prompt: ChatPrompt) -> BoxFuture<'_, Result<String, ApiError>> {
        self.host.render(model, prompt)
    }

    fn load(
        &self,
        model: String,
        keep_alive: Option<KeepAlive>,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        self.host.load(model, keep_alive)
    }

    fn unload(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.host.unload(model)
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, ApiError>> {
        self.host.models()
    }

    fn show(&self, model: String) -> BoxFuture<'_, Result<ModelDetails, ApiError>> {
        self.host.show(model)
    }

    fn embedding_length(&self, model: String) -> BoxFuture<'_, Result<Option<usize>, ApiError>> {
        self.host.embedding_length(model)
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        self.host.loaded()
    }

    fn create(&self, name: String, manifest: Manifest) -> BoxFuture<'_, Result<(), ApiError>> {
        self.host.create(name, manifest)
    }

    fn copy(&self, from: String, to: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.host.copy(from, to)
    }

    fn delete(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.host.delete(model)
    }

    fn library(&self) -> Option<Arc<Library>> {
        self.host.library()
    }

    fn state(&self) -> Option<State> {
        self.host.state()
    }

    fn beside(&self, device: &str, class: Class, is_metered: bool) -> Option<Beside> {
        self.host.beside(device, class, is_metered)
    }

    fn placements(&self, request_id: &str) -> Option<Vec<Placement>> {
        self.host.placements(request_id)
    }

    fn set_policy(&self, policy: Policy) -> bool {
        self.host.set_policy(policy)
    }
}
