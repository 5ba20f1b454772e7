//! Steps that are begun before anybody has asked for them.
//!
//! While a device computes a step, the host could already hand it the next one, if only it knew the token. It does not,
//! but the device does: it finds the likeliest one itself and goes on with that. Whoever chooses tokens still sees all
//! logits and chooses as ever; if the choice is the likeliest token, the next step is under way, and if it is another, the
//! step that was begun was for nothing. So nothing depends on a guess but time.
//!
//! What was begun is one step at most, and void once anything is written to the cache. Its own token is written to a
//! place that has none yet, and commands of a device go in order: what comes after it overwrites it.

use troika_base::TokenId;
use troika_device::{Batch, Output, PAGE_TOKENS, Sequence};

/// What follows a step of sequences, each of which goes on with one token.
#[derive(Clone, Debug)]
pub(crate) struct Next {
    sequences: Vec<NextToken>,
}

#[derive(Clone, Debug)]
struct NextToken {
    position: usize,
    pages: Vec<usize>,
}

impl Next {
    /// What follows a batch; `None` if that cannot be begun: a sequence goes on with something that no logits are asked
    /// for, or has no page for it.
    pub(crate) fn after(batch: &Batch<'_>) -> Option<Self> {
        let next = |sequence: &Sequence<'_>| {
            let position = sequence.position + sequence.tokens.len();
            let n_page = position / PAGE_TOKENS + 1;
            let begins = sequence.output == Output::LastLogits && sequence.pages.len() >= n_page;
            begins.then(|| NextToken {
                position,
                pages: sequence.pages[..n_page].to_vec(),
            })
        };
        let sequences = batch.sequences.iter().map(next).collect::<Option<_>>()?;
        Some(Self { sequences })
    }

    /// It as a batch, whose tokens only the device knows.
    pub(crate) fn run<T>(&self, run: impl FnOnce(&Batch<'_>) -> T) -> T {
        let sequences = self.sequences.iter().map(|next| Sequence {
            tokens: &[TokenId(0)],
            position: next.position,
            pages: &next.pages,
            output: Output::LastLogits,
        });
        let sequences: Vec<_> = sequences.collect();
        run(&Batch {
            sequences: &sequences,
        })
    }

    /// Whether a batch is this one with these tokens.
    fn is(&self, batch: &Batch<'_>, tokens: &[TokenId]) -> bool {
        let same = |((next, token), sequence): ((&NextToken, &TokenId), &Sequence<'_>)| {
            let pages = sequence.pages.get(..next.pages.len());
            sequence.tokens == [*token]
                && sequence.position == next.position
                && sequence.output == Output::LastLogits
                && pages == Some(&next.pages[..])
        };
        let sequences = self.sequences.iter().zip(tokens).zip(batch.sequences);
        self.sequences.len() == batch.sequences.len() && tokens.len() == batch.sequences.len() && {
            sequences
        }
        .all(same)
    }
}

/// The step that was begun, if one was, and whether it is worth beginning another.
#[derive(Debug, Default)]
pub(crate) struct LookAhead {
    begun: Option<(Next, Vec<TokenId>)>,
    /// Steps after the next failure that none is begun for.
    patience: u32,
    /// Steps from now on that none is begun for.
    pause: u32,
}

/// Such steps at most: a step in vain takes about as long as a step, and one that was begun in time saves a small part
/// of one.
const PAUSE_MAX: u32 = 64;

impl LookAhead {
    /// A step was begun, with these tokens.
    pub(crate) fn begins(&mut self, next: Next, tokens: Vec<TokenId>) {
        self.begun = Some((next, tokens));
    }

    /// Whether a step was begun that nobody has asked for.
    pub(crate) fn is_under_way(&self) -> bool {
        self.begun.is_some()
    }

    /// Whether the step that was begun, if one was, is what is asked for now. It is forgotten either way.
    pub(crate) fn take(&mut self, batch: &Batch<'_>) -> bool {
        let Some((next, tokens)) = self.begun.take() else {
            return false;
        };
        let right = next.is(batch, &tokens);
        match right {
            true => self.patience /= 2,
            false => self.in_vain(),
        }
        right
    }

