//! A question whose answer is known: whether a device computes what it should.
//!
//! Drivers have bugs, memory has, and a device that answers wrongly answers as fast as another. So before a device is
//! offered, and again after it was in trouble, it runs a small model of every large part: prompts, words one by one,
//! several sequences at once, a cache whose pages are in no order. The answers are in the program:
//! the scalar reference has given them (see the tests).

use std::ops::ControlFlow;
use std::sync::LazyLock;

use troika_base::TokenId;
use troika_device::conformance::small_model;
use troika_device::{
    Batch, Device, Error, Interrupt, LoadOptions, Logits, Output, PAGE_TOKENS, Resident, Sequence,
};
use troika_gguf::ModelFile;

/// What is wrong with a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// It does not load the model.
    #[error("the model of the known question does not load: {0}")]
    Load(#[source] Box<Error>),
    /// A step fails.
    #[error("{step}: {source}")]
    Step {
        /// What the step was.
        step: &'static str,
        /// What the device says.
        #[source]
        source: Box<Error>,
    },
    /// It answers with more or less than it was asked for.
    #[error("{step}: {have} logits instead of {want}")]
    Count {
        /// What the step was.
        step: &'static str,
        /// Logits asked for.
        want: usize,
        /// Logits that came.
        have: usize,
    },
    /// It answers with what is no number.
    #[error(
        "{step}: after token {position} of sequence {sequence}, the logit of token {token} is {have}"
    )]
    NotANumber {
        /// What the step was.
        step: &'static str,
        /// Which of the question's sequences.
        sequence: char,
        /// The last token that was read before it.
        position: usize,
        /// The token whose logit it is.
        token: usize,
        /// The logit.
        have: f32,
    },
    /// It answers wrongly.
    #[error(
        "{step}: after token {position} of sequence {sequence}, the logit of token {token} is {have} instead of {want}; \
         {apart:.3} of the largest apart, {ALLOWED} is allowed"
    )]
    Wrong {
        /// What the step was.
        step: &'static str,
        /// Which of the question's sequences.
        sequence: char,
        /// The last token that was read before it.
        position: usize,
        /// The token whose logit it is.
        token: usize,
        /// The logit.
        have: f32,
        /// What it should be.
        want: f32,
        /// How far that is apart, as a share of the row's largest.
        apart: f32,
    },
}

/// How far a logit may be off, as a share of the largest of its row: as far as devices may be apart that round
/// activations in their own ways, and no farther than that.
const ALLOWED: f32 = 0.1;

/// Tokens of the small model.
const N_VOCAB: usize = 101;

/// A sequence's part in a step of the question.
struct Part {
    /// Which sequence.
    name: char,
    /// Position of its first token, and of the one after its last.
    tokens: (usize, usize),
    pages: &'static [usize],
    output: Output,
}

/// A step of the question.
struct Asked {
    what: &'static str,
    parts: &'static [Part],
}

const fn part(name: char, from: usize, to: usize, output: Output) -> Part {
    let pages: &[usize] = match name {
        'A' => &[2, 0],
        _ => &[1],
    };
    Part {
        name,
        tokens: (from, to),
        pages,
        output,
    }
}

/// Longer than a page by this.
const LONG: usize = PAGE_TOKENS + 2;

/// Every step that a model is for; each goes on with what the ones before have left in the cache.
const QUESTION: [Asked; 4] = [
    Asked {
        what: "reading a prompt",
        parts: &[part('A', 0, LONG, Output::LastLogits)],
    },
    Asked {
        what: "writing a token",
        parts: &[part('A', LONG, LONG + 1, Output::LastLogits)],
    },
    Asked {
        what: "writing a token beside a prompt",
        parts: &[
            part('B', 0, 4, Output::AllLogits),
            part('A', LONG + 1, LONG + 2, Output::LastLogits),
        ],
    },
    Asked {
        what: "writing tokens of two sequences",
        parts: &[
            part('A', LONG + 2, LONG + 3, Output::LastLogits),
            part('B', 4, 5, Output::LastLogits),
        ],
    },
];

impl Asked {
    /// Rows of logits that it is answered with.
    fn n_row(&self) -> usize {
        let rows = |part: &Part| part.output.logits(part.tokens.1 - part.tokens.0).len();
        self.parts.iter().map(rows).sum()
    }
}

impl Part {
    /// One of two texts without a meaning.
    fn tokens(&self) -> Vec<TokenId> {
        let token =
            |i: usize| TokenId((u32::from(self.name) * 31 + (i * (i + 7)) as u32) % N_VOCAB as u32);
        (self.tokens.0..self.tokens.1).map(token).collect()
    }
}

