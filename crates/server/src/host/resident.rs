//! A model on a device: its steps, its cache, and the prefixes that are kept in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use troika_base::{Bytes, TokenId};
use troika_device::{Interrupt, Output, Outputs, PAGE_TOKENS, Paced};
use troika_engine::{Error, KvImage, Model, Pooler, PrefixCache, Sequence, Step};
use troika_scheduler::{JobId, SeqId, Slice};

use super::drafter::Drafter;
use super::models::Handle;
use super::request::Request;
use super::spills::Spills;

/// A step may be late by chance.
const LATE_MIN: u64 = 10;

/// A model on a device.
pub(super) struct Resident {
    pub(super) handle: Arc<Handle>,
    pub(super) model: Model,
    prefixes: PrefixCache,
    /// A smaller model that guesses for it.
    pub(super) drafter: Option<Drafter>,
    /// What sets its pace, on a device that is not there.
    paced: Option<Arc<Paced>>,
    /// Late steps that the log is told of next.
    told_late: u64,
    /// The sequences of the last step, if it was one more token for each of them.
    written: Vec<SeqId>,
    /// The jobs that have begun here, and not ended or left.
    pub(super) seats: BTreeMap<JobId, Seat>,
}

/// A job on a device.
pub(super) struct Seat {
    pub(super) request: Arc<Request>,
    /// What is in the cache of its sequences. One that is not listed has let go of it.
    pub(super) held: BTreeMap<u32, Sequence>,
    /// What is of them in the cache of the smaller model that guesses.
    pub(super) drafted: BTreeMap<u32, Sequence>,
    /// By which it is this device's.
    pub(super) turn: u64,
    pooler: Option<Pooler>,
}

/// A job that leaves a device: itself, by which turn it was there, and the caches of its sequences.
type Leaving = (Arc<Request>, u64, BTreeMap<u32, KvImage>);

/// What a step has computed.
pub(super) struct Computed {
    pub(super) outputs: Outputs,
    /// What was guessed to follow each slice, and computed with it.
    pub(super) guesses: Vec<Vec<TokenId>>,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// Pages are short; nothing has changed.
    #[error("pages are short")]
    OutOfPages,
    /// The device is at fault, or we are.
    #[error("{0}")]
    Failed(String),
}

impl Resident {
    pub(super) fn new(
        handle: Arc<Handle>,
        model: Model,
        drafter: Option<Drafter>,
        paced: Option<Arc<Paced>>,
    ) -> Self {
        Self {
            handle,
            model,
            prefixes: PrefixCache::default(),
            drafter,
            paced,
            told_late: LATE_MIN,
            written: Vec::new(),
            seats: BTreeMap::new(),
        }
    }

    /// What it has cached is kept while it is away.
    pub(super) fn spill(&mut self, spills: &Arc<Spills>) {
        match self.prefixes.spill(&mut self.model, spills.budget()) {
            Ok(spilled) => spills.keep(self.model.fingerprint(), spilled),
            Err(error) => {
                let model = &self.handle.info.name;
                tracing::warn!(model, %error, "what the model has cached is lost");
            }
        }
    }

    /// What it had cached when it was here last is there again.
    pub(super) fn unspill(&mut self, spills: &Spills) {
        let Some(spilled) = spills.take(&self.model) else {
            return;
        };
        let model = &self.handle.info.name;
        match self.prefixes.restore(&mut self.model, &spilled) {
            Ok(pages) => tracing::info!(model, pages, "cached prefixes are back"),
            Err(error) => tracing::warn!(model, %error, "what the model had cached is lost"),
        }
    }

    /// Says so where this computer is too slow to be the device that it poses as.
    pub(super) fn tell_lag(&mut self, device: &str) {
        let Some(lag) = self.paced.as_ref().map(|paced| paced.lag()) else {
            return;
        };
        if lag.late < self.told_late {
            return;
        }
        self.told_late = lag.late.saturating_mul(10);
        tracing::warn!(
            device,
            model = self.handle.info.name,
            steps = lag.steps,
            late = lag.late,
            behind_s = lag.behind.as_secs_f64(),
            "this computer is slower than the device that it poses as: its answers come later than they would there"
        );
    }

