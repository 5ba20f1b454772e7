//! The CPU as a device.

use std::ops::ControlFlow;
use std::sync::Arc;

use troika_base::{Bytes, KvType};
use troika_device::cpu::CpuOps;
use troika_device::{
    Cancelled, Device, Error, KvShape, LoadOptions, LoadProgress, PAGE_TOKENS, Resident,
};
use troika_gguf::ModelFile;
use troika_kernels::{Kernels, Pool, UnknownSet, physical_cores};

use crate::experts_in_file::{ExpertBytes, ExpertMemory, room};
use crate::model_spec;
use crate::resident;

/// The CPU: a kernel set and the threads that run it, shared by all models that are loaded on it.
#[derive(Debug)]
pub struct CpuDevice {
    kernels: &'static Kernels,
    pool: Arc<Pool>,
    expert_memory: ExpertMemory,
}

impl CpuDevice {
    /// The CPU with the fastest kernel set it has, or the one that `TROIKA_ISA` names, on `threads` threads.
    ///
    /// # Errors
    /// If `TROIKA_ISA` names a set that this CPU cannot run.
    pub fn new(threads: usize) -> Result<Self, UnknownSet> {
        Ok(Self::with(
            Kernels::from_env()?,
            Arc::new(Pool::new(threads)),
        ))
    }

    /// The CPU with the fastest kernel set whose results are the same to the bit in batches of any size, for comparisons.
    pub fn batch_invariant(threads: usize) -> Self {
        Self::with(Kernels::batch_invariant(), Arc::new(Pool::new(threads)))
    }

    /// A kernel set on some threads.
    pub fn with(kernels: &'static Kernels, pool: Arc<Pool>) -> Self {
        Self {
            kernels,
            pool,
            expert_memory: ExpertMemory::default(),
        }
    }

    /// Keeps so many of a model's experts in memory, and the others in its file.
    #[must_use]
    pub fn with_expert_memory(self, expert_memory: ExpertMemory) -> Self {
        Self {
            expert_memory,
            ..self
        }
    }

    /// Memory for experts, if not all of them are to be there.
    fn experts_kept(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        free: Option<Bytes>,
    ) -> Result<Option<Bytes>, Error> {
        if self.expert_memory == ExpertMemory::All {
            return Ok(None);
        }
        let spec = model_spec(file)?;
        let experts = ExpertBytes::of(file, &spec);
        let n_page = options.n_ctx.div_ceil(PAGE_TOKENS);
        let shape = KvShape {
            kv_type: options.kv_type,
            ..KvShape::of(&spec)
        };
        let cache = resident::cache_bytes(shape, n_page);
        let weights = resident::weights_bytes(file, &spec, None);
        let room = free.map(|free| room(experts, weights, cache, free));
        Ok(experts.kept(self.expert_memory, room))
    }

    /// One thread for each physical core: a second one on the same core has no unit of its own to multiply with.
    pub fn default_threads() -> usize {
        physical_cores()
    }

    /// The kernel set.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// The threads.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// How many threads take part.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

impl Device for CpuDevice {
    fn name(&self) -> &str {
        "cpu0"
    }

    fn description(&self) -> String {
        let threads = match self.threads() {
            1 => "1 thread".to_owned(),
            n => format!("{n} threads"),
        };
        format!("{}, {}, {threads}", processor_name(), self.kernels.name)
    }

    fn keeps(&self, _: KvType) -> bool {
        true
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        let free = free_memory();
        let mut ops = CpuOps::new(self.kernels, Arc::clone(&self.pool));
        if let Some(limit) = self.experts_kept(file, options, free)? {
            ops = ops.with_experts_in_file(limit);
        }
        resident::load(ops, file, options, free, progress)
    }
}

/// This computer's memory that is free, if the system tells.
fn free_memory() -> Option<Bytes> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    Some(Bytes(system.available_memory())).filter(|free| free.0 > 0)
}

/// The processor's name as it gives it itself.
fn processor_name() -> String {
    let mut system = sysinfo::System::new();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    let name = system
        .cpus()
        .first()
        .map(|cpu| cpu.brand().trim().to_owned());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
