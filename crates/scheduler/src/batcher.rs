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
mod running;

pub use plan::{Plan, Slice};
use running::{Running, Sequence};

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
    running: Running,
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
            running: Running::new(limits.page_tokens),
            next_age: 0,
            pace: Pace::default(),
            gait,
        }
    }

    /// Sequences that run.
    pub fn n_running(&self) -> usize {
        self.running.all().len()
    }

    /// Sequences of at least this class that run.
    pub fn n_running_from(&self, class: Class) -> usize {
        self.running.from(class).sequences
    }

    /// Whether a sequence of a class that knows so much can run too, if `free` pages are free. Lower classes are not in its
    /// way: they give up their pages for it.
    pub fn admits(&self, class: Class, known: u32, free: u32) -> bool {
        // Those that run may each need a page before this one ends; alone, a sequence runs in any case.
        let from = self.running.from(class);
        let free = free + self.running.below(class).pages;
        let fits = self.pages(known + 1) + from.sequences as u32 + from.owed <= free;
        from.sequences == 0 || (fits && from.sequences < self.limits.running)
    }

    /// Tokens of prompts of at least this class that are not read yet.
    pub(crate) fn unread_from(&self, class: Class) -> u32 {
        self.running.from(class).unread
    }

    /// What a step of all sequences of at least this class has to do once they write.
    pub(crate) fn cycle_from(&self, class: Class) -> Load {
        self.running.from(class).cycle()
    }

    /// Lets a sequence run that knows so much and has the first `held` of it in the cache.
    ///
    /// # Panics
    /// If nothing is left to compute, or it runs already.
    pub fn admit(&mut self, id: SeqId, class: Class, known: u32, held: u32, now: Time) {
        assert!(held < known, "nothing is left to compute. This is a bug.");
        assert!(
            self.running.position(id).is_none(),
            "it runs already. This is a bug."
        );
        self.insert(Sequence {
            id,
            age: 0,
            class,
            known,
            held,
            shares_page: !held.is_multiple_of(self.limits.page_tokens),
            has_begun: false,
            planned: 0,
            served: now,
        });
    }

    /// Adds a sequence that begins as a running one does and shares its pages: another answer to one prompt.
    pub fn fork(&mut self, from: SeqId, id: SeqId) {
        let page_tokens = self.limits.page_tokens;
        let fork = self.change(from, |from| {
            from.shares_page = !from.held.is_multiple_of(page_tokens);
            Sequence { id, ..*from }
        });
        self.insert(fork);
    }

    /// The youngest sequence of the lowest class gives up its pages, unless it is the only one: it starts over with all it
    /// knows when it is admitted again. With `below`, only one of a lower class than that.
    pub fn preempt(&mut self, below: Option<Class>) -> Option<SeqId> {
        self.give_way(below).map(|gone| gone.id)
    }

    fn give_way(&mut self, below: Option<Class>) -> Option<Sequence> {
        if below.is_none() && self.n_running() <= 1 {
            return None;
        }
        let all = self.running.all();
        let lowest = self.classes().last()?;
        if below.is_some_and(|below| lowest >= below) {
            return None;
        }
        let of_class = (0..all.len()).filter(|&at| all[at].class == lowest);
        let youngest = of_class.max_by_key(|&at| all[at].age)?;
        Some(self.running.remove(youngest))
    }

    /// Pages that have to be given up by lower classes before a sequence of this class can run that knows so much.
    pub(crate) fn lacks(&self, class: Class, known: u32, free: u32) -> u32 {
        let from = self.running.from(class);
        (self.pages(known + 1) + from.sequences as u32 + from.owed).saturating_sub(free)
    }

    /// Takes note that the step that was planned last is done, but for what was removed since.
    pub fn computed(&mut self, now: Time) {
        self.running.computed(now);
    }

    /// Takes note that a sequence wrote tokens, of which all but the last are held. `false` if it does not run here.
    pub fn wrote(&mut self, id: SeqId, n_tok: u32) -> bool {
        let found = self.running.seek(id);
        let wrote = found.map(|at| {
            self.running.change(at, |sequence| {
                sequence.known += n_tok;
                sequence.held += n_tok.saturating_sub(1);
            });
        });
        wrote.is_some()
    }

    /// Forgets a sequence. `false` if it does not run here.
    pub fn remove(&mut self, id: SeqId) -> bool {
        let found = self.running.position(id);
        found.map(|at| self.running.remove(at)).is_some()
    }

    /// Learns how long a step of `n_tok` tokens took.
    pub fn observe(&mut self, n_tok: u32, took: Duration) {
        self.pace.observe(n_tok as usize, took);
    }

    /// What is known and held of a sequence.
    pub fn progress(&self, id: SeqId) -> Option<(u32, u32)> {
        let found = &self.running.all()[self.running.position(id)?];
        Some((found.known, found.held))
    }

    /// The classes of what there is to do, the most urgent first.
    fn classes(&self) -> impl Iterator<Item = Class> {
        let classes = Class::ALL.into_iter();
        classes.filter(|&class| self.running.of(class).sequences > 0)
    }

    /// The most urgent class of what there is to do.
    pub(crate) fn top(&self) -> Option<Class> {
        self.classes().next()
    }

    /// The most urgent of what there is to do, waiting counted in if it `lifts`; `None` if nothing runs.
    pub(crate) fn urgency(&self, settings: &Settings, now: Time, lifts: bool) -> Option<Urgency> {
        let class = self.top()?;
        let mut all = self.running.all().iter();
        if lifts && class < Class::Interactive && all.any(|s| is_aged(s, settings, now)) {
            // A lifted guest is given a step, and not the right to be read through.
            return Some(Urgency {
                class: Class::Interactive,
                reads: false,
            });
        }
        Some(Urgency {
            class,
            reads: self.running.of(class).reading > 0,
        })
    }

    /// Adds the youngest sequence.
    fn insert(&mut self, sequence: Sequence) {
        let age = self.next_age;
        self.next_age += 1;
        self.running.insert(Sequence { age, ..sequence });
    }

    fn change<T>(&mut self, id: SeqId, change: impl FnOnce(&mut Sequence) -> T) -> T {
        let found = self.running.position(id);
        let at = found.expect("the sequence runs. This is a bug.");
        self.running.change(at, change)
    }

    fn pages(&self, n_tok: u32) -> u32 {
        n_tok.div_ceil(self.limits.page_tokens)
    }
}

/// Whether a sequence has waited so long that it is treated as interactive for a step.
fn is_aged(sequence: &Sequence, settings: &Settings, now: Time) -> bool {
    now - sequence.served > settings.ageing(sequence.class)
}

#[cfg(test)]
mod tests;
