//! Counts the tokens of every job, for the request's line in the log and for the key's share.
//!
//! It stands between the interfaces and the [`Backend`], so that neither has to think of it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use troika_library::{Library, Manifest};

use crate::job::{
    Caller, ChatPrompt, EmbedJob, Embedded, Event, Job, KeepAlive, LoadedModel, ModelInfo, Prompt,
};
use crate::keys::Keys;
use crate::observe::Tally;
use crate::{Answer, ApiError, Backend, ModelDetails, metrics};

/// A backend whose jobs are counted.
pub(crate) struct Metered {
    inner: Arc<dyn Backend>,
    keys: Keys,
}

impl Metered {
    pub(crate) fn new(inner: Arc<dyn Backend>, keys: Keys) -> Self {
        Self { inner, keys }
    }

    fn meter(&self, caller: Caller) -> Meter {
        Meter {
            keys: self.keys.clone(),
            caller,
            tally: Tally::current(),
            prompt: 0,
            cached: 0,
            completion: 0,
        }
    }
}

/// Counts one job.
struct Meter {
    keys: Keys,
    caller: Caller,
    tally: Arc<Tally>,
    prompt: usize,
    cached: usize,
    completion: usize,
}

impl Meter {
    /// Takes note of an event. Tokens are charged as they come: a client that leaves has had those.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Started(started) => {
                self.reach(
                    started.prompt_tokens,
                    started.cached_tokens,
                    self.completion,
                );
            }
            // Nearly always one token; the usage at the end puts it right.
            Event::Delta(_) => self.reach(self.prompt, self.cached, self.completion + 1),
            Event::Placed(_) | Event::Finished { .. } => {}
            Event::Done(usage) => self.reach(
                usage.prompt_tokens,
                usage.cached_tokens,
                usage.completion_tokens,
            ),
        }
    }

    /// These are the job's tokens so far.
    fn reach(&mut self, prompt: usize, cached: usize, completion: usize) {
        let before = self.prompt + self.completion;
        self.keys
            .charge(&self.caller, (prompt + completion).saturating_sub(before));
        self.tally.add(
            prompt.wrapping_sub(self.prompt),
            cached.wrapping_sub(self.cached),
            completion.wrapping_sub(self.completion),
        );
        (self.prompt, self.cached, self.completion) = (prompt, cached, completion);
    }
}

fn refused(error: &ApiError) {
    if error.kind.retry_after().is_some() {
        metrics::refused(error.kind);
    }
}

impl Backend for Metered {
    fn submit(&self, job: Job, caller: Caller) -> BoxFuture<'_, Result<Answer, ApiError>> {
        let mut meter = self.meter(caller.clone());
        async move {
            let answer = self.inner.submit(job, caller).await.inspect_err(refused)?;
            Ok(answer.observed(move |event| meter.note(event)))
        }
        .boxed()
    }

    fn embed(&self, job: EmbedJob, caller: Caller) -> BoxFuture<'_, Result<Embedded, ApiError>> {
        let mut meter = self.meter(caller.clone());
        async move {
            let embedded = self.inner.embed(job, caller).await.inspect_err(refused)?;
            meter.note(&Event::Done(embedded.usage.clone()));
            Ok(embedded)
        }
        .boxed()
    }

    fn count_tokens(
        &self,
        model: String,
        prompt: Prompt,
    ) -> BoxFuture<'_, Result<usize, ApiError>> {
        self.inner.count_tokens(model, prompt)
    }

    fn render(&self, model: String, prompt: ChatPrompt) -> BoxFuture<'_, Result<String, ApiError>> {
        self.inner.render(model, prompt)
    }

    fn load(
        &self,
        model: String,
        keep_alive: Option<KeepAlive>,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        self.inner.load(model, keep_alive)
    }

    fn unload(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.inner.unload(model)
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, ApiError>> {
        self.inner.models()
    }

    fn show(&self, model: String) -> BoxFuture<'_, Result<ModelDetails, ApiError>> {
        self.inner.show(model)
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        self.inner.loaded()
    }

    fn create(&self, name: String, manifest: Manifest) -> BoxFuture<'_, Result<(), ApiError>> {
        self.inner.create(name, manifest)
    }

    fn copy(&self, from: String, to: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.inner.copy(from, to)
    }

    fn delete(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.inner.delete(model)
    }

    fn library(&self) -> Option<Arc<Library>> {
        self.inner.library()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyFile;
    use crate::testing::Scripted;

    #[test]
    fn uploads_reach_the_library() {
        let home = tempfile::tempdir().unwrap();
        let keys = Keys::open(KeyFile::at(home.path().join("keys"))).unwrap();
        let scripted = Scripted::new([]);
        let library = Library::open(home.path().to_owned(), &[]);
        *scripted.library.lock().unwrap() = Some(Arc::new(library));
        assert!(Metered::new(scripted, keys).library().is_some());
    }
}
