//! What earlier texts left in the KV cache, found again by their tokens.
//!
//! A tree over pages: a node is one full page, and the path to it is the text before it. The tree only owns pages, as a
//! [`Sequence`] does; what is in them, and when they are free, is none of its business. Each namespace has a tree of its
//! own, so that nobody learns from the time an answer takes what somebody else has asked. The nodes stand in one list
//! and name each other by number: no walk, and no drop, is deeper on the stack for a longer text.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use slab::Slab;
use troika_base::TokenId;
use troika_device::PAGE_TOKENS;

use crate::kv_cache::{KvCache, Page, pages_wanted};
use crate::{Model, Sequence};

mod spill;

pub use spill::Spilled;

type Block = [TokenId; PAGE_TOKENS];
type NodeId = usize;
/// By the tokens of their pages. Ordered rather than hashed: tokens come from outside, and nobody can make an order slow;
/// and what begins alike stands side by side.
type Children = BTreeMap<Arc<[TokenId]>, NodeId>;

/// Pages of one model's KV cache that are kept for texts with the same beginning.
///
/// Kept pages are not free: whoever runs out of pages [evicts](Self::evict) some.
#[derive(Debug, Default)]
pub struct PrefixCache {
    nodes: Slab<Node>,
    /// First pages; a namespace without any is not listed.
    trees: BTreeMap<Namespace, Children>,
    /// Nodes without children by their last use, the oldest first. A use passes along one path from the root, and a path
    /// ends in one leaf: so no two leaves were used last at the same time.
    leaves: BTreeMap<u64, NodeId>,
    /// Uses so far.
    clock: u64,
    hit_tokens: u64,
    miss_tokens: u64,
}

#[derive(Debug)]
struct Node {
    tokens: Arc<[TokenId]>,
    page: Page,
    parent: Parent,
    children: Children,
    /// The last use of it or of a node below.
    used: u64,
}

/// A digest of a namespace's name: names, which may be those of keys, are not kept, and so never spilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Namespace([u8; 32]);

impl Namespace {
    fn of(name: &str) -> Self {
        let hash = Sha256::new_with_prefix("troika namespace\n");
        Self(hash.chain_update(name).finalize().into())
    }
}

#[derive(Clone, Copy, Debug)]
enum Parent {
    Namespace(Namespace),
    Node(NodeId),
}

impl PrefixCache {
    /// The longest beginning of `tokens` that the namespace has, in whole pages, which the sequence shares. The last
    /// token is never in it: somebody wants to know what comes after.
    pub fn lookup(&mut self, namespace: &str, tokens: &[TokenId]) -> Sequence {
        let path = self.walk(
            Namespace::of(namespace),
            all_but_the_last(tokens).as_chunks::<PAGE_TOKENS>().0,
        );
        self.lend(&path, path.len() * PAGE_TOKENS, tokens.len())
    }

    /// As [`Self::lookup`], to the token: of a page that begins as `tokens` go on, the sequence shares the beginning, and
    /// its next step copies the page, which is far less work than to compute it. Until then it may hold one page more
    /// than its tokens need, which [`Self::make_room`] knows and [`Self::evict`] does not.
    pub fn lookup_closest(&mut self, namespace: &str, tokens: &[TokenId]) -> Sequence {
        let (path, n_tok) = self.closest(Namespace::of(namespace), all_but_the_last(tokens));
        self.lend(&path, n_tok, tokens.len())
    }

    /// Keeps the full pages of a sequence over the same model. Where the namespace has the same tokens already, its own
    /// page stays.
    pub fn insert(&mut self, namespace: &str, sequence: &Sequence) {
        let namespace = Namespace::of(namespace);
        let path = self.walk(namespace, sequence.full_pages().map(|(tokens, _)| tokens));
        self.touch(&path);
        let mut parent = match path.last() {
            Some(&id) => Parent::Node(id),
            None => Parent::Namespace(namespace),
        };
        for (tokens, page) in sequence.full_pages().skip(path.len()) {
            parent = Parent::Node(self.grow(parent, tokens, page));
        }
    }

