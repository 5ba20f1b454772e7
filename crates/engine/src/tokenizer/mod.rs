//! Text to tokens and back, by the rules that a model file names.
//!
//! A [`Tokenizer`] is built from GGUF metadata alone. Three kinds are known: SentencePiece's byte-pair model
//! (`spm.rs`), byte-pair encoding with its many pre-tokenizers (`bpe.rs`, `pre/`) and WordPiece (`wordpiece.rs`). The
//! first two share one merging loop (`merge.rs`). Around all of them, special tokens are cut out of the text first
//! (`prefix.rs`).
//!
//! Nothing is guessed: a kind or pre-tokenizer that is not built in is refused, since wrong tokens give a model that
//! works, but badly. Every encoder takes `O(n log n)` for `n` bytes, whatever the bytes are, and does not recurse.
//!
//! Chat templates are not rendered here, and stop strings are not looked for. The rules: docs/formats/tokenizers.md.

mod error;
mod special;
mod vocab;

mod alphabet;
mod bpe;
mod merge;
mod pre;
mod prefix;
mod spm;
mod vocab_txt;
mod wordpiece;

mod detokenizer;

use std::fmt;

use troika_base::TokenId;
use troika_gguf::Metadata;

pub use detokenizer::Detokenizer;
pub use error::TokenizerError;

use bpe::Bpe;
use merge::Merger;
use pre::{Alphabet, PreTokenizer};
use prefix::{Fragment, PrefixTable};
use special::{Defaults, SpecialTokens};
use spm::Spm;
use vocab::{Kind, Vocab};
use wordpiece::WordPiece;

/// U+2581, which vocabularies that are spelt in text have for a space.
const SPACE: char = '\u{2581}';

const MODEL_KEY: &str = "tokenizer.ggml.model";
const PRE_KEY: &str = "tokenizer.ggml.pre";

/// A model's vocabulary and the rules that turn text into its tokens.
pub struct Tokenizer {
    model: &'static str,
    pre: Option<String>,
    vocab: Vocab,
    special: SpecialTokens,
    /// Control, unknown and user-defined tokens, as text spells them.
    in_text: PrefixTable,
    rules: Rules,
}

enum Rules {
    Spm(Spm),
    Bpe(Bpe),
    WordPiece(WordPiece),
}

