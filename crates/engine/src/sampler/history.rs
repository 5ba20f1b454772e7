//! The last tokens of a sequence and how often each stands among them.

use std::collections::VecDeque;

use troika_base::TokenId;

/// From this many tokens on, counting anew is cheaper than counting each in.
const BULK: usize = 32;

/// A window over the last tokens.
#[derive(Clone, Debug)]
pub(super) struct History {
    window: VecDeque<TokenId>,
    window_max: usize,
    /// Each token of the window with its count, by id.
    counts: Vec<(TokenId, u32)>,
}

impl History {
    pub(super) fn new(window_max: usize) -> Self {
        Self {
            window: VecDeque::new(),
            window_max,
            counts: Vec::new(),
        }
    }

    pub(super) fn counts(&self) -> &[(TokenId, u32)] {
        &self.counts
    }

    pub(super) fn extend(&mut self, tokens: &[TokenId]) {
        if tokens.len() < BULK {
            for &token in tokens {
                self.push(token);
            }
            return;
        }
        let kept = &tokens[tokens.len().saturating_sub(self.window_max)..];
        let room = self.window_max - kept.len();
        let surplus = self.window.len().saturating_sub(room);
        self.window.drain(..surplus);
        self.window.extend(kept);
        self.recount();
    }

    fn push(&mut self, token: TokenId) {
        if self.window_max == 0 {
            return;
        }
        if self.window.len() == self.window_max
            && let Some(oldest) = self.window.pop_front()
            && let Ok(at) = self.position(oldest)
        {
            self.counts[at].1 -= 1;
            if self.counts[at].1 == 0 {
                self.counts.remove(at);
            }
        }
        self.window.push_back(token);
        match self.position(token) {
            Ok(at) => self.counts[at].1 += 1,
            Err(at) => self.counts.insert(at, (token, 1)),
        }
    }

    fn position(&self, token: TokenId) -> Result<usize, usize> {
        self.counts
            .binary_search_by_key(&token, |&(token, _)| token)
    }

    fn recount(&mut self) {
        self.counts.clear();
        self.counts
            .extend(self.window.iter().map(|&token| (token, 1)));
        self.counts.sort_unstable();
        self.counts.dedup_by(|next, first| {
            let same = next.0 == first.0;
            first.1 += u32::from(same);
            same
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_those_of_the_last_tokens(
            window_max in 0usize..100,
            pieces in prop::collection::vec(prop::collection::vec(0u32..20, 0..80), 0..8),
        ) {
            let mut history = History::new(window_max);
            let mut all = Vec::new();
            for piece in pieces {
                let piece: Vec<_> = piece.into_iter().map(TokenId).collect();
                history.extend(&piece);
                all.extend(piece);
                let mut expect = BTreeMap::new();
                for &token in all.iter().rev().take(window_max) {
                    *expect.entry(token).or_insert(0u32) += 1;
                }
                prop_assert_eq!(history.counts(), expect.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
