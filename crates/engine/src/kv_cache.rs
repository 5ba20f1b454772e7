//! Who owns which page of the KV cache.
//!
//! A [`Sequence`] is a list of tokens and the pages that hold their keys and values. Pages are counted: a fork shares
//! the pages of the common prefix, and the one that both would write to is copied first (copy-on-write). A page goes
//! back to the free list when its last owner lets go of it, so nothing has to be released by hand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use troika_base::TokenId;
use troika_device::PAGE_TOKENS;

use crate::Error;

/// The pages that no sequence owns.
#[derive(Debug)]
pub(crate) struct KvCache {
    free: Arc<FreeList>,
}

#[derive(Debug)]
struct FreeList(Mutex<Vec<usize>>);

impl FreeList {
    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        // A list of numbers is whole after every operation, so a panic elsewhere does no harm to it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page in use; clones share it.
#[derive(Clone, Debug)]
struct Page(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    index: usize,
    free: Arc<FreeList>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.free.lock().push(self.index);
    }
}

/// The tokens of one text, and where the cache holds them. A clone shares its pages with the original.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    tokens: Vec<TokenId>,
    pages: Vec<Page>,
}

/// A page whose contents have to be copied before the sequence may write to its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageCopy {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl KvCache {
    /// A cache whose pages are all free.
    pub(crate) fn new(n_page: usize) -> Self {
        // Taken from the end: low numbers first.
        Self {
            free: Arc::new(FreeList(Mutex::new((0..n_page).rev().collect()))),
        }
    }

    /// Makes room for `n_tok` more tokens. The copies that are returned have to be made before the sequence is
    /// written to.
    ///
    /// # Errors
    /// [`Error::CacheFull`]; the sequence is as before then.
    pub(crate) fn reserve(
        &self,
        sequence: &mut Sequence,
        n_tok: usize,
    ) -> Result<Option<PageCopy>, Error> {
        let held = sequence.tokens.len();
        let wanted = (held + n_tok).div_ceil(PAGE_TOKENS);
        // Only the page that the next token goes to can be both shared and written.
        let shared = sequence
            .pages
            .get(held / PAGE_TOKENS)
            .is_some_and(|page| Arc::strong_count(&page.0) > 1)
            && n_tok > 0;
        let fresh = wanted.saturating_sub(sequence.pages.len()) + usize::from(shared);
        let mut free = self.free.lock();
        let Some(rest) = free.len().checked_sub(fresh) else {
            return Err(Error::CacheFull {
                wanted: fresh,
                free: free.len(),
            });
        };
        let mut taken = free.split_off(rest).into_iter().rev().map(|index| {
            Page(Arc::new(Owned {
                index,
                free: Arc::clone(&self.free),
            }))
        });
        // A page that is let go of takes the lock.
        drop(free);
        let copy = shared.then(|| {
            let page = taken.next().expect("counted above");
            let to = page.0.index;
            let from = std::mem::replace(&mut sequence.pages[held / PAGE_TOKENS], page);
            PageCopy {
                from: from.0.index,
                to,
            }
        });
        sequence.pages.extend(taken);
        Ok(copy)
    }

    /// Pages that are free.
    pub(crate) fn n_free(&self) -> usize {
        self.free.lock().len()
    }
}

impl Sequence {
    /// The tokens whose keys and values are in the cache.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Numbers of the pages, in order.
    pub(crate) fn pages(&self) -> Vec<usize> {
        self.pages.iter().map(|page| page.0.index).collect()
    }

    /// Takes note that tokens were written to the pages that were reserved for them.
    pub(crate) fn written(&mut self, tokens: &[TokenId]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Forgets all but the first `n_tok` tokens, and lets go of pages that hold none of them.
    pub fn truncate(&mut self, n_tok: usize) {
        self.tokens.truncate(n_tok);
        self.pages.truncate(self.tokens.len().div_ceil(PAGE_TOKENS));
    }

    /// A sequence that begins with the first `n_tok` tokens of this one and shares their pages.
    pub fn fork(&self, n_tok: usize) -> Self {
        let mut fork = self.clone();
        fork.truncate(n_tok);
        fork
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(n: usize) -> Vec<TokenId> {
        (0..n as u32).map(TokenId).collect()
    }

    fn write(cache: &KvCache, sequence: &mut Sequence, n: usize) -> Option<PageCopy> {
        let copy = cache.reserve(sequence, n).unwrap();
        sequence.written(&tokens(n));
        copy
    }

    #[test]
    fn pages_come_and_go_with_the_tokens() {
        let cache = KvCache::new(4);
        let mut sequence = Sequence::default();
        assert_eq!(write(&cache, &mut sequence, PAGE_TOKENS + 1), None);
        assert_eq!((sequence.pages(), cache.n_free()), (vec![0, 1], 2));
        sequence.truncate(PAGE_TOKENS);
        assert_eq!(cache.n_free(), 3);
        drop(sequence);
        assert_eq!(cache.n_free(), 4);
    }

    #[test]
    fn a_fork_shares_until_it_writes() {
        let cache = KvCache::new(4);
        let mut first = Sequence::default();
        write(&cache, &mut first, PAGE_TOKENS + 5);
        let mut fork = first.fork(PAGE_TOKENS + 3);
        assert_eq!((fork.pages(), cache.n_free()), (first.pages(), 2));
        let copy = write(&cache, &mut fork, 1).expect("the half-full page is shared");
        assert_eq!(copy, PageCopy { from: 1, to: 2 });
        assert_eq!((fork.pages(), first.pages()), (vec![0, 2], vec![0, 1]));
        assert_eq!(
            write(&cache, &mut first, 1),
            None,
            "the original is alone on its page now"
        );
        drop((first, fork));
        assert_eq!(cache.n_free(), 4);
    }

    #[test]
    fn full_pages_are_shared_for_good() {
        let cache = KvCache::new(3);
        let mut first = Sequence::default();
        write(&cache, &mut first, PAGE_TOKENS);
        let mut fork = first.clone();
        assert_eq!(write(&cache, &mut fork, 1), None);
        assert_eq!((fork.pages(), cache.n_free()), (vec![0, 1], 1));
    }

    #[test]
    fn a_full_cache_is_an_error_and_changes_nothing() {
        let cache = KvCache::new(2);
        let mut sequence = Sequence::default();
        write(&cache, &mut sequence, 3);
        let mut fork = sequence.clone();
        let error = cache.reserve(&mut fork, PAGE_TOKENS).unwrap_err();
        assert!(
            matches!(error, Error::CacheFull { wanted: 2, free: 1 }),
            "{error}"
        );
        assert_eq!((fork.pages(), cache.n_free()), (vec![0], 1));
    }
}
