//! The tree against a list of texts, and against the KV cache's account of its pages.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::Error;
use crate::kv_cache::KvCache;

/// Tokens that the blocks of `a` and `b` have in common.
const ALIKE: usize = 10;

/// A text of one block for each letter. The blocks of `a` and `b` begin alike.
fn text(letters: &str) -> Vec<TokenId> {
    let token = |letter: u8, i| match letter {
        b'a' | b'b' if i < ALIKE => TokenId(1),
        letter => TokenId(u32::from(letter) + (i % 3) as u32),
    };
    let block = |letter| (0..PAGE_TOKENS).map(move |i| token(letter, i));
    letters.bytes().flat_map(block).collect()
}

/// Goes on as a running request would: pages are reserved, written, and evicted for if need be.
fn write(
    kv: &KvCache,
    cache: &mut PrefixCache,
    sequence: &mut Sequence,
    tokens: &[TokenId],
) -> bool {
    let reserved = match kv.reserve_all([(&mut *sequence, tokens.len())]) {
        Err(Error::CacheFull { wanted, free }) => {
            cache.evict(wanted - free);
            kv.reserve_all([(&mut *sequence, tokens.len())])
        }
        reserved => reserved,
    };
    if reserved.is_ok() {
        sequence.written(tokens);
    }
    reserved.is_ok()
}

/// A request from beginning to end.
fn request(kv: &KvCache, cache: &mut PrefixCache, namespace: &str, tokens: &[TokenId]) -> Sequence {
    let mut sequence = cache.lookup(namespace, tokens);
    let held = sequence.tokens().len();
    assert!(
        write(kv, cache, &mut sequence, &tokens[held..]),
        "there is room"
    );
    cache.insert(namespace, &sequence);
    sequence
}

#[test]
fn a_text_is_found_in_whole_pages_and_never_whole() {
    let kv = KvCache::new(8);
    let mut cache = PrefixCache::default();
    assert_eq!(cache.lookup("", &[]).tokens(), &[]);
    let abc = request(
        &kv,
        &mut cache,
        "",
        &[text("abc"), text("d")[..9].to_vec()].concat(),
    );
    assert_eq!((cache.n_page(), kv.n_free()), (3, 4));
    for (letters, extra, want) in [
        ("abc", 1, 3),
        // The last token's logits are wanted.
        ("abc", 0, 2),
        ("abd", 5, 2),
        ("ab", 31, 2),
        ("bc", 1, 0),
        ("", 20, 0),
    ] {
        let asked = [text(letters), vec![TokenId(7); extra]].concat();
        let found = cache.lookup("", &asked);
        assert_eq!(
            found.tokens(),
            &text("abc")[..want * PAGE_TOKENS],
            "{letters} {extra}"
        );
        assert_eq!(found.pages(), abc.pages()[..want], "{letters} {extra}");
    }
    assert_eq!(kv.n_free(), 4, "sharing takes nothing");
    drop(abc);
    assert_eq!(kv.n_free(), 5, "the page that was not full is free");
    cache.clear();
    assert_eq!((cache.n_page(), kv.n_free()), (0, 8));
}

#[test]
fn tokens_are_counted() {
    let kv = KvCache::new(4);
    let mut cache = PrefixCache::default();
    request(&kv, &mut cache, "", &text("ab"));
    assert_eq!((cache.hit_tokens(), cache.miss_tokens()), (0, 64));
    request(&kv, &mut cache, "", &text("abc")[..70]);
    assert_eq!((cache.hit_tokens(), cache.miss_tokens()), (64, 70));
}

#[test]
fn namespaces_are_apart() {
    let kv = KvCache::new(8);
    let mut cache = PrefixCache::default();
    let ours = request(&kv, &mut cache, "ours", &text("ab"));
    assert_eq!(cache.lookup("theirs", &text("abc")).tokens(), &[]);
    assert_eq!(cache.lookup("", &text("abc")).tokens(), &[]);
    let theirs = request(&kv, &mut cache, "theirs", &text("ab"));
    assert_eq!(cache.n_page(), 4);
    assert_eq!(cache.lookup("ours", &text("abc")).pages(), ours.pages());
    assert_eq!(cache.lookup("theirs", &text("abc")).pages(), theirs.pages());
    drop((ours, theirs));
    assert_eq!(cache.evict(9), 4);
    assert!(
        cache.trees.is_empty(),
        "names are forgotten with the last page"
    );
}

