//! A job, wherever it runs: what was asked, what was written so far, and who waits for it.
//!
//! Devices hold caches and nothing else of a job, so it survives them: what it knows are its prompt and what it has
//! written, and both are here.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use troika_base::TokenId;
use troika_engine::Error;
use troika_scheduler::{DeviceId, JobId, KeepAlive, SeqId, Wrote};

use super::away::{CallBack, Leaves};
use super::guess::Guesses;
use super::models::{Handle, lock};
use super::voice::{Style, Voice};
use crate::job::{Event, FinishReason, Placed, Report, Started, Usage};
use crate::{ApiError, EventSender, metrics};

/// A job that somebody waits for.
pub(super) struct Request {
    pub(super) id: JobId,
    /// The model; jobs that have begun end with the one that they began with.
    pub(super) handle: Arc<Handle>,
    /// The prompt, at least one token and fewer than `n_ctx`.
    pub(super) tokens: Vec<TokenId>,
    /// Answers that are wanted; `None` where none is.
    pub(super) answers: Option<u32>,
    /// Tokens of prompt and answer at most.
    pub(super) n_ctx: usize,
    /// Prompts are cached for each namespace alone.
    pub(super) namespace: String,
    /// The number of the request that it belongs to.
    pub(super) request_id: String,
    /// When the request came.
    pub(super) arrived: Instant,
    /// How long the model stays loaded afterwards; its usual time if absent.
    pub(super) keep_alive: Option<KeepAlive>,
    /// How it may leave this machine, if it may.
    leaves: Option<Leaves>,
    progress: Mutex<Progress>,
}

/// Who waits for a job.
pub(super) enum Client {
    /// Hears of answers as they are written.
    Stream {
        /// How they are written.
        style: Box<Style>,
        /// Where they go.
        events: EventSender,
    },
    /// Waits for one vector of length 1.
    Vector(oneshot::Sender<Result<Embedding, ApiError>>),
    /// Wants the model in memory, and nothing else.
    Load(oneshot::Sender<Result<(), ApiError>>),
}

/// A vector and what it took.
pub(super) struct Embedding {
    pub(super) vector: Vec<f32>,
    pub(super) usage: Usage,
}

struct Progress {
    /// `None` once the job's end was told.
    client: Option<Client>,
    /// Why it was refused before it was queued.
    refusal: Option<ApiError>,
    is_queued: bool,
    /// Told when the job has begun, or will not.
    settled: Option<oneshot::Sender<()>>,
    /// The answers, once the prompt is read.
    writing: Vec<Writing>,
    vector: Option<Vec<f32>>,
    /// Counts the times that it was given to a device: only the last one may write.
    turn: u64,
    usage: Usage,
    begun: Option<Instant>,
    first_token: Option<Instant>,
    /// While it is away: when it left, and what calls it back.
    away: Option<(Instant, CallBack)>,
    /// What it came back with.
    carried: Option<Usage>,
}

/// An answer in progress.
struct Writing {
    voice: Voice,
    written: Vec<TokenId>,
    ended: bool,
    last_token: Instant,
    /// `None` where nothing is guessed.
    guesses: Option<Guesses>,
}

/// What a request is made of.
pub(super) struct Asked {
    pub(super) tokens: Vec<TokenId>,
    pub(super) answers: Option<u32>,
    pub(super) n_ctx: usize,
    pub(super) namespace: String,
    pub(super) request_id: String,
    pub(super) arrived: Instant,
    pub(super) keep_alive: Option<KeepAlive>,
    /// How it may leave this machine, if it may.
    pub(super) leaves: Option<Leaves>,
}

