//! Text to tokens.

use super::*;

#[test]
fn sentencepiece_merges_the_best_score_first() {
    let tokenizer = build(&spm_metadata());
    check(&tokenizer, "", &[]);
    // `ab` beats `bc`, `▁a` and the order from the left.
    check(&tokenizer, "abc", &["▁", "ab", "c"]);
    check(&tokenizer, "a", &["▁a"]);
    // Of equal pairs the left one merges.
    check(&tokenizer, "  ", &["▁▁", "▁"]);
    check(&tokenizer, "hi hi", &["▁hi", "▁hi"]);
}

#[test]
fn sentencepiece_spells_what_it_lacks_in_bytes() {
    let tokenizer = build(&spm_metadata());
    check(&tokenizer, "é", &["▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(tokenizer.decode(&tokenizer.encode("é\n", PLAIN)), "é\n");

    let without = Build::default()
        .token("<unk>", UNKNOWN, 0.0)
        .tokens(&["<s>", "</s>"], CONTROL)
        .tokens(&["▁", "a"], NORMAL);
    let tokenizer = build(&without.metadata("llama", None));
    check(&tokenizer, "aééa", &["▁", "a", "<unk>", "a"]);
}

#[test]
fn sentencepiece_merges_text_that_is_no_token_yet() {
    // Neither `x` nor `y` is a token, but both together are.
    check(&build(&spm_metadata()), "xyx", &["▁", "xy", "<0x78>"]);
}

#[test]
fn the_space_prefix_follows_the_file() {
    let mut metadata = spm_metadata();
    metadata.insert("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = build(&metadata);
    check(&tokenizer, "a", &["a"]);
    let ids = tokenizer.encode(" hi", PLAIN);
    assert_eq!(tokenizer.decode(&ids), " hi", "the space is the text's own");
}

#[test]
fn byte_pairs_merge_in_the_order_of_training() {
    let tokenizer = build(&bpe_metadata("gpt-2"));
    check(&tokenizer, "hello", &["hell", "o"]);
    check(&tokenizer, " world", &["Ġw", "or", "l", "d"]);
    check(&tokenizer, "\n\n\n", &["ĊĊ", "Ċ"]);
    check(&tokenizer, "é", &["Ã", "©"]);
    check(&tokenizer, "1234", &["123", "4"]);
    check(
        &build(&bpe_metadata("starcoder")),
        "1234",
        &["1", "2", "3", "4"],
    );
}

#[test]
fn whole_words_skip_merging_where_the_rules_say_so() {
    // Merging alone never makes these two.
    check(&build(&bpe_metadata("gpt-2")), "lo", &["l", "o"]);
    check(
        &build(&bpe_metadata("smaug-bpe")),
        " world",
        &["Ġw", "or", "l", "d"],
    );
    check(
        &build(&bpe_metadata("llama-bpe")),
        "lo world",
        &["lo", "Ġworld"],
    );
}

#[test]
fn bytes_that_the_vocabulary_lacks_are_unknown_or_nothing() {
    let build_without = |unknown: Option<u32>| {
        let mut metadata = Build::default()
            .tokens(&["a", "b", "<unk>"], NORMAL)
            .metadata("gpt2", Some("gpt-2"));
        if let Some(id) = unknown {
            metadata.insert("tokenizer.ggml.unknown_token_id", id);
        }
        build(&metadata)
    };
    check(&build_without(None), "abz", &["a", "b"]);
    check(&build_without(Some(2)), "abz", &["a", "b", "<unk>"]);
}

#[test]
fn gemma4_merges_text_and_keeps_line_feeds_together() {
    let tokenizer = build(&gemma4_metadata());
    check(&tokenizer, " a ab", &["▁a", "▁a", "b"]);
    check(&tokenizer, "\n\n\n", &["\n\n\n"]);
    check(&tokenizer, "\n\n", &["\n\n"]);
    check(&tokenizer, "aé", &["a", "<0xC3>", "<0xA9>"]);
    // A user-defined token with U+2581 stands for spaces in the text.
    check(&tokenizer, "a    b", &["a", "▁▁▁▁", "b"]);
    assert_eq!(
        tokenizer.decode(&tokenizer.encode("a    b\n", PLAIN)),
        "a    b\n"
    );
    assert_eq!(pieces(&tokenizer, "a", SPECIAL), ["<bos>", "a"]);
}

#[test]
fn wordpiece_folds_and_takes_the_longest_pieces() {
    let tokenizer = build(&bert_metadata());
    check(&tokenizer, "unaffable", &["▁un", "aff", "able"]);
    check(
        &tokenizer,
        " The,\tÉ\u{301} \u{200b}中the",
        &["▁the", "▁,", "▁e", "▁中", "▁the"],
    );
    check(&tokenizer, "$ unknown", &["▁$", "[UNK]"]);
    check(&tokenizer, "", &[]);
    let long = "a".repeat(101);
    check(&tokenizer, &long, &["[UNK]"]);
    check(&tokenizer, "a▁a", &["[UNK]"]);
    assert_eq!(
        pieces(&tokenizer, "the [SEP]", SPECIAL),
        ["[CLS]", "▁the", "[SEP]", "[SEP]"]
    );
    assert_eq!(
        tokenizer.decode(&tokenizer.encode("THE unaffable", SPECIAL)),
        "the unaffable"
    );
}

#[test]
fn wordpiece_keeps_case_where_the_file_says_so() {
    let mut metadata = bert_metadata();
    metadata.insert("tokenizer.ggml.normalizer.lowercase", false);
    check(&build(&metadata), "the The é", &["▁the", "[UNK]", "[UNK]"]);
    metadata.insert("tokenizer.ggml.normalizer.strip_accents", true);
    check(&build(&metadata), "é", &["▁e"]);
}

#[test]
fn special_tokens_in_text_are_commands_only_when_asked() {
    let tokenizer = build(&bpe_metadata("gpt-2"));
    let text = "<|begin|>he<tool><tool><tool>";
    let parsed = pieces(
        &tokenizer,
        text,
        EncodeOptions {
            parse_special: true,
            ..PLAIN
        },
    );
    assert_eq!(parsed, ["<|begin|>", "he", "<tool><tool>", "<tool>"]);
    let plain = tokenizer.encode(text, PLAIN);
    assert!(!plain.iter().any(|&id| tokenizer.is_control(id)));
    assert_eq!(
        plain.last(),
        tokenizer.token_id("<tool>").as_ref(),
        "user-defined ones always are"
    );
    assert_eq!(tokenizer.decode(&plain), text);

    let tokenizer = build(&spm_metadata());
    let parsed = pieces(
        &tokenizer,
        "<s>hi<|tool|>hi",
        EncodeOptions {
            parse_special: true,
            ..PLAIN
        },
    );
    assert_eq!(parsed, ["<s>", "▁hi", "<|tool|>", "▁hi"]);
}

#[test]
fn merging_never_makes_a_control_token() {
    let metadata = Build::default()
        .byte_alphabet()
        .tokens(&["<a"], CONTROL)
        .metadata("gpt2", Some("gpt-2"));
    let mut with_merge = metadata.clone();
    with_merge.insert("tokenizer.ggml.merges", vec!["< a".to_owned()]);
    // Only words of one class of characters are merged, so this asks the merges themselves.
    let Rules::Bpe(bpe) = build(&with_merge).rules else {
        panic!("byte pairs");
    };
    let mut out = Vec::new();
    bpe.encode(
        &build(&metadata).vocab,
        "<a",
        &mut Merger::default(),
        &mut out,
    );
    assert_eq!(out, [TokenId(u32::from(b'<')), TokenId(u32::from(b'a'))]);
}
