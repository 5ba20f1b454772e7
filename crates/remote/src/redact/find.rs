//! Everything that is to be taken out of one text, in every reading of it.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::Redactor;
use super::view::View;
use crate::config::Redact;

/// Characters of a value that is looked for inside of words, too. A shorter one may be a part of one.
const INSIDE_WORDS: usize = 8;

/// Something that is to be taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is in the text itself.
    pub(super) place: Range<usize>,
    pub(super) kind: Redact,
    /// What it reads as.
    pub(super) value: String,
    /// Whether it is taken out wherever else it stands, whatever is around it.
    pub(super) spreads: bool,
}

impl Found {
    /// A text that is taken out as a whole.
    pub(super) fn all_of(text: &str, kind: Redact, spreads: bool) -> Self {
        Self {
            place: 0..text.len(),
            kind,
            value: text.to_owned(),
            spreads,
        }
    }
}

/// Values that were found somewhere in a job.
#[derive(Debug)]
pub(super) struct Known {
    values: AhoCorasick,
    kinds: Vec<Redact>,
}

impl Known {
    /// `None` if there are more than can be looked for at once.
    pub(super) fn new(values: &BTreeMap<String, Redact>) -> Option<Self> {
        Some(Self {
            values: AhoCorasick::new(values.keys()).ok()?,
            kinds: values.values().copied().collect(),
        })
    }

    fn find(&self, text: &str) -> Vec<(Range<usize>, Redact)> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let found = self.values.find_overlapping_iter(text);
        let found = found.filter(|it| {
            let value = &text[it.range()];
            let before = text[..it.start()].chars().next_back();
            let after = text[it.end()..].chars().next();
            value.chars().count() >= INSIDE_WORDS
                || !before.is_some_and(is_word) && !after.is_some_and(is_word)
        });
        found
            .map(|it| (it.range(), self.kinds[it.pattern().as_usize()]))
            .collect()
    }
}

impl Redactor {
    /// What is to be taken out of a text, in order; nothing overlaps.
    pub(super) fn find(&self, text: &str, kinds: &[Redact], known: Option<&Known>) -> Vec<Found> {
        let views = View::all(text);
        let mut found = Vec::new();
        for view in &views {
            let mut add = |range: Range<usize>, kind, spreads| {
                let place = view.place(&range);
                if !place.is_empty() {
                    let value = view.text[range].to_owned();
                    found.push(Found {
                        place,
                        kind,
                        value,
                        spreads,
                    });
                }
            };
            for &kind in kinds {
                self.of_kind(&view.text, kind, &mut add);
            }
            for (range, kind) in known
                .map(|known| known.find(&view.text))
                .unwrap_or_default()
            {
                add(range, kind, true);
            }
        }
        // What begins in the middle of an escape is a misreading, if what the escape stands for reads otherwise.
        let misread = |one: &Found, all: &[Found]| {
            let cut = |view: &View| view.cuts(one.place.start) || view.cuts(one.place.end);
            let covers = |other: &Found| {
                other.place != one.place
                    && other.place.start < one.place.end
                    && one.place.start < other.place.end
            };
            views.iter().any(cut) && all.iter().any(covers)
        };
        let kept: Vec<_> = found
            .iter()
            .filter(|one| !misread(one, &found))
            .cloned()
            .collect();
        merged(text, if kept.is_empty() { found } else { kept })
    }

    fn of_kind(&self, text: &str, kind: Redact, add: &mut impl FnMut(Range<usize>, Redact, bool)) {
        let ranges = match kind {
            Redact::Emails => self.shapes.emails(text),
            Redact::Phones => self.shapes.phones(text),
            Redact::Ibans => self.shapes.ibans(text),
            Redact::Cards => self.shapes.cards(text),
            // They are found wherever they are whole.
            Redact::Names => {
                for range in self.names.find(text) {
                    add(range, kind, false);
                }
                return;
            }
            Redact::Secrets => {
                for secret in self.secrets.find(text) {
                    add(secret.range, kind, secret.is_random);
                }
                return;
            }
        };
        for range in ranges {
            add(range, kind, true);
        }
    }
}

/// Of what overlaps, the longest; what overlaps without being inside becomes one.
fn merged(text: &str, mut found: Vec<Found>) -> Vec<Found> {
    let order = |it: &Found| (it.place.start, std::cmp::Reverse(it.place.end));
    // Of the same place, the reading with the most undone, which came last.
    found.reverse();
    found.sort_by_key(order);
    let mut out: Vec<Found> = Vec::new();
    for one in found {
        match out.last_mut() {
            Some(last) if one.place.start < last.place.end => {
                last.spreads |= one.spreads && one.place == last.place;
                if one.place.end > last.place.end {
                    last.place.end = one.place.end;
                    last.value = text[last.place.clone()].to_owned();
                    last.spreads |= one.spreads;
                }
            }
            _ => out.push(one),
        }
    }
    out
}
