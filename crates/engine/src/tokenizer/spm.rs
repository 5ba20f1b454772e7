//! SentencePiece's byte-pair model: neighbours merge into the token with the best score.

use troika_base::TokenId;
use troika_gguf::Metadata;

use super::merge::{Merge, Merger};
use super::vocab::Vocab;
use super::{SPACE, TokenizerError};

/// The rules of `tokenizer.ggml.model` = `llama`.
pub(super) struct Spm {
    /// By token, lowest first.
    ranks: Vec<u32>,
    /// Whether text begins with a space that it does not have.
    pub(super) add_space_prefix: bool,
    pub(super) words_apart: bool,
    unknown: Option<TokenId>,
}

impl Spm {
    pub(super) fn from_metadata(
        metadata: &Metadata,
        vocab: &Vocab,
        unknown: Option<TokenId>,
    ) -> Result<Self, TokenizerError> {
        Ok(Self {
            ranks: vocab.ranks(metadata)?,
            add_space_prefix: metadata
                .opt_bool("tokenizer.ggml.add_space_prefix")?
                .unwrap_or(true),
            words_apart: vocab.keeps_words_apart(),
            unknown,
        })
    }

    /// Appends the tokens of a text. `fresh` says that no text stands right before it.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        fresh: bool,
        merger: &mut Merger,
        out: &mut Vec<TokenId>,
    ) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + SPACE.len_utf8());
        if fresh && self.add_space_prefix {
            escaped.push(SPACE);
        }
        escape(text, &mut escaped);
        for word in words(&escaped, self.words_apart) {
            self.encode_word(vocab, word, merger, out);
        }
    }

    fn encode_word(&self, vocab: &Vocab, text: &str, merger: &mut Merger, out: &mut Vec<TokenId>) {
        merger.clear();
        for (start, c) in text.char_indices() {
            let end = start + c.len_utf8();
            merger.push(end - start, vocab.text_id(&text[start..end]));
        }
        merger.run(|left, right| {
            // The text decides, not the ids: two characters without tokens may make one that has a token.
            let id = vocab.text_id(&text[left.range().start..right.range().end])?;
            let rank = self.ranks[id.index()];
            Some(Merge { rank, id })
        });
        for symbol in merger.symbols() {
            match symbol.id {
                Some(id) => out.push(id),
                None => spell(vocab, &text[symbol.range()], self.unknown, out),
            }
        }
    }
}

/// Writes spaces as U+2581, as the vocabulary spells them.
pub(super) fn escape(text: &str, out: &mut String) {
    let mut words = text.split(' ');
    out.extend(words.next());
    for word in words {
        out.push(SPACE);
        out.push_str(word);
    }
}

/// Cuts a text where nothing merges, since merging within small pieces is faster and gives the same.
///
/// With `apart`, that is before each U+2581 that follows another character. What no symbol can hold is cut anyhow.
pub(super) fn words(text: &str, apart: bool) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = if apart { word_end(rest) } else { rest.len() };
        let (word, after) =
            rest.split_at(rest.floor_char_boundary(end.min(Merger::TEXT_BYTES_MAX)));
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

fn word_end(text: &str) -> usize {
    let mut spaces = true;
    let start_of_next = |&(_, c): &(usize, char)| {
        let starts = c == SPACE && !spaces;
        spaces = c == SPACE;
        starts
    };
    text.char_indices()
        .find(start_of_next)
        .map_or(text.len(), |(at, _)| at)
}

/// Appends a character that is no token: its bytes, or one unknown token for a run of such characters.
pub(super) fn spell(
    vocab: &Vocab,
    character: &str,
    unknown: Option<TokenId>,
    out: &mut Vec<TokenId>,
) {
    if character.bytes().all(|byte| vocab.byte_id(byte).is_some()) {
        out.extend(character.bytes().filter_map(|byte| vocab.byte_id(byte)));
    } else if unknown.is_some() && out.last() != unknown.as_ref() {
        out.extend(unknown);
    }
}
