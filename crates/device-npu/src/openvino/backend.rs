//! [`OpenVino`]: a device of OpenVINO's as a [`Backend`].

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use troika_base::Bytes;
use troika_device::hyperparameters::Keys;
use troika_device::{Abilities, Cancelled, Resident};
use troika_gguf::ModelFile;

use super::absent::why_not_compiled;
use super::conversation::Decoder;
use super::ffi::{CompiledModel, Core};
use super::resident::{ABILITIES, GraphResident};
use super::settings::{Settings, Target, manner};
use super::start;
use crate::lower::{self, LogitRows};
use crate::{Backend, CompileOptions, CompileProgress, Error, Phase};

/// The graph as it was lowered, its weights, and the graph as a device has compiled it. Either the first two are there
/// or the last.
const GRAPH: &str = "model.xml";
const WEIGHTS: &str = "model.bin";
const BLOB: &str = "model.blob";

/// Models on a device of OpenVINO's.
#[derive(Debug)]
pub struct OpenVino {
    core: Arc<Core>,
    target: Target,
    settings: Settings,
    /// What the device calls itself.
    chip: String,
    /// Of its driver and its compiler, as far as they say.
    versions: String,
}

impl OpenVino {
    /// The device of the library in this file: `libopenvino_c.so.2641`, or what it is called elsewhere.
    ///
    /// # Errors
    /// [`Error::Absent`] with the reason if the library or the device is not to be had.
    pub fn new(library: &Path, target: Target, settings: Settings) -> Result<Self, Error> {
        let needs = match target {
            Target::Npu => &*settings.npu_parts_run_on,
            Target::Gpu | Target::Cpu => &[target],
        };
        let core = start(library, needs)?;
        let runs_on = needs.first().copied().unwrap_or(target).name();
        let property = |key: &str| core.property(runs_on, key).ok();
        let chip = property("FULL_DEVICE_NAME").unwrap_or_else(|| runs_on.to_owned());
        let known = [
            "NPU_DRIVER_VERSION",
            "NPU_COMPILER_VERSION",
            "DRIVER_VERSION",
        ];
        let versions = known
            .iter()
            .filter_map(|key| property(key).map(|value| format!("; {key} {value}")));
        let versions = versions.collect();
        Ok(Self {
            core,
            target,
            settings,
            chip,
            versions,
        })
    }

    /// Whether the device's compiled form is kept, and not the graph that it was made of. A CPU's would be the graph
    /// again, with a copy of its weights that cannot be mapped.
    fn keeps_blobs(&self) -> bool {
        self.target != Target::Cpu
    }

    fn compile_graph(
        &self,
        options: &CompileOptions,
        directory: &Path,
    ) -> Result<CompiledModel, Error> {
        let (graph, weights) = (directory.join(GRAPH), directory.join(WEIGHTS));
        let model = self.core.read(&graph, Some(&weights))?;
        let properties = self.settings.properties(self.target, options);
        let compiled = model.compile(self.target.name(), &properties);
        compiled.map_err(|error| why_not_compiled(error, &self.core))
    }

    /// Puts the device's form in the graph's place, if the device has one that can be kept.
    fn keep_blob(&self, compiled: &CompiledModel, directory: &Path) -> Result<(), Error> {
        let blob = directory.join(BLOB);
        if let Err(error) = compiled.export(&blob) {
            tracing::warn!(%error, device = self.name(), "the compiled form cannot be kept; the model is compiled whenever it is opened");
            let _ = fs::remove_file(&blob);
            return Ok(());
        }
        for file in [GRAPH, WEIGHTS].map(|name| directory.join(name)) {
            fs::remove_file(&file).map_err(|source| Error::Io { path: file, source })?;
        }
        Ok(())
    }

