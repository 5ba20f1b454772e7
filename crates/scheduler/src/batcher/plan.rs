//! How a step is put together.

use super::running::Sequence;
use super::{Batcher, Load, is_aged};
use crate::job::SeqId;
use crate::{Class, Settings, Time};

/// Tokens of prompts that a step reads beside answers, at least.
const PREFILL_TOKENS_MIN: u32 = 8;

/// Such a step is at least so many times as long as one of a single token.
const QUANTUM_STEPS: f64 = 2.0;

/// What one sequence does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The sequence.
    pub seq: SeqId,
    /// How many of its known tokens are computed.
    pub n_tok: u32,
    /// Whether all its known tokens are held then, so that the next one follows.
    pub complete: bool,
}

/// What the next step computes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sequences and their tokens; the step's members first, and of them those that decode.
    pub slices: Vec<Slice>,
    /// What it has to do.
    pub load: Load,
    /// The most urgent class in it.
    pub class: Class,
    /// Sequences that have a part in a step for the first time since they were admitted.
    pub begun: Vec<SeqId>,
    /// Pages of the cache that this takes beyond those in use, at most.
    pub n_page: u32,
    /// Sequences that had to give up their pages, and do not run any more.
    pub preempted: Vec<SeqId>,
    /// Whether all in it are of one class and write: then it may last a little longer, for tokens that are drafted. Beside a
    /// prompt, or guests, it lasts as long as it may already.
    pub may_draft: bool,
}

/// A step that is being put together. Sequences go by their places among all that run.
struct Draft<'b> {
    batcher: &'b Batcher,
    /// Sequences, each with its tokens.
    parts: Vec<(usize, u32)>,
    /// Tokens of all of them.
    n_tok: u32,
    /// Pages that are left.
    pages: u32,
    /// Pages that it takes.
    n_page: u32,
}

/// A step that was put together.
#[derive(Default)]
struct Outcome {
    /// Sequences by their places among all that run, each with its tokens.
    parts: Vec<(usize, u32)>,
    /// Pages that it takes.
    n_page: u32,
    /// The class of its members, if one of them has no part in it for want of pages.
    blocks: Option<Class>,
}

impl Draft<'_> {
    fn is_full(&self) -> bool {
        self.parts.len() >= self.batcher.limits.sequences
    }

    /// Adds the next token of a sequence, whether there are pages for it or not: if not, somebody gives way.
    fn insist(&mut self, at: usize) {
        if !self.is_full() {
            self.push(at, 1);
        }
    }

    /// Adds up to `n_tok` tokens of a sequence, as far as there are pages for them.
    fn add(&mut self, at: usize, n_tok: u32) -> u32 {
        let sequence = self.batcher.at(at);
        let room = self.batcher.room_in_pages(sequence, self.pages);
        let n_tok = n_tok.min(sequence.pending()).min(room);
        if n_tok > 0 && !self.is_full() {
            self.push(at, n_tok);
            return n_tok;
        }
        0
    }

    fn push(&mut self, at: usize, n_tok: u32) {
        let pages = self.batcher.pages_of_slice(self.batcher.at(at), n_tok);
        self.n_page += pages;
        self.pages = self.pages.saturating_sub(pages);
        self.n_tok += n_tok;
        self.parts.push((at, n_tok));
    }
}

impl Batcher {
    /// What the next step computes, with `free` pages that no sequence uses. `None` if nothing runs.
    pub fn plan(&mut self, mut free: u32, settings: &Settings, now: Time) -> Option<Plan> {
        let mut preempted = Vec::new();
        loop {
            let Outcome {
                parts,
                n_page,
                blocks,
            } = self.outcome(free, settings, now);
            if let Some(below) = blocks
                && let Some(gone) = self.give_way(Some(below))
            {
                free += self.pages(gone.held);
                preempted.push(gone.id);
                continue;
            }
            if n_page <= free || self.n_running() <= 1 {
                return (!parts.is_empty()).then(|| Plan {
                    n_page,
                    preempted,
                    ..self.settle(&parts)
                });
            }
            // Pages that it shares stay; the step fails then for want of them, and the caller has the next one preempted.
            let gone = self.give_way(None)?;
            free += self.pages(gone.held);
            preempted.push(gone.id);
        }
    }

