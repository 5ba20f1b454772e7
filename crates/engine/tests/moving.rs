//! Sequences leave one device and go on at another, or at another time.

mod common;

use std::ops::ControlFlow;

use common::{cpu, encode, load_with, requantize::requantize, stories};
use tempfile::TempDir;
use troika_base::{Bytes, DType, KvType, TokenId};
use troika_device::{LoadOptions, Output, PAGE_TOKENS};
use troika_engine::{Error, KvError, KvImage, Model, PrefixCache, Sequence, Spilled, Step};
use troika_gguf::ModelFile;

const ALL: Bytes = Bytes(1 << 30);

fn model(threads: usize, n_page: usize) -> Model {
    load_with(&stories(), &cpu(threads), n_page * PAGE_TOKENS)
}

fn model_with(kv_type: KvType, threads: usize, n_page: usize) -> Model {
    let options = LoadOptions::new(n_page * PAGE_TOKENS).with_kv_type(kv_type);
    let mut progress = |_| ControlFlow::Continue(());
    Model::load(&stories(), &cpu(threads), options, &mut progress).expect("a good model")
}

fn text(model: &Model, words: &str, n_tok: usize) -> Vec<TokenId> {
    let mut tokens = encode(model, &format!("{words} ").repeat(n_tok));
    tokens.truncate(n_tok);
    tokens
}