    fn open_compiled(
        &self,
        options: &CompileOptions,
        directory: &Path,
    ) -> Result<CompiledModel, Error> {
        let blob = directory.join(BLOB);
        if !blob.exists() {
            if self.keeps_blobs() {
                tracing::info!(
                    device = self.name(),
                    "no compiled form is kept of the model; it is compiled now"
                );
            }
            return self.compile_graph(options, directory);
        }
        // What is imported forgets how its parts were to compute, where these are not the NPU's.
        let parts = self.settings.npu_parts_run_on.iter();
        for part in parts.filter(|part| **part != Target::Npu) {
            let numbers = self.settings.numbers(*part);
            self.core.set_properties(part.name(), &numbers)?;
        }
        let bytes = fs::read(&blob).map_err(|source| Error::Io { path: blob, source })?;
        let imported = self.core.import(&bytes, self.target.name());
        imported.map_err(|error| why_not_compiled(error, &self.core))
    }
}

impl Backend for OpenVino {
    fn name(&self) -> String {
        let target = self.target.name().to_lowercase();
        match (self.target, &*self.settings.npu_parts_run_on) {
            (Target::Npu, [Target::Npu]) | (Target::Gpu | Target::Cpu, _) => {
                format!("openvino-{target}")
            }
            (Target::Npu, parts) => {
                let parts = parts.iter().map(|part| part.name().to_lowercase());
                format!(
                    "openvino-npu-plugin-on-{}",
                    parts.collect::<Vec<_>>().join("-")
                )
            }
        }
    }

    fn version(&self) -> String {
        let library = self.core.library().name();
        let settings = &self.settings;
        let numbers = settings
            .precision
            .map(|precision| format!("; computes in {precision:?}"));
        let numbers = numbers.unwrap_or_default();
        format!("{library}{}; {}{numbers}", self.versions, self.chip)
    }

    fn description(&self) -> String {
        let library = self.core.library().name();
        match self.name().strip_prefix("openvino-npu-plugin-on-") {
            Some(parts) => format!("Intel's NPU plugin on {parts}, {}, {library}", self.chip),
            None => format!("{}, {library}", self.chip),
        }
    }

    /// One on an NPU. Its plugin (2026.4) counts the tokens that were read in the compiled model rather than in the request, so
    /// that two conversations write over each other; and it does not import a model a second time while the first one lives.
    fn slots(&self) -> usize {
        match self.target {
            Target::Npu => 1,
            Target::Gpu | Target::Cpu => self.settings.slots,
        }
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn compile(
        &self,
        file: &ModelFile,
        options: &CompileOptions,
        directory: &Path,
        progress: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<(), Error> {
        // The plugin wants all rows, and leaves out what is not needed by itself.
        let rows = match self.target {
            Target::Npu => LogitRows::All,
            Target::Gpu | Target::Cpu => LogitRows::Last,
        };
        lower::write_ir(file, options.weights, rows, directory, progress)?;
        let mut tell = |phase| match progress(CompileProgress {
            phase,
            done: 0,
            total: 0,
        }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Cancelled) => Err(Error::Cancelled),
        };
        tell(Phase::Compile)?;
        let compiled = self.compile_graph(options, directory)?;
        tell(Phase::Write)?;
        match self.keeps_blobs() {
            true => self.keep_blob(&compiled, directory),
            false => Ok(()),
        }
    }

    fn open(
        &self,
        file: &ModelFile,
        options: &CompileOptions,
        directory: &Path,
    ) -> Result<Box<dyn Resident>, Error> {
        let spec = Keys::new(file)?.spec()?;
        let compiled = self.open_compiled(options, directory)?;
        let manner = manner(self.target, options);
        let decoder = Decoder::new(compiled, manner, spec.n_vocab);
        let device = format!("{} ({})", self.name(), self.core.library().name());
        let weights = weights_bytes(directory)?;
        let slots = self.slots();
        Ok(Box::new(GraphResident::new(
            device, spec, weights, decoder, slots,
        )))
    }
}

/// What the compiled model takes on disk, which is about what its weights take in memory.
fn weights_bytes(directory: &Path) -> Result<Bytes, Error> {
    let size = |name: &str| -> Result<u64, Error> {
        let path: PathBuf = directory.join(name);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(source) => Err(Error::Io { path, source }),
        }
    };
    Ok(Bytes(size(WEIGHTS)? + size(BLOB)?))
}