    /// Lets go of up to `n_page` pages that nobody else owns, those first whose text was used longest ago, and of each
    /// text its end first. Returns how many are free now that were not.
    pub fn evict(&mut self, n_page: usize) -> usize {
        let mut evicted = 0;
        let mut oldest = 0;
        while evicted < n_page {
            let Some((&used, &id)) = self.leaves.range(oldest..).next() else {
                break;
            };
            if self.nodes[id].page.is_shared() {
                // Of a running sequence there is one such leaf at most, so there are few to pass over.
                oldest = used + 1;
            } else {
                // Its parent may be the next to go: it was used at this time or later.
                oldest = used;
                self.remove(id);
                evicted += 1;
            }
        }
        evicted
    }

    /// Evicts what a step over `model` lacks that adds so many tokens to these sequences. Whether there is room now; if
    /// not, sequences have to end first.
    pub fn make_room(&mut self, model: &Model, steps: &[(&Sequence, usize)]) -> bool {
        self.make_room_in(model.kv_cache(), steps)
    }

    fn make_room_in(&mut self, kv: &KvCache, steps: &[(&Sequence, usize)]) -> bool {
        let lacking = || pages_wanted(steps.iter().copied()).saturating_sub(kv.n_free());
        self.evict(lacking());
        for &(sequence, n_tok) in steps {
            if lacking() == 0 {
                break;
            }
            // A page that nobody but the sequence and this cache own need not be copied if it is given up here.
            if let Some(page) = sequence.page_written_next(n_tok) {
                self.give_up(page);
            }
        }
        lacking() == 0
    }

    /// How many pages [`Self::evict`] could free: those that nobody else owns, and whose text nobody else owns farther
    /// on. Looks at every page.
    pub fn evictable(&self) -> usize {
        let mut is_held = vec![false; self.nodes.capacity()];
        let mut held = 0;
        for (mut id, node) in &self.nodes {
            if !node.page.is_shared() {
                continue;
            }
            while !std::mem::replace(&mut is_held[id], true) {
                held += 1;
                match self.nodes[id].parent {
                    Parent::Node(parent) => id = parent,
                    Parent::Namespace(_) => break,
                }
            }
        }
        self.n_page() - held
    }

    /// Pages that are kept.
    pub fn n_page(&self) -> usize {
        self.nodes.len()
    }

    /// Tokens that were looked up and found, ever.
    pub fn hit_tokens(&self) -> u64 {
        self.hit_tokens
    }

    /// Tokens that were looked up and not found, ever.
    pub fn miss_tokens(&self) -> u64 {
        self.miss_tokens
    }