    /// Memory that it takes, with the smaller model that guesses for it.
    pub(super) fn bytes(&self) -> Bytes {
        let own = self.model.weights_bytes() + self.model.kv_bytes();
        own + self.drafter.as_ref().map_or(Bytes(0), Drafter::bytes)
    }

    /// What breaks off its step from another thread.
    pub(super) fn interrupts(&self) -> Vec<Interrupt> {
        let drafter = self.drafter.as_ref().and_then(Drafter::interrupt);
        self.model.interrupt().into_iter().chain(drafter).collect()
    }

    /// Pages that nobody needs.
    pub(super) fn free_pages(&self) -> u32 {
        let pages = self.model.n_page_free() + self.prefixes.evictable();
        u32::try_from(pages).unwrap_or(u32::MAX)
    }

    /// Pages in all.
    pub(super) fn pages(&self) -> u32 {
        u32::try_from(self.model.n_ctx() / PAGE_TOKENS).unwrap_or(u32::MAX)
    }

    /// Gives the sequences of a job what the cache has of their tokens. Returns how many tokens that is, the same for all of
    /// them.
    pub(super) fn start(&mut self, request: &Arc<Request>, turn: u64) -> usize {
        let mut seat = Seat {
            request: Arc::clone(request),
            held: BTreeMap::new(),
            drafted: BTreeMap::new(),
            turn,
            pooler: None,
        };
        if request.is_embedding() {
            // A vector is made of every token's state, and the cache has none of these: all of it is read here.
            seat.pooler = Some(Pooler::new(self.model.pooling()));
        } else {
            for choice in request.choices() {
                let known = request.known(choice);
                let found = self.prefixes.lookup(&request.namespace, &known);
                seat.held.insert(choice, found);
            }
        }
        let held = seat.held.values().map(|sequence| sequence.tokens().len());
        let held = held.min().unwrap_or(0);
        for sequence in seat.held.values_mut() {
            sequence.truncate(held);
        }
        request.found(held);
        self.seats.insert(request.id, seat);
        held
    }

    /// A sequence lets go of its cache; it is read again from its tokens later.
    pub(super) fn release(&mut self, seq: SeqId) {
        let pooling = self.model.pooling();
        if let Some(seat) = self.seats.get_mut(&seq.job) {
            seat.held.remove(&seq.choice);
            seat.drafted.remove(&seq.choice);
            if let Some(pooler) = &mut seat.pooler {
                *pooler = Pooler::new(pooling);
            }
        }
    }

    /// A job's caches, to go on with on another device; they stay here too.
    ///
    /// # Errors
    /// If the job is not here, or the device fails.
    pub(super) fn export(&mut self, job: JobId) -> Result<Leaving, String> {
        let seat = self.seats.get(&job).ok_or("the job is not here any more")?;
        let mut caches = BTreeMap::new();
        for (&choice, sequence) in &seat.held {
            let image = self.model.export(sequence);
            caches.insert(choice, image.map_err(|error| error.to_string())?);
        }
        Ok((Arc::clone(&seat.request), seat.turn, caches))
    }

