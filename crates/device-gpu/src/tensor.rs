//! Activations on the GPU: what goes from kernel to kernel within a step.

use troika_device::Error;

use crate::buffer::ScratchBuffer;
use crate::{Bind, Scratch};

/// Activations `[n_tok, width]`: f32, row by row without gaps. The memory goes back to its pool with the tensor.
#[derive(Debug)]
pub struct Tensor {
    buffer: ScratchBuffer,
    n_tok: usize,
    width: usize,
}

impl Tensor {
    /// Room for `n_tok` rows of `width` values, with anything in it. Most kernels read four values at once and ask for
    /// a `width` of whole fours; logits are as wide as the vocabulary.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], also if it would be more than one kernel can see.
    pub fn new(scratch: &Scratch, n_tok: usize, width: usize) -> Result<Self, Error> {
        Ok(Self {
            buffer: scratch.take(n_tok * width * size_of::<f32>())?,
            n_tok,
            width,
        })
    }

    /// Rows.
    pub fn n_tok(&self) -> usize {
        self.n_tok
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Values of all rows.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a step has tokens, so nothing asks whether there are none"
    )]
    pub fn len(&self) -> usize {
        self.n_tok * self.width
    }

    /// Its bytes. The buffer behind it may be longer.
    pub fn bytes(&self) -> usize {
        self.len() * size_of::<f32>()
    }

    /// Its memory.
    pub fn buffer(&self) -> &ScratchBuffer {
        &self.buffer
    }

    /// The whole of it, as a kernel sees it.
    pub fn bind(&self) -> Bind<'_> {
        Bind::whole(&self.buffer)
    }
}
