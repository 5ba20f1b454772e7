//! Merging neighbours, best first: the loop that SentencePiece and byte-pair encoding share.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use troika_base::TokenId;

/// A stretch of text: a token, or a character that is none.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    /// First byte.
    start: u32,
    /// Bytes; 0 once it is merged into the symbol before it.
    len: u32,
    pub(super) id: Option<TokenId>,
    /// What it and the next symbol become.
    merge: Option<Merge>,
    prev: u32,
    next: u32,
}

impl Symbol {
    /// Its place in the text that the symbols are of.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// What two neighbours become.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Merge {
    /// Lower ranks merge first, and equal ranks from left to right.
    pub(super) rank: u32,
    pub(super) id: TokenId,
}

/// No symbol.
const END: u32 = u32::MAX;

/// The symbols of one word, with the memory for them kept from word to word.
///
/// `n` symbols take `O(n log n)`: each merge leaves one symbol less and queues two at most.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    /// Rank and index of symbols that may merge with the next one, packed so that the order of the numbers is theirs.
    /// An entry is void once its symbol's `merge` has another rank.
    queue: BinaryHeap<Reverse<u64>>,
}

impl Merger {
    /// The longest text that symbols can tell the bytes of.
    pub(super) const TEXT_BYTES_MAX: usize = (u32::MAX / 2) as usize;

    /// Starts a word.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.queue.clear();
    }

    /// Appends a symbol of `len` bytes, which is at least 1, right after the last one.
    pub(super) fn push(&mut self, len: usize, id: Option<TokenId>) {
        let index = self.symbols.len() as u32;
        let mut start = 0;
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
            start = last.start + last.len;
        }
        self.symbols.push(Symbol {
            start,
            len: len as u32,
            id,
            merge: None,
            prev: index.checked_sub(1).unwrap_or(END),
            next: END,
        });
    }

    /// Merges until nothing merges. `find` says what a left and a right neighbour become.
    pub(super) fn run(&mut self, find: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        for index in 0..self.symbols.len() as u32 {
            self.consider(index, &find);
        }
        while let Some(Reverse(entry)) = self.queue.pop() {
            let (rank, index) = ((entry >> 32) as u32, entry as u32);
            let left = self.symbols[index as usize];
            let Some(merge) = left.merge.filter(|merge| merge.rank == rank) else {
                continue;
            };
            let right = &mut self.symbols[left.next as usize];
            let (len, next) = (left.len + right.len, right.next);
            right.len = 0;
            right.merge = None;
            if next != END {
                self.symbols[next as usize].prev = index;
            }
            let left = &mut self.symbols[index as usize];
            (left.len, left.id, left.next) = (len, Some(merge.id), next);
            let prev = left.prev;
            self.consider(index, &find);
            if prev != END {
                self.consider(prev, &find);
            }
        }
    }

    /// Looks at a symbol and the next one, which are new neighbours.
    fn consider(&mut self, index: u32, find: &impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        let left = &self.symbols[index as usize];
        let right = self.symbols.get(left.next as usize);
        let merge = right.and_then(|right| find(left, right));
        self.symbols[index as usize].merge = merge;
        if let Some(merge) = merge {
            self.queue
                .push(Reverse(u64::from(merge.rank) << 32 | u64::from(index)));
        }
    }

    /// What is left, in order.
    pub(super) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| symbol.len > 0)
    }
}
