//! Tokenizers over small vocabularies made here, which need no model files.

mod decode;
mod encode;
mod load;
mod properties;

use troika_gguf::Metadata;

use super::*;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// A vocabulary under construction.
#[derive(Clone, Default)]
struct Build {
    tokens: Vec<String>,
    types: Vec<i32>,
    scores: Vec<f32>,
    merges: Vec<String>,
}

impl Build {
    fn token(mut self, piece: &str, kind: i32, score: f32) -> Self {
        self.tokens.push(piece.to_owned());
        self.types.push(kind);
        self.scores.push(score);
        self
    }

    fn tokens(mut self, pieces: &[&str], kind: i32) -> Self {
        for piece in pieces {
            self = self.token(piece, kind, 0.0);
        }
        self
    }

    fn byte_tokens(mut self) -> Self {
        for byte in 0..=u8::MAX {
            self = self.token(&format!("<0x{byte:02X}>"), BYTE, 0.0);
        }
        self
    }

    /// The 256 characters of byte-level vocabularies.
    fn byte_alphabet(mut self) -> Self {
        for byte in 0..=u8::MAX {
            self = self.token(&alphabet::char_of(byte).to_string(), NORMAL, 0.0);
        }
        self
    }

    /// Merges, and the tokens that they make.
    fn merges(mut self, merges: &[&str]) -> Self {
        for merge in merges {
            self = self.token(&merge.replace(' ', ""), NORMAL, 0.0);
            self.merges.push((*merge).to_owned());
        }
        self
    }

    fn metadata(self, model: &str, pre: Option<&str>) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.insert(MODEL_KEY, model);
        if let Some(pre) = pre {
            metadata.insert(PRE_KEY, pre);
        }
        metadata.insert("tokenizer.ggml.tokens", self.tokens);
        metadata.insert("tokenizer.ggml.token_type", self.types);
        metadata.insert("tokenizer.ggml.scores", self.scores);
        metadata.insert("tokenizer.ggml.merges", self.merges);
        metadata
    }
}

/// `llama`: ids 0 to 2 are special, 3 to 258 bytes.
fn spm_metadata() -> Metadata {
    let build = Build::default()
        .token("<unk>", UNKNOWN, 0.0)
        .tokens(&["<s>", "</s>"], CONTROL)
        .byte_tokens()
        .tokens(&["▁", "a", "b", "c", "h", "i"], NORMAL)
        .token("ab", NORMAL, -1.0)
        .token("bc", NORMAL, -2.0)
        .token("▁a", NORMAL, -3.0)
        .token("▁▁", NORMAL, -4.0)
        .token("hi", NORMAL, -5.0)
        .token("▁hi", NORMAL, -6.0)
        .token("xy", NORMAL, -7.0)
        .token("<|tool|>", USER_DEFINED, 0.0);
    build.metadata("llama", Some("default"))
}

/// `gpt2`: ids 0 to 255 are bytes in order.
fn bpe_metadata(pre: &str) -> Metadata {
    let build = Build::default()
        .byte_alphabet()
        .merges(&[
            "h e",
            "l l",
            "he ll",
            "Ġ w",
            "o r",
            "Ċ Ċ",
            "Ġ Ġ",
            "ĠĠ ĠĠ",
            "1 2",
            "12 3",
        ])
        .tokens(&["lo", "Ġworld"], NORMAL)
        .tokens(&["<|begin|>", "<|im_end|>"], CONTROL)
        .tokens(&["<tool>", "<tool><tool>"], USER_DEFINED);
    let begin = build.tokens.len() as u32 - 4;
    let mut metadata = build.metadata("gpt2", Some(pre));
    metadata.insert("tokenizer.ggml.bos_token_id", begin);
    metadata
}

fn gemma4_metadata() -> Metadata {
    let build = Build::default()
        .token("<unk>", UNKNOWN, 0.0)
        .tokens(&["<bos>"], CONTROL)
        .byte_tokens()
        .tokens(&["▁", "a", "b", "\n", "\n\n\n"], NORMAL)
        .merges(&["▁ a", "▁ ▁", "a b", "\n \n"])
        .token("▁▁▁▁", USER_DEFINED, 0.0);
    let mut metadata = build.metadata("gemma4", None);
    metadata.insert("tokenizer.ggml.bos_token_id", 1u32);
    metadata
}

fn bert_metadata() -> Metadata {
    let build = Build::default()
        .tokens(&["[PAD]", "[UNK]", "[CLS]", "[SEP]"], CONTROL)
        .tokens(
            &["▁un", "aff", "able", "▁the", "▁,", "▁中", "▁e", "▁$", "▁a"],
            NORMAL,
        );
    let mut metadata = build.metadata("bert", None);
    for (key, id) in [("unknown", 1u32), ("cls", 2), ("seperator", 3)] {
        metadata.insert(format!("tokenizer.ggml.{key}_token_id"), id);
    }
    metadata
}

fn build(metadata: &Metadata) -> Tokenizer {
    Tokenizer::from_metadata(metadata).expect("a tokenizer")
}

/// One of each kind, and of each alphabet.
fn every_kind() -> Vec<Tokenizer> {
    let mut all = vec![
        build(&spm_metadata()),
        build(&gemma4_metadata()),
        build(&bert_metadata()),
    ];
    all.extend(
        [
            "llama-bpe",
            "gpt-2",
            "deepseek-coder",
            "deepseek-llm",
            "falcon",
            "gpt-4o",
        ]
        .map(|pre| build(&bpe_metadata(pre))),
    );
    all
}

const PLAIN: EncodeOptions = EncodeOptions {
    add_special: false,
    parse_special: false,
};
const SPECIAL: EncodeOptions = EncodeOptions {
    add_special: true,
    parse_special: true,
};

/// The tokens of a text, as the vocabulary spells them.
fn pieces(tokenizer: &Tokenizer, text: &str, options: EncodeOptions) -> Vec<String> {
    let spell = |id| tokenizer.token_text(id).expect("a token").to_owned();
    tokenizer
        .encode(text, options)
        .into_iter()
        .map(spell)
        .collect()
}

#[track_caller]
fn check(tokenizer: &Tokenizer, text: &str, expect: &[&str]) {
    assert_eq!(pieces(tokenizer, text, PLAIN), expect, "{text:?}");
}
