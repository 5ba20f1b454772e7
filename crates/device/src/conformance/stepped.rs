//! A resident whose steps somebody else takes. Tests of what drives devices make of it devices that lie, fail or hang.

use std::ops::Range;

use half::f16;
use troika_base::{Bytes, ModelSpec};

use crate::{Batch, Error, Interrupt, KvShape, Outputs, Resident};

/// A resident that is another one in all but its steps: these are `step`'s, which is given the other one.
pub struct Stepped<F> {
    inner: Box<dyn Resident>,
    step: F,
}

impl<F> Stepped<F>
where
    F: FnMut(&mut dyn Resident, &Batch<'_>) -> Result<Outputs, Error> + Send,
{
    /// `inner` with these steps.
    pub fn new(inner: Box<dyn Resident>, step: F) -> Self {
        Self { inner, step }
    }
}

impl<F> Resident for Stepped<F>
where
    F: FnMut(&mut dyn Resident, &Batch<'_>) -> Result<Outputs, Error> + Send,
{
    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }

    fn n_page(&self) -> usize {
        self.inner.n_page()
    }

    fn weights_bytes(&self) -> Bytes {
        self.inner.weights_bytes()
    }

    fn kv_shape(&self) -> KvShape {
        self.inner.kv_shape()
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        (self.step)(&mut *self.inner, batch)
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        self.inner.copy_page(from, to);
    }

    fn read_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        self.inner.read_kv(pages, tokens, out)
    }

    fn write_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        self.inner.write_kv(pages, tokens, values)
    }

    fn interrupt(&self) -> Option<Interrupt> {
        self.inner.interrupt()
    }
}