    /// The step that was begun is void.
    pub(crate) fn in_vain(&mut self) {
        self.begun = None;
        self.patience = (2 * self.patience).clamp(1, PAUSE_MAX);
        self.pause = self.patience;
    }

    /// Whether another may be begun with the step that is taken now.
    pub(crate) fn may_begin(&mut self) -> bool {
        let may = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence<'s>(tokens: &'s [TokenId], position: usize, pages: &'s [usize]) -> Sequence<'s> {
        Sequence {
            tokens,
            position,
            pages,
            output: Output::LastLogits,
        }
    }

    fn after(sequences: &[Sequence<'_>]) -> Option<Next> {
        Next::after(&Batch { sequences })
    }

    const TOKENS: [TokenId; 3] = [TokenId(7), TokenId(8), TokenId(9)];

    #[test]
    fn what_follows_is_one_token_for_each_sequence() {
        let next = after(&[
            sequence(&TOKENS, 0, &[5]),
            sequence(&TOKENS[..1], PAGE_TOKENS - 1, &[4, 2]),
        ]);
        let places = next.expect("both go on").run(|batch| {
            let place = |sequence: &Sequence<'_>| (sequence.position, sequence.pages.to_vec());
            batch.sequences.iter().map(place).collect::<Vec<_>>()
        });
        assert_eq!(places, [(3, vec![5]), (PAGE_TOKENS, vec![4, 2])]);
    }

    #[test]
    fn nothing_follows_where_a_page_or_logits_are_lacking() {
        let whole = sequence(&TOKENS[..1], PAGE_TOKENS - 1, &[4]);
        assert!(after(&[whole]).is_none(), "the page is full");
        let goes_on = sequence(&TOKENS, 0, &[4]);
        for output in [Output::Nothing, Output::AllLogits, Output::LastHidden] {
            let other = Sequence { output, ..goes_on };
            assert!(after(&[goes_on, other]).is_none(), "{output:?}");
        }
    }

    #[test]
    fn only_the_very_step_that_was_begun_is_taken() {
        let begun = || {
            let mut ahead = LookAhead::default();
            let next = after(&[sequence(&TOKENS, 0, &[5, 6])]).expect("it goes on");
            ahead.begins(next, vec![TOKENS[0]]);
            ahead
        };
        let [token, other, _] = TOKENS.map(|token| [token]);
        let right = sequence(&token, 3, &[5]);
        assert!(begun().take(&Batch {
            sequences: &[right]
        }));
        // A table may have pages for later.
        let longer = sequence(&token, 3, &[5, 6]);
        assert!(begun().take(&Batch {
            sequences: &[longer]
        }));
        for wrong in [
            sequence(&other, 3, &[5]),
            sequence(&token, 2, &[5]),
            sequence(&token, 3, &[6]),
            sequence(&TOKENS[..2], 3, &[5]),
            Sequence {
                output: Output::AllLogits,
                ..right
            },
        ] {
            let mut ahead = begun();
            assert!(
                !ahead.take(&Batch {
                    sequences: &[wrong]
                }),
                "{wrong:?}"
            );
            assert!(
                !ahead.take(&Batch {
                    sequences: &[right]
                }),
                "it is gone"
            );
        }
        for sequences in [&[][..], &[right, right]] {
            assert!(!begun().take(&Batch { sequences }));
        }
    }

    #[test]
    fn what_is_in_vain_again_and_again_is_seldom_tried() {
        let mut ahead = LookAhead::default();
        let mut tried = 0;
        for _ in 0..1000 {
            if ahead.may_begin() {
                tried += 1;
                ahead.in_vain();
            }
        }
        assert!((10..30).contains(&tried), "{tried}");
        // Once it is right again, it is soon tried as before.
        let next = after(&[sequence(&TOKENS, 0, &[5])]).expect("it goes on");
        let right = sequence(&TOKENS[..1], 3, &[5]);
        for _ in 0..10 {
            while !ahead.may_begin() {}
            ahead.begins(next.clone(), vec![TOKENS[0]]);
            assert!(ahead.take(&Batch {
                sequences: &[right]
            }));
        }
        ahead.in_vain();
        assert!(!ahead.may_begin() && ahead.may_begin());
    }
}
