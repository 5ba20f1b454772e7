//! A resident whose steps somebody else takes. Tests of what drives devices make of it devices that lie, fail or hang.

use crate::{Around, Batch, Error, Outputs, Resident};

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

impl<F> Around for Stepped<F>
where
    F: FnMut(&mut dyn Resident, &Batch<'_>) -> Result<Outputs, Error> + Send,
{
    fn inner(&self) -> &dyn Resident {
        &*self.inner
    }

    fn inner_mut(&mut self) -> &mut dyn Resident {
        &mut *self.inner
    }

    fn take_step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        (self.step)(&mut *self.inner, batch)
    }
}
