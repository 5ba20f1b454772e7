//! What holds for any text and any ids, and how long the longest runs take.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// Merges by looking at all pairs again after each merge.
fn merge_slowly(word: &[u32], find: impl Fn(u32, u32) -> Option<(u32, u32)>) -> Vec<u32> {
    let mut symbols = word.to_vec();
    loop {
        let pairs = symbols.windows(2).enumerate();
        let best = pairs
            .filter_map(|(at, pair)| Some((find(pair[0], pair[1])?, at)))
            .min_by_key(|&((rank, _), at)| (rank, at));
        let Some(((_, id), at)) = best else {
            return symbols;
        };
        symbols.splice(at..at + 2, [id]);
    }
}

proptest! {
    #[test]
    fn merging_by_queue_is_merging_by_search(
        word in prop::collection::vec(0u32..4, 0..40),
        table in prop::collection::vec(((0u32..12, 0u32..12), (0u32..6, 0u32..12)), 0..30),
    ) {
        // Any ranks and results, such as merges that make what merges earlier.
        let table: BTreeMap<_, _> = table.into_iter().collect();
        let find = |left: u32, right: u32| table.get(&(left, right)).copied();
        let mut merger = Merger::default();
        merger.clear();
        word.iter().for_each(|&id| merger.push(1, Some(TokenId(id))));
        merger.run(|left, right| {
            let (rank, id) = find(left.id?.0, right.id?.0)?;
            Some(merge::Merge { rank, id: TokenId(id) })
        });
        let merged: Vec<u32> = merger.symbols().filter_map(|symbol| Some(symbol.id?.0)).collect();
        prop_assert_eq!(merged, merge_slowly(&word, find));
    }

    #[test]
    fn cutting_at_words_changes_no_merge(text in "[ab▁hi c]{0,30}") {
        let Rules::Spm(mut spm) = build(&spm_metadata()).rules else {
            panic!("sentencepiece");
        };
        let vocab = build(&spm_metadata()).vocab;
        let mut encode = |apart| {
            spm.words_apart = apart;
            let mut out = Vec::new();
            spm.encode(&vocab, &text, true, &mut Merger::default(), &mut out);
            out
        };
        prop_assert_eq!(encode(true), encode(false));
    }

    #[test]
    fn texts_come_back(text in any::<String>(), ascii in "[ -~\n]{0,40}") {
        for tokenizer in every_kind().iter().filter(|tokenizer| tokenizer.model_name() != "bert") {
            for text in [&text, &ascii] {
                // Text that holds U+2581 comes back with spaces where the vocabulary spells spaces so.
                let expect = if tokenizer.rules.spells_text() { text.replace(SPACE, " ") } else { text.clone() };
                prop_assert_eq!(tokenizer.decode(&tokenizer.encode(text, SPECIAL)), expect);
            }
        }
    }

    #[test]
    fn any_ids_stream_as_they_decode(ids in prop::collection::vec(prop_oneof![0u32..300, any::<u32>()], 0..40)) {
        let ids: Vec<TokenId> = ids.into_iter().map(TokenId).collect();
        for tokenizer in every_kind() {
            let mut bytes = Vec::new();
            ids.iter().for_each(|&id| tokenizer.token_bytes(id, &mut bytes));
            let whole = String::from_utf8_lossy(&bytes).into_owned();
            let whole = whole.strip_prefix(' ').filter(|_| tokenizer.prefixes_space()).unwrap_or(&whole);
            prop_assert_eq!(tokenizer.decode(&ids), whole);
        }
    }

    #[test]
    fn any_text_gives_ids_of_the_vocabulary(text in "(<s>|<tool>|\\PC| |\n|[a-c]|1){0,30}") {
        for tokenizer in every_kind() {
            let ids = tokenizer.encode(&text, SPECIAL);
            prop_assert!(ids.iter().all(|id| id.index() < tokenizer.n_vocab()));
        }
    }
}

/// Without optimisation the merging takes some seconds, so there it is a quarter of that.
const MEBIBYTE: usize = if cfg!(debug_assertions) {
    1 << 18
} else {
    1 << 20
};

/// What is quadratic takes minutes here, so the bound is loose enough for any machine.
fn a_mebibyte_takes_no_time(tokenizer: &Tokenizer, units: &[&str]) {
    for unit in units {
        let text = unit.repeat(MEBIBYTE / unit.len());
        let start = Instant::now();
        let ids = tokenizer.encode(&text, SPECIAL);
        let took = start.elapsed();
        assert!(
            took < Duration::from_secs(20),
            "{tokenizer:?}, {unit:?}: {took:?} for {} tokens",
            ids.len()
        );
    }
}

#[test]
fn a_mebibyte_takes_no_time_for_sentencepiece() {
    a_mebibyte_takes_no_time(&build(&spm_metadata()), &[" ", "a", "1", "\n", "🦙"]);
    a_mebibyte_takes_no_time(&build(&gemma4_metadata()), &[" ", "\n", "é"]);
}

#[test]
fn a_mebibyte_takes_no_time_for_byte_pairs() {
    let units = |pre, units: &[&str]| a_mebibyte_takes_no_time(&build(&bpe_metadata(pre)), units);
    units("llama-bpe", &[" ", "a", "1", "\n", "🦙", "<"]);
    units("deepseek-llm", &[" ", "  1"]);
    units("falcon", &["1", "."]);
    units("gpt-4o", &["ªA"]);
}

#[test]
fn a_mebibyte_takes_no_time_for_wordpiece() {
    a_mebibyte_takes_no_time(&build(&bert_metadata()), &[" ", "a", ",", "🦙", "\u{301}"]);
}
