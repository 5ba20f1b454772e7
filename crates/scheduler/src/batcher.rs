//! What the next step of one model on one device computes.
//!
//! Every sequence has tokens that are *known* (its prompt, and what it has written) and the first of them are *held* in
//! the KV cache. The next token follows once all known ones are held. A sequence with one token to go decodes; one with
//! more is still reading.
//!
//! A step belongs to the most urgent class that has a sequence here: its *members* go first. Of them, those that decode do
//! so in every step, and what a step then has room for goes to prompts, so little that answers flow on
//! ([`Limits::stretch`]). Sequences of lower classes are *guests*: while a member reads its prompt they stay out, since
//! somebody waits for a first token; else they come along as far as members hardly notice ([`Limits::guest_stretch`]),
//! those that were left out longest first. A guest that waited too long is a member for one step.

use std::time::Duration;

use crate::gait::{Gait, Load};
use crate::job::SeqId;
use crate::pace::Pace;
use crate::{Class, Settings, Time};

mod plan;

pub use plan::{Plan, Slice};

/// What a step may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Sequences that run together, at most.
    pub running: usize,
    /// Sequences that one step computes, at most.
    pub sequences: usize,
    /// Tokens of prompts that one step reads when no answer is under way.
    pub prefill_tokens: u32,
    /// How many times as long as without prompts a step may take while answers are under way. If several prompts wait, each
    /// but one counts as two answers more: where many wait, answers that flow a little slower are a fair price.
    pub stretch: f64,
    /// How many times as long as without guests a step may take that has some.
    pub guest_stretch: f64,
    /// Tokens of a page of the KV cache.
    pub page_tokens: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running: 64,
            sequences: usize::MAX,
            prefill_tokens: 512,
            // A margin to the three times at which people notice that the flow falters.
            stretch: 2.4,
            guest_stretch: 1.25,
            page_tokens: 32,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Sequence {
    id: SeqId,
    class: Class,
    known: u32,
    held: u32,
    /// Its last page is shared, and copied when it is written to.
    shares_page: bool,
    /// When it was computed last, or admitted.
    served: Time,
    /// Its place in the order in which sequences came.
    age: u64,
}

impl Sequence {
    fn pending(&self) -> u32 {
        self.known - self.held
    }

    fn reads(&self) -> bool {
        self.pending() > 1
    }
}

/// What is most urgent of a model's sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Urgency {
    /// The class, waiting counted in.
    pub(crate) class: Class,
    /// Whether somebody waits for a first token.
    pub(crate) reads: bool,
}

/// Decides what the steps of one model compute.
#[derive(Clone, Debug)]
pub struct Batcher {
    limits: Limits,
    /// By their names, so that each is found at once.
    running: Vec<Sequence>,
    /// The age of the next one.
    next_age: u64,
    pace: Pace,
    gait: Gait,
}

impl Batcher {
    /// Without sequences. `gait` stands in until steps were seen.
    pub fn new(limits: Limits, gait: Gait) -> Self {
        Self {
            limits,
            running: Vec::new(),
            next_age: 0,
            pace: Pace::default(),
            gait,
        }
    }

    /// Sequences that run.
    pub fn n_running(&self) -> usize {
        self.running.len()
    }

    /// Sequences of at least this class that run.
    pub fn n_running_from(&self, class: Class) -> usize {
        let from = self.running.iter().filter(|s| s.class >= class);
        from.count()
    }

    /// Whether a sequence of a class that knows so much can run too, if `free` pages are free. Lower classes are not in its
    /// way: they give up their pages for it.
    pub fn admits(&self, class: Class, known: u32, free: u32) -> bool {
        let peers = self.n_running_from(class);
        // Those that run may each need a page before this one ends; alone, a sequence runs in any case.
        let lower = self.running.iter().filter(|s| s.class < class);
        let free = free + lower.map(|s| self.pages(s.held)).sum::<u32>();
        let fits = self.pages(known + 1) + peers as u32 + self.owed(class) <= free;
        peers == 0 || (fits && peers < self.limits.running)
    }

    /// Tokens of prompts of at least this class that are not read yet.
    pub(crate) fn unread_from(&self, class: Class) -> u32 {
        let reading = self
            .running
            .iter()
            .filter(|s| s.class >= class && s.reads());
        reading.map(Sequence::pending).sum()
    }

    /// What a step of all sequences of at least this class has to do once they write.
    pub(crate) fn cycle_from(&self, class: Class) -> Load {
        let from = self.running.iter().filter(|s| s.class >= class);
        from.fold(Load::default(), |sum, s| Load {
            tokens: sum.tokens + 1,
            past: sum.past + u64::from(s.known),
        })
    }

    /// Lets a sequence run that knows so much and has the first `held` of it in the cache.
    ///
    /// # Panics
    /// If nothing is left to compute, or it runs already.
    pub fn admit(&mut self, id: SeqId, class: Class, known: u32, held: u32, now: Time) {
        assert!(held < known, "nothing is left to compute. This is a bug.");
        assert!(self.find(id).is_none(), "it runs already. This is a bug.");
        self.insert(Sequence {
            id,
            age: 0,
            class,
            known,
            held,
            shares_page: !held.is_multiple_of(self.limits.page_tokens),
            served: now,
        });
    }