    /// Goes on with a job whose caches were another device's.
    ///
    /// # Errors
    /// If pages are short, the device fails, or the job was given to somebody else meanwhile.
    pub(super) fn import(
        &mut self,
        request: &Arc<Request>,
        turn: u64,
        caches: &BTreeMap<u32, KvImage>,
    ) -> Result<(), String> {
        let mut held = BTreeMap::new();
        for (&choice, image) in caches {
            // What the answers of a job have in common is copied once.
            let mut sequence = self.prefixes.lookup(&request.namespace, image.tokens());
            let missing = image.tokens().len() - sequence.tokens().len();
            let wanted = self.model.pages_wanted([(&sequence, missing)]);
            self.prefixes
                .evict(wanted.saturating_sub(self.model.n_page_free()));
            let copied = self.model.extend(&mut sequence, image);
            copied.map_err(|error| error.to_string())?;
            self.prefixes.insert(&request.namespace, &sequence);
            held.insert(choice, sequence);
        }
        let turn = request
            .hand_over(turn)
            .ok_or("the job is elsewhere by now")?;
        let seat = Seat {
            request: Arc::clone(request),
            held,
            drafted: BTreeMap::new(),
            turn,
            pooler: None,
        };
        self.seats.insert(request.id, seat);
        Ok(())
    }

    /// What of these slices is read in this step: all, but for an encoder, which reads a text whole. There nothing is done for
    /// a slice until it is the text's last, and it is all of the text then.
    pub(super) fn read_now(&self, slices: &[Slice]) -> Vec<Slice> {
        if self.model.spec().is_causal {
            return slices.to_vec();
        }
        let whole = |slice: &Slice| {
            let seat = self.seats.get(&slice.seq.job)?;
            let n_tok = u32::try_from(seat.request.n_prompt()).ok()?;
            Some(Slice { n_tok, ..*slice })
        };
        let ends = slices.iter().filter(|slice| slice.complete);
        ends.filter_map(whole).collect()
    }

    /// The forward pass over these slices, and where it `may_draft`, over guesses at the tokens after them.
    ///
    /// # Errors
    /// If pages are short, the device fails, or a slice makes no sense; no sequence has changed then.
    pub(super) fn compute(
        &mut self,
        slices: &[Slice],
        may_draft: bool,
    ) -> Result<Computed, StepError> {
        if slices.is_empty() {
            return Ok(Computed {
                outputs: Outputs::default(),
                guesses: Vec::new(),
            });
        }
        let mut drawn = Vec::with_capacity(slices.len());
        for slice in slices {
            drawn.push(self.draw(slice)?);
        }
        let mut goes_on = self.goes_on_as_expected(slices);
        let mut guesses = vec![Vec::new(); slices.len()];
        // A device that has begun with the next step already has no use for guesses.
        let is_foreseen = goes_on && self.model.runs_ahead();
        if self.model.drafts() && !is_foreseen {
            let failed = |error: Error| StepError::Failed(error.to_string());
            match may_draft {
                true => guesses = self.guess(slices).map_err(failed)?,
                false => self.read_along(slices).map_err(failed)?,
            }
        }
        for ((tokens, output), guesses) in drawn.iter_mut().zip(&guesses) {
            if !guesses.is_empty() {
                tokens.extend(guesses);
                *output = Output::AllLogits;
                goes_on = false;
            }
        }
        let mut held: Vec<_> = slices.iter().map(|slice| self.take(slice)).collect();
        let growth = held.iter().zip(&drawn);
        let growth = growth.map(|(held, (tokens, _))| (held, tokens.len()));
        let wanted = self.model.pages_wanted(growth);
        self.prefixes
            .evict(wanted.saturating_sub(self.model.n_page_free()));
        let steps = held
            .iter_mut()
            .zip(&drawn)
            .map(|(sequence, (tokens, output))| Step {
                sequence,
                tokens,
                output: *output,
            });
        let mut steps: Vec<_> = steps.collect();
        let result = match goes_on {
            true => self.model.step_ahead(&mut steps),
            false => self.model.step(&mut steps),
        };
        for (slice, sequence) in slices.iter().zip(held) {
            self.put(slice, sequence);
        }
        match result {
            Ok(outputs) => Ok(Computed { outputs, guesses }),
            Err(Error::CacheFull { .. }) => Err(StepError::OutOfPages),
            Err(error) => Err(StepError::Failed(error.to_string())),
        }
    }

