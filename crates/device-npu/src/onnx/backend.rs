//! [`Onnx`]: what runs ONNX graphs as a [`Backend`].

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use troika_base::Bytes;
use troika_device::{Cancelled, Resident};
use troika_gguf::ModelFile;

use super::graph::Graph;
use super::resident::{GraphResident, Pair};
use crate::exec::{Executor, OnnxRuntime, Plugin, Provider, Rten, Runtime, Setup, invalid};
use crate::found::Library;
use crate::lower::{self, Activations, Host, StaticGraph, StaticShape};
use crate::{Absent, Backend, CompileOptions, CompileProgress, Error, Phase};

/// The graphs' names.
const PREFILL: &str = "prefill";
const DECODE: &str = "decode";
/// Where graphs stand that a maker's compiler makes others of.
const LOWERED: &str = "lowered";

/// Sessions share weights with whichever else of the process does so at the time: only those of one model may.
static SHARING: Mutex<()> = Mutex::new(());

/// A generation of Qualcomm's NPU, the Hexagon Tensor Processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Htp {
    /// `73`
    pub arch: u32,
    /// Qualcomm's number of the chip; 0 for any of the generation.
    pub soc: u32,
}

impl Htp {
    /// Snapdragon X, 2024.
    pub const V73: Self = Self { arch: 73, soc: 60 };
    /// Snapdragon X2, 2026.
    pub const V81: Self = Self { arch: 81, soc: 0 };
}

/// Where graphs for Qualcomm's NPU run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine's NPU.
    Chip,
    /// In the maker's simulator, on x86-64: for tests. It loads no weights that graphs share, so each has its own.
    Simulator,
    /// On another machine: here they are compiled alone.
    Elsewhere,
}

/// Models on what runs ONNX graphs.
pub struct Onnx {
    name: String,
    version: String,
    description: String,
    means: Means,
    slots: usize,
}

/// What runs them.
enum Means {
    Rten,
    Cpu(Runtime),
    Npu {
        runtime: Runtime,
        plugin: Plugin,
        place: Place,
    },
}

impl Onnx {
    /// Plain Rust on the CPU: in every build, and slow.
    pub fn rten() -> Self {
        let library = Rten::LIBRARY;
        Self {
            name: "rten".to_owned(),
            version: library.to_owned(),
            description: format!("CPU, {library}"),
            means: Means::Rten,
            slots: 1,
        }
    }

    /// ONNX Runtime's own kernels on the CPU.
    pub fn cpu(runtime: Runtime) -> Self {
        let library = runtime.library();
        Self {
            name: "onnxruntime-cpu".to_owned(),
            version: library.to_owned(),
            description: format!("CPU, {library}"),
            means: Means::Cpu(runtime),
            slots: 1,
        }
    }

    /// Qualcomm's NPU of a generation by the QNN provider, beside which the maker's libraries lie.
    pub fn qualcomm(runtime: Runtime, qnn: &Library, htp: Htp, place: Place) -> Self {
        let Htp { arch, soc } = htp;
        let mut plugin = Plugin::qualcomm(qnn);
        plugin.simulator = place != Place::Chip;
        plugin.options.extend([
            entry("htp_arch", arch.to_string()),
            entry("soc_model", soc.to_string()),
        ]);
        if place != Place::Simulator {
            plugin.options.push(entry("enable_htp_weight_sharing", "1"));
        }
        let (ending, what) = match place {
            Place::Chip => ("", "Qualcomm NPU"),
            Place::Simulator => ("-simulator", "simulator of Qualcomm's NPU"),
            Place::Elsewhere => ("-elsewhere", "another machine's Qualcomm NPU"),
        };
        let provider = format!("QNN provider {}", version_of(qnn));
        Self {
            name: format!("qnn-htp-v{arch}{ending}"),
            version: format!("{}; {provider}; v{arch}, chip {soc}", runtime.library()),
            description: format!("{what} v{arch}, {}, {provider}", runtime.library()),
            means: Means::Npu {
                runtime,
                plugin,
                place,
            },
            slots: 1,
        }
    }

    /// AMD's NPU by the VitisAI provider. An experiment: nobody has run it.
    pub fn amd(runtime: Runtime, vitisai: &Library) -> Self {
        let provider = format!("VitisAI provider {}", version_of(vitisai));
        let library = runtime.library();
        Self {
            name: "vitisai-experimental".to_owned(),
            version: format!("{library}; {provider}"),
            description: format!("AMD NPU (experimental, never run), {library}, {provider}"),
            means: Means::Npu {
                runtime,
                plugin: Plugin::amd(vitisai),
                place: Place::Chip,
            },
            slots: 1,
        }
    }

    /// With room for several sequences at a time. Each takes its keys and values twice, as f16 and as f32.
    #[must_use]
    pub fn with_slots(self, slots: usize) -> Self {
        Self {
            slots: slots.max(1),
            ..self
        }
    }

    /// Chips compute in half precision; processors would only have to convert.
    fn activations(&self) -> Activations {
        match self.means {
            Means::Rten | Means::Cpu(_) => Activations::F32,
            Means::Npu { .. } => Activations::F16,
        }
    }