impl Request {
    /// A job that has not begun, and what tells when it has, or never will.
    pub(super) fn new(
        id: JobId,
        handle: Arc<Handle>,
        asked: Asked,
        client: Client,
    ) -> (Self, oneshot::Receiver<()>) {
        let (settled, when_settled) = oneshot::channel();
        let usage = Usage {
            prompt_tokens: asked.tokens.len(),
            ..Usage::default()
        };
        let progress = Mutex::new(Progress {
            client: Some(client),
            refusal: None,
            is_queued: false,
            settled: Some(settled),
            writing: Vec::new(),
            vector: None,
            turn: 0,
            usage,
            begun: None,
            first_token: None,
            away: None,
            carried: None,
        });
        let request = Self {
            id,
            handle,
            tokens: asked.tokens,
            answers: asked.answers,
            n_ctx: asked.n_ctx,
            namespace: asked.namespace,
            request_id: asked.request_id,
            arrived: asked.arrived,
            keep_alive: asked.keep_alive,
            leaves: asked.leaves,
            progress,
        };
        (request, when_settled)
    }

    /// Whether it becomes a vector.
    pub(super) fn is_embedding(&self) -> bool {
        self.answers.is_none()
    }

    /// Whether `held` tokens are at least its prompt.
    pub(super) fn is_read_by(&self, held: usize) -> bool {
        held >= self.tokens.len()
    }