/// The model, and the answers to each step.
struct Known {
    file: ModelFile,
    answers: Vec<Logits>,
}

/// Logits of all steps, one after the other, f32 in little-endian.
const ANSWERS: &[u8] = include_bytes!("probe/answers.f32");

/// Made once in a program's time.
fn known() -> &'static Known {
    static KNOWN: LazyLock<Known> = LazyLock::new(|| {
        let numbers = ANSWERS.as_chunks().0.iter();
        let mut numbers = numbers.map(|&bytes| f32::from_le_bytes(bytes));
        let answer = |asked: &Asked| Logits {
            n_vocab: N_VOCAB,
            values: numbers.by_ref().take(asked.n_row() * N_VOCAB).collect(),
        };
        Known {
            file: small_model(),
            answers: QUESTION.iter().map(answer).collect(),
        }
    });
    &KNOWN
}

/// Asks a device a question whose answer is known. It works through [`Device`] alone, on a cache of three pages, which is
/// gone again afterwards.
///
/// # Errors
/// What is wrong with the device: the first step that fails, or the first logit that is not what it should be.
pub fn probe(device: &dyn Device) -> Result<(), ProbeError> {
    probe_watched(device, &mut |_| {})
}

/// As [`probe`]; `begins` is given what breaks the question off, should a step of it not end.
///
/// # Errors
/// As [`probe`].
pub fn probe_watched(
    device: &dyn Device,
    begins: &mut dyn FnMut(Option<Interrupt>),
) -> Result<(), ProbeError> {
    let known = known();
    let mut answers = known.answers.iter();
    ask(device, &known.file, begins, &mut |asked, have| {
        let want = answers.next().expect("as many as there are steps");
        compare(asked, want, &have)
    })
}

/// Runs the question's steps; `answered` is given the logits of each.
fn ask(
    device: &dyn Device,
    file: &ModelFile,
    begins: &mut dyn FnMut(Option<Interrupt>),
    answered: &mut dyn FnMut(&Asked, Logits) -> Result<(), ProbeError>,
) -> Result<(), ProbeError> {
    let options = LoadOptions::new(3 * PAGE_TOKENS);
    let loaded = device.load(file, options, &mut |_| ControlFlow::Continue(()));
    let mut resident = loaded.map_err(|error| ProbeError::Load(Box::new(error)))?;
    begins(resident.interrupt());
    QUESTION.iter().try_for_each(|asked| {
        let logits = run(&mut *resident, asked).map_err(|source| ProbeError::Step {
            step: asked.what,
            source: Box::new(source),
        })?;
        answered(asked, logits)
    })
}

fn run(resident: &mut dyn Resident, asked: &Asked) -> Result<Logits, Error> {
    let tokens: Vec<Vec<TokenId>> = asked.parts.iter().map(Part::tokens).collect();
    let parts = asked.parts.iter().zip(&tokens);
    let sequences: Vec<Sequence<'_>> = parts
        .map(|(part, tokens)| Sequence {
            tokens,
            position: part.tokens.0,
            pages: part.pages,
            output: part.output,
        })
        .collect();
    let outputs = resident.step(&Batch {
        sequences: &sequences,
    })?;
    Ok(outputs.logits)
}

fn compare(asked: &Asked, want: &Logits, have: &Logits) -> Result<(), ProbeError> {
    let step = asked.what;
    if (have.n_vocab, have.values.len()) != (want.n_vocab, want.values.len()) {
        return Err(ProbeError::Count {
            step,
            want: want.values.len(),
            have: have.values.len(),
        });
    }
    // The token that each row follows.
    let places = asked.parts.iter().flat_map(|part| {
        let (from, to) = part.tokens;
        let rows = part.output.logits(to - from);
        rows.map(move |row| (part.name, from + row))
    });
    for ((sequence, position), (want, have)) in places.zip(want.rows().zip(have.rows())) {
        let largest = want.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (token, (&want, &have)) in want.iter().zip(have).enumerate() {
            if !have.is_finite() {
                return Err(ProbeError::NotANumber {
                    step,
                    sequence,
                    position,
                    token,
                    have,
                });
            }
            let apart = (want - have).abs() / largest;
            if apart > ALLOWED {
                return Err(ProbeError::Wrong {
                    step,
                    sequence,
                    position,
                    token,
                    have,
                    want,
                    apart,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
