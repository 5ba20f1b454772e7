//! BERT's vocabulary as Hugging Face's folders have it, `vocab.txt`, told in GGUF's terms.
//!
//! There a piece that begins a word is spelt with U+2581 before it, and one within a word without the `##` that it has
//! here.

use troika_gguf::Metadata;

use super::vocab::TOKENS_KEY;
use super::{MODEL_KEY, SPACE, TokenizerError};

/// Tokens that are not text, and where their ids stand. All of them are in every vocabulary.
const NAMES: [(&str, &str); 4] = [
    ("[CLS]", "tokenizer.ggml.cls_token_id"),
    ("[SEP]", "tokenizer.ggml.seperator_token_id"),
    ("[UNK]", "tokenizer.ggml.unknown_token_id"),
    ("[PAD]", "tokenizer.ggml.padding_token_id"),
];

/// What `tokenizer.ggml.token_type` calls a piece of text, and a token that is none.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// What a GGUF file would say of this vocabulary: a piece in each line, its id the line's number.
pub(super) fn metadata(vocab: &str, lowercase: bool) -> Result<Metadata, TokenizerError> {
    let pieces: Vec<&str> = vocab.lines().map(str::trim_end).collect();
    let mut metadata = Metadata::default();
    metadata.insert(MODEL_KEY, "bert");
    for (name, key) in NAMES {
        let id = pieces.iter().position(|piece| *piece == name);
        let id = id.ok_or(TokenizerError::MissingId {
            key,
            needed_by: "vocab.txt, which has no line for it",
        })?;
        metadata.insert(key, id as u32);
    }
    let is_name = |piece: &str| piece.starts_with('[') && piece.ends_with(']') && piece.len() > 2;
    let spelt: Vec<String> = pieces
        .iter()
        .map(|piece| match piece.strip_prefix("##") {
            Some(rest) if !rest.is_empty() => rest.to_owned(),
            _ if is_name(piece) || piece.is_empty() => (*piece).to_owned(),
            _ => format!("{SPACE}{piece}"),
        })
        .collect();
    let kinds: Vec<i32> = pieces
        .iter()
        .map(|piece| if is_name(piece) { CONTROL } else { NORMAL })
        .collect();
    metadata.insert(TOKENS_KEY, spelt);
    metadata.insert("tokenizer.ggml.token_type", kinds);
    metadata.insert("tokenizer.ggml.normalizer.lowercase", lowercase);
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::{EncodeOptions, Tokenizer};

    const VOCAB: &str = "[PAD]\n[unused0]\n[UNK]\n[CLS]\n[SEP]\nthe\ncat\n##s\n##ab\n.\n[\nCat\n";

    #[track_caller]
    fn check(lowercase: bool, text: &str, want: &[u32]) {
        let tokenizer = Tokenizer::from_vocab_txt(VOCAB, lowercase).unwrap();
        let options = EncodeOptions {
            add_special: true,
            parse_special: false,
        };
        let ids: Vec<u32> = tokenizer
            .encode(text, options)
            .iter()
            .map(|id| id.0)
            .collect();
        assert_eq!(ids, want, "{text}");
    }

    #[test]
    fn words_are_cut_into_lines_of_the_file() {
        check(true, "The  CATS.", &[3, 5, 6, 7, 9, 4]);
        check(true, "câtab", &[3, 6, 8, 4]);
        check(false, "The Cat", &[3, 2, 11, 4]);
        // A name in a text is text.
        check(true, "[CLS] cat", &[3, 10, 2, 2, 6, 4]);
        check(true, "", &[3, 4]);
    }

    #[test]
    fn a_file_without_the_names_is_refused() {
        let refused = Tokenizer::from_vocab_txt("the\ncat\n", true).err().unwrap();
        let refused = refused.to_string();
        assert!(refused.contains("vocab.txt"), "{refused}");
    }
}