#[test]
fn the_text_used_longest_ago_goes_first_and_its_end_before_its_beginning() {
    let kv = KvCache::new(16);
    let mut cache = PrefixCache::default();
    for letters in ["ab", "acd", "x"] {
        request(&kv, &mut cache, "", &text(letters));
    }
    cache.lookup("", &text("abz"));
    let found = |cache: &mut PrefixCache, letters: &str| {
        // A copy, so that looking does not count as use.
        let path = cache.walk(Namespace::of(""), text(letters).as_chunks().0);
        path.len()
    };
    let mut order = Vec::new();
    while cache.evict(1) == 1 {
        order.push(["ab", "acd", "x"].map(|letters| found(&mut cache, letters)));
    }
    let want = [[2, 2, 1], [2, 1, 1], [2, 1, 0], [1, 1, 0], [0, 0, 0]];
    assert_eq!(order, want);
    assert_eq!(kv.n_free(), 16);
}

#[test]
fn what_runs_is_not_evicted() {
    let kv = KvCache::new(8);
    let mut cache = PrefixCache::default();
    let running = request(&kv, &mut cache, "", &text("ab"));
    drop(request(&kv, &mut cache, "", &text("abc")));
    drop(request(&kv, &mut cache, "", &text("axy")));
    assert_eq!((cache.n_page(), cache.evictable()), (5, 3));
    assert_eq!(cache.evict(usize::MAX), 3);
    assert_eq!((cache.n_page(), cache.evictable()), (2, 0));
    drop(running);
    assert_eq!(cache.evictable(), 2);
    assert_eq!(cache.evict(1), 1);
    assert_eq!(cache.lookup("", &text("abc")).tokens(), text("a"));
}

/// Two requests that ran side by side have the same text on different pages; one is kept, and what follows the other
/// goes on from it.
#[test]
fn the_same_text_is_kept_once() {
    let kv = KvCache::new(8);
    let mut cache = PrefixCache::default();
    let mut sequences = [Sequence::default(), Sequence::default()];
    for (sequence, letters) in sequences.iter_mut().zip(["ab", "abc"]) {
        assert!(write(&kv, &mut cache, sequence, &text(letters)));
    }
    let [first, second] = sequences;
    cache.insert("", &first);
    cache.insert("", &second);
    assert_eq!(cache.n_page(), 3);
    let want = [first.pages(), vec![second.pages()[2]]].concat();
    assert_eq!(cache.lookup("", &text("abcd")).pages(), want);
    // The page of the end is in use, and so no page before it can go.
    drop(first);
    assert_eq!((cache.evictable(), cache.evict(9)), (0, 0));
    drop(second);
    assert_eq!((cache.evictable(), cache.evict(9), kv.n_free()), (3, 3, 8));
}

#[test]
fn a_text_that_goes_another_way_shares_the_page_up_to_there() {
    let kv = KvCache::new(8);
    let mut cache = PrefixCache::default();
    let first = request(&kv, &mut cache, "", &text("cba"));
    let tokens = text("caa");
    let mut found = cache.lookup_closest("", &tokens);
    assert_eq!(found.tokens(), &tokens[..PAGE_TOKENS + ALIKE]);
    assert_eq!(found.pages(), first.pages()[..2]);
    assert_eq!(cache.hit_tokens(), found.tokens().len() as u64);
    // The same text once more: all but the last token is there.
    assert_eq!(
        cache.lookup_closest("", &text("cba")).tokens().len(),
        3 * PAGE_TOKENS - 1
    );
    assert_eq!(cache.lookup_closest("theirs", &tokens).tokens(), &[]);

    // It goes on in a copy.
    let rest = tokens[found.tokens().len()..].to_vec();
    assert_eq!(pages_wanted([(&found, rest.len())]), 2);
    assert!(write(&kv, &mut cache, &mut found, &rest));
    assert_eq!((found.pages()[0], kv.n_free()), (first.pages()[0], 3));
    assert!(!first.pages().contains(&found.pages()[1]));
    cache.insert("", &found);
    assert_eq!(
        cache.lookup_closest("", &text("cbaa")).pages(),
        first.pages()
    );
}

/// The text fills the whole cache, so that there is no page for a copy.
#[test]
fn a_page_that_would_be_copied_is_given_up_when_there_is_no_other() {
    let kv = KvCache::new(3);
    let mut cache = PrefixCache::default();
    drop(request(&kv, &mut cache, "", &text("cba")));
    let tokens = text("caa");
    let mut found = cache.lookup_closest("", &tokens);
    let rest = tokens[found.tokens().len()..].to_vec();
    assert_eq!(cache.evict(2), 1, "the page that is lent in part is in use");
    assert!(!write(&kv, &mut cache, &mut found, &rest));
    assert!(cache.make_room_in(&kv, &[(&found, rest.len())]));
    assert!(write(&kv, &mut cache, &mut found, &rest));
    assert_eq!((cache.n_page(), kv.n_free()), (1, 0));
    // A page too many is too many.
    assert!(!cache.make_room_in(&kv, &[(&found, 1)]));
    assert_eq!(cache.n_page(), 1, "what would not help is kept");
    drop(found);
    assert_eq!((cache.evict(9), kv.n_free()), (1, 3));
}

