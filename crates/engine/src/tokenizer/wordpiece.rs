//! BERT's WordPiece: text is folded and cut into words, and each word into the longest pieces from the left.

use troika_base::TokenId;
use troika_gguf::Metadata;
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

use super::prefix::PrefixTable;
use super::vocab::{Kind, Vocab};
use super::{SPACE, TokenizerError, pre};

/// A longer word is unknown as a whole, as in BERT's own tokenizer.
const WORD_CHARS_MAX: usize = 100;

/// The rules of `tokenizer.ggml.model` = `bert`.
pub(super) struct WordPiece {
    /// Pieces that begin a word are spelt with U+2581 before them; those within a word are not.
    pieces: PrefixTable,
    unknown: TokenId,
    lowercase: bool,
    strip_accents: bool,
}

impl WordPiece {
    pub(super) fn from_metadata(
        metadata: &Metadata,
        vocab: &Vocab,
        unknown: Option<TokenId>,
    ) -> Result<Self, TokenizerError> {
        let lowercase = metadata
            .opt_bool("tokenizer.ggml.normalizer.lowercase")?
            .unwrap_or(true);
        let pieces = vocab
            .iter()
            .filter(|&(_, _, kind)| kind == Kind::Normal)
            .map(|(id, piece, _)| (piece.clone(), id));
        Ok(Self {
            pieces: PrefixTable::new(pieces),
            unknown: unknown.ok_or(TokenizerError::MissingId {
                key: "tokenizer.ggml.unknown_token_id",
                needed_by: "tokenizer.ggml.model = bert",
            })?,
            lowercase,
            strip_accents: metadata
                .opt_bool("tokenizer.ggml.normalizer.strip_accents")?
                .unwrap_or(lowercase),
        })
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<TokenId>) {
        let kept = text.chars().filter(|&c| !is_dropped(c));
        let mut word = Word::default();
        let mut each = |c: char| {
            if c.is_whitespace() {
                self.finish(&mut word, out);
            } else if pre::punctuation_or_ascii_symbol(c) || is_chinese(c) {
                self.finish(&mut word, out);
                word.push(c);
                self.finish(&mut word, out);
            } else {
                word.push(c);
            }
        };
        let mut fold = |c: char| {
            if self.lowercase {
                c.to_lowercase().for_each(&mut each);
            } else {
                each(c);
            }
        };
        if self.strip_accents {
            kept.nfd()
                .filter(|c| c.general_category() != GeneralCategory::NonspacingMark)
                .for_each(&mut fold);
        } else {
            kept.for_each(&mut fold);
        }
        self.finish(&mut word, out);
    }

    /// Appends the pieces of a word, or the unknown token when they do not cover it, and starts the next word.
    fn finish(&self, word: &mut Word, out: &mut Vec<TokenId>) {
        if word.chars == 0 {
            return;
        }
        let start = out.len();
        let mut rest = word.spelt.as_bytes();
        // The sign for the beginning of a word is no piece of one.
        let mut known = word.chars <= WORD_CHARS_MAX && word.spelt.rfind(SPACE) == Some(0);
        while known && !rest.is_empty() {
            match self.pieces.longest(rest, |_| true) {
                Some((id, length)) => {
                    out.push(id);
                    rest = &rest[length..];
                }
                None => known = false,
            }
        }
        if !known {
            out.truncate(start);
            out.push(self.unknown);
        }
        word.clear();
    }
}

/// A word as it is put together.
#[derive(Default)]
struct Word {
    /// With U+2581 before it. Characters past the limit are counted only.
    spelt: String,
    chars: usize,
}

impl Word {
    fn push(&mut self, c: char) {
        if self.chars == 0 {
            self.spelt.push(SPACE);
        }
        self.chars += 1;
        if self.chars <= WORD_CHARS_MAX {
            self.spelt.push(c);
        }
    }

    fn clear(&mut self) {
        self.spelt.clear();
        self.chars = 0;
    }
}

/// Control and format characters, and what stands for text that could not be read.
fn is_dropped(c: char) -> bool {
    if matches!(c, '\t' | '\n' | '\r') {
        return false;
    }
    c == char::REPLACEMENT_CHARACTER
        || c.is_control()
        || (!c.is_ascii()
            && c.general_category_group() == GeneralCategoryGroup::Other
            && c.general_category() != GeneralCategory::Unassigned)
}

/// Ideographs, each of which is a word. The ranges are those of the tokenizer that BERT models are published with.
fn is_chinese(c: char) -> bool {
    matches!(
        c,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b920}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}
