//! Responses that were given, so that later requests can go on from them: in memory, bounded, each key's its own.
//!
//! A response holds the items that it added and refers to the one before it, so a long conversation is kept once,
//! however many of its responses are. The bound holds for what is in memory: an item counts until the last response
//! that needs it is gone. What was used longest ago goes first, whoever's it is. Nothing survives the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::item::Item;
use super::object::Object;

/// What the store holds at most.
#[derive(Clone, Copy, Debug)]
struct Limits {
    responses: usize,
    bytes: usize,
}

/// A conversation of 100,000 tokens is about half a MiB of text.
const LIMITS: Limits = Limits {
    responses: 10_000,
    bytes: 128 << 20,
};

/// All stored responses.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    entries: Arc<Mutex<Entries>>,
    /// Of all that is in memory, whether it can still be found or only a later response needs it.
    bytes: Arc<AtomicUsize>,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: BTreeMap<String, Entry>,
    /// Ids by the time of their last use.
    by_use: BTreeMap<u64, String>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    owner: Option<String>,
    stored: Arc<Stored>,
    used: u64,
}

/// A response and the conversation that led to it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) object: Object,
    pub(super) turn: Arc<Turn>,
    _charge: Charge,
}

/// What one response added to a conversation.
#[derive(Debug)]
pub(super) struct Turn {
    previous: Option<Arc<Self>>,
    /// What the client sent.
    input: Vec<Arc<Item>>,
    /// What the model answered.
    output: Vec<Arc<Item>>,
    /// Whether this turn, or one before it, must not leave this machine: what goes on from it must not either.
    local_only: bool,
    _charge: Charge,
}

/// Bytes in memory, until it is dropped.
#[derive(Debug)]
struct Charge {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(LIMITS)
    }
}

impl Store {
    fn new(limits: Limits) -> Self {
        Self {
            entries: Arc::default(),
            bytes: Arc::default(),
            limits,
        }
    }

    /// Keeps a response under its id.
    pub(super) fn put(
        &self,
        owner: Option<String>,
        object: Object,
        input: Vec<Arc<Item>>,
        previous: Option<Arc<Turn>>,
        local_only: bool,
    ) {
        let output = object.output.clone();
        let items_bytes = input.iter().chain(&output).map(|item| item.bytes()).sum();
        let turn = Arc::new(Turn {
            previous,
            input,
            output,
            local_only,
            _charge: self.charge(items_bytes),
        });
        let stored = Arc::new(Stored {
            _charge: self.charge(object.bytes()),
            object,
            turn,
        });
        let mut entries = self.lock();
        entries.insert(owner, stored);
        while entries.by_id.len() > self.limits.responses
            || self.bytes.load(Ordering::Relaxed) > self.limits.bytes
        {
            if !entries.forget_oldest() {
                break;
            }
        }
    }

    /// A response, if there is one of this id and it is this caller's.
    pub(super) fn get(&self, owner: Option<&str>, id: &str) -> Option<Arc<Stored>> {
        self.lock().get(owner, id)
    }

    /// Forgets a response. Those that follow it keep what they need of it.
    pub(super) fn remove(&self, owner: Option<&str>, id: &str) -> bool {
        let mut entries = self.lock();
        let known = entries
            .by_id
            .get(id)
            .is_some_and(|e| e.owner.as_deref() == owner);
        known && entries.forget(id)
    }

    /// Items of this caller's responses, by their ids, and whether each must not leave this machine.
    pub(super) fn items(
        &self,
        owner: Option<&str>,
        wanted: &BTreeSet<&str>,
    ) -> BTreeMap<String, (Arc<Item>, bool)> {
        let entries = self.lock();
        let own = entries
            .by_id
            .values()
            .filter(|e| e.owner.as_deref() == owner);
        let turns = own.map(|entry| &entry.stored.turn);
        turns
            .flat_map(|turn| turn.own().map(|item| (item, turn.local_only)))
            .filter(|(item, _)| wanted.contains(&*item.id))
            .map(|(item, local_only)| (item.id.clone(), (Arc::clone(item), local_only)))
            .collect()
    }

    fn charge(&self, bytes: usize) -> Charge {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let total = Arc::clone(&self.bytes);
        Charge { bytes, total }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Every method leaves the two maps in agreement before anything can panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn insert(&mut self, owner: Option<String>, stored: Arc<Stored>) {
        self.clock += 1;
        let (id, used) = (stored.object.id.clone(), self.clock);
        self.by_use.insert(used, id.clone());
        let entry = Entry {
            owner,
            stored,
            used,
        };
        self.by_id.insert(id, entry);
    }

    fn get(&mut self, owner: Option<&str>, id: &str) -> Option<Arc<Stored>> {
        let entry = self.by_id.get_mut(id)?;
        if entry.owner.as_deref() != owner {
            return None;
        }
        self.clock += 1;
        self.by_use.remove(&entry.used);
        self.by_use.insert(self.clock, id.to_owned());
        entry.used = self.clock;
        Some(Arc::clone(&entry.stored))
    }

    fn forget(&mut self, id: &str) -> bool {
        let entry = self.by_id.remove(id);
        if let Some(entry) = &entry {
            self.by_use.remove(&entry.used);
        }
        entry.is_some()
    }

    fn forget_oldest(&mut self) -> bool {
        match self.by_use.pop_first() {
            Some((_, id)) => self.by_id.remove(&id).is_some(),
            None => false,
        }
    }
}

impl Turn {
    /// Whether what goes on from it must not leave this machine.
    pub(super) fn local_only(&self) -> bool {
        self.local_only
    }

