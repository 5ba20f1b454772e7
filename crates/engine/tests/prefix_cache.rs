//! The prefix cache over a model: what is found there gives the answer that reading it again would give.

mod common;

use common::{cpu, encode, load_with, stories};
use troika_base::TokenId;
use troika_device::{Logits, Output, PAGE_TOKENS};
use troika_engine::{Model, PrefixCache, Sequence, Step};

/// Reads what is not in the sequence yet.
fn read(model: &mut Model, sequence: &mut Sequence, tokens: &[TokenId]) -> Logits {
    let rest = tokens[sequence.tokens().len()..].to_vec();
    let step = Step {
        sequence,
        tokens: &rest,
        output: Output::LastLogits,
    };
    model.step(&mut [step]).expect("there is room").logits
}

/// The share of the largest logit that may differ: nothing, but that a matrix unit rounds in its own way.
fn assert_close(have: &Logits, want: &Logits) {
    let largest = want.values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    for (have, want) in have.values.iter().zip(&want.values) {
        assert!((have - want).abs() <= 0.05 * largest, "{have} {want}");
    }
}

#[test]
fn cached_prefixes_give_the_same_logits() {
    let mut model = load_with(&stories(), &cpu(2), 16 * PAGE_TOKENS);
    let mut cache = PrefixCache::default();
    let opening =
        "Once upon a time there was a little dog who liked to run in the park. ".repeat(5);
    let prompts = [
        "The dog saw a cat",
        "The dog was sad. He",
        "The",
        "One day it began to rain",
    ];
    let prompts = prompts.map(|end| encode(&model, &format!("{opening}{end}")));
    let want = prompts
        .each_ref()
        .map(|prompt| read(&mut model, &mut Sequence::default(), prompt));
    assert!(prompts[0].len() > 2 * PAGE_TOKENS && prompts[0].len() < 5 * PAGE_TOKENS);

    // Twice, so that what the first round shared and copied is read by the second.
    for round in 0..2 {
        for (i, (prompt, want)) in prompts.iter().zip(&want).enumerate() {
            let mut sequence = match i % 2 {
                0 => cache.lookup("key", prompt),
                _ => cache.lookup_closest("key", prompt),
            };
            let hits = sequence.tokens().len();
            assert!(hits >= 2 * PAGE_TOKENS || (round, i) == (0, 0), "{hits}");
            assert_close(&read(&mut model, &mut sequence, prompt), want);
            cache.insert("key", &sequence);
        }
    }
    cache.clear();
    assert_eq!(model.n_free(), model.n_ctx());
}

/// Conversations take turns in a cache that holds one and a half of them; each grows until it fills the whole.
#[test]
fn there_is_always_room_for_one_that_fits() {
    const N_PAGE: usize = 6;
    let mut model = load_with(&stories(), &cpu(2), N_PAGE * PAGE_TOKENS);
    let mut cache = PrefixCache::default();
    let texts = [
        "a dog and a cat ",
        "a ball in the park ",
        "a dog and a bird ",
    ];
    let texts = texts.map(|text| encode(&model, &text.repeat(80)));
    let lengths = (20..=N_PAGE * PAGE_TOKENS).step_by(43);
    for n in lengths.chain([N_PAGE * PAGE_TOKENS]) {
        for text in &texts {
            let tokens = &text[..n];
            let mut sequence = cache.lookup_closest("key", tokens);
            let lacking = n - sequence.tokens().len();
            assert!(
                cache.make_room(&model, &[(&sequence, lacking)]),
                "{n} tokens"
            );
            read(&mut model, &mut sequence, tokens);
            cache.insert("key", &sequence);
        }
    }
    assert!(cache.hit_tokens() > 0);
    assert_eq!(cache.n_page(), cache.evictable());
    let kept = cache.n_page();
    assert_eq!(model.n_page_free() + kept, N_PAGE);
    assert_eq!(cache.evict(usize::MAX), kept);
}
