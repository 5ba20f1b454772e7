//! How long a kernel takes: by the GPU's clock where it has one, else by the host's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use troika_device::Error;

use crate::kernels::Roof;
use crate::{Buffer, Gpu, Key};

/// A kernel and what it works on.
pub(super) struct Work<'b> {
    pub(super) key: Roof,
    pub(super) buffers: Vec<&'b Buffer>,
    pub(super) params: Vec<u32>,
    pub(super) grid: [u32; 3],
}

/// Where two time stamps go to.
struct Stamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    read: wgpu::Buffer,
    nanos_per_tick: f64,
}

/// Bytes of two stamps.
const STAMP_BYTES: u64 = 16;

/// Submissions of which the middle one is taken off where the host's clock tells the time.
const EMPTY_RUNS: usize = 9;

pub(super) struct Stopwatch {
    gpu: Arc<Gpu>,
    stamps: Option<Stamps>,
    /// What a submission of nothing takes.
    overhead: Duration,
}

impl Stopwatch {
    pub(super) fn new(gpu: &Arc<Gpu>) -> Result<Self, Error> {
        let mut stopwatch = Self {
            gpu: Arc::clone(gpu),
            stamps: gpu.caps().timestamps.then(|| Stamps::new(gpu)),
            overhead: Duration::ZERO,
        };
        let runs = (0..EMPTY_RUNS).map(|_| stopwatch.empty());
        let mut runs = runs.collect::<Result<Vec<_>, _>>()?;
        runs.sort();
        stopwatch.overhead = runs[EMPTY_RUNS / 2];
        Ok(stopwatch)
    }

    /// Whether the GPU's clock is used.
    pub(super) fn is_stamped(&self) -> bool {
        self.stamps.is_some()
    }

    /// From a submission of nothing to the knowledge that it is done, by the host's clock.
    pub(super) fn empty(&self) -> Result<Duration, Error> {
        let started = Instant::now();
        let encoder = self.encoder();
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.wait()?;
        Ok(started.elapsed())
    }

    /// Runs the kernel so many times, each after the one before, and says how long that took.
    pub(super) fn time(&self, work: &Work<'_>, times: u32) -> Result<Duration, Error> {
        let pipeline = self.gpu.pipeline(Key::Roof(work.key))?;
        let entries: Vec<_> = (0..)
            .zip(&work.buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.raw.as_entire_binding(),
            })
            .collect();
        let device = &self.gpu.device;
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        let mut encoder = self.encoder();
        if let Some(stamps) = &self.stamps {
            encoder.write_timestamp(&stamps.queries, 0);
        }
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline.raw);
            pass.set_bind_group(0, &group, &[]);
            pass.set_immediates(0, bytemuck::cast_slice(&work.params));
            for _ in 0..times {
                pass.dispatch_workgroups(work.grid[0], work.grid[1], work.grid[2]);
            }
        }
        if let Some(stamps) = &self.stamps {
            stamps.resolve(&mut encoder);
        }
        let started = Instant::now();
        self.gpu.queue.submit([encoder.finish()]);
        match &self.stamps {
            Some(stamps) => stamps.elapsed(&self.gpu),
            None => {
                self.gpu.wait()?;
                Ok(started.elapsed().saturating_sub(self.overhead))
            }
        }
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&Default::default())
    }
}

impl Stamps {
    fn new(gpu: &Gpu) -> Self {
        let buffer = |label, usage| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: STAMP_BYTES,
                usage,
                mapped_at_creation: false,
            })
        };
        use wgpu::BufferUsages as U;
        Self {
            queries: gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer("time stamps", U::QUERY_RESOLVE | U::COPY_SRC),
            read: buffer("time stamps to read", U::MAP_READ | U::COPY_DST),
            nanos_per_tick: f64::from(gpu.queue.get_timestamp_period()),
        }
    }

    fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.write_timestamp(&self.queries, 1);
        encoder.resolve_query_set(&self.queries, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.read, 0, STAMP_BYTES);
    }

    /// Waits, and reads how far the stamps are apart.
    fn elapsed(&self, gpu: &Gpu) -> Result<Duration, Error> {
        self.read
            .map_async(wgpu::MapMode::Read, 0..STAMP_BYTES, |_| ());
        gpu.wait()?;
        let view = self
            .read
            .get_mapped_range(0..STAMP_BYTES)
            .map_err(|error| gpu.failed(error.to_string()))?;
        let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        self.read.unmap();
        let ticks = stamps[1].saturating_sub(stamps[0]);
        Ok(Duration::from_secs_f64(
            ticks as f64 * self.nanos_per_tick / 1e9,
        ))
    }
}
