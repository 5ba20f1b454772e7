//! A loaded model under test: runs steps, and compares their logits.

use std::ops::ControlFlow;

use troika_base::TokenId;

use super::Outcome;
use super::models::{N_CTX, N_VOCAB, Recipe};
use crate::{
    Batch, Device, Hidden, LoadOptions, Logits, Output, Outputs, PAGE_TOKENS, Resident, Sequence,
};

pub(super) struct Subject {
    pub(super) resident: Box<dyn Resident>,
    tolerance: f32,
}

impl Subject {
    pub(super) fn load(device: &dyn Device, recipe: &Recipe, tolerance: f32) -> Outcome<Self> {
        let options = LoadOptions::new(N_CTX);
        let loaded = device.load(&recipe.file(), options, &mut |_| ControlFlow::Continue(()));
        Ok(Self {
            resident: loaded.map_err(|error| error.to_string())?,
            tolerance,
        })
    }

    /// Runs a batch, and checks that it gives numbers, as many as were asked for.
    pub(super) fn outputs(&mut self, sequences: &[Sequence<'_>]) -> Outcome<Outputs> {
        let batch = Batch { sequences };
        let outputs = self
            .resident
            .step(&batch)
            .map_err(|error| error.to_string())?;
        let n_embd = self.resident.spec().n_embd;
        for (what, values, want) in [
            (
                "logits",
                &outputs.logits.values,
                batch.logit_rows().len() * N_VOCAB,
            ),
            (
                "hidden states",
                &outputs.hidden.values,
                batch.hidden_rows().len() * n_embd,
            ),
        ] {
            if values.len() != want {
                return Err(format!("{} {what} instead of {want}", values.len()));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(format!("among the {what} is {value}"));
            }
        }
        Ok(outputs)
    }

    /// Runs a batch that asks for logits.
    pub(super) fn step(&mut self, sequences: &[Sequence<'_>]) -> Outcome<Logits> {
        Ok(self.outputs(sequences)?.logits)
    }

    /// Runs one sequence alone.
    pub(super) fn run(
        &mut self,
        tokens: &[TokenId],
        position: usize,
        pages: &[usize],
        output: Output,
    ) -> Outcome<Logits> {
        self.step(&[Sequence {
            tokens,
            position,
            pages,
            output,
        }])
    }

    /// Logits of every token of a text of its own, in one step on the first pages.
    pub(super) fn whole(&mut self, tokens: &[TokenId]) -> Outcome<Logits> {
        let pages: Vec<usize> = (0..tokens.len().div_ceil(PAGE_TOKENS)).collect();
        self.run(tokens, 0, &pages, Output::AllLogits)
    }

    /// Hidden states of every token of a text of its own, in one step on the first pages.
    pub(super) fn hidden(&mut self, tokens: &[TokenId]) -> Outcome<Hidden> {
        let pages: Vec<usize> = (0..tokens.len().div_ceil(PAGE_TOKENS)).collect();
        let outputs = self.outputs(&[Sequence {
            tokens,
            position: 0,
            pages: &pages,
            output: Output::AllHidden,
        }])?;
        Ok(outputs.hidden)
    }

    /// Compares rows from batches of different shape.
    pub(super) fn close<'l>(
        &self,
        want: impl IntoIterator<Item = &'l [f32]>,
        have: impl IntoIterator<Item = &'l [f32]>,
    ) -> Outcome {
        compare(want, have, self.tolerance)
    }
}

impl Subject {
    /// Compares rows of the same tokens after the same cache: equal bits, unless a resident keeps texts in place of keys
    /// and values, and may have read this one anew in other pieces.
    pub(super) fn same<'l>(
        &self,
        want: impl IntoIterator<Item = &'l [f32]>,
        have: impl IntoIterator<Item = &'l [f32]>,
    ) -> Outcome {
        match self.resident.abilities().kv {
            true => equal(want, have),
            false => self.close(want, have),
        }
    }
}

/// Compares rows from batches of the same shape.
pub(super) fn equal<'l>(
    want: impl IntoIterator<Item = &'l [f32]>,
    have: impl IntoIterator<Item = &'l [f32]>,
) -> Outcome {
    compare(want, have, 0.0)
}

fn compare<'l>(
    want: impl IntoIterator<Item = &'l [f32]>,
    have: impl IntoIterator<Item = &'l [f32]>,
    allowed: f32,
) -> Outcome {
    let (want, have): (Vec<_>, Vec<_>) = (want.into_iter().collect(), have.into_iter().collect());
    if want.len() != have.len() {
        return Err(format!("{} rows instead of {}", have.len(), want.len()));
    }
    for (row, (want, have)) in want.into_iter().zip(have).enumerate() {
        let largest = want.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (i, (want, have)) in want.iter().zip(have).enumerate() {
            let apart = (want - have).abs() / largest;
            if want.to_bits() != have.to_bits() && (allowed == 0.0 || apart > allowed) {
                return Err(format!(
                    "row {row}, value {i}: it is {have} instead of {want}, {apart:.1e} of the largest apart ({allowed:.1e} \
                     is allowed)"
                ));
            }
        }
    }
    Ok(())
}
