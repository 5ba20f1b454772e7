//! The sequences that run, and sums over those of each class.
//!
//! A place for a job is reckoned with by what runs there already, and that for many jobs and places in every step. So the
//! sums are kept up to date with each change of a sequence, and asking for them costs the same however many run.

use super::Load;
use crate::job::SeqId;
use crate::{Class, Time};

#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub(super) id: SeqId,
    pub(super) class: Class,
    pub(super) known: u32,
    pub(super) held: u32,
    /// Its last page is shared, and copied when it is written to.
    pub(super) shares_page: bool,
    /// Whether a step was planned with it since it was admitted.
    pub(super) has_begun: bool,
    /// Tokens of it that the step under way computes.
    pub(super) planned: u32,
    /// When it was computed last, or admitted.
    pub(super) served: Time,
    /// Its place in the order in which sequences came.
    pub(super) age: u64,
}

impl Sequence {
    pub(super) fn pending(&self) -> u32 {
        self.known - self.held
    }

    pub(super) fn reads(&self) -> bool {
        self.pending() > 1
    }
}

/// Sums over sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) sequences: usize,
    /// Of them, those that are reading their prompts.
    pub(super) reading: usize,
    /// Tokens that these have yet to read.
    pub(super) unread: u32,
    /// Tokens that are known of all.
    pub(super) known: u64,
    /// Pages that they have.
    pub(super) pages: u32,
    /// Pages that they need beyond these for what they know, and one token more.
    pub(super) owed: u32,
}

impl Tally {
    fn of(sequence: &Sequence, page_tokens: u32) -> Self {
        let pages = sequence.held.div_ceil(page_tokens);
        Self {
            sequences: 1,
            reading: usize::from(sequence.reads()),
            unread: if sequence.reads() {
                sequence.pending()
            } else {
                0
            },
            known: u64::from(sequence.known),
            pages,
            owed: (sequence.known + 1).div_ceil(page_tokens) - pages,
        }
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            sequences: self.sequences + other.sequences,
            reading: self.reading + other.reading,
            unread: self.unread + other.unread,
            known: self.known + other.known,
            pages: self.pages + other.pages,
            owed: self.owed + other.owed,
        }
    }

    fn minus(self, other: &Self) -> Self {
        Self {
            sequences: self.sequences - other.sequences,
            reading: self.reading - other.reading,
            unread: self.unread - other.unread,
            known: self.known - other.known,
            pages: self.pages - other.pages,
            owed: self.owed - other.owed,
        }
    }

    /// What a step has to do in which each of them writes a token.
    pub(super) fn cycle(&self) -> Load {
        Load {
            tokens: self.sequences as u64,
            past: self.known,
        }
    }
}

/// The sequences that run, in the order of their names.
#[derive(Clone, Debug)]
pub(super) struct Running {
    sequences: Vec<Sequence>,
    /// By [`Class::index`].
    tallies: [Tally; 4],
    page_tokens: u32,
    /// Behind the one that was sought last by [`Running::seek`].
    next: usize,
}

/// Of so many, the one that is sought is looked for before it is searched for.
const NEAR: usize = 8;