    /// Adds a sequence that begins as a running one does and shares its pages: another answer to one prompt.
    pub fn fork(&mut self, from: SeqId, id: SeqId) {
        let page_tokens = self.limits.page_tokens;
        let from = self.running_mut(from);
        from.shares_page = !from.held.is_multiple_of(page_tokens);
        let fork = Sequence { id, ..*from };
        self.insert(fork);
    }

    /// The youngest sequence of the lowest class gives up its pages, unless it is the only one: it starts over with all it
    /// knows when it is admitted again. With `below`, only one of a lower class than that.
    pub fn preempt(&mut self, below: Option<Class>) -> Option<SeqId> {
        self.give_way(below).map(|gone| gone.id)
    }

    fn give_way(&mut self, below: Option<Class>) -> Option<Sequence> {
        let may = |s: &&Sequence| below.is_none_or(|below| s.class < below);
        if below.is_none() && self.running.len() <= 1 {
            return None;
        }
        let lowest = self.running.iter().filter(may).map(|s| s.class).min()?;
        let of_class = self.running.iter().filter(|s| s.class == lowest);
        let youngest = of_class.max_by_key(|s| s.age)?.id;
        let at = self.position(youngest)?;
        Some(self.running.remove(at))
    }

    /// Pages that have to be given up by lower classes before a sequence of this class can run that knows so much.
    pub(crate) fn lacks(&self, class: Class, known: u32, free: u32) -> u32 {
        let peers = self.n_running_from(class) as u32;
        (self.pages(known + 1) + peers + self.owed(class)).saturating_sub(free)
    }

    /// Takes note that a slice was computed.
    pub fn computed(&mut self, slice: Slice, now: Time) {
        let sequence = self.running_mut(slice.seq);
        sequence.held += slice.n_tok;
        sequence.shares_page = false;
        sequence.served = now;
    }

    /// Takes note that a sequence wrote a token.
    pub fn wrote(&mut self, id: SeqId) {
        self.running_mut(id).known += 1;
    }

    /// Forgets a sequence. `false` if it does not run here.
    pub fn remove(&mut self, id: SeqId) -> bool {
        let found = self.position(id);
        found.map(|at| self.running.remove(at)).is_some()
    }

    /// Learns how long a step of `n_tok` tokens took.
    pub fn observe(&mut self, n_tok: u32, took: Duration) {
        self.pace.observe(n_tok as usize, took);
    }

    /// What is known and held of a sequence.
    pub fn progress(&self, id: SeqId) -> Option<(u32, u32)> {
        self.find(id).map(|s| (s.known, s.held))
    }

    /// The most urgent class of what there is to do.
    pub(crate) fn top(&self) -> Option<Class> {
        self.running.iter().map(|s| s.class).max()
    }

    /// The most urgent of what there is to do, waiting counted in if it `lifts`; `None` if nothing runs.
    pub(crate) fn urgency(&self, settings: &Settings, now: Time, lifts: bool) -> Option<Urgency> {
        let urgency = |s: &Sequence| {
            let lifted = lifted(s, settings, now);
            Urgency {
                class: if lifts { s.class.max(lifted) } else { s.class },
                // A lifted guest is given a step, and not the right to be read through.
                reads: s.reads() && !(lifts && lifted > s.class),
            }
        };
        self.running.iter().map(urgency).max()
    }

    /// What a step of these slices has to do.
    pub(crate) fn load(&self, slices: &[Slice]) -> Load {
        let past = slices.iter().filter_map(|slice| self.find(slice.seq));
        Load {
            tokens: slices.iter().map(|slice| u64::from(slice.n_tok)).sum(),
            past: past.map(|s| u64::from(s.held)).sum(),
        }
    }

    /// Adds the youngest sequence.
    fn insert(&mut self, sequence: Sequence) {
        let age = self.next_age;
        self.next_age += 1;
        let at = self.running.partition_point(|s| s.id < sequence.id);
        self.running.insert(at, Sequence { age, ..sequence });
    }

    fn position(&self, id: SeqId) -> Option<usize> {
        self.running.binary_search_by_key(&id, |s| s.id).ok()
    }

    fn find(&self, id: SeqId) -> Option<&Sequence> {
        self.position(id).map(|at| &self.running[at])
    }

    fn running_mut(&mut self, id: SeqId) -> &mut Sequence {
        let found = self.position(id);
        &mut self.running[found.expect("the sequence runs. This is a bug.")]
    }

    fn pages(&self, n_tok: u32) -> u32 {
        n_tok.div_ceil(self.limits.page_tokens)
    }

    /// Pages that those of at least this class who are reading will still need for what they know.
    fn owed(&self, class: Class) -> u32 {
        let from = self.running.iter().filter(|s| s.class >= class);
        from.map(|s| self.pages(s.known + 1) - self.pages(s.held))
            .sum()
    }
}

/// The class that waiting gives a sequence.
fn lifted(sequence: &Sequence, settings: &Settings, now: Time) -> Class {
    match now - sequence.served > settings.ageing(sequence.class) {
        true => Class::Interactive,
        false => sequence.class,
    }
}

#[cfg(test)]
mod tests;
