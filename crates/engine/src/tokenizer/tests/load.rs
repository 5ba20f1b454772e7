//! What is read from a file besides the tokens, and what is refused.

use super::*;

#[test]
fn texts_get_the_tokens_around_them_that_the_family_has() {
    let around = |metadata: &Metadata| pieces(&build(metadata), "", SPECIAL);
    assert_eq!(around(&spm_metadata()), ["<s>"]);
    assert_eq!(around(&bpe_metadata("llama-bpe")), ["<|begin|>"]);
    assert_eq!(around(&bpe_metadata("gpt-2")), [""; 0]);
    assert_eq!(around(&bpe_metadata("qwen2")), [""; 0]);
    assert_eq!(around(&bert_metadata()), ["[CLS]", "[SEP]"]);

    let mut metadata = spm_metadata();
    metadata.insert("tokenizer.ggml.add_bos_token", false);
    metadata.insert("tokenizer.ggml.add_eos_token", true);
    assert_eq!(around(&metadata), ["</s>"]);
    assert!(!build(&metadata).adds_bos());
}

#[test]
fn answers_end_by_key_and_by_name() {
    let tokenizer = build(&bpe_metadata("qwen2"));
    let ends =
        |name: &str| tokenizer.is_end_of_generation(tokenizer.token_id(name).expect("a token"));
    assert!(ends("<|im_end|>") && !ends("<|begin|>") && !ends("<tool>"));
    assert_eq!(tokenizer.eot(), tokenizer.token_id("<|im_end|>"));
    assert!(!tokenizer.is_end_of_generation(TokenId(u32::MAX)));
    // A token that the file names as such, and that is called so as well, is listed once.
    let mut metadata = bpe_metadata("qwen2");
    let end = tokenizer.token_id("<|im_end|>").expect("a token");
    metadata.insert("tokenizer.ggml.eos_token_id", end.0);
    metadata.insert("tokenizer.ggml.eot_token_id", end.0);
    let ends = build(&metadata).ends_of_generation().to_vec();
    assert_eq!(ends.iter().filter(|&&id| id == end).count(), 1, "{ends:?}");

    let tokenizer = build(&spm_metadata());
    assert!(
        tokenizer.is_end_of_generation(TokenId(2)) && !tokenizer.is_end_of_generation(TokenId(1))
    );

    // A name that is only text ends nothing; a user-defined one becomes a control token.
    let build_with = |kind| {
        let names = ["<|im_end|>", "<|return|>", "<|call|>", "<|end|>", "</s>"];
        build(
            &Build::default()
                .tokens(&names, kind)
                .metadata("gpt2", Some("gpt-2")),
        )
    };
    let ends = |kind| {
        (0..5)
            .map(|id| build_with(kind).is_end_of_generation(TokenId(id)))
            .collect::<Vec<_>>()
    };
    assert_eq!(ends(NORMAL), [false; 5]);
    assert_eq!(ends(USER_DEFINED), [true, true, true, false, false]);
    assert_eq!(ends(CONTROL), [true, true, true, false, true]);
    assert!(build_with(USER_DEFINED).is_control(TokenId(0)));

    // Where messages end with `<|end|>` and answers with `<|return|>`, the former is no end of turn.
    let harmony = ["<|end|>", "<|return|>", "<|call|>"];
    let harmony = Build::default().tokens(&harmony, CONTROL);
    let harmony = build(&harmony.metadata("gpt2", Some("gpt-4o")));
    assert!(!harmony.is_end_of_generation(TokenId(0)) && harmony.is_end_of_generation(TokenId(1)));
    assert_eq!(harmony.eot(), None);
}