    /// Its sequences: the prompt alone, or all answers.
    pub(super) fn choices(&self) -> std::ops::Range<u32> {
        let progress = lock(&self.progress);
        0..u32::try_from(progress.writing.len())
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// It is given to a device; who had it before, has it no more.
    pub(super) fn next_turn(&self) -> u64 {
        let mut progress = lock(&self.progress);
        progress.turn += 1;
        progress.turn
    }

    /// It goes from one device to another. The turn of the other one, or `None` if it is not the first one's any more.
    pub(super) fn hand_over(&self, turn: u64) -> Option<u64> {
        let mut progress = lock(&self.progress);
        if progress.turn != turn || progress.client.is_none() {
            return None;
        }
        progress.turn += 1;
        Some(progress.turn)
    }

    /// Whether it was given to more than one device, or to one more than once.
    pub(super) fn has_wandered(&self) -> bool {
        lock(&self.progress).turn > 1
    }

    /// The known tokens of a sequence.
    pub(super) fn known(&self, choice: u32) -> Vec<TokenId> {
        let progress = lock(&self.progress);
        let written = progress.writing.get(choice as usize);
        let written = written.map_or(&[][..], |answer| &answer.written);
        [&self.tokens, written].concat()
    }

    /// Tokens of its prompt.
    pub(super) fn n_prompt(&self) -> usize {
        self.tokens.len()
    }

    /// `n_tok` known tokens of a sequence behind its first `held`; `None` if it knows fewer.
    pub(super) fn pending(&self, choice: u32, held: usize, n_tok: usize) -> Option<Vec<TokenId>> {
        let progress = lock(&self.progress);
        let written = progress.writing.get(choice as usize);
        let written = written.map_or(&[][..], |answer| &answer.written);
        let n_prompt = self.tokens.len();
        let end = held + n_tok;
        let of_prompt = self.tokens.get(held.min(n_prompt)..end.min(n_prompt))?;
        let of_answer = written.get(held.saturating_sub(n_prompt)..end.saturating_sub(n_prompt))?;
        Some([of_prompt, of_answer].concat())
    }

    /// It is known where it runs.
    pub(super) fn placed(&self, placed: Placed) {
        lock(&self.progress).tell(Event::Placed(placed));
    }

    /// Its model was loaded while it waited.
    pub(super) fn waited_for_load(&self, now: Instant) {
        let mut progress = lock(&self.progress);
        if progress.begun.is_none() && progress.usage.load.is_zero() {
            progress.usage.load = now - self.arrived;
        }
    }

    /// It begins on a device. `false` if it had begun before.
    pub(super) fn begin(&self, now: Instant) -> bool {
        let mut progress = lock(&self.progress);
        progress.settle();
        if progress.begun.is_some() {
            return false;
        }
        progress.begun = Some(now);
        let waited = now - self.arrived;
        progress.usage.queue = waited.saturating_sub(progress.usage.load);
        metrics::queue_wait(&self.handle.info.name, progress.usage.queue);
        true
    }

    /// It leaves this machine. `false` if it may not go there, or somebody has heard the beginning of an answer: a device may
    /// have said more than the scheduler knows of.
    pub(super) fn send(&self, to: DeviceId, now: Instant) -> bool {
        let mut progress = lock(&self.progress);
        let progress = &mut *progress;
        let (Some(leaves), Some(Client::Stream { events, .. }), true) =
            (&self.leaves, &progress.client, progress.writing.is_empty())
        else {
            return false;
        };
        let Some(call_back) = leaves.send(self.id, to, events.clone()) else {
            return false;
        };
        // Whatever device had it, has it no more.
        progress.turn += 1;
        progress.away = Some((now, call_back));
        progress.settle();
        true
    }

    /// Whether it is away.
    pub(super) fn is_away(&self) -> bool {
        lock(&self.progress).away.is_some()
    }

    /// It is back undone, and waits again.
    pub(super) fn came_back(&self) {
        lock(&self.progress).away = None;
    }

    /// It is back, done.
    pub(super) fn was_done_away(&self, usage: Usage) {
        lock(&self.progress).carried = Some(usage);
    }

    /// So many tokens of its prompt were in the cache where it began. Where it begins again, it may find what it has read
    /// itself: no more counts than at first.
    pub(super) fn found(&self, cached: usize) {
        let mut progress = lock(&self.progress);
        if progress.first_token.is_none() {
            let most = match progress.turn > 1 {
                true => progress.usage.cached_tokens,
                false => self.tokens.len(),
            };
            progress.usage.cached_tokens = cached.min(most);
        }
    }

    /// How many tokens are worth guessing behind the first `held` known ones of an answer, `most` at most; none if it knows
    /// more by now.
    pub(super) fn reach(&self, choice: u32, held: usize, most: usize) -> usize {
        let mut progress = lock(&self.progress);
        let answer = progress.writing.get_mut(choice as usize);
        answer.map_or(0, |answer| self.reach_of(answer, held, most))
    }

    /// Up to `most` tokens that may follow there, as far as the text itself tells.
    pub(super) fn guess(&self, choice: u32, held: usize, most: usize) -> Vec<TokenId> {
        let mut progress = lock(&self.progress);
        let Some(answer) = progress.writing.get_mut(choice as usize) else {
            return Vec::new();
        };
        let n_tok = self.reach_of(answer, held, most);
        let Some(guesses) = answer.guesses.as_ref().filter(|_| n_tok > 0) else {
            return Vec::new();
        };
        let text = [&self.tokens[..], &answer.written].concat();
        guesses.look_up(&text, n_tok)
    }

    fn reach_of(&self, answer: &mut Writing, held: usize, most: usize) -> usize {
        let n_known = self.tokens.len() + answer.written.len();
        let Some(guesses) = &mut answer.guesses else {
            return 0;
        };
        if held != n_known || answer.ended {
            return 0;
        }
        // The last token that is wanted, or that has room, is not read.
        let wanted = answer.voice.wanted().min(self.n_ctx - n_known);
        guesses.reach(most.min(wanted.saturating_sub(1)))
    }

    /// The token that follows the first `held` known ones of a sequence; after a prompt, the first ones of all answers. And
    /// those after it, as long as each is the one that was guessed: `rows` are the logits that follow the held ones, and the
    /// guesses. Returns what was written; nothing if the job is another device's by now.
    ///
    /// A device may have written more than the scheduler heard of before it was given up. Whoever goes on from what the
    /// scheduler knows finds these tokens here, and none is written twice.
    ///
    /// # Errors
    /// If an answer cannot go on; the job cannot, then.
    pub(super) fn speak(
        &self,
        turn: u64,
        choice: u32,
        held: usize,
        (guesses, rows): (&[TokenId], &[&[f32]]),
    ) -> Result<Vec<Wrote>, Error> {
        let mut progress = lock(&self.progress);
        let progress = &mut *progress;
        if progress.turn != turn {
            return Ok(Vec::new());
        }
        if progress.writing.is_empty() {
            self.begin_answers(progress)?;
        }
        let at = held - self.tokens.len();
        let answers = match at {
            0 => 0..self.answers.unwrap_or(0),
            _ => choice..choice + 1,
        };
        let spoken = answers.map(|choice| {
            let (n_tok, has_ended) = self.speak_on(progress, choice, at, (guesses, rows))?;
            Ok(Wrote {
                seq: SeqId {
                    job: self.id,
                    choice,
                },
                n_tok,
                has_ended,
            })
        });
        spoken.collect()
    }

    /// One token of an answer after the other, as far as they were guessed. Returns how many, and whether it has ended.
    fn speak_on(
        &self,
        progress: &mut Progress,
        choice: u32,
        at: usize,
        (guesses, rows): (&[TokenId], &[&[f32]]),
    ) -> Result<(u32, bool), Error> {
        let mut n_tok = 0;
        let has_ended = loop {
            let has_ended = self.speak_one(progress, choice, at + n_tok, rows[n_tok])?;
            let answer = progress.writing.get(choice as usize);
            let chosen = answer.and_then(|answer| answer.written.get(at + n_tok));
            let is_right = chosen.is_some() && chosen == guesses.get(n_tok);
            n_tok += 1;
            if has_ended || !is_right {
                break has_ended;
            }
        };
        let right = n_tok - 1;
        progress.usage.drafted_tokens += guesses.len();
        progress.usage.accepted_tokens += right;
        let answer = progress.writing.get_mut(choice as usize);
        if let Some(own) = answer.and_then(|answer| answer.guesses.as_mut()) {
            own.learn(guesses.len(), right);
        }
        Ok((u32::try_from(n_tok).unwrap_or(u32::MAX), has_ended))
    }

    /// A prompt is read: from here on each of its answers is a sequence of its own.
    fn begin_answers(&self, progress: &mut Progress) -> Result<(), Error> {
        let Some(Client::Stream { style, .. }) = &progress.client else {
            return Ok(());
        };
        let now = Instant::now();
        let tokenizer = &self.handle.tokenizer;
        for choice in 0..self.answers.unwrap_or(0) {
            progress.writing.push(Writing {
                voice: Voice::new(choice as usize, tokenizer, &self.tokens, style)?,
                written: Vec::new(),
                ended: false,
                last_token: now,
                guesses: Guesses::new(style.guessing),
            });
        }
        progress.first_token = Some(now);
        progress.usage.prefill = now - progress.begun.unwrap_or(now);
        metrics::first_token(&self.handle.info.name, now - self.arrived);
        let started = Started {
            prompt_tokens: progress.usage.prompt_tokens,
            cached_tokens: progress.usage.cached_tokens,
        };
        progress.tell(Event::Started(started));
        Ok(())
    }

    fn speak_one(
        &self,
        progress: &mut Progress,
        choice: u32,
        at: usize,
        logits: &[f32],
    ) -> Result<bool, Error> {
        let Some(answer) = progress.writing.get_mut(choice as usize) else {
            // Its client left before the answers parted.
            return Ok(true);
        };
        if at < answer.written.len() || answer.ended {
            return Ok(answer.ended && at + 1 >= answer.written.len());
        }
        // The token that comes has a place, and so has to have the one after it.
        let room = self.tokens.len() + answer.written.len() + 1 < self.n_ctx;
        let spoken = answer.voice.speak(logits, room)?;
        if let Some(token) = spoken.token {
            let now = Instant::now();
            if !answer.written.is_empty() {
                metrics::inter_token(&self.handle.info.name, now - answer.last_token);
            }
            answer.last_token = now;
            answer.written.push(token);
            progress.usage.completion_tokens += 1;
        }
        if !spoken.delta.parts.is_empty() || !spoken.delta.tokens.is_empty() {
            progress.tell(Event::Delta(spoken.delta));
        }
        if let Some(finish) = spoken.finish {
            progress.end(choice, finish);
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether an answer will hardly go on with another token than the likeliest, and with more than that.
    pub(super) fn goes_on_as_expected(&self, choice: u32) -> bool {
        let progress = lock(&self.progress);
        let answer = progress.writing.get(choice as usize);
        answer.is_some_and(|answer| !answer.ended && answer.voice.goes_on_as_expected())
    }

    /// An answer ends for want of memory, as if its context were full.
    pub(super) fn cut_off(&self, choice: u32) {
        lock(&self.progress).end(choice, FinishReason::Length);
    }

    /// The text is read to its end.
    pub(super) fn embedded(&self, vector: Vec<f32>) {
        lock(&self.progress).vector = Some(vector);
    }

    /// It was done elsewhere: tells the client.
    fn finish_away(&self, progress: &mut Progress, mut usage: Usage, mut report: Report) {
        let left = progress.away.take().map(|(left, _)| left);
        usage.queue = left.map_or(usage.queue, |left| left - self.arrived);
        if let Some(carried) = usage.report.take() {
            report.class = carried.class;
            report.sent = carried.sent;
        }
        usage.report = Some(Box::new(report));
        if let Some(Client::Stream { events, .. }) = progress.client.take() {
            drop(events.send(Ok(Event::Done(usage))));
        }
    }

    /// It is done: tells the client.
    pub(super) fn finish(&self, report: Report) {
        let mut progress = lock(&self.progress);
        if let Some(usage) = progress.carried.take() {
            return self.finish_away(&mut progress, usage, report);
        }
        let first = progress.first_token;
        let mut usage = std::mem::take(&mut progress.usage);
        usage.decode = first.map_or(Duration::ZERO, |first| first.elapsed());
        if first.is_none() {
            usage.prefill = progress
                .begun
                .map_or(Duration::ZERO, |begun| begun.elapsed());
        }
        metrics::tokens(
            &self.handle.info.name,
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
        );
        metrics::drafts(
            &self.handle.info.name,
            usage.drafted_tokens,
            usage.accepted_tokens,
        );
        usage.report = Some(Box::new(report));
        match progress.client.take() {
            // Whoever has left does not listen, and need not be told.
            Some(Client::Stream { events, .. }) => drop(events.send(Ok(Event::Done(usage)))),
            Some(Client::Vector(waits)) => {
                let vector = progress.vector.take().ok_or_else(ApiError::internal);
                drop(waits.send(vector.map(|vector| Embedding { vector, usage })));
            }
            Some(Client::Load(waits)) => drop(waits.send(Ok(()))),
            None => {}
        }
    }

    /// Nothing comes of it: tells the client, if it was not told before.
    pub(super) fn fail(&self, error: ApiError) {
        let mut progress = lock(&self.progress);
        progress.away = None;
        match progress.client.take() {
            Some(Client::Stream { events, .. }) => drop(events.send(Err(error))),
            Some(Client::Vector(waits)) => drop(waits.send(Err(error))),
            Some(Client::Load(waits)) => drop(waits.send(Err(error))),
            None => {}
        }
        progress.settle();
    }

    /// The scheduler does not have it done: whoever queues it is told, or the client if that is over.
    pub(super) fn refuse(&self, error: ApiError) {
        let mut progress = lock(&self.progress);
        if progress.is_queued {
            drop(progress);
            return self.fail(error);
        }
        progress.refusal = Some(error);
    }

    /// It is queued now, unless it was refused.
    pub(super) fn take_refusal(&self) -> Option<ApiError> {
        let mut progress = lock(&self.progress);
        progress.is_queued = true;
        progress.refusal.take()
    }

    /// Whether it has begun on some device.
    pub(super) fn has_begun(&self) -> bool {
        lock(&self.progress).begun.is_some()
    }

    /// Nobody waits for it any more.
    pub(super) fn abandon(&self) {
        let mut progress = lock(&self.progress);
        progress.client = None;
        progress.away = None;
        progress.settle();
    }
}

impl Progress {
    fn tell(&self, event: Event) {
        if let Some(Client::Stream { events, .. }) = &self.client {
            // A client that has left cancels the job elsewhere.
            let _ = events.send(Ok(event));
        }
    }

    /// An answer is complete.
    fn end(&mut self, choice: u32, finish: FinishReason) {
        let Some(answer) = self.writing.get_mut(choice as usize) else {
            return;
        };
        answer.ended = true;
        self.usage.reasoning_tokens += answer.voice.reasoning_tokens;
        let choice = choice as usize;
        self.tell(Event::Finished { choice, finish });
    }

    fn settle(&mut self) {
        if let Some(settled) = self.settled.take() {
            let _ = settled.send(());
        }
    }
}
