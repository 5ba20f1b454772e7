//! Speculative decoding: tokens that probably come next are read in one step with the one that surely does, and count if the
//! sampler would have chosen them.
//!
//! A device reads a handful of tokens in hardly more time than one, because it waits for the weights. Nothing depends on a guess
//! but time: each token is chosen by the same sampler from the model's own logits as without drafts, so the text is not only of
//! the same distribution but the same text, as far as a token's logits do not depend on the size of its batch. (Leviathan et al.
//! 2023, arXiv:2211.17192, accept by a ratio of probabilities instead; that takes a few more drafts of models, and gives another
//! text with the same seed.)

use troika_base::TokenId;

use crate::tokenizer::Tokenizer;
use crate::{Error, Session};

/// Tokens of a draft at most. With the token before it, it stays below the 16 from which on a matrix unit computes otherwise.
pub const DRAFT_MAX: usize = 12;

/// Tokens of a step at most in which some are drafted, over all its sequences, for the same reason.
pub const STEP_MAX: usize = 15;

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

impl PromptLookup {
    /// Up to `most` tokens that may follow `text`. What ends where the text does is taken to go on as it began: then the text
    /// repeats a few tokens over and over.
    pub fn look_up<'t>(
        &self,
        text: &'t [TokenId],
        most: usize,
    ) -> impl Iterator<Item = TokenId> + 't {
        self.follows(text).iter().copied().cycle().take(most)
    }

    /// What followed the last few tokens where they stood before; nothing if they did not.
    fn follows<'t>(&self, text: &'t [TokenId]) -> &'t [TokenId] {
        for n in (self.shortest..=self.longest).rev() {
            let Some(before) = text.len().checked_sub(n) else {
                continue;
            };
            let run = &text[before..];
            // The latest place counts: texts go on as they went on last.
            let mut places = text[..text.len() - 1].windows(n).enumerate().rev();
            if let Some((place, _)) = places.find(|(_, tokens)| *tokens == run) {
                return &text[place + n..];
            }
        }
        &[]
    }
}

impl Drafter for PromptLookup {
    fn draft(
        &mut self,
        text: &[TokenId],
        most: usize,
        out: &mut Vec<TokenId>,
    ) -> Result<(), Error> {
        out.extend(self.look_up(text, most));
        Ok(())
    }
}

/// Asks a smaller model with the same vocabulary for its likeliest tokens.
#[derive(Debug)]
pub struct DraftModel<'m> {
    session: Session<'m>,
    /// Tokens that the other model knows.
    n_vocab: usize,
}

impl<'m> DraftModel<'m> {
    /// A drafter for texts of `target`, over an empty session of the smaller model.
    ///
    /// # Errors
    /// [`Error::OtherVocabulary`] if a token means something else to it.
    pub fn new(session: Session<'m>, target: &crate::Model) -> Result<Self, Error> {
        same_vocabulary(session.model().tokenizer(), target.tokenizer())?;
        Ok(Self {
            session,
            n_vocab: target.tokenizer().n_vocab(),
        })
    }
}

/// Makes sure that every token of `target` is the same one to a model that drafts for it.
///
/// # Errors
/// [`Error::OtherVocabulary`], with the first one that is not.
pub fn same_vocabulary(draft: &Tokenizer, target: &Tokenizer) -> Result<(), Error> {
    let is_same = |id| draft.token_text(TokenId(id)) == target.token_text(TokenId(id));
    match (0..target.n_vocab() as u32).find(|&id| !is_same(id)) {
        Some(id) => Err(Error::OtherVocabulary { token: TokenId(id) }),
        None => Ok(()),
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
        let n_vocab = self.n_vocab;
        let mut next = read.map(|logits| likeliest(logits, n_vocab));
        while let Some(token) = next.filter(|_| out.len() < most) {
            out.push(token);
            let ends = self.session.model().tokenizer().is_end_of_generation(token);
            next = match ends || out.len() == most {
                true => None,
                false => Some(likeliest(self.session.decode(token)?, n_vocab)),
            };
        }
        Ok(())
    }
}

/// The likeliest of the first `n_vocab` tokens: a model may have rows for more than its vocabulary.
pub fn likeliest(logits: &[f32], n_vocab: usize) -> TokenId {
    let ranked = logits.iter().take(n_vocab).enumerate();
    let best = ranked.max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)));
    TokenId(best.map_or(0, |(id, _)| id as u32))
}

/// How many tokens to draft: more where drafts are right, fewer where they are not, and none for a while where they are wrong
/// time and again.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    tokens: usize,
    max: usize,
    /// Drafts in a row of which nothing was right.
    failures: u32,
    /// Steps without a draft that are left.
    rest: u32,
}

/// So many drafts in a row may be wrong before there is none for a while.
const FAILURES_MAX: u32 = 2;
/// The longest while, as a power of two of steps: a text that begins to repeat itself is noticed soon all the same.
const REST_LOG2_MAX: u32 = 5;

impl Reach {
    /// A few tokens at first, and never more than `max`.
    pub fn new(max: usize) -> Self {
        let max = max.min(DRAFT_MAX);
        Self {
            tokens: max.min(4),
            max,
            failures: 0,
            rest: 0,
        }
    }

    /// Tokens to draft for the next step.
    pub fn tokens(&mut self) -> usize {
        match self.rest {
            0 => self.tokens,
            _ => {
                self.rest -= 1;
                0
            }
        }
    }

    /// Of so many tokens that were drafted, so many were right.
    pub fn learn(&mut self, drafted: usize, right: usize) {
        if drafted == 0 {
            return;
        }
        self.failures = if right > 0 { 0 } else { self.failures + 1 };
        if self.failures > FAILURES_MAX {
            self.rest = 1 << (self.failures - FAILURES_MAX).min(REST_LOG2_MAX);
        }
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
            // What repeats itself goes on.
            (&[6, 6, 6], &[6, 6, 6]),
            (&[8, 6, 7, 6, 7], &[6, 7, 6]),
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
        for (drafted, right, next) in [(4, 4, 8), (8, 8, 9), (9, 2, 3), (3, 0, 1), (1, 1, 2)] {
            reach.learn(drafted, right);
            assert_eq!(reach.tokens(), next);
        }
        assert_eq!(Reach::new(99).max, DRAFT_MAX);
    }

    #[test]
    fn drafts_that_are_wrong_time_and_again_become_rare() {
        let mut reach = Reach::new(9);
        let mut rests = Vec::new();
        for _ in 0..9 {
            let mut rest = 0;
            while reach.tokens() == 0 {
                rest += 1;
            }
            rests.push(rest);
            reach.learn(1, 0);
            // A step for which there was nothing to guess says nothing.
            reach.learn(0, 0);
        }
        assert_eq!(rests, [0, 0, 0, 2, 4, 8, 16, 32, 32]);
        while reach.tokens() == 0 {}
        reach.learn(1, 1);
        assert_eq!(reach.tokens(), 2, "one that is right is enough");
    }
}