#[test]
fn what_is_wrong_with_a_vocabulary_is_named() {
    let fails = |metadata: &Metadata, expect: &str| {
        let error = Tokenizer::from_metadata(metadata)
            .expect_err("a bad vocabulary")
            .to_string();
        assert!(error.contains(expect), "{error:?} names {expect:?}");
    };
    let with = |key: &str, value: troika_gguf::Value| {
        let mut metadata = spm_metadata();
        metadata.insert(key, value);
        metadata
    };
    let n_vocab = spm_metadata()
        .strings("tokenizer.ggml.tokens")
        .expect("tokens")
        .len();
    fails(&Metadata::default(), "tokenizer.ggml.model");
    fails(&with(MODEL_KEY, "t5".into()), "known: llama, gpt2");
    fails(
        &bpe_metadata("qwen3-next"),
        "`qwen3-next`, which is not supported; known: llama-bpe",
    );
    fails(&with(MODEL_KEY, 1u32.into()), "tokenizer.ggml.model");
    fails(
        &with("tokenizer.ggml.tokens", Vec::<String>::new().into()),
        "has 0 tokens",
    );
    fails(
        &with("tokenizer.ggml.scores", vec![0.0f32; 3].into()),
        "tokenizer.ggml.scores has 3 entries",
    );
    fails(
        &with("tokenizer.ggml.scores", vec![0u8; n_vocab].into()),
        "tokenizer.ggml.scores",
    );
    fails(
        &with("tokenizer.ggml.scores", vec![f32::NAN; n_vocab].into()),
        "not a number for token 0",
    );
    fails(
        &with("tokenizer.ggml.token_type", vec![1i32; 1].into()),
        "tokenizer.ggml.token_type has 1 entries",
    );
    fails(
        &with("tokenizer.ggml.token_type", vec![7i32; n_vocab].into()),
        "says 7 of token 0",
    );
    fails(
        &with("tokenizer.ggml.token_type", vec![BYTE; n_vocab].into()),
        "token 0 is of type byte",
    );
    fails(
        &with("tokenizer.ggml.eos_token_id", (n_vocab as u32).into()),
        "tokenizer.ggml.eos_token_id is",
    );
    fails(
        &with("tokenizer.ggml.eos_token_id", (-1i32).into()),
        "tokenizer.ggml.eos_token_id",
    );
    let same = Build::default().tokens(&["", "same", "", "same"], NORMAL);
    fails(
        &same.metadata("gpt2", Some("gpt-2")),
        "tokens 1 and 3 of tokenizer.ggml.tokens are both `same`",
    );
    let long = "x".repeat(5000);
    let long = Build::default().tokens(&["a", &long], NORMAL);
    fails(
        &long.metadata("gpt2", Some("gpt-2")),
        "token 1 of tokenizer.ggml.tokens has 5000 bytes",
    );
    let name = "x".repeat(300);
    let name = Build::default().tokens(&[&name], CONTROL);
    fails(
        &name.metadata("gpt2", Some("gpt-2")),
        "token 0 of tokenizer.ggml.tokens has 300 bytes; at most 256",
    );

    let mut metadata = bpe_metadata("gpt-2");
    metadata.insert("tokenizer.ggml.add_eos_token", true);
    fails(&metadata, "tokenizer.ggml.eos_token_id is absent");
    metadata.remove(PRE_KEY);
    fails(&metadata, "tokenizer.ggml.pre is absent");
    for (merge, problem) in [
        ("ab", "is not two tokens"),
        (" a", "is not two tokens"),
        ("zz a", "left side"),
        ("a zz", "right side"),
        ("a b", "makes what is no token"),
    ] {
        let mut metadata = bpe_metadata("gpt-2");
        metadata.insert("tokenizer.ggml.merges", vec![merge.to_owned()]);
        fails(&metadata, problem);
        fails(&metadata, "merge 0 of tokenizer.ggml.merges");
    }
}

#[test]
fn byte_tokens_are_spelt_strictly() {
    for piece in [
        "<0x+5>", "<0x5>", "<0x055>", "<0X05>", "<0x-1>", "0x05", "<0xG0>", "",
    ] {
        let metadata = Build::default()
            .tokens(&[piece], BYTE)
            .metadata("llama", None);
        let error = Tokenizer::from_metadata(&metadata).expect_err("no byte");
        assert!(
            matches!(error, TokenizerError::ByteToken { id: 0, .. }),
            "{piece}: {error}"
        );
    }
}

#[test]
fn padding_past_the_vocabulary_is_no_reason_to_refuse() {
    let mut metadata = spm_metadata();
    metadata.insert("tokenizer.ggml.padding_token_id", u32::MAX);
    assert_eq!(build(&metadata).pad(), None);
    metadata.insert("tokenizer.ggml.padding_token_id", 0u32);
    assert_eq!(build(&metadata).pad(), Some(TokenId(0)));
}
