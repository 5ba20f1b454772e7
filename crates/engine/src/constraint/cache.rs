//! The last grammars, compiled: applications send the same few schemas over and over.

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::Matcher;

use super::grammar::Source;

/// Grammars that are kept. Whoever sends a new one with each request drives out the others, and that is all.
const GRAMMARS_MAX: usize = 32;

/// Bytes of text of all grammars that are kept; compiled, each takes some twenty times that.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The last grammars, compiled, the latest last. None of them is ever advanced: answers take copies.
#[derive(Default)]
pub(super) struct Cache {
    entries: Mutex<Vec<(Source, Arc<Matcher>)>>,
}

impl Cache {
    pub(super) fn get(&self, source: &Source) -> Option<Arc<Matcher>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entries.iter().position(|(kept, _)| kept == source)?;
        let entry = entries.remove(at);
        let matcher = Arc::clone(&entry.1);
        entries.push(entry);
        Some(matcher)
    }

    pub(super) fn insert(&self, source: Source, matcher: Arc<Matcher>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(kept, _)| *kept != source);
        entries.push((source, matcher));
        let bytes = |entries: &[(Source, _)]| -> usize {
            entries.iter().map(|(kept, _)| kept.text().len()).sum()
        };
        while entries.len() > GRAMMARS_MAX || bytes(&entries) > TEXT_BYTES_MAX {
            entries.remove(0);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.lock().expect("is never poisoned").len()
    }
}
