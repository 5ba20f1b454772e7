//! Writes dispatches into command buffers, and submits them early enough that the GPU does not wait.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use troika_device::Error;

use crate::{Buffer, Gpu, Key, Pipeline};

/// A buffer, or a part of one, that a kernel sees.
#[derive(Clone, Copy, Debug)]
pub struct Bind<'b> {
    buffer: &'b Buffer,
    offset: u64,
    bytes: u64,
}

impl<'b> Bind<'b> {
    /// The whole of a buffer.
    pub fn whole(buffer: &'b Buffer) -> Self {
        Self {
            buffer,
            offset: 0,
            bytes: buffer.raw.size(),
        }
    }

    /// A part of a buffer. It begins at a multiple of 256 bytes.
    pub fn part(buffer: &'b Buffer, bytes: Range<usize>) -> Self {
        debug_assert_eq!(bytes.start % 256, 0, "drivers want it so");
        Self {
            buffer,
            offset: bytes.start as u64,
            bytes: bytes.len() as u64,
        }
    }

    fn entry((binding, bind): (u32, &Self)) -> wgpu::BindGroupEntry<'b> {
        wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &bind.buffer.raw,
                offset: bind.offset,
                size: std::num::NonZeroU64::new(bind.bytes),
            }),
        }
    }
}

impl<'b> From<&'b Buffer> for Bind<'b> {
    fn from(buffer: &'b Buffer) -> Self {
        Self::whole(buffer)
    }
}

/// Buffers that one kernel sees, at most: what every driver allows.
const N_BIND: usize = 8;

/// A kernel and the buffers that it works on: by id, offset and size.
#[derive(Clone, PartialEq, Eq)]
struct Site {
    key: Key,
    n_bind: usize,
    parts: [(u64, u64, u64); N_BIND],
}

impl Site {
    fn new(key: Key, binds: &[Bind<'_>]) -> Self {
        let mut parts = [(0, 0, 0); N_BIND];
        for (part, bind) in parts[..binds.len()].iter_mut().zip(binds) {
            *part = (bind.buffer.id, bind.offset, bind.bytes);
        }
        Self {
            key,
            n_bind: binds.len(),
            parts,
        }
    }
}

/// Hashed for every dispatch: what nearly always tells sites apart is enough.
impl Hash for Site {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
        for (id, offset, _) in &self.parts[..self.n_bind] {
            state.write_u64(id ^ offset.rotate_left(32));
        }
    }
}

/// What is recorded for a site.
struct Bound {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
}

impl Bound {
    fn new(gpu: &Gpu, pipeline: Arc<Pipeline>, binds: &[Bind<'_>]) -> Self {
        let entries: Vec<_> = (0..).zip(binds).map(Bind::entry).collect();
        let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        Self { pipeline, group }
    }
}

/// Sites that are kept. A model's weights with a handful of scratch buffers come to a few thousand.
const N_SITE: usize = 1 << 14;

/// Dispatches after which the GPU is given what there is, so that it works while the CPU goes on recording. Next are twice
/// as many, and so on: what it was given keeps it busy, and every submission has a price of its own.
const FIRST_SUBMIT: usize = 64;

/// A dispatch that is not recorded yet, see [`Recorder::dispatch_later`].
struct Later {
    key: Key,
    buffers: Vec<Buffer>,
    params: Vec<u32>,
    grid: [u32; 3],
}

/// Records dispatches for one GPU, in order: each sees what the ones before it have written.
pub struct Recorder {
    gpu: Arc<Gpu>,
    encoder: Option<wgpu::CommandEncoder>,
    pass: Option<wgpu::ComputePass<'static>>,
    n_dispatch: usize,
    /// Dispatches after which the first of a step are submitted, and the next.
    first_submit: usize,
    submit_at: usize,
    /// What stands before anything that is recorded next.
    waiting: Vec<Later>,
    sites: HashMap<Site, Bound, foldhash::fast::RandomState>,
    /// Where results are copied to for the CPU, kept for the next time.
    readbacks: Vec<wgpu::Buffer>,
    total: u64,
}

/// Bytes on their way to the CPU.
#[derive(Debug)]
pub struct Fetched {
    buffer: wgpu::Buffer,
    len: u64,
    submission: wgpu::SubmissionIndex,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("gpu", &self.gpu.name())
            .field("n_dispatch", &self.n_dispatch)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// An empty one.
    pub fn new(gpu: Arc<Gpu>) -> Self {
        Self {
            gpu,
            encoder: None,
            pass: None,
            n_dispatch: 0,
            first_submit: FIRST_SUBMIT,
            submit_at: FIRST_SUBMIT,
            waiting: Vec::new(),
            sites: HashMap::default(),
            readbacks: Vec::new(),
            total: 0,
        }
    }