    /// Lets go of all pages. The counts of tokens go on.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.trees.clear();
        self.leaves.clear();
    }

    /// The nodes that hold these tokens, as far as there are any.
    fn walk<'b>(
        &self,
        namespace: Namespace,
        blocks: impl IntoIterator<Item = &'b Block>,
    ) -> Vec<NodeId> {
        let mut path = Vec::new();
        let Some(mut children) = self.trees.get(&namespace) else {
            return path;
        };
        for block in blocks {
            let Some(&id) = children.get(&block[..]) else {
                break;
            };
            path.push(id);
            children = &self.nodes[id].children;
        }
        path
    }

    /// The nodes that hold the longest beginning of `tokens`, and how long it is. Of the last node's page, it may be a
    /// part.
    fn closest(&self, namespace: Namespace, tokens: &[TokenId]) -> (Vec<NodeId>, usize) {
        let mut path = self.walk(namespace, tokens.as_chunks::<PAGE_TOKENS>().0);
        let n_tok = path.len() * PAGE_TOKENS;
        let rest = &tokens[n_tok..];
        let last = path.last().map(|&id| Parent::Node(id));
        let children = self.children(last.unwrap_or(Parent::Namespace(namespace)));
        // In order, no text has more in common with `rest` than the one before it or the one after.
        let neighbours = children.into_iter().flat_map(|children| {
            let before = children.range::<[TokenId], _>((Unbounded, Included(rest)));
            let after = children.range::<[TokenId], _>((Included(rest), Unbounded));
            before.rev().take(1).chain(after.take(1))
        });
        let common =
            |tokens: &[TokenId]| rest.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let best = neighbours
            .map(|(tokens, &id)| (common(tokens), id))
            .max_by_key(|&(common, _)| common);
        match best {
            Some((common, id)) if common > 0 => {
                path.push(id);
                (path, n_tok + common)
            }
            _ => (path, n_tok),
        }
    }

    /// A sequence over the first `n_tok` tokens of a path, for a text of `asked` tokens.
    fn lend(&mut self, path: &[NodeId], n_tok: usize, asked: usize) -> Sequence {
        self.touch(path);
        let mut sequence = Sequence::default();
        for &id in path {
            let node = &self.nodes[id];
            let in_page = PAGE_TOKENS.min(n_tok - sequence.tokens().len());
            sequence.share(&node.tokens[..in_page], node.page.clone());
        }
        self.hit_tokens += n_tok as u64;
        self.miss_tokens += (asked - n_tok) as u64;
        sequence
    }

    /// Takes note that a path was used.
    fn touch(&mut self, path: &[NodeId]) {
        self.clock += 1;
        for &id in path {
            let node = &mut self.nodes[id];
            let used = std::mem::replace(&mut node.used, self.clock);
            if node.children.is_empty() {
                self.leaves.remove(&used);
                self.leaves.insert(self.clock, id);
            }
        }
    }

    /// The pages that may follow.
    fn children(&self, parent: Parent) -> Option<&Children> {
        match parent {
            Parent::Namespace(namespace) => self.trees.get(&namespace),
            Parent::Node(id) => Some(&self.nodes[id].children),
        }
    }

    /// Adds a leaf.
    fn grow(&mut self, parent: Parent, tokens: &Block, page: &Page) -> NodeId {
        let tokens: Arc<[TokenId]> = Arc::from(&tokens[..]);
        let id = self.nodes.insert(Node {
            tokens: Arc::clone(&tokens),
            page: page.clone(),
            parent,
            children: Children::new(),
            used: self.clock,
        });
        match parent {
            Parent::Namespace(namespace) => {
                self.trees.entry(namespace).or_default().insert(tokens, id);
            }
            Parent::Node(parent) => {
                let parent = &mut self.nodes[parent];
                if parent.children.is_empty() {
                    self.leaves.remove(&parent.used);
                }
                parent.children.insert(tokens, id);
            }
        }
        self.leaves.insert(self.clock, id);
        id
    }

    /// Lets go of a page if it is the last of a text.
    fn give_up(&mut self, page: &Page) {
        let found = self.nodes.iter().find(|(_, node)| node.page.is(page));
        if let Some((id, _)) = found.filter(|(_, node)| node.children.is_empty()) {
            self.remove(id);
        }
    }

    /// Takes a leaf away.
    fn remove(&mut self, id: NodeId) {
        let node = self.nodes.remove(id);
        self.leaves.remove(&node.used);
        match node.parent {
            Parent::Namespace(namespace) => {
                let tree = self
                    .trees
                    .get_mut(&namespace)
                    .expect("has had a node. This is a bug.");
                tree.remove(&node.tokens);
                if tree.is_empty() {
                    self.trees.remove(&namespace);
                }
            }
            Parent::Node(id) => {
                let parent = &mut self.nodes[id];
                parent.children.remove(&node.tokens);
                if parent.children.is_empty() {
                    self.leaves.insert(parent.used, id);
                }
            }
        }
    }
}

/// The last token's logits are wanted, so that it is always computed.
fn all_but_the_last(tokens: &[TokenId]) -> &[TokenId] {
    &tokens[..tokens.len().saturating_sub(1)]
}

#[cfg(test)]
mod tests;
