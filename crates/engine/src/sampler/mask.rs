//! Which tokens may come next: one bit for each token of the vocabulary.

use troika_base::TokenId;

/// Tokens that share a word.
const WORD: usize = u32::BITS as usize;

/// The set of tokens that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    /// `[n_vocab / 32]`, rounded up; the lowest bit is the first token's. Bits beyond the vocabulary are 0.
    words: Vec<u32>,
    n_vocab: usize,
}

impl TokenMask {
    /// A mask that allows no token.
    pub fn nothing(n_vocab: usize) -> Self {
        Self::from_words(Vec::new(), n_vocab)
    }

    /// A mask from its words, the lowest bit of the first being token 0; what lies beyond the vocabulary is dropped,
    /// what is missing is 0.
    pub fn from_words(mut words: Vec<u32>, n_vocab: usize) -> Self {
        words.resize(n_vocab.div_ceil(WORD), 0);
        if let Some(last) = words.last_mut()
            && !n_vocab.is_multiple_of(WORD)
        {
            *last &= (1 << (n_vocab % WORD)) - 1;
        }
        Self { words, n_vocab }
    }

    /// Allows a token.
    ///
    /// # Panics
    /// If it is not in the vocabulary.
    pub fn allow(&mut self, token: TokenId) {
        assert!(token.index() < self.n_vocab, "a token of the vocabulary");
        self.words[token.index() / WORD] |= 1 << (token.index() % WORD);
    }

    /// Whether a token is allowed; one beyond the vocabulary is not.
    pub fn allows(&self, token: TokenId) -> bool {
        let word = self.words.get(token.index() / WORD);
        word.is_some_and(|word| word >> (token.index() % WORD) & 1 == 1)
    }

    /// How many tokens are allowed.
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// The tokens that are allowed, in order.
    pub fn tokens(&self) -> impl Iterator<Item = TokenId> {
        let of_word = |(index, &word): (usize, &u32)| {
            (0..WORD)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| TokenId((index * WORD + bit) as u32))
        };
        self.words.iter().enumerate().flat_map(of_word)
    }

    /// Tokens in the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Rules out the tokens that are not allowed: their logits become minus infinity.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        for (&word, logits) in self.words.iter().zip(logits.chunks_mut(WORD)) {
            match word {
                u32::MAX => {}
                // Most words are all or nothing.
                0 => logits.fill(f32::NEG_INFINITY),
                // Without a branch, so that a register's worth is done at once.
                _ => {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        let allowed = word >> bit & 1 == 1;
                        *logit = if allowed { *logit } else { f32::NEG_INFINITY };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mask_is_the_set_of_its_tokens(
            n_vocab in 1usize..200,
            tokens in prop::collection::btree_set(0u32..200, 0..60),
        ) {
            let tokens: Vec<_> = tokens.into_iter().map(TokenId).filter(|token| token.index() < n_vocab).collect();
            let mut mask = TokenMask::nothing(n_vocab);
            for &token in &tokens {
                mask.allow(token);
            }
            prop_assert_eq!(mask.tokens().collect::<Vec<_>>(), tokens.clone());
            prop_assert_eq!(mask.count(), tokens.len());
            let mut logits: Vec<f32> = (0..n_vocab).map(|id| id as f32).collect();
            mask.apply(&mut logits);
            for (id, &logit) in (0u32..).zip(&logits) {
                let allowed = tokens.contains(&TokenId(id));
                prop_assert_eq!(mask.allows(TokenId(id)), allowed);
                prop_assert_eq!(logit, if allowed { id as f32 } else { f32::NEG_INFINITY });
            }
        }
    }

    #[test]
    fn bits_beyond_the_vocabulary_are_dropped() {
        let mask = TokenMask::from_words(vec![u32::MAX; 3], 33);
        assert_eq!(mask.count(), 33);
        assert!(mask.allows(TokenId(32)) && !mask.allows(TokenId(33)) && !mask.allows(TokenId(99)));
        assert_eq!(TokenMask::from_words(vec![], 40).count(), 0);
        assert_eq!(TokenMask::from_words(vec![u32::MAX; 2], 64).count(), 64);
    }
}
