//! What a text repeats of itself, and what would go on with it.

use std::collections::BTreeMap;

use troika_base::TokenId;

use super::params::Dry;

/// A penalty is no larger: what is beyond rules a token out as surely, and numbers end somewhere.
const PENALTY_MAX: f32 = 1e6;

/// The last tokens of a sequence, to be searched for its end.
#[derive(Clone, Debug)]
pub(super) struct Repetitions {
    tokens: Vec<TokenId>,
    last_n: usize,
    /// Tokens that no repetition goes across, by id.
    breakers: Vec<TokenId>,
    /// For the search: how much of the text's end stands so far before it, too.
    matched: Vec<usize>,
}

impl Repetitions {
    pub(super) fn new(dry: &Dry) -> Self {
        Self {
            tokens: Vec::new(),
            last_n: dry.last_n as usize,
            breakers: Vec::new(),
            matched: Vec::new(),
        }
    }

    pub(super) fn break_at(&mut self, mut tokens: Vec<TokenId>) {
        tokens.sort_unstable();
        self.breakers = tokens;
    }

    pub(super) fn extend(&mut self, tokens: &[TokenId]) {
        self.tokens.extend_from_slice(tokens);
        // Twice the window, so that few tokens are moved.
        if self.tokens.len() > self.last_n.saturating_mul(2) {
            let surplus = self.tokens.len() - self.last_n;
            self.tokens.drain(..surplus);
        }
    }

    /// What the tokens lose that would go on with a repetition, by id.
    pub(super) fn penalties(&mut self, dry: &Dry) -> Vec<(TokenId, f32)> {
        if !dry.is_on() {
            return Vec::new();
        }
        let window = &self.tokens[self.tokens.len().saturating_sub(self.last_n)..];
        let is_breaker = |token: &TokenId| self.breakers.binary_search(token).is_ok();
        // Nothing before the last breaker repeats on.
        let most = window
            .iter()
            .rev()
            .take_while(|token| !is_breaker(token))
            .count();
        if most == 0 {
            return Vec::new();
        }
        matches_of_end(window, &mut self.matched);
        let mut longest = BTreeMap::new();
        for (back, &matched) in self.matched.iter().enumerate().skip(1) {
            let next = window[window.len() - back];
            let length = matched.min(most);
            if length > 0 && length >= dry.allowed_length as usize && !is_breaker(&next) {
                let longest = longest.entry(next).or_insert(length);
                *longest = length.max(*longest);
            }
        }
        let penalty = |length: usize| {
            let mut penalty = dry.multiplier;
            for _ in dry.allowed_length as usize..length {
                penalty = (penalty * dry.base).min(PENALTY_MAX);
                if penalty == PENALTY_MAX || dry.base == 1.0 {
                    break;
                }
            }
            penalty
        };
        longest
            .into_iter()
            .map(|(token, length)| (token, penalty(length)))
            .collect()
    }
}

/// For each `back`, how many tokens before the place `back` tokens before the end are those before the end itself: the
/// Z-function of the text read backwards (Gusfield 1997), in linear time.
fn matches_of_end(tokens: &[TokenId], matched: &mut Vec<usize>) {
    let n = tokens.len();
    let at = |back: usize| tokens[n - 1 - back];
    matched.clear();
    matched.resize(n, n);
    // What is known to match reaches from `left` to before `right`.
    let (mut left, mut right) = (0, 0);
    for back in 1..n {
        let mut length = match back < right {
            true => matched[back - left].min(right - back),
            false => 0,
        };
        while back + length < n && at(length) == at(back + length) {
            length += 1;
        }
        if back + length > right {
            (left, right) = (back, back + length);
        }
        matched[back] = length;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn penalties(dry: &Dry, breakers: &[u32], tokens: &[u32]) -> Vec<(u32, f32)> {
        let mut repetitions = Repetitions::new(dry);
        repetitions.break_at(breakers.iter().copied().map(TokenId).collect());
        for &token in tokens {
            repetitions.extend(&[TokenId(token)]);
        }
        let penalties = repetitions.penalties(dry).into_iter();
        penalties
            .map(|(token, penalty)| (token.0, penalty))
            .collect()
    }

    #[test]
    fn what_would_repeat_is_held_down() {
        let dry = Dry {
            multiplier: 1.0,
            base: 2.0,
            ..Dry::default()
        };
        for (breakers, tokens, want) in [
            (&[][..], &[1, 2, 3, 1, 2][..], &[(3, 1.0)][..]),
            (&[], &[1, 2, 3, 4, 1, 2, 3], &[(4, 2.0)]),
            // One token is too short to be a repetition.
            (&[], &[1, 2, 3, 4, 3], &[]),
            // The longest counts.
            (&[], &[2, 3, 5, 1, 2, 3, 5, 9, 1, 2, 3], &[(5, 2.0)]),
            // Of one token alone, the longest repetition overlaps itself.
            (&[], &[7, 7, 7, 7], &[(7, 2.0)]),
            (&[2], &[1, 2, 3, 1, 2], &[]),
            (&[9], &[1, 9, 2, 3, 4, 1, 9, 2, 3], &[(4, 1.0)]),
            (&[3], &[1, 2, 3, 1, 2], &[]),
            (&[], &[], &[]),
        ] {
            assert_eq!(penalties(&dry, breakers, tokens), want, "{tokens:?}");
        }
        let short = Dry {
            last_n: 4,
            ..dry.clone()
        };
        assert_eq!(penalties(&short, &[], &[1, 2, 3, 1, 2]), []);
        let endless = penalties(&dry, &[], &[5; 500]);
        assert_eq!(endless, [(5, PENALTY_MAX)]);
    }

    proptest! {
        #[test]
        fn matches_are_those_of_a_search(tokens in prop::collection::vec(0u32..3, 0..60)) {
            let tokens: Vec<_> = tokens.into_iter().map(TokenId).collect();
            let mut matched = Vec::new();
            matches_of_end(&tokens, &mut matched);
            for back in 1..tokens.len() {
                let here = tokens[..tokens.len() - back].iter().rev();
                let same = here.zip(tokens.iter().rev()).take_while(|(a, b)| a == b).count();
                prop_assert_eq!(matched[back], same, "{}", back);
            }
        }
    }
}