    /// Whether the step after this one will probably be one more token for the same sequences, the likeliest for each: if it
    /// was the same ones in the step before.
    fn goes_on_as_expected(&mut self, slices: &[Slice]) -> bool {
        let writes = |slice: &Slice| slice.complete && slice.n_tok == 1;
        let writing = match slices.iter().all(writes) {
            true => slices.iter().map(|slice| slice.seq).collect(),
            false => Vec::new(),
        };
        let again = !writing.is_empty() && writing == self.written;
        self.written = writing;
        let seat = |seq: &SeqId| self.seats.get(&seq.job);
        let expected = |seq: &SeqId| {
            seat(seq).is_some_and(|seat| seat.request.goes_on_as_expected(seq.choice))
        };
        again && self.written.iter().all(expected)
    }

    /// The tokens of a slice, and what is asked of them.
    fn draw(&self, slice: &Slice) -> Result<(Vec<TokenId>, Output), StepError> {
        let amiss = || {
            let Slice { seq, n_tok, .. } = slice;
            let why = format!("a step of {n_tok} tokens of {seq:?}, which are not known here");
            StepError::Failed(why)
        };
        let seat = self.seats.get(&slice.seq.job).ok_or_else(amiss)?;
        let held = seat.held.get(&slice.seq.choice);
        let (first, n_tok) = (
            held.map_or(0, |held| held.tokens().len()),
            slice.n_tok as usize,
        );
        let tokens = seat.request.pending(slice.seq.choice, first, n_tok);
        Ok((
            tokens
                .filter(|tokens| !tokens.is_empty())
                .ok_or_else(amiss)?,
            seat.output(slice),
        ))
    }

    fn take(&mut self, slice: &Slice) -> Sequence {
        let seat = self.seats.get_mut(&slice.seq.job);
        let held = seat.and_then(|seat| seat.held.get_mut(&slice.seq.choice));
        held.map(std::mem::take).unwrap_or_default()
    }

    fn put(&mut self, slice: &Slice, sequence: Sequence) {
        if let Some(seat) = self.seats.get_mut(&slice.seq.job) {
            seat.held.insert(slice.seq.choice, sequence);
        }
    }

    /// Keeps the pages that the last `n_tok` tokens of a sequence have filled for prompts that begin alike.
    pub(super) fn remember(&mut self, seq: SeqId, n_tok: u32) {
        let Some(seat) = self.seats.get(&seq.job) else {
            return;
        };
        let Some(sequence) = seat.held.get(&seq.choice) else {
            return;
        };
        let held = sequence.tokens().len();
        if held / PAGE_TOKENS > (held - n_tok as usize) / PAGE_TOKENS {
            self.prefixes.insert(&seat.request.namespace, sequence);
        }
    }
}

impl Seat {
    /// What is asked of a step that computes a slice of it.
    pub(super) fn output(&self, slice: &Slice) -> Output {
        match &self.pooler {
            Some(pooler) => pooler.output(slice.complete),
            None if slice.complete => Output::LastLogits,
            None => Output::Nothing,
        }
    }

    /// Takes the rows that a step has returned for its text.
    pub(super) fn pool<'r>(&mut self, rows: impl IntoIterator<Item = &'r [f32]>) {
        if let Some(pooler) = &mut self.pooler {
            pooler.add(rows);
        }
    }

    /// The vector of a text that is read.
    ///
    /// # Errors
    /// If it has no direction.
    pub(super) fn vector(&mut self) -> Result<Vec<f32>, Error> {
        self.pooler.take().ok_or(Error::EmptyPrompt)?.finish()
    }

    /// A sequence forgets all but its first `n_tok` tokens.
    pub(super) fn truncate(&mut self, choice: u32, n_tok: usize) {
        if let Some(held) = self.held.get_mut(&choice) {
            held.truncate(n_tok);
        }
    }

    /// Another answer to the prompt goes on from its cache.
    pub(super) fn fork(&mut self, choice: u32) {
        if let Some(first) = self.held.get(&0).cloned() {
            self.held.insert(choice, first);
        }
    }
}