/// Reads tokens; the logits that follow them, as bits.
fn read(model: &mut Model, sequence: &mut Sequence, tokens: &[TokenId]) -> Vec<u32> {
    let step = Step {
        sequence,
        tokens,
        output: Output::LastLogits,
    };
    let outputs = model.step(&mut [step]).expect("there is room");
    outputs.logits.values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_sequence_goes_on_elsewhere_to_the_bit() {
    KvType::ALL.into_iter().for_each(goes_on_elsewhere);
}

fn goes_on_elsewhere(kv_type: KvType) {
    let (mut from, mut to) = (model_with(kv_type, 1, 8), model_with(kv_type, 2, 8));
    let tokens = text(&from, "The cat sat on a mat and saw a dog.", 77);
    let mut first = Sequence::default();
    read(&mut from, &mut first, &tokens);
    let image = from.export(&first).expect("can be read");
    assert_eq!(image.tokens(), tokens);

    // Other pages, and pages that were used before.
    let mut others = [Sequence::default(), Sequence::default()];
    for (other, words) in others.iter_mut().zip(["One day", "Once upon a time"]) {
        let tokens = text(&to, words, 50);
        read(&mut to, other, &tokens);
    }
    let [gone, _stays] = others;
    drop(gone);
    let mut second = to.import(&image).expect("there is room");
    assert_eq!(second.tokens(), tokens);
    for token in text(&from, "Then it began to rain", 9) {
        let want = read(&mut from, &mut first, &[token]);
        assert_eq!(read(&mut to, &mut second, &[token]), want);
    }
    // And home again.
    let back = to.export(&second).expect("can be read");
    let mut home = from.import(&back).expect("there is room");
    let token = [TokenId(9)];
    let want = read(&mut from, &mut first, &token);
    assert_eq!(read(&mut from, &mut home, &token), want);
}

/// What was kept in fewer bits would pass for more.
#[test]
fn caches_of_other_types_do_not_mix() {
    let mut from = model_with(KvType::Q4_0, 1, 2);
    let tokens = text(&from, "A bird", 9);
    let mut sequence = Sequence::default();
    read(&mut from, &mut sequence, &tokens);
    let image = from.export(&sequence).unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("bird.kv");
    image.save(&path).unwrap();
    assert_eq!(KvImage::open(&path, &from).unwrap(), image);

    let mut to = model(1, 2);
    assert!(matches!(
        KvImage::open(&path, &to),
        Err(KvError::OtherModel)
    ));
    assert!(matches!(
        to.import(&image),
        Err(Error::Kv(KvError::OtherModel))
    ));
}

#[test]
fn what_a_prefix_cache_has_is_not_copied_again() {
    let (mut from, mut to) = (model(2, 8), model(2, 8));
    let tokens = text(&from, "The dog ran after the ball.", 100);
    let mut first = Sequence::default();
    read(&mut from, &mut first, &tokens);
    let image = from.export(&first).unwrap();

    let mut cache = PrefixCache::default();
    let mut known = Sequence::default();
    read(&mut to, &mut known, &tokens[..50]);
    cache.insert("key", &known);
    drop(known);
    assert_eq!(to.n_page_free(), 7);
    let mut found = cache.lookup("key", &tokens);
    assert_eq!(found.tokens().len(), PAGE_TOKENS);
    to.extend(&mut found, &image).unwrap();
    assert_eq!((found.tokens(), to.n_page_free()), (&tokens[..], 4));
    let token = [TokenId(7)];
    let want = read(&mut from, &mut first, &token);
    assert_eq!(read(&mut to, &mut found, &token), want);
    // Another way.
    let mut other = cache.lookup("key", &tokens);
    other.truncate(5);
    read(&mut to, &mut other, &[TokenId(11)]);
    let before = other.tokens().to_vec();
    let error = to.extend(&mut other, &image).unwrap_err();
    assert!(matches!(error, Error::Kv(KvError::OtherModel)), "{error}");
    assert_eq!(other.tokens(), before);
}

#[test]
fn a_full_cache_takes_nothing_in() {
    let (mut from, mut to) = (model(1, 4), model(1, 2));
    let tokens = text(&from, "A bird", 3 * PAGE_TOKENS);
    let mut sequence = Sequence::default();
    read(&mut from, &mut sequence, &tokens);
    let mut image = from.export(&sequence).unwrap();
    let error = to.import(&image).unwrap_err();
    assert!(matches!(error, Error::CacheFull { wanted: 3, free: 2 }));
    assert_eq!(to.n_page_free(), 2);
    image.truncate(40);
    assert_eq!(to.import(&image).unwrap().tokens(), &tokens[..40]);
}

#[test]
fn an_image_is_of_one_model() {
    let file = stories();
    let requantized = requantize(&file, DType::Q4_0);
    let requantized = ModelFile::from_bytes("stories.gguf", requantized).unwrap();
    let (mut from, mut to) = (model(1, 2), load_with(&requantized, &cpu(1), 64));
    let mut sequence = Sequence::default();
    read(&mut from, &mut sequence, &[TokenId(1), TokenId(2)]);
    let image = from.export(&sequence).unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image.kv");
    image.save(&path).unwrap();
    for error in [
        to.import(&image).unwrap_err(),
        KvImage::open(&path, &to).unwrap_err().into(),
    ] {
        assert!(matches!(error, Error::Kv(KvError::OtherModel)), "{error}");
    }
}

#[test]
fn an_image_survives_in_a_file() {
    let mut from = model(2, 4);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image.kv");
    let tokens = text(&from, "The sun was warm", 70);
    for n_tok in [0, 1, 32, 70] {
        let mut sequence = Sequence::default();
        if n_tok > 0 {
            read(&mut from, &mut sequence, &tokens[..n_tok]);
        }
        let image = from.export(&sequence).unwrap();
        image.save(&path).unwrap();
        let mut to = model(2, 4);
        let opened = KvImage::open(&path, &to).unwrap();
        assert_eq!(opened, image);
        let mut again = to.import(&opened).unwrap();
        let want = read(&mut from, &mut sequence, &[TokenId(5)]);
        assert_eq!(read(&mut to, &mut again, &[TokenId(5)]), want);
    }
}

/// Three texts of two keys in a model's cache, the first one used last; how long the texts are.
const TEXTS: [(&str, &str, usize); 3] = [
    ("ours", "The cat", 3 * PAGE_TOKENS + 5),
    ("theirs", "The dog", 2 * PAGE_TOKENS + 1),
    ("ours", "The cat and the dog", 2 * PAGE_TOKENS + 9),
];

fn filled(model: &mut Model) -> PrefixCache {
    let mut cache = PrefixCache::default();
    for (key, words, n_tok) in TEXTS.into_iter().rev() {
        let tokens = text(model, words, n_tok);
        let mut sequence = Sequence::default();
        read(model, &mut sequence, &tokens);
        cache.insert(key, &sequence);
    }
    cache
}

/// Tokens of each text that a cache has.
fn held(cache: &mut PrefixCache, model: &Model) -> [usize; 3] {
    TEXTS.map(|(key, words, n_tok)| {
        let tokens = text(model, words, n_tok);
        cache.lookup(key, &tokens).tokens().len() / PAGE_TOKENS
    })
}

#[test]
fn prefixes_are_there_again_when_their_model_is() {
    let mut before = model(2, 16);
    let cache = filled(&mut before);
    let dir = TempDir::new().unwrap();
    assert_eq!(Spilled::open(dir.path(), &before, ALL).unwrap(), None);
    let spilled = cache.spill(&mut before, ALL).unwrap();
    assert_eq!(spilled.n_page(), 7);
    spilled.save(dir.path()).unwrap();

    let mut after = model(2, 16);
    let opened = Spilled::open(dir.path(), &after, ALL).unwrap().unwrap();
    assert_eq!(opened, spilled);
    let mut again = PrefixCache::default();
    assert_eq!(again.restore(&mut after, &opened).unwrap(), 7);
    assert_eq!(again.n_page(), 7);
    assert_eq!(
        again.restore(&mut after, &opened).unwrap(),
        0,
        "it has them"
    );
    assert_eq!((again.n_page(), after.n_page_free()), (7, 9));
    assert_eq!(held(&mut again, &after), [3, 2, 2]);
    for (key, words, n_tok) in TEXTS {
        let other = if key == "ours" { "theirs" } else { "ours" };
        let tokens = text(&after, words, n_tok);
        assert_eq!(again.lookup(other, &tokens).tokens(), &[]);
        let mut found = again.lookup(key, &tokens);
        let rest = &tokens[found.tokens().len()..];
        let have = read(&mut after, &mut found, rest);
        let mut alone = Sequence::default();
        read(&mut before, &mut alone, &tokens[..n_tok - rest.len()]);
        assert_eq!(have, read(&mut before, &mut alone, rest));
    }
}

#[test]
fn the_worthiest_are_kept_where_room_is_short() {
    let mut before = model(2, 16);
    let cache = filled(&mut before);
    let of_page = Bytes(cache.spill(&mut before, ALL).unwrap().bytes().0 / 7);
    let dir = TempDir::new().unwrap();
    for (n_page, want) in [
        (0, [0, 0, 0]),
        (2, [2, 0, 0]),
        (3, [3, 0, 0]),
        (4, [3, 1, 0]),
        (6, [3, 2, 1]),
    ] {
        let budget = Bytes(of_page.0 * n_page as u64 + 100);
        let spilled = cache.spill(&mut before, budget).unwrap();
        assert_eq!(spilled.n_page(), n_page);
        let mut after = model(2, 16);
        let mut again = PrefixCache::default();
        again.restore(&mut after, &spilled).unwrap();
        assert_eq!(held(&mut again, &after), want, "{n_page}");

        // The same where the cache of the model is short, and where what is read from the file is.
        let all = cache.spill(&mut before, ALL).unwrap();
        if n_page > 0 {
            let mut small = model(2, n_page);
            let mut again = PrefixCache::default();
            assert_eq!(again.restore(&mut small, &all).unwrap(), n_page);
            assert_eq!(held(&mut again, &small), want, "{n_page}");
        }
        all.save(dir.path()).unwrap();
        let room = Bytes((of_page.0 + 64) * n_page as u64);
        let part = Spilled::open(dir.path(), &after, room).unwrap().unwrap();
        assert_eq!(part.n_page(), n_page);
    }
}

/// What was used longest ago is still the first to go.
#[test]
fn the_order_of_use_is_kept() {
    let mut before = model(2, 16);
    let spilled = filled(&mut before).spill(&mut before, ALL).unwrap();
    let mut after = model(2, 16);
    let mut again = PrefixCache::default();
    again.restore(&mut after, &spilled).unwrap();
    // A copy of what is left is looked at, since looking counts as use.
    let mut left = Vec::new();
    while again.evict(1) == 1 {
        let rest = again.spill(&mut after, ALL).unwrap();
        let mut copy = PrefixCache::default();
        let mut room = model(1, 16);
        copy.restore(&mut room, &rest).unwrap();
        left.push(held(&mut copy, &room));
    }
    let want = [
        [3, 2, 1],
        [3, 2, 0],
        [3, 1, 0],
        [3, 0, 0],
        [2, 0, 0],
        [1, 0, 0],
        [0, 0, 0],
    ];
    assert_eq!(left, want);
}

#[test]
fn a_spilled_file_is_checked_and_tells_no_names() {
    let mut before = model(2, 16);
    let spilled = filled(&mut before).spill(&mut before, ALL).unwrap();
    let dir = TempDir::new().unwrap();
    spilled.save(dir.path()).unwrap();
    let files: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [path] = &files[..] else {
        panic!("{files:?}");
    };
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("{}.kv", before.fingerprint()));
    let mut bytes = std::fs::read(path).unwrap();
    for key in ["ours", "theirs"] {
        let found = bytes.windows(key.len()).any(|part| part == key.as_bytes());
        assert!(!found, "{key}");
    }
    bytes[4000] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    let error = Spilled::open(dir.path(), &before, ALL).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    std::fs::write(path, &bytes[..70]).unwrap();
    assert!(Spilled::open(dir.path(), &before, ALL).is_err());
}
