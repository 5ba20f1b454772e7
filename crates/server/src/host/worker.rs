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
use troika_device::{Logits, LogitsFor, PAGE_TOKENS};
use troika_engine::{Error, Model, PrefixCache, Sequence, Step};
use troika_scheduler::{Batcher, Limits, Plan, QueueFull, SeqId, Slice};

use super::shelf::Lease;
use super::voice::{Style, Voice};
use crate::job::{Event, FinishReason, Started, Usage};
use crate::{ApiError, ErrorKind, EventSender, metrics};

/// When a client whose job found the queue full may try again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A job that is ready to run.
pub(super) struct Request {
    /// The prompt, at least one token and fewer than `n_ctx`.
    pub(super) tokens: Vec<TokenId>,
    /// Answers that are wanted.
    pub(super) n: usize,
    /// How they are written.
    pub(super) style: Style,
    /// Tokens of prompt and answer at most.
    pub(super) n_ctx: usize,
    /// Prompts are cached for each namespace alone.
    pub(super) namespace: String,
    pub(super) events: EventSender,
    /// When the request came.
    pub(super) arrived: Instant,
    /// Time that it waited for the model to be loaded.
    pub(super) load: Duration,
    /// Keeps the model from being unloaded.
    pub(super) lease: Lease,
}

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

