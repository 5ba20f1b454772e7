//! Pages of a KV cache, counted exactly: sequences that begin alike share them until one writes. What an owner's last job
//! left stays until its pages are needed, the oldest first.

use std::collections::BTreeMap;

use troika_scheduler::{JobId, OwnerId};

/// The pages of one model's cache on a device.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    page_tokens: u32,
    /// Sequences that have each page.
    users: Vec<u32>,
    /// Whether each page is of what a job left, and how many times.
    kept: Vec<u32>,
    /// Pages that are of nothing.
    free: Vec<u32>,
    /// Pages that no sequence has.
    n_unused: u32,
    left: BTreeMap<OwnerId, Left>,
    /// Counts what is left and found again.
    clock: u64,
}

/// What an owner's last job left: whole pages.
#[derive(Clone, Debug)]
struct Left {
    job: JobId,
    pages: Vec<u32>,
    used: u64,
}

/// What a sequence has in the cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pages: Vec<u32>,
    /// Tokens that are in them.
    pub(super) tokens: u32,
}

impl Pages {
    pub(super) fn new(count: u32, page_tokens: u32) -> Self {
        Self {
            page_tokens,
            users: vec![0; count as usize],
            kept: vec![0; count as usize],
            free: (0..count).rev().collect(),
            n_unused: count,
            left: BTreeMap::new(),
            clock: 0,
        }
    }

    /// How many no sequence has; what jobs left gives way.
    pub(super) fn n_free(&self) -> u32 {
        self.n_unused
    }