    /// All items of the conversation up to here, this turn's answer included, oldest first.
    pub(super) fn items(&self) -> Vec<Arc<Item>> {
        let mut items = self.input_items();
        items.extend(self.output.iter().map(Arc::clone));
        items
    }

    /// All items that this turn's answer was made from, oldest first.
    pub(super) fn input_items(&self) -> Vec<Arc<Item>> {
        let mut turns = Vec::new();
        let mut earlier = self.previous.as_deref();
        while let Some(turn) = earlier {
            turns.push(turn);
            earlier = turn.previous.as_deref();
        }
        let before = turns.into_iter().rev().flat_map(Self::own);
        before.chain(&self.input).map(Arc::clone).collect()
    }

    fn own(&self) -> impl Iterator<Item = &Arc<Item>> {
        self.input.iter().chain(&self.output)
    }
}

impl Drop for Turn {
    /// One after the other: dropped in each other, a long chain of turns would overflow the stack.
    fn drop(&mut self) {
        let mut next = self.previous.take();
        while let Some(mut turn) = next.and_then(Arc::into_inner) {
            next = turn.previous.take();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::{Kind, Status, TextPart};
    use super::*;

    fn item(id: &str, text: &str) -> Arc<Item> {
        let text = text.to_owned();
        let part = TextPart {
            text,
            ..TextPart::default()
        };
        Arc::new(Item {
            id: id.to_owned(),
            status: Status::Completed,
            kind: Kind::Message {
                role: "user".to_owned(),
                parts: vec![part],
            },
        })
    }

    /// Keeps a response that was asked `text`; returns its turn.
    fn put(
        store: &Store,
        owner: &str,
        id: &str,
        text: &str,
        after: Option<Arc<Turn>>,
    ) -> Arc<Turn> {
        let object = Object {
            id: id.to_owned(),
            ..Object::default()
        };
        let owner = Some(owner.to_owned());
        store.put(
            owner.clone(),
            object,
            vec![item(&format!("m{id}"), text)],
            after,
            false,
        );
        Arc::clone(&store.get(owner.as_deref(), id).expect("kept").turn)
    }

    fn bytes(store: &Store) -> usize {
        store.bytes.load(Ordering::Relaxed)
    }

    #[test]
    fn a_key_never_sees_anothers() {
        let store = Store::default();
        put(&store, "a", "r1", "secret", None);
        assert!(store.get(Some("a"), "r1").is_some());
        for other in [Some("b"), None] {
            assert!(store.get(other, "r1").is_none());
            assert!(!store.remove(other, "r1"));
            assert!(store.items(other, &["mr1"].into()).is_empty());
        }
        assert_eq!(store.items(Some("a"), &["mr1", "mr2"].into()).len(), 1);
        assert!(store.remove(Some("a"), "r1"));
        assert!(!store.remove(Some("a"), "r1"));
        assert_eq!(bytes(&store), 0);
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let limits = Limits {
            responses: 2,
            bytes: usize::MAX,
        };
        let store = Store::new(limits);
        put(&store, "a", "r1", "", None);
        put(&store, "a", "r2", "", None);
        store.get(Some("a"), "r1");
        put(&store, "b", "r3", "", None);
        assert!(store.get(Some("a"), "r1").is_some());
        assert!(store.get(Some("a"), "r2").is_none());
        assert!(store.get(Some("b"), "r3").is_some());
        let entries = store.lock();
        assert_eq!(entries.by_id.len(), entries.by_use.len());
    }

    #[test]
    fn turns_are_shared_and_counted_until_nobody_needs_them() {
        let store = Store::default();
        let text = "x".repeat(10_000);
        let first = put(&store, "a", "r1", &text, None);
        let one = bytes(&store);
        let second = put(&store, "a", "r2", "y", Some(first));
        assert!(bytes(&store) < one + 5_000, "the first turn is not copied");
        assert_eq!(second.items().len(), 2);
        assert_eq!(second.items()[0].id, "mr1");
        store.remove(Some("a"), "r1");
        assert!(bytes(&store) > 10_000, "the second turn needs it");
        drop(second);
        store.remove(Some("a"), "r2");
        assert_eq!(bytes(&store), 0);
    }

    #[test]
    fn memory_is_bounded_for_one_conversation_too() {
        let limits = Limits {
            responses: usize::MAX,
            bytes: 100_000,
        };
        let store = Store::new(limits);
        let text = "x".repeat(10_000);
        let mut last: Option<Arc<Turn>> = None;
        for i in 0..50 {
            let object = Object {
                id: format!("r{i}"),
                ..Object::default()
            };
            store.put(None, object, vec![item("m", &text)], last.take(), false);
            last = store
                .get(None, &format!("r{i}"))
                .map(|s| Arc::clone(&s.turn));
            assert!(last.is_none() || bytes(&store) <= 100_000);
        }
        drop(last);
        assert!(bytes(&store) <= 100_000);
    }

    #[test]
    fn a_very_long_chain_is_dropped_without_a_deep_stack() {
        let store = Store::default();
        let mut last = None;
        for _ in 0..200_000 {
            last = Some(Arc::new(Turn {
                previous: last,
                input: Vec::new(),
                output: Vec::new(),
                local_only: false,
                _charge: store.charge(1),
            }));
        }
        assert_eq!(last.as_ref().map(|turn| turn.items().len()), Some(0));
        drop(last);
        assert_eq!(bytes(&store), 0);
    }
}