    /// Takes note of what the next step computes.
    fn settle(&mut self, parts: &[(usize, u32)]) -> Plan {
        self.running.forget_plan();
        let classes = parts.iter().map(|&(at, _)| self.at(at).class);
        let mut plan = Plan {
            slices: Vec::with_capacity(parts.len()),
            class: classes.max().unwrap_or_default(),
            ..Plan::default()
        };
        let writes = |sequence: &Sequence| sequence.class == plan.class && !sequence.reads();
        plan.may_draft = parts.iter().all(|&(at, _)| writes(self.at(at)));
        for &(at, n_tok) in parts {
            let sequence = *self.at(at);
            plan.slices.push(Slice {
                seq: sequence.id,
                n_tok,
                complete: n_tok == sequence.pending(),
            });
            plan.load.tokens += u64::from(n_tok);
            plan.load.past += u64::from(sequence.held);
            if self.running.plan(at, n_tok) {
                plan.begun.push(sequence.id);
            }
        }
        plan
    }

    fn outcome(&self, free: u32, settings: &Settings, now: Time) -> Outcome {
        let Some(top) = self.top() else {
            return Outcome::default();
        };
        let mut draft = Draft {
            batcher: self,
            parts: Vec::with_capacity(self.n_running().min(self.limits.sequences)),
            n_tok: 0,
            pages: free,
            n_page: 0,
        };
        let members = self.running.of(top);
        let mut reading = Vec::with_capacity(members.reading);
        let mut decoding = Vec::with_capacity(members.sequences - members.reading);
        let mut guests = Vec::with_capacity(self.n_running() - members.sequences);
        for (at, sequence) in self.running.all().iter().enumerate() {
            match (sequence.class == top, sequence.reads()) {
                (true, true) => reading.push(at),
                (true, false) => decoding.push(at),
                (false, _) => guests.push(at),
            }
        }
        reading.sort_by_key(|&at| self.at(at).age);
        if decoding.len() > self.limits.sequences {
            decoding.sort_by_key(|&at| self.at(at).served);
        }
        for &sequence in &decoding {
            draft.insist(sequence);
        }
        let unread = match top {
            Class::Interactive => reading.len(),
            _ => reading.len() + self.running.below(top).reading,
        };
        let budget = self.prefill_budget(draft.parts.len(), unread, top, settings);
        let mut blocks = None;
        for (sequence, share) in self.shares(&reading, budget) {
            if draft.add(sequence, share) == 0 && share > 0 && !draft.is_full() {
                blocks = Some(top);
            }
        }
        self.invite(&mut draft, guests, !reading.is_empty(), settings, now);
        if draft.parts.is_empty()
            && let Some(&first) = decoding.first().or(reading.first())
        {
            // No page is free for anyone: the plan asks for one all the same, and somebody gives way.
            draft.insist(first);
        }
        Outcome {
            parts: draft.parts,
            n_page: draft.n_page,
            blocks,
        }
    }

    /// Guests come along: those that waited too long in any case, the others if no member reads and as far as the members
    /// hardly notice.
    fn invite(
        &self,
        draft: &mut Draft<'_>,
        mut guests: Vec<usize>,
        member_reads: bool,
        settings: &Settings,
        now: Time,
    ) {
        let is_aged = |at: &mut usize| is_aged(self.at(*at), settings, now);
        let mut aged: Vec<usize> = guests.extract_if(.., is_aged).collect();
        aged.sort_by_key(|&at| (std::cmp::Reverse(self.at(at).class), self.at(at).served));
        let mut room = self.quantum(settings);
        for guest in aged {
            room = room.saturating_sub(draft.add(guest, room.max(1)));
        }
        if member_reads {
            return;
        }
        let members = draft.n_tok;
        let mut room = self
            .stretched(members, self.limits.guest_stretch)
            .saturating_sub(members);
        let (mut reading, decoding): (Vec<usize>, Vec<usize>) =
            guests.into_iter().partition(|&at| self.at(at).reads());
        for class in Class::ALL {
            if room == 0 {
                break;
            }
            let of_class = decoding.iter().copied();
            let mut of_class: Vec<usize> =
                of_class.filter(|&at| self.at(at).class == class).collect();
            of_class.sort_by_key(|&at| self.at(at).served);
            for guest in of_class {
                if room > 0 {
                    room -= draft.add(guest, 1);
                }
            }
        }
        // A chunk of few tokens reads all weights for little.
        if room >= PREFILL_TOKENS_MIN {
            reading.sort_by_key(|&at| self.at(at).age);
            for (guest, share) in self.shares(&reading, room.min(self.limits.prefill_tokens)) {
                draft.add(guest, share);
            }
        }
    }