    /// The GPU.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Dispatches since it was made.
    pub fn dispatches(&self) -> u64 {
        self.total
    }

    /// Submits after so many dispatches, then after twice as many, and so on, until somebody waits.
    ///
    /// # Panics
    /// If that is none.
    pub fn submit_after(&mut self, n_dispatch: usize) {
        assert!(n_dispatch > 0, "something must be submitted");
        self.first_submit = n_dispatch;
        self.submit_at = n_dispatch;
    }

    /// Records a kernel over `grid` workgroups. `params` are the numbers of its `var<immediate>`, and `binds` its
    /// buffers in the order of their bindings.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not compile.
    ///
    /// # Panics
    /// If there are more buffers than a kernel can see.
    pub fn dispatch(
        &mut self,
        key: Key,
        binds: &[Bind<'_>],
        params: &[u32],
        grid: [u32; 3],
    ) -> Result<(), Error> {
        if grid.contains(&0) {
            return Ok(());
        }
        self.settle();
        self.record(key, binds, params, grid)?;
        if self.n_dispatch >= self.submit_at {
            self.flush();
            self.submit_at = self.submit_at.saturating_mul(2);
        }
        Ok(())
    }

    /// As [`Self::dispatch`] over whole buffers, but recorded only when something else is about to be: until then,
    /// an operation that does the same on its way can [take it back](Self::take_back). Nothing else can tell.
    ///
    /// # Errors
    /// As [`Self::dispatch`].
    pub fn dispatch_later(
        &mut self,
        key: Key,
        buffers: &[&Buffer],
        params: &[u32],
        grid: [u32; 3],
    ) -> Result<(), Error> {
        if !grid.contains(&0) {
            // Here it can fail; when it is recorded, it cannot any more.
            self.gpu.pipeline(key)?;
            self.waiting.push(Later {
                key,
                buffers: buffers.iter().map(|&buffer| buffer.clone()).collect(),
                params: params.to_vec(),
                grid,
            });
        }
        Ok(())
    }

    /// Drops a dispatch that waits. Says whether there was one with this kernel and these buffers.
    pub fn take_back(&mut self, key: Key, buffers: &[&Buffer]) -> bool {
        let is = |later: &Later| {
            let ids = later.buffers.iter().map(|buffer| buffer.id);
            later.key == key && ids.eq(buffers.iter().map(|buffer| buffer.id))
        };
        let found = self.waiting.iter().position(is);
        found.map(|i| self.waiting.remove(i)).is_some()
    }

    /// Records what waits.
    fn settle(&mut self) {
        for later in std::mem::take(&mut self.waiting) {
            let binds: Vec<Bind<'_>> = later.buffers.iter().map(Bind::whole).collect();
            self.record(later.key, &binds, &later.params, later.grid)
                .expect("it was compiled when it was put off");
        }
    }

    /// One hash, and no memory that is not there already, for what was recorded before with the same buffers.
    fn record(
        &mut self,
        key: Key,
        binds: &[Bind<'_>],
        params: &[u32],
        grid: [u32; 3],
    ) -> Result<(), Error> {
        if self.sites.len() >= N_SITE {
            self.sites.clear();
        }
        if self.pass.is_none() {
            let pass = self.encoder().begin_compute_pass(&Default::default());
            self.pass = Some(pass.forget_lifetime());
        }
        let bound = match self.sites.entry(Site::new(key, binds)) {
            Entry::Occupied(bound) => bound.into_mut(),
            Entry::Vacant(site) => {
                site.insert(Bound::new(&self.gpu, self.gpu.pipeline(key)?, binds))
            }
        };
        let pass = self.pass.as_mut().expect("opened above");
        pass.set_pipeline(&bound.pipeline.raw);
        pass.set_bind_group(0, &bound.group, &[]);
        pass.set_immediates(0, bytemuck::cast_slice(params));
        pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
        self.n_dispatch += 1;
        self.total += 1;
        Ok(())
    }

    /// Copies bytes from one buffer to another. Offsets and length are multiples of four.
    pub fn copy(
        &mut self,
        from: &Buffer,
        from_offset: usize,
        to: &Buffer,
        to_offset: usize,
        bytes: usize,
    ) {
        self.settle();
        let encoder = self.encoder();
        encoder.copy_buffer_to_buffer(
            &from.raw,
            from_offset as u64,
            &to.raw,
            to_offset as u64,
            bytes as u64,
        );
    }

    /// Writes bytes behind all that was recorded so far.
    pub fn write(&mut self, buffer: &Buffer, offset: usize, bytes: &[u8]) {
        self.submit();
        self.gpu.write(buffer, offset, bytes);
    }

    /// Hands what was recorded to the GPU.
    pub fn submit(&mut self) {
        self.settle();
        self.flush();
        self.submit_at = self.first_submit;
    }

    fn flush(&mut self) -> Option<wgpu::SubmissionIndex> {
        self.pass = None;
        self.n_dispatch = 0;
        let encoder = self.encoder.take()?;
        Some(self.gpu.submit(Some(encoder.finish())))
    }

    /// Submits, waits, and brings bytes of a buffer to the host.
    ///
    /// # Errors
    /// [`Error::Failed`] if the GPU failed in anything since it was opened.
    pub fn read(&mut self, buffer: &Buffer, bytes: Range<usize>) -> Result<Vec<u8>, Error> {
        let n_byte = bytes.len();
        let padded = bytes.start..bytes.start + n_byte.next_multiple_of(4);
        let fetched = self.fetch(&[(buffer, padded)]);
        let mut read = self.fetched(fetched)?;
        read.truncate(n_byte);
        Ok(read)
    }

    /// Submits, and has some parts of buffers on their way to the host, one behind the other, without waiting. Offsets and
    /// lengths are multiples of four.
    pub fn fetch(&mut self, parts: &[(&Buffer, Range<usize>)]) -> Fetched {
        self.settle();
        let len: usize = parts.iter().map(|(_, part)| part.len()).sum();
        let target = self.readback(len as u64);
        let encoder = self.encoder();
        let mut at = 0;
        for (buffer, part) in parts {
            let (start, n_byte) = (part.start as u64, part.len() as u64);
            encoder.copy_buffer_to_buffer(&buffer.raw, start, &target, at, n_byte);
            at += n_byte;
        }
        let submission = self.flush();
        self.submit_at = self.first_submit;
        Fetched {
            buffer: target,
            len: at,
            submission: submission.expect("an encoder was there"),
        }
    }

    /// Waits for bytes that are on their way, and for nothing that was recorded after them.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn fetched(&mut self, fetched: Fetched) -> Result<Vec<u8>, Error> {
        let Fetched {
            buffer,
            len,
            submission,
        } = fetched;
        if len > 0 {
            buffer.map_async(wgpu::MapMode::Read, 0..len, |_| ());
        }
        self.gpu.wait_for(Some(submission))?;
        if len == 0 {
            return Ok(Vec::new());
        }
        let view = buffer
            .get_mapped_range(0..len)
            .map_err(|error| self.gpu.failed(error.to_string()))?;
        let read = view.to_vec();
        drop(view);
        buffer.unmap();
        self.readbacks.push(buffer);
        Ok(read)
    }

    fn readback(&mut self, len: u64) -> wgpu::Buffer {
        let large_enough = |buffer: &wgpu::Buffer| buffer.size() >= len;
        if let Some(found) = self.readbacks.iter().position(large_enough) {
            return self.readbacks.swap_remove(found);
        }
        // Those that are too small would be so the next time.
        self.readbacks.clear();
        self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: len.max(4).next_power_of_two(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// An encoder that no pass holds.
    fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        let device = &self.gpu.device;
        self.encoder
            .get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }
}
