//! The thread that owns a model: it takes jobs in, runs steps of what the [`Batcher`] plans, and sends out what comes.
//!
//! Nobody else touches the model or its cache. A job that goes wrong ends alone; a step that goes wrong ends the jobs
//! in it, and the worker with them, since nothing is known then of the model's state.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use troika_base::TokenId;
use troika_device::{Output, Outputs, PAGE_TOKENS};
use troika_engine::{Error, Model, Pooler, PrefixCache, Sequence, Step};
use troika_scheduler::single::{Batcher, Limits, Plan, QueueFull, SeqId, Slice};

use super::request::{Request, Work};
use super::voice::Voice;
use crate::job::{Event, FinishReason, Started, Usage};
use crate::{ApiError, ErrorKind, metrics};

/// When a client whose job found the queue full may try again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A worker's thread and the way to it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) requests: Sender<Box<Request>>,
    pub(super) thread: JoinHandle<()>,
}

/// Gives a model a thread of its own. It ends when the sender is dropped and the last job is done.
///
/// # Errors
/// If the system has no thread left.
pub(super) fn spawn(name: String, model: Model, limits: Limits) -> std::io::Result<Worker> {
    let (requests, inbox) = channel();
    let thread = std::thread::Builder::new().name(format!("troika-{name}"));
    let thread = thread.spawn(move || {
        let batcher = Batcher::new(Limits {
            page_tokens: PAGE_TOKENS,
            ..limits
        });
        Loop {
            name,
            model,
            batcher,
            inbox,
            prefixes: PrefixCache::default(),
            jobs: BTreeMap::new(),
            sequences: BTreeMap::new(),
            next_id: 0,
        }
        .run();
    })?;
    Ok(Worker { requests, thread })
}

/// A job in progress.
struct Job {
    request: Box<Request>,
    /// Answers that are not complete.
    open: usize,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
    usage: Usage,
}

impl Job {
    /// Gives the model back, and the way to tell the client: who hears that a job is done finds the model idle.
    fn end(self) -> Work {
        self.request.work
    }
}

/// A sequence in progress: one answer, or the prompt before its answers part.
struct Running {
    /// The job, by the number of its first sequence.
    job: SeqId,
    choice: usize,
    /// The prompt and what was written.
    known: Vec<TokenId>,
    /// What is in the cache.
    held: Sequence,
    role: Role,
    last_token: Option<Instant>,
}

/// What a sequence is there for.
enum Role {
    /// Reads a prompt that answers will follow.
    Read,
    /// Writes an answer.
    Write(Box<Voice>),
    /// Becomes a vector.
    Embed(Pooler),
}

impl Running {
    /// What is asked of a step that computes a slice of it.
    fn output(&self, slice: Slice) -> Output {
        match &self.role {
            Role::Embed(pooler) => pooler.output(slice.complete),
            _ if slice.complete => Output::LastLogits,
            _ => Output::Nothing,
        }
    }
}

struct Loop {
    name: String,
    model: Model,
    batcher: Batcher,
    inbox: Receiver<Box<Request>>,
    prefixes: PrefixCache,
    jobs: BTreeMap<SeqId, Job>,
    sequences: BTreeMap<SeqId, Running>,
    next_id: u64,
}

impl Loop {
    fn run(mut self) {
        while self.take_in() {
            self.drop_cancelled();
            self.admit();
            self.report();
            if let Err(error) = self.step() {
                tracing::error!(model = self.name, %error, "a step failed; the model is unloaded");
                return self.fail_all();
            }
        }
    }

    /// Takes in what has come; waits if there is nothing to do. `false` when nothing will ever come.
    fn take_in(&mut self) -> bool {
        if self.jobs.is_empty() {
            self.report();
            match self.inbox.recv() {
                Ok(request) => self.accept(request),
                Err(_) => return false,
            }
        }
        loop {
            match self.inbox.try_recv() {
                Ok(request) => self.accept(request),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !self.jobs.is_empty(),
            }
        }
    }

