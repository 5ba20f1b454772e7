//! What a prefix cache holds, kept in host memory or in a file while its model is away.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use troika_base::Bytes;
use troika_device::{PAGE_TOKENS, f16};

use super::{Children, Namespace, Node, NodeId, Parent, PrefixCache};
use crate::kv_cache;
use crate::kv_file::{self, KvError, Origin, Page};
use crate::{Error, Fingerprint, Model, Sequence};

/// Pages of a prefix cache outside of it, the worthiest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Spilled {
    origin: Origin,
    pages: Vec<Page>,
}

impl Spilled {
    /// Pages that are kept.
    pub fn n_page(&self) -> usize {
        self.pages.len()
    }

    /// Memory that they take.
    pub fn bytes(&self) -> Bytes {
        let of_page = |page: &Page| size_of_val(&*page.values) + size_of_val(&*page.tokens);
        Bytes(self.pages.iter().map(of_page).sum::<usize>() as u64)
    }

    /// Writes them to the model's file in a directory, in place of what was spilled there of this model before.
    ///
    /// # Errors
    /// If that fails.
    pub fn save(&self, dir: &Path) -> Result<(), KvError> {
        kv_file::write(
            &path(dir, self.origin.fingerprint),
            &self.origin,
            &self.pages,
        )
    }

    /// Reads the model's file in a directory, up to `budget` of it; `None` if there is no such file.
    ///
    /// # Errors
    /// If it is damaged, or cannot be read. Nothing of it is used then.
    pub fn open(dir: &Path, model: &Model, budget: Bytes) -> Result<Option<Self>, KvError> {
        let origin = model.origin();
        match kv_file::read(&path(dir, origin.fingerprint), &origin, budget) {
            Ok(pages) => Ok(Some(Self { origin, pages })),
            Err(KvError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Where a model's pages are kept.
fn path(dir: &Path, fingerprint: Fingerprint) -> PathBuf {
    dir.join(format!("{fingerprint}.kv"))
}

impl PrefixCache {
    /// Copies the worthiest pages to host memory, up to `budget` of it: those whose text was used last, and of each text
    /// its beginning first, so that what is kept is always the beginning of something. Every page saves the reading of
    /// as many tokens, and takes as many bytes. The cache stays as it is.
    ///
    /// # Errors
    /// If the device fails.
    pub fn spill(&self, model: &mut Model, budget: Bytes) -> Result<Spilled, Error> {
        let origin = model.origin();
        let of_page =
            origin.values(PAGE_TOKENS) * size_of::<f16>() + PAGE_TOKENS * size_of::<u32>();
        let most = usize::try_from(budget.0 / of_page as u64).unwrap_or(usize::MAX);
        let mut pages: Vec<Page> = Vec::new();
        let mut places = vec![None; self.nodes.capacity()];
        for (id, namespace) in self.by_worth().into_iter().take(most) {
            let node = &self.nodes[id];
            let parent = match node.parent {
                // A text's beginning was used when its end was, and so stands before it.
                Parent::Node(parent) => places[parent],
                Parent::Namespace(_) => None,
            };
            let mut values = vec![f16::ZERO; origin.values(PAGE_TOKENS)];
            model.read_kv(&[node.page.index()], 0..PAGE_TOKENS, &mut values)?;
            places[id] = Some(pages.len());
            pages.push(Page {
                namespace: namespace.0,
                parent,
                tokens: node.tokens.to_vec(),
                values,
            });
        }
        Ok(Spilled { origin, pages })
    }

    /// Brings back what was spilled, as far as the model's cache has free pages, and keeps it as if it had been used
    /// in the same order as before. What the cache has already, stays. Returns how many pages came back.
    ///
    /// # Errors
    /// If it is of another model, or the device fails; what came back until then is kept.
    pub fn restore(&mut self, model: &mut Model, spilled: &Spilled) -> Result<usize, Error> {
        if spilled.origin != model.origin() {
            return Err(KvError::OtherModel.into());
        }
        let mut nodes: Vec<NodeId> = Vec::new();
        let mut restored = 0;
        let mut result = Ok(());
        for page in &spilled.pages {
            let parent = match page.parent {
                Some(parent) => Parent::Node(nodes[parent]),
                None => Parent::Namespace(Namespace(page.namespace)),
            };
            // Where a sequence ended in the midst of a page, there is no page to share.
            let Ok(tokens) = <&[_; PAGE_TOKENS]>::try_from(&page.tokens[..]) else {
                break;
            };
            if let Some(&id) = self.children(parent).and_then(|c| c.get(&tokens[..])) {
                nodes.push(id);
                continue;
            }
            match page_of(model, page) {
                Ok(page) => {
                    // A time of its own until its text is touched.
                    self.clock += 1;
                    nodes.push(self.grow(parent, tokens, &page));
                    restored += 1;
                }
                Err(Error::CacheFull { .. }) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.touch_in_turn(&nodes);
        result.map(|()| restored)
    }

    /// All nodes with their namespaces: the last used first, and of those used at once, which are one text, the beginning
    /// first.
    fn by_worth(&self) -> Vec<(NodeId, Namespace)> {
        let mut found = Vec::with_capacity(self.nodes.len());
        let mut open: Vec<(usize, Namespace, &Children)> = self
            .trees
            .iter()
            .map(|(&namespace, children)| (0, namespace, children))
            .collect();
        while let Some((depth, namespace, children)) = open.pop() {
            for &id in children.values() {
                let node: &Node = &self.nodes[id];
                found.push((Reverse(node.used), depth, id, namespace));
                open.push((depth + 1, namespace, &node.children));
            }
        }
        found.sort_unstable_by_key(|&(used, depth, id, _)| (used, depth, id));
        let node = |(_, _, id, namespace)| (id, namespace);
        found.into_iter().map(node).collect()
    }

    /// Uses texts again whose nodes stand in order of their worth, so that the worthiest is used last.
    fn touch_in_turn(&mut self, nodes: &[NodeId]) {
        for &leaf in nodes.iter().rev() {
            if !self.nodes[leaf].children.is_empty() {
                continue;
            }
            let mut path = vec![leaf];
            while let Parent::Node(parent) = self.nodes[path[path.len() - 1]].parent {
                path.push(parent);
            }
            self.touch(&path);
        }
    }
}

/// A page of the model's cache with this content.
fn page_of(model: &mut Model, page: &Page) -> Result<kv_cache::Page, Error> {
    let mut sequence = Sequence::default();
    model.append(&mut sequence, &page.tokens, &page.values)?;
    let (_, page) = sequence
        .full_pages()
        .next()
        .expect("of a whole page's tokens. This is a bug.");
    Ok(page.clone())
}