/// On a stack of 64 KiB: nothing walks a text by recursion.
#[test]
fn long_texts_need_no_deep_stack() {
    const N_PAGE: usize = 4096;
    let deep = || {
        let kv = KvCache::new(N_PAGE);
        let mut cache = PrefixCache::default();
        let tokens: Vec<TokenId> = (0..(N_PAGE * PAGE_TOKENS) as u32).map(TokenId).collect();
        drop(request(&kv, &mut cache, "", &tokens));
        assert_eq!(
            cache.lookup("", &tokens).tokens().len(),
            (N_PAGE - 1) * PAGE_TOKENS
        );
        assert_eq!(cache.evictable(), N_PAGE);
        assert_eq!(cache.evict(N_PAGE / 2), N_PAGE / 2);
        assert_eq!(kv.n_free(), N_PAGE / 2);
        drop(cache);
        assert_eq!(kv.n_free(), N_PAGE);
    };
    let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(deep);
    thread.unwrap().join().unwrap();
}

#[derive(Clone, Debug)]
enum Act {
    /// A request with this text, which runs until it is dropped; `bool`: it is inserted.
    Request(usize, String, usize, bool),
    /// The running request at this index, modulo their number, ends.
    End(usize),
    Evict(usize),
    Clear,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let request = (0..2usize, "[abc]{0,5}", 0..PAGE_TOKENS, any::<bool>());
    prop::collection::vec(
        prop_oneof![
            6 => request.prop_map(|(namespace, letters, extra, kept)| {
                Act::Request(namespace, letters, extra, kept)
            }),
            4 => any::<usize>().prop_map(Act::End),
            3 => (0..4usize).prop_map(Act::Evict),
            1 => Just(Act::Clear),
        ],
        1..60,
    )
}

/// A text that is kept, as a list would keep it: every beginning of whole pages on its own.
#[derive(Debug)]
struct Kept {
    namespace: usize,
    letters: String,
    page: usize,
    used: usize,
}

#[derive(Debug, Default)]
struct List(Vec<Kept>);

impl List {
    fn page(&self, namespace: usize, letters: &str) -> Option<usize> {
        let kept = self
            .0
            .iter()
            .find(|kept| kept.namespace == namespace && kept.letters == letters);
        kept.map(|kept| kept.page)
    }

    /// Pages of the longest beginning.
    fn find(&self, namespace: usize, letters: &str) -> Vec<usize> {
        let prefixes = (1..=letters.len()).map(|n| &letters[..n]);
        prefixes
            .map_while(|prefix| self.page(namespace, prefix))
            .collect()
    }

    /// Tokens that `tokens` have in common with any text.
    fn closest(&self, namespace: usize, tokens: &[TokenId]) -> usize {
        let texts = self.0.iter().filter(|kept| kept.namespace == namespace);
        let common = |kept: &Kept| {
            let pairs = text(&kept.letters).into_iter().zip(tokens);
            pairs.take_while(|(a, b)| a == *b).count()
        };
        texts.map(common).max().unwrap_or(0)
    }

    fn touch(&mut self, namespace: usize, letters: &str, now: usize) {
        for kept in &mut self.0 {
            if kept.namespace == namespace && letters.starts_with(&kept.letters) {
                kept.used = now;
            }
        }
    }

    fn insert(&mut self, namespace: usize, letters: &str, pages: &[usize], now: usize) {
        for n in 1..=letters.len() {
            let letters = &letters[..n];
            if self.page(namespace, letters).is_none() {
                let (letters, page) = (letters.to_owned(), pages[n - 1]);
                self.0.push(Kept {
                    namespace,
                    letters,
                    page,
                    used: now,
                });
            }
        }
        self.touch(namespace, letters, now);
    }

    /// The oldest that nobody runs on, and of which no longer one is kept.
    fn evict(&mut self, in_use: &BTreeSet<usize>) -> bool {
        let is_leaf = |kept: &Kept| {
            let longer = |other: &Kept| {
                other.namespace == kept.namespace
                    && other.letters.len() > kept.letters.len()
                    && other.letters.starts_with(&kept.letters)
            };
            !self.0.iter().any(longer)
        };
        let free = |kept: &Kept| is_leaf(kept) && !in_use.contains(&kept.page);
        let oldest = (0..self.0.len())
            .filter(|&i| free(&self.0[i]))
            .min_by_key(|&i| self.0[i].used);
        if let Some(oldest) = oldest {
            self.0.remove(oldest);
        }
        oldest.is_some()
    }

