//! Files and batches that are refused, for the right reason and without harm.

use std::ops::ControlFlow;

use troika_base::TokenId;

use super::Outcome;
use super::models::{N_CTX, N_VOCAB, Recipe};
use super::steps::text;
use super::subject::Subject;
use crate::{Batch, Device, Error, LoadOptions, Output, PAGE_TOKENS, Sequence};

pub(super) fn bad_files_are_refused(device: &dyn Device, recipe: &Recipe) -> Outcome {
    let refuse = |what: &str, spoil: &dyn Fn(&mut Recipe), is_right: fn(&Error) -> bool| {
        let mut bad = recipe.clone();
        spoil(&mut bad);
        let options = LoadOptions::new(N_CTX);
        match device.load(&bad.file(), options, &mut |_| ControlFlow::Continue(())) {
            Err(error) if is_right(&error) => Ok(()),
            Err(other) => Err(format!("{what} is refused for another reason: {other}")),
            Ok(_) => Err(format!("{what} is accepted")),
        }
    };
    for name in [
        "output_norm.weight",
        "blk.0.attn_k.weight",
        "blk.1.ffn_down.weight",
    ] {
        let without = |bad: &mut Recipe| bad.tensors.retain(|tensor| tensor.name != name);
        refuse(&format!("a file without {name}"), &without, |error| {
            matches!(error, Error::MissingTensor { .. })
        })?;
        let halve = |bad: &mut Recipe| {
            let found = bad.tensors.iter_mut().find(|tensor| tensor.name == name);
            found.expect("every model has it").halve();
        };
        refuse(&format!("half of {name}"), &halve, |error| {
            matches!(error, Error::TensorShape { .. })
        })?;
    }
    let add_stray = |bad: &mut Recipe| {
        let mut stray = bad.tensors[0].clone();
        stray.name = "blk.0.unheard_of.weight".to_owned();
        bad.tensors.push(stray);
    };
    // Devices that take models whole need not tell a strange file from one that they do not support.
    refuse("an unknown tensor", &add_stray, |error| {
        matches!(
            error,
            Error::UnusedTensor { .. } | Error::Unsupported { .. }
        )
    })?;
    let rename = |bad: &mut Recipe| bad.metadata.insert("general.architecture", "unheard-of");
    refuse("an unknown architecture", &rename, |error| {
        matches!(
            error,
            Error::UnsupportedArchitecture { .. } | Error::Unsupported { .. }
        )
    })
}

/// Each bad sequence comes behind a good one that would overwrite what the cache holds.
pub(super) fn bad_batches_change_nothing(subject: &mut Subject) -> Outcome {
    let held = text(1, PAGE_TOKENS + 3);
    let (next, pages) = (text(2, 1), [0, 1]);
    subject.run(&held, 0, &pages, Output::Nothing)?;
    let want = subject.run(&next, held.len(), &pages, Output::LastLogits)?;

    let tokens = text(3, PAGE_TOKENS + 3);
    let beyond = [TokenId(0), TokenId(N_VOCAB as u32)];
    let largest = [TokenId(u32::MAX)];
    let outside = [2, subject.resident.n_page()];
    let bad = |tokens, position, pages| Sequence {
        tokens,
        position,
        pages,
        output: Output::LastLogits,
    };
    let mut refuse = |what: &str, sequences: &[Sequence<'_>]| match subject
        .resident
        .step(&Batch { sequences })
    {
        Err(Error::Batch { .. }) => Ok(()),
        Err(other) => Err(format!("{what}: refused for another reason: {other}")),
        Ok(_) => Err(format!("{what}: it ran")),
    };
    refuse("no sequences", &[])?;
    for (what, bad) in [
        ("no tokens", bad(&[], 0, &[2])),
        ("a token beyond the vocabulary", bad(&beyond, 0, &[2])),
        ("the largest token", bad(&largest, 0, &[2])),
        ("no pages", bad(&tokens, 0, &[])),
        ("a page too few", bad(&tokens, 0, &[2])),
        ("a page outside of the cache", bad(&tokens, 0, &outside)),
        ("a position beyond its pages", bad(&tokens, 64, &[2, 3])),
        ("the largest position", bad(&tokens, usize::MAX, &[2, 3])),
    ] {
        let good = Sequence {
            pages: &pages,
            position: 0,
            tokens: &tokens,
            ..bad
        };
        refuse(what, &[good, bad])?;
    }

    let have = subject.run(&next, held.len(), &pages, Output::LastLogits)?;
    subject.same(want.rows(), have.rows())
}