    fn accept(&mut self, request: Box<Request>) {
        let id = self.new_id();
        if let Err(QueueFull { waiting }) = self.batcher.submit(id, request.tokens.len()) {
            let message = format!("{waiting} requests are waiting already; try again later");
            let kind = ErrorKind::Overloaded {
                retry_after: RETRY_AFTER,
            };
            metrics::rejected("queue_full");
            return request.work.fail(ApiError::new(kind, message));
        }
        let (open, role) = match &request.work {
            Work::Write { n, .. } => (*n, Role::Read),
            Work::Embed { .. } => (1, Role::Embed(Pooler::new(self.model.pooling()))),
        };
        let running = Running {
            job: id,
            choice: 0,
            known: request.tokens.clone(),
            held: Sequence::default(),
            role,
            last_token: None,
        };
        let job = Job {
            open,
            admitted: None,
            first_token: None,
            usage: Usage {
                prompt_tokens: request.tokens.len(),
                load: request.load,
                ..Usage::default()
            },
            request,
        };
        self.sequences.insert(id, running);
        self.jobs.insert(id, job);
    }

    fn new_id(&mut self) -> SeqId {
        self.next_id += 1;
        SeqId(self.next_id)
    }

    /// Ends the jobs whose clients have left.
    fn drop_cancelled(&mut self) {
        let jobs = self.jobs.iter();
        let gone = jobs.filter(|(_, job)| job.request.work.is_abandoned());
        let gone: Vec<_> = gone.map(|(&id, _)| id).collect();
        for id in gone {
            tracing::debug!(model = self.name, "the client has left");
            self.end_job(id);
        }
    }

    /// Lets waiting sequences run while there is memory for them.
    fn admit(&mut self) {
        while let Some(id) = self.batcher.next_admission(self.free_pages()) {
            let running = self.sequences.get_mut(&id).expect("it waits");
            let job = self.jobs.get_mut(&running.job).expect("it has a job");
            // A vector is made of every token's state, and the cache has none of these.
            if !matches!(running.role, Role::Embed(_)) {
                let namespace = &job.request.namespace;
                running.held = self.prefixes.lookup(namespace, &running.known);
            }
            let cached = running.held.tokens().len();
            if job.admitted.is_none() {
                let now = Instant::now();
                job.admitted = Some(now);
                job.usage.queue = (now - job.request.arrived).saturating_sub(job.request.load);
                job.usage.cached_tokens = cached;
                metrics::queue_wait(&self.name, job.usage.queue);
            }
            self.batcher.admit(id, cached);
        }
    }

    fn free_pages(&self) -> usize {
        self.model.n_page_free() + self.prefixes.evictable()
    }

    fn report(&self) {
        let total = self.model.n_ctx() / PAGE_TOKENS;
        metrics::kv_pages(&self.name, total - self.free_pages(), total);
        let (running, waiting) = (self.batcher.n_running(), self.batcher.n_waiting());
        metrics::jobs(&self.name, running, waiting);
    }

    /// One step of all sequences that are in the plan.
    fn step(&mut self) -> Result<(), StepFailed> {
        let Some(plan) = self.batcher.plan(self.free_pages()) else {
            return Ok(());
        };
        for &id in &plan.preempted {
            self.give_way(id);
        }
        let start = Instant::now();
        let outputs = match self.compute(&plan)? {
            Ok(outputs) => outputs,
            Err(Error::CacheFull { .. }) => return self.out_of_pages(),
            Err(error) => return Err(StepFailed(error.to_string())),
        };
        self.batcher.observe(plan.n_tok(), start.elapsed());
        self.hand_out(&plan, &outputs);
        Ok(())
    }

    /// The forward pass. The outer error is a panic.
    fn compute(&mut self, plan: &Plan) -> Result<Result<Outputs, Error>, StepFailed> {
        let growth = plan.slices.iter();
        let growth = growth.map(|slice| (&self.sequences[&slice.id].held, slice.n_tok));
        let wanted = self.model.pages_wanted(growth);
        self.prefixes
            .evict(wanted.saturating_sub(self.model.n_page_free()));
        let mut held: Vec<Sequence> = Vec::with_capacity(plan.slices.len());
        for slice in &plan.slices {
            held.push(std::mem::take(&mut self.running_mut(slice.id).held));
        }
        let steps = held.iter_mut().zip(&plan.slices);
        let steps = steps.map(|(sequence, &slice)| {
            let running = &self.sequences[&slice.id];
            let first = sequence.tokens().len();
            Step {
                sequence,
                tokens: &running.known[first..first + slice.n_tok],
                output: running.output(slice),
            }
        });
        let mut steps: Vec<_> = steps.collect();
        let model = &mut self.model;
        let result = catch_unwind(AssertUnwindSafe(|| model.step(&mut steps)));
        drop(steps);
        for (sequence, slice) in held.into_iter().zip(&plan.slices) {
            self.running_mut(slice.id).held = sequence;
        }
        result.map_err(|_| StepFailed("a panic".to_owned()))
    }

