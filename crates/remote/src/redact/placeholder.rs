//! What stands in the place of what was taken out: `[EMAIL_1]`.
//!
//! The same value has the same placeholder everywhere in a request, and the numbers go by the order of the text, so that the
//! next turn of a conversation begins with the same bytes. A text that has such words of its own keeps them: their numbers
//! are not used.

use std::collections::{BTreeMap, BTreeSet};

use super::restore::{Restorer, Step, step};
use crate::config::Redact;
use crate::receipts::Redactions;

/// A placeholder: what it stands for, and a number.
pub(super) type Mark = (Redact, u32);

/// The word of a placeholder.
pub(super) fn word(kind: Redact) -> &'static str {
    match kind {
        Redact::Emails => "EMAIL",
        Redact::Phones => "PHONE",
        Redact::Secrets => "SECRET",
        Redact::Ibans => "IBAN",
        Redact::Cards => "CARD",
        Redact::Names => "NAME",
    }
}

pub(super) const KINDS: [Redact; 6] = [
    Redact::Emails,
    Redact::Phones,
    Redact::Secrets,
    Redact::Ibans,
    Redact::Cards,
    Redact::Names,
];

/// What was taken out of a job, and what stands in its place. It never leaves this machine, and no log shows it.
#[derive(Clone, Default)]
pub struct Placeholders {
    marks: BTreeMap<String, Mark>,
    values: BTreeMap<Mark, String>,
    /// Those that the job had of its own.
    taken: BTreeSet<Mark>,
    next: BTreeMap<Redact, u32>,
    /// How often each kind was taken out.
    counts: Redactions,
    /// Whether the answer is JSON, so that what is put back into it is escaped.
    pub(super) in_json: bool,
}

impl std::fmt::Debug for Placeholders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Placeholders")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Placeholders {
    /// Nothing in this text is taken for a placeholder of ours.
    pub(super) fn avoid(&mut self, text: &str) {
        for (at, _) in text.match_indices('[') {
            if let Step::Mark { mark, .. } = step(&text[at..]) {
                self.taken.insert(mark);
            }
        }
    }

    /// What stands in a value's place.
    pub(super) fn stand_in(&mut self, kind: Redact, value: &str) -> String {
        let (kind, number) = match self.marks.get(value) {
            Some(mark) => *mark,
            None => self.coin(kind, value),
        };
        *self.counts.entry(kind).or_default() += 1;
        format!("[{}_{number}]", word(kind))
    }

    fn coin(&mut self, kind: Redact, value: &str) -> Mark {
        let next = self.next.entry(kind).or_insert(1);
        while self.taken.contains(&(kind, *next)) {
            *next += 1;
        }
        let mark = (kind, *next);
        *next += 1;
        self.marks.insert(value.to_owned(), mark);
        self.values.insert(mark, value.to_owned());
        mark
    }

    /// What a placeholder stands for.
    pub(super) fn value(&self, mark: Mark) -> Option<&str> {
        self.values.get(&mark).map(|value| &**value)
    }

    /// How many values of each kind were taken out, each as often as it was there.
    pub fn counts(&self) -> &Redactions {
        &self.counts
    }

    /// What puts everything back into an answer.
    pub fn restore(&self) -> Restorer {
        Restorer::new(self.clone())
    }
}
