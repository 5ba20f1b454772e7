//! One or more GPUs as a device, with the CPU for what does not fit.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use troika_base::{Bytes, ModelSpec};
use troika_device::cpu::CpuOps;
use troika_device::{
    Cancelled, Device, Error, KvShape, LoadOptions, LoadProgress, ModelBytes, PAGE_TOKENS, Part,
    Resident, Split,
};
use troika_device_gpu::Offered;
use troika_engine::{CpuDevice, load_on, model_spec};
use troika_gguf::ModelFile;

use super::layers::{Layers, Room, Shares};
use crate::home::Home;
use crate::machine::memory;

/// Tokens of a step, at most, as a rule: what sessions and the scheduler read at a time.
const STEP_TOKENS: usize = 512;

/// GPUs that share a model's layers, and the CPU that takes what they have no room for.
#[derive(Debug)]
pub(crate) struct GpuDevice {
    name: String,
    gpus: Vec<Arc<Offered>>,
    cpu: Option<Arc<CpuDevice>>,
    layers: Layers,
    /// Where it is kept how each GPU multiplies fastest.
    cache: Option<PathBuf>,
    /// Who has which layers of the model that was loaded last.
    shares: Mutex<Option<Shares>>,
}

impl GpuDevice {
    /// One GPU, which takes models that fit it.
    pub(crate) fn alone(gpu: Arc<Offered>) -> Self {
        Self {
            name: gpu.name().to_owned(),
            gpus: vec![gpu],
            cpu: None,
            layers: Layers::Auto,
            cache: None,
            shares: Mutex::default(),
        }
    }

    /// GPUs, the preferred one first, and the CPU.
    pub(crate) fn with_cpu(gpus: Vec<Arc<Offered>>, cpu: Arc<CpuDevice>, layers: Layers) -> Self {
        let names = gpus.iter().map(|gpu| gpu.name());
        let names: Vec<_> = names.chain(["cpu0"]).collect();
        Self {
            name: names.join("+"),
            gpus,
            cpu: Some(cpu),
            layers,
            cache: None,
            shares: Mutex::default(),
        }
    }

    /// Keeps in this home how each GPU multiplies fastest.
    pub(crate) fn at_home(mut self, home: &Home) -> Self {
        self.cache = Some(home.path().join("cache").join("gpu"));
        self
    }

    /// The devices that have layers of the model that was loaded last: `gpu0+cpu0`; the preferred one if none was.
    pub(crate) fn at_work(&self) -> String {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shares) = &*shares else {
            return self.gpus[0].name().to_owned();
        };
        let gpus = self.gpus.iter().zip(&shares.gpus);
        let gpus = gpus.filter(|(_, layers)| !layers.is_empty());
        let cpu = ["cpu0"].into_iter().filter(|_| !shares.is_whole);
        let names: Vec<_> = gpus.map(|(gpu, _)| gpu.name()).chain(cpu).collect();
        names.join("+")
    }

    /// Whether the CPU has a part in the model that was loaded last.
    pub(crate) fn needs_cpu(&self) -> bool {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.as_ref().is_some_and(|shares| !shares.is_whole)
    }

    /// Which layers of a model go where, as memory is now.
    fn shares(
        &self,
        file: &ModelFile,
        spec: &ModelSpec,
        options: LoadOptions,
    ) -> Result<Shares, Error> {
        let n_page = options.n_ctx.div_ceil(PAGE_TOKENS);
        let model = self.gpus[0].model_bytes(file, spec, n_page)?;
        let free: Vec<u64> = self.gpus.iter().map(|gpu| free(gpu)).collect();
        let room = Room {
            model: &model,
            gpus: &free,
            workspace: Offered::workspace(spec, STEP_TOKENS.min(options.n_ctx)).0,
            has_cpu: self.cpu.is_some(),
        };
        let shares = Shares::new(&room, self.layers)?;
        match shares.is_whole {
            true => Ok(shares),
            false => check_ram(file, spec, n_page, shares.on_cpu()).map(|()| shares),
        }
    }

    /// The parts that a model is loaded in: the CPU's first, the preferred GPU's last.
    fn parts(&self, file: &ModelFile, shares: &Shares) -> Result<Vec<Part>, Error> {
        let on_cpu = self.cpu.iter().map(|cpu| {
            let ops = CpuOps::new(cpu.kernels(), Arc::clone(cpu.pool()));
            Ok(Part::new(ops, 0..shares.on_cpu()))
        });
        let on_gpus = self.gpus.iter().zip(&shares.gpus).rev();
        let on_gpus = on_gpus.filter(|(_, layers)| !layers.is_empty());
        let on_gpus = on_gpus.map(|(gpu, layers)| {
            let ops = gpu.ops(file, self.cache.as_deref())?;
            Ok(Part::new(ops, layers.clone()))
        });
        on_cpu.chain(on_gpus).collect()
    }

    /// Who has which layers, for people.
    fn text(&self, shares: &Shares) -> String {
        let names: Vec<&str> = self.gpus.iter().map(|gpu| gpu.name()).collect();
        shares.text(&names)
    }
}

impl Device for GpuDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        let gpus = self.gpus.iter().map(|gpu| gpu.description());
        let mut text = gpus.collect::<Vec<_>>().join(" + ");
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shares) = shares.as_ref().filter(|shares| !shares.is_whole) {
            text = format!("{text}; {}", self.text(shares));
        }
        text
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, Error> {
        let spec = model_spec(file)?;
        let shares = self.shares(file, &spec, options)?;
        tracing::info!(
            device = self.name,
            layers = self.text(&shares),
            "loading {}",
            file.name()
        );
        let loaded = if shares.is_whole {
            let ops = self.gpus[0].ops(file, self.cache.as_deref())?;
            load_on(ops, file, options, progress)?
        } else {
            let ops = Split::new(self.parts(file, &shares)?);
            load_on(ops, file, options, progress)?
        };
        *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = Some(shares);
        Ok(loaded)
    }
}

/// Bytes that are free on a GPU: as its driver tells, or all of its memory where it does not; where it computes in the
/// machine's memory, no more than is free there. Where nobody tells, the load itself has to find out.
pub(crate) fn free(gpu: &Offered) -> u64 {
    let own = gpu
        .memory()
        .map(|memory| memory.free.unwrap_or(memory.total).0);
    let machine = memory().filter(|_| gpu.found().caps.unified);
    let machine = machine.map(|memory| memory.available.0);
    own.into_iter().chain(machine).min().unwrap_or(u64::MAX)
}

/// Refuses what the CPU has no room for, before something worse happens.
fn check_ram(
    file: &ModelFile,
    spec: &ModelSpec,
    n_page: usize,
    n_layer: usize,
) -> Result<(), Error> {
    let layer = KvShape {
        n_layer: 1,
        ..KvShape::of(spec)
    };
    let cache = (layer.page_bytes() * n_page) as u64;
    let model = ModelBytes::of(file, spec.n_layer, cache, |tensor| tensor.bytes);
    let need = model.input + model.layers[..n_layer].iter().sum::<u64>();
    let Some(free) = memory().map(|memory| memory.available) else {
        return Ok(());
    };
    match need <= free.0 {
        true => Ok(()),
        false => Err(Error::OutOfMemory {
            need: Bytes(need),
            free,
            purpose: format!(
                "{n_layer} of {} layers with their cache on the CPU",
                spec.n_layer
            ),
            advice: "take a smaller model, a smaller context (`--ctx`), or close other programs"
                .to_owned(),
        }),
    }
}
