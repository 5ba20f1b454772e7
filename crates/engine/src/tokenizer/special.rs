//! Special tokens: which ids begin, part and end a text, and which ones end an answer.

use std::sync::Arc;

use troika_base::TokenId;
use troika_gguf::Metadata;

use super::prefix::PrefixTable;
use super::vocab::{Kind, Vocab};
use super::{SPACE, TokenizerError};

/// Tokens that end a turn, by the names that models give them; the first that is there is the end of turn.
const END_OF_TURN: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<turn|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// Tokens that end an answer as well: for a tool to be called, or where a model trained on code begins another file.
const END_OF_GENERATION: [&str; 11] = [
    "<|eom_id|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|tool_response>",
    "[EOS]",
    "<|fim_pad|>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// Names that ordinary vocabularies hold as text, too: they end an answer only where the file calls them control.
const END_IF_CONTROL: [&str; 2] = ["</s>", "<eos>"];

/// What holds where the file does not say, by kind of tokenizer.
#[derive(Clone, Copy, Default)]
pub(super) struct Defaults {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) add_bos: bool,
    /// Whether texts end with a separator instead of the end of sequence, and its id.
    pub(super) separator: Option<u32>,
}

/// The special tokens of a vocabulary.
pub(super) struct SpecialTokens {
    pub(super) bos: Option<TokenId>,
    pub(super) eos: Option<TokenId>,
    pub(super) eot: Option<TokenId>,
    pub(super) unknown: Option<TokenId>,
    pub(super) padding: Option<TokenId>,
    /// What every text starts with.
    pub(super) before: Option<TokenId>,
    /// What every text ends with.
    pub(super) after: Option<TokenId>,
    /// Sorted, each once.
    end_of_generation: Vec<TokenId>,
}

impl SpecialTokens {
    /// Reads the ids, and makes control tokens of those that end an answer by name.
    ///
    /// # Errors
    /// If an id is outside the vocabulary, or a token is to be added to every text that the file does not name.
    pub(super) fn from_metadata(
        metadata: &Metadata,
        vocab: &mut Vocab,
        defaults: Defaults,
    ) -> Result<Self, TokenizerError> {
        let keys = Keys {
            metadata,
            n_vocab: vocab.len(),
        };
        // Files of BERT models have either name for the token that begins a text.
        let class = keys.id("tokenizer.ggml.cls_token_id", defaults.bos)?;
        let bos = keys.id(BOS_KEY, None)?.or(class);
        let eos = keys.id(EOS_KEY, defaults.eos)?;
        let before = keys.added(
            "tokenizer.ggml.add_bos_token",
            defaults.add_bos,
            BOS_KEY,
            bos,
        )?;
        let after = if defaults.separator.is_some() {
            let separator = keys.id(SEPARATOR_KEY, defaults.separator)?;
            keys.added(
                "tokenizer.ggml.add_sep_token",
                true,
                SEPARATOR_KEY,
                separator,
            )?
        } else {
            keys.added("tokenizer.ggml.add_eos_token", false, EOS_KEY, eos)?
        };
        let mut ends = named(vocab, &END_OF_TURN, true);
        ends.extend(named(vocab, &END_OF_GENERATION, true));
        ends.extend(named(vocab, &END_IF_CONTROL, false));
        keep_end_of_message(vocab, &mut ends);
        let mut turn_ends = END_OF_TURN.iter().filter_map(|name| vocab.id(name));
        let eot = keys
            .id("tokenizer.ggml.eot_token_id", None)?
            .or(turn_ends.find(|id| ends.contains(id)));
        ends.extend(eos.into_iter().chain(eot));
        ends.extend(keys.id("tokenizer.ggml.eom_token_id", None)?);
        ends.extend(keys.ids("tokenizer.ggml.eos_token_ids")?);
        ends.sort_unstable();
        ends.dedup();
        Ok(Self {
            bos,
            eos,
            eot,
            unknown: keys.id("tokenizer.ggml.unknown_token_id", defaults.unknown)?,
            padding: keys.padding()?,
            before,
            after,
            end_of_generation: ends,
        })
    }

    pub(super) fn ends_of_generation(&self) -> &[TokenId] {
        &self.end_of_generation
    }

    pub(super) fn ends_generation(&self, id: TokenId) -> bool {
        self.end_of_generation.binary_search(&id).is_ok()
    }
}