    /// What a step has computed goes to those who asked for it.
    fn hand_out(&mut self, plan: &Plan, outputs: &Outputs) {
        let (mut logits, mut hidden) = (outputs.logits.rows(), outputs.hidden.rows());
        for &slice in &plan.slices {
            self.batcher.computed(slice);
            let running = self.running_mut(slice.id);
            let output = running.output(slice);
            let rows = hidden.by_ref().take(output.hidden(slice.n_tok).len());
            if let Role::Embed(pooler) = &mut running.role {
                pooler.add(rows);
                if slice.complete {
                    self.embedded(slice.id);
                }
                continue;
            }
            self.remember(slice);
            if slice.complete {
                let row = logits.next().expect("each complete slice has logits");
                self.speak(slice.id, row);
            }
        }
    }

    /// A text is read to its end: its vector is done.
    fn embedded(&mut self, id: SeqId) {
        self.batcher.remove(id);
        let running = self.sequences.remove(&id);
        let job = self.jobs.remove(&id);
        if let (Some(Role::Embed(pooler)), Some(job)) = (running.map(|running| running.role), job)
            && let Work::Embed { vector } = job.end()
        {
            let done = pooler.finish();
            let _ = vector.send(done.map_err(|error| ApiError::invalid(error.to_string())));
        }
    }

    /// Keeps the pages that were filled for prompts that begin alike.
    fn remember(&mut self, slice: Slice) {
        let running = &self.sequences[&slice.id];
        let held = running.held.tokens().len();
        if held / PAGE_TOKENS > (held - slice.n_tok) / PAGE_TOKENS {
            let namespace = &self.jobs[&running.job].request.namespace;
            self.prefixes.insert(namespace, &running.held);
        }
    }

    /// A sequence lets go of its pages; what it has written stays, and is read again later.
    fn give_way(&mut self, id: SeqId) {
        tracing::debug!(model = self.name, "an answer gives way to older ones");
        let pooling = self.model.pooling();
        let running = self.running_mut(id);
        running.held = Sequence::default();
        if let Role::Embed(pooler) = &mut running.role {
            // All of it will be read again.
            *pooler = Pooler::new(pooling);
        }
    }

    /// The plan asked for more pages than there are: the youngest sequence gives way; the last one ends.
    fn out_of_pages(&mut self) -> Result<(), StepFailed> {
        if let Some(id) = self.batcher.preempt() {
            self.give_way(id);
            return Ok(());
        }
        let mut holders = self.sequences.iter();
        match holders.find(|(_, running)| !running.held.tokens().is_empty()) {
            Some((&id, _)) => {
                self.finish(id, FinishReason::Length);
                Ok(())
            }
            None => Err(StepFailed(
                "the cache is full, and nobody holds it".to_owned(),
            )),
        }
    }

    /// The next token of one answer; after a prompt, the first ones of all its answers.
    fn speak(&mut self, id: SeqId, logits: &[f32]) {
        let answers = match self.sequences[&id].role {
            Role::Read => self.begin(id),
            _ => vec![id],
        };
        for id in answers {
            let spoken = catch_unwind(AssertUnwindSafe(|| self.speak_one(id, logits)));
            match spoken {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.fail(id, ApiError::invalid(error.to_string())),
                Err(_) => {
                    tracing::error!(model = self.name, "an answer panicked");
                    self.fail(id, ApiError::internal());
                }
            }
        }
    }

    /// A prompt is read: from here on each of its answers is a sequence of its own, and all share the prompt's cache.
    /// Returns the answers.
    fn begin(&mut self, id: SeqId) -> Vec<SeqId> {
        let job = self.jobs.get_mut(&id).expect("it has a job");
        let Work::Write { n, style, .. } = &job.request.work else {
            return Vec::new();
        };
        let prompt = &job.request.tokens;
        let tokenizer = self.model.tokenizer();
        let voices = (0..*n).map(|choice| Voice::new(choice, tokenizer, prompt, style));
        let voices = match voices.collect::<Result<Vec<_>, _>>() {
            Ok(voices) => voices,
            Err(error) => {
                self.fail(id, ApiError::invalid(error.to_string()));
                return Vec::new();
            }
        };
        let now = Instant::now();
        job.first_token = Some(now);
        job.usage.prefill = now - job.admitted.unwrap_or(now);
        metrics::first_token(&self.name, now - job.request.arrived);
        job.request.work.tell(Event::Started(Started {
            prompt_tokens: job.usage.prompt_tokens,
            cached_tokens: job.usage.cached_tokens,
        }));
        voices
            .into_iter()
            .enumerate()
            .map(|(choice, voice)| self.answer(id, choice, voice))
            .collect()
    }

