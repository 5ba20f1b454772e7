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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: usize, bytes: usize) -> Source {
        Source::Lark(format!("{n:4}{}", " ".repeat(bytes - 4)))
    }

    fn matcher() -> Arc<Matcher> {
        Arc::new(Matcher::new(Err(llguidance::Cancelled.into())))
    }

    fn kept(cache: &Cache) -> Vec<Source> {
        let entries = cache.entries.lock().expect("is never poisoned");
        entries.iter().map(|(source, _)| source.clone()).collect()
    }

    #[test]
    fn the_latest_are_kept() {
        let cache = Cache::default();
        let first = matcher();
        cache.insert(source(0, 4), Arc::clone(&first));
        for n in 1..100 {
            cache.insert(source(n, 4), matcher());
            let again = cache.get(&source(0, 4)).expect("is in use");
            assert!(Arc::ptr_eq(&again, &first));
        }
        assert_eq!(kept(&cache).len(), GRAMMARS_MAX);
        assert!(cache.get(&source(50, 4)).is_none(), "was driven out");
        cache.insert(source(0, 4), matcher());
        assert_eq!(kept(&cache).len(), GRAMMARS_MAX, "one of a kind");
    }

    #[test]
    fn large_ones_drive_out_more() {
        let cache = Cache::default();
        for n in 0..20 {
            cache.insert(source(n, TEXT_BYTES_MAX / 4), matcher());
        }
        let expect: Vec<_> = (16..20).map(|n| source(n, TEXT_BYTES_MAX / 4)).collect();
        assert_eq!(kept(&cache), expect);
    }
}
