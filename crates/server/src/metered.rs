//! What every job passes on its way in and out, whatever interface it is of: its wishes are settled, its tokens are counted
//! for the key's share and the request's line in the log, its numbers are reported, and it is recorded.
//!
//! It stands between the interfaces and the [`Backend`], so that neither has to think of it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use troika_library::{Library, Manifest};
use troika_scheduler::{Class, Phase, Policy};

use crate::backend::{Placement, State};
use crate::hybrid::RemoteView;
use crate::job::{
    Caller, ChatPrompt, EmbedJob, Embedded, Event, Job, KeepAlive, LoadedModel, ModelInfo, Placed,
    Prompt, Usage, Wishes,
};
use crate::keys::Keys;
use crate::observe::{JobIndex, Tally};
use crate::record::{Line, Recorder};
use crate::{Answer, ApiError, Backend, ErrorKind, Media, ModelDetails, metrics, wishes};

/// A backend whose jobs are counted.
pub(crate) struct Metered {
    inner: Arc<dyn Backend>,
    keys: Keys,
    recorder: Option<Recorder>,
    media: Option<Media>,
}

impl Metered {
    pub(crate) fn new(inner: Arc<dyn Backend>, keys: Keys, recorder: Option<Recorder>) -> Self {
        Self {
            inner,
            keys,
            recorder,
            media: None,
        }
    }

    /// Has encoders of texts, too: they embed what names them.
    pub(crate) fn with_media(self, media: Media) -> Self {
        let media = Some(media);
        Self { media, ..self }
    }

    /// Begins to count a job whose wishes are settled.
    fn meter(&self, caller: &Caller, wishes: &Wishes, line: Option<Line>) -> Meter {
        let tally = Tally::current();
        let class = wishes.class.unwrap_or_default();
        Meter {
            inner: Arc::clone(&self.inner),
            keys: self.keys.clone(),
            caller: caller.clone(),
            request_id: wishes.request_id.clone(),
            class,
            index: tally.open(class),
            tally,
            line,
            prompt: 0,
            cached: 0,
            completion: 0,
        }
    }

    fn check(&self, wishes: &Wishes) -> Result<(), ApiError> {
        let remotes = || self.inner.remotes().into_iter().map(|remote| remote.name);
        wishes::check_device(wishes, || self.inner.state(), || remotes().collect())
    }
}

/// Counts one job. Dropping it, with the answer or without one, ends the count.
struct Meter {
    inner: Arc<dyn Backend>,
    keys: Keys,
    caller: Caller,
    request_id: String,
    class: Class,
    tally: Arc<Tally>,
    index: JobIndex,
    line: Option<Line>,
    prompt: usize,
    cached: usize,
    completion: usize,
}

impl Meter {
    /// Takes note of what happens. Tokens are charged as they come: a client that leaves has had those.
    fn note(&mut self, event: &mut Result<Event, ApiError>) {
        match event {
            Ok(Event::Placed(placed)) => self.tally.place(self.index, places(placed)),
            Ok(Event::Started(started)) => {
                self.reach(
                    started.prompt_tokens,
                    started.cached_tokens,
                    self.completion,
                );
            }
            // Nearly always one token; the usage at the end puts it right.
            Ok(Event::Delta(_)) => self.reach(self.prompt, self.cached, self.completion + 1),
            Ok(Event::Finished { .. }) => {}
            Ok(Event::Done(usage)) => self.done(usage),
            Err(error) => {
                refused(error);
                // What failed is no load that could be played again.
                self.line = None;
            }
        }
    }