    /// Gives an answer its sequence: the prompt's own, or one that begins with its cache.
    fn answer(&mut self, prompt: SeqId, choice: usize, voice: Voice) -> SeqId {
        let role = Role::Write(Box::new(voice));
        if choice == 0 {
            self.running_mut(prompt).role = role;
            return prompt;
        }
        let id = self.new_id();
        let first = &self.sequences[&prompt];
        let running = Running {
            job: prompt,
            choice,
            known: first.known.clone(),
            held: first.held.clone(),
            role,
            last_token: None,
        };
        self.batcher.fork(prompt, id);
        self.sequences.insert(id, running);
        id
    }

    fn speak_one(&mut self, id: SeqId, logits: &[f32]) -> Result<(), Error> {
        // An answer before it may have ended the job.
        let Some(running) = self.sequences.get_mut(&id) else {
            return Ok(());
        };
        let Role::Write(voice) = &mut running.role else {
            return Ok(());
        };
        let job = self.jobs.get_mut(&running.job).expect("it has a job");
        // The token that comes has a place, and so has to have the one after it.
        let room = running.known.len() + 1 < job.request.n_ctx;
        let spoken = voice.speak(logits, room)?;
        if let Some(token) = spoken.token {
            running.known.push(token);
            job.usage.completion_tokens += 1;
            let now = Instant::now();
            if let Some(last) = running.last_token.replace(now) {
                metrics::inter_token(&self.name, now - last);
            }
        }
        if !spoken.delta.parts.is_empty() || !spoken.delta.tokens.is_empty() {
            job.request.work.tell(Event::Delta(spoken.delta));
        }
        match spoken.finish {
            Some(finish) => self.finish(id, finish),
            None => self.batcher.wrote(id),
        }
        Ok(())
    }

    /// An answer is complete; with the last one, its job is.
    fn finish(&mut self, id: SeqId, finish: FinishReason) {
        self.batcher.remove(id);
        let Some(running) = self.sequences.remove(&id) else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&running.job) else {
            return;
        };
        let choice = running.choice;
        job.request.work.tell(Event::Finished { choice, finish });
        if let Role::Write(voice) = running.role {
            job.usage.reasoning_tokens += voice.reasoning_tokens;
        }
        job.open -= 1;
        if job.open > 0 {
            return;
        }
        let mut job = self.jobs.remove(&running.job).expect("it was there");
        let first = job.first_token;
        job.usage.decode = first.map_or(Duration::ZERO, |first| first.elapsed());
        metrics::tokens(
            &self.name,
            job.usage.prompt_tokens,
            job.usage.cached_tokens,
            job.usage.completion_tokens,
        );
        let usage = job.usage.clone();
        job.end().tell(Event::Done(usage));
    }

    /// An answer went wrong: its job ends, and no other.
    fn fail(&mut self, id: SeqId, error: ApiError) {
        let job = self.sequences.get(&id).map(|running| running.job);
        if let Some(job) = job.and_then(|id| self.end_job(id)) {
            job.end().fail(error);
        }
    }

    /// Forgets a job and its sequences; their pages are free.
    fn end_job(&mut self, id: SeqId) -> Option<Job> {
        let of_job = self.sequences.iter();
        let of_job = of_job.filter(|(_, running)| running.job == id);
        let ids: Vec<_> = of_job.map(|(&id, _)| id).collect();
        for id in ids {
            self.batcher.remove(id);
            self.sequences.remove(&id);
        }
        self.jobs.remove(&id)
    }

    fn fail_all(mut self) {
        for job in std::mem::take(&mut self.jobs).into_values() {
            job.request.work.fail(ApiError::internal());
        }
        while let Ok(request) = self.inbox.try_recv() {
            request.work.fail(ApiError::internal());
        }
    }

    fn running_mut(&mut self, id: SeqId) -> &mut Running {
        self.sequences
            .get_mut(&id)
            .expect("it runs. This is a bug.")
    }
}

/// A step failed, and with it the model.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StepFailed(String);
