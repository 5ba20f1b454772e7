//! Steps that a device begins before it is asked give what they give anyhow, whatever is asked then.

use troika_base::TokenId;

use super::Outcome;
use super::steps::text;
use super::subject::Subject;
use crate::{Batch, Error, Logits, Output, Outputs, PAGE_TOKENS, Sequence};

/// A text on its pages.
struct Text {
    tokens: Vec<TokenId>,
    pages: Vec<usize>,
    /// Tokens that were read.
    read: usize,
}

/// What may happen to texts whose next step was begun.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// They go on as expected.
    Likeliest,
    /// The last of them goes on with another token than the likeliest.
    Other,
    /// The last of them waits for a step.
    OneWaits,
    /// A page of one is copied, and it goes on there.
    OnACopy,
    /// Keys and values of the last token are brought back from outside, by way of others.
    Written,
    /// The step is broken off, and taken again.
    Interrupted,
}

const ALL: [Turn; 6] = [
    Turn::Likeliest,
    Turn::Other,
    Turn::OneWaits,
    Turn::OnACopy,
    Turn::Written,
    Turn::Interrupted,
];

/// So many steps as expected before each turn: a device that was wrong may wait a little before it is bold again.
const EXPECTED: usize = 4;

/// The same turns twice, with steps that are begun and without, and across a page's end.
pub(super) fn what_is_begun_is_what_would_have_come(subject: &mut Subject) -> Outcome {
    let want = played(subject, false)?;
    let have = played(subject, true)?;
    for ((turn, want), (_, have)) in want.iter().zip(&have) {
        let same = subject.same(want.rows(), have.rows());
        same.map_err(|found| format!("{turn:?}: {found}"))?;
    }
    Ok(())
}

/// Logits of each turn.
fn played(subject: &mut Subject, ahead: bool) -> Outcome<Vec<(Turn, Logits)>> {
    let mut texts = [
        Text {
            tokens: text(1, PAGE_TOKENS - 12),
            pages: vec![3, 1],
            read: 0,
        },
        Text {
            tokens: text(2, 5),
            pages: vec![0, 4],
            read: 0,
        },
    ];
    let mut logits = taken(subject, &mut texts, ahead)?;
    let mut all = Vec::new();
    let turns = ALL.map(|turn| [[Turn::Likeliest; EXPECTED].as_slice(), &[turn]].concat());
    for turn in turns.concat() {
        for (text, row) in texts.iter_mut().zip(logits.rows()) {
            text.tokens.push(likeliest(row));
        }
        match turn {
            Turn::Likeliest => {}
            Turn::Other => {
                let token = texts[1].tokens.last_mut().ok_or("no token")?;
                token.0 = (token.0 + 1) % logits.n_vocab as u32;
            }
            Turn::OneWaits => {
                let alone = taken(subject, &mut texts[..1], ahead)?;
                let row = alone.last().ok_or("no logits")?;
                texts[0].tokens.push(likeliest(row));
                all.push((turn, alone));
            }
            Turn::OnACopy => {
                let page = texts[0].read / PAGE_TOKENS;
                subject.resident.copy_page(texts[0].pages[page], 5);
                texts[0].pages[page] = 5;
            }
            Turn::Written => written(subject, &texts[1])?,
            Turn::Interrupted => interrupted(subject, &texts, ahead)?,
        }
        all.push((turn, logits));
        logits = taken(subject, &mut texts, ahead)?;
    }
    all.push((Turn::Likeliest, logits));
    Ok(all)
}

fn likeliest(row: &[f32]) -> TokenId {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = i;
        }
    }
    TokenId(best as u32)
}

fn step(subject: &mut Subject, texts: &[Text], ahead: bool) -> Result<Outputs, Error> {
    let sequences = texts.iter().map(|text| Sequence {
        tokens: &text.tokens[text.read..],
        position: text.read,
        pages: &text.pages,
        output: Output::LastLogits,
    });
    let sequences: Vec<_> = sequences.collect();
    let batch = Batch {
        sequences: &sequences,
    };
    match ahead {
        true => subject.resident.step_ahead(&batch),
        false => subject.resident.step(&batch),
    }
}

/// All that was not read yet, and what follows.
fn taken(subject: &mut Subject, texts: &mut [Text], ahead: bool) -> Outcome<Logits> {
    let outputs = step(subject, texts, ahead).map_err(|error| error.to_string())?;
    for text in texts {
        text.read = text.tokens.len();
    }
    Ok(outputs.logits)
}

/// Overwrites the keys and values of a text's last token that was read, and puts them back.
fn written(subject: &mut Subject, text: &Text) -> Outcome {
    if !subject.resident.abilities().kv {
        return Ok(());
    }
    let all = subject.kv(&text.pages, text.read)?;
    let token = subject.resident.kv_shape().token_values();
    let (last, before) = (text.read - 1..text.read, &all[..token]);
    for values in [before, &all[all.len() - token..]] {
        let resident = &mut subject.resident;
        let written = resident.write_kv(&text.pages, last.clone(), values);
        written.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn interrupted(subject: &mut Subject, texts: &[Text], ahead: bool) -> Outcome {
    let Some(interrupt) = subject.resident.interrupt() else {
        return Ok(());
    };
    interrupt.raise();
    match step(subject, texts, ahead) {
        Err(Error::Interrupted) => Ok(()),
        Err(other) => Err(format!("it ended for another reason: {other}")),
        Ok(_) => Err("a step that was broken off came to its end".to_owned()),
    }
}