    /// The job is done, and these are its numbers.
    fn done(&mut self, usage: &mut Usage) {
        self.reach(
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
        );
        if let Some(report) = usage.report.as_deref_mut() {
            report.class = self.class;
            let spans = report.spans();
            let places = spans.map(|(device, span)| (span.phase, device.to_owned()));
            // Whoever answered from afar did all of the answer, whatever was tried here before.
            let places = match report.sent.last() {
                Some(sent) => [Phase::Prefill, Phase::Decode]
                    .map(|phase| (phase, sent.device()))
                    .to_vec(),
                None => places.collect(),
            };
            self.tally.place(self.index, places);
            if let Some(joules) = report.account.joules {
                self.tally.spend(self.index, joules);
            }
            metrics::job_done(report);
        }
        if let Some(line) = self.line.take() {
            line.done(self.prompt, self.cached, self.completion);
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

    /// Counts the request's placements that were not counted with an earlier one of its jobs.
    fn count_placements(&self) {
        let Some(placements) = self.inner.placements(&self.request_id) else {
            return;
        };
        let mut counted = self.tally.counted();
        for Placement {
            devices, decisions, ..
        } in &placements
        {
            let Some(first) = decisions.first() else {
                continue;
            };
            let before = counted.entry(first.job).or_default();
            for decision in decisions.iter().skip(*before) {
                let device = devices.get(usize::from(decision.decode.0));
                metrics::placed(decision.cause, device.map_or("unknown", |name| name));
            }
            *before = decisions.len();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.count_placements();
        self.tally.close(self.index);
        // Nothing is known of a job that its client left before it began.
        if let Some(line) = self.line.take().filter(|_| self.prompt > 0) {
            line.left(self.prompt, self.cached, self.completion);
        }
    }
}

/// Which device does what.
fn places(placed: &Placed) -> Vec<(Phase, String)> {
    let phases = [
        (Phase::Prefill, &placed.prefill),
        (Phase::Decode, &placed.decode),
    ];
    let known = phases.into_iter().filter(|(_, device)| !device.is_empty());
    known
        .map(|(phase, device)| (phase, device.clone()))
        .collect()
}

/// Counts an error that is a refusal: there is no room, or a wish cannot be met.
fn refused(error: &ApiError) {
    let unmet = matches!(error.kind, ErrorKind::Deadline | ErrorKind::RequiredDevice);
    if unmet || error.kind.retry_after().is_some() {
        metrics::refused(error.kind);
    }
}

impl Backend for Metered {
    fn submit(&self, mut job: Job, caller: Caller) -> BoxFuture<'_, Result<Answer, ApiError>> {
        job.wishes = wishes::settled(job.wishes, &caller, Class::Interactive);
        let line = self.recorder.as_ref().map(|to| to.job(&job, &caller));
        let mut meter = self.meter(&caller, &job.wishes, line);
        async move {
            self.check(&job.wishes)?;
            let answer = self.inner.submit(job, caller).await.inspect_err(refused)?;
            Ok(answer.observed(move |event| meter.note(event)))
        }
        .boxed()
    }

    fn embed(
        &self,
        mut job: EmbedJob,
        caller: Caller,
    ) -> BoxFuture<'_, Result<Embedded, ApiError>> {
        let usual = wishes::usual_of_embedding(job.inputs.len());
        job.wishes = wishes::settled(job.wishes, &caller, usual);
        let line = self.recorder.as_ref().map(|to| to.embedding(&job, &caller));
        let mut meter = self.meter(&caller, &job.wishes, line);
        async move {
            let encoder = match &self.media {
                Some(media) => media.encoder(&job.model).await,
                None => None,
            };
            let embedded = match encoder {
                Some(encoder) => encoder.embed(job, &*self.inner).await,
                None => {
                    self.check(&job.wishes)?;
                    self.inner.embed(job, caller).await
                }
            };
            let mut embedded = embedded.inspect_err(refused)?;
            meter.done(&mut embedded.usage);
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

    fn embedding_length(&self, model: String) -> BoxFuture<'_, Result<Option<usize>, ApiError>> {
        async move {
            match &self.media {
                // It says so itself, when it has embedded something.
                Some(media) if media.encoder(&model).await.is_some() => Ok(None),
                _ => self.inner.embedding_length(model).await,
            }
        }
        .boxed()
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

    fn state(&self) -> Option<State> {
        self.inner.state()
    }

    fn placements(&self, request_id: &str) -> Option<Vec<Placement>> {
        self.inner.placements(request_id)
    }

    fn remotes(&self) -> Vec<RemoteView> {
        self.inner.remotes()
    }

    fn set_policy(&self, policy: Policy) -> bool {
        self.inner.set_policy(policy)
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
        assert!(Metered::new(scripted, keys, None).library().is_some());
    }
}