    fn executor(&self, graph: &Path, is_last: bool) -> Result<Box<dyn Executor>, Error> {
        let opened: Box<dyn Executor> = match &self.means {
            Means::Rten => Box::new(Rten::from_file(graph, None)?),
            Means::Cpu(runtime) => {
                let setup = Setup {
                    // Products take activations as they are, and do not round them to eight bits.
                    entries: vec![entry("session.qdq_matmulnbits_accuracy_level", "1")],
                    ..Setup::new(Provider::Cpu)
                };
                Box::new(OnnxRuntime::from_file(runtime, graph, &setup)?)
            }
            Means::Npu {
                runtime,
                plugin,
                place,
            } => {
                if *place == Place::Elsewhere {
                    let maker = plugin.maker.clone();
                    return Err(Absent::NoDevice { maker }.into());
                }
                let setup = setup(plugin, *place, is_last);
                Box::new(OnnxRuntime::from_file(runtime, graph, &setup)?)
            }
        };
        Ok(opened)
    }
}

/// A session, if it may be one that shares weights with the one before it, and with the one after it unless it is the last.
fn setup(plugin: &Plugin, place: Place, is_last: bool) -> Setup {
    let mut entries = Vec::new();
    if place != Place::Simulator {
        entries.push(entry("ep.share_ep_contexts", "1"));
        if is_last {
            entries.push(entry("ep.stop_share_ep_contexts", "1"));
        }
    }
    Setup {
        entries,
        ..Setup::new(Provider::Plugin(plugin.clone()))
    }
}

fn entry(key: &str, value: impl Into<String>) -> (String, String) {
    (key.to_owned(), value.into())
}

/// Has the maker's compiler turn graphs into the chip's own form, beside which little stubs stand that name it.
fn write_contexts(
    runtime: &Runtime,
    plugin: &Plugin,
    place: Place,
    graphs: &Path,
    directory: &Path,
    mut goes_on: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let _alone = SHARING.lock().unwrap_or_else(PoisonError::into_inner);
    // All stay open until the last is compiled: it writes what they share.
    let mut sessions = Vec::new();
    for (name, is_last) in [(PREFILL, false), (DECODE, true)] {
        goes_on()?;
        let stub = directory.join(file_name(name));
        let mut setup = setup(plugin, place, is_last);
        setup.entries.extend([
            entry("ep.context_enable", "1"),
            entry("ep.context_embed_mode", "0"),
            entry("ep.context_file_path", stub.display().to_string()),
        ]);
        let graph = graphs.join(file_name(name));
        sessions.push(OnnxRuntime::from_file(runtime, &graph, &setup)?);
    }
    Ok(())
}

impl Backend for Onnx {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn compile(
        &self,
        file: &ModelFile,
        options: &CompileOptions,
        directory: &Path,
        progress: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<(), Error> {
        let graphs = shapes(options)?.map(|(name, shape)| StaticGraph { name, shape });
        let mut write = |directory: &Path| {
            let (weights, activations) = (options.weights, self.activations());
            lower::write_onnx(file, weights, activations, &graphs, directory, progress)
        };
        let Means::Npu {
            runtime,
            plugin,
            place,
        } = &self.means
        else {
            return write(directory);
        };
        let lowered = directory.join(LOWERED);
        let io = |source| Error::Io {
            path: lowered.clone(),
            source,
        };
        fs::create_dir(&lowered).map_err(io)?;
        write(&lowered)?;
        let mut done = 0;
        write_contexts(runtime, plugin, *place, &lowered, directory, || {
            let phase = Phase::Compile;
            let total = graphs.len() as u64;
            let told = progress(CompileProgress { phase, done, total });
            done += 1;
            match told {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(Cancelled) => Err(Error::Cancelled),
            }
        })?;
        fs::remove_dir_all(&lowered).map_err(io)
    }

    fn open(
        &self,
        file: &ModelFile,
        options: &CompileOptions,
        directory: &Path,
    ) -> Result<Box<dyn Resident>, Error> {
        let host = Host::new(file)?;
        let [prefill, decode] = shapes(options)?;
        let graph = |(name, shape), is_last| {
            let executor = self.executor(&directory.join(file_name(name)), is_last)?;
            Graph::new(executor, shape, host.spec())
        };
        let alone = SHARING.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = Pair {
            prefill: graph(prefill, false)?,
            decode: graph(decode, true)?,
            n_ctx: options.n_ctx,
        };
        drop(alone);
        let weights = Bytes(bytes_in(directory)? + host.table_bytes() as u64);
        Ok(Box::new(GraphResident::new(
            self.name.clone(),
            host,
            pair,
            weights,
            self.slots,
        )))
    }
}

/// The two graphs. They see equally far back, so that what is behind a sequence is laid out once for both.
fn shapes(options: &CompileOptions) -> Result<[(&'static str, StaticShape); 2], Error> {
    let CompileOptions { n_ctx, chunk, .. } = *options;
    if n_ctx < 2 || chunk < 1 {
        let reason = format!("{n_ctx} tokens in chunks of {chunk} are too few");
        return Err(invalid("a model's context", reason));
    }
    let past = n_ctx - 1;
    Ok([(PREFILL, chunk), (DECODE, 1)].map(|(name, new)| (name, StaticShape { new, past })))
}

fn file_name(graph: &str) -> String {
    format!("{graph}.onnx")
}

fn version_of(library: &Library) -> &str {
    library
        .version
        .as_deref()
        .unwrap_or("of an unknown version")
}

/// What files take, which is about what their weights take in memory.
fn bytes_in(directory: &Path) -> Result<u64, Error> {
    let sum = || {
        let mut sum = 0;
        for entry in fs::read_dir(directory)? {
            sum += entry?.metadata()?.len();
        }
        Ok(sum)
    };
    sum().map_err(|source| Error::Io {
        path: directory.to_owned(),
        source,
    })
}
