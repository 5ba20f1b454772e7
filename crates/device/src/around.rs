//! Residents that stand around another one: it does what they do not do themselves.

use std::ops::Range;

use half::f16;
use troika_base::{Bytes, ModelSpec};

use crate::{Abilities, Batch, Error, ExpertsInFile, Interrupt, KvShape, Outputs, Resident};

/// A resident that is another one in all but what it does itself of steps, and of what its cache gives and takes.
///
/// Whoever implements this is a [`Resident`]. Nothing of the other one can be left out by mistake.
pub trait Around: Send {
    /// The other one.
    fn inner(&self) -> &dyn Resident;

    /// The other one.
    fn inner_mut(&mut self) -> &mut dyn Resident;

    /// Takes a step, as [`Resident::step`] has it.
    ///
    /// # Errors
    /// As [`Resident::step`].
    fn take_step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.inner_mut().step(batch)
    }

    /// Takes a step that another one follows, as [`Resident::step_ahead`] has it: as any other, unless it is passed on.
    ///
    /// # Errors
    /// As [`Resident::step`].
    fn take_step_ahead(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.take_step(batch)
    }

    /// Copies keys and values out, as [`Resident::read_kv`] has it.
    ///
    /// # Errors
    /// As [`Resident::read_kv`].
    fn give_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        self.inner_mut().read_kv(pages, tokens, out)
    }

    /// Takes keys and values in, as [`Resident::write_kv`] has it.
    ///
    /// # Errors
    /// As [`Resident::write_kv`].
    fn take_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        self.inner_mut().write_kv(pages, tokens, values)
    }
}

impl<A: Around> Resident for A {
    fn spec(&self) -> &ModelSpec {
        self.inner().spec()
    }

    fn n_page(&self) -> usize {
        self.inner().n_page()
    }

    fn weights_bytes(&self) -> Bytes {
        self.inner().weights_bytes()
    }

    fn experts_in_file(&self) -> Option<ExpertsInFile> {
        self.inner().experts_in_file()
    }

    fn kv_shape(&self) -> KvShape {
        self.inner().kv_shape()
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.take_step(batch)
    }

    fn step_ahead(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.take_step_ahead(batch)
    }

    fn runs_ahead(&mut self) -> bool {
        self.inner_mut().runs_ahead()
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        self.inner_mut().copy_page(from, to);
    }

    fn read_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        self.give_kv(pages, tokens, out)
    }

    fn write_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        self.take_kv(pages, tokens, values)
    }

    fn abilities(&self) -> Abilities {
        self.inner().abilities()
    }

    fn interrupt(&self) -> Option<Interrupt> {
        self.inner().interrupt()
    }
}