/// A sequence in progress: one answer, or the prompt before its answers part.
struct Running {
    /// The job, by the number of its first sequence.
    job: SeqId,
    choice: usize,
    /// The prompt and what was written.
    known: Vec<TokenId>,
    /// What is in the cache.
    held: Sequence,
    /// `None` until the prompt is read.
    voice: Option<Voice>,
    last_token: Option<Instant>,
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
            metrics::rejected("queue_full");
            let message = format!("{waiting} requests are waiting already; try again later");
            let retry_after = RETRY_AFTER;
            let kind = ErrorKind::Overloaded { retry_after };
            let _ = request.events.send(Err(ApiError::new(kind, message)));
            return;
        }
        let running = Running {
            job: id,
            choice: 0,
            known: request.tokens.clone(),
            held: Sequence::default(),
            voice: None,
            last_token: None,
        };
        let job = Job {
            open: request.n,
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
        let left = |job: &&Job| job.request.events.is_closed();
        let gone: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| left(job))
            .map(|(&id, _)| id)
            .collect();
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
            running.held = self
                .prefixes
                .lookup(&job.request.namespace, &running.known);
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
        self.model.n_free() / PAGE_TOKENS + self.prefixes.evictable()
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
        let missing = plan.n_page.saturating_sub(self.model.n_free() / PAGE_TOKENS);
        self.prefixes.evict(missing);
        let start = Instant::now();
        let logits = match self.compute(&plan)? {
            Ok(logits) => logits,
            Err(Error::CacheFull { .. }) => return self.out_of_pages(),
            Err(error) => return Err(StepFailed(error.to_string())),
        };
        self.batcher.observe(plan.n_tok(), start.elapsed());
        let mut rows = logits.rows();
        for &slice in &plan.slices {
            self.batcher.computed(slice);
            self.remember(slice);
            if slice.complete {
                let row = rows.next().expect("each complete slice has logits");
                self.speak(slice.id, row);
            }
        }
        Ok(())
    }

    /// The forward pass. The outer error is a panic.
    fn compute(&mut self, plan: &Plan) -> Result<Result<Logits, Error>, StepFailed> {
        let mut held: Vec<Sequence> = plan
            .slices
            .iter()
            .map(|slice| std::mem::take(&mut self.running_mut(slice.id).held))
            .collect();
        let mut steps: Vec<Step<'_>> = held
            .iter_mut()
            .zip(&plan.slices)
            .map(|(sequence, slice)| {
                let first = sequence.tokens().len();
                Step {
                    sequence,
                    tokens: &self.sequences[&slice.id].known[first..first + slice.n_tok],
                    logits: match slice.complete {
                        true => LogitsFor::Last,
                        false => LogitsFor::Nothing,
                    },
                }
            })
            .collect();
        let model = &mut self.model;
        let result = catch_unwind(AssertUnwindSafe(|| model.step(&mut steps)));
        drop(steps);
        for (sequence, slice) in held.into_iter().zip(&plan.slices) {
            self.running_mut(slice.id).held = sequence;
        }
        result.map_err(|_| StepFailed("a panic".to_owned()))
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
        self.running_mut(id).held = Sequence::default();
    }

    /// The plan asked for more pages than there are: the youngest sequence gives way; the last one ends.
    fn out_of_pages(&mut self) -> Result<(), StepFailed> {
        if let Some(id) = self.batcher.preempt() {
            self.give_way(id);
            return Ok(());
        }
        let last = self.sequences.iter().find(|(_, running)| !running.held.tokens().is_empty());
        let Some((&id, _)) = last.or_else(|| self.sequences.iter().next()) else {
            return Err(StepFailed("the cache is full of nothing".to_owned()));
        };
        self.finish(id, FinishReason::Length);
        Ok(())
    }

    /// The next token of one answer; after a prompt, the first ones of all its answers.
    fn speak(&mut self, id: SeqId, logits: &[f32]) {
        if self.sequences[&id].voice.is_none() && !self.begin(id) {
            return;
        }
        let job = self.sequences[&id].job;
        let first = self.jobs[&job].first_token.is_none();
        let answers = match first {
            true => self.part_ways(id),
            false => vec![id],
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

    /// The prompt is read: tells the client, and gives the answer a voice.
    fn begin(&mut self, id: SeqId) -> bool {
        let running = &self.sequences[&id];
        let (job_id, choice) = (running.job, running.choice);
        match self.voice(job_id, choice) {
            Ok(voice) => {
                self.running_mut(id).voice = Some(voice);
                let job = &self.jobs[&job_id];
                let _ = job.request.events.send(Ok(Event::Started(Started {
                    prompt_tokens: job.usage.prompt_tokens,
                    cached_tokens: job.usage.cached_tokens,
                })));
                true
            }
            Err(error) => {
                self.fail(id, ApiError::invalid(error.to_string()));
                false
            }
        }
    }

    fn voice(&self, job: SeqId, choice: usize) -> Result<Voice, Error> {
        let request = &self.jobs[&job].request;
        Voice::new(choice, self.model.tokenizer(), &request.tokens, &request.style)
    }

    /// Further answers to one prompt begin with the cache of the first.
    fn part_ways(&mut self, id: SeqId) -> Vec<SeqId> {
        let job_id = self.sequences[&id].job;
        let job = self.jobs.get_mut(&job_id).expect("it has a job");
        let now = Instant::now();
        job.first_token = Some(now);
        job.usage.prefill = now - job.admitted.unwrap_or(now);
        metrics::first_token(&self.name, now - job.request.arrived);
        let n = job.request.n;
        let mut answers = vec![id];
        for choice in 1..n {
            let Ok(voice) = self.voice(job_id, choice) else {
                continue;
            };
            let fork = self.new_id();
            let first = &self.sequences[&id];
            let running = Running {
                job: job_id,
                choice,
                known: first.known.clone(),
                held: first.held.clone(),
                voice: Some(voice),
                last_token: None,
            };
            self.batcher.fork(id, fork);
            self.sequences.insert(fork, running);
            answers.push(fork);
        }
        answers
    }

    fn speak_one(&mut self, id: SeqId, logits: &[f32]) -> Result<(), Error> {
        let running = self.sequences.get_mut(&id).expect("it runs");
        let job = self.jobs.get_mut(&running.job).expect("it has a job");
        let room = running.known.len() < job.request.n_ctx;
        let voice = running.voice.as_mut().expect("it has a voice");
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
            // A client that has left is found out at the next step.
            let _ = job.request.events.send(Ok(Event::Delta(spoken.delta)));
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
        let _ = job.request.events.send(Ok(Event::Finished { choice, finish }));
        job.usage.reasoning_tokens += running.voice.map_or(0, |voice| voice.reasoning_tokens);
        job.open -= 1;
        if job.open > 0 {
            return;
        }
        let mut job = self.jobs.remove(&running.job).expect("it was there");
        job.usage.decode = job.first_token.map_or(Duration::ZERO, |first| first.elapsed());
        metrics::tokens(
            &self.name,
            job.usage.prompt_tokens,
            job.usage.cached_tokens,
            job.usage.completion_tokens,
        );
        let _ = job.request.events.send(Ok(Event::Done(job.usage)));
    }

    /// An answer went wrong: its job ends, and no other.
    fn fail(&mut self, id: SeqId, error: ApiError) {
        let job = self.sequences.get(&id).map(|running| running.job);
        if let Some(id) = job {
            if let Some(job) = self.jobs.get(&id) {
                let _ = job.request.events.send(Err(error));
            }
            self.end_job(id);
        }
    }

    /// Forgets a job and its sequences; their pages are free.
    fn end_job(&mut self, id: SeqId) {
        let of_job = self.sequences.iter().filter(|(_, running)| running.job == id);
        let ids: Vec<_> = of_job.map(|(&id, _)| id).collect();
        for id in ids {
            self.batcher.remove(id);
            self.sequences.remove(&id);
        }
        self.jobs.remove(&id);
    }

    fn fail_all(mut self) {
        for job in std::mem::take(&mut self.jobs).into_values() {
            let _ = job.request.events.send(Err(ApiError::internal()));
        }
        while let Ok(request) = self.inbox.try_recv() {
            let _ = request.events.send(Err(ApiError::internal()));
        }
    }

    fn running_mut(&mut self, id: SeqId) -> &mut Running {
        self.sequences.get_mut(&id).expect("it runs. This is a bug.")
    }
}

/// A step failed, and with it the model.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StepFailed(String);
