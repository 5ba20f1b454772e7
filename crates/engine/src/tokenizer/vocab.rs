//! The vocabulary: tokens, what kind each is, and the way from text to token.
//!
//! Everything that a file may get wrong about them is checked here, once, at load.

use foldhash::{HashMap, HashMapExt as _};
use std::sync::Arc;

use troika_base::TokenId;
use troika_gguf::Metadata;

use super::{SPACE, TokenizerError};

pub(super) const TOKENS_KEY: &str = "tokenizer.ggml.tokens";
const TYPES_KEY: &str = "tokenizer.ggml.token_type";
const SCORES_KEY: &str = "tokenizer.ggml.scores";

/// Ids fit in 31 bits, since other programs hold them in signed integers.
const TOKENS_MAX: usize = i32::MAX as usize;

/// Real tokens have some hundred bytes at most. The bound keeps the cost of a look-up small.
const PIECE_BYTES_MAX: usize = 4096;

/// What a token is, after `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Normal,
    /// Stands for what the vocabulary cannot spell.
    Unknown,
    /// Steers the model; is no text.
    Control,
    /// Text that is one token wherever it stands.
    UserDefined,
    /// Fills a gap between ids.
    Unused,
    /// One byte.
    Byte(u8),
}

impl Kind {
    /// Whether the token may come out of merging plain text. Control tokens may not: text is no command.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Normal | Self::UserDefined | Self::Unused)
    }
}

/// The tokens of a model.
pub(super) struct Vocab {
    pieces: Vec<Arc<str>>,
    kinds: Vec<Kind>,
    ids: HashMap<Arc<str>, TokenId>,
    /// The tokens of type byte.
    bytes: [Option<TokenId>; 256],
    piece_bytes_max: usize,
}