/// What [`Tokenizer::encode`] does beyond the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EncodeOptions {
    /// Adds the tokens that the model expects around a text (begin of sequence, say), as the file wants it.
    pub add_special: bool,
    /// Reads the names of control tokens in the text as those tokens. For text that a program wrote, such as a
    /// rendered chat template; for a user's text it would let the user write commands.
    pub parse_special: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that a model file describes.
    ///
    /// # Errors
    /// If the kind or the pre-tokenizer is not built in, or the vocabulary is inconsistent; the message names the key.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        match metadata.str(MODEL_KEY)? {
            "llama" => Self::spm(metadata),
            "gpt2" => Self::bpe(metadata, "gpt2", named_pre(metadata)?),
            // Files of this kind need not name their pre-tokenizer: there is one.
            "gemma4" => {
                let pre = PreTokenizer::named("gemma4").expect("it is built in. This is a bug.");
                Self::bpe(metadata, "gemma4", pre)
            }
            "bert" => Self::wordpiece(metadata),
            other => Err(TokenizerError::UnknownModel {
                model: other.to_owned(),
                known: "llama, gpt2, gemma4, bert".to_owned(),
            }),
        }
    }

    /// Builds BERT's tokenizer from a `vocab.txt`: a piece in each line. `lowercase` takes accents away as well.
    ///
    /// # Errors
    /// If the tokens that begin, part and fill up texts are not there, or the vocabulary is inconsistent.
    pub fn from_vocab_txt(vocab: &str, lowercase: bool) -> Result<Self, TokenizerError> {
        Self::from_metadata(&vocab_txt::metadata(vocab, lowercase)?)
    }

    fn spm(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let defaults = Defaults {
            bos: Some(1),
            eos: Some(2),
            unknown: Some(0),
            add_bos: true,
            ..Defaults::default()
        };
        Self::with_rules(metadata, "llama", defaults, |vocab, unknown| {
            Ok(Rules::Spm(Spm::from_metadata(metadata, vocab, unknown)?))
        })
    }

    fn bpe(
        metadata: &Metadata,
        model: &'static str,
        pre: &'static PreTokenizer,
    ) -> Result<Self, TokenizerError> {
        let defaults = Defaults {
            add_bos: pre.add_bos,
            ..Defaults::default()
        };
        Self::with_rules(metadata, model, defaults, |vocab, unknown| {
            let bpe = Bpe::from_metadata(metadata, vocab, pre, unknown)?;
            Ok(Rules::Bpe(bpe))
        })
    }

    fn wordpiece(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let defaults = Defaults {
            bos: Some(101),
            unknown: Some(100),
            separator: Some(102),
            add_bos: true,
            ..Defaults::default()
        };
        Self::with_rules(metadata, "bert", defaults, |vocab, unknown| {
            let rules = WordPiece::from_metadata(metadata, vocab, unknown)?;
            Ok(Rules::WordPiece(rules))
        })
    }

    fn with_rules(
        metadata: &Metadata,
        model: &'static str,
        defaults: Defaults,
        rules: impl FnOnce(&Vocab, Option<TokenId>) -> Result<Rules, TokenizerError>,
    ) -> Result<Self, TokenizerError> {
        let mut vocab = Vocab::from_metadata(metadata)?;
        let special = SpecialTokens::from_metadata(metadata, &mut vocab, defaults)?;
        let rules = rules(&vocab, special.unknown)?;
        Ok(Self {
            model,
            pre: metadata.opt_str(PRE_KEY)?.map(str::to_owned),
            in_text: special::in_text(&vocab, rules.spells_text())?,
            vocab,
            special,
            rules,
        })
    }

    /// The tokens of a text.
    ///
    /// User-defined tokens are found wherever they stand, control tokens only with [`EncodeOptions::parse_special`];
    /// where several fit, the leftmost and then the longest counts. Characters that the vocabulary lacks are spelt in
    /// byte tokens, or else are the unknown token.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<TokenId> {
        let mut out = Vec::with_capacity(text.len() / 4 + 2);
        let mut merger = Merger::default();
        if options.add_special {
            out.extend(self.special.before);
        }
        let allowed = |id| options.parse_special || self.vocab.kind(id) == Some(Kind::UserDefined);
        let mut fresh = true;
        self.in_text
            .split(text, allowed, |fragment| match fragment {
                Fragment::Token(id) => {
                    out.push(id);
                    fresh = true;
                }
                Fragment::Text(text) => {
                    match &self.rules {
                        Rules::Spm(spm) => {
                            spm.encode(&self.vocab, text, fresh, &mut merger, &mut out)
                        }
                        Rules::Bpe(bpe) => bpe.encode(&self.vocab, text, &mut merger, &mut out),
                        Rules::WordPiece(rules) => rules.encode(text, &mut out),
                    }
                    fresh = false;
                }
            });
        if options.add_special {
            out.extend(self.special.after);
        }
        out
    }

    /// The text of tokens from the beginning of a text. Control tokens are no text; bytes that are not UTF-8 become
    /// U+FFFD.
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let mut detokenizer = self.detokenizer();
        let mut text = String::new();
        for &token in tokens {
            text.push_str(detokenizer.push(token));
        }
        text.push_str(detokenizer.finish());
        text
    }

    /// A streaming [`decode`](Self::decode).
    pub fn detokenizer(&self) -> Detokenizer<&Self> {
        Detokenizer::new(self)
    }

    /// Appends the bytes that a token stands for: none for control tokens, and not whole characters for byte tokens.
    pub fn token_bytes(&self, id: TokenId, out: &mut Vec<u8>) {
        let (Some(piece), Some(kind)) = (self.vocab.piece(id), self.vocab.kind(id)) else {
            return;
        };
        match kind {
            Kind::Control | Kind::Unknown | Kind::Unused => {}
            Kind::Byte(byte) => out.push(byte),
            Kind::Normal | Kind::UserDefined if self.rules.spells_text() => {
                for (index, part) in piece.split(SPACE).enumerate() {
                    out.extend((index > 0).then_some(b' '));
                    out.extend(part.as_bytes());
                }
            }
            Kind::UserDefined => out.extend(piece.as_bytes()),
            Kind::Normal => {
                for c in piece.chars() {
                    match alphabet::byte_of(c) {
                        Some(byte) => out.push(byte),
                        None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
    }

    /// Whether decoding takes away a space at the beginning of a text.
    pub(crate) fn prefixes_space(&self) -> bool {
        match &self.rules {
            Rules::Spm(spm) => spm.add_space_prefix,
            Rules::Bpe(_) => false,
            Rules::WordPiece(_) => true,
        }
    }

    /// The number of tokens; ids are below it.
    pub fn n_vocab(&self) -> usize {
        self.vocab.len()
    }

    /// The token as the file spells it.
    pub fn token_text(&self, id: TokenId) -> Option<&str> {
        self.vocab.piece(id).map(AsRef::as_ref)
    }

    /// The token that the file spells like this.
    pub fn token_id(&self, piece: &str) -> Option<TokenId> {
        self.vocab.id(piece)
    }

    /// Whether a token steers the model instead of being text.
    pub fn is_control(&self, id: TokenId) -> bool {
        self.vocab.kind(id) == Some(Kind::Control)
    }

    /// Whether an answer ends with this token: end of sequence, of turn or of message, by key or by well-known name.
    pub fn is_end_of_generation(&self, id: TokenId) -> bool {
        self.special.ends_generation(id)
    }

    /// The tokens that an answer ends with.
    pub fn ends_of_generation(&self) -> &[TokenId] {
        self.special.ends_of_generation()
    }

    /// Begin of sequence; of BERT models, the class token.
    pub fn bos(&self) -> Option<TokenId> {
        self.special.bos
    }

    /// End of sequence.
    pub fn eos(&self) -> Option<TokenId> {
        self.special.eos
    }

    /// End of turn.
    pub fn eot(&self) -> Option<TokenId> {
        self.special.eot
    }

    /// Padding.
    pub fn pad(&self) -> Option<TokenId> {
        self.special.padding
    }

    /// What stands for text that the vocabulary cannot spell.
    pub fn unk(&self) -> Option<TokenId> {
        self.special.unknown
    }

    /// Whether [`EncodeOptions::add_special`] puts [`bos`](Self::bos) before a text.
    pub fn adds_bos(&self) -> bool {
        self.special.before.is_some()
    }

    /// `tokenizer.ggml.model` of the file.
    pub fn model_name(&self) -> &str {
        self.model
    }

    /// `tokenizer.ggml.pre` of the file.
    pub fn pre_name(&self) -> Option<&str> {
        self.pre.as_deref()
    }
}

impl Rules {
    /// Whether tokens are spelt in text with U+2581 for spaces, not in characters for bytes.
    fn spells_text(&self) -> bool {
        match self {
            Self::Spm(_) | Self::WordPiece(_) => true,
            Self::Bpe(bpe) => bpe.pre.alphabet == Alphabet::Text,
        }
    }
}

impl fmt::Debug for Tokenizer {
    /// Without the vocabulary, which would be pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("model", &self.model)
            .field("pre", &self.pre)
            .field("n_vocab", &self.n_vocab())
            .finish_non_exhaustive()
    }
}

/// The rules that the file names for cutting text into words.
fn named_pre(metadata: &Metadata) -> Result<&'static PreTokenizer, TokenizerError> {
    let known = PreTokenizer::known;
    let name = metadata
        .opt_str(PRE_KEY)?
        .ok_or_else(|| TokenizerError::MissingPre { known: known() })?;
    PreTokenizer::named(name).ok_or_else(|| TokenizerError::UnknownPre {
        pre: name.to_owned(),
        known: known(),
    })
}

#[cfg(test)]
mod tests;
