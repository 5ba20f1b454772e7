//! What the tests of all back ends ask: whether a device computes what Troika's own CPU device computes.

use std::ops::ControlFlow;

use troika_base::TokenId;
use troika_device::{Batch, Device, LoadOptions, Output, Outputs, PAGE_TOKENS, Resident, Sequence};
use troika_engine::CpuDevice;
use troika_gguf::ModelFile;

pub(crate) fn cpu() -> CpuDevice {
    CpuDevice::batch_invariant(2)
}

pub(crate) fn load(device: &dyn Device, file: &ModelFile, n_ctx: usize) -> Box<dyn Resident> {
    let loaded = device.load(file, LoadOptions::new(n_ctx), &mut |_| {
        ControlFlow::Continue(())
    });
    loaded.unwrap_or_else(|error| panic!("{}: {error}", device.description()))
}

/// A text without a meaning.
pub(crate) fn text(seed: usize, n_tok: usize, n_vocab: usize) -> Vec<TokenId> {
    let token = |i: usize| ((seed * 31 + i * (i + 7)) % n_vocab) as u32;
    (0..n_tok).map(|i| TokenId(token(i))).collect()
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A step of one sequence, on the first pages.
pub(crate) fn step(
    resident: &mut dyn Resident,
    tokens: &[TokenId],
    position: usize,
    output: Output,
) -> Outputs {
    let n_page = (position + tokens.len()).div_ceil(PAGE_TOKENS);
    let pages: Vec<usize> = (0..n_page).collect();
    let sequences = [Sequence {
        tokens,
        position,
        pages: &pages,
        output,
    }];
    taken(resident, &sequences)
}

fn taken(resident: &mut dyn Resident, sequences: &[Sequence<'_>]) -> Outputs {
    resident
        .step(&Batch { sequences })
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A prompt, and then token by token, `n_tok` in all: the least cosine of any step's logits with the CPU's.
pub(crate) fn least_cosine(
    device: &dyn Device,
    file: &ModelFile,
    n_ctx: usize,
    (n_prompt, n_tok): (usize, usize),
) -> f64 {
    let mut reference = load(&cpu(), file, n_ctx);
    let tokens = text(1, n_tok, reference.spec().n_vocab);
    let want = step(&mut *reference, &tokens, 0, Output::AllLogits);
    let mut resident = load(device, file, n_ctx);
    let mut least = f64::INFINITY;
    let mut compare = |at: usize, have: &Outputs| {
        let want = want.logits.rows().nth(at).expect("a row for each token");
        least = least.min(cosine(want, have.logits.last().expect("it was asked for")));
    };
    let prompt = step(&mut *resident, &tokens[..n_prompt], 0, Output::LastLogits);
    compare(n_prompt - 1, &prompt);
    for at in n_prompt..n_tok {
        let have = step(&mut *resident, &tokens[at..=at], at, Output::LastLogits);
        compare(at, &have);
    }
    println!(
        "ran {n_tok} tokens of {} layers of {} on {}: cosine at least {least:.6}",
        reference.spec().n_layer,
        reference.spec().architecture,
        device.description()
    );
    least
}

/// Tokens that each sequence of a crowd writes.
const WRITTEN: usize = 12;

/// A sequence of a crowd: its text, how much of it was read, and its pages.
struct Reader {
    tokens: Vec<TokenId>,
    read: usize,
    pages: Vec<usize>,
}

/// Several sequences of unlike lengths in every step: one comes when the others write already, their order changes from step to
/// step, and their pages lie between each other's. The least cosine of any logits with the CPU's.
pub(crate) fn crowd(device: &dyn Device, file: &ModelFile, n_ctx: usize, n_sequence: usize) -> f64 {
    let mut resident = load(device, file, n_ctx);
    let mut reference = load(&cpu(), file, n_sequence * n_ctx);
    let n_vocab = reference.spec().n_vocab;
    let reader = |i: usize| Reader {
        tokens: text(i, 20 + 11 * i + WRITTEN, n_vocab),
        read: 0,
        pages: Vec::new(),
    };
    let mut readers: Vec<Reader> = (0..n_sequence).map(reader).collect();
    // Everyone's first page, then everyone's second one.
    let mut page = 0..resident.n_page();
    while let Some(reader) = readers
        .iter_mut()
        .filter(|reader| reader.pages.len() * PAGE_TOKENS < reader.tokens.len())
        .min_by_key(|reader| reader.pages.len())
    {
        reader
            .pages
            .push(page.next().expect("there are pages for all of them"));
    }
    let mut least = f64::INFINITY;
    for round in 0..=WRITTEN {
        // The last one comes a step after the others, and what is left of the text is what is written of it.
        let here = n_sequence - usize::from(round == 0 && n_sequence > 1);
        let mut order: Vec<usize> = (0..here).collect();
        order.rotate_left(round % here);
        let sequences: Vec<Sequence<'_>> = order
            .iter()
            .map(|&i| {
                let Reader {
                    tokens,
                    read,
                    pages,
                } = &readers[i];
                let n_tok = if *read == 0 {
                    tokens.len() - WRITTEN
                } else {
                    1
                };
                Sequence {
                    tokens: &tokens[*read..(read + n_tok).min(tokens.len())],
                    position: *read,
                    pages,
                    output: Output::LastLogits,
                }
            })
            .collect();
        let want = taken(&mut *reference, &sequences);
        let have = taken(&mut *resident, &sequences);
        assert_eq!(have.logits.rows().len(), here);
        for (want, have) in want.logits.rows().zip(have.logits.rows()) {
            least = least.min(cosine(want, have));
        }
        let added: Vec<usize> = sequences.iter().map(|s| s.tokens.len()).collect();
        for (&i, added) in order.iter().zip(added) {
            readers[i].read += added;
        }
    }
    println!(
        "ran {n_sequence} sequences at once on {}: cosine at least {least:.6}",
        device.description()
    );
    least
}
