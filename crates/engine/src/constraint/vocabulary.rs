//! The vocabulary as the parser sees it: the bytes of each token.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};
use troika_base::TokenId;

use super::ConstraintError;
use crate::tokenizer::Tokenizer;

/// Token ids that the parser's table holds, in 24 bits of which the highest stands for none.
const TOKENS_MAX: usize = (1 << 24) - 1;

/// Bytes of a token that the table holds well. Longer ones, which are rulers of dashes or spaces, are left out.
const TOKEN_BYTES_MAX: usize = 512;

/// No text has this byte in UTF-8; in the parser's table it begins a special token.
const SPECIAL: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The table of a tokenizer's tokens.
///
/// # Errors
/// [`ConstraintError::Vocabulary`] if there are too many.
pub(super) fn token_env(tokenizer: &Tokenizer) -> Result<TokEnv, ConstraintError> {
    let n_vocab = tokenizer.n_vocab();
    if n_vocab > TOKENS_MAX {
        return Err(ConstraintError::Vocabulary {
            reason: format!("{n_vocab} tokens are more than {TOKENS_MAX}"),
        });
    }
    let ids = || (0..n_vocab as u32).map(TokenId);
    let words: Vec<Vec<u8>> = ids().map(|id| word(tokenizer, id)).collect();
    let ends: Vec<u32> = ids()
        .filter(|&id| tokenizer.is_end_of_generation(id))
        .map(|id| id.0)
        .collect();
    // The table asserts what it cannot hold, such as too many different beginnings.
    let built = catch_unwind(AssertUnwindSafe(|| {
        let end = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let trie = TokTrie::from(&TokRxInfo::new(n_vocab as u32, end), &words);
        match ends[..] {
            [] => trie,
            _ => trie.with_eos_tokens(&ends),
        }
    }));
    let trie = built.map_err(|_| ConstraintError::Vocabulary {
        reason: format!("its {n_vocab} tokens do not fit the parser's table"),
    })?;
    // It spells text in the fewest tokens, which is not how the tokenizer would; the parser knows, and forces none.
    Ok(Arc::new(ApproximateTokEnv::new(trie)))
}

/// What a token stands for; nothing for a token that no answer of a given form may have.
fn word(tokenizer: &Tokenizer, id: TokenId) -> Vec<u8> {
    let mut word = Vec::new();
    // Some files call the token that ends an answer a normal one. It is no text for that.
    if tokenizer.is_control(id) || tokenizer.is_end_of_generation(id) {
        word.push(SPECIAL);
        word.extend(tokenizer.token_text(id).unwrap_or_default().as_bytes());
        if word.len() == 1 {
            word.clear();
        }
    } else {
        tokenizer.token_bytes(id, &mut word);
        if word.contains(&SPECIAL) {
            word.clear();
        }
    }
    if word.len() > TOKEN_BYTES_MAX {
        word.clear();
    }
    word
}
