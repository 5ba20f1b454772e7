//! The batcher of a single model without classes, until its last user has moved to [`crate::Batcher`].
//!
//! What the next step of one model computes.
//!
//! Every sequence has tokens that are *known* (its prompt, and what it has written) and the first of them are *held* in
//! the KV cache. The next token follows once all known ones are held. A sequence with one token to go decodes; one with
//! more is still reading. Decoding comes first, in every step: an answer under way never waits for a prompt. What a
//! step then has room for goes to prompts, and is so little that answers flow on ([`Limits::stretch`]).

use std::collections::VecDeque;
use std::time::Duration;

use crate::pace::Pace;

/// Names a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(pub u64);

/// What a [`Batcher`] may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Sequences that wait, at most.
    pub queue: usize,
    /// Sequences that run together, at most.
    pub running: usize,
    /// Tokens of prompts that one step reads when no answer is under way.
    pub prefill_tokens: usize,
    /// How many times as long as without prompts a step may take while answers are under way. If several prompts wait, each
    /// but one counts as two answers more: where many wait, answers that flow a little slower are a fair price.
    pub stretch: f64,
    /// Tokens of a page of the KV cache.
    pub page_tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 256,
            running: 64,
            prefill_tokens: 512,
            // A margin to the three times at which people notice that the flow falters.
            stretch: 2.4,
            page_tokens: 32,
        }
    }
}

/// Tokens of prompts that a step reads beside answers while it is not known yet how long that takes, and never less.
const PREFILL_TOKENS_MIN: usize = 8;

/// The queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} answers are waiting already")]
pub struct QueueFull {
    /// Sequences that wait.
    pub waiting: usize,
}

/// What one sequence does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The sequence.
    pub id: SeqId,
    /// How many of its known tokens are computed.
    pub n_tok: usize,
    /// Whether all its known tokens are held then, so that the next one follows.
    pub complete: bool,
}

/// What the next step computes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sequences and their tokens; those that decode first.
    pub slices: Vec<Slice>,
    /// Pages of the cache that this takes beyond those in use, at most.
    pub n_page: usize,
    /// Sequences that had to give up their pages, and wait again. The youngest go first.
    pub preempted: Vec<SeqId>,
}

impl Plan {
    /// Tokens of all sequences.
    pub fn n_tok(&self) -> usize {
        self.slices.iter().map(|slice| slice.n_tok).sum()
    }
}

#[derive(Clone, Copy, Debug)]
struct Sequence {
    id: SeqId,
    known: usize,
    held: usize,
    /// Its last page is shared, and copied when it is written to.
    shares_page: bool,
}

impl Sequence {
    fn pending(&self) -> usize {
        self.known - self.held
    }
}

/// Decides what the steps of one model compute.
#[derive(Clone, Debug, Default)]
pub struct Batcher {
    limits: Limits,
    /// In the order of arrival.
    waiting: VecDeque<Sequence>,
    /// In the order in which they were admitted.
    running: Vec<Sequence>,
    pace: Pace,
}

impl Batcher {
    /// Without sequences.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Sequences that wait.
    pub fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences that run.
    pub fn n_running(&self) -> usize {
        self.running.len()
    }

    /// Queues a sequence of `known` tokens, at least one.
    ///
    /// # Errors
    /// [`QueueFull`]; nothing has changed then.
    pub fn submit(&mut self, id: SeqId, known: usize) -> Result<(), QueueFull> {
        assert!(known > 0, "a sequence has at least one token");
        let waiting = self.waiting.len();
        // What can run at once does not wait.
        let free = self.limits.running.saturating_sub(self.running.len());
        if waiting >= self.limits.queue.saturating_add(free) {
            return Err(QueueFull { waiting });
        }
        self.waiting.push_back(Sequence {
            id,
            known,
            held: 0,
            shares_page: false,
        });
        Ok(())
    }

    /// The sequence that may run next, if `free` pages hold what it knows. The caller finds out how many of its tokens
    /// are in the cache already and calls [`Batcher::admit`].
    pub fn next_admission(&self, free: usize) -> Option<SeqId> {
        if self.running.len() >= self.limits.running {
            return None;
        }
        let next = self.waiting.front()?;
        // Those that run may each need a page before the next one ends; alone, a sequence runs in any case.
        let reserve = self.running.len();
        let fits = self.pages(next.known + 1) + reserve + self.owed() <= free;
        (fits || self.running.is_empty()).then_some(next.id)
    }

    /// Lets the sequence that [`Batcher::next_admission`] named run, with its first `held` tokens in the cache.
    ///
    /// # Panics
    /// If it is not the next one, or nothing is left to compute.
    pub fn admit(&mut self, id: SeqId, held: usize) {
        let mut next = self.waiting.pop_front().expect("a sequence waits");
        assert!(next.id == id && held < next.known, "admitted out of turn");
        next.held = held;
        next.shares_page = !held.is_multiple_of(self.limits.page_tokens);
        self.running.push(next);
    }

    /// Adds a sequence that begins as a running one does and shares its pages: another answer to one prompt.
    pub fn fork(&mut self, from: SeqId, id: SeqId) {
        let page_tokens = self.limits.page_tokens;
        let from = self.running_mut(from);
        from.shares_page = !from.held.is_multiple_of(page_tokens);
        let fork = Sequence { id, ..*from };
        self.running.push(fork);
    }

    /// What the next step computes, with `free` pages that no sequence uses. `None` if nothing runs.
    pub fn plan(&mut self, mut free: usize) -> Option<Plan> {
        let mut preempted = Vec::new();
        loop {
            let slices = self.slices(free);
            let n_page = self.pages_of(&slices);
            if n_page <= free || self.running.len() <= 1 {
                return (!slices.is_empty()).then_some(Plan {
                    slices,
                    n_page,
                    preempted,
                });
            }
            // Pages that it shares stay; the step fails then for want of them, and the caller has the next one preempted.
            free += self.running.last().map_or(0, |last| self.pages(last.held));
            preempted.extend(self.preempt());
        }
    }

