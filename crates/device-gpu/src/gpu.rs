//! The one owner of a GPU in this process: its adapter, its queue, the pipelines that were compiled for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use troika_base::Bytes;
use troika_device::Error;

use crate::{Access, Caps, Key};

/// A GPU that was found, and not opened yet.
#[derive(Clone, Debug)]
pub struct Found {
    pub(crate) adapter: wgpu::Adapter,
    /// The maker's name for it.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// The interface it is reached through: `vulkan`, `metal`, `dx12`.
    pub interface: &'static str,
    /// PCI address, where the driver tells it.
    pub pci: Option<String>,
    /// What it offers.
    pub caps: Caps,
}

/// How a GPU is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether kernels check every index: for tests, where a wrong one is to show.
    pub checked: bool,
}

/// The GPUs of this computer, fastest kind first: cards before processors' own, programs on the CPU last.
pub fn find() -> Vec<Found> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let mut found: Vec<Found> = adapters.into_iter().map(Found::new).collect();
    found.sort_by_key(|found| (found.caps.software, found.caps.unified));
    found
}

impl Found {
    fn new(adapter: wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        Self {
            caps: Caps::of(&adapter),
            name: info.name,
            driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
            interface: match info.backend {
                wgpu::Backend::Vulkan => "vulkan",
                wgpu::Backend::Metal => "metal",
                wgpu::Backend::Dx12 => "dx12",
                _ => "other",
            },
            pci: Some(info.device_pci_bus_id).filter(|id| !id.is_empty()),
            adapter,
        }
    }

    /// Opens it under a device's name: `gpu0`.
    ///
    /// # Errors
    /// [`Error::Failed`] if the driver refuses, or lacks what every kernel needs.
    pub fn open(&self, name: &str, options: Options) -> Result<Arc<Gpu>, Error> {
        Gpu::open(self, name, options).map(Arc::new)
    }
}

/// A compiled kernel.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) raw: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// A GPU that is open.
#[derive(Debug)]
pub struct Gpu {
    name: String,
    /// As it was found.
    found: Found,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    options: Options,
    /// Which cooperative kernels passed their test.
    pub(crate) verdicts: crate::matmul::selftest::Verdicts,
    /// Weights on their way.
    pub(crate) uploads: crate::upload::Uploads,
    pipelines: Mutex<HashMap<Key, Arc<Pipeline>, foldhash::fast::RandomState>>,
    /// The first thing that went wrong. What follows from it is no news.
    failure: Arc<OnceLock<String>>,
    next_id: AtomicU64,
    n_submit: AtomicU64,
}

/// A step takes seconds at most; a driver that is silent for so long will not speak again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tests run on programs that are a thousand times slower.
const PATIENCE_WITH_SOFTWARE: Duration = Duration::from_secs(600);