    /// Shares `budget` tokens out to sequences that are reading, in order of age. Those with the least to go come first, so
    /// that a short question does not wait for a long document; but half is the oldest one's, so that a document is not
    /// overtaken for ever.
    fn shares(&self, reading: &[usize], mut budget: u32) -> Vec<(usize, u32)> {
        let Some(&oldest) = reading.first() else {
            return Vec::new();
        };
        let half = self.at(oldest).pending().min(budget.div_ceil(2));
        budget -= half;
        let mut by_length = reading.to_vec();
        by_length.sort_by_key(|&at| self.at(at).pending());
        let shares = by_length.into_iter().map(|at| {
            let have = if at == oldest { half } else { 0 };
            let more = (self.at(at).pending() - have).min(budget);
            budget -= more;
            (at, have + more)
        });
        shares.collect()
    }

    /// A sequence by its place among all that run.
    fn at(&self, at: usize) -> &Sequence {
        &self.running.all()[at]
    }

    /// Tokens of prompts in a step in which `decoding` sequences of class `top` write, and `unread` prompts wait.
    fn prefill_budget(
        &self,
        decoding: usize,
        unread: usize,
        top: Class,
        settings: &Settings,
    ) -> u32 {
        let mut max = self.limits.prefill_tokens;
        if top < Class::Interactive {
            max = max.min(self.quantum(settings));
        }
        if decoding == 0 {
            return max.max(PREFILL_TOKENS_MIN);
        }
        let others = unread.saturating_sub(1).min(self.limits.running);
        let answers = (decoding + 2 * others) as u32;
        self.stretched(answers, self.limits.stretch)
            .saturating_sub(decoding as u32)
            .clamp(PREFILL_TOKENS_MIN, max.max(PREFILL_TOKENS_MIN))
    }

    /// Tokens that fit into a step that lasts `stretch` times as long as one of `n_tok` tokens.
    fn stretched(&self, n_tok: u32, stretch: f64) -> u32 {
        if let Some(learned) = self.pace.stretched(n_tok as usize, stretch) {
            return u32::try_from(learned).unwrap_or(u32::MAX);
        }
        let tokens = u64::from(n_tok);
        self.within_gait(stretch * self.gait.step_s(Load { tokens, past: 0 }))
    }

    /// Tokens of a step for which somebody more urgent may have to wait. Where a single token takes long, a step of few is
    /// hardly shorter and wastes the reading of the weights.
    fn quantum(&self, settings: &Settings) -> u32 {
        let one = Load { tokens: 1, past: 0 };
        let one_s = self
            .pace
            .seconds(1)
            .unwrap_or_else(|| self.gait.step_s(one));
        self.within(settings.quantum.as_secs_f64().max(one_s * QUANTUM_STEPS))
    }

    /// Tokens that fit into a step of so many seconds.
    fn within(&self, seconds: f64) -> u32 {
        match self.pace.within(seconds) {
            Some(learned) => u32::try_from(learned).unwrap_or(u32::MAX),
            None => self.within_gait(seconds),
        }
    }

    fn within_gait(&self, seconds: f64) -> u32 {
        // The conversion saturates: where arithmetic costs nothing, everything fits.
        ((seconds - self.gait.launch_s) / self.gait.token_s.max(1e-12)) as u32
    }

    /// Pages that a slice takes.
    fn pages_of_slice(&self, sequence: &Sequence, n_tok: u32) -> u32 {
        let fresh = self.pages(sequence.held + n_tok) - self.pages(sequence.held);
        fresh + u32::from(sequence.shares_page)
    }

    /// Tokens that fit into the sequence's last page and `pages` further ones.
    fn room_in_pages(&self, sequence: &Sequence, pages: u32) -> u32 {
        let Some(pages) = pages.checked_sub(u32::from(sequence.shares_page)) else {
            return 0;
        };
        let all = (self.pages(sequence.held).saturating_add(pages))
            .saturating_mul(self.limits.page_tokens);
        all - sequence.held
    }
}