    /// The youngest sequence gives up its pages and waits again, unless it is the only one.
    pub fn preempt(&mut self) -> Option<SeqId> {
        if self.running.len() <= 1 {
            return None;
        }
        let mut youngest = self.running.pop()?;
        youngest.held = 0;
        youngest.shares_page = false;
        self.waiting.push_front(youngest);
        Some(youngest.id)
    }

    /// Takes note that a slice was computed.
    pub fn computed(&mut self, slice: Slice) {
        let sequence = self.running_mut(slice.id);
        sequence.held += slice.n_tok;
        sequence.shares_page = false;
    }

    /// Takes note that a sequence wrote a token.
    pub fn wrote(&mut self, id: SeqId) {
        self.running_mut(id).known += 1;
    }

    /// Forgets a sequence, wherever it is.
    pub fn remove(&mut self, id: SeqId) {
        self.waiting.retain(|sequence| sequence.id != id);
        self.running.retain(|sequence| sequence.id != id);
    }

    /// Learns how long a step of `n_tok` tokens took.
    pub fn observe(&mut self, n_tok: usize, elapsed: Duration) {
        self.pace.observe(n_tok, elapsed);
    }

    fn running_mut(&mut self, id: SeqId) -> &mut Sequence {
        let found = self.running.iter_mut().find(|sequence| sequence.id == id);
        found.expect("the sequence runs. This is a bug.")
    }

    fn slices(&self, free: usize) -> Vec<Slice> {
        let (decoding, reading): (Vec<&Sequence>, Vec<&Sequence>) = self
            .running
            .iter()
            .partition(|sequence| sequence.pending() == 1);
        let mut slices: Vec<_> = decoding.iter().map(|s| slice(s, 1)).collect();
        let mut pages = free.saturating_sub(self.pages_of(&slices));
        for (sequence, share) in shares(&reading, self.prefill_budget(decoding.len())) {
            let n_tok = share.min(self.room_in_pages(sequence, pages));
            if n_tok > 0 {
                pages -= self.pages_of_slice(sequence, n_tok);
                slices.push(slice(sequence, n_tok));
            }
        }
        if slices.is_empty() {
            // No page is free for anyone: the plan asks for one all the same, and somebody gives way.
            slices.extend(self.running.first().map(|first| slice(first, 1)));
        }
        slices
    }

    /// Tokens of prompts in a step in which `decoding` sequences write.
    fn prefill_budget(&self, decoding: usize) -> usize {
        let max = self.limits.prefill_tokens;
        if decoding == 0 {
            return max;
        }
        let unread = self.running.len() - decoding + self.waiting.len();
        let others = unread.saturating_sub(1).min(self.limits.running);
        let answers = decoding + 2 * others;
        let stretched = self.pace.stretched(answers, self.limits.stretch);
        stretched
            .map_or(PREFILL_TOKENS_MIN, |n_tok| n_tok.saturating_sub(decoding))
            .clamp(PREFILL_TOKENS_MIN, max)
    }

    fn pages(&self, n_tok: usize) -> usize {
        n_tok.div_ceil(self.limits.page_tokens)
    }

    /// Pages that a slice takes.
    fn pages_of_slice(&self, sequence: &Sequence, n_tok: usize) -> usize {
        let fresh = self.pages(sequence.held + n_tok) - self.pages(sequence.held);
        fresh + usize::from(sequence.shares_page)
    }

    fn pages_of(&self, slices: &[Slice]) -> usize {
        let page = |slice: &Slice| {
            let sequence = self.running.iter().find(|s| s.id == slice.id);
            sequence.map_or(0, |sequence| self.pages_of_slice(sequence, slice.n_tok))
        };
        slices.iter().map(page).sum()
    }

    /// Tokens that fit into the sequence's last page and `pages` further ones.
    fn room_in_pages(&self, sequence: &Sequence, pages: usize) -> usize {
        let Some(pages) = pages.checked_sub(usize::from(sequence.shares_page)) else {
            return 0;
        };
        (self.pages(sequence.held) + pages) * self.limits.page_tokens - sequence.held
    }

    /// Pages that those who are reading will still need for what they know.
    fn owed(&self) -> usize {
        let owed = |s: &Sequence| self.pages(s.known + 1) - self.pages(s.held);
        self.running.iter().map(owed).sum()
    }
}

fn slice(sequence: &Sequence, n_tok: usize) -> Slice {
    Slice {
        id: sequence.id,
        n_tok,
        complete: n_tok == sequence.pending(),
    }
}

/// Shares `budget` tokens out to sequences that are reading, in order of age. Those with the least to go come first, so
/// that a short question does not wait for a long document; but half is the oldest one's, so that a document is not
/// overtaken for ever.
fn shares<'s>(reading: &[&'s Sequence], mut budget: usize) -> Vec<(&'s Sequence, usize)> {
    let Some(oldest) = reading.first() else {
        return Vec::new();
    };
    let half = oldest.pending().min(budget.div_ceil(2));
    budget -= half;
    let mut by_length = reading.to_vec();
    by_length.sort_by_key(|sequence| sequence.pending());
    let shares = by_length.into_iter().map(|sequence| {
        let have = if sequence.id == oldest.id { half } else { 0 };
        let more = (sequence.pending() - have).min(budget);
        budget -= more;
        (sequence, have + more)
    });
    shares.collect()
}

#[cfg(test)]
mod tests;
