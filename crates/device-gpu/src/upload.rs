//! Bytes on their way to the GPU while a model is loaded: the next ones are read and repacked while these are copied.
//!
//! What is written waits in staging memory, which is the host's, until the GPU has copied it. There is a bounded amount of
//! that: who writes more waits for what was handed over first, and for nothing else.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use troika_device::Error;

use crate::{Buffer, Gpu};

/// Bytes that are handed over together.
const BATCH: usize = 16 << 20;

/// Bytes in staging memory, beside those of the writer's that are not handed over.
const STAGED: usize = 64 << 20;

/// What was written, of all models that are being loaded.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// Bytes that were not handed over.
    waiting: usize,
    /// What was, the first one first.
    under_way: VecDeque<Batch>,
    /// Bytes of all of these.
    staged: usize,
}

#[derive(Debug)]
struct Batch {
    submission: wgpu::SubmissionIndex,
    bytes: usize,
}

impl Gpu {
    /// [`Self::write`] of much: hands it over now and then, and waits while too much is on its way.
    ///
    /// # Errors
    /// [`Error::Failed`] if the GPU is lost.
    ///
    /// # Panics
    /// As [`Self::write`].
    pub fn upload(&self, buffer: &Buffer, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.write(buffer, offset, bytes);
        let mut ring = self
            .uploads
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ring.waiting += bytes.len();
        if ring.waiting < BATCH {
            // It goes with the next batch, or with the first commands that could see it.
            return Ok(());
        }
        // Writes go out with the next commands, even if there are none.
        let submission = self.submit(None);
        let bytes = std::mem::take(&mut ring.waiting);
        ring.staged += bytes;
        ring.under_way.push_back(Batch { submission, bytes });
        while ring.staged > STAGED {
            let Some(first) = ring.under_way.pop_front() else {
                break;
            };
            self.wait_for(Some(first.submission))?;
            ring.staged -= first.bytes;
        }
        Ok(())
    }
}