    fn evict_up_to(&mut self, n: usize, in_use: &BTreeSet<usize>) -> usize {
        (0..n).take_while(|_| self.evict(in_use)).count()
    }
}

const N_PAGE: usize = 14;
const NAMESPACES: [&str; 2] = ["ours", "theirs"];

/// The tree and the list side by side.
#[derive(Debug)]
struct Both {
    kv: KvCache,
    cache: PrefixCache,
    list: List,
    running: Vec<Sequence>,
    now: usize,
}

impl Both {
    fn in_use(&self) -> BTreeSet<usize> {
        self.running.iter().flat_map(Sequence::pages).collect()
    }

    fn act(&mut self, act: Act) {
        self.now += 1;
        match act {
            Act::Request(namespace, letters, extra, kept) => {
                self.request(namespace, &letters, extra, kept);
            }
            Act::End(_) if self.running.is_empty() => {}
            Act::End(i) => drop(self.running.swap_remove(i % self.running.len())),
            Act::Evict(n) => {
                let want = self.list.evict_up_to(n, &self.in_use());
                assert_eq!(self.cache.evict(n), want);
            }
            Act::Clear => {
                self.cache.clear();
                self.list.0.clear();
            }
        }
    }

    fn request(&mut self, namespace: usize, letters: &str, extra: usize, kept: bool) {
        let tokens = [&text(letters), &text("a")[..extra]].concat();
        let usable = &letters[..tokens.len().saturating_sub(1) / PAGE_TOKENS];
        let want = self.list.find(namespace, usable);
        let (_, closest) = self.cache.closest(
            Namespace::of(NAMESPACES[namespace]),
            all_but_the_last(&tokens),
        );
        assert_eq!(
            closest,
            self.list.closest(namespace, all_but_the_last(&tokens))
        );
        let mut sequence = self.cache.lookup(NAMESPACES[namespace], &tokens);
        assert_eq!(sequence.pages(), want);
        assert_eq!(sequence.tokens(), &tokens[..want.len() * PAGE_TOKENS]);
        self.list.touch(namespace, &letters[..want.len()], self.now);

        let rest = &tokens[sequence.tokens().len()..];
        let lacking = rest
            .len()
            .div_ceil(PAGE_TOKENS)
            .saturating_sub(self.kv.n_free());
        let in_use = self.in_use().into_iter().chain(sequence.pages()).collect();
        let evicted = self.list.evict_up_to(lacking, &in_use);
        let fits = write(&self.kv, &mut self.cache, &mut sequence, rest);
        assert_eq!(fits, evicted == lacking);
        self.now += 1;
        if fits && kept {
            self.list
                .insert(namespace, letters, &sequence.pages(), self.now);
            self.cache.insert(NAMESPACES[namespace], &sequence);
        }
        if fits {
            self.running.push(sequence);
        }
    }

    fn check(&self) {
        assert_eq!(self.cache.n_page(), self.list.0.len());
        for kept in &self.list.0 {
            let path = self.cache.walk(
                Namespace::of(NAMESPACES[kept.namespace]),
                text(&kept.letters).as_chunks().0,
            );
            assert_eq!(path.len(), kept.letters.len());
            assert_eq!(
                path.last().map(|&id| self.cache.nodes[id].used > 0),
                Some(true)
            );
        }
        let in_use = self.in_use();
        let kept: BTreeSet<usize> = self.list.0.iter().map(|kept| kept.page).collect();
        assert_eq!(kept.len(), self.list.0.len(), "no page is kept twice");
        assert_eq!(self.kv.n_free(), N_PAGE - in_use.union(&kept).count());
        let mut list = List(self.list.0.iter().map(Kept::copy).collect());
        assert_eq!(
            self.cache.evictable(),
            list.evict_up_to(usize::MAX, &in_use)
        );
    }
}

impl Kept {
    fn copy(&self) -> Self {
        Self {
            letters: self.letters.clone(),
            ..*self
        }
    }
}

proptest! {
    #[test]
    fn the_tree_does_what_a_list_would(acts in acts()) {
        let mut both = Both {
            kv: KvCache::new(N_PAGE),
            cache: PrefixCache::default(),
            list: List::default(),
            running: Vec::new(),
            now: 0,
        };
        for act in acts {
            both.act(act);
            both.check();
        }
        both.running.clear();
        both.cache.evict(usize::MAX);
        prop_assert_eq!((both.kv.n_free(), both.cache.n_page()), (N_PAGE, 0));
        drop(both.cache);
        prop_assert_eq!(both.kv.n_free(), N_PAGE);
    }
}
