//! A processor and a model on it, with a bar while it loads.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use troika_device::{Cancelled, Device, LoadOptions, LoadProgress};
use troika_device_gpu::Offered;
use troika_engine::{CpuDevice, Model, probe};
use troika_gguf::ModelFile;
use troika_machine::Machine;
use troika_machine::probe::{self as machine_probe, Root};

use crate::args::DeviceArgs;
use crate::exit::{Interrupted, WrongUse};
use crate::gpu::{self, GpuDevice, Layers};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::Console;
use crate::progress::{Progress, Unit};

/// The CPU on so many threads, or on one for each physical core.
///
/// # Errors
/// [`WrongUse`] if `TROIKA_ISA` names kernels that this CPU cannot run.
pub(crate) fn cpu(threads: Option<usize>) -> Result<CpuDevice, WrongUse> {
    let threads = threads.unwrap_or_else(CpuDevice::default_threads);
    CpuDevice::new(threads).map_err(|error| WrongUse(error.to_string()))
}

/// What runs a model.
#[derive(Debug)]
pub(crate) struct Processor {
    cpu: Arc<CpuDevice>,
    /// GPUs that have the model, or a part of it.
    gpu: Option<GpuDevice>,
}

impl From<CpuDevice> for Processor {
    fn from(cpu: CpuDevice) -> Self {
        Self {
            cpu: Arc::new(cpu),
            gpu: None,
        }
    }
}

impl Processor {
    /// The one that flags name, or the one that this machine does best with: a card whose driver is ready and that
    /// answers a known question rightly, else the CPU.
    ///
    /// # Errors
    /// [`WrongUse`] if there is none of that name, or it cannot be used.
    pub(crate) fn choose(
        args: &DeviceArgs,
        threads: Option<usize>,
        console: &Console,
    ) -> anyhow::Result<Self> {
        let cpu = Arc::new(cpu(threads)?.with_expert_memory(args.expert_memory()));
        let layers = args.gpu_layers.unwrap_or_default();
        let names = args.device.as_deref();
        if names == Some("cpu0") || names.is_none() && layers == Layers::Count(0) {
            return Ok(Self { cpu, gpu: None });
        }
        let mut machine = machine_probe::read(&Root::real());
        let chosen = match names {
            Some(names) => named(names, &gpu::offered(&mut machine)?)?,
            None => card(&mut machine, args.gpu_layers.is_some())?
                .into_iter()
                .collect(),
        };
        if chosen.is_empty() {
            return Ok(Self { cpu, gpu: None });
        }
        for gpu in &chosen {
            let outcome = probe(&GpuDevice::alone(Arc::clone(gpu)));
            if let Err(error) = outcome {
                let why = format!(
                    "{} is not used, it does not answer a known question rightly: {error}",
                    gpu.name()
                );
                if names.is_some() {
                    anyhow::bail!(why);
                }
                console.note(why);
                return Ok(Self { cpu, gpu: None });
            }
        }
        let gpu = GpuDevice::with_cpu(chosen, Arc::clone(&cpu), layers).at_home(&Home::from_env()?);
        Ok(Self {
            cpu,
            gpu: Some(gpu),
        })
    }

    /// It, as what loads models.
    pub(crate) fn device(&self) -> &dyn Device {
        match &self.gpu {
            Some(gpu) => gpu,
            None => &*self.cpu,
        }
    }

    /// Who computes: `cpu0`, `gpu0`, `gpu0+cpu0`.
    pub(crate) fn name(&self) -> String {
        match &self.gpu {
            Some(gpu) => gpu.at_work(),
            None => self.cpu.name().to_owned(),
        }
    }

    /// One line for people.
    pub(crate) fn description(&self) -> String {
        self.device().description()
    }

    /// The kernels that compute.
    pub(crate) fn kernels(&self) -> String {
        match &self.gpu {
            Some(gpu) if gpu.needs_cpu() => format!("wgsl+{}", self.cpu.kernels().name),
            Some(_) => "wgsl".to_owned(),
            None => self.cpu.kernels().name.to_owned(),
        }
    }

    /// The CPU's threads that compute.
    pub(crate) fn threads(&self) -> usize {
        match &self.gpu {
            Some(gpu) if !gpu.needs_cpu() => 0,
            _ => self.cpu.threads(),
        }
    }
}

/// The GPUs of these names: `gpu0`, `gpu0+gpu1`; the CPU among them says nothing new.
fn named(names: &str, offered: &[Arc<Offered>]) -> anyhow::Result<Vec<Arc<Offered>>> {
    let named = names.split('+').filter(|&name| name != "cpu0").map(|name| {
        let found = offered.iter().find(|gpu| gpu.name() == name);
        found.cloned().ok_or_else(|| {
            let there = ["cpu0"]
                .into_iter()
                .chain(offered.iter().map(|gpu| gpu.name()));
            let there: Vec<_> = there.collect();
            WrongUse(format!(
                "--device {names}: there is no {name:?} with a driver here; there are: {}",
                there.join(", ")
            ))
        })
    });
    Ok(named.collect::<Result<_, WrongUse>>()?)
}

/// The first GPU that is worth more than the CPU without anybody having measured it: a card, or Apple's. Drivers are
/// asked where there is a card, or somebody wants layers on a GPU.
fn card(machine: &mut Machine, is_wanted: bool) -> Result<Option<Arc<Offered>>, WrongUse> {
    let is_worth_asking = is_wanted || gpu::has_card(machine) || cfg!(target_os = "macos");
    if !is_worth_asking {
        return Ok(None);
    }
    let mut offered = gpu::offered(machine)?.into_iter();
    Ok(offered.find(|gpu| {
        let caps = &gpu.found().caps;
        is_wanted || !caps.software && (!caps.unified || gpu.found().interface == "metal")
    }))
}

/// Loads a model. Returns it with the time that took.
///
/// # Errors
/// If it cannot be loaded, or [`Interrupted`].
pub(crate) fn model(
    file: &ModelFile,
    device: &dyn Device,
    options: LoadOptions,
    console: &Console,
    interrupt: &Interrupt,
) -> anyhow::Result<(Model, Duration)> {
    let started = Instant::now();
    let mut bar = Progress::new(console, "loading", Unit::Bytes);
    let mut on_progress = |LoadProgress { done, total }: LoadProgress| -> ControlFlow<Cancelled> {
        bar.update(done.0, total.0);
        interrupt.flow(Cancelled)
    };
    let loaded = Model::load(file, device, options, &mut on_progress);
    bar.clear();
    if interrupt.is_set() {
        return Err(Interrupted.into());
    }
    let model = loaded.context("cannot load the model")?;
    if let Some(experts) = model.experts_in_file() {
        console.note(format_args!(
            "note: {} of experts stay in the file, and {} of them are kept in memory: each token waits for what is read",
            experts.all, experts.kept
        ));
    }
    Ok((model, started.elapsed()))
}