    /// Pages that it takes to write so many tokens to each of these sequences.
    pub(super) fn needs<'h>(&self, writes: impl Iterator<Item = (&'h Held, u32)>) -> u32 {
        let mut fresh = 0;
        let mut writers: BTreeMap<u32, u32> = BTreeMap::new();
        for (held, n_tok) in writes {
            let all = (held.tokens + n_tok).div_ceil(self.page_tokens);
            fresh += all.saturating_sub(held.pages.len() as u32);
            if let Some(page) = self.shared_end(held) {
                *writers.entry(page).or_default() += 1;
            }
        }
        // The last one that writes to a page may keep it.
        let copies = writers
            .iter()
            .map(|(&page, &n)| n.min(self.users[page as usize] - 1));
        fresh + copies.sum::<u32>()
    }

    /// The page that a sequence shares and would write to next.
    fn shared_end(&self, held: &Held) -> Option<u32> {
        let is_partial = !held.tokens.is_multiple_of(self.page_tokens);
        let last = held.pages.last().copied().filter(|_| is_partial)?;
        (self.users[last as usize] > 1).then_some(last)
    }

    /// Gives a sequence the pages for so many tokens more. `false` and nothing done if they are short.
    pub(super) fn grow(&mut self, held: &mut Held, n_tok: u32) -> bool {
        if self.needs(std::iter::once((&*held, n_tok))) > self.n_free() {
            return false;
        }
        if let Some(page) = self.shared_end(held) {
            self.users[page as usize] -= 1;
            let own = self.take();
            *held
                .pages
                .last_mut()
                .expect("it has a last page. This is a bug.") = own;
        }
        let all = (held.tokens + n_tok).div_ceil(self.page_tokens) as usize;
        while held.pages.len() < all {
            let page = self.take();
            held.pages.push(page);
        }
        true
    }

    /// Tokens that a sequence can write without another page.
    pub(super) fn room(&self, held: &Held) -> u32 {
        held.pages.len() as u32 * self.page_tokens - held.tokens
    }

    fn take(&mut self) -> u32 {
        while self.free.is_empty() {
            let oldest = self.left.iter().min_by_key(|(_, left)| left.used);
            let (&owner, _) = oldest.expect("it was counted. This is a bug.");
            self.forget(owner);
        }
        let page = self.free.pop().expect("it was counted. This is a bug.");
        self.users[page as usize] = 1;
        self.n_unused -= 1;
        page
    }

    /// A sequence that has the same pages.
    pub(super) fn share(&mut self, held: &Held) -> Held {
        for &page in &held.pages {
            self.n_unused -= u32::from(self.users[page as usize] == 0);
            self.users[page as usize] += 1;
        }
        held.clone()
    }

    /// Takes a sequence's pages back.
    pub(super) fn release(&mut self, held: Held) {
        for page in held.pages {
            self.users[page as usize] -= 1;
            if self.users[page as usize] == 0 {
                self.n_unused += 1;
                if self.kept[page as usize] == 0 {
                    self.free.push(page);
                }
            }
        }
    }

    /// Takes a sequence's pages back, and keeps what is in them for its owner's next job.
    pub(super) fn leave(&mut self, owner: OwnerId, job: JobId, held: Held) {
        let whole = (held.tokens / self.page_tokens) as usize;
        let pages: Vec<u32> = held.pages.iter().copied().take(whole).collect();
        for &page in &pages {
            self.kept[page as usize] += 1;
        }
        self.forget(owner);
        self.clock += 1;
        let used = self.clock;
        self.left.insert(owner, Left { job, pages, used });
        self.release(held);
    }

    /// The job of which something is left for an owner.
    pub(super) fn left_by(&self, owner: OwnerId) -> Option<JobId> {
        self.left.get(&owner).map(|left| left.job)
    }

    /// A sequence that begins with what is left for an owner, with so many tokens of it at most.
    pub(super) fn find(&mut self, owner: OwnerId, tokens: u32) -> Held {
        let Some(left) = self.left.get_mut(&owner) else {
            return Held::default();
        };
        self.clock += 1;
        left.used = self.clock;
        let whole = (tokens / self.page_tokens) as usize;
        let pages: Vec<u32> = left.pages.iter().copied().take(whole).collect();
        let tokens = pages.len() as u32 * self.page_tokens;
        self.share(&Held { pages, tokens })
    }

    fn forget(&mut self, owner: OwnerId) {
        let left = self.left.remove(&owner);
        for page in left.into_iter().flat_map(|left| left.pages) {
            self.kept[page as usize] -= 1;
            if self.kept[page as usize] == 0 && self.users[page as usize] == 0 {
                self.free.push(page);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_pages_are_copied_when_they_are_written_to() {
        let mut pages = Pages::new(6, 4);
        let mut one = Held::default();
        assert!(pages.grow(&mut one, 6));
        one.tokens = 6;
        let mut two = pages.share(&one);
        let mut three = pages.share(&one);
        assert_eq!(pages.n_free(), 4);
        let all = [(&one, 1), (&two, 1), (&three, 1)];
        assert_eq!(pages.needs(all.into_iter()), 2, "the last one keeps it");
        assert!(pages.grow(&mut one, 1) && pages.grow(&mut two, 1) && pages.grow(&mut three, 1));
        assert_eq!(pages.n_free(), 2);
        two.tokens = 7;
        assert!(!pages.grow(&mut two, 10), "three more are not there");
        assert_eq!(pages.n_free(), 2, "nothing was done");
        for held in [one, two, three] {
            pages.release(held);
        }
        assert_eq!(pages.n_free(), 6);
    }

    #[test]
    fn what_a_job_left_is_found_until_its_pages_are_needed() {
        let mut pages = Pages::new(6, 4);
        let leave = |pages: &mut Pages, owner, tokens| {
            let mut held = Held::default();
            assert!(pages.grow(&mut held, tokens));
            held.tokens = tokens;
            pages.leave(OwnerId(owner), JobId(owner.into()), held);
        };
        leave(&mut pages, 1, 10);
        leave(&mut pages, 2, 8);
        assert_eq!(pages.n_free(), 6, "what is left gives way");
        assert_eq!(pages.left_by(OwnerId(1)), Some(JobId(1)));
        let found = pages.find(OwnerId(1), 9);
        assert_eq!(found.tokens, 8, "whole pages");
        assert_eq!(pages.n_free(), 4);
        let mut other = Held::default();
        assert!(!pages.grow(&mut other, 17), "what is in use stays");
        assert!(pages.grow(&mut other, 16));
        assert_eq!(pages.left_by(OwnerId(2)), None, "the oldest gave way");
        pages.release(other);
        pages.release(found);
        assert_eq!(pages.n_free(), 6);
        assert_eq!(pages.find(OwnerId(1), 4).tokens, 4);
        assert_eq!(pages.find(OwnerId(3), 4).tokens, 0);
    }
}