impl Gpu {
    #[expect(unsafe_code, reason = "wgpu marks its experimental features so")]
    fn open(found: &Found, name: &str, options: Options) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Failed {
            device: name.to_owned(),
            reason,
        };
        use wgpu::Features as F;
        let wanted = F::SHADER_F16
            | F::SUBGROUP
            | F::TIMESTAMP_QUERY
            | F::TIMESTAMP_QUERY_INSIDE_ENCODERS
            | F::PIPELINE_CACHE
            | F::MAPPABLE_PRIMARY_BUFFERS
            | F::PASSTHROUGH_SHADERS
            | F::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let offered = found.adapter.features();
        if !offered.contains(F::IMMEDIATES) {
            let (name, driver) = (&found.name, &found.driver);
            return Err(refuse(format!(
                "{name} with {driver} takes no parameters beside buffers (immediates); a newer driver does"
            )));
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some(name),
            required_features: (offered & wanted) | F::IMMEDIATES,
            required_limits: found.adapter.limits(),
            // SAFETY: what is experimental here is cooperative matrices and foreign shaders. The former are used after
            // a test against plain kernels, the latter are our own.
            experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) = pollster::block_on(found.adapter.request_device(&descriptor))
            .map_err(|error| refuse(error.to_string()))?;
        let failure = Arc::new(OnceLock::new());
        let fail = |what: &'static str| {
            let failure = Arc::clone(&failure);
            move |reason: String| {
                tracing::error!(what, reason, "the GPU failed");
                let _ = failure.set(format!("{what}: {reason}"));
            }
        };
        let (uncaptured, lost) = (fail("error"), fail("the device was lost"));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            uncaptured(error.to_string())
        }));
        device.set_device_lost_callback(move |reason, message| {
            // A device that nobody uses any more is "lost" as well.
            if !matches!(reason, wgpu::DeviceLostReason::Destroyed) {
                lost(message);
            }
        });
        Ok(Self {
            name: name.to_owned(),
            found: found.clone(),
            device,
            queue,
            options,
            verdicts: Default::default(),
            uploads: Default::default(),
            pipelines: Mutex::default(),
            failure,
            next_id: AtomicU64::new(0),
            n_submit: AtomicU64::new(0),
        })
    }

    /// The device's name: `gpu0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it was found.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// What it offers.
    pub fn caps(&self) -> &Caps {
        &self.found.caps
    }

    /// Whether nothing went wrong so far.
    ///
    /// # Errors
    /// [`Error::Failed`] with the first thing that did. A device that failed once stays failed.
    pub fn check(&self) -> Result<(), Error> {
        match self.failure.get() {
            None => Ok(()),
            Some(reason) => Err(self.failed(reason.clone())),
        }
    }

    /// Loses the device, as if its driver had gone: for tests of what has to follow.
    pub fn lose(&self) {
        self.device.destroy();
        // What the driver's callback does, which takes a device that we destroy for one that nobody uses any more.
        let _ = self
            .failure
            .set("the device was lost: on purpose".to_owned());
    }

    /// The error that says that this GPU failed.
    pub fn failed(&self, reason: String) -> Error {
        Error::Failed {
            device: self.name.clone(),
            reason,
        }
    }

    /// Waits until all that was submitted is done.
    ///
    /// # Errors
    /// [`Error::Failed`] if the GPU is lost, or silent for too long.
    pub fn wait(&self) -> Result<(), Error> {
        self.wait_for(None)
    }

    /// Waits until a submission is done, and none after it; all of them if it is `None`.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub(crate) fn wait_for(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), Error> {
        let patience = match self.caps().software {
            true => PATIENCE_WITH_SOFTWARE,
            false => PATIENCE,
        };
        let polled = self.device.poll(wgpu::PollType::Wait {
            submission_index: submission,
            timeout: Some(patience),
        });
        if let Err(error) = polled {
            let _ = self
                .failure
                .set(format!("no answer within {patience:?}: {error}"));
        }
        self.check()
    }

    /// The compiled kernel of this key; compiles it when it is wanted first.
    ///
    /// # Errors
    /// [`Error::Failed`] if the driver's compiler refuses it.
    pub fn pipeline(&self, key: Key) -> Result<Arc<Pipeline>, Error> {
        if let Some(pipeline) = self.lock().get(&key) {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(self.compile(key)?);
        self.lock().insert(key, Arc::clone(&pipeline));
        Ok(pipeline)
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Pipeline>, foldhash::fast::RandomState>> {
        self.pipelines
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    #[expect(unsafe_code, reason = "kernels without checks of indices")]
    fn compile(&self, key: Key) -> Result<Pipeline, Error> {
        let kernel = key.kernel();
        let source = kernel.source();
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        };
        let module = match self.options.checked {
            true => self.device.create_shader_module(descriptor),
            // SAFETY: kernels stay within their buffers, and their loops end: in tests they run with the checks on.
            false => unsafe {
                self.device.create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            },
        };
        let layout = self.layout(&kernel.bindings);
        let pipeline_layout = self
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(kernel.name),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: kernel.params * 4,
            });
        let raw = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(kernel.name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            });
        match pollster::block_on(scope.pop()) {
            None => Ok(Pipeline { raw, layout }),
            Some(error) => Err(self.failed(format!("kernel {key:?} does not compile: {error}"))),
        }
    }

    fn layout(&self, bindings: &[Access]) -> wgpu::BindGroupLayout {
        let entry = |(i, access): (usize, &Access)| wgpu::BindGroupLayoutEntry {
            binding: i as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage {
                    read_only: *access == Access::Read,
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = bindings.iter().enumerate().map(entry).collect();
        self.device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            })
    }

    /// Hands commands over, after all writes so far.
    pub(crate) fn submit(&self, commands: Option<wgpu::CommandBuffer>) -> wgpu::SubmissionIndex {
        self.n_submit.fetch_add(1, Ordering::Relaxed);
        self.queue.submit(commands)
    }

    /// How often something was handed over so far.
    pub fn submissions(&self) -> u64 {
        self.n_submit.load(Ordering::Relaxed)
    }

    /// A number that no other buffer of this process has.
    pub(crate) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The error that says that there is no room.
    pub(crate) fn out_of_memory(&self, need: Bytes, purpose: &str) -> Error {
        Error::OutOfMemory {
            need,
            // The driver does not tell.
            free: Bytes(0),
            purpose: format!("{purpose} on {}", self.name),
            advice: "take a smaller model or a smaller context (`--ctx`), or leave some layers to the CPU"
                .to_owned(),
        }
    }
}