/// The tokens with these names that are special to the file, made control tokens.
///
/// Older converters call them user-defined, which would let any text write them.
fn named(vocab: &mut Vocab, names: &[&str], if_user_defined: bool) -> Vec<TokenId> {
    let special = |vocab: &Vocab, id| match vocab.kind(id) {
        Some(Kind::Control) => true,
        Some(Kind::UserDefined) => if_user_defined,
        _ => false,
    };
    let ids: Vec<TokenId> = names.iter().filter_map(|name| vocab.id(name)).collect();
    let ids: Vec<TokenId> = ids.into_iter().filter(|&id| special(vocab, id)).collect();
    for &id in &ids {
        vocab.set_control(id);
    }
    ids
}

/// In the formats that end answers with `<|return|>` or `<|flush|>`, `<|end|>` only ends one message of several.
fn keep_end_of_message(vocab: &Vocab, ends: &mut Vec<TokenId>) {
    let has = |name| vocab.id(name).is_some_and(|id| ends.contains(&id));
    let several = has("<|return|>") && has("<|call|>") || has("<|flush|>") && has("<|calls|>");
    if several {
        ends.retain(|&id| vocab.id("<|end|>") != Some(id));
    }
}

const BOS_KEY: &str = "tokenizer.ggml.bos_token_id";
const EOS_KEY: &str = "tokenizer.ggml.eos_token_id";
/// Spelt like this in every file.
const SEPARATOR_KEY: &str = "tokenizer.ggml.seperator_token_id";

/// Reads ids that are checked against the vocabulary.
struct Keys<'m> {
    metadata: &'m Metadata,
    n_vocab: usize,
}

impl Keys<'_> {
    /// The id of a key; a default counts where the vocabulary has it.
    fn id(
        &self,
        key: &'static str,
        default: Option<u32>,
    ) -> Result<Option<TokenId>, TokenizerError> {
        match self.metadata.opt_u32(key)? {
            Some(id) => self.checked(key, id).map(Some),
            None => Ok(default.map(TokenId).filter(|id| id.index() < self.n_vocab)),
        }
    }

    fn ids(&self, key: &'static str) -> Result<Vec<TokenId>, TokenizerError> {
        let ids = self.metadata.opt_u32s(key)?.unwrap_or_default();
        ids.iter().map(|&id| self.checked(key, id)).collect()
    }

    fn checked(&self, key: &'static str, id: u32) -> Result<TokenId, TokenizerError> {
        let n_vocab = self.n_vocab;
        if TokenId(id).index() < n_vocab {
            Ok(TokenId(id))
        } else {
            Err(TokenizerError::IdOutOfRange { key, id, n_vocab })
        }
    }

    /// Padding fills batches in training. Files with an id past the vocabulary are common, and nothing here rests on
    /// it, so that is no reason to refuse one.
    fn padding(&self) -> Result<Option<TokenId>, TokenizerError> {
        let id = self.metadata.opt_u32("tokenizer.ggml.padding_token_id")?;
        Ok(id.map(TokenId).filter(|id| id.index() < self.n_vocab))
    }

    /// The token if it is to be added to every text.
    fn added(
        &self,
        flag: &'static str,
        default: bool,
        key: &'static str,
        id: Option<TokenId>,
    ) -> Result<Option<TokenId>, TokenizerError> {
        if !self.metadata.opt_bool(flag)?.unwrap_or(default) {
            return Ok(None);
        }
        match id {
            Some(id) => Ok(Some(id)),
            None => Err(TokenizerError::MissingId {
                key,
                needed_by: flag,
            }),
        }
    }
}

/// The longest name of a special token. The bound keeps the search for them linear in practice.
const NAME_BYTES_MAX: usize = 256;

/// The tokens that may stand in a text by name. Where the vocabulary has U+2581 for spaces, a user-defined token is
/// found with spaces.
pub(super) fn in_text(vocab: &Vocab, spells_text: bool) -> Result<PrefixTable, TokenizerError> {
    let mut names = Vec::new();
    for (id, piece, kind) in vocab.iter() {
        let name = match kind {
            Kind::UserDefined if spells_text && piece.contains(SPACE) => {
                piece.replace(SPACE, " ").into()
            }
            Kind::Control | Kind::Unknown | Kind::UserDefined => Arc::clone(piece),
            Kind::Normal | Kind::Unused | Kind::Byte(_) => continue,
        };
        if name.len() > NAME_BYTES_MAX {
            return Err(TokenizerError::PieceTooLong {
                id: id.index(),
                bytes: name.len(),
                max: NAME_BYTES_MAX,
            });
        }
        names.push((name, id));
    }
    Ok(PrefixTable::new(names))
}
