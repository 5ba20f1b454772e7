//! Sequences leave one resident and go on in another, and steps are broken off.

use half::f16;
use troika_base::TokenId;

use super::Outcome;
use super::models::Recipe;
use super::steps::text;
use super::subject::{Subject, equal};
use crate::{Device, Error, Logits, Output, PAGE_TOKENS};

/// Longer than two pages, so that one is whole, one begun and one between them.
pub(super) const N_MOVED: usize = 2 * PAGE_TOKENS + 5;

impl Subject {
    /// Keys and values of the first `n_tok` tokens on these pages.
    pub(super) fn kv(&mut self, pages: &[usize], n_tok: usize) -> Outcome<Vec<f16>> {
        let n_value = n_tok * self.resident.kv_shape().token_values();
        let mut values = vec![f16::NAN; n_value];
        let read = self.resident.read_kv(pages, 0..n_tok, &mut values);
        read.map_err(|error| error.to_string())?;
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(format!("among keys and values is {value}")),
            None => Ok(values),
        }
    }

    /// Logits of `next`, tokens that come after `n_tok` others which are on these pages.
    pub(super) fn goes_on(
        &mut self,
        next: &[TokenId],
        n_tok: usize,
        pages: &[usize],
    ) -> Outcome<Logits> {
        self.run(next, n_tok, pages, Output::AllLogits)
    }
}

/// From one resident to another of the same model, on other pages, in one piece and in several, beside a sequence that
/// must not notice.
pub(super) fn kv_moves(device: &dyn Device, recipe: &Recipe) -> Outcome {
    let mut from = Subject::load(device, recipe, 0.0)?;
    if !from.resident.abilities().kv {
        return kv_stays(&mut from);
    }
    let mut to = Subject::load(device, recipe, 0.0)?;
    let (moved, next) = (text(1, N_MOVED), text(2, 9));
    let (there, here) = ([1, 0, 2], [3, 5, 4]);
    from.run(&moved, 0, &there, Output::Nothing)?;
    let values = from.kv(&there, N_MOVED)?;
    let want = from.goes_on(&next, N_MOVED, &there)?;

    // What was on the pages before, and who stands on others.
    to.run(&text(3, 3 * PAGE_TOKENS), 0, &here, Output::Nothing)?;
    let (neighbour, beside) = (text(4, 40), [0, 1]);
    to.run(&neighbour, 0, &beside, Output::Nothing)?;
    let of_neighbour = to.kv(&beside, neighbour.len())?;
    for cuts in [&[][..], &[PAGE_TOKENS], &[1, 40, 41]] {
        let mut start = 0;
        for end in cuts.iter().copied().chain([N_MOVED]) {
            let token = to.resident.kv_shape().token_values();
            let piece = &values[start * token..end * token];
            let written = to.resident.write_kv(&here, start..end, piece);
            written.map_err(|error| error.to_string())?;
            start = end;
        }
        if to.kv(&here, N_MOVED)? != values {
            return Err("keys and values are others on the other side".to_owned());
        }
        equal(want.rows(), to.goes_on(&next, N_MOVED, &here)?.rows())?;
    }
    match to.kv(&beside, neighbour.len())? == of_neighbour {
        true => Ok(()),
        false => Err("a neighbour's keys and values have changed".to_owned()),
    }
}

/// A resident whose keys and values are out of reach says so for whatever it holds, and goes on as before.
fn kv_stays(subject: &mut Subject) -> Outcome {
    let (held, next, pages) = (text(1, N_MOVED), text(2, 9), [1, 0, 2]);
    subject.run(&held, 0, &pages, Output::Nothing)?;
    let want = subject.goes_on(&next, N_MOVED, &pages)?;
    let mut values = vec![f16::ONE; N_MOVED * subject.resident.kv_shape().token_values()];
    let read = subject.resident.read_kv(&pages, 0..N_MOVED, &mut values);
    let written = subject.resident.write_kv(&pages, 0..N_MOVED, &values);
    for done in [read, written] {
        is_refused("keys and values that are out of reach", done)?;
    }
    let have = subject.goes_on(&next, N_MOVED, &pages)?;
    subject.close(want.rows(), have.rows())
}

fn is_refused(what: &str, done: Result<(), Error>) -> Outcome {
    match done {
        Err(Error::Cache { .. }) => Ok(()),
        Err(other) => Err(format!("{what}: refused for another reason: {other}")),
        Ok(()) => Err(format!("{what}: it went")),
    }
}

pub(super) fn bad_moves_change_nothing(subject: &mut Subject) -> Outcome {
    if !subject.resident.abilities().kv {
        return kv_stays(subject);
    }
    let pages = [2, 0, 1];
    subject.run(&text(1, N_MOVED), 0, &pages, Output::Nothing)?;
    let held = subject.kv(&pages, N_MOVED)?;
    let token = subject.resident.kv_shape().token_values();
    let outside = [2, subject.resident.n_page(), 1];
    let backwards = std::ops::Range { start: 9, end: 8 };
    let mut values = vec![f16::ONE; (PAGE_TOKENS + 1) * token];
    for (what, pages, tokens, n_value) in [
        ("no pages", &[][..], 0..1, token),
        (
            "a page too few",
            &pages[..1],
            0..PAGE_TOKENS + 1,
            33 * token,
        ),
        ("a page outside of the cache", &outside, 0..1, token),
        (
            "a range that ends before it begins",
            &pages,
            backwards,
            token,
        ),
        ("the largest position", &pages, 0..usize::MAX, token),
        ("a value too few", &pages, 0..2, 2 * token - 1),
        ("a token too many", &pages, 0..2, 3 * token),
    ] {
        let values = &mut values[..n_value];
        let resident = &mut subject.resident;
        let read = resident.read_kv(pages, tokens.clone(), values);
        for done in [read, resident.write_kv(pages, tokens, values)] {
            is_refused(what, done)?;
        }
    }
    match subject.kv(&pages, N_MOVED)? == held {
        true => Ok(()),
        false => Err("keys and values have changed".to_owned()),
    }
}

/// Where steps can be broken off at all.
pub(super) fn a_step_that_was_broken_off_can_be_run_again(subject: &mut Subject) -> Outcome {
    let Some(interrupt) = subject.resident.interrupt() else {
        return Ok(());
    };
    let (tokens, pages) = (text(1, 40), [0, 1]);
    let want = subject.whole(&tokens)?;
    subject.run(&tokens[..20], 0, &pages, Output::Nothing)?;
    let sequence = crate::Sequence {
        tokens: &tokens[20..],
        position: 20,
        pages: &pages,
        output: Output::AllLogits,
    };
    interrupt.raise();
    match subject.resident.step(&crate::Batch {
        sequences: &[sequence],
    }) {
        Err(Error::Interrupted) => {}
        Err(other) => return Err(format!("it ended for another reason: {other}")),
        Ok(_) => return Err("it ran to its end".to_owned()),
    }
    let again = subject.step(&[sequence])?;
    subject.close(want.rows().skip(20), again.rows())?;
    interrupt.raise();
    interrupt.clear();
    let once_more = subject.step(&[sequence])?;
    subject.same(again.rows(), once_more.rows())
}
