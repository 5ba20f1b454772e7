//! Byte-pair encoding: within a word, neighbours merge in the order that training learned.

use foldhash::{HashMap, HashMapExt as _};

use troika_base::TokenId;
use troika_gguf::Metadata;

use super::merge::{Merge, Merger};
use super::pre::{Alphabet, PreTokenizer, WholeWords};
use super::spm::{escape, spell, words};
use super::vocab::{Kind, Vocab};
use super::{TokenizerError, alphabet};

const MERGES_KEY: &str = "tokenizer.ggml.merges";

/// The rules of `tokenizer.ggml.model` = `gpt2` and `gemma4`.
pub(super) struct Bpe {
    pub(super) pre: &'static PreTokenizer,
    merges: HashMap<(TokenId, TokenId), Merge>,
    words_apart: bool,
    /// The token of each byte; unused where the alphabet is text.
    bytes: Box<[Option<TokenId>; 256]>,
    unknown: Option<TokenId>,
}

impl Bpe {
    pub(super) fn from_metadata(
        metadata: &Metadata,
        vocab: &Vocab,
        pre: &'static PreTokenizer,
        unknown: Option<TokenId>,
    ) -> Result<Self, TokenizerError> {
        let mut bytes = Box::new([None; 256]);
        for byte in 0..=u8::MAX {
            let spelt = alphabet::char_of(byte);
            bytes[usize::from(byte)] = vocab.text_id(spelt.encode_utf8(&mut [0; 4]));
        }
        Ok(Self {
            pre,
            merges: read_merges(metadata, vocab)?,
            words_apart: vocab.keeps_words_apart(),
            bytes,
            unknown,
        })
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        merger: &mut Merger,
        out: &mut Vec<TokenId>,
    ) {
        match self.pre.alphabet {
            Alphabet::Bytes => {
                let mut spelt = String::new();
                self.pre.split(text, &mut |word| {
                    if !self.whole_word(vocab, word, &mut spelt, out) {
                        self.encode_bytes(word, merger, out);
                    }
                });
            }
            Alphabet::Text => {
                let mut escaped = String::with_capacity(text.len() + text.len() / 4);
                escape(text, &mut escaped);
                self.pre.split(&escaped, &mut |line| {
                    for word in words(line, self.words_apart) {
                        self.encode_text(vocab, word, merger, out);
                    }
                });
            }
        }
    }

    /// Appends the token that a word is as a whole, where the rules look for one.
    fn whole_word(
        &self,
        vocab: &Vocab,
        word: &str,
        spelt: &mut String,
        out: &mut Vec<TokenId>,
    ) -> bool {
        if self.pre.whole_words != WholeWords::All {
            return false;
        }
        spelt.clear();
        spelt.extend(word.bytes().map(alphabet::char_of));
        let id = vocab.text_id(spelt);
        out.extend(id);
        id.is_some()
    }

    fn encode_bytes(&self, word: &str, merger: &mut Merger, out: &mut Vec<TokenId>) {
        for word in words(word, false) {
            merger.clear();
            for byte in word.bytes() {
                merger.push(1, self.bytes[usize::from(byte)]);
            }
            merger.run(|left, right| self.merges.get(&(left.id?, right.id?)).copied());
            // A byte that the vocabulary lacks is unknown, or nothing where there is no unknown token.
            out.extend(
                merger
                    .symbols()
                    .filter_map(|symbol| symbol.id.or(self.unknown)),
            );
        }
    }

    fn encode_text(&self, vocab: &Vocab, word: &str, merger: &mut Merger, out: &mut Vec<TokenId>) {
        if self.pre.whole_words == WholeWords::LineFeeds
            && word.starts_with('\n')
            && let Some(id) = vocab.text_id(word)
        {
            return out.push(id);
        }
        merger.clear();
        for (start, c) in word.char_indices() {
            let end = start + c.len_utf8();
            merger.push(end - start, vocab.text_id(&word[start..end]));
        }
        merger.run(|left, right| self.merges.get(&(left.id?, right.id?)).copied());
        for symbol in merger.symbols() {
            match symbol.id {
                Some(id) => out.push(id),
                None => spell(vocab, &word[symbol.range()], self.unknown, out),
            }
        }
    }
}

/// Reads the merges: `left right`, both of them tokens, as is what they make. Earlier ones go first.
fn read_merges(
    metadata: &Metadata,
    vocab: &Vocab,
) -> Result<HashMap<(TokenId, TokenId), Merge>, TokenizerError> {
    let lines = metadata.strings(MERGES_KEY)?;
    let mut merges = HashMap::with_capacity(lines.len());
    let mut whole = String::new();
    for (index, line) in lines.iter().enumerate() {
        let error = |problem| TokenizerError::Merge {
            index,
            merge: line.clone(),
            problem,
        };
        let (left, right) = line
            .split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty())
            .ok_or_else(|| error("is not two tokens with a space between them"))?;
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        let token = |piece, problem| vocab.id(piece).ok_or_else(|| error(problem));
        let pair = (
            token(left, "has a left side that is no token")?,
            token(right, "has a right side that is no token")?,
        );
        let id = token(&whole, "makes what is no token")?;
        let rank = u32::try_from(index).map_err(|_| error("is one too many"))?;
        // Text is no command: a merge that would make it one is left out.
        if vocab.kind(id).is_some_and(Kind::is_text) {
            merges.entry(pair).or_insert(Merge { rank, id });
        }
    }
    Ok(merges)
}
