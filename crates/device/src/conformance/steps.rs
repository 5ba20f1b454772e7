//! What a step gives does not depend on how its tokens came to it.

use troika_base::TokenId;

use super::Outcome;
use super::models::N_VOCAB;
use super::subject::{Subject, equal};
use crate::{Logits, Output, PAGE_TOKENS, Sequence};

/// One of several texts, which differ from the first token on.
pub(super) fn text(seed: usize, n_tok: usize) -> Vec<TokenId> {
    let token = |i: usize| (seed * 31 + i * (i + 7)) % N_VOCAB;
    (0..n_tok).map(|i| TokenId(token(i) as u32)).collect()
}

fn row(logits: &Logits, row: usize) -> &[f32] {
    &logits.values[row * N_VOCAB..][..N_VOCAB]
}

/// A device that computes nothing would pass all that follows.
pub(super) fn every_token_matters(subject: &mut Subject) -> Outcome {
    let tokens = text(1, PAGE_TOKENS + 5);
    let last = tokens.len() - 1;
    let whole = subject.whole(&tokens)?;
    for changed in [0, 1, PAGE_TOKENS - 1, PAGE_TOKENS, last] {
        let mut tokens = tokens.clone();
        tokens[changed] = TokenId((tokens[changed].0 + 1) % N_VOCAB as u32);
        let other = subject.whole(&tokens)?;
        equal(whole.rows().take(changed), other.rows().take(changed))?;
        let matters = |at| subject.close([row(&whole, at)], [row(&other, at)]).is_err();
        if !matters(changed) || !matters(last) {
            return Err(format!(
                "what follows is the same whatever token {changed} is"
            ));
        }
    }
    let mut swapped = tokens;
    swapped.swap(2, 9);
    let swapped = subject.whole(&swapped)?;
    match subject.close([row(&whole, last)], [row(&swapped, last)]) {
        Err(_) => Ok(()),
        Ok(()) => Err("what follows is the same whatever the order of tokens".to_owned()),
    }
}

pub(super) fn runs_repeat_to_the_bit(subject: &mut Subject) -> Outcome {
    let tokens = text(1, 70);
    let first = subject.whole(&tokens)?;
    for _ in 0..3 {
        equal(first.rows(), subject.whole(&tokens)?.rows())?;
    }
    Ok(())
}

pub(super) fn batches_give_what_their_sequences_give_alone(subject: &mut Subject) -> Outcome {
    let texts = [text(1, 45), text(2, 1), text(3, 33), text(4, 7)];
    let tables: [&[usize]; 4] = [&[0, 1], &[2], &[3, 4], &[5]];
    let alone = texts.iter().map(|text| subject.whole(text));
    let alone: Vec<Logits> = alone.collect::<Result<_, _>>()?;
    let sequence = |i: usize, position: usize, output| Sequence {
        tokens: &texts[i][position..],
        position,
        pages: tables[i],
        output,
    };
    let have = subject.step(&[0, 1, 2, 3].map(|i| sequence(i, 0, Output::AllLogits)))?;
    subject.close(alone.iter().flat_map(Logits::rows), have.rows())?;

    // Two that go on, and between them one that begins.
    for i in [0, 2] {
        subject.run(&texts[i][..32], 0, tables[i], Output::Nothing)?;
    }
    let mixed = [(2, 32), (3, 0), (0, 32)];
    let have =
        subject.step(&mixed.map(|(i, position)| sequence(i, position, Output::LastLogits)))?;
    let want = mixed.map(|(i, _)| row(&alone[i], texts[i].len() - 1));
    subject.close(want, have.rows())
}

pub(super) fn prompts_in_pieces_give_what_they_give_whole(subject: &mut Subject) -> Outcome {
    let tokens = text(1, 2 * PAGE_TOKENS + 3);
    let whole = subject.whole(&tokens)?;
    let one_by_one: Vec<usize> = (PAGE_TOKENS - 3..tokens.len()).collect();
    for cuts in [&[1][..], &[PAGE_TOKENS], &[17, 18, 31, 65], &one_by_one] {
        let ends = cuts.iter().copied().chain([tokens.len()]);
        let mut start = 0;
        for end in ends {
            // The table may have pages for later.
            let have = subject.run(&tokens[start..end], start, &[0, 1, 2], Output::AllLogits)?;
            subject.close(whole.rows().take(end).skip(start), have.rows())?;
            start = end;
        }
    }
    Ok(())
}

