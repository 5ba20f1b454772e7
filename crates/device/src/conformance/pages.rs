//! The pages of the KV cache: in any order, shared, copied.

use super::Outcome;
use super::steps::text;
use super::subject::{Subject, equal};
use crate::{Output, PAGE_TOKENS, Sequence};

pub(super) fn any_page_does_for_any_part(subject: &mut Subject) -> Outcome {
    let tokens = text(1, 3 * PAGE_TOKENS + 1);
    let whole = subject.whole(&tokens)?;
    let last = subject.resident.n_page() - 1;
    for pages in [[3, 2, 1, 0], [last, 0, last - 1, 2]] {
        let have = subject.run(&tokens, 0, &pages, Output::AllLogits)?;
        equal(whole.rows(), have.rows())?;
    }
    Ok(())
}

pub(super) fn sequences_share_the_pages_of_a_prefix(subject: &mut Subject) -> Outcome {
    let prefix = text(1, 2 * PAGE_TOKENS);
    let endings = [text(2, 3), text(3, 5)];
    let tables = [[4, 1, 2], [4, 1, 3]];
    let mut want = Vec::new();
    for ending in &endings {
        let whole = subject.whole(&[&prefix[..], ending].concat())?;
        want.extend(whole.rows().skip(prefix.len()).map(<[f32]>::to_vec));
    }
    subject.run(&prefix, 0, &tables[0][..2], Output::Nothing)?;
    let have = subject.step(&[0, 1].map(|i| Sequence {
        tokens: &endings[i],
        position: prefix.len(),
        pages: &tables[i],
        output: Output::AllLogits,
    }))?;
    subject.close(want.iter().map(Vec::as_slice), have.rows())
}

pub(super) fn a_copied_page_goes_its_own_way(subject: &mut Subject) -> Outcome {
    let prefix = text(1, PAGE_TOKENS + 4);
    let endings = [text(2, 3), text(3, 3), text(4, 3)];
    let tables = [[6, 3], [6, 7], [6, 2]];
    subject.run(
        &[&prefix[..], &endings[2]].concat(),
        0,
        &tables[0],
        Output::Nothing,
    )?;
    for table in &tables[1..] {
        subject.resident.copy_page(tables[0][1], table[1]);
    }
    // The original and a copy take another way; the other copy keeps the ending that was copied.
    for i in [0, 1] {
        subject.run(&endings[i], prefix.len(), &tables[i], Output::Nothing)?;
    }
    for (ending, table) in endings.iter().zip(&tables) {
        let text = [&prefix[..], ending, &text(5, 4)].concat();
        let start = prefix.len() + ending.len();
        let want = subject.whole(&text)?;
        let have = subject.run(&text[start..], start, table, Output::AllLogits)?;
        subject.close(want.rows().skip(start), have.rows())?;
    }
    Ok(())
}
