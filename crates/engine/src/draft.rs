//! Speculative decoding: tokens that probably come next are read in one step with the one that surely does, and count if the
//! sampler would have chosen them.
//!
//! A device reads a handful of tokens in hardly more time than one, because it waits for the weights. Nothing depends on a guess
//! but time: each token is chosen by the same sampler from the model's own logits as without drafts, so the text is not only of
//! the same distribution but the same text, as far as a token's logits do not depend on the size of its batch. (Leviathan et al.
//! 2023, arXiv:2211.17192, accept by a ratio of probabilities instead; that takes a few more drafts of models, and gives another
//! text with the same seed.)

use troika_base::TokenId;

use crate::{Error, Session};

/// Tokens of a draft at most. With the token before it, it stays below the 16 from which on a matrix unit computes otherwise.
pub const DRAFT_MAX: usize = 12;

/// Makes up how a text may go on.
pub trait Drafter {
    /// Writes up to `most` tokens that may follow `text` to `out`, which is empty.
    ///
    /// # Errors
    /// If it runs a model, and that fails.
    fn draft(&mut self, text: &[TokenId], most: usize, out: &mut Vec<TokenId>)
    -> Result<(), Error>;
}

/// Takes what followed the last few tokens where they stood before: in texts that are quoted, edited or computed from a form,
/// such as code and summaries. Saxena 2023, "prompt lookup decoding".
#[derive(Clone, Copy, Debug)]
pub struct PromptLookup {
    /// The longest run of tokens that is looked for; shorter ones are, where it is not there.
    pub longest: usize,
    /// The shortest run that means anything.
    pub shortest: usize,
}

impl Default for PromptLookup {
    fn default() -> Self {
        Self {
            longest: 4,
            shortest: 2,
        }
    }
}

impl Drafter for PromptLookup {
    fn draft(
        &mut self,
        text: &[TokenId],
        most: usize,
        out: &mut Vec<TokenId>,
    ) -> Result<(), Error> {
        for n in (self.shortest..=self.longest).rev() {
            let Some(before) = text.len().checked_sub(n) else {
                continue;
            };
            let run = &text[before..];
            // The latest place counts: texts go on as they went on last.
            let mut places = text[..text.len() - 1].windows(n).enumerate().rev();
            if let Some((place, _)) = places.find(|(_, tokens)| *tokens == run) {
                let follows = &text[place + n..];
                out.extend_from_slice(&follows[..follows.len().min(most)]);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Asks a smaller model with the same vocabulary for its likeliest tokens.
#[derive(Debug)]
pub struct DraftModel<'m> {
    session: Session<'m>,
}

impl<'m> DraftModel<'m> {
    /// A drafter for texts of `target`, over an empty session of the smaller model.
    ///
    /// # Errors
    /// [`Error::OtherVocabulary`] if a token means something else to it.
    pub fn new(session: Session<'m>, target: &crate::Model) -> Result<Self, Error> {
        let (own, wanted) = (session.model().tokenizer(), target.tokenizer());
        let is_same = |id| own.token_text(TokenId(id)) == wanted.token_text(TokenId(id));
        match (0..wanted.n_vocab() as u32).find(|&id| !is_same(id)) {
            Some(id) => Err(Error::OtherVocabulary { token: TokenId(id) }),
            None => Ok(Self { session }),
        }
    }
}

impl Drafter for DraftModel<'_> {
    fn draft(
        &mut self,
        text: &[TokenId],
        most: usize,
        out: &mut Vec<TokenId>,
    ) -> Result<(), Error> {
        // Its context may be shorter, and drafts are not worth an error.
        if text.len() + most > self.session.model().n_ctx() {
            return Ok(());
        }
        let cached = self.session.keep_common_prefix(text)?;
        let mut go_on = |_| std::ops::ControlFlow::Continue(());
        let read = self.session.prefill(&text[cached..], &mut go_on)?;
        let mut next = read.map(likeliest);
        while let Some(token) = next.filter(|_| out.len() < most) {
            out.push(token);
            let ends = self.session.model().tokenizer().is_end_of_generation(token);
            next = match ends || out.len() == most {
                true => None,
                false => Some(likeliest(self.session.decode(token)?)),
            };
        }
        Ok(())
    }
}

fn likeliest(logits: &[f32]) -> TokenId {
    let ranked = logits.iter().enumerate();
    let best = ranked.max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)));
    TokenId(best.map_or(0, |(id, _)| id as u32))
}

/// How many tokens to draft: more where drafts are right, fewer where they are not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    tokens: usize,
    max: usize,
}

impl Reach {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.min(DRAFT_MAX);
        Self {
            tokens: max.min(4),
            max,
        }
    }

    pub(crate) fn tokens(self) -> usize {
        self.tokens
    }

    /// Of so many tokens that were drafted, so many were right.
    pub(crate) fn learn(&mut self, drafted: usize, right: usize) {
        self.tokens = match right == drafted {
            true => (self.tokens * 2).min(self.max),
            false => (right + 1).min(self.max),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_up(text: &[u32], most: usize) -> Vec<u32> {
        let text: Vec<_> = text.iter().copied().map(TokenId).collect();
        let mut out = Vec::new();
        let drafted = PromptLookup::default().draft(&text, most, &mut out);
        drafted.expect("no model is run");
        out.into_iter().map(|token| token.0).collect()
    }

    #[test]
    fn what_followed_before_is_drafted() {
        for (text, want) in [
            (&[1, 2, 3, 4, 1, 2][..], &[3, 4, 1][..]),
            // The longest run counts before the latest.
            (&[9, 1, 2, 5, 1, 2, 7, 9, 1, 2], &[5, 1, 2]),
            (&[1, 2, 5, 1, 2, 7, 1, 2], &[7, 1, 2]),
            (&[6, 6, 6], &[6]),
            (&[1, 2, 3], &[]),
            (&[1], &[]),
            (&[], &[]),
        ] {
            assert_eq!(looked_up(text, 3), want, "{text:?}");
        }
        assert_eq!(looked_up(&[1, 2, 3, 4, 1, 2], 1), [3]);
        assert!(looked_up(&[1, 2, 3, 4, 1, 2], 0).is_empty());
    }

    #[test]
    fn drafts_are_as_long_as_they_are_right() {
        let mut reach = Reach::new(9);
        assert_eq!(reach.tokens(), 4);
        reach.learn(4, 4);
        assert_eq!(reach.tokens(), 8);
        reach.learn(8, 8);
        assert_eq!(reach.tokens(), 9);
        reach.learn(9, 2);
        assert_eq!(reach.tokens(), 3);
        reach.learn(3, 0);
        assert_eq!(reach.tokens(), 1);
        reach.learn(1, 1);
        assert_eq!(reach.tokens(), 2);
        assert_eq!(Reach::new(99).max, DRAFT_MAX);
    }
}