impl Running {
    pub(super) fn new(page_tokens: u32) -> Self {
        Self {
            sequences: Vec::new(),
            tallies: [Tally::default(); 4],
            page_tokens,
            next: 0,
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Where a sequence is among all; until one comes or goes.
    pub(super) fn position(&self, id: SeqId) -> Option<usize> {
        self.sequences.binary_search_by_key(&id, |s| s.id).ok()
    }

    /// As [`Running::position`], for one after the other: those of a step are told of in the order in which they are here,
    /// or nearly so.
    pub(super) fn seek(&mut self, id: SeqId) -> Option<usize> {
        let behind = self.sequences.iter().enumerate().skip(self.next);
        let mut near = behind.take(NEAR).skip_while(|(_, s)| s.id < id);
        let found = match near.next() {
            Some((at, found)) if found.id == id => Some(at),
            _ => self.position(id),
        };
        self.next = found.map_or(0, |at| at + 1);
        found
    }

    /// Sums over one class.
    pub(super) fn of(&self, class: Class) -> &Tally {
        &self.tallies[class.index()]
    }

    /// Sums over the sequences of at least this class.
    pub(super) fn from(&self, class: Class) -> Tally {
        sum(&self.tallies[class.index()..])
    }

    /// Sums over the sequences of lower classes.
    pub(super) fn below(&self, class: Class) -> Tally {
        sum(&self.tallies[..class.index()])
    }

    pub(super) fn insert(&mut self, sequence: Sequence) {
        let at = self.sequences.partition_point(|s| s.id < sequence.id);
        let tally = &mut self.tallies[sequence.class.index()];
        *tally = tally.plus(&Tally::of(&sequence, self.page_tokens));
        self.sequences.insert(at, sequence);
    }

    pub(super) fn remove(&mut self, at: usize) -> Sequence {
        let gone = self.sequences.remove(at);
        let tally = &mut self.tallies[gone.class.index()];
        *tally = tally.minus(&Tally::of(&gone, self.page_tokens));
        gone
    }

    /// No step is planned any more.
    pub(super) fn forget_plan(&mut self) {
        for sequence in &mut self.sequences {
            sequence.planned = 0;
        }
    }

    /// The next step computes so many tokens of a sequence. Whether it is the first one since it was admitted.
    pub(super) fn plan(&mut self, at: usize, n_tok: u32) -> bool {
        let sequence = &mut self.sequences[at];
        sequence.planned = n_tok;
        !std::mem::replace(&mut sequence.has_begun, true)
    }

    /// What was planned is computed.
    pub(super) fn computed(&mut self, now: Time) {
        for at in 0..self.sequences.len() {
            if self.sequences[at].planned > 0 {
                self.change(at, |sequence| {
                    sequence.held += std::mem::take(&mut sequence.planned);
                    sequence.shares_page = false;
                    sequence.served = now;
                });
            }
        }
    }

    /// Changes a sequence in anything but its name and class.
    pub(super) fn change<T>(&mut self, at: usize, change: impl FnOnce(&mut Sequence) -> T) -> T {
        let sequence = &mut self.sequences[at];
        let before = Tally::of(sequence, self.page_tokens);
        let result = change(sequence);
        let after = Tally::of(sequence, self.page_tokens);
        let tally = &mut self.tallies[sequence.class.index()];
        *tally = tally.plus(&after).minus(&before);
        result
    }
}

fn sum(tallies: &[Tally]) -> Tally {
    let sum = tallies.iter();
    sum.fold(Tally::default(), |sum, tally| sum.plus(tally))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::JobId;

    const PAGE: u32 = 4;

    fn id(job: usize) -> SeqId {
        SeqId {
            job: JobId(job as u64),
            choice: 0,
        }
    }

    fn sequence(job: usize, known: u32) -> Sequence {
        Sequence {
            id: id(job),
            class: Class::ALL[job % 4],
            known,
            held: 0,
            shares_page: false,
            has_begun: false,
            planned: 0,
            served: Time::default(),
            age: 0,
        }
    }

    proptest! {
        #[test]
        fn sums_are_what_counting_says(
            events in prop::collection::vec((0_usize..12, 1_u32..40, 0_u32..40), 1..80),
        ) {
            let mut running = Running::new(PAGE);
            for (job, known, more) in events {
                match running.position(id(job)) {
                    None => running.insert(sequence(job, known)),
                    Some(at) if more == 0 => drop(running.remove(at)),
                    Some(at) => running.change(at, |s| {
                        s.held = (s.held + more).min(s.known);
                        s.known += u32::from(s.held == s.known);
                    }),
                }
                prop_assert_eq!(running.seek(id(job)), running.position(id(job)));
                for class in Class::ALL {
                    let of = |is: fn(&Class, &Class) -> bool| {
                        let theirs = running.all().iter().filter(|s| is(&s.class, &class));
                        theirs.fold(Tally::default(), |sum, s| sum.plus(&Tally::of(s, PAGE)))
                    };
                    prop_assert_eq!(running.from(class), of(Class::ge));
                    prop_assert_eq!(running.below(class), of(Class::lt));
                    prop_assert_eq!(*running.of(class), of(Class::eq));
                }
                prop_assert!(running.all().is_sorted_by(|a, b| a.id < b.id));
            }
        }
    }
}
