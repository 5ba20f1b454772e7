//! Memory on the GPU: buffers that stay, and scratch that goes back to a pool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use troika_base::Bytes;
use troika_device::Error;

use crate::Gpu;

/// A buffer on the GPU. Clones are of the same one.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub(crate) raw: wgpu::Buffer,
    pub(crate) id: u64,
}

impl Buffer {
    /// Its size.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.raw.size())
    }
}

/// What all buffers are good for.
const USAGES: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

/// Copies between buffers, and kernels that read four numbers at once, want whole vectors.
const ALIGNMENT: u64 = 16;

impl Gpu {
    /// A buffer of at least so many bytes, with zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is no room for it, or it is larger than the driver's buffers may be.
    pub fn buffer(&self, bytes: usize, purpose: &str) -> Result<Buffer, Error> {
        let size = (bytes as u64).max(1).next_multiple_of(ALIGNMENT);
        if size > self.caps().buffer.0 {
            return Err(self.out_of_memory(Bytes(size), purpose));
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(purpose),
            size,
            usage: USAGES,
            mapped_at_creation: false,
        });
        match pollster::block_on(scope.pop()) {
            None => Ok(Buffer {
                raw,
                id: self.new_id(),
            }),
            Some(_) => Err(self.out_of_memory(Bytes(size), purpose)),
        }
    }

    /// A buffer with these bytes.
    ///
    /// # Errors
    /// As [`Self::buffer`].
    pub fn buffer_with(&self, bytes: &[u8], purpose: &str) -> Result<Buffer, Error> {
        let buffer = self.buffer(bytes.len(), purpose)?;
        self.write(&buffer, 0, bytes);
        Ok(buffer)
    }

    /// Writes bytes before anything runs that is submitted from now on. What was recorded and not submitted yet would
    /// see them too: see [`Recorder::write`](crate::Recorder::write).
    ///
    /// # Panics
    /// If `offset` is no multiple of four.
    pub fn write(&self, buffer: &Buffer, offset: usize, bytes: &[u8]) {
        assert_eq!(offset % 4, 0, "copies go by words");
        let whole = bytes.len() / 4 * 4;
        if whole > 0 {
            self.queue
                .write_buffer(&buffer.raw, offset as u64, &bytes[..whole]);
        }
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.queue
                .write_buffer(&buffer.raw, (offset + whole) as u64, &last);
        }
    }
}

/// Buffers that wait to be used again, by size. One for each recorder: in the order of one command stream, a buffer
/// that was given back is free.
#[derive(Debug, Default)]
struct Waiting(Mutex<BTreeMap<u64, Vec<Buffer>>>);

/// A pool of buffers for what lives within a step.
#[derive(Clone, Debug)]
pub struct Scratch {
    gpu: Arc<Gpu>,
    waiting: Arc<Waiting>,
}

impl Scratch {
    /// An empty pool.
    pub fn new(gpu: Arc<Gpu>) -> Self {
        Self {
            gpu,
            waiting: Arc::default(),
        }
    }

    /// A buffer of at least so many bytes, with anything in it.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], also if it would be more than one kernel can see.
    pub fn take(&self, bytes: usize) -> Result<ScratchBuffer, Error> {
        let size = size_class(bytes as u64);
        if size > self.gpu.caps().binding.0 {
            return Err(self.gpu.out_of_memory(Bytes(size), "activations"));
        }
        // The smallest that is large enough: else each length of a batch would have buffers of its own, for good.
        let mut waiting = self.waiting.lock();
        let waiting = waiting.range_mut(size..).find_map(|(_, some)| some.pop());
        let buffer = match waiting {
            Some(buffer) => buffer,
            None => self.gpu.buffer(size as usize, "activations")?,
        };
        Ok(ScratchBuffer {
            buffer,
            waiting: Arc::clone(&self.waiting),
        })
    }
}

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Vec<Buffer>>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Four sizes to each power of two, so that steps of nearly the same length share buffers.
fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(1024);
    let step = (bytes.next_power_of_two() / 8).max(ALIGNMENT);
    bytes.next_multiple_of(step)
}

/// A buffer that goes back to its pool.
#[derive(Debug)]
pub struct ScratchBuffer {
    buffer: Buffer,
    waiting: Arc<Waiting>,
}

impl std::ops::Deref for ScratchBuffer {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        &self.buffer
    }
}

impl Drop for ScratchBuffer {
    fn drop(&mut self) {
        let buffer = self.buffer.clone();
        self.waiting
            .lock()
            .entry(buffer.raw.size())
            .or_default()
            .push(buffer);
    }
}