pub(super) fn logits_come_for_the_tokens_asked_for(subject: &mut Subject) -> Outcome {
    let texts = [text(5, 9), text(6, 4), text(7, 6)];
    let asking = |asked: [Output; 3]| {
        [0, 1, 2].map(|i| Sequence {
            tokens: &texts[i],
            position: 0,
            pages: &[0, 1, 2][i..=i],
            output: asked[i],
        })
    };
    let (nothing, last, all) = (Output::Nothing, Output::LastLogits, Output::AllLogits);
    let whole = subject.step(&asking([all; 3]))?;
    for (asked, rows) in [
        ([nothing, all, last], &[9, 10, 11, 12, 18][..]),
        ([last, nothing, nothing], &[8]),
        ([last, last, last], &[8, 12, 18]),
        ([nothing, nothing, nothing], &[]),
    ] {
        let have = subject.step(&asking(asked))?;
        subject.close(rows.iter().map(|&at| row(&whole, at)), have.rows())?;
    }
    Ok(())
}

/// One batch asks for hidden states and for logits, and each sequence gets what it gets alone.
pub(super) fn hidden_states_come_beside_logits(subject: &mut Subject) -> Outcome {
    if !subject.resident.abilities().hidden {
        return hidden_states_are_refused(subject);
    }
    let texts = [text(1, 37), text(2, 5), text(3, 40), text(4, 1)];
    let tables: [&[usize]; 4] = [&[0, 1], &[2], &[3, 4], &[5]];
    let mut hidden = Vec::new();
    for text in &texts {
        let first = subject.hidden(text)?;
        equal(first.rows(), subject.hidden(text)?.rows())?;
        hidden.push(first);
    }
    let scored = [subject.whole(&texts[1])?, subject.whole(&texts[3])?];
    if subject
        .close(hidden[0].rows().take(1), hidden[2].rows().take(1))
        .is_ok()
    {
        return Err("hidden states are the same whatever the token is".to_owned());
    }

    let sequence = |i: usize, position: usize, output| Sequence {
        tokens: &texts[i][position..],
        position,
        pages: tables[i],
        output,
    };
    let have = subject.outputs(&[
        sequence(0, 0, Output::AllHidden),
        sequence(1, 0, Output::AllLogits),
        sequence(2, 0, Output::LastHidden),
        sequence(3, 0, Output::LastLogits),
    ])?;
    let last = hidden[2].rows().skip(texts[2].len() - 1);
    subject.close(hidden[0].rows().chain(last), have.hidden.rows())?;
    subject.close(scored.iter().flat_map(Logits::rows), have.logits.rows())?;

    // In pieces, beside a sequence that wants nothing.
    subject.run(&texts[2][..20], 0, tables[2], Output::Nothing)?;
    let have = subject.outputs(&[
        sequence(0, 0, Output::Nothing),
        sequence(2, 20, Output::AllHidden),
    ])?;
    subject.close(hidden[2].rows().skip(20), have.hidden.rows())
}

/// A resident without hidden states refuses the whole batch that asks for them.
fn hidden_states_are_refused(subject: &mut Subject) -> Outcome {
    let texts = [text(1, 37), text(2, 5)];
    for output in [Output::LastHidden, Output::AllHidden] {
        let sequence = |i: usize, pages, output| Sequence {
            tokens: &texts[i],
            position: 0,
            pages,
            output,
        };
        let sequences = [
            sequence(1, &[2][..], Output::LastLogits),
            sequence(0, &[0, 1], output),
        ];
        match subject.resident.step(&crate::Batch {
            sequences: &sequences,
        }) {
            Err(crate::Error::Batch { .. }) => {}
            Err(other) => return Err(format!("{output:?}: refused for another reason: {other}")),
            Ok(_) => return Err(format!("{output:?}: it ran")),
        }
    }
    Ok(())
}
