//! Who owns which page of the KV cache.
//!
//! A [`Sequence`] is a list of tokens and the pages that hold their keys and values. Pages are counted: a fork shares
//! the pages of the common prefix, and the one that both would write to is copied first (copy-on-write). A page goes
//! back to the free list when its last owner lets go of it, so nothing has to be released by hand.

use std::collections::BTreeMap;
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
pub(crate) struct Page(Arc<Owned>);

impl Page {
    /// Whether it has another owner than this one.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Its number.
    pub(crate) fn index(&self) -> usize {
        self.0.index
    }

    /// Whether both own the same page.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

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

    /// Makes room for more tokens of several sequences. The copies that are returned have to be made, in their order,
    /// before any of the sequences is written to.
    ///
    /// # Errors
    /// [`Error::CacheFull`]; all sequences are as before then.
    pub(crate) fn reserve_all<'s>(
        &self,
        wishes: impl IntoIterator<Item = (&'s mut Sequence, usize)>,
    ) -> Result<Vec<PageCopy>, Error> {
        let mut wishes: Vec<_> = wishes.into_iter().collect();
        let wanted = pages_wanted(wishes.iter().map(|(sequence, n_tok)| (&**sequence, *n_tok)));
        let free = self.n_free();
        if wanted > free {
            return Err(Error::CacheFull { wanted, free });
        }
        wishes
            .iter_mut()
            .filter_map(|(sequence, n_tok)| self.reserve(sequence, *n_tok).transpose())
            .collect()
    }

    /// Makes room for `n_tok` more tokens. The copy that is returned has to be made before the sequence is written to.
    ///
    /// # Errors
    /// [`Error::CacheFull`]; the sequence is as before then.
    fn reserve(&self, sequence: &mut Sequence, n_tok: usize) -> Result<Option<PageCopy>, Error> {
        let shared = sequence
            .page_written_next(n_tok)
            .is_some_and(Page::is_shared);
        let fresh = sequence.pages_lacking(n_tok) + usize::from(shared);
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
            let next = sequence.tokens.len() / PAGE_TOKENS;
            let from = std::mem::replace(&mut sequence.pages[next], page);
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

    /// The page that the next of `n_tok` tokens goes to, if there is one already. No other page can be both shared and
    /// written.
    pub(crate) fn page_written_next(&self, n_tok: usize) -> Option<&Page> {
        let next = self.pages.get(self.tokens.len() / PAGE_TOKENS);
        next.filter(|_| n_tok > 0)
    }

    /// How many pages `n_tok` more tokens need beyond those that there are.
    fn pages_lacking(&self, n_tok: usize) -> usize {
        let wanted = (self.tokens.len() + n_tok).div_ceil(PAGE_TOKENS);
        wanted.saturating_sub(self.pages.len())
    }

    /// The pages that are full, with their tokens.
    pub(crate) fn full_pages(
        &self,
    ) -> impl ExactSizeIterator<Item = (&[TokenId; PAGE_TOKENS], &Page)> {
        self.tokens.as_chunks().0.iter().zip(&self.pages)
    }

    /// Goes on with a page that somebody else has written, or the first tokens of one.
    ///
    /// # Panics
    /// If the sequence does not end with a full page itself.
    pub(crate) fn share(&mut self, tokens: &[TokenId], page: Page) {
        let whole = self.tokens.len() == self.pages.len() * PAGE_TOKENS;
        assert!(whole, "the page would leave a gap. This is a bug.");
        self.tokens.extend_from_slice(tokens);
        self.pages.push(page);
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

/// How many free pages it takes to make room for more tokens of several sequences at once.
pub(crate) fn pages_wanted<'s>(wishes: impl IntoIterator<Item = (&'s Sequence, usize)>) -> usize {
    // A shared page is copied by all that write to it, but by the last owner: by then nobody shares it any more.
    let mut writers: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut wanted = 0;
    for (sequence, n_tok) in wishes {
        wanted += sequence.pages_lacking(n_tok);
        if let Some(Page(page)) = sequence.page_written_next(n_tok) {
            let (writers, others) = writers
                .entry(page.index)
                .or_insert((0, Arc::strong_count(page) - 1));
            *writers += 1;
            wanted += usize::from(*writers <= *others);
        }
    }
    wanted
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

    #[test]
    fn room_is_made_for_all_or_for_none() {
        let cache = KvCache::new(6);
        let mut first = Sequence::default();
        write(&cache, &mut first, 5);
        let mut forks = [first.fork(5), first.fork(4)];
        let mut long = Sequence::default();
        write(&cache, &mut long, PAGE_TOKENS);
        let before = [&first, &forks[0], &forks[1], &long].map(Sequence::pages);

        // Two forks copy their page, the third owner keeps it; the long one wants three.
        let [a, b] = &mut forks;
        let wishes = [(&mut *a, 1), (&mut *b, 1), (&mut long, 3 * PAGE_TOKENS)];
        let error = cache.reserve_all(wishes).unwrap_err();
        assert!(
            matches!(error, Error::CacheFull { wanted: 5, free: 4 }),
            "{error}"
        );
        assert_eq!([&first, a, b, &long].map(Sequence::pages), before);
        assert_eq!(cache.n_free(), 4);

        // With two that want two pages, it is just enough: of three owners who all write, two copy.
        let wishes = [
            (&mut first, 1),
            (a, 1),
            (b, 1),
            (&mut long, 2 * PAGE_TOKENS),
        ];
        let copies = cache.reserve_all(wishes).unwrap();
        assert_eq!(
            copies.iter().map(|copy| copy.from).collect::<Vec<_>>(),
            [0, 0]
        );
        assert_eq!(cache.n_free(), 0);
    }
}