impl Vocab {
    /// Reads tokens and their types.
    ///
    /// # Errors
    /// If an array is absent, of the wrong type or length, or holds what a vocabulary may not.
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let tokens = metadata.strings(TOKENS_KEY)?;
        if tokens.is_empty() || tokens.len() > TOKENS_MAX {
            return Err(TokenizerError::TokenCount {
                have: tokens.len(),
                max: TOKENS_MAX,
            });
        }
        let kinds = read_kinds(metadata, tokens)?;
        let mut vocab = Self {
            pieces: Vec::with_capacity(tokens.len()),
            kinds,
            ids: HashMap::with_capacity(tokens.len()),
            bytes: [None; 256],
            piece_bytes_max: 0,
        };
        for (index, piece) in tokens.iter().enumerate() {
            vocab.push(index, piece)?;
        }
        Ok(vocab)
    }

    fn push(&mut self, index: usize, piece: &str) -> Result<(), TokenizerError> {
        if piece.len() > PIECE_BYTES_MAX {
            return Err(TokenizerError::PieceTooLong {
                id: index,
                bytes: piece.len(),
                max: PIECE_BYTES_MAX,
            });
        }
        let id = TokenId(index as u32);
        let piece: Arc<str> = piece.into();
        self.pieces.push(Arc::clone(&piece));
        if piece.is_empty() {
            // Converters leave gaps in the ids like this. No text is empty, so it needs no look-up.
            return Ok(());
        }
        self.piece_bytes_max = self.piece_bytes_max.max(piece.len());
        if let Kind::Byte(byte) = self.kinds[index] {
            self.bytes[usize::from(byte)].get_or_insert(id);
        }
        if let Some(first) = self.ids.insert(Arc::clone(&piece), id) {
            return Err(TokenizerError::DuplicateToken {
                piece: piece.as_ref().to_owned(),
                first: first.index(),
                second: index,
            });
        }
        Ok(())
    }

    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The token as the file spells it.
    pub(super) fn piece(&self, id: TokenId) -> Option<&Arc<str>> {
        self.pieces.get(id.index())
    }

    pub(super) fn kind(&self, id: TokenId) -> Option<Kind> {
        self.kinds.get(id.index()).copied()
    }

    /// Every token with its kind, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TokenId, &Arc<str>, Kind)> {
        self.pieces
            .iter()
            .zip(&self.kinds)
            .enumerate()
            .map(|(index, (piece, &kind))| (TokenId(index as u32), piece, kind))
    }

    /// The token with this spelling, of any kind.
    pub(super) fn id(&self, piece: &str) -> Option<TokenId> {
        if piece.len() > self.piece_bytes_max {
            return None;
        }
        self.ids.get(piece).copied()
    }

    /// The token with this spelling, if plain text may become it.
    pub(super) fn text_id(&self, piece: &str) -> Option<TokenId> {
        self.id(piece).filter(|id| self.kinds[id.index()].is_text())
    }

    /// The token of type byte for this byte.
    pub(super) fn byte_id(&self, byte: u8) -> Option<TokenId> {
        self.bytes[usize::from(byte)]
    }

    /// Whether no token that text may become has U+2581 after another character, so that merging never joins words.
    pub(super) fn keeps_words_apart(&self) -> bool {
        let joins = |piece: &str| piece.trim_start_matches(SPACE).contains(SPACE);
        !self
            .iter()
            .any(|(_, piece, kind)| kind.is_text() && joins(piece))
    }

    /// Makes a token a control token, whatever the file says.
    pub(super) fn set_control(&mut self, id: TokenId) {
        self.kinds[id.index()] = Kind::Control;
    }

    /// The scores of the tokens, as ranks: the best score has the lowest rank, equal scores share one.
    ///
    /// # Errors
    /// If the array is absent, not of floats, of another length, or holds what is not a number.
    pub(super) fn ranks(&self, metadata: &Metadata) -> Result<Vec<u32>, TokenizerError> {
        let scores = metadata.f32s(SCORES_KEY)?;
        check_length(SCORES_KEY, scores.len(), self.len())?;
        scores
            .iter()
            .enumerate()
            .map(|(id, &score)| {
                if score.is_nan() {
                    return Err(TokenizerError::Score { id });
                }
                // Zero is added so that -0.0 and 0.0 are one score. Bits of floats order as the floats do once
                // negative ones are turned over; all of it is turned over again, since low ranks win.
                let bits = (score + 0.0).to_bits();
                let ascending = if bits >> 31 == 1 {
                    !bits
                } else {
                    bits | 1 << 31
                };
                Ok(!ascending)
            })
            .collect()
    }
}

fn read_kinds(metadata: &Metadata, tokens: &[String]) -> Result<Vec<Kind>, TokenizerError> {
    let Some(types) = metadata.opt_i32s(TYPES_KEY)? else {
        // Without types the spelling is all there is.
        let kind = |piece: &String| parse_byte(piece).map_or(Kind::Normal, Kind::Byte);
        return Ok(tokens.iter().map(kind).collect());
    };
    check_length(TYPES_KEY, types.len(), tokens.len())?;
    let kind = |(id, (&value, piece)): (usize, (&i32, &String))| match value {
        1 => Ok(Kind::Normal),
        2 => Ok(Kind::Unknown),
        3 => Ok(Kind::Control),
        4 => Ok(Kind::UserDefined),
        0 | 5 => Ok(Kind::Unused),
        6 => parse_byte(piece)
            .map(Kind::Byte)
            .ok_or_else(|| TokenizerError::ByteToken {
                id,
                piece: piece.clone(),
            }),
        _ => Err(TokenizerError::TokenType { id, value }),
    };
    types.iter().zip(tokens).enumerate().map(kind).collect()
}

/// The byte that `<0xNN>` spells.
fn parse_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    // `from_str_radix` alone would take `+5`.
    let hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn check_length(key: &'static str, have: usize, want: usize) -> Result<(), TokenizerError> {
    if have == want {
        Ok(())
    } else {
        Err(TokenizerError::ArrayLength { key, have, want })
    }
}
