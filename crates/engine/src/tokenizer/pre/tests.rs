//! The hand-written steps against the regular expressions that tokenizers publish, matched by backtracking.

use std::sync::LazyLock;

use fancy_regex::Regex;
use proptest::prelude::*;

use super::*;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_CJK: &str = r"[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+";
/// Written with all cased letters. Those that the published ranges leave out are not in the texts below.
const DEEPSEEK_LLM_LETTERS: &str = r"\s?[\p{Lu}\p{Ll}\p{Lt}]+";
const DEEPSEEK_LLM_PUNCTUATION: &str =
    r"\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+";

/// A name of each pre-tokenizer and its patterns, each of which isolates its matches in what those before it left.
const PUBLISHED: &[(&str, &[&str])] = &[
    ("llama-bpe", &[LLAMA3]),
    ("smaug-bpe", &[LLAMA3]),
    ("qwen2", &[QWEN2]),
    ("qwen35", &[QWEN35]),
    ("gpt-2", &[GPT2]),
    ("starcoder", &[r"\p{N}", GPT2]),
    (
        "falcon",
        &[r"[\p{P}$+<=>^~|`]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    ),
    (
        "deepseek-coder",
        &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            DEEPSEEK_CJK,
            r"\p{N}",
        ],
    ),
    (
        "deepseek-llm",
        &[
            r"[\r\n]",
            DEEPSEEK_LLM_LETTERS,
            DEEPSEEK_LLM_PUNCTUATION,
            r"\s+$",
            DEEPSEEK_CJK,
            r"\p{N}",
        ],
    ),
    ("gpt-4o", &[GPT4O]),
    ("tekken", &[TEKKEN]),
    ("gemma4", &[r"[^\n]+|[\n]+"]),
];

static COMPILED: LazyLock<Vec<(&str, Vec<Regex>)>> = LazyLock::new(|| {
    let compile = |pattern: &&str| Regex::new(pattern).expect("a pattern");
    PUBLISHED
        .iter()
        .map(|(name, patterns)| (*name, patterns.iter().map(compile).collect()))
        .collect()
});

/// Cuts by the published patterns, slowly.
fn words_by_regex<'t>(patterns: &[Regex], text: &'t str) -> Vec<&'t str> {
    let mut words = vec![text];
    for pattern in patterns {
        let mut cut = Vec::new();
        for word in words {
            let mut at = 0;
            for found in pattern.find_iter(word) {
                let found = found.expect("a match").range();
                cut.extend([&word[at..found.start], &word[found.clone()]]);
                at = found.end;
            }
            cut.push(&word[at..]);
        }
        words = cut;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn words<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
    let pre = PreTokenizer::named(name).expect("a pre-tokenizer");
    let mut words = Vec::new();
    pre.split(text, &mut |word| words.push(word));
    words
}

/// Texts of parts on which the patterns differ: cases, digits, white space, marks, scripts.
fn text() -> impl Strategy<Value = String> {
    #[rustfmt::skip]
    let part = prop::sample::select(vec![
        "'s", "'S", "'re", "'Ve", "'ll", "'LL", "''", "'", "abc", "Hello", "WORLD", "iPhone", "aB", "Ab", "ǅ", "ǅungla",
        "ʰ", "ªº", "ªA", "Aª", "AªB", "中文", "ひら", "한국", "ไทย", "हिन्दी", "éà", "e\u{301}", "\u{301}", "0", "12",
        "123", "12345", "٣٤", "½", "Ⅷ", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", "\u{a0}", "\u{3000}",
        "\u{85}", "\u{200b}", "!", "?!", "(", "=", "$", "|", "/", "//", "_", "«", "—", "。", "！", "€", "→", "😀",
        "👩\u{200d}👧", "\0",
    ]);
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn steps_cut_like_the_published_patterns(text in text()) {
        for (name, patterns) in &*COMPILED {
            prop_assert_eq!(words(name, &text), words_by_regex(patterns, &text), "{}", name);
        }
    }

    #[test]
    fn words_are_the_text(text in any::<String>()) {
        for pre in ALL {
            let name = pre.names().next().expect("a name");
            let words = words(name, &text);
            prop_assert!(words.iter().all(|word| !word.is_empty()));
            prop_assert_eq!(words.concat(), text.clone());
        }
    }
}

#[test]
fn known_words() {
    let check = |name, text, expect: &[&str]| assert_eq!(words(name, text), expect, "{name}");
    let text = "I'LL  pay 1234 €\n\n ok";
    check(
        "gpt-2",
        text,
        &["I", "'", "LL", " ", " pay", " 1234", " €", "\n\n", " ok"],
    );
    check(
        "llama-bpe",
        text,
        &["I", "'LL", " ", " pay", " ", "123", "4", " €\n\n", " ok"],
    );
    check("qwen2", "a12", &["a", "1", "2"]);
    check("gpt-4o", "I'll HTMLPage", &["I'll", " HTMLPage"]);
    check("tekken", "I'll", &["I", "'ll"]);
    check("falcon", "x: 12345", &["x", ":", " ", "123", "45"]);
    check("deepseek-coder", "a b\r\n", &["a", " b", "\r", "\n"]);
    check("gemma4", "a b\n\nc", &["a b", "\n\n", "c"]);
}

#[test]
fn every_pre_tokenizer_has_a_published_pattern_and_its_own_names() {
    for pre in ALL {
        assert!(
            PUBLISHED
                .iter()
                .any(|(name, _)| pre.names().any(|known| known == *name)),
            "{:?}",
            pre.names
        );
    }
    let mut names: Vec<&str> = ALL.iter().flat_map(PreTokenizer::names).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(PreTokenizer::named("").is_none());
    assert!(PreTokenizer::known().contains("command-r"));
}
